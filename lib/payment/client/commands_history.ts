/** Past payments: the history, and one payment found by its id or the start of one. */
import process from "node:process";
import { SealwireError } from "../../base/errors.ts";
import type { Uuid } from "../../base/parse.ts";
import { parseInteger, usageError } from "../../cli/arguments.ts";
import { columnsOf, truncated } from "../../cli/columns.ts";
import type { AccountName } from "../../keys/rsa.ts";
import { formatPaymentId } from "../../ledger/entry.ts";
import type { HistoryAnswerRow } from "../../protocol/wire.ts";
import { type CommandContext, openClient, withClient } from "./commands_context.ts";
import { quoted } from "./commands_print.ts";
import type { ClientRun } from "./commands_table.ts";
import { readMemo } from "./payee.ts";
import type { PaymentClient } from "./payer.ts";
import type { PaymentState } from "./session.ts";
import { formatLocalTime, formatTime } from "./times.ts";

const ROWS_MAX = 1_000_000;
const SHORT_ID_CHARACTERS = 8;
const SHORT_ID_CHARACTERS_MIN = 4;
const NAME_COLUMNS = 16;
const UUID_CHARACTERS = 36;
/** A whole id or the start of one; of a batch, with the item's index. */
const ID_START = /^([0-9a-f][0-9a-f-]{3,35})(?:\/(\d{1,3}))?$/;
const DAY = /^(\d{4})-(\d{2})-(\d{2})$/;

/** Which payments to show. */
export interface HistoryFilter {
  /** The newest so many; null for all. */
  readonly count: number | null;
  readonly other: string | null;
  /** Seconds since 1970; the first is included, the last is not. */
  readonly since_s: number;
  readonly until_s: number;
  readonly direction: "in" | "out" | "both";
  readonly wide: boolean;
}

/** Throws `usage`. */
export function parseHistoryFilter(
  { args: { count }, values }: ClientRun<"history">,
): HistoryFilter {
  return {
    count: count === undefined ? null : parseInteger("[count]", count, 1, ROWS_MAX),
    other: values.with ?? null,
    since_s: values.since === undefined ? 0 : dayStart_s("--since", values.since, 0),
    until_s: values.until === undefined ? Infinity : dayStart_s("--until", values.until, 1),
    direction: values.in ? "in" : values.out ? "out" : "both",
    wide: values.wide,
  };
}

/**
 * The start of the day that is `days` after the one given, in local time, in seconds since 1970.
 */
function dayStart_s(option: string, text: string, days: number): number {
  const [, year, month, day] = DAY.exec(text) ?? [];
  const date = new Date(Number(year), Number(month) - 1, Number(day));
  const exists = date.getMonth() === Number(month) - 1 && date.getDate() === Number(day);
  if (!exists) throw usageError(`${option} takes a day such as 2026-11-24, not "${text}"`);
  date.setDate(date.getDate() + days);
  return date.getTime() / 1000;
}

/** Shows payments, newest last. */
export async function history(
  context: CommandContext,
  account: AccountName,
  filter: HistoryFilter,
): Promise<void> {
  await withClient(context, account, async (client, options) => {
    for await (const row of selectRows(client, account, filter)) {
      const memo = await readMemo(row.memo, options);
      const { payment, payer, payee, amount, request, refund_of, balance } = row;
      const time = formatTime(row.time);
      const purpose = { ...(request && { request }), ...(refund_of && { refund_of }) };
      const result = { payment, time, payer, payee, amount, memo, ...purpose, balance };
      const line = filter.wide ? wideLine(account, row, memo) : shortLine(account, row, memo);
      context.out.result(result, line);
    }
  });
}

/** The rows that the filter lets through, oldest first. */
async function* selectRows(
  client: PaymentClient,
  account: AccountName,
  filter: HistoryFilter,
): AsyncIterable<HistoryAnswerRow> {
  const { count, since_s } = filter;
  const isWanted = (row: HistoryAnswerRow) => isInFilter(account, row, filter);
  if (count === null && since_s === 0) {
    for await (const row of client.session.history(0)) if (isWanted(row)) yield row;
    return;
  }
  // The newest come first here, so that a long history need not be read to its beginning.
  const newest: HistoryAnswerRow[] = [];
  for await (const page of client.session.historyBackwards()) {
    newest.push(...page.filter(isWanted));
    const isEnough = count !== null && newest.length >= count;
    if (isEnough || page.some(({ time }) => time < since_s)) break;
  }
  yield* newest.slice(0, count ?? newest.length).reverse();
}

function isInFilter(
  account: AccountName,
  { payer, payee, time }: HistoryAnswerRow,
  { other, since_s, until_s, direction }: HistoryFilter,
): boolean {
  if (time < since_s || time >= until_s) return false;
  if (other !== null && payer !== other && payee !== other) return false;
  return direction === "both" || (direction === "in" ? payee : payer) === account;
}

/** Fits the terminal: local time, the start of the id, and as much of the memo as there is room. */
function shortLine(account: AccountName, row: HistoryAnswerRow, memo: string | null): string {
  const isIn = row.payee === account;
  const amount = `${isIn ? "+" : "-"}${row.amount}`.padStart(10);
  const other = truncated(isIn ? row.payer : row.payee, NAME_COLUMNS).padEnd(NAME_COLUMNS);
  const line = `${formatLocalTime(row.time)} ${amount} ${other} ${row.balance.padStart(10)} ${
    shortId(row.payment)
  }`;
  return truncated(line + remarkOf(row, memo), columnsOf(process.stdout));
}

