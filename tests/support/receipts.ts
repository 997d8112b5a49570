/**
 * Receipts of a ledger as a server makes them: the server statement, and the texts beside the
 * proof.
 */
import assert from "node:assert/strict";
import type { Ed25519KeyPair } from "../../lib/keys/ed25519.ts";
import type { Ledger } from "../../lib/ledger/ledger.ts";
import { formatReceipt } from "../../lib/ledger/receipt.ts";
import type { Outcome } from "../../lib/ledger/submission.ts";
import { merklePath, merkleTree } from "../../lib/protocol/merkle.ts";
import { formatBatchItem } from "../../lib/protocol/order.ts";
import { signStatement } from "../../lib/protocol/statement.ts";
import { CERT, NOW_S, serverPair } from "./fixtures.ts";
import type { OrderSubmission } from "./settle_world.ts";

/** The server's statement about the log key. */
export async function statementOf({ publicKey: log }: Ed25519KeyPair): Promise<string> {
  return (await signStatement(serverPair(), { cert: CERT, log, iat: NOW_S })).text;
}

/** Index of the entry that settled a payment. */
export function settledIndex(outcome: Outcome): number {
  assert.equal(outcome.state, "settled", JSON.stringify(outcome));
  return (outcome as Outcome & { state: "settled" }).index;
}

/** The receipt of what `submission` paid by entry `index`; `item`: which payment of a batch. */
export async function receiptOf(
  ledger: Ledger,
  statement: string,
  { signed, items }: OrderSubmission,
  index: number,
  item: number | null = null,
): Promise<string> {
  const { text: entry, path: hashes, checkpoint } = await ledger.proveOne(index);
  const texts = items.map(formatBatchItem);
  return formatReceipt({
    order: signed.order.text,
    delegation: signed.delegation.text,
    item: item === null ? null : { text: texts[item]!, path: merklePath(merkleTree(texts), item) },
    entry,
    statement,
    index,
    hashes,
    checkpoint: checkpoint.text,
  });
}
