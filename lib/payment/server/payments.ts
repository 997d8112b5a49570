/** What a session may have done about payments, and who hears of it. Over money the ledger decides. */
import { type Delegation, verifyDelegation } from "../../protocol/delegation.ts";
import { SealwireError } from "../../base/errors.ts";
import { type AccountName, parseAccountName } from "../../keys/rsa.ts";
import { formatPaymentId, parseEntry } from "../../ledger/entry.ts";
import { type Ledger, type OrderTexts, orderTexts, storedOrderTexts } from "../../ledger/ledger.ts";
import type { HistoryRow, LedgerStore, StoredPayment } from "../../ledger/store.ts";
import type { Outcome, SettledEntries, Submission } from "../../ledger/submission.ts";
import { formatAmount } from "../../protocol/money.ts";
import {
  BATCH_ITEMS_MAX,
  isBatch,
  parseBatchItems,
  parseOrder,
  verifySignedOrder,
} from "../../protocol/order.ts";
import { Members } from "../../base/parse.ts";
import type { SealedMemo } from "../../protocol/sealing.ts";
import type { Token } from "../../protocol/token.ts";
import type { LoginsOptions } from "./login.ts";
import type { Presence } from "./presence.ts";
import { refusal } from "./refusals.ts";
import type { ServerSession } from "./session.ts";
import { VoidBudget } from "./budgets.ts";
import {
  type HistoryAnswer,
  type HistoryAnswerRow,
  PAGE_ROWS_MAX,
  type SettledAnswer,
} from "../../protocol/wire.ts";

/** Verified delegations that are remembered. */
const DELEGATIONS_KEPT_MAX = 10_000;

export type PaymentsOptions = Pick<LoginsOptions, "ledger" | "store" | "now_s" | "log">;

export class Payments {
  private readonly delegations = new Map<string, Promise<Token<Delegation>>>();
  private readonly voids: VoidBudget;
  private readonly ledger: Ledger;
  private readonly store: LedgerStore;
  private readonly log: PaymentsOptions["log"];

  constructor(options: PaymentsOptions, private readonly presence: Presence<ServerSession>) {
    this.ledger = options.ledger;
    this.store = options.store;
    this.log = options.log;
    this.voids = new VoidBudget(options.now_s);
  }

  async settle(session: ServerSession, params: Members): Promise<SettledAnswer> {
    const signed = await verifySignedOrder(
      params.raw("order"),
      params.raw("delegation"),
      (text) => this.verifiedDelegation(text),
    );
    const order = signed.order.claims;
    const items = isBatch(order)
      ? parseBatchItems(order, params.list("items", BATCH_ITEMS_MAX))
      : [];
    const party = session.account === order.payer ||
      (!isBatch(order) && session.account === order.payee);
    if (!party) {
      throw new SealwireError("not_a_party", "only its payer or payee may have an order settled");
    }
    const submission = { type: "order", signed, items } as const;
    const outcome = await this.submit(order.payer, submission);
    if (outcome.state === "void" || outcome.state === "rejected") throw refusal(outcome);
    if (outcome.state !== "settled") throw new TypeError(`an order ended as ${outcome.state}`);
    if (!outcome.again) {
      this.log("settled", { payment: order.id, payer: order.payer });
      this.announce(session, submission, outcome.entries);
    }
    const index = isBatch(order) ? null : undefined;
    return await this.settledAnswer(
      session.account,
      orderTexts(submission),
      outcome.entries,
      index,
    );
  }

  /** A void counts for the payer, who signed it, whoever hands it in: a payee's listener hands in what strangers sign. */
  private async submit(payer: AccountName, submission: Submission): Promise<Outcome> {
    this.voids.require(payer);
    const outcome = await this.ledger.submit(submission);
    if (outcome.state === "void" && !outcome.again) this.voids.spend(payer);
    return outcome;
  }

  /** A delegation as it comes with an order; a day's orders share one. */
  private verifiedDelegation(text: unknown): Promise<Token<Delegation>> {
    if (typeof text !== "string") return verifyDelegation(text);
    const known = this.delegations.get(text);
    if (known !== undefined) return known;
    const verified = verifyDelegation(text);
    verified.then(() => {
      this.delegations.set(text, verified);
      if (this.delegations.size > DELEGATIONS_KEPT_MAX) {
        this.delegations.delete(this.delegations.keys().next().value!);
      }
    }, () => {});
    return verified;
  }

  /**
   * What a party hears of a settled payment. `order` null: nobody signed it, so it has no receipt. `index`: which of a batch;
   * undefined for a plain payment; null for a whole batch, whose receipts are asked for one by one.
   */
  private async settledAnswer(
    account: AccountName,
    order: OrderTexts | null,
    entries: SettledEntries,
    index: number | null | undefined,
  ): Promise<SettledAnswer> {
    const seq = entries.seq + (index === null ? entries.count - 1 : index ?? 0);
    const [balance] = await this.store.balancesAfter([{ account, seq }]);
    const receipt = index === null || order === null
      ? {}
      : { receipt: await this.ledger.receipt(order, entries, index ?? null) };
    return { state: "settled", ...receipt, balance: formatAmount(balance ?? 0n) };
  }

