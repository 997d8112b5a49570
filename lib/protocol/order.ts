/**
 * Payment orders, which a payer's session key signs. An order pays one payee. A batch order pays up
 * to 1,000 payees, all or none. It signs the Merkle root over its items, so that the receipt of a
 * payee shows that payee's item alone.
 */
import {
  CLOCK_LEAD_S_MAX,
  type Delegation,
  isFromFuture,
  type SessionKeyPair,
  verifyDelegation,
} from "./delegation.ts";
import { SealwireError } from "../base/errors.ts";
import { type AccountName, parseAccountName } from "../keys/rsa.ts";
import { merkleRoot } from "./merkle.ts";
import { type Amount, formatAmount, parseWireAmount } from "./money.ts";
import { Members, type Sha256, type Uuid } from "../base/parse.ts";
import { parseParty, type Party } from "./party.ts";
import { parseSealedMemo, type SealedMemo } from "./sealing.ts";
import {
  defineToken,
  parseToken,
  signToken,
  type Token,
  type TokenKind,
  verifyToken,
} from "./token.ts";

/** How long an order lives by default. */
export const ORDER_LIFE_S_DEFAULT = 300;
/** The longest life of an order. */
export const ORDER_LIFE_S_MAX = 86_400;
export const BATCH_ITEMS_MAX = 1_000;
/** The size of the salt of a batch item and of a ledger entry. */
export const SALT_BYTES = 16;
const ORDER_CHARACTERS_MAX = 8_192;
const BATCH_CHARACTERS_MAX = 1_024;
const ITEM_CHARACTERS_MAX = 256;

interface OrderCommon {
  /** The payer's idempotency key. */
  readonly id: Uuid;
  /** Thumbprint of the server that may settle it. */
  readonly server: Sha256;
  readonly payer: AccountName;
  readonly iat: number;
  readonly exp: number;
}

export interface Order extends OrderCommon {
  /** The account that is paid, or the treasury when money is given back. */
  readonly payee: Party;
  /**
   * Thumbprint of the payee's key, as the payer looked it up. Null for a classic account, which has
   * no key.
   */
  readonly payeeKey: Sha256 | null;
  readonly amount: Amount;
  /** Text that only payee and payer can read. */
  readonly memo: SealedMemo | null;
  /** The payee's request that this pays; null for none. */
  readonly request: Uuid | null;
  /** The payment that this gives back, wholly or in part; null for none. */
  readonly refundOf: PaymentReference | null;
}

/** One settled payment, named by its payer's id. */
export interface PaymentReference {
  readonly payer: AccountName;
  readonly id: Uuid;
  /** The index of the payment in its batch. Null for a single payment. */
  readonly item: number | null;
}

export interface BatchOrder extends OrderCommon {
  readonly count: number;
  readonly total: Amount;
  readonly itemsRoot: Sha256;
}

/** One payment of a batch. */
export interface BatchItem {
  readonly index: number;
  readonly payee: AccountName;
  readonly payeeKey: Sha256 | null;
  readonly amount: Amount;
  /** 16 random bytes, base64url. Without them another payee could guess an item from its hash. */
  readonly salt: string;
}

/** An order and the delegation that its signature rests on, both verified against each other. */
export interface SignedOrder<O = Order | BatchOrder> {
  readonly order: Token<O>;
  readonly delegation: Token<Delegation>;
}

const ORDER = defineToken<Order>({
  name: "order",
  alg: "EdDSA",
  typ: "sealwire-order+jws",
  characters_max: ORDER_CHARACTERS_MAX,
  parse(claims) {
    const order: Order = {
      ...parseCommon(claims),
      payee: parseParty(claims.raw("payee")),
      payeeKey: claims.sha256OrNull("payee_key"),
      amount: parseWireAmount(claims.raw("amount")),
      memo: claims.has("memo") ? parseSealedMemo(claims.raw("memo")) : null,
      request: claims.has("request") ? claims.uuid("request") : null,
      refundOf: claims.has("refund_of") ? parseReference(claims.object("refund_of")) : null,
    };
    if (order.payee === order.payer) throw payerIsPayee();
    return order;
  },
  toJson: ({ id, server, payer, payee, payeeKey, amount, iat, exp, memo, request, refundOf }) => ({
    id,
    server,
    payer,
    payee,
    payee_key: payeeKey,
    amount: formatAmount(amount),
    iat,
    exp,
    ...(memo === null ? {} : { memo }),
    ...(request === null ? {} : { request }),
    ...(refundOf === null ? {} : { refund_of: referenceToJson(refundOf) }),
  }),
});

/** @throws {SealwireError} the members' own code, `bad_name`. */
function parseReference(members: Members): PaymentReference {
  return {
    payer: parseAccountName(members.raw("payer")),
    id: members.uuid("id"),
    item: members.has("index") ? members.integer("index", 0, BATCH_ITEMS_MAX - 1) : null,
  };
}

function referenceToJson({ payer, id, item }: PaymentReference): object {
  return { payer, id, ...(item === null ? {} : { index: item }) };
}

const BATCH = defineToken<BatchOrder>({
  name: "batch order",
  alg: "EdDSA",
  typ: "sealwire-batch+jws",
  characters_max: BATCH_CHARACTERS_MAX,
  parse(claims) {
    return {
      ...parseCommon(claims),
      count: claims.integer("count", 1, BATCH_ITEMS_MAX),
      total: parseWireAmount(claims.raw("total")),
      itemsRoot: claims.sha256("items_root"),
    };
  },
  toJson: ({ id, server, payer, count, total, itemsRoot, iat, exp }) => ({
    id,
    server,
    payer,
    count,
    total: formatAmount(total),
    items_root: itemsRoot,
    iat,
    exp,
  }),
});

