/**
 * The rules of the ledger, as a pure function: accounts and submissions in, entries and refusals out. What decides over
 * money is all here; nothing here waits, reads a clock or touches a disk.
 */
import { type Delegation, type DelegationFlaw, delegationFlaw } from "../protocol/delegation.ts";
import type { AccountName } from "../keys/rsa.ts";
import { type Amount, AMOUNT_MAX, formatAmount } from "../protocol/money.ts";
import { isBatch, untimely } from "../protocol/order.ts";
import type { Sha256, Uuid } from "../base/parse.ts";
import { sha256Text, type Token } from "../protocol/token.ts";
import { type Entry, type Party, type Transfer, TREASURY } from "./entry.ts";
import {
  idOf,
  type NewOutcome,
  type Outcome,
  outcomeKey,
  type RecordedOutcome,
  type Submission,
  type VoidReason,
} from "./submission.ts";

/** An account as it stands. */
export interface Account {
  readonly name: Party;
  /** Thumbprint of its RSA key; the server's own for the treasury; null when a classic client opened it. */
  readonly key: Sha256 | null;
  readonly balance: bigint;
}

/** What the rules need to know of the ledger: every account and id that the submissions name. */
export interface LedgerView {
  readonly accounts: ReadonlyMap<string, Account>;
  /** By {@linkcode outcomeKey}. */
  readonly outcomes: ReadonlyMap<string, RecordedOutcome>;
}

/** The block that is being made. */
export interface BlockContext {
  readonly time_s: number;
  readonly firstSeq: number;
  /** Thumbprint of the server's key. */
  readonly server: Sha256;
  /** SHA-256 of the server's certificate. */
  readonly cert: Sha256;
}

/** One account's balance after one entry. */
export interface Posting {
  readonly account: Party;
  readonly seq: number;
  readonly balance: bigint;
}

export interface Settlement {
  readonly entries: readonly Entry[];
  /** One for each submission, in order. */
  readonly outcomes: readonly Outcome[];
  readonly newOutcomes: readonly NewOutcome[];
  /** Accounts that changed, as they are after the block. */
  readonly accounts: readonly Account[];
  readonly postings: readonly Posting[];
}

/** Applies the rules to `submissions` in order. */
export function settle(
  block: BlockContext,
  view: LedgerView,
  submissions: readonly Submission[],
): Settlement {
  const book = new Book(block, view);
  const outcomes = submissions.map((submission) => settleOne(book, submission));
  return { outcomes, ...book.close() };
}

function settleOne(book: Book, submission: Submission): Outcome {
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
  }
}

/** `delegation` null: a classic account, which has no key. */
function open(
  book: Book,
  submission: Submission & { type: "open" | "open-classic" },
  name: AccountName,
  delegation: Token<Delegation> | null,
): Outcome {
  const { id, openingBalance } = submission;
  const key = delegation?.claims.key.thumbprint ?? null;
  const existing = book.account(name);
  if (existing !== undefined) {
    // Without a key nobody can show that the account is theirs.
    return key !== null && existing.key === key
      ? { state: "opened", again: true }
      : { state: "rejected", reason: "name_taken" };
  }
  const flaw = delegation === null ? undefined : book.flaw(delegation.claims);
  if (flaw !== undefined) return { state: "rejected", reason: flaw };
  if (book.before(TREASURY, id, null) !== undefined) {
    return { state: "rejected", reason: "order_conflict" };
  }
  const account = { name, key };
  const amount = openingBalance as Amount;
  if (amount > 0n && book.refusal(TREASURY, [{ payee: name, amount }], account)) {
    return { state: "rejected", reason: "treasury_limit" };
  }
  book.open(account, id, delegation?.sha256 ?? null);
  if (amount > 0n) {
    const contentSha256 = unsignedSha256(name, amount);
    book.transfer(submission, contentSha256, [issue(id, book.block.server, account, amount)]);
  }
  return { state: "opened", again: false };
}

function grant(book: Book, submission: Submission & { type: "grant" }): Outcome {
  const { id, payee: name, amount } = submission;
  const contentSha256 = unsignedSha256(name, amount);
  const before = book.before(TREASURY, id, contentSha256);
  if (before !== undefined) return before;
  const payee = book.account(name);
  if (payee === undefined) return { state: "rejected", reason: "unknown_account" };
  const refusal = book.refusal(TREASURY, [{ payee: name, amount }]);
  if (refusal !== undefined) return book.void(submission, contentSha256, refusal);
  return book.transfer(submission, contentSha256, [issue(id, book.block.server, payee, amount)]);
}

