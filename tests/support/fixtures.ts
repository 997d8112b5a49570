/**
 * What the tests of the money core share: people with keys, delegations, orders and cancels that
 * they signed, and a ledger in a temporary folder. RSA key pairs are made once a process, because
 * each costs 0.2 s.
 */
import { createPublicKey, generateKeyPairSync, type KeyObject, randomUUID } from "node:crypto";
import { cpSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { encodeBase64url, type Sha256, type Uuid } from "../../lib/base/parse.ts";
import type { Ed25519KeyPair } from "../../lib/keys/ed25519.ts";
import { openLogKey } from "../../lib/keys/log_key.ts";
import {
  type AccountName,
  parseAccountName,
  parseRsaPublicJwk,
  type RsaKeyPair,
} from "../../lib/keys/rsa.ts";
import { type Clock, watchedClock } from "../../lib/ledger/clock.ts";
import type { Ledger } from "../../lib/ledger/ledger.ts";
import {
  type NewLedger,
  openLedger,
  type OpenLedgerOptions,
} from "../../lib/ledger/open_ledger.ts";
import { openSqlite } from "../../lib/ledger/sqlite.ts";
import type { LedgerStore } from "../../lib/ledger/store.ts";
import type { Submission } from "../../lib/ledger/submission.ts";
import { type Cancel, signCancel, type SignedCancel } from "../../lib/protocol/cancel.ts";
import {
  type Delegation,
  makeSessionKey,
  type SessionKeyPair,
  signDelegation,
} from "../../lib/protocol/delegation.ts";
import { merkleRoot } from "../../lib/protocol/merkle.ts";
import { type Amount, parseAmount, UNIT_DEFAULT } from "../../lib/protocol/money.ts";
import {
  type BatchItem,
  type BatchOrder,
  formatBatchItem,
  type Order,
  SALT_BYTES,
  signBatchOrder,
  type SignedOrder,
  signOrder,
} from "../../lib/protocol/order.ts";
import { sha256Text, type Token } from "../../lib/protocol/token.ts";
import { temporaryFolder } from "./support.ts";

/** The moment at which tests happen, in seconds since 1970. */
export const NOW_S = 1_800_000_000;

/** The true time, for servers that go by it. */
export function now_s(): number {
  return Math.floor(Date.now() / 1000);
}

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

/** 16 random bytes, base64url. */
export function makeSalt(): string {
  return encodeBase64url(crypto.getRandomValues(new Uint8Array(SALT_BYTES)));
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
    request: null,
    refundOf: null,
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
    salt: makeSalt(),
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

/** `payer`'s cancel of `id`. */
export async function signedCancel(
  payer: Person,
  id: Uuid,
  changed: Partial<Cancel> = {},
  delegation?: Token<Delegation>,
): Promise<SignedCancel> {
  const server = serverPair().publicKey.thumbprint;
  const claims = { id, server, payer: payer.name, iat: NOW_S, ...changed };
  return {
    cancel: await signCancel(claims, payer.session),
    delegation: delegation ?? await delegate(payer),
  };
}

export async function opening(by: Person, delegation?: Token<Delegation>): Promise<Submission> {
  return { type: "open", delegation: delegation ?? await delegate(by), id: uuid() };
}

export function orderOf(
  signed: SignedOrder,
  items: readonly BatchItem[] = [],
): Submission & { type: "order" } {
  return { type: "order", signed, items };
}

export function cancelOf(signed: SignedCancel): Submission & { type: "cancel" } {
  return { type: "cancel", signed };
}

export const NEW_LEDGER: NewLedger = {
  unit: UNIT_DEFAULT,
  openingBalance: 1_000_000n,
  registration: "open",
};

/** A server's clock in the test's hand, watched as a real one is. */
export class TestClock implements Clock {
  private wall_ms: number;
  private monotonic_ms = 0;
  private readonly watched: Clock;

  constructor(start_s = NOW_S) {
    this.wall_ms = start_s * 1000;
    this.watched = watchedClock(() => this.wall_ms, () => this.monotonic_ms);
  }

  now_s(): number {
    return this.watched.now_s();
  }

  isSteady(): boolean {
    return this.watched.isSteady();
  }

  trust(): void {
    this.watched.trust();
  }

  /** Lets time pass. */
  pass(seconds: number): void {
    this.wall_ms += seconds * 1000;
    this.monotonic_ms += seconds * 1000;
  }

  /** Sets the clock, without time passing. */
  step(seconds: number): void {
    this.wall_ms += seconds * 1000;
  }
}

/** A ledger on a real database file, with the clock in the test's hand. */
export interface TemporaryLedger {
  readonly ledger: Ledger;
  readonly store: LedgerStore;
  /** Holds `ledger.db`, and the keys and the anchor in `keys`. */
  readonly folder: string;
  readonly logKey: Ed25519KeyPair;
  readonly clock: TestClock;
  /** What the operator was told of, by code. */
  readonly troubles: readonly string[];
  /** Closes ledger and store. */
  close(): Promise<void>;
}

export interface TemporaryLedgerOptions
  extends Partial<Pick<OpenLedgerOptions, "acceptClock" | "acceptRollback" | "create" | "server">> {
  readonly clock?: TestClock;
  /** Puts something between the ledger and its database. */
  readonly wrap?: (store: LedgerStore) => LedgerStore;
}

export function databasePath(folder: string): string {
  return join(folder, "ledger.db");
}

export function keysFolder(folder: string): string {
  return join(folder, "keys");
}

export function anchorPath(folder: string): string {
  return join(keysFolder(folder), "server_anchor.txt");
}

export function logKeyOf(folder: string): Ed25519KeyPair {
  mkdirSync(keysFolder(folder), { recursive: true });
  return openLogKey(keysFolder(folder), { makeMissing: true }).pair;
}

/** Opens the ledger in `folder`, or makes one there. Throws as `openLedger` does. */
export async function temporaryLedger(
  folder = temporaryFolder(),
  options: TemporaryLedgerOptions = {},
): Promise<TemporaryLedger> {
  const { clock = new TestClock(), wrap = (store) => store, ...others } = options;
  const logKey = logKeyOf(folder);
  const store = openSqlite(databasePath(folder), { create: true });
  const troubles: string[] = [];
  try {
    const ledger = await openLedger({
      store: wrap(store),
      server: serverPair().publicKey.thumbprint,
      logKey,
      keysFolder: keysFolder(folder),
      create: NEW_LEDGER,
      clock,
      onTrouble: (code) => troubles.push(code),
      ...others,
    });
    const close = async () => {
      await ledger.close();
      await store.close();
    };
    return { ledger, store, folder, logKey, clock, troubles, close };
  } catch (error) {
    await store.close();
    throw error;
  }
}

/** A copy of a closed ledger, database and keys, in a folder of its own. */
export function copyLedger(folder: string): string {
  const copy = temporaryFolder();
  cpSync(folder, copy, { recursive: true });
  return copy;
}

/** Opens accounts for all of `holders`, with 10000.00 each. */
export async function openAccounts(ledger: Ledger, ...holders: Person[]): Promise<void> {
  for (const submission of await Promise.all(holders.map((holder) => opening(holder)))) {
    await ledger.submit(submission);
  }
}
