/**
 * A ledger in memory for the tests of the rules: what a store would hold, and nothing that the rules decide. Signatures have
 * been verified before the rules are asked, so tokens here are any text.
 */
import assert from "node:assert/strict";
import type { Uuid } from "../../lib/base/parse.ts";
import type { AccountName } from "../../lib/keys/rsa.ts";
import type { Entry, Settings } from "../../lib/ledger/entry.ts";
import {
  type Account,
  type PendingRequests,
  settle,
  type Settlement,
} from "../../lib/ledger/settle.ts";
import {
  accountsOf,
  type Ending,
  endingKey,
  idOf,
  type NewRequest,
  type Outcome,
  type PaymentRequest,
  refundKey,
  refundOf,
  type RefundTarget,
  requestKey,
  requestOf,
  type Submission,
} from "../../lib/ledger/submission.ts";
import type { Cancel } from "../../lib/protocol/cancel.ts";
import type { Delegation } from "../../lib/protocol/delegation.ts";
import { type Amount, UNIT_DEFAULT } from "../../lib/protocol/money.ts";
import {
  type BatchItem,
  type BatchOrder,
  isBatch,
  type Order,
  type PaymentReference,
} from "../../lib/protocol/order.ts";
import type { Party } from "../../lib/protocol/party.ts";
import type { Rotation } from "../../lib/protocol/rotation.ts";
import { sha256Text, type Token } from "../../lib/protocol/token.ts";
import {
  amount,
  CERT,
  makeSalt,
  NEW_LEDGER,
  NOW_S,
  orderClaims,
  type Person,
  serverPair,
  uuid,
} from "./fixtures.ts";

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
    salt: makeSalt(),
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

export function open(by: Person, changed: Partial<Delegation> = {}, id = uuid()): Submission {
  return { type: "open", delegation: delegation(by, changed), id };
}

export function openClassic(account: AccountName, id = uuid()): Submission {
  return { type: "open-classic", account, id };
}

export function grant(payee: Person, text: string, id = uuid()): Submission {
  return { type: "grant", id, payee: payee.name, amount: amount(text) };
}

export function cancel(
  payer: Person,
  id: Uuid,
  changed: Partial<Cancel> = {},
  delegated: Partial<Delegation> = {},
): Submission {
  const claims = { id, server: SERVER, payer: payer.name, iat: NOW_S, ...changed };
  return {
    type: "cancel",
    signed: { cancel: token(claims), delegation: delegation(payer, delegated) },
  };
}

/** A request of `payee`'s to `payer`, or to anyone. */
export function request(
  payee: Person,
  payer: Person | null,
  changed: Partial<NewRequest> = {},
): Submission & { type: "request" } {
  return {
    type: "request",
    request: {
      id: uuid(),
      payee: payee.name,
      payer: payer?.name ?? null,
      amount: amount("12.50"),
      memo: null,
      life_s: 600,
      ...changed,
    },
  };
}

/** `by` declines or withdraws the request. */
export function closeRequest(
  by: Person,
  { request }: Submission & { type: "request" },
): Submission {
  return { type: "close-request", by: by.name, payee: request.payee, id: request.id };
}

/** `holder` with another key in place of the one that entry `replaces` gave, signed by `holder`'s. */
export function rotate(
  holder: Person,
  newPair: Person["pair"],
  replaces: number,
  changed: Partial<Rotation> = {},
): Submission & { type: "rotate" } {
  const claims: Rotation = {
    account: holder.name,
    server: SERVER,
    replaces,
    key: newPair.publicKey,
    iat: NOW_S,
    ...changed,
  };
  const oldKey = holder.pair.publicKey.thumbprint;
  return {
    type: "rotate",
    signed: { oldKey, rotation: token(claims), countersignature: token(claims) },
  };
}

/** What a refund of `order` names. */
export function referenceTo(
  { signed: { order: { claims } } }: OrderSubmission,
  item: number | null = null,
): PaymentReference {
  return { payer: claims.payer, id: claims.id, item };
}

/** A ledger in memory: what a store would hold, and nothing that the rules decide. */
export class World {
  readonly accounts = new Map<string, Account>();
  readonly endings = new Map<string, Ending>();
  /** By key. */
  readonly requests = new Map<string, PaymentRequest>();
  readonly refunds = new Map<string, bigint>();
  private readonly orders = new Map<string, OrderSubmission>();
  readonly entries: Entry[] = [];
  time_s = NOW_S;
  settings: Settings;