  /** Tells `account` of a payment in entry `seq` that nobody signed, and that has no receipt therefore. */
  announceUnsigned(account: AccountName, seq: number): void {
    let answer: Promise<SettledAnswer> | null = null;
    const make = () => answer ??= this.settledAnswer(account, null, { seq, count: 1 }, undefined);
    for (const session of this.presence.sessionsOf(account)) session.pushes.add(make);
  }

  /** Tells payer and payees of what was settled, but for `teller`, who has the answer. */
  private announce(
    teller: ServerSession,
    submission: Submission & { type: "order" },
    entries: SettledEntries,
  ): void {
    const order = submission.signed.order.claims;
    const texts = orderTexts(submission);
    const hearers: { account: AccountName; index: number | undefined }[] = isBatch(order)
      ? submission.items.map(({ payee, index }) => ({ account: payee, index }))
      : [{ account: order.payer, index: undefined }, { account: order.payee, index: undefined }];
    for (const { account, index } of hearers) {
      let answer: Promise<SettledAnswer> | null = null;
      const make = () => answer ??= this.settledAnswer(account, texts, entries, index);
      for (const session of this.presence.sessionsOf(account)) {
        if (session !== teller) session.pushes.add(make);
      }
    }
  }

  /**
   * The payment that `params` names, when the asker is a party of it; null when it is none of the asker's. `index`: as in
   * {@linkcode settledAnswer}; a whole batch is its payer's alone.
   */
  private async findPayment(
    session: ServerSession,
    params: Members,
  ): Promise<{ payment: StoredPayment; index: number | null | undefined } | null> {
    const id = params.uuid("id");
    const payer = params.has("payer") ? parseAccountName(params.raw("payer")) : session.account;
    const index = params.has("index") ? params.integer("index", 0, BATCH_ITEMS_MAX - 1) : undefined;
    const isPayer = session.account === payer;
    const payment = await this.store.payment(payer, id);
    if (payment === null) return null;
    if ("void" in payment.end) return isPayer ? { payment, index } : null;
    const { seq, count } = payment.end.settled;
    const batch = payment.itemTexts !== null;
    if (batch && index === undefined) return isPayer ? { payment, index: null } : null;
    if (index !== undefined && (!batch || index >= count)) return null;
    if (isPayer) return { payment, index };
    const entry = parseEntry((await this.ledger.prove(seq + (index ?? 0))).entry);
    return entry.type === "transfer" && entry.payee === session.account ? { payment, index } : null;
  }

  async status(session: ServerSession, params: Members): Promise<object> {
    const found = await this.findPayment(session, params);
    if (found === null) return { state: "unknown" };
    const { payment, index } = found;
    if ("void" in payment.end) return { state: "void", reason: payment.end.void };
    const order = storedOrderTexts(payment);
    return await this.settledAnswer(session.account, order, payment.end.settled, index);
  }

  async receipt(session: ServerSession, params: Members): Promise<{ receipt: string }> {
    const found = await this.findPayment(session, params);
    const order = found && storedOrderTexts(found.payment);
    const unknown = new SealwireError(
      "unknown_payment",
      "no settled payment of this account has that id",
    );
    if (!found || !order || "void" in found.payment.end) throw unknown;
    const { payment: { end: { settled } }, index } = found;
    if (index === null) {
      throw new SealwireError("index_required", "this is a batch: say which of its payments");
    }
    return { receipt: await this.ledger.receipt(order, settled, index ?? null) };
  }

  async cancel(session: ServerSession, params: Members): Promise<object> {
    const id = params.uuid("id");
    const { account } = session;
    const outcome = await this.submit(account, { type: "cancel", payer: account, id });
    if (outcome.state === "rejected") throw refusal(outcome);
    return await this.status(session, new Members({ id }, "params", "invalid_params"));
  }

  async history(session: ServerSession, params: Members): Promise<HistoryAnswer> {
    const after = params.has("after") ? params.integer("after", 0, Number.MAX_SAFE_INTEGER) : 0;
    const rows = (await this.store.history(session.account, after, PAGE_ROWS_MAX)).map(
      historyRow,
    );
    return { rows, next: rows.length === PAGE_ROWS_MAX ? rows.at(-1)!.seq : null };
  }
}

function historyRow({ entryText, orderText, time_s, balance }: HistoryRow): HistoryAnswerRow {
  const entry = parseEntry(entryText);
  if (entry.type !== "transfer") throw new Error("an account.open moves no money");
  return {
    seq: entry.seq,
    payment: formatPaymentId(entry.id, entry.index),
    time: time_s,
    payer: entry.payer,
    payee: entry.payee,
    amount: formatAmount(entry.amount),
    memo: orderText === null ? null : memoOf(orderText),
    balance: formatAmount(balance),
  };
}

function memoOf(orderText: string): SealedMemo | null {
  const order = parseOrder(orderText).claims;
  return isBatch(order) ? null : order.memo;
}
