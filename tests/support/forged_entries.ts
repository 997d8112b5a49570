/**
 * What a dishonest operator does, who has the log key but not the payers' keys: further entries of any kind, with the rows,
 * the seals and the root that belong to them.
 */
import { encodeBase64url, type Sha256 } from "../../lib/base/parse.ts";
import { deriveSealKey } from "../../lib/keys/log_key.ts";
import type { RsaPublicJwk } from "../../lib/keys/rsa.ts";
import { type Entry, type Fact, formatEntry } from "../../lib/ledger/entry.ts";
import { Seals } from "../../lib/ledger/seal.ts";
import { type Account, creditsOf, type Posting } from "../../lib/ledger/settle.ts";
import { openSqlite } from "../../lib/ledger/sqlite.ts";
import type { EndingRow, LedgerTransaction, NewPayment } from "../../lib/ledger/store.ts";
import type { PaymentRequest, RefundTotal } from "../../lib/ledger/submission.ts";
import { emptyTree } from "../../lib/ledger/tiles.ts";
import type { SignedCancel } from "../../lib/protocol/cancel.ts";
import type { Delegation } from "../../lib/protocol/delegation.ts";
import { hashLeaf } from "../../lib/protocol/merkle.ts";
import { type BatchItem, formatBatchItem, type SignedOrder } from "../../lib/protocol/order.ts";
import type { Party } from "../../lib/protocol/party.ts";
import type { Rotation } from "../../lib/protocol/rotation.ts";
import type { Token } from "../../lib/protocol/token.ts";
import { databasePath, logKeyOf, makeSalt, NOW_S } from "./fixtures.ts";

/** The row of an id that ends, and what it rests on. */
export interface ForgedPayment extends Omit<NewPayment, "seal" | "index" | "delegationSha256"> {
  /** Default: the first forged entry's. */
  readonly index?: number;
  readonly delegation: Token<Delegation> | null;
}

export interface Forgery {
  /** What the entries say; also another index, time or salt than they should. */
  readonly entries: readonly (Fact & Partial<Entry>)[];
  /** Default: the texts of the entries. */
  readonly texts?: readonly string[];
  readonly payments?: readonly ForgedPayment[];
  readonly delegations?: readonly Token<Delegation>[];
  /** The items of forged batches, by the order's hash. */
  readonly items?: ReadonlyMap<Sha256, readonly BatchItem[]>;
  /** The keys of accounts that are opened, or get another key. */
  readonly jwk?: RsaPublicJwk;
  /** Rotations and countersignatures. */
  readonly rotations?: readonly Token<Rotation>[];
  readonly requests?: readonly PaymentRequest[];
  readonly refunds?: readonly RefundTotal[];
}

export function orderRow(
  { order, delegation }: SignedOrder,
  items: readonly BatchItem[] = [],
): ForgedPayment {
  return {
    payer: order.claims.payer,
    id: order.claims.id,
    contentSha256: order.sha256,
    state: "settled",
    signedText: order.text,
    delegation,
    itemTexts: items.length > 0 ? items.map(formatBatchItem) : null,
  };
}

export function cancelRow({ cancel, delegation }: SignedCancel): ForgedPayment {
  return {
    payer: cancel.claims.payer,
    id: cancel.claims.id,
    contentSha256: cancel.sha256,
    state: "cancelled",
    signedText: cancel.text,
    delegation,
    itemTexts: null,
  };
}

/** The row of a payment that nobody signed. */
export function unsignedRow(row: Omit<EndingRow, "index" | "state">): ForgedPayment {
  return { ...row, state: "settled", signedText: null, delegation: null, itemTexts: null };
}

/** Appends the forgery to the closed ledger in `folder`. */
export async function appendForged(folder: string, forgery: Forgery): Promise<void> {
  const seals = new Seals(deriveSealKey(logKeyOf(folder).privateKey));
  const store = openSqlite(databasePath(folder), { create: false });
  await store.transaction((transaction) => append(transaction, seals, forgery));
  await store.close();
}

