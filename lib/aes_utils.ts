/**
 * AES-128-CBC as the old C++ programs use it, and the key file `aes_key.bin`.
 *
 * The key file holds the key, then the IV: 32 bytes. The channel (`aes/channel/channel.ts`) uses
 * all 32 bytes as its pre-shared key.
 *
 * CBC alone hides a text but does not protect it from change. Use the channel for that.
 */
import { cbc } from "@noble/ciphers/aes.js";
import { randomBytes } from "node:crypto";
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  fstatSync,
  openSync,
  readSync,
  type Stats,
} from "node:fs";
import { dirname } from "node:path";
import { isSealwireError, SealwireError, systemErrorCode } from "./base/errors.ts";
import { createFileAtomic, isOpenToOthers, PRIVATE_FILE_MODE } from "./base/files.ts";

const AES_KEY_BYTES = 16;
const AES_IV_BYTES = 16;
/** The size of `aes_key.bin`: key, then IV. */
export const KEY_FILE_BYTES = AES_KEY_BYTES + AES_IV_BYTES;

export interface AesKey {
  /** 16 bytes. */
  readonly key: Uint8Array;
  /** 16 bytes. */
  readonly iv: Uint8Array;
}

/** Makes a random key and a random IV, 16 bytes each. */
export function generateAESKey(): AesKey {
  return splitKeyFile(new Uint8Array(randomBytes(KEY_FILE_BYTES)));
}

/**
 * Encrypts with AES-128-CBC (NIST SP 800-38A) and PKCS #7 padding (RFC 5652, 6.3), byte for byte as
 * `openssl enc -aes-128-cbc -K … -iv …` does, the same on every runtime. `key` and `iv`: 16 bytes
 * each. The result is 1 to 16 bytes longer than `plaintext`.
 */
export function encryptAES(plaintext: Uint8Array, key: Uint8Array, iv: Uint8Array): Uint8Array {
  checkSizes(key, iv);
  return cbc(key, iv).encrypt(plaintext);
}

/**
 * Decrypts what {@linkcode encryptAES} made. CBC does not always notice a changed ciphertext or
 * another key.
 *
 * @throws {SealwireError} `decrypt_failed` for a wrong length or padding, with the same sentence
 * for every cause.
 */
export function decryptAES(ciphertext: Uint8Array, key: Uint8Array, iv: Uint8Array): Uint8Array {
  checkSizes(key, iv);
  // An empty text encrypts to a whole block.
  if (ciphertext.length === 0) throw decryptFailed();
  try {
    return cbc(key, iv).decrypt(ciphertext);
  } catch (cause) {
    throw decryptFailed(cause);
  }
}

/** The content of a key file. */
export interface KeyFile {
  /** All 32 bytes: the channel's pre-shared key. */
  readonly bytes: Uint8Array;
  /** The same bytes as key and IV, for {@linkcode encryptAES}. */
  readonly aesKey: AesKey;
  /** Whether this call made the file. */
  readonly made: boolean;
  /** Sentences for the user, for example that others may read the file. */
  readonly warnings: string[];
}

/**
 * Reads the key file at `path`.
 *
 * @throws {SealwireError} `key_missing` where there is none; `key_unreadable` where it cannot be
 * read or does not have exactly 32 bytes.
 */
export function loadKeyFile(path: string): KeyFile {
  const { bytes, stats } = readKeyBytes(path);
  const warnings = [];
  if (isOpenToOthers(stats)) {
    const mode = (stats.mode & 0o777).toString(8);
    warnings.push(`${path} is open to other users (mode ${mode}); run: chmod 600 ${path}`);
  }
  return { bytes, aesKey: splitKeyFile(bytes), made: false, warnings };
}

/**
 * Reads the key file at `path`, or makes it with mode 0600. When several processes do this at the
 * same time, one of them makes the file and all of them return its key.
 *
 * @throws {SealwireError} `key_unwritable`, and what {@linkcode loadKeyFile} throws.
 */
