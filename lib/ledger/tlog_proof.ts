/**
 * The proof that an entry is in a log, as a text that anyone can keep and verify offline (C2SP
 * tlog-proof):
 *
 *     c2sp.org/tlog-proof@v1
 *     extra eyJ2IjoxLCJvcmRlciI6…          base64 of what the application adds; may be left out
 *     index 73894                          the entry's place in the log, from 0
 *     gSKyXoYZUgZ6jduWYrkDOARinOMG…        the inclusion proof, one hash a line, lowest first
 *     …
 *                                          an empty line
 *     sealwire/jbMZ3-9ZYl6vQnNO0kSe…       the checkpoint, whole
 *     …
 *
 * This module only reads and writes the text. `verifyCheckpoint` (checkpoint.ts) and
 * `verifyInclusion` (protocol/merkle.ts) verify it. The format does not authenticate `extra`.
 */
import { SealwireError } from "../base/errors.ts";
import { decodeBase64, encodeBase64 } from "../base/parse.ts";
import { HASH_BYTES, PATH_STEPS_MAX } from "../protocol/merkle.ts";
import { parseDecimal } from "./checkpoint.ts";
import { NOTE_CHARACTERS_MAX } from "./signed_note.ts";

export const TLOG_PROOF_FIRST_LINE = "c2sp.org/tlog-proof@v1";
const EXTRA_START = "extra ";
const INDEX_START = "index ";
export const EXTRA_BYTES_MAX = 65_536;
/** The largest extra data in base64, all hashes, a checkpoint, and white space around it all. */
export const TLOG_PROOF_CHARACTERS_MAX = 262_144;

export interface TlogProof {
  /** At most 64 KiB; null where the text has no such line. */
  readonly extra: Uint8Array | null;
  /** The entry's place in the log, from 0. */
  readonly index: number;
  /** The inclusion proof, at most 63 hashes of 32 bytes each, lowest first. */
  readonly hashes: readonly Uint8Array[];
  /** A signed note, not verified. */
  readonly checkpoint: string;
}

/** The text of a proof. `checkpoint` ends with a newline. */
export function formatTlogProof({ extra, index, hashes, checkpoint }: TlogProof): string {
  const lines = [
    TLOG_PROOF_FIRST_LINE,
    ...(extra === null ? [] : [EXTRA_START + encodeBase64(extra)]),
    INDEX_START + index,
    ...hashes.map(encodeBase64),
  ];
  return `${lines.join("\n")}\n\n${checkpoint}`;
}

/**
 * Reads the text of a proof. White space before and after it is ignored, and lines may end in CRLF:
 * what mail programs and editors do to a file does it no harm. Nothing is verified.
 *
 * @throws {SealwireError} `bad_proof`.
 */
export function parseTlogProof(text: unknown): TlogProof {
  if (typeof text !== "string" || text.length > TLOG_PROOF_CHARACTERS_MAX) {
    throw bad(`is not text of at most ${TLOG_PROOF_CHARACTERS_MAX} characters`);
  }
  const plain = `${text.trim().replaceAll("\r\n", "\n")}\n`;
  const split = plain.indexOf("\n\n");
  if (split < 0) throw bad("has no checkpoint below an empty line");
  const lines = plain.slice(0, split).split("\n");
  if (lines.shift() !== TLOG_PROOF_FIRST_LINE) {
    throw bad(`does not start with ${TLOG_PROOF_FIRST_LINE}`);
  }
  const extra = lines[0]?.startsWith(EXTRA_START) ? parseExtra(lines.shift()!) : null;
  const index = parseIndex(lines.shift() ?? "");
  if (lines.length > PATH_STEPS_MAX) throw bad(`has more than ${PATH_STEPS_MAX} hashes`);
  const hashes = lines.map(parseHash);
  const checkpoint = plain.slice(split + 2);
  if (checkpoint.length > NOTE_CHARACTERS_MAX) throw bad("has a checkpoint that is too long");
  return { extra, index, hashes, checkpoint };
}

function parseExtra(line: string): Uint8Array {
  const extra = decodeBase64(line.slice(EXTRA_START.length));
  if (extra === null) throw bad("has extra data that is not base64");
  if (extra.length > EXTRA_BYTES_MAX) throw bad(`has over ${EXTRA_BYTES_MAX} bytes of extra data`);
  return extra;
}

function parseIndex(line: string): number {
  const index = line.startsWith(INDEX_START) ? parseDecimal(line.slice(INDEX_START.length)) : null;
  if (index === null) throw bad("has no index from 0 to 2^53 - 1");
  return index;
}

function parseHash(line: string): Uint8Array {
  const hash = decodeBase64(line);
  if (hash?.length !== HASH_BYTES) throw bad("has a hash that is not 32 bytes in base64");
  return hash;
}

function bad(why: string): SealwireError {
  return new SealwireError("bad_proof", `the proof ${why}`);
}
