/**
 * The log key: the Ed25519 key that signs the ledger's checkpoints, in `server_log_key.pem` (PKCS
 * #8). It is made where it is missing, named in the ledger's first entry, and never changed. Keys
 * that seal rows of the database are derived from it, so someone who edits the database needs this
 * file too.
 */
import { generateKeyPairSync, hkdfSync, type KeyObject } from "node:crypto";
import { join } from "node:path";
import { SealwireError } from "../base/errors.ts";
import { PRIVATE_FILE_MODE } from "../base/files.ts";
import { decodeBase64url } from "../base/parse.ts";
import { type Ed25519KeyPair, ed25519KeyPair } from "./ed25519.ts";
import {
  createKeyFile,
  loadPrivateKey,
  privateKeyPem,
  readKeyFile,
  type Warnings,
} from "./key_files.ts";

const LOG_KEY_FILE = "server_log_key.pem";
/** Names the purpose of the derived key (RFC 5869, 3.2). */
const SEAL_INFO = "sealwire/ledger-seal/v1";
const SEAL_KEY_BYTES = 32;

/**
 * Loads the log key from `folder`, and makes it where it is missing. `made` then lists its path.
 *
 * @throws {SealwireError} `key_missing` (only without `makeMissing`), `key_unreadable`, `bad_key`,
 * `folder_unwritable`.
 */
export function openLogKey(
  folder: string,
  options: { makeMissing: boolean },
): { pair: Ed25519KeyPair; made: string[]; warnings: Warnings } {
  const path = join(folder, LOG_KEY_FILE);
  const made: string[] = [];
  const warnings: Warnings = [];
  if (options.makeMissing && readKeyFile(path) === null) {
    const { privateKey } = generateKeyPairSync("ed25519");
    createKeyFile(path, privateKeyPem(privateKey), PRIVATE_FILE_MODE, made);
  }
  // Read even if just made: another process may have been first.
  const privateKey = loadPrivateKey(path, warnings);
  if (privateKey === null) throw new SealwireError("key_missing", `there is no ${path}`);
  if (privateKey.asymmetricKeyType !== "ed25519") {
    throw new SealwireError("bad_key", `${path} holds no Ed25519 key: put back the one that does`);
  }
  return { pair: ed25519KeyPair(privateKey), made, warnings };
}

/**
 * The key for seals (HMAC-SHA-256), 32 bytes: HKDF-SHA-256 (RFC 5869) of the log key's 32-byte
 * seed, without salt.
 */
export function deriveSealKey(logKey: KeyObject): Uint8Array {
  const seed = decodeBase64url(logKey.export({ format: "jwk" }).d!)!;
  return new Uint8Array(hkdfSync("sha256", seed, "", SEAL_INFO, SEAL_KEY_BYTES));
}
