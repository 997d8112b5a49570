/**
 * Checkpoints (C2SP tlog-checkpoint): the log key's signature under the size and the root of the
 * ledger. A checkpoint is a signed note of three lines:
 *
 *     sealwire/jbMZ3-9ZYl6vQnNO0kSe7pQv0dC4vJ1JcC3ZC7l9x3A    origin: the server's thumbprint
 *     700                                                     entries in the log
 *     xw5zSZqcGcWQ2YSUvQUOs6ZGvzjJ96OX3OWj/t47JAc=            root of its Merkle tree, base64
 *
 * The signature's key name is the origin. Extension lines, which the format allows below the third,
 * are refused: nobody audits them. Ed25519 is deterministic, so one size and root always give the
 * same checkpoint.
 */
import { SealwireError } from "../base/errors.ts";
import { decodeBase64, encodeBase64, type Sha256 } from "../base/parse.ts";
import type { Ed25519KeyPair, Ed25519PublicKey } from "../keys/ed25519.ts";
import { EMPTY_ROOT, HASH_BYTES, sameHash } from "../protocol/merkle.ts";
import { openNote, signNote } from "./signed_note.ts";

const DECIMAL = /^(?:0|[1-9][0-9]*)$/;

/** A log: its origin, and the key that signs its checkpoints. */
export interface Log {
  readonly origin: string;
  readonly publicKey: Ed25519PublicKey;
}

/** What a verified checkpoint says. */
export interface Checkpoint {
  readonly origin: string;
  /** Entries in the log. */
  readonly size: number;
  /** 32 bytes. */
  readonly root: Uint8Array;
  /** The note, with the log key's signature and no other. */
  readonly text: string;
}

/** The origin of the log of the server whose RSA key has this thumbprint (RFC 7638). */
export function logOrigin(server: Sha256): string {
  return `sealwire/${server}`;
}

/** Signs size and root (32 bytes) of the log as they are committed. */
export function signCheckpoint(
  pair: Ed25519KeyPair,
  origin: string,
  size: number,
  root: Uint8Array,
): string {
  return signNote(`${origin}\n${size}\n${encodeBase64(root)}\n`, origin, pair);
}

/**
 * Parses a checkpoint and verifies that this log's key signed it. Other signatures are ignored.
 *
 * @throws {SealwireError} `bad_checkpoint` when it is no signed note, carries more than 16
 * signatures, none or a wrong one by the log key, or is of another origin, has an extension line,
 * or no canonical size and root.
 */
export function verifyCheckpoint(text: unknown, log: Log): Checkpoint {
  const note = openNote(text, { name: log.origin, publicKey: log.publicKey });
  const [origin, decimal, base64, ...rest] = note.text.split("\n");
  if (origin !== log.origin) throw bad(`is not of the log ${log.origin}`);
  const size = parseDecimal(decimal ?? "");
  if (size === null) throw bad("has no size from 0 to 2^53 - 1");
  const root = decodeBase64(base64 ?? "");
  if (root?.length !== HASH_BYTES) throw bad("has no root of 32 bytes in base64");
  // The text ends with a newline, so one empty string is left.
  if (rest.length !== 1) throw bad("has an extension line");
  if (size === 0 && !sameHash(root, EMPTY_ROOT)) throw bad("has a root without entries");
  return { origin, size, root, text: note.alone };
}

/** A whole number in decimal without leading zeroes, up to 2^53 - 1; null for anything else. */
export function parseDecimal(text: string): number | null {
  const value = DECIMAL.test(text) ? Number(text) : NaN;
  return Number.isSafeInteger(value) ? value : null;
}

function bad(why: string): SealwireError {
  return new SealwireError("bad_checkpoint", `the checkpoint ${why}`);
}