function parseCommon(claims: Members): OrderCommon {
  const common: OrderCommon = {
    id: claims.uuid("id"),
    server: claims.sha256("server"),
    payer: parseAccountName(claims.raw("payer")),
    iat: claims.time_s("iat"),
    exp: claims.time_s("exp"),
  };
  const life_s = common.exp - common.iat;
  if (life_s <= 0 || life_s > ORDER_LIFE_S_MAX) {
    throw new SealwireError("bad_token", "order: exp must be after iat, by a day at most");
  }
  return common;
}

export function signOrder(order: Order, session: SessionKeyPair): Promise<Token<Order>> {
  return signToken(ORDER, order, session.privateKey);
}

export function signBatchOrder(
  order: BatchOrder,
  session: SessionKeyPair,
): Promise<Token<BatchOrder>> {
  return signToken(BATCH, order, session.privateKey);
}

/**
 * Parses an order of either kind without verifying it. Throws as {@linkcode verifySignedOrder}
 * does.
 */
export function parseOrder(text: unknown): Token<Order | BatchOrder> {
  return parseToken<Order | BatchOrder>(kindOf(text), text);
}

function kindOf(text: unknown): TokenKind<Order | BatchOrder> {
  const batch = typeof text === "string" && text.startsWith(`${BATCH.header}.`);
  return (batch ? BATCH : ORDER) as TokenKind<Order | BatchOrder>;
}

/**
 * Parses an order of either kind with its delegation and verifies both signatures: the delegation
 * under its own key, the order under the delegation's session key. Delegations seen before come
 * from `verifyDelegation`, which may remember them.
 *
 * @throws {SealwireError} `bad_token`, `bad_amount`, `bad_name`, `bad_key`, `bad_signature`,
 * `payer_is_payee`, and `wrong_delegation` when the two do not belong together.
 */
export async function verifySignedOrder(
  orderText: unknown,
  delegationText: unknown,
  verify: (text: unknown) => Promise<Token<Delegation>> = verifyDelegation,
): Promise<SignedOrder> {
  const order = parseOrder(orderText);
  const delegation = await verify(delegationText);
  requireTogether(order.claims, delegation.claims);
  await verifyToken(kindOf(orderText), order, delegation.claims.session.key);
  return { order, delegation };
}

/** Returns why an order cannot be settled at `time_s`, or undefined when it can. */
export function untimely(
  order: OrderCommon,
  time_s: number,
): "order_expired" | "order_from_future" | undefined {
  if (time_s >= order.exp) return "order_expired";
  if (isFromFuture(order.iat, time_s)) return "order_from_future";
  return undefined;
}

function requireTogether(order: OrderCommon, delegation: Delegation): void {
  const wrong = (why: string) => new SealwireError("wrong_delegation", `the delegation ${why}`);
  if (delegation.account !== order.payer) {
    throw wrong("is by another account than the order's payer");
  }
  if (delegation.server !== order.server) throw wrong("is for another server than the order");
  if (order.exp > delegation.exp) throw wrong("ends before the order does");
  if (order.iat + CLOCK_LEAD_S_MAX < delegation.iat) throw wrong("begins after the order does");
}

export function isBatch(order: Order | BatchOrder): order is BatchOrder {
  return "itemsRoot" in order;
}

/** Formats one item. The batch's Merkle root is over these texts. */
export function formatBatchItem({ index, payee, payeeKey, amount, salt }: BatchItem): string {
  return JSON.stringify({ index, payee, payee_key: payeeKey, amount: formatAmount(amount), salt });
}

/** @throws {SealwireError} `bad_item`, or what the members' own parsers throw. */
export function parseBatchItem(text: unknown): BatchItem {
  const bad = (why: string) => new SealwireError("bad_item", `batch item: ${why}`);
  if (typeof text !== "string" || text.length > ITEM_CHARACTERS_MAX) {
    throw bad("must be short text");
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw bad("is not JSON");
  }
  const members = new Members(value, "batch item", "bad_item");
  const item: BatchItem = {
    index: members.integer("index", 0, BATCH_ITEMS_MAX - 1),
    payee: parseAccountName(members.raw("payee")),
    payeeKey: members.sha256OrNull("payee_key"),
    amount: parseWireAmount(members.raw("amount")),
    salt: members.bytes("salt", SALT_BYTES),
  };
  if (formatBatchItem(item) !== text) throw bad("is not canonical");
  return item;
}

/**
 * Parses a batch's items and checks that they are what the order signed: count, total, root,
 * indexes, no payer among them.
 *
 * @throws {SealwireError} `bad_item`, `payer_is_payee`, or what an item's members' parsers throw.
 */
export function parseBatchItems(order: BatchOrder, texts: unknown): BatchItem[] {
  const bad = (why: string) => new SealwireError("bad_item", `batch order: ${why}`);
  if (!Array.isArray(texts) || texts.length !== order.count) {
    throw bad("items are not as many as it says");
  }
  const items = texts.map(parseBatchItem);
  if (items.some((item, index) => item.index !== index)) throw bad("items are not in order");
  if (items.some((item) => item.payee === order.payer)) throw payerIsPayee();
  if (items.reduce((sum, item) => sum + item.amount, 0n) !== order.total) {
    throw bad("items do not add up to the total");
  }
  if (merkleRoot(texts) !== order.itemsRoot) throw bad("items are not those that were signed");
  return items;
}

function payerIsPayee(): SealwireError {
  return new SealwireError("payer_is_payee", "payer and payee are the same account");
}
