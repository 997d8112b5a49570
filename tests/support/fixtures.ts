/**
 * What the tests of the money core share: people with keys, delegations and orders that they signed, and a ledger in a
 * temporary folder. Key pairs are made once a process, because each costs 0.2 s.
 */
import { createPublicKey, generateKeyPairSync, type KeyObject, randomUUID } from "node:crypto";
import { join } from "node:path";
import {
  type Delegation,
  makeSessionKey,
  type SessionKeyPair,
  signDelegation,
} from "../../lib/protocol/delegation.ts";
import {
  type AccountName,
  parseAccountName,
  parseRsaPublicJwk,
  type RsaKeyPair,
} from "../../lib/keys/rsa.ts";
import { Ledger } from "../../lib/ledger/ledger.ts";
import { merkleRoot } from "../../lib/protocol/merkle.ts";
import type { Submission } from "../../lib/ledger/submission.ts";
import { openSqlite } from "../../lib/ledger/sqlite.ts";
import type { LedgerStore } from "../../lib/ledger/store.ts";
import { type Amount, parseAmount } from "../../lib/protocol/money.ts";
import {
  type BatchItem,
  type BatchOrder,
  formatBatchItem,
  type Order,
  signBatchOrder,
  type SignedOrder,
  signOrder,
} from "../../lib/protocol/order.ts";
import { encodeBase64url, type Sha256, type Uuid } from "../../lib/base/parse.ts";
import { sha256Text, type Token } from "../../lib/protocol/token.ts";
import { temporaryFolder } from "./support.ts";

/** The moment at which tests happen, in seconds since 1970. */
export const NOW_S = 1_800_000_000;
export const CERT: Sha256 = sha256Text("the server's certificate");
const NONCE = encodeBase64url(new Uint8Array(32).fill(7));

/** An account as its holder has it. */
export interface Person {
  readonly name: AccountName;
  readonly pair: RsaKeyPair;
  readonly session: SessionKeyPair;
}

const pairs = new Map<string, RsaKeyPair>();
const people = new Map<string, Person>();

export function rsaPairOf(privateKey: KeyObject): RsaKeyPair {
  const { e, kty, n } = createPublicKey(privateKey).export({ format: "jwk" });
  return { publicKey: parseRsaPublicJwk({ e, kty, n }), privateKey };
}

/** The same pair for the same `owner` each time. */
export function rsaPair(owner: string): RsaKeyPair {
  let pair = pairs.get(owner);
  if (pair === undefined) {
    pair = rsaPairOf(generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey);
    pairs.set(owner, pair);
  }
  return pair;
}

export function serverPair(): RsaKeyPair {
  return rsaPair("the server");
}

/** The same person for the same name each time. */
export function person(name: string): Person {
  let found = people.get(name);
  if (found === undefined) {
    found = { name: parseAccountName(name), pair: rsaPair(name), session: makeSessionKey() };
    people.set(name, found);
  }
  return found;
}

export function uuid(): Uuid {
  return randomUUID() as Uuid;
}

export function amount(text: string): Amount {
  return parseAmount(text);
}

/** `by`'s delegation to their session key, made a minute ago, with `claims` changed. */
export function delegate(
  by: Person,
  claims: Partial<Pick<Delegation, "account" | "session" | "server" | "cert" | "nonce">> = {},
  now_s = NOW_S - 60,
): Promise<Token<Delegation>> {
  const { name: account, session: { publicKey: session } } = by;
  const server = serverPair().publicKey.thumbprint;
  return signDelegation(
    by.pair,
    { account, session, server, cert: CERT, nonce: NONCE, ...claims },
    now_s,
  );
}

export function orderClaims(payer: Person, payee: Person, changed: Partial<Order> = {}): Order {
  return {
    id: uuid(),
    server: serverPair().publicKey.thumbprint,
    payer: payer.name,
    payee: payee.name,
    payeeKey: payee.pair.publicKey.thumbprint,
    amount: amount("12.50"),
    iat: NOW_S,
    exp: NOW_S + 300,
    memo: null,
    ...changed,
  };
}

export async function signedOrder(
  payer: Person,
  payee: Person,
  changed: Partial<Order> = {},
  delegation?: Token<Delegation>,
): Promise<SignedOrder<Order>> {
  return {
    order: await signOrder(orderClaims(payer, payee, changed), payer.session),
    delegation: delegation ?? await delegate(payer),
  };
}

/** A batch order of `payer` that pays each of `payees` its amount. */
export async function signedBatch(
  payer: Person,
  payees: readonly (readonly [Person, string])[],
  changed: Partial<BatchOrder> = {},
  delegation?: Token<Delegation>,
): Promise<{ signed: SignedOrder<BatchOrder>; items: BatchItem[] }> {
  const items = payees.map(([payee, text], index): BatchItem => ({
    index,
    payee: payee.name,
    payeeKey: payee.pair.publicKey.thumbprint,
    amount: amount(text),
  }));
  const order: BatchOrder = {
    id: uuid(),
    server: serverPair().publicKey.thumbprint,
    payer: payer.name,
    count: items.length,
    total: items.reduce((sum, item) => sum + item.amount, 0n) as Amount,
    itemsRoot: merkleRoot(items.map(formatBatchItem)),
    iat: NOW_S,
    exp: NOW_S + 300,
    ...changed,
  };
  const signed = {
    order: await signBatchOrder(order, payer.session),
    delegation: delegation ?? await delegate(payer),
  };
  return { signed, items };
}

export async function opening(
  by: Person,
  openingBalance = 1_000_000n,
  delegation?: Token<Delegation>,
): Promise<Submission> {
  return {
    type: "open",
    delegation: delegation ?? await delegate(by),
    id: uuid(),
    openingBalance,
  };
}

export function orderOf(
  signed: SignedOrder,
  items: readonly BatchItem[] = [],
): Submission & { type: "order" } {
  return { type: "order", signed, items };
}

/** A ledger on a real database file, with the clock in the test's hand. */
export interface TemporaryLedger {
  readonly ledger: Ledger;
  readonly store: LedgerStore;
  readonly path: string;
  /** Seconds since 1970, as the ledger reads it. */
  now_s: number;
}

export function temporaryLedger(path = join(temporaryFolder(), "ledger.db")): TemporaryLedger {
  const store = openSqlite(path, { create: true });
  const ledger = new Ledger({
    store,
    serverKeys: serverPair(),
    cert: CERT,
    now_s: () => temporary.now_s,
  });
  const temporary: TemporaryLedger = { ledger, store, path, now_s: NOW_S };
  return temporary;
}

/** Opens accounts for all of `holders`, with 10000.00 each. */
export async function openAccounts(ledger: Ledger, ...holders: Person[]): Promise<void> {
  for (const submission of await Promise.all(holders.map((holder) => opening(holder)))) {
    await ledger.submit(submission);
  }
}
