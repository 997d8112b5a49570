/**
 * Receipts: one line of canonical JSON that proves a payment to anyone who has the server's public key. It holds the order
 * and the delegation (this key ordered it), the entry, its Merkle path and the block header (the server settled it).
 */
import { requireValidFor, verifyDelegation } from "../protocol/delegation.ts";
import { SealwireError } from "../base/errors.ts";
import type { RsaPublicKey } from "../keys/rsa.ts";
import {
  type BatchItem,
  type BatchOrder,
  isBatch,
  type Order,
  parseBatchItem,
  untimely,
  verifySignedOrder,
} from "../protocol/order.ts";
import { Members, type Sha256 } from "../base/parse.ts";
import { parseHeader, type SignedHeader, verifyHeader } from "./block.ts";
import { parseEntry, type Transfer } from "./entry.ts";
import { PATH_STEPS_MAX, rootFromPath } from "../protocol/merkle.ts";

/** The longest receipt: of 4096-bit keys, with a memo, in a batch. */
export const RECEIPT_CHARACTERS_MAX = 24_576;

/** The parts of a receipt, as exact texts. */
export interface Receipt {
  readonly order: string;
  readonly delegation: string;
  /** Of a batch: the item that was paid, and its path to the order's `items_root`. */
  readonly item: { readonly text: string; readonly path: readonly string[] } | null;
  readonly entry: string;
  /** From the entry to the header's `root`. */
  readonly path: readonly string[];
  readonly header: string;
}

/** What a verified receipt says. */
export interface VerifiedReceipt {
  readonly text: string;
  readonly transfer: Transfer;
  readonly order: Order | BatchOrder;
  readonly header: SignedHeader;
}

/** The one text of a receipt. */
export function formatReceipt({ order, delegation, item, entry, path, header }: Receipt): string {
  const itemMembers = item === null ? {} : { item: item.text, item_path: item.path };
  return JSON.stringify({ v: 1, order, delegation, ...itemMembers, entry, path, header });
}

function parseReceipt(text: unknown): Receipt {
  const bad = (why: string, cause?: unknown) =>
    new SealwireError("bad_receipt", `the receipt ${why}`, { cause });
  if (typeof text !== "string" || text.length > RECEIPT_CHARACTERS_MAX) {
    throw bad("is not text of a receipt's size");
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw bad("is not JSON", cause);
  }
  const members = new Members(value, "receipt", "bad_receipt");
  const part = (name: string) => members.text(name, RECEIPT_CHARACTERS_MAX);
  const path = (name: string) => members.list(name, PATH_STEPS_MAX).map(String);
  const receipt: Receipt = {
    order: part("order"),
    delegation: part("delegation"),
    item: members.has("item") ? { text: part("item"), path: path("item_path") } : null,
    entry: part("entry"),
    path: path("path"),
    header: part("header"),
  };
  if (formatReceipt(receipt) !== text) throw bad("is not canonical");
  return receipt;
}

/** The thumbprint of the server that a receipt says it is from. Nothing is verified. Throws `bad_receipt`, `bad_token`. */
export function receiptServer(text: unknown): Sha256 {
  return parseHeader(parseReceipt(text).header).claims.server;
}

/**
 * Verifies every statement of a receipt: the header under the server's key, the entry's path to its root, both hashes, the
 * delegation under its own key and that key in the entry, the order under the session key, and that all of them speak of the
 * same payment at a time when the order held.
 *
 * @throws {SealwireError} `bad_receipt`, or the code of the part that is wrong: `bad_signature`, `bad_path`, `bad_token`, …
 */
export async function verifyReceipt(
  text: unknown,
  server: RsaPublicKey,
  verify: typeof verifyDelegation = verifyDelegation,
): Promise<VerifiedReceipt> {
  const receipt = parseReceipt(text);
  const header = await verifyHeader(receipt.header, server);
  const { root, first, count, time } = header.claims;
  const transfer = parseEntry(receipt.entry);
  requireSame(transfer.type, "transfer", "kind of entry");
  if (transfer.type !== "transfer") throw new TypeError("unreachable");
  requireSame(rootFromPath(receipt.entry, transfer.seq - first, count, receipt.path), root, "root");

  const { order, delegation } = await verifySignedOrder(receipt.order, receipt.delegation, verify);
  requireSame(transfer.orderSha256, order.sha256, "order");
  requireSame(transfer.delegationSha256, delegation.sha256, "delegation");
  requireSame(transfer.payerKey, delegation.claims.key.thumbprint, "payer's key");
  requireSame(transfer.payer, order.claims.payer, "payer");
  requireSame(transfer.id, order.claims.id, "payment id");
  const item = requireItem(receipt, order.claims);
  requireSame(transfer.index, item.index, "index");
  requireSame(transfer.payee, item.payee, "payee");
  requireSame(transfer.payeeKey, item.payeeKey, "payee's key");
  requireSame(transfer.amount, item.amount, "amount");
  const { cert } = delegation.claims;
  requireValidFor(delegation.claims, { server: server.thumbprint, cert, now_s: time });
  if (untimely(order.claims, time) !== undefined) {
    throw new SealwireError("bad_receipt", "the order did not hold when it was settled");
  }
  return { text: text as string, transfer, order: order.claims, header };
}

/** What the order says of this one payment; for a batch, what the item says that the order's root covers. */
function requireItem(
  receipt: Receipt,
  order: Order | BatchOrder,
): Omit<BatchItem, "index"> & { readonly index: number | null } {
  if (isBatch(order) !== (receipt.item !== null)) {
    throw new SealwireError("bad_receipt", "an item belongs to a batch order, and to no other");
  }
  if (!isBatch(order) || receipt.item === null) return { ...order as Order, index: null };
  const item = parseBatchItem(receipt.item.text);
  requireSame(
    rootFromPath(receipt.item.text, item.index, order.count, receipt.item.path),
    order.itemsRoot,
    "item",
  );
  return item;
}

function requireSame<T>(found: T, expected: T, what: string): void {
  if (found !== expected) {
    throw new SealwireError("bad_receipt", `the parts of the receipt disagree on the ${what}`);
  }
}
