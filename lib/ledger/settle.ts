/**
 * The rules of the ledger, as a pure function: accounts and submissions in, entries and refusals
 * out. Everything that decides about money is here. Nothing here waits, reads a clock, draws a
 * random number or touches a disk.
 */
import type { Sha256, Uuid } from "../base/parse.ts";
import type { AccountName } from "../keys/rsa.ts";
import {
  type Delegation,
  type DelegationFlaw,
  delegationFlaw,
  isFromFuture,
} from "../protocol/delegation.ts";
import { type Amount, AMOUNT_MAX, formatAmount, type Unit } from "../protocol/money.ts";
import {
  type BatchItem,
  isBatch,
  type Order,
  type PaymentReference,
  untimely,
} from "../protocol/order.ts";
import { type Party, TREASURY } from "../protocol/party.ts";
import type { SignedRotation } from "../protocol/rotation.ts";
import { sha256Text, type Token } from "../protocol/token.ts";
import type { Entry, Fact, Settings, Transfer } from "./entry.ts";
import {
  type Ending,
  endingKey,
  idOf,
  type NewEnding,
  type Outcome,
  type PaymentRequest,
  refundKey,
  type RefundTarget,
  type RefundTotal,
  type RefusalReason,
  REQUEST_LIFE_S_MAX,
  requestKey,
  REQUESTS_MAX,
  REQUESTS_TO_PAYER_MAX,
  type Submission,
} from "./submission.ts";

/** Names that would mislead, and that nobody can register. */
export const RESERVED_NAMES: ReadonlySet<string> = new Set([
  "admin",
  "operator",
  "root",
  "server",
  "support",
  "system",
  "treasury",
]);

/** An account as it stands. */
export interface Account {
  readonly name: Party;
  /**
   * Thumbprint of its RSA key; the server's own for the treasury; null when a classic client opened
   * it.
   */
  readonly key: Sha256 | null;
  readonly balance: bigint;
  /** Index of its `account.open` entry; 0 for the treasury, which comes with the ledger. */
  readonly opened: number;
  /** Index of the entry that made its key current: `account.open`, or the last `account.key`. */
  readonly keyed: number;
  /** Index of the last entry that changed it. */
  readonly changed: number;
}

/** What the rules need to know of the ledger: every account and id that the submissions name. */
export interface LedgerView {
  readonly accounts: ReadonlyMap<string, Account>;
  /** By {@linkcode endingKey}. */
  readonly endings: ReadonlyMap<string, Ending>;
  /** By {@linkcode requestKey}. */
  readonly requests: ReadonlyMap<string, PaymentRequest>;
  /** How many requests of a payee are pending: in all, and by payer. */
  readonly pendingRequests: ReadonlyMap<AccountName, PendingRequests>;
  /** By {@linkcode refundKey}. */
  readonly refundTargets: ReadonlyMap<string, RefundTarget>;
}

export interface PendingRequests {
  readonly total: number;
  readonly byPayer: ReadonlyMap<AccountName, number>;
}

/** The commit that is being made. */
export interface CommitContext {
  readonly time_s: number;
  /** Index of the first new entry. */
  readonly firstIndex: number;
  /** Thumbprint of the server's key. */
  readonly server: Sha256;
  readonly unit: Unit;
  readonly settings: Settings;
  /** The last entry is `ledger.moved`: nothing may follow here. */
  readonly isMoved: boolean;
  /** 16 random bytes as base64url, new at each call. */
  readonly makeSalt: () => string;
}

/** One account's balance after one entry. */
export interface Posting {
  readonly account: Party;
  readonly index: number;
  readonly balance: bigint;
}

export interface Settlement {
  readonly entries: readonly Entry[];
  /** One for each submission, in order. */
  readonly outcomes: readonly Outcome[];
  readonly newEndings: readonly NewEnding[];
  /** Accounts that changed, as they are after the commit. */
  readonly accounts: readonly Account[];
  readonly postings: readonly Posting[];
  readonly openings: readonly Opening[];
  readonly rotations: readonly SignedRotation[];
  /** Requests that are new or have ended. */
  readonly requests: readonly PaymentRequest[];
  readonly refunds: readonly RefundTotal[];
  readonly settings: Settings;
}

/** An account that this commit opens; `delegation` null for a classic one. */
export interface Opening {
  readonly name: AccountName;
  readonly delegation: Token<Delegation> | null;
}