  constructor(settings: Partial<Settings> = {}) {
    const { openingBalance, registration } = NEW_LEDGER;
    this.settings = { openingBalance, registration, ...settings };
  }

  /** Makes one commit and returns all of it. The rules see those accounts and ids alone that they asked for. */
  commit(...submissions: Submission[]): Settlement {
    const names = new Set<string>(submissions.flatMap(accountsOf));
    const ids = new Set(
      submissions.flatMap((one) => idOf(one) ?? []).map(({ payer, id }) => endingKey(payer, id)),
    );
    const requested = new Set(
      submissions.flatMap((one) => requestOf(one) ?? []).map(({ payee, id }) =>
        requestKey(payee, id)
      ),
    );
    const view = {
      accounts: new Map([...this.accounts].filter(([name]) => names.has(name))),
      endings: new Map([...this.endings].filter(([key]) => ids.has(key))),
      requests: new Map([...this.requests].filter(([key]) => requested.has(key))),
      pendingRequests: this.pendingRequests(submissions),
      refundTargets: this.refundTargets(submissions),
    };
    const { time_s, settings } = this;
    const firstIndex = this.entries.length;
    const context = {
      time_s,
      firstIndex,
      server: SERVER,
      unit: UNIT_DEFAULT,
      settings,
      isMoved: false,
      makeSalt,
    };
    const settlement = settle(context, view, submissions);
    this.entries.push(...settlement.entries);
    this.settings = settlement.settings;
    for (const account of settlement.accounts) this.accounts.set(account.name, account);
    for (const { payer, id, contentSha256, state, index, submission } of settlement.newEndings) {
      const key = endingKey(payer, id);
      assert.ok(!this.endings.has(key), `${key} ends twice`);
      this.endings.set(key, { contentSha256, state, index });
      if (submission.type === "order") this.orders.set(key, submission);
    }
    for (const request of settlement.requests) {
      this.requests.set(requestKey(request.payee, request.id), request);
    }
    for (const { reference, total } of settlement.refunds) {
      this.refunds.set(refundKey(reference), total);
    }
    return settlement;
  }

  private pendingRequests(submissions: readonly Submission[]): Map<AccountName, PendingRequests> {
    const payees = new Set(
      submissions.flatMap((one) => one.type === "request" ? one.request.payee : []),
    );
    return new Map([...payees].map((payee) => {
      const pending = [...this.requests.values()].filter((one) =>
        one.payee === payee && one.state === "pending" && one.expires_s > this.time_s
      );
      const byPayer = new Map<AccountName, number>();
      for (const { payer } of pending) {
        if (payer !== null) byPayer.set(payer, (byPayer.get(payer) ?? 0) + 1);
      }
      return [payee, { total: pending.length, byPayer }];
    }));
  }

  private refundTargets(submissions: readonly Submission[]): Map<string, RefundTarget> {
    const references = submissions.flatMap((one) => refundOf(one) ?? []);
    return new Map(references.flatMap((reference): [string, RefundTarget][] => {
      const paid = this.paidBy(reference);
      if (paid === null) return [];
      const key = refundKey(reference);
      return [[key, { ...paid, reference, refunded: this.refunds.get(key) ?? 0n }]];
    }));
  }

  private paidBy(
    { payer, id, item }: PaymentReference,
  ): Pick<RefundTarget, "payee" | "amount" | "isRefund"> | null {
    const submission = this.orders.get(endingKey(payer, id));
    if (submission === undefined) return null;
    const order = submission.signed.order.claims;
    if (!isBatch(order)) {
      const { payee, amount, refundOf } = order;
      return item === null ? { payee, amount, isRefund: refundOf !== null } : null;
    }
    const one = item === null ? undefined : submission.items[item];
    return one === undefined ? null : { payee: one.payee, amount: one.amount, isRefund: false };
  }

  /** Makes a commit of one submission. */
  one(submission: Submission): Outcome {
    return this.commit(submission).outcomes[0]!;
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

/** Commits `submission` and checks that it is refused and that nothing at all is recorded of it. */
export function assertRefused(world: World, submission: Submission, reason: string): void {
  const { outcomes, settings, ...recorded } = world.commit(submission);
  assert.deepEqual(outcomes, [{ state: "refused", reason }]);
  assert.equal(settings, world.settings);
  assert.deepEqual(recorded, {
    entries: [],
    newEndings: [],
    accounts: [],
    postings: [],
    openings: [],
    rotations: [],
    requests: [],
    refunds: [],
  });
}