function wideLine(account: AccountName, row: HistoryAnswerRow, memo: string | null): string {
  const isIn = row.payee === account;
  const amount = `${isIn ? "+" : "-"}${row.amount}`.padStart(14);
  const other = (isIn ? `from ${row.payer}` : `to ${row.payee}`).padEnd(24);
  return `${formatTime(row.time)} ${amount} ${other} ${row.balance.padStart(14)} ${row.payment}${
    remarkOf(row, memo)
  }`;
}

function remarkOf({ refund_of }: HistoryAnswerRow, memo: string | null): string {
  return quoted(memo) + (refund_of === undefined ? "" : ` gives back ${refund_of}`);
}

/** The start of a payment's id, and of a batch the item. */
function shortId(payment: string): string {
  const [id, item] = payment.split("/");
  const start = id!.slice(0, SHORT_ID_CHARACTERS);
  return item === undefined ? start : `${start}/${item}`;
}

/** A payment that this account knows of. */
export interface FoundPayment {
  readonly id: Uuid;
  /** Which of a batch; null for a payment by itself, and for a whole batch. */
  readonly item: number | null;
  /** Null where the account's history has none under this id. */
  readonly row: HistoryAnswerRow | null;
}

/**
 * The payment that an id, or its unambiguous start, names.
 *
 * @throws {SealwireError} `usage` for what is no id, and for a start of several; `unknown_payment`
 * for a start of none.
 */
export async function findPayment(client: PaymentClient, text: string): Promise<FoundPayment> {
  const { start, item } = parseIdStart(text);
  const matches = new Map<string, HistoryAnswerRow | null>();
  for (const { order } of client.outbox.all()) {
    if (order.claims.id.startsWith(start)) matches.set(order.claims.id, null);
  }
  const isWhole = start.length === UUID_CHARACTERS;
  for await (const page of client.session.historyBackwards()) {
    for (const row of page) {
      const [id, at] = row.payment.split("/");
      if (!id!.startsWith(start)) continue;
      if (at === undefined || item === null || Number(at) === item) matches.set(id!, row);
    }
    if (isWhole && matches.size > 0) break;
  }
  if (matches.size > 1) {
    const some = [...matches.keys()].slice(0, 3).join(", ");
    throw usageError(`<payment-id> ${text} is the start of several: ${some}`);
  }
  const [match] = matches;
  if (match !== undefined) return { id: match[0] as Uuid, item, row: match[1] };
  if (isWhole) return { id: start as Uuid, item, row: null };
  throw new SealwireError("unknown_payment", `no payment of this account begins with ${text}`);
}

/** Refuses what can be no payment's id, before any server is asked. Throws `usage`. */
export function requirePaymentId(text: string): void {
  parseIdStart(text);
}

function parseIdStart(text: string): { start: string; item: number | null } {
  const [, start, item] = ID_START.exec(text.toLowerCase()) ?? [];
  if (start !== undefined) return { start, item: item === undefined ? null : Number(item) };
  throw usageError(
    `<payment-id> is a payment's id or its first ${SHORT_ID_CHARACTERS_MIN} characters or more, ` +
      `for one of a batch with /index, not "${text}"`,
  );
}

/** Says what became of a payment. */
export async function status(
  context: CommandContext,
  account: AccountName,
  text: string,
): Promise<void> {
  requirePaymentId(text);
  await withClient(context, account, async (client) => {
    const { id, item, row } = await findPayment(client, text);
    if (row !== null) {
      const { payer, payee, amount } = row;
      const payment = formatPaymentId(id, item);
      const time = formatTime(row.time);
      const when = formatLocalTime(row.time);
      context.out.result(
        { payment, state: "settled", payer, payee, amount, time },
        `settled: ${payer} paid ${payee} ${amount} at ${when} (payment ${payment})`,
      );
      return;
    }
    printState(context, id, await client.session.status(id));
  });
}

/** Ends a payment that is not settled, for ever. Throws `order_conflict` where it is settled. */
export async function cancel(
  context: CommandContext,
  account: AccountName,
  text: string,
): Promise<void> {
  requirePaymentId(text);
  // The outbox must not be resolved first: that would settle what is to be cancelled.
  const client = context.live ?? (await openClient(context, account)).client;
  try {
    const { id } = await findPayment(client, text);
    const state = await client.cancelId(id);
    if (state.state !== "cancelled") {
      throw new SealwireError("order_conflict", `payment ${id} is settled: it cannot be cancelled`);
    }
    printState(context, id, state);
  } finally {
    if (context.live === null) await client.end();
  }
}

const STATE_TEXTS: Readonly<Record<PaymentState["state"], string>> = {
  unknown: "unknown: nothing was paid under this id",
  cancelled: "cancelled: nothing was paid, and nothing ever will be under this id",
  settled: "settled",
  batch: "settled, a batch",
  unsigned: "settled",
};

function printState({ out }: CommandContext, payment: string, { state }: PaymentState): void {
  const name = state === "batch" || state === "unsigned" ? "settled" : state;
  out.result({ payment, state: name }, `${STATE_TEXTS[state]} (payment ${payment})`);
}