/** Applies the rules to `submissions` in order. */
export function settle(
  context: CommitContext,
  view: LedgerView,
  submissions: readonly Submission[],
): Settlement {
  const book = new Book(context, view);
  const outcomes = submissions.map((submission) => settleOne(book, submission));
  return { outcomes, ...book.close() };
}

function settleOne(book: Book, submission: Submission): Outcome {
  if (book.isMoved && !isContinuation(submission)) return refused("ledger_moved");
  switch (submission.type) {
    case "open":
      return open(book, submission, submission.delegation.claims.account, submission.delegation);
    case "open-classic":
      return open(book, submission, submission.account, null);
    case "grant":
      return grant(book, submission);
    case "unsigned":
      return payUnsigned(book, submission);
    case "cancel":
      return cancel(book, submission);
    case "order":
      return pay(book, submission);
    case "rotate":
      return rotate(book, submission);
    case "request":
      return request(book, submission);
    case "close-request":
      return closeRequest(book, submission);
    case "operator":
      return book.record(submission.fact);
  }
}

/** What the copy of a moved ledger begins with. */
function isContinuation(submission: Submission): boolean {
  return submission.type === "operator" && submission.fact.type === "ledger.continued";
}

function refused(reason: RefusalReason): Outcome {
  return { state: "refused", reason };
}

/** `delegation` null: a classic account, which has no key. */
function open(
  book: Book,
  submission: Submission & { type: "open" | "open-classic" },
  name: AccountName,
  delegation: Token<Delegation> | null,
): Outcome {
  const { id } = submission;
  const invite = submission.type === "open" ? submission.invite ?? null : null;
  const key = delegation?.claims.key.thumbprint ?? null;
  const existing = book.account(name);
  if (existing !== undefined) {
    // Without a key nobody can show that the account is theirs.
    return key !== null && existing.key === key
      ? { state: "opened", index: existing.opened, again: true }
      : refused("name_taken");
  }
  if (RESERVED_NAMES.has(name)) return refused("name_reserved");
  const { openingBalance, registration } = book.settings;
  if (registration === "closed") return refused("registration_closed");
  if (registration === "invite" && invite === null) return refused("invite_required");
  const flaw = delegation === null ? undefined : book.flaw(delegation.claims);
  if (flaw !== undefined) return refused(flaw);
  if (book.ending(TREASURY, id) !== undefined) {
    return refused(invite === null ? "order_conflict" : "invite_used");
  }
  const amount = (invite === null ? openingBalance : invite.balance) as Amount;
  if (book.account(TREASURY)!.balance - amount < -AMOUNT_MAX) return refused("treasury_limit");

  const index = book.open(name, id, delegation, invite?.code ?? null);
  if (amount > 0n) {
    book.transfer(submission, unsignedSha256(name, amount), {
      ...NOBODY_SIGNED,
      id,
      payer: TREASURY,
      payee: name,
      amount,
      payerKey: book.context.server,
      payeeKey: key,
    });
  } else if (invite !== null) {
    book.useUp(submission, unsignedSha256(name, amount), index);
  }
  return { state: "opened", index, again: false };
}

const NOBODY_SIGNED = { orderSha256: null, delegationSha256: null } as const;

function grant(book: Book, submission: Submission & { type: "grant" }): Outcome {
  const { id, payee, amount } = submission;
  const contentSha256 = unsignedSha256(payee, amount);
  const before = book.before(TREASURY, id, contentSha256);
  if (before !== undefined) return before;
  const account = book.account(payee);
  if (account === undefined) return refused("unknown_account");
  if (book.account(TREASURY)!.balance - amount < -AMOUNT_MAX) return refused("treasury_limit");
  return book.transfer(submission, contentSha256, {
    ...NOBODY_SIGNED,
    id,
    payer: TREASURY,
    payee,
    amount,
    payerKey: book.context.server,
    payeeKey: account.key,
  });
}

/** What makes two payments that nobody signed the same, under one id: payee and amount. */
export function unsignedSha256(payee: Party, amount: Amount): Sha256 {
  return sha256Text(JSON.stringify({ payee, amount: formatAmount(amount) }));
}

/**
 * A refusal judges the payer's own side first, so that it tells a stranger nothing about the payee.
 * An id that has ended answers before the rest: the same bytes have the same outcome for ever,
 * whatever has expired or changed since.
 */
