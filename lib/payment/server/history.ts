/** Answers with the pages of an account's history. */
import type { Members } from "../../base/parse.ts";
import type { AccountName } from "../../keys/rsa.ts";
import { type Batch, type Entry, formatPaymentId, parseEntry } from "../../ledger/entry.ts";
import type { HistoryRow, LedgerStore } from "../../ledger/store.ts";
import { formatAmount } from "../../protocol/money.ts";
import { isBatch, parseBatchItem, parseOrder } from "../../protocol/order.ts";
import { type HistoryAnswer, type HistoryAnswerRow, PAGE_ROWS_MAX } from "../../protocol/wire.ts";
import type { LoggedIn } from "./session.ts";

export class History {
  constructor(private readonly store: LedgerStore) {}

  /**
   * The page after entry `after`, oldest first, or the one before entry `before`, newest first. It
   * ends after the entry that fills it, so that a batch is never cut in two.
   */
  async page({ account }: LoggedIn, params: Members): Promise<HistoryAnswer> {
    const before = params.has("before")
      ? params.integer("before", 1, Number.MAX_SAFE_INTEGER)
      : null;
    const after = params.has("after") && params.raw("after") !== null
      ? params.integer("after", 0, Number.MAX_SAFE_INTEGER)
      : 0;
    const stored = before === null
      ? await this.store.history(account, after, PAGE_ROWS_MAX)
      : await this.store.historyBefore(account, before, PAGE_ROWS_MAX);
    const rows: HistoryAnswerRow[] = [];
    // Each entry has a row at least, so a full page of entries ends in here.
    for (const [at, row] of stored.entries()) {
      const ofEntry = answerRows(account, row);
      rows.push(...(before === null ? ofEntry : ofEntry.reverse()));
      const isLast = at === stored.length - 1;
      const mayBeMore = !isLast || stored.length === PAGE_ROWS_MAX;
      if (rows.length >= PAGE_ROWS_MAX) {
        return { rows, next: mayBeMore ? rows.at(-1)!.index : null };
      }
    }
    return { rows, next: null };
  }
}

function answerRows(account: AccountName, row: HistoryRow): HistoryAnswerRow[] {
  const entry = parseEntry(row.entryText);
  if (entry.type === "batch") return batchRows(account, entry, row);
  if (entry.type !== "transfer") throw new TypeError(`${entry.type} moves no money`);
  return [{
    index: entry.index,
    payment: formatPaymentId(entry.id, null),
    time: entry.time,
    payer: entry.payer,
    payee: entry.payee,
    amount: formatAmount(entry.amount),
    ...purposeOf(row.signedText),
    balance: formatAmount(row.balance),
  }];
}

/**
 * A row for each item that is the account's business, with the balance as if they had come one by
 * one.
 */
function batchRows(
  account: AccountName,
  { index, id, time, payer }: Entry<Batch>,
  row: HistoryRow,
): HistoryAnswerRow[] {
  const isPayer = account === payer;
  const items = row.itemTexts!.map(parseBatchItem);
  const own = isPayer ? items : items.filter(({ payee }) => payee === account);
  const changeOf = (amount: bigint) => isPayer ? -amount : amount;
  let balance = row.balance - own.reduce((sum, { amount }) => sum + changeOf(amount), 0n);
  return own.map(({ index: item, payee, amount }) => {
    balance += changeOf(amount);
    return {
      index,
      payment: formatPaymentId(id, item),
      time,
      payer,
      payee,
      amount: formatAmount(amount),
      memo: null,
      balance: formatAmount(balance),
    };
  });
}

/** What an order says beside who pays whom how much. */
function purposeOf(
  orderText: string | null,
): Pick<HistoryAnswerRow, "memo" | "request" | "refund_of"> {
  const order = orderText === null ? null : parseOrder(orderText).claims;
  if (order === null || isBatch(order)) return { memo: null };
  const { memo, request, refundOf } = order;
  return {
    memo,
    ...(request !== null && { request }),
    ...(refundOf !== null && { refund_of: formatPaymentId(refundOf.id, refundOf.item) }),
  };
}
