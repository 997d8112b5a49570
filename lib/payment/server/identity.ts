/**
 * A server's identity: its RSA pair, its TLS certificate, its log key, and the statement that ties
 * them together (`server_statement.txt`). A new statement is signed when the certificate has
 * changed.
 */
import { join } from "node:path";
import { isSealwireError } from "../../base/errors.ts";
import { PUBLIC_FILE_MODE, readTextFile, writeFileAtomic } from "../../base/files.ts";
import type { Ed25519KeyPair } from "../../keys/ed25519.ts";
import { openLogKey } from "../../keys/log_key.ts";
import type { Warnings } from "../../keys/key_files.ts";
import { loadOrMakeServerKeys, type ServerKeys } from "../../keys/server_keys.ts";
import {
  type SignedStatement,
  signStatement,
  STATEMENT_CHARACTERS_MAX,
  verifyStatementOf,
} from "../../protocol/statement.ts";

const STATEMENT_FILE = "server_statement.txt";

export interface ServerIdentity {
  readonly keys: ServerKeys;
  readonly logKey: Ed25519KeyPair;
  readonly statement: SignedStatement;
}

/**
 * Loads the identity from `folder`. Makes missing files, and lists their paths in `made`.
 * `hosts`: names of this machine, for a new certificate.
 *
 * @throws {SealwireError} what loading keys and writing files throws.
 */
export async function openIdentity(
  folder: string,
  options: { hosts: string[]; now: Date },
): Promise<{ identity: ServerIdentity; made: string[]; warnings: Warnings }> {
  const { keys, made, warnings } = await loadOrMakeServerKeys(folder, options);
  const log = openLogKey(folder, { makeMissing: true });
  const now_s = Math.floor(options.now.getTime() / 1000);
  const statement = await currentStatement(folder, keys, log.pair, now_s);
  return {
    identity: { keys, logKey: log.pair, statement },
    made: [...made, ...log.made],
    warnings: [...warnings, ...log.warnings],
  };
}

async function currentStatement(
  folder: string,
  keys: ServerKeys,
  logKey: Ed25519KeyPair,
  now_s: number,
): Promise<SignedStatement> {
  const path = join(folder, STATEMENT_FILE);
  const stored = await storedStatement(path, keys);
  const { certificateSha256: cert } = keys;
  const { publicKey: log } = logKey;
  if (stored?.claims.cert === cert && stored.claims.log.x === log.x) return stored;
  // Later than every statement before it, even if the clock was set back.
  const iat = Math.max(now_s, (stored?.claims.iat ?? 0) + 1);
  const statement = await signStatement(keys.pair, { cert, log, iat });
  writeFileAtomic(path, statement.text + "\n", PUBLIC_FILE_MODE);
  return statement;
}

/** Reads the stored statement. Null where there is none, or for one by another key. */
async function storedStatement(path: string, keys: ServerKeys): Promise<SignedStatement | null> {
  const options = { size_bytes_max: STATEMENT_CHARACTERS_MAX + 1, code: "key_unreadable" } as const;
  const text = readTextFile(path, options);
  if (text === null) return null;
  try {
    return await verifyStatementOf(text.trim(), keys.pair.publicKey);
  } catch (error) {
    if (!isSealwireError(error)) throw error;
    return null;
  }
}