async function append(
  transaction: LedgerTransaction,
  seals: Seals,
  {
    payments = [],
    delegations = [],
    items = new Map(),
    rotations = [],
    requests = [],
    refunds = [],
    jwk,
    ...forgery
  }: Forgery,
): Promise<void> {
  const { seal: _, ...head } = (await transaction.head())!;
  const entries = forgery.entries.map((fact, at): Entry => ({
    index: head.size + at,
    time: NOW_S,
    salt: makeSalt(),
    ...fact,
  }));
  const texts = forgery.texts ?? entries.map(formatEntry);
  const before = emptyTree().appended((await transaction.entries(0, head.size)).map(hashLeaf)).tree;
  const { tree, fullTiles } = before.appended(texts.map(hashLeaf));
  const book = new Book(transaction);
  for (const entry of entries) await book.apply(entry, items);
  const rows = payments.map(({ index = head.size, delegation, ...row }): NewPayment => ({
    ...seals.ending({ ...row, index }),
    delegationSha256: delegation?.sha256 ?? null,
  }));
  const rest = payments.flatMap(({ delegation }) => delegation ?? []);
  await transaction.append({
    head: seals.head({
      ...head,
      size: tree.size,
      root: encodeBase64url(tree.root) as Sha256,
      time_s: entries.at(-1)?.time ?? head.time_s,
    }),
    firstIndex: head.size,
    entryTexts: texts,
    tiles: fullTiles,
    accounts: [...book.accounts.values()].map((account) => ({
      ...seals.account(account),
      ...(book.opened.has(account.name) && { jwk }),
    })),
    postings: book.postings,
    payments: rows,
    delegations: new Map([...rest, ...delegations].map(({ sha256, text }) => [sha256, text])),
    rotations: new Map(rotations.map(({ sha256, text }) => [sha256, text])),
    requests: requests.map((request) => seals.request(request)),
    refunds: refunds.map((refund) => seals.refund(refund)),
    operatorIndexes: entries.flatMap(({ type, index }) => type.startsWith("ledger.") ? index : []),
  });
}

/** Balances as the forged entries change them, sound or not. */
class Book {
  readonly accounts = new Map<Party, Account>();
  readonly opened = new Set<Party>();
  readonly postings: Posting[] = [];

  constructor(private readonly transaction: LedgerTransaction) {}

  async apply(entry: Entry, items: ReadonlyMap<Sha256, readonly BatchItem[]>): Promise<void> {
    const { index } = entry;
    if (entry.type === "account.open") {
      const { account: name, key } = entry;
      this.opened.add(name);
      this.accounts.set(name, {
        name,
        key,
        balance: 0n,
        opened: index,
        keyed: index,
        changed: index,
      });
    } else if (entry.type === "account.key") {
      const account = (await this.transaction.accounts([entry.account])).get(entry.account)!;
      this.opened.add(account.name);
      this.accounts.set(account.name, { ...account, key: entry.key, keyed: index, changed: index });
    } else if (entry.type === "transfer") {
      await this.move(entry.payer, -entry.amount, index);
      await this.move(entry.payee, entry.amount, index);
    } else if (entry.type === "batch") {
      await this.move(entry.payer, -entry.total, index);
      for (const [payee, amount] of creditsOf(items.get(entry.orderSha256)!)) {
        await this.move(payee, amount, index);
      }
    }
  }

  private async move(name: Party, change: bigint, index: number): Promise<void> {
    const account = this.accounts.get(name) ??
      (await this.transaction.accounts([name])).get(name);
    if (account === undefined) return;
    const balance = account.balance + change;
    this.accounts.set(name, { ...account, balance, changed: index });
    const earlier = this.postings.findIndex((one) => one.account === name && one.index === index);
    if (earlier >= 0) this.postings.splice(earlier, 1);
    this.postings.push({ account: name, index, balance });
  }
}