function pay(book: Book, submission: Submission & { type: "order" }): Outcome {
  const { order: { claims: order, sha256 }, delegation } = submission.signed;
  const before = book.before(order.payer, order.id, sha256);
  if (before?.state === "settled") return before;
  const payer = book.account(order.payer);
  // Unknown and not-yours are answered alike.
  if (payer === undefined || payer.key !== delegation.claims.key.thumbprint) {
    return refused("wrong_key");
  }
  if (before !== undefined) return before;
  const flaw = book.flaw(delegation.claims) ?? untimely(order, book.context.time_s);
  if (flaw !== undefined) return refused(flaw);
  const items = isBatch(order) ? submission.items : [order];
  const total = items.reduce((sum, { amount }) => sum + amount, 0n);
  if (payer.balance < total) return refused("insufficient_funds");
  for (const { payee, payeeKey } of items) {
    const account = book.account(payee);
    if (account === undefined) return refused("unknown_payee");
    if (account.key !== payeeKey) return refused("payee_key_changed");
  }
  const flawOfPurpose = isBatch(order)
    ? undefined
    : requestFlaw(book, order) ?? refundFlaw(book, order);
  if (flawOfPurpose !== undefined) return refused(flawOfPurpose);
  const signed = {
    id: order.id,
    payer: order.payer,
    payerKey: payer.key,
    orderSha256: sha256,
    delegationSha256: delegation.sha256,
  };
  if (!isBatch(order)) {
    const { payee, payeeKey, amount } = order;
    const outcome = book.transfer(submission, sha256, { ...signed, payee, payeeKey, amount });
    book.fulfil(order);
    return outcome;
  }
  const { count, itemsRoot } = order;
  return book.batch(submission, sha256, {
    type: "batch",
    ...signed,
    count,
    total: order.total,
    unit: book.context.unit,
    itemsRoot,
  });
}

function endedUnpaid(state: "declined" | "withdrawn"): RefusalReason {
  return state === "declined" ? "request_declined" : "request_withdrawn";
}

/** Why an order may not pay the request that it names. */
function requestFlaw(book: Book, order: Order): RefusalReason | undefined {
  if (order.request === null) return undefined;
  const request = order.payee === TREASURY ? undefined : book.request(order.payee, order.request);
  const forOther = request?.payer !== null && request?.payer !== order.payer;
  if (request === undefined || forOther) return "request_unknown";
  if (request.state === "paid") return "request_paid";
  if (request.state !== "pending") return endedUnpaid(request.state);
  if (book.context.time_s >= request.expires_s) return "request_expired";
  return request.amount === order.amount ? undefined : "request_differs";
}

/**
 * Why an order may not give back the payment that it names. Only its payee may, to its payer, and
 * all refunds of a payment add up to its amount at most. Parties are names, so a replaced key does
 * not matter.
 */
function refundFlaw(book: Book, order: Order): RefusalReason | undefined {
  if (order.refundOf === null) return undefined;
  const target = book.refundTarget(order.refundOf);
  const isTheirs = target?.payee === order.payer && order.refundOf.payer === order.payee;
  if (target === undefined || !isTheirs) return "refund_unknown";
  if (target.isRefund) return "refund_of_refund";
  return target.refunded + order.amount > target.amount ? "refund_too_much" : undefined;
}

/** The old key gives the account a new one. */
function rotate(book: Book, submission: Submission & { type: "rotate" }): Outcome {
  const { oldKey, rotation: { claims, sha256 }, countersignature } = submission.signed;
  const account = book.account(claims.account);
  if (account === undefined || account.key === null) return refused("wrong_key");
  const { thumbprint: key } = claims.key;
  if (claims.server !== book.context.server) return refused("wrong_server");
  if (account.key === key) return { state: "rotated", index: account.keyed, again: true };
  // The signature was verified before the commit, under a key that an earlier submission may have
  // replaced since.
  if (account.key !== oldKey || claims.replaces !== account.keyed) return refused("wrong_key");
  if (isFromFuture(claims.iat, book.context.time_s)) return refused("order_from_future");
  const index = book.rotate(submission.signed, {
    type: "account.key",
    account: claims.account,
    key,
    replaces: claims.replaces,
    rotationSha256: sha256,
    countersignatureSha256: countersignature.sha256,
  });
  return { state: "rotated", index, again: false };
}