/** What makes two payments that nobody signed the same, under one id: payee and amount. */
export function unsignedSha256(payee: AccountName, amount: Amount): Sha256 {
  return sha256Text(JSON.stringify({ payee, amount: formatAmount(amount) }));
}

function issue(
  id: Uuid,
  server: Sha256,
  payee: { readonly name: Party; readonly key: Sha256 | null },
  amount: Amount,
): Omit<Transfer, "seq"> {
  return {
    type: "transfer",
    id,
    index: null,
    payer: TREASURY,
    payee: payee.name as AccountName,
    amount,
    payerKey: server,
    payeeKey: payee.key,
    orderSha256: null,
    delegationSha256: null,
  };
}

function cancel(book: Book, submission: Submission & { type: "cancel" }): Outcome {
  const before = book.before(submission.payer, submission.id, null);
  return before ?? book.void(submission, null, "cancelled");
}

function pay(book: Book, submission: Submission & { type: "order" }): Outcome {
  const { order: { claims: order, sha256: orderSha256 }, delegation } = submission.signed;
  const payer = book.account(order.payer);
  if (payer === undefined) return { state: "rejected", reason: "unknown_account" };
  if (payer.key !== delegation.claims.key.thumbprint) {
    return { state: "rejected", reason: "wrong_key" };
  }
  if (order.server !== book.block.server) return { state: "rejected", reason: "wrong_server" };
  const before = book.before(order.payer, order.id, orderSha256);
  if (before !== undefined) return before;
  const flaw = book.flaw(delegation.claims);
  // An order ends before its delegation does: that it has expired is its end, and recorded.
  if (flaw !== undefined && flaw !== "delegation_expired") {
    return { state: "rejected", reason: flaw };
  }

  const items = isBatch(order) ? submission.items : [{ ...order, index: null }];
  const refusal = untimely(order, book.block.time_s) ?? book.refusal(order.payer, items);
  if (refusal !== undefined) return book.void(submission, orderSha256, refusal);
  return book.transfer(
    submission,
    orderSha256,
    items.map(({ index, payee, payeeKey, amount }) => ({
      type: "transfer",
      id: order.id,
      index,
      payer: order.payer,
      payee,
      amount,
      payerKey: payer.key,
      payeeKey,
      orderSha256,
      delegationSha256: delegation.sha256,
    })),
  );
}

/**
 * An unsigned order can debit only an account that a classic client opened: such an account has no key, and an account that
 * has a key is paid from by that key alone.
 */
function payUnsigned(book: Book, submission: Submission & { type: "unsigned" }): Outcome {
  const { id, payer: payerName, payee: payeeName, amount } = submission;
  const payer = book.account(payerName);
  if (payer === undefined) return { state: "rejected", reason: "unknown_account" };
  if (payer.key !== null) return { state: "rejected", reason: "signature_required" };
  if (payerName === payeeName) return { state: "rejected", reason: "payer_is_payee" };
  const contentSha256 = unsignedSha256(payeeName, amount);
  const before = book.before(payerName, id, contentSha256);
  if (before !== undefined) return before;
  const reason = book.refusal(payerName, [{ payee: payeeName, amount }]);
  if (reason !== undefined) return { state: "rejected", reason };
  const payeeKey = book.account(payeeName)!.key;
  const keys = { payerKey: null, payeeKey, orderSha256: null, delegationSha256: null };
  const parties = { payer: payerName, payee: payeeName };
  return book.transfer(submission, contentSha256, [
    { type: "transfer", id, index: null, ...parties, amount, ...keys },
  ]);
}

/** One payment as the balance rules see it. Without `payeeKey`: whoever the payee is now. */
interface Movement {
  readonly payee: AccountName;
  readonly payeeKey?: Sha256 | null;
  readonly amount: Amount;
}

/** The accounts and ids while a block is being made. */
class Book {
  private readonly changed = new Map<string, Account>();
  private readonly ended = new Map<string, NewOutcome>();
  private readonly entries: Entry[] = [];
  private readonly postings: Posting[] = [];

  constructor(readonly block: BlockContext, private readonly view: LedgerView) {}

  account(name: Party): Account | undefined {
    return this.changed.get(name) ?? this.view.accounts.get(name) ??
      (name === TREASURY ? { name, key: this.block.server, balance: 0n } : undefined);
  }

