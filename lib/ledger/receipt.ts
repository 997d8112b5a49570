/**
 * Receipts: a C2SP `tlog-proof` that proves a payment to anyone who has the server's RSA public key. The statement vouches
 * for the log key, the log key signed the checkpoint, the proof leads from the entry to the checkpoint's root, and the entry
 * names the order and the delegation by hash.
 */
import { SealwireError } from "../base/errors.ts";
import { Members, type Sha256, type Uuid } from "../base/parse.ts";
import type { AccountName, RsaPublicKey } from "../keys/rsa.ts";
import { requireValidFor, verifyDelegation } from "../protocol/delegation.ts";
import { hashLeaf, PATH_STEPS_MAX, rootFromPath, verifyInclusion } from "../protocol/merkle.ts";
import type { Amount, Unit } from "../protocol/money.ts";
import {
  type BatchOrder,
  isBatch,
  type Order,
  parseBatchItem,
  untimely,
  verifySignedOrder,
} from "../protocol/order.ts";
import type { Party } from "../protocol/party.ts";
import { parseStatement, verifyStatementOf } from "../protocol/statement.ts";
import { type Checkpoint, logOrigin, verifyCheckpoint } from "./checkpoint.ts";
import { type Batch, type Entry, parseEntry, type Transfer } from "./entry.ts";
import { formatTlogProof, parseTlogProof } from "./tlog_proof.ts";

/** Texts that a receipt quotes: 4096-bit keys, with a memo, in a batch. */
const PART_CHARACTERS_MAX = 24_576;

/** What settled a payment, as exact texts. */
export interface SettledTexts {
  readonly order: string;
  readonly delegation: string;
  /** Of a batch: the item that was paid, and its path to the order's `items_root`. */
  readonly item: { readonly text: string; readonly path: readonly string[] } | null;
  readonly entry: string;
}

/** A receipt before it is one text. */
export interface Receipt extends SettledTexts {
  readonly statement: string;
  readonly index: number;
  /** The inclusion proof, 32 bytes a step. */
  readonly hashes: readonly Uint8Array[];
  /** The signed note. */
  readonly checkpoint: string;
}

/** One payment that is settled beyond doubt. */
export interface SettledPayment {
  readonly id: Uuid;
  /** Which payment of a batch it is; null when it is none of a batch. */
  readonly item: number | null;
  readonly payer: AccountName;
  readonly payee: Party;
  readonly amount: Amount;
  readonly unit: Unit;
  /** Thumbprints. */
  readonly payerKey: Sha256;
  readonly payeeKey: Sha256 | null;
  readonly orderSha256: Sha256;
  /** The entry's place in the log, and its time. */
  readonly index: number;
  readonly time_s: number;
  readonly order: Order | BatchOrder;
}

export interface VerifiedReceipt extends SettledPayment {
  readonly text: string;
  /** The exact text of the entry. */
  readonly entry: string;
  /** Thumbprint of the server's key. */
  readonly server: Sha256;
  readonly checkpoint: Checkpoint;
}

/** The one text of a receipt. */
export function formatReceipt({ index, hashes, checkpoint, ...texts }: Receipt): string {
  const extra = new TextEncoder().encode(formatExtra(texts));
  return formatTlogProof({ extra, index, hashes, checkpoint });
}

type Extra = SettledTexts & { readonly statement: string };

function formatExtra({ order, delegation, item, entry, statement }: Extra): string {
  const itemMembers = item === null ? {} : { item: item.text, item_path: item.path };
  return JSON.stringify({ v: 1, order, delegation, ...itemMembers, entry, statement });
}

function parseReceipt(text: unknown): Receipt {
  const { extra, index, hashes, checkpoint } = parseTlogProof(text);
  if (extra === null) throw badReceipt("the receipt has no extra data");
  return { ...parseExtra(extra), index, hashes, checkpoint };
}

function parseExtra(bytes: Uint8Array): Extra {
  let json: string;
  let value: unknown;
  try {
    json = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    value = JSON.parse(json);
  } catch (cause) {
    throw badReceipt("the receipt's extra data is not JSON", cause);
  }
  const members = new Members(value, "receipt", "bad_receipt");
  members.constant("v", 1);
  const part = (name: string) => members.text(name, PART_CHARACTERS_MAX);
  const extra: Extra = {
    order: part("order"),
    delegation: part("delegation"),
    item: members.has("item")
      ? { text: part("item"), path: members.list("item_path", PATH_STEPS_MAX).map(String) }
      : null,
    entry: part("entry"),
    statement: part("statement"),
  };
  if (formatExtra(extra) !== json) throw badReceipt("the receipt's extra data is not canonical");
  return extra;
}