function request(book: Book, { request }: Submission & { type: "request" }): Outcome {
  const { payee, payer, id } = request;
  const known = book.request(payee, id);
  if (known !== undefined) {
    const same = known.payer === payer && known.amount === request.amount &&
      known.memo === request.memo;
    return same ? { state: "request", request: known } : refused("order_conflict");
  }
  if (payee === payer) return refused("payer_is_payee");
  const { total, toPayer } = book.pendingRequests(payee, payer);
  if (total >= REQUESTS_MAX || toPayer >= REQUESTS_TO_PAYER_MAX) return refused("request_limit");
  if (payer !== null && book.account(payer) === undefined) return refused("unknown_account");
  const { life_s, ...asked } = request;
  const created_s = book.context.time_s;
  return book.keepRequest({
    ...asked,
    created_s,
    expires_s: created_s + Math.min(life_s, REQUEST_LIFE_S_MAX),
    state: "pending",
    index: 0,
  });
}

/** Its payer declines a request; its payee withdraws it. */
function closeRequest(book: Book, submission: Submission & { type: "close-request" }): Outcome {
  const { by, payee, id } = submission;
  const request = book.request(payee, id);
  if (request === undefined || (by !== payee && by !== request.payer)) {
    return refused("request_unknown");
  }
  const state = by === payee ? "withdrawn" : "declined";
  if (request.state === state) return { state: "request", request };
  if (request.state === "paid") return refused("request_paid");
  if (request.state !== "pending") return refused(endedUnpaid(request.state));
  return book.keepRequest({ ...request, state });
}

/** Only the payer's signed word ends an id unpaid. */
function cancel(book: Book, submission: Submission & { type: "cancel" }): Outcome {
  const { cancel: { claims, sha256 }, delegation } = submission.signed;
  const payer = book.account(claims.payer);
  if (payer === undefined || payer.key !== delegation.claims.key.thumbprint) {
    return refused("wrong_key");
  }
  const ending = book.ending(claims.payer, claims.id);
  if (ending !== undefined) return { state: ending.state, index: ending.index, again: true };
  const flaw = book.flaw(delegation.claims);
  if (flaw !== undefined) return refused(flaw);
  if (isFromFuture(claims.iat, book.context.time_s)) return refused("order_from_future");
  return book.cancel(submission, sha256, {
    type: "cancel",
    id: claims.id,
    payer: claims.payer,
    payerKey: payer.key,
    cancelSha256: sha256,
    delegationSha256: delegation.sha256,
  });
}

/**
 * An unsigned order can debit only an account that a classic client opened. Such an account has no
 * key, and an account that has a key is paid from by that key alone.
 */
function payUnsigned(book: Book, submission: Submission & { type: "unsigned" }): Outcome {
  const { id, payer: payerName, payee, amount } = submission;
  const payer = book.account(payerName);
  if (payer === undefined) return refused("unknown_account");
  if (payer.key !== null) return refused("signature_required");
  if (payerName === payee) return refused("payer_is_payee");
  const contentSha256 = unsignedSha256(payee, amount);
  const before = book.before(payerName, id, contentSha256);
  if (before !== undefined) return before;
  if (payer.balance < amount) return refused("insufficient_funds");
  const payeeAccount = book.account(payee);
  if (payeeAccount === undefined) return refused("unknown_payee");
  const keys = { payerKey: null, payeeKey: payeeAccount.key };
  const parties = { payer: payerName, payee };
  return book.transfer(submission, contentSha256, {
    ...NOBODY_SIGNED,
    ...parties,
    ...keys,
    id,
    amount,
  });
}

/** The accounts and ids while a commit is being made. */
class Book {
  private readonly changed = new Map<string, Account>();
  private readonly ended = new Map<string, NewEnding>();
  private readonly entries: Entry[] = [];
  private readonly postings: Posting[] = [];
  private readonly openings: Opening[] = [];
  private readonly rotations: SignedRotation[] = [];
  private readonly changedRequests = new Map<string, PaymentRequest>();
  private readonly refunds = new Map<string, RefundTotal>();
  settings: Settings;
  isMoved: boolean;

  constructor(readonly context: CommitContext, private readonly view: LedgerView) {
    this.settings = context.settings;
    this.isMoved = context.isMoved;
  }