export function loadOrMakeKeyFile(path: string): KeyFile {
  try {
    return loadKeyFile(path);
  } catch (error) {
    if (!isSealwireError(error, "key_missing")) throw error;
  }
  const bytes = new Uint8Array(randomBytes(KEY_FILE_BYTES));
  try {
    writeKeyFile(path, bytes);
  } catch (error) {
    if (isSealwireError(error, "key_exists")) return loadKeyFile(path);
    throw error;
  }
  return { bytes, aesKey: splitKeyFile(bytes), made: true, warnings: [] };
}

/**
 * Checks that a new key file could be written to `path`, before a server is asked for a key.
 *
 * @throws {SealwireError} `key_exists`, `key_unwritable`.
 */
export function requireKeyPath(path: string): void {
  if (existsSync(path)) {
    throw new SealwireError("key_exists", `${path} exists already: move it away to pair again`);
  }
  try {
    accessSync(dirname(path), constants.W_OK);
  } catch (cause) {
    throw keyUnwritable(path, cause);
  }
}

/**
 * Writes a new key file (32 bytes) with mode 0600. When this returns, the file is on the disk.
 *
 * @throws {SealwireError} `key_exists` where `path` is taken, which stays as it is;
 * `key_unwritable`.
 */
export function writeKeyFile(path: string, bytes: Uint8Array): void {
  if (bytes.length !== KEY_FILE_BYTES) {
    throw new RangeError(`a key has 32 bytes, not ${bytes.length}`);
  }
  let created;
  try {
    created = createFileAtomic(path, bytes, PRIVATE_FILE_MODE);
  } catch (error) {
    throw keyUnwritable(path, isSealwireError(error) ? error.cause : error);
  }
  if (created) return;
  throw new SealwireError("key_exists", `${path} exists already and is left as it is`);
}

function readKeyBytes(path: string): { bytes: Uint8Array; stats: Stats } {
  // One byte more than a key has shows a longer file without reading all of it.
  const buffer = new Uint8Array(KEY_FILE_BYTES + 1);
  const { size_bytes, stats } = readStart(path, buffer);
  if (size_bytes !== KEY_FILE_BYTES) {
    const found = size_bytes > KEY_FILE_BYTES ? stats.size : size_bytes;
    throw new SealwireError(
      "key_unreadable",
      `${path} is no key file: it has ${found} bytes, and a key file has exactly ${KEY_FILE_BYTES}`,
    );
  }
  return { bytes: buffer.slice(0, KEY_FILE_BYTES), stats };
}

function readStart(path: string, buffer: Uint8Array): { size_bytes: number; stats: Stats } {
  let fd: number | null = null;
  try {
    fd = openSync(path, "r");
    return { size_bytes: readSync(fd, buffer), stats: fstatSync(fd) };
  } catch (cause) {
    const reason = systemErrorCode(cause) ?? String(cause);
    throw reason === "ENOENT"
      ? new SealwireError("key_missing", `there is no key file ${path}`, { cause })
      : new SealwireError("key_unreadable", `cannot read the key file ${path} (${reason})`, {
        cause,
      });
  } finally {
    if (fd !== null) closeSync(fd);
  }
}

function splitKeyFile(bytes: Uint8Array): AesKey {
  return { key: bytes.subarray(0, AES_KEY_BYTES), iv: bytes.subarray(AES_KEY_BYTES) };
}

function checkSizes(key: Uint8Array, iv: Uint8Array): void {
  if (key.length !== AES_KEY_BYTES) throw new RangeError(`a key has 16 bytes, not ${key.length}`);
  if (iv.length !== AES_IV_BYTES) throw new RangeError(`an IV has 16 bytes, not ${iv.length}`);
}

function keyUnwritable(path: string, cause: unknown): SealwireError {
  const reason = systemErrorCode(cause) ?? String(cause);
  return new SealwireError("key_unwritable", `cannot write ${path} (${reason})`, { cause });
}

function decryptFailed(cause?: unknown): SealwireError {
  return new SealwireError(
    "decrypt_failed",
    "this does not decrypt: it was changed or cut, or encrypted under another key",
    { cause },
  );
}