/**
 * Key of the server that a receipt says it is from. Nothing is verified.
 *
 * @throws {SealwireError} `bad_proof`, `bad_receipt`, `bad_token`, `bad_key`.
 */
export function receiptServer(text: unknown): RsaPublicKey {
  return parseStatement(parseReceipt(text).statement).claims.server;
}

/**
 * Verifies every statement of a receipt under the server's RSA key.
 *
 * @throws {SealwireError} `bad_receipt`, or the code of the part that is wrong: `bad_signature`, `bad_proof`,
 * `bad_checkpoint`, `bad_token`, `wrong_server`, …
 */
export async function verifyReceipt(
  text: unknown,
  server: RsaPublicKey,
): Promise<VerifiedReceipt> {
  const receipt = parseReceipt(text);
  const { claims: { log: publicKey } } = await verifyStatementOf(receipt.statement, server);
  const origin = logOrigin(server.thumbprint);
  const checkpoint = verifyCheckpoint(receipt.checkpoint, { origin, publicKey });
  verifyInclusion(hashLeaf(receipt.entry), receipt.index, checkpoint, receipt.hashes);
  const payment = await verifySettled(receipt, server.thumbprint);
  requireSame(payment.index, receipt.index, "index");
  return {
    ...payment,
    text: text as string,
    entry: receipt.entry,
    server: server.thumbprint,
    checkpoint,
  };
}

/**
 * Verifies that an entry of the log settled what an order says: both hashes, the delegation under its own key and that key in
 * the entry, the order under the session key, and that all of them speak of one payment, at a time when the order held. That
 * the entry is in the log is for the caller.
 *
 * @throws {SealwireError} `bad_receipt`, or the code of the part that is wrong.
 */
export async function verifySettled(
  texts: SettledTexts,
  server: Sha256,
  verify: typeof verifyDelegation = verifyDelegation,
): Promise<SettledPayment> {
  const entry = parseEntry(texts.entry);
  if (entry.type !== "transfer" && entry.type !== "batch") {
    throw badReceipt("the receipt's entry pays nobody");
  }
  const { order, delegation } = await verifySignedOrder(texts.order, texts.delegation, verify);
  requireSame(entry.orderSha256, order.sha256, "order");
  requireSame(entry.delegationSha256, delegation.sha256, "delegation");
  const payerKey = delegation.claims.key.thumbprint;
  requireSame(entry.payerKey, payerKey, "payer's key");
  requireSame(entry.payer as string, order.claims.payer as string, "payer");
  requireSame(entry.id, order.claims.id, "payment id");
  requireSame(order.claims.server, server, "server");
  const paid = isBatch(order.claims)
    ? batchItem(texts, entry, order.claims)
    : singlePayment(texts, entry, order.claims);
  requireValidFor(delegation.claims, { server, now_s: entry.time });
  if (untimely(order.claims, entry.time) !== undefined) {
    throw badReceipt("the order did not hold when it was settled");
  }
  return {
    ...paid,
    id: entry.id,
    payer: order.claims.payer,
    unit: entry.unit,
    payerKey,
    orderSha256: order.sha256,
    index: entry.index,
    time_s: entry.time,
    order: order.claims,
  };
}

type Paid = Pick<SettledPayment, "item" | "payee" | "payeeKey" | "amount">;

function singlePayment(
  { item }: SettledTexts,
  entry: Entry<Transfer> | Entry<Batch>,
  { payee, payeeKey, amount }: Order,
): Paid {
  if (entry.type !== "transfer" || item !== null) {
    throw badReceipt("an item belongs to a batch order, and to no other");
  }
  requireSame(entry.payee, payee, "payee");
  requireSame(entry.payeeKey, payeeKey, "payee's key");
  requireSame(entry.amount, amount, "amount");
  return { item: null, payee, payeeKey, amount };
}

/** The one item of the batch that this receipt is about. */
function batchItem(
  { item }: SettledTexts,
  entry: Entry<Transfer> | Entry<Batch>,
  { count, total, itemsRoot }: BatchOrder,
): Paid {
  if (entry.type !== "batch" || item === null) throw badReceipt("a batch order needs an item");
  requireSame(entry.count, count, "count");
  requireSame(entry.total, total, "total");
  requireSame(entry.itemsRoot, itemsRoot, "items");
  const { index, payee, payeeKey, amount } = parseBatchItem(item.text);
  requireSame(rootFromPath(item.text, index, count, item.path), itemsRoot, "item");
  return { item: index, payee, payeeKey, amount };
}

function requireSame<T>(found: T, expected: T, what: string): void {
  if (found !== expected) throw badReceipt(`the parts of the receipt disagree on the ${what}`);
}

function badReceipt(message: string, cause?: unknown): SealwireError {
  return new SealwireError("bad_receipt", message, { cause });
}
