/**
 * Entries: what the ledger consists of. Each is one exact text, stored, hashed and sent as that text. No entry says a
 * balance; balances follow from all entries before.
 */
import { SealwireError } from "../base/errors.ts";
import { type AccountName, parseAccountName } from "../keys/rsa.ts";
import { type Amount, formatAmount, parseWireAmount } from "../protocol/money.ts";
import { Members, type Sha256, type Uuid } from "../base/parse.ts";
import { BATCH_ITEMS_MAX } from "../protocol/order.ts";

/** Where money comes from: the only account that may be negative, and no name that anyone can register. */
export const TREASURY = "@treasury";

/** A party of a transfer. */
export type Party = AccountName | typeof TREASURY;

/**
 * An account comes to be, with the RSA key that its holder proved; or, opened by a classic client, with no key and nothing
 * proved, and then it can never get one.
 */
export interface AccountOpen {
  readonly type: "account.open";
  readonly seq: number;
  readonly id: Uuid;
  readonly account: AccountName;
  /** Thumbprint of the account's key; null for a classic account. */
  readonly key: Sha256 | null;
  /** The delegation that the key's holder signed to register; null for a classic account. */
  readonly delegationSha256: Sha256 | null;
}

/**
 * Money moves. Nobody's order or delegation stands behind it when the treasury issues it, and when a classic account, which
 * has no key, pays.
 */
export interface Transfer {
  readonly type: "transfer";
  readonly seq: number;
  readonly id: Uuid;
  /** Which payment of a batch this is; null when it is none of a batch. */
  readonly index: number | null;
  readonly payer: Party;
  readonly payee: AccountName;
  readonly amount: Amount;
  /** Thumbprint of the payer's key; of the server's own key when the treasury pays; null for a classic account. */
  readonly payerKey: Sha256 | null;
  readonly payeeKey: Sha256 | null;
  readonly orderSha256: Sha256 | null;
  readonly delegationSha256: Sha256 | null;
}

export type Entry = AccountOpen | Transfer;

/** The exact text of an entry: canonical JSON. */
export function formatEntry(entry: Entry): string {
  if (entry.type === "account.open") {
    const { seq, type, id, account, key, delegationSha256 } = entry;
    return JSON.stringify({
      v: 1,
      seq,
      type,
      id,
      account,
      key,
      delegation_sha256: delegationSha256,
    });
  }
  const { seq, type, id, index, payer, payee, amount, payerKey, payeeKey } = entry;
  return JSON.stringify({
    v: 1,
    seq,
    type,
    id,
    ...(index === null ? {} : { index }),
    payer,
    payee,
    amount: formatAmount(amount),
    payer_key: payerKey,
    payee_key: payeeKey,
    order_sha256: entry.orderSha256,
    delegation_sha256: entry.delegationSha256,
  });
}

const ENTRY_CHARACTERS_MAX = 1024;

/** @throws {SealwireError} `bad_entry` for a text that {@linkcode formatEntry} would not write. */
export function parseEntry(text: unknown): Entry {
  if (typeof text !== "string" || text.length > ENTRY_CHARACTERS_MAX) {
    throw new SealwireError("bad_entry", "an entry must be text");
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new SealwireError("bad_entry", "the entry is not JSON", { cause });
  }
  const members = new Members(value, "entry", "bad_entry");
  members.constant("v", 1);
  const entry = members.raw("type") === "account.open"
    ? parseAccountOpen(members)
    : parseTransfer(members);
  if (formatEntry(entry) !== text) {
    throw new SealwireError("bad_entry", "the entry is not canonical");
  }
  return entry;
}

function parseAccountOpen(members: Members): AccountOpen {
  const key = members.sha256OrNull("key");
  return {
    type: "account.open",
    seq: members.integer("seq", 1, Number.MAX_SAFE_INTEGER),
    id: members.uuid("id"),
    account: parseAccountName(members.raw("account")),
    key,
    delegationSha256: statement(members, "delegation_sha256", key !== null),
  };
}

function parseTransfer(members: Members): Transfer {
  const payer = members.raw("payer");
  const issued = payer === TREASURY;
  const payerKey = issued ? members.sha256("payer_key") : members.sha256OrNull("payer_key");
  const ordered = !issued && payerKey !== null;
  return {
    type: members.constant("type", "transfer"),
    seq: members.integer("seq", 1, Number.MAX_SAFE_INTEGER),
    id: members.uuid("id"),
    // Only an order can be a batch.
    index: ordered && members.has("index")
      ? members.integer("index", 0, BATCH_ITEMS_MAX - 1)
      : null,
    payer: issued ? TREASURY : parseAccountName(payer),
    payee: parseAccountName(members.raw("payee")),
    amount: parseWireAmount(members.raw("amount")),
    payerKey,
    payeeKey: members.sha256OrNull("payee_key"),
    orderSha256: statement(members, "order_sha256", ordered),
    delegationSha256: statement(members, "delegation_sha256", ordered),
  };
}

/** The hash of what a key's holder signed; null where there is no key. */
function statement(members: Members, name: string, signed: boolean): Sha256 | null {
  return signed ? members.sha256(name) : members.constant(name, null);
}

/** How people and scripts name a payment: its id, and its index within a batch: `<uuid>` or `<uuid>/<index>`. */
export function formatPaymentId(id: Uuid, index: number | null): string {
  return index === null ? id : `${id}/${index}`;
}