  account(name: Party): Account | undefined {
    return this.changed.get(name) ?? this.view.accounts.get(name) ??
      (name === TREASURY ? treasury(this.context.server) : undefined);
  }

  /** Why a delegation does not hold for this server at this time. */
  flaw(delegation: Delegation): DelegationFlaw | undefined {
    const { server, time_s } = this.context;
    return delegationFlaw(delegation, { server, now_s: time_s });
  }

  ending(payer: Party, id: Uuid): Ending | undefined {
    const key = endingKey(payer, id);
    return this.ended.get(key) ?? this.view.endings.get(key);
  }

  /**
   * What a payment's id has ended as, seen from one who submits `contentSha256`; undefined while it
   * has not.
   */
  before(payer: Party, id: Uuid, contentSha256: Sha256): Outcome | undefined {
    const ending = this.ending(payer, id);
    if (ending === undefined) return undefined;
    if (ending.state === "cancelled") return refused("cancelled");
    if (ending.contentSha256 !== contentSha256) return refused("order_conflict");
    return { state: "settled", index: ending.index, again: true };
  }

  open(
    name: AccountName,
    id: Uuid,
    delegation: Token<Delegation> | null,
    invite: string | null,
  ): number {
    const key = delegation?.claims.key.thumbprint ?? null;
    const delegationSha256 = delegation?.sha256 ?? null;
    const index = this.add({
      type: "account.open",
      id,
      account: name,
      key,
      delegationSha256,
      invite,
    });
    this.changed.set(name, { name, key, balance: 0n, opened: index, keyed: index, changed: index });
    this.openings.push({ name, delegation });
    return index;
  }

  transfer(
    submission: Submission,
    contentSha256: Sha256,
    fact: Omit<Transfer, "type" | "unit">,
  ): Outcome {
    const { id, payer, payee, amount, payerKey, payeeKey, orderSha256, delegationSha256 } = fact;
    const index = this.add({
      type: "transfer",
      id,
      payer,
      payee,
      amount,
      unit: this.context.unit,
      payerKey,
      payeeKey,
      orderSha256,
      delegationSha256,
    });
    this.post(payer, -amount, index);
    this.post(payee, amount, index);
    return this.end(submission, { contentSha256, state: "settled", index });
  }

  batch(
    submission: Submission & { type: "order" },
    contentSha256: Sha256,
    fact: Fact & { type: "batch" },
  ): Outcome {
    const index = this.add(fact);
    this.post(fact.payer, -fact.total, index);
    for (const [payee, amount] of creditsOf(submission.items)) this.post(payee, amount, index);
    return this.end(submission, { contentSha256, state: "settled", index });
  }

  /** Ends the id of an invite that moves no money. */
  useUp(submission: Submission, contentSha256: Sha256, index: number): void {
    this.end(submission, { contentSha256, state: "settled", index });
  }

  cancel(
    submission: Submission,
    contentSha256: Sha256,
    fact: Fact & { type: "cancel" },
  ): Outcome {
    return this.end(submission, { contentSha256, state: "cancelled", index: this.add(fact) });
  }

  rotate(signed: SignedRotation, fact: Fact & { type: "account.key" }): number {
    const index = this.add(fact);
    const account = this.account(fact.account)!;
    this.changed.set(fact.account, { ...account, key: fact.key, keyed: index, changed: index });
    this.rotations.push(signed);
    return index;
  }

  request(payee: AccountName, id: Uuid): PaymentRequest | undefined {
    const key = requestKey(payee, id);
    return this.changedRequests.get(key) ?? this.view.requests.get(key);
  }

  /** Pending requests of `payee`: in all, and to `payer` (0 where anyone may pay). */
  pendingRequests(
    payee: AccountName,
    payer: AccountName | null,
  ): { total: number; toPayer: number } {
    const stored = this.view.pendingRequests.get(payee);
    const count = { total: stored?.total ?? 0, toPayer: 0 };
    if (payer !== null) count.toPayer = stored?.byPayer.get(payer) ?? 0;
    for (const [key, request] of this.changedRequests) {
      if (request.payee !== payee) continue;
      const change = Number(this.isPending(request)) -
        Number(this.isPending(this.view.requests.get(key)));
      count.total += change;
      if (payer !== null && request.payer === payer) count.toPayer += change;
    }
    return count;
  }

