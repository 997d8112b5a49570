/** Reading the books: the history for other programs, and statements. */
import { SealwireError } from "../../base/errors.ts";
import { createFileAtomic, PRIVATE_FILE_MODE } from "../../base/files.ts";
import { usageError } from "../../cli/arguments.ts";
import type { AccountName } from "../../keys/rsa.ts";
import { formatAmount } from "../../protocol/money.ts";
import { type BookRow, CSV_HEADER, csvLine, ledgerHeader, ledgerTransaction } from "./books.ts";
import { type CommandContext, withClient } from "./commands_context.ts";
import { quoted } from "./commands_print.ts";
import { readMemo } from "./payee.ts";
import type { PaymentClient, PaymentClientOptions } from "./payer.ts";
import { makeStatement, monthBounds, type Statement } from "./statement.ts";
import { statementHtml } from "./statement_html.ts";
import { formatTime } from "./times.ts";

export type BookFormat = "csv" | "ledger";

/** The whole history as CSV, or as plain-text accounting. */
export async function exportHistory(
  context: CommandContext,
  account: AccountName,
  format: BookFormat,
): Promise<void> {
  const { out } = context;
  if (out.json) throw usageError(`--${format} and --json exclude each other`);
  await withClient(context, account, async (client, options) => {
    const unit = await client.session.unit();
    out.result({}, format === "csv" ? `${CSV_HEADER}\r` : ledgerHeader(unit));
    for await (const row of bookRows(client, options)) {
      const text = format === "csv"
        ? `${csvLine(account, row)}\r`
        : ledgerTransaction(account, unit, row);
      out.result({}, text);
    }
  });
}

async function* bookRows(
  client: PaymentClient,
  options: PaymentClientOptions,
): AsyncIterable<BookRow> {
  for await (const row of client.session.history(0)) {
    yield { ...row, memo: await readMemo(row.memo, options) };
  }
}

/** One month of the account, on the terminal or as an HTML file. */
export async function statement(
  context: CommandContext,
  account: AccountName,
  { month, html }: { readonly month: string; readonly html: string | null },
): Promise<void> {
  const bounds = monthBounds(month);
  if (bounds === null) throw usageError(`--month takes a month such as 2026-11, not "${month}"`);
  await withClient(context, account, async (client, options) => {
    const rows: BookRow[] = [];
    for await (const row of bookRows(client, options)) rows.push(row);
    const made = makeStatement(account, await client.session.unit(), month, bounds, rows);
    if (html !== null && !createFileAtomic(html, statementHtml(made), PRIVATE_FILE_MODE)) {
      throw new SealwireError("target_exists", `${html} exists already: give another name`);
    }
    const json = statementJson(made);
    if (html === null) context.out.result(json, statementText(made));
    else context.out.result({ ...json, html }, `wrote ${html}`);
  });
}

function statementJson(statement: Statement): object {
  const { account, month, unit, opening, closing, paidIn, paidOut } = statement;
  return {
    account,
    month,
    unit,
    opening: formatAmount(opening),
    paid_in: formatAmount(paidIn),
    paid_out: formatAmount(paidOut),
    closing: formatAmount(closing),
    movements: statement.movements.map(({ row, change }) => ({
      payment: row.payment,
      time: formatTime(row.time),
      payer: row.payer,
      payee: row.payee,
      change: formatAmount(change),
      memo: row.memo,
      ...(row.request && { request: row.request }),
      ...(row.refund_of && { refund_of: row.refund_of }),
      balance: row.balance,
    })),
    people: statement.people.map(({ name, paidIn, paidOut }) => ({
      name,
      paid_in: formatAmount(paidIn),
      paid_out: formatAmount(paidOut),
    })),
  };
}

function statementText(statement: Statement): string {
  const { account, month, unit, opening, closing, paidIn, paidOut } = statement;
  const sum = (amount: bigint) => formatAmount(amount).padStart(16);
  const movements = statement.movements.map(({ row, other, change, balance }) => {
    const back = row.refund_of === undefined ? "" : ` gives back ${row.refund_of}`;
    const when = formatTime(row.time).slice(0, 10);
    return `${when} ${other.padEnd(24)} ${sum(change)} ${sum(balance)}${quoted(row.memo)}${back}`;
  });
  const people = statement.people.map(({ name, paidIn, paidOut }) =>
    `${name.padEnd(35)} ${sum(paidIn)} ${sum(-paidOut)}`
  );
  const line = (name: string, amount: bigint) => `${name.padEnd(52)} ${sum(amount)}`;
  return [
    `Statement of ${account}, ${month}, in ${unit}`,
    "",
    line("Opening balance", opening),
    ...movements,
    line("Paid in", paidIn),
    line("Paid out", -paidOut),
    line("Closing balance", closing),
    "",
    ...people,
  ].join("\n").trimEnd();
}
