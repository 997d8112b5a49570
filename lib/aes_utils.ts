/**
 * AES-128-CBC as the old programs use it, and the key file `aes_key.bin`: key then IV, 32 bytes.
 *
 * CBC alone hides what is written; it does not notice that it was changed. What must be protected
 * goes through the channel (`channel/channel.ts`), to which the 32 bytes of the key file are a
 * pre-shared key.
 */
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  fstatSync,
  fsyncSync,
  linkSync,
  openSync,
  readSync,
  type Stats,
  unlinkSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { isSealwireError, SealwireError, systemErrorCode } from "./base/errors.ts";

export const AES_KEY_BYTES = 16;
export const AES_IV_BYTES = 16;
/** `aes_key.bin`: key, then IV. */
export const KEY_FILE_BYTES = AES_KEY_BYTES + AES_IV_BYTES;

const KEY_FILE_MODE = 0o600;
const OTHERS_MODE_BITS = 0o077;

export interface AesKey {
  /** 16 bytes. */
  readonly key: Uint8Array;
  /** 16 bytes. */
  readonly iv: Uint8Array;
}

/** A fresh random key and IV. */
export function generateAESKey(): AesKey {
  return splitKeyFile(new Uint8Array(randomBytes(KEY_FILE_BYTES)));
}

/**
 * AES-128-CBC with PKCS #7 padding, byte for byte what `openssl enc -aes-128-cbc -K … -iv …`
 * writes. `key` and `iv`: 16 bytes each. The result is 1 to 16 bytes longer than `plaintext`.
 */
export function encryptAES(plaintext: Uint8Array, key: Uint8Array, iv: Uint8Array): Uint8Array {
  checkSizes(key, iv);
  const cipher = createCipheriv("aes-128-cbc", key, iv);
  return joined(cipher.update(plaintext), cipher.final());
}

/**
 * The inverse of {@linkcode encryptAES}. Throws `decrypt_failed` for a wrong length or padding, one
 * sentence for all causes. A changed ciphertext, or another key, is not always noticed: that is not
 * in the nature of CBC.
 */
export function decryptAES(ciphertext: Uint8Array, key: Uint8Array, iv: Uint8Array): Uint8Array {
  checkSizes(key, iv);
  // Not even an empty text encrypts to nothing, but Deno's decipher takes nothing for one.
  if (ciphertext.length === 0) throw decryptFailed();
  try {
    const decipher = createDecipheriv("aes-128-cbc", key, iv);
    return joined(decipher.update(ciphertext), decipher.final());
  } catch (cause) {
    throw decryptFailed(cause);
  }
}

/** A key file as read. */
export interface KeyFile {
  /** The file as it is, 32 bytes: the channel's pre-shared key. */
  readonly bytes: Uint8Array;
  /** The same bytes as the old programs use them. */
  readonly aesKey: AesKey;
  /** Whether this call made the file. */
  readonly made: boolean;
  /** Sentences for the user, such as that others may read the file. */
  readonly warnings: string[];
}

/**
 * Reads the key file at `path`. Throws `key_missing` where there is none, and `key_unreadable`
 * where it cannot be read or is not a file of exactly 32 bytes.
 */
export function loadKeyFile(path: string): KeyFile {
  const { bytes, stats } = readKeyBytes(path);
  const warnings = [];
  if ((stats.mode & OTHERS_MODE_BITS) !== 0) {
    const mode = (stats.mode & 0o777).toString(8);
    warnings.push(`${path} is open to other users (mode ${mode}); run: chmod 600 ${path}`);
  }
  return { bytes, aesKey: splitKeyFile(bytes), made: false, warnings };
}

/**
 * Reads the key file at `path`, or makes it, with mode 0600. Of several processes that do this at
 * once, one makes the file and all end up with its key. Throws as {@linkcode loadKeyFile} does, and
 * `key_unwritable`.
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
 * Checks, before a key is asked for, that it could be written to `path`. Throws `key_exists` and
 * `key_unwritable`.
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
 * Writes a new key file (32 bytes) with mode 0600. It is there whole and on disk, or not at all,
 * and never in place of another: throws `key_exists` where `path` is taken, `key_unwritable` where
 * it cannot be written.
 */
export function writeKeyFile(path: string, bytes: Uint8Array): void {
  if (bytes.length !== KEY_FILE_BYTES) {
    throw new RangeError(`a key has 32 bytes, not ${bytes.length}`);
  }
  const draft = `${path}.${randomBytes(8).toString("hex")}.new`;
  try {
    writeSynced(draft, bytes);
    // A link, unlike a rename, does not replace what is there.
    linkSync(draft, path);
    syncFolder(dirname(path));
  } catch (cause) {
    if (systemErrorCode(cause) !== "EEXIST") throw keyUnwritable(path, cause);
    throw new SealwireError("key_exists", `${path} exists already and is left as it is`, { cause });
  } finally {
    unlinkIfThere(draft);
  }
}

function readKeyBytes(path: string): { bytes: Uint8Array; stats: Stats } {
  // One byte more than a key has, to notice a longer file without reading all of it.
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

function writeSynced(path: string, bytes: Uint8Array): void {
  const fd = openSync(path, "wx", KEY_FILE_MODE);
  try {
    if (writeSync(fd, bytes) !== bytes.length) throw new Error("short write");
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function syncFolder(path: string): void {
  const fd = openSync(path, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function unlinkIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (systemErrorCode(error) !== "ENOENT") throw error;
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

function joined(head: Uint8Array, tail: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(head.length + tail.length);
  bytes.set(head);
  bytes.set(tail, head.length);
  return bytes;
}