  private isPending(request: PaymentRequest | undefined): boolean {
    return request?.state === "pending" && this.context.time_s < request.expires_s;
  }

  keepRequest(request: PaymentRequest): Outcome {
    this.changedRequests.set(requestKey(request.payee, request.id), request);
    return { state: "request", request };
  }

  /** A settled payment, with what earlier orders of this commit gave back of it. */
  refundTarget(reference: PaymentReference): RefundTarget | undefined {
    const key = refundKey(reference);
    const target = this.view.refundTargets.get(key);
    const changed = this.refunds.get(key);
    return target && changed ? { ...target, refunded: changed.total } : target;
  }

  /** Notes that the order, which was just settled, paid its request and gave back what it names. */
  fulfil({ payee, request: id, refundOf, amount }: Order): void {
    const index = this.entries.length - 1 + this.context.firstIndex;
    const request = id === null ? undefined : this.request(payee as AccountName, id);
    if (request !== undefined) this.keepRequest({ ...request, state: "paid", index });
    if (refundOf === null) return;
    const total = this.refundTarget(refundOf)!.refunded + amount;
    this.refunds.set(refundKey(refundOf), { reference: refundOf, total, changed: index });
  }

  record(fact: Fact): Outcome {
    // Another process has opened the ledger meanwhile.
    if (fact.type === "ledger.open" && this.context.firstIndex > 0) {
      return { state: "recorded", index: 0 };
    }
    if (fact.type === "ledger.continued" && !this.isMoved) {
      throw new Error("a ledger that was not moved cannot be continued");
    }
    this.isMoved = fact.type === "ledger.moved";
    if (fact.type === "ledger.open" || fact.type === "ledger.settings") {
      const { openingBalance, registration } = fact;
      this.settings = { openingBalance, registration };
    }
    return { state: "recorded", index: this.add(fact) };
  }

  /** @throws {Error} when the commit would make or lose money, whatever rule went wrong before. */
  close(): Omit<Settlement, "outcomes"> {
    let sum = 0n;
    for (const [name, { balance }] of this.changed) {
      sum += balance - (this.view.accounts.get(name)?.balance ?? 0n);
      if (!isSoundBalance(name, balance)) {
        throw new Error(`the balance of ${name} would be ${balance}`);
      }
    }
    if (sum !== 0n) throw new Error(`the commit would change the sum of all balances by ${sum}`);
    return {
      entries: this.entries,
      newEndings: [...this.ended.values()],
      accounts: [...this.changed.values()],
      postings: this.postings,
      openings: this.openings,
      rotations: this.rotations,
      requests: [...this.changedRequests.values()],
      refunds: [...this.refunds.values()],
      settings: this.settings,
    };
  }

  private add(fact: Fact): number {
    const { firstIndex, time_s: time, makeSalt } = this.context;
    const index = firstIndex + this.entries.length;
    this.entries.push({ ...fact, index, time, salt: makeSalt() });
    return index;
  }

  private post(name: Party, change: bigint, index: number): void {
    const account = this.account(name)!;
    const balance = account.balance + change;
    this.changed.set(name, { ...account, balance, changed: index });
    this.postings.push({ account: name, index, balance });
  }

  private end(submission: Submission, ending: Ending): Outcome {
    const { payer, id } = idOf(submission)!;
    this.ended.set(endingKey(payer, id), { ...ending, payer, id, submission });
    return { state: ending.state, index: ending.index, again: false };
  }
}

/** The treasury before it has paid anyone. */
function treasury(server: Sha256): Account {
  return { name: TREASURY, key: server, balance: 0n, opened: 0, keyed: 0, changed: 0 };
}

/**
 * Only the treasury may be negative. All balances sum to zero, so none can grow past what a number
 * holds.
 */
export function isSoundBalance(name: string, balance: bigint): boolean {
  return name === TREASURY
    ? balance <= 0n && balance >= -AMOUNT_MAX
    : balance >= 0n && balance <= AMOUNT_MAX;
}

/** What a batch credits to each payee, all of that payee's items together. */
export function creditsOf(items: readonly BatchItem[]): Map<AccountName, bigint> {
  const credits = new Map<AccountName, bigint>();
  for (const { payee, amount } of items) {
    credits.set(payee, (credits.get(payee) ?? 0n) + amount);
  }
  return credits;
}