  /** Why a delegation does not hold for this server in this block. */
  flaw(delegation: Delegation): DelegationFlaw | undefined {
    const { server, cert, time_s } = this.block;
    return delegationFlaw(delegation, { server, cert, now_s: time_s });
  }

  /** What the id ended as already, seen from one who submits `contentSha256` (null: who only asks for its end). */
  before(payer: Party, id: Uuid, contentSha256: Sha256 | null): Outcome | undefined {
    const key = outcomeKey(payer, id);
    const recorded = this.ended.get(key) ?? this.view.outcomes.get(key);
    if (recorded === undefined) return undefined;
    const { contentSha256: known, end } = recorded;
    if (contentSha256 !== null && known !== null && contentSha256 !== known) {
      return { state: "rejected", reason: "order_conflict" };
    }
    return "settled" in end
      ? { state: "settled", entries: end.settled, again: true }
      : { state: "void", reason: end.void, again: true };
  }

  /** Why the balances do not allow these movements, all together; undefined when they do. */
  refusal(
    payer: Party,
    movements: readonly Movement[],
    opening?: { readonly name: Party; readonly key: Sha256 | null },
  ): VoidReason | undefined {
    const credits = new Map<string, bigint>();
    let total = 0n;
    for (const { payee: name, payeeKey, amount } of movements) {
      const payee = name === opening?.name ? { ...opening, balance: 0n } : this.account(name);
      if (payee === undefined) return "unknown_payee";
      if (payeeKey !== undefined && payee.key !== payeeKey) return "payee_key_changed";
      const credited = (credits.get(name) ?? payee.balance) + amount;
      if (credited > AMOUNT_MAX) return "balance_limit";
      credits.set(name, credited);
      total += amount;
    }
    const left = this.account(payer)!.balance - total;
    if (payer === TREASURY) return left < -AMOUNT_MAX ? "balance_limit" : undefined;
    return left < 0n ? "insufficient_funds" : undefined;
  }

  open(
    account: { readonly name: AccountName; readonly key: Sha256 | null },
    id: Uuid,
    delegationSha256: Sha256 | null,
  ): void {
    const { name, key } = account;
    const seq = this.nextSeq();
    this.entries.push({ type: "account.open", seq, id, account: name, key, delegationSha256 });
    this.changed.set(name, { ...account, balance: 0n });
  }

  transfer(
    submission: Submission,
    contentSha256: Sha256,
    transfers: readonly Omit<Transfer, "seq">[],
  ): Outcome {
    const settled = { seq: this.nextSeq(), count: transfers.length };
    for (const transfer of transfers) {
      const seq = this.nextSeq();
      this.entries.push({ ...transfer, seq });
      this.post(transfer.payer, -transfer.amount, seq);
      this.post(transfer.payee, transfer.amount, seq);
    }
    this.end(submission, contentSha256, { settled });
    return { state: "settled", entries: settled, again: false };
  }

  void(submission: Submission, contentSha256: Sha256 | null, reason: VoidReason): Outcome {
    this.end(submission, contentSha256, { void: reason });
    return { state: "void", reason, again: false };
  }

  /** @throws {Error} when the block would make or lose money, whatever rule went wrong before. */
  close(): Omit<Settlement, "outcomes"> {
    let sum = 0n;
    for (const [name, { balance }] of this.changed) {
      sum += balance - (this.view.accounts.get(name)?.balance ?? 0n);
      const sound = name === TREASURY
        ? balance <= 0n && balance >= -AMOUNT_MAX
        : balance >= 0n && balance <= AMOUNT_MAX;
      if (!sound) throw new Error(`the balance of ${name} would be ${balance}`);
    }
    if (sum !== 0n) throw new Error(`the block would change the sum of all balances by ${sum}`);
    return {
      entries: this.entries,
      newOutcomes: [...this.ended.values()],
      accounts: [...this.changed.values()],
      postings: this.postings,
    };
  }

  private nextSeq(): number {
    return this.block.firstSeq + this.entries.length;
  }

  private post(name: Party, change: bigint, seq: number): void {
    const account = this.account(name)!;
    const balance = account.balance + change;
    this.changed.set(name, { ...account, balance });
    this.postings.push({ account: name, seq, balance });
  }

  private end(
    submission: Submission,
    contentSha256: Sha256 | null,
    end: RecordedOutcome["end"],
  ): void {
    const { payer, id } = idOf(submission);
    this.ended.set(outcomeKey(payer, id), { payer, id, contentSha256, end, submission });
  }
}
