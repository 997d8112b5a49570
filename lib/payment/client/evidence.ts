/**
 * Evidence: what a client keeps when a server's ledger does not hold together. Two checkpoints of one size with different
 * roots, both signed by the log key, prove a fork to anyone. Everything else proves nothing yet, and the file says so.
 */
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { SealwireError } from "../../base/errors.ts";
import { makeFolder, PRIVATE_FILE_MODE, removeIfThere, writeFileAtomic } from "../../base/files.ts";
import { Members, type Sha256 } from "../../base/parse.ts";
import { type Checkpoint, logOrigin, verifyCheckpoint } from "../../ledger/checkpoint.ts";
import { receiptServer, type VerifiedReceipt, verifyReceipt } from "../../ledger/receipt.ts";
import { NOTE_CHARACTERS_MAX } from "../../ledger/signed_note.ts";
import { sameHash } from "../../protocol/merkle.ts";
import { STATEMENT_CHARACTERS_MAX, verifyStatement } from "../../protocol/statement.ts";
import { sha256Text } from "../../protocol/token.ts";

const EVIDENCE_FOLDER = "evidence";
/** Of each kind: a server that shows new lies for ever does not fill the disk. */
const FILES_MAX = 100;

export interface Evidence {
  /** The server statement, which vouches for the log key. */
  readonly statement: string;
  /** Signed notes: one that was known, and one that does not fit it. */
  readonly known: string;
  readonly shown: string;
}

/** What a file of evidence proves. */
export type Verdict =
  /** The log key signed two histories of `size` entries. */
  | { readonly proven: true; readonly server: Sha256; readonly size: number }
  /** The log key signed two different entries at one place. */
  | { readonly proven: true; readonly server: Sha256; readonly index: number }
  /** A consistency proof from one size to the other would clear the server. */
  | {
    readonly proven: false;
    readonly server: Sha256;
    readonly from: number;
    readonly to: number;
  };

export function isFork(one: Checkpoint, other: Checkpoint): boolean {
  return one.size === other.size && !sameHash(one.root, other.root);
}

/**
 * Writes the evidence to a file of the keys folder, and gives its path: the same evidence is one
 * file, and of each kind the newest {@linkcode FILES_MAX} are kept, whatever a server shows.
 *
 * @throws {SealwireError} `folder_unwritable`, `write_failed`.
 */
export function keepEvidence(
  keysFolder: string,
  kind: "fork" | "unlinked",
  evidence: Evidence,
  says: string,
): string {
  const folder = join(keysFolder, EVIDENCE_FOLDER);
  makeFolder(folder);
  const { statement, known, shown } = evidence;
  const path = join(folder, `${kind}_${sha256Text(known + shown)}.json`);
  const text = JSON.stringify({ v: 1, says, statement, known, shown }, null, 2) + "\n";
  writeFileAtomic(path, text, PRIVATE_FILE_MODE);
  forgetOldest(folder, kind);
  return path;
}

function forgetOldest(folder: string, kind: string): void {
  const paths = readdirSync(folder)
    .filter((name) => name.startsWith(`${kind}_`) && name.endsWith(".json"))
    .map((name) => join(folder, name));
  if (paths.length <= FILES_MAX) return;
  const timed = paths.map((path) => ({ path, time_ms: statSync(path).mtimeMs }));
  timed.sort((one, other) => one.time_ms - other.time_ms);
  for (const { path } of timed.slice(0, -FILES_MAX)) removeIfThere(path);
}

/**
 * Judges a file of evidence. It believes nothing but the signatures in it.
 *
 * @throws {SealwireError} `bad_evidence`.
 */
export async function judgeEvidence(text: string): Promise<Verdict> {
  try {
    const members = new Members(JSON.parse(text), "evidence", "bad_evidence");
    members.constant("v", 1);
    const statement = await verifyStatement(members.text("statement", STATEMENT_CHARACTERS_MAX));
    const { server: { thumbprint: server }, log: publicKey } = statement.claims;
    const log = { origin: logOrigin(server), publicKey };
    const known = verifyCheckpoint(members.text("known", NOTE_CHARACTERS_MAX), log);
    const shown = verifyCheckpoint(members.text("shown", NOTE_CHARACTERS_MAX), log);
    if (isFork(known, shown)) return { proven: true, server, size: known.size };
    const [from, to] = [known.size, shown.size].sort((one, other) => one - other) as [
      number,
      number,
    ];
    return { proven: false, server, from, to };
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new SealwireError("bad_evidence", `this is no evidence: ${why}`, { cause });
  }
}

/**
 * Judges two receipts: under one log key, one place of the log has one entry.
 *
 * @throws {SealwireError} `bad_evidence` when they are no receipts of one server, or do not contradict each other.
 */
export async function judgeReceipts(one: string, other: string): Promise<Verdict> {
  const bad = (why: string, cause?: unknown) =>
    new SealwireError("bad_evidence", `this is no evidence: ${why}`, { cause });
  const [first, second] = await Promise.all([one, other].map(verifyOwn)).catch((cause) => {
    throw bad(cause instanceof Error ? cause.message : String(cause), cause);
  }) as [VerifiedReceipt, VerifiedReceipt];
  const { server, index } = first;
  if (server !== second.server) throw bad("the receipts are of two servers");
  if (isFork(first.checkpoint, second.checkpoint)) {
    return { proven: true, server, size: first.checkpoint.size };
  }
  if (index === second.index && first.entry !== second.entry) {
    return { proven: true, server, index };
  }
  throw bad("the receipts do not contradict each other");
}

/** Under the key that the receipt itself names: whose it is, the verdict says. */
function verifyOwn(text: string): Promise<VerifiedReceipt> {
  return verifyReceipt(text, receiptServer(text));
}
