/** An account's history in the formats of other programs: CSV for spreadsheets, and plain-text accounting. */
import { printable } from "../../base/text.ts";
import type { Unit } from "../../protocol/money.ts";
import { TREASURY } from "../../protocol/party.ts";
import type { HistoryAnswerRow } from "../../protocol/wire.ts";
import { formatTime } from "./times.ts";

/** A row of the history with its memo opened. */
export interface BookRow extends Omit<HistoryAnswerRow, "memo"> {
  readonly memo: string | null;
}

const COLUMNS = [
  "index",
  "payment",
  "time",
  "payer",
  "payee",
  "amount",
  "change",
  "memo",
  "request",
  "refund_of",
  "balance",
] as const;
/** What a spreadsheet takes for the beginning of a formula. */
const FORMULA = /^[=+\-@\t\r]/;
const NUMBER = /^-?\d+(\.\d+)?$/;

export const CSV_HEADER = COLUMNS.join(",");

/** A line of CSV (RFC 4180), without its CRLF. `change` is the amount as it changes the account's balance. */
export function csvLine(account: string, row: BookRow): string {
  const change = row.payee === account ? row.amount : `-${row.amount}`;
  const cells = { ...row, change, time: formatTime(row.time) };
  return COLUMNS.map((column) => csvCell(String(cells[column] ?? ""))).join(",");
}

/** Text that would be a formula is put behind an apostrophe, `@treasury` too. */
function csvCell(value: string): string {
  const shown = printable(value);
  const text = FORMULA.test(shown) && !NUMBER.test(shown) ? `'${shown}` : shown;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Declares the unit, so that amounts are shown with two decimals. */
export function ledgerHeader(unit: Unit): string {
  return `commodity 1000.00 "${unit}"\n`;
}

/**
 * A transaction of plain-text accounting, as hledger reads it. It asserts the balance, so that a line that is missing is
 * noticed. A refund lowers the income or the expense that it undoes.
 */
export function ledgerTransaction(account: string, unit: Unit, row: BookRow): string {
  const isIncome = row.payee === account;
  const other = isIncome ? row.payer : row.payee;
  const isRefund = row.refund_of !== undefined;
  const side = other === TREASURY
    ? "equity:treasury"
    : `${isIncome === isRefund ? "expenses" : "income"}:${other}`;
  const change = isIncome ? row.amount : `-${row.amount}`;
  const notes = [row.memo, isRefund ? `gives back ${row.refund_of}` : null].filter((note) =>
    note !== null
  );
  const note = notes.length === 0 ? "" : ` | ${description(notes.join(", "))}`;
  return [
    `${formatTime(row.time).slice(0, 10)} * (${row.payment}) ${other}${note}`,
    `    assets:sealwire:${account}  ${change} "${unit}" = ${row.balance} "${unit}"`,
    `    ${side}`,
    "",
  ].join("\n");
}

/** `;` would begin a comment, and `|` ends the name of who is paid. */
function description(text: string): string {
  return printable(text).replaceAll(";", ",").replaceAll("|", "/");
}
