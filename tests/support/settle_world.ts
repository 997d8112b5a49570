/**
 * A ledger in memory for the tests of the rules: what a store would hold, and nothing that the rules decide. Signatures have
 * been verified before the rules are asked, so tokens here are any text.
 */
import assert from "node:assert/strict";
import type { Delegation } from "../../lib/protocol/delegation.ts";
import type { Entry, Party } from "../../lib/ledger/entry.ts";
import { type Account, settle, type Settlement } from "../../lib/ledger/settle.ts";
import {
  accountsOf,
  idOf,
  type Outcome,
  outcomeKey,
  type RecordedOutcome,
  type Submission,
} from "../../lib/ledger/submission.ts";
import type { Amount } from "../../lib/protocol/money.ts";
import type { BatchItem, BatchOrder, Order } from "../../lib/protocol/order.ts";
import type { Uuid } from "../../lib/base/parse.ts";
import { sha256Text, type Token } from "../../lib/protocol/token.ts";
import { amount, CERT, NOW_S, orderClaims, type Person, serverPair, uuid } from "./fixtures.ts";

const SERVER = serverPair().publicKey.thumbprint;
const DAY_S = 86_400;

let tokensMade = 0;

function token<C>(claims: C): Token<C> {
  const text = `token ${++tokensMade}`;
  return { text, sha256: sha256Text(text), claims };
}

function delegation(by: Person, changed: Partial<Delegation> = {}): Token<Delegation> {
  return token({
    account: by.name,
    key: by.pair.publicKey,
    session: by.session.publicKey,
    server: SERVER,
    cert: CERT,
    nonce: "",
    iat: NOW_S - 60,
    exp: NOW_S - 60 + DAY_S,
    ...changed,
  });
}

export type OrderSubmission = Submission & { type: "order" };

export function order(
  payer: Person,
  payee: Person,
  changed: Partial<Order> = {},
  delegated: Partial<Delegation> = {},
): OrderSubmission {
  const signed = {
    order: token(orderClaims(payer, payee, changed)),
    delegation: delegation(payer, delegated),
  };
  return { type: "order", signed, items: [] };
}

export function batch(
  payer: Person,
  payees: readonly (readonly [Person, bigint])[],
  changed: Partial<BatchOrder> = {},
): OrderSubmission {
  const items = payees.map(([payee, minor], index): BatchItem => ({
    index,
    payee: payee.name,
    payeeKey: payee.pair.publicKey.thumbprint,
    amount: minor as Amount,
  }));
  const claims: BatchOrder = {
    id: uuid(),
    server: SERVER,
    payer: payer.name,
    count: items.length,
    total: items.reduce((sum, item) => sum + item.amount, 0n) as Amount,
    itemsRoot: sha256Text("root"),
    iat: NOW_S,
    exp: NOW_S + 300,
    ...changed,
  };
  return { type: "order", signed: { order: token(claims), delegation: delegation(payer) }, items };
}

export function open(
  by: Person,
  openingBalance = 1_000_000n,
  changed: Partial<Delegation> = {},
  id = uuid(),
): Submission {
  return { type: "open", delegation: delegation(by, changed), id, openingBalance };
}

export function grant(payee: Person, text: string, id = uuid()): Submission {
  return { type: "grant", id, payee: payee.name, amount: amount(text) };
}

export function cancel(payer: Person, id: Uuid): Submission {
  return { type: "cancel", payer: payer.name, id };
}

/** A ledger in memory: what a store would hold, and nothing that the rules decide. */
export class World {
  readonly accounts = new Map<string, Account>();
  readonly outcomes = new Map<string, RecordedOutcome>();
  readonly entries: Entry[] = [];
  time_s = NOW_S;

  /** Settles one block and returns all of it. The rules see those accounts and ids alone that they asked for. */
  block(...submissions: Submission[]): Settlement {
    const names = new Set<string>(submissions.flatMap(accountsOf));
    const ids = new Set(submissions.map(idOf).map(({ payer, id }) => outcomeKey(payer, id)));
    const view = {
      accounts: new Map([...this.accounts].filter(([name]) => names.has(name))),
      outcomes: new Map([...this.outcomes].filter(([key]) => ids.has(key))),
    };
    const context = {
      time_s: this.time_s,
      firstSeq: this.entries.length + 1,
      server: SERVER,
      cert: CERT,
    };
    const settlement = settle(context, view, submissions);
    this.entries.push(...settlement.entries);
    for (const account of settlement.accounts) this.accounts.set(account.name, account);
    for (const { payer, id, contentSha256, end } of settlement.newOutcomes) {
      const key = outcomeKey(payer, id);
      assert.ok(!this.outcomes.has(key), `${key} ends twice`);
      this.outcomes.set(key, { contentSha256, end });
    }
    return settlement;
  }

  /** Settles one block of one submission. */
  one(submission: Submission): Outcome {
    return this.block(submission).outcomes[0]!;
  }

  balance(name: Party): bigint | undefined {
    return this.accounts.get(name)?.balance;
  }
}

export function worldOf(...holders: Person[]): World {
  const world = new World();
  for (const holder of holders) world.one(open(holder));
  return world;
}
