/**
 * Moves a ledger to another database. A ledger has one future: so the log ends in the old one with an entry that both
 * databases have, and goes on after it in the new one alone. Checkpoints stay what they were, and clients notice nothing.
 */
import { SealwireError } from "../base/errors.ts";
import { copyLedger, type CopyProgress } from "./copy_ledger.ts";
import { parseEntry } from "./entry.ts";
import type { Ledger } from "./ledger.ts";
import { movedError, openLedger, type OpenLedgerOptions } from "./open_ledger.ts";
import type { LedgerStore } from "./store.ts";
import type { OperatorFact } from "./submission.ts";

export interface MoveOptions extends Omit<OpenLedgerOptions, "store" | "create"> {
  readonly from: LedgerStore;
  readonly to: LedgerStore;
  /** The new database as people are told of it: no password. At most 200 characters. */
  readonly toName: string;
  readonly onProgress: CopyProgress;
}

/**
 * May be run again with the same databases after it was cut off. Servers on the old database refuse everything from the
 * moment that it begins.
 *
 * @throws {SealwireError} `store_unusable` when the new database holds another ledger, `ledger_moved` when this one has been
 * moved elsewhere, and what `openLedger` and `copyLedger` throw.
 */
export async function moveLedger(options: MoveOptions): Promise<void> {
  const { from, to, toName, onProgress, ...others } = options;
  const openOptions = { ...others, create: null };
  const source = await openLedger({ ...openOptions, store: from });
  try {
    if (source.isMoved) await requireMovedTo(source, toName);
    else {
      if (await to.confirmedHead() !== null) throw taken();
      await record(source, { type: "ledger.moved", to: toName });
    }
  } finally {
    await source.close();
  }
  await copyLedger(from, to, onProgress);
  const moved = await openLedger({ ...openOptions, store: to });
  try {
    if (moved.isMoved) await record(moved, { type: "ledger.continued" });
  } finally {
    await moved.close();
  }
}

async function record(ledger: Ledger, fact: OperatorFact): Promise<void> {
  const outcome = await ledger.submit({ type: "operator", fact });
  if (outcome.state !== "recorded") throw new Error(`the entry ${fact.type} was refused`);
}

async function requireMovedTo(ledger: Ledger, toName: string): Promise<void> {
  const { text } = await ledger.proveOne(ledger.size - 1);
  const entry = parseEntry(text);
  if (entry.type !== "ledger.moved" || entry.to !== toName) throw await movedError(ledger);
}

function taken(): SealwireError {
  return new SealwireError(
    "store_unusable",
    "another ledger is there already: move to an empty database",
  );
}
