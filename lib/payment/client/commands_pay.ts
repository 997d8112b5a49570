/** Paying: one payee, by a link, or the payees of a batch file. */
import { isSealwireError, SealwireError } from "../../base/errors.ts";
import { parseUuidArgument, type Uuid } from "../../base/parse.ts";
import { usageError } from "../../cli/arguments.ts";
import { type AccountName, parseAccountName } from "../../keys/rsa.ts";
import { type Amount, parseAmount } from "../../protocol/money.ts";
import { BATCH_ITEMS_MAX } from "../../protocol/order.ts";
import { payOrSuggest, printPayment } from "./commands.ts";
import { type CommandContext, readInput, withClient } from "./commands_context.ts";
import { accountOf, contextOf } from "./commands_home.ts";
import { payLink } from "./commands_requests.ts";
import type { ClientRun } from "./commands_table.ts";
import type { PayOptions } from "./payer.ts";
import { isPaymentLink, parsePaymentLink } from "./payment_link.ts";

/** Pays one payee, by a link, or the payees of a batch file. */
export async function pay(run: ClientRun<"pay">): Promise<void> {
  const { args, values } = run;
  const id = values.id === undefined ? null : parseUuidArgument("--id", values.id);
  if (values.batch !== undefined) {
    const lines = readBatch(values.batch);
    return await payBatch(contextOf(run), accountOf(values), lines, id);
  }
  if (isPaymentLink(args.payee ?? "")) return await payByLink(run, args.payee!);
  const options = parsePay(run, id);
  await payOne(contextOf(run), accountOf(values), options);
}

/** Throws `usage`, `bad_name`, `bad_amount`. */
function parsePay(run: ClientRun<"pay">, id: Uuid | null): PayOptions {
  const { args, values } = run;
  if (args.amount === undefined) {
    throw usageError("<amount> is missing: pay takes <payee> <amount> [memo...]");
  }
  return {
    memo: memoOf(run),
    payee: parseAccountName(args.payee),
    amount: parseAmount(args.amount),
    way: values.direct ? "direct" : values["via-server"] ? "via-server" : "either",
    id,
  };
}

/** The memo of a payment: `--memo`, or the words after the amount. Throws `usage`. */
export function memoOf({ args: { memo: words = [] }, values }: ClientRun<"pay">): string | null {
  if (words.length === 0) return values.memo ?? null;
  if (values.memo === undefined) return words.join(" ");
  throw usageError(`the memo is given twice: by --memo, and by "${words.join(" ")}"`);
}

async function payByLink(run: ClientRun<"pay">, text: string): Promise<void> {
  const { args, values } = run;
  if (args.amount !== undefined || memoOf(run) !== null) {
    throw usageError("a link has its own amount and memo: pay takes nothing after it");
  }
  const account = accountOf(values);
  const link = parsePaymentLink(text);
  // The link says where, unless the command line does.
  const { host = link.host, port = String(link.port) } = args;
  await payLink(contextOf({ ...run, args: { host, port } }), account, link);
}

async function payOne(
  context: CommandContext,
  account: AccountName,
  options: PayOptions,
): Promise<void> {
  await withClient(
    context,
    account,
    async (client) => printPayment(context.out, await payOrSuggest(client, options)),
  );
}

async function payBatch(
  context: CommandContext,
  account: AccountName,
  payments: readonly BatchLine[],
  id: Uuid | null,
): Promise<void> {
  await withClient(context, account, async (client) => {
    const paid = await client.payBatch(payments, id).catch((error) => {
      throw namingLine(error, payments);
    });
    for (const payment of paid) printPayment(context.out, payment);
  });
}

/** An error about one payee of a batch names its line in the file. */
function namingLine(error: unknown, payments: readonly BatchLine[]): unknown {
  if (!isSealwireError(error)) return error;
  const { payee } = error.details as { payee?: AccountName };
  const found = payments.find((line) => line.payee === payee);
  if (found === undefined) return error;
  const message = `line ${found.line}, ${found.payee}: ${error.message}; nothing was paid`;
  return new SealwireError(error.code, message, { cause: error, details: error.details });
}

/** One payment of a batch file. */
interface BatchLine {
  readonly payee: AccountName;
  readonly amount: Amount;
  /** Its line in the file, from 1. */
  readonly line: number;
}

/** The first line of a table: what its columns are. */
const BATCH_HEADER = /^(name|payee|account|to|who)$/i;

/**
 * `--batch FILE`: lines of `name,amount` or `name;amount`, with or without quotes and a header.
 * Empty lines are passed over.
 */
function readBatch(path: string): BatchLine[] {
  const text = readInput("batch", path).replace(/^\ufeff/, "");
  const lines = text.split(/\r?\n/).map((text, index) => ({ text, line: index + 1 }))
    .filter(({ text }) => text.trim() !== "");
  const [first] = lines;
  const hasHeader = first !== undefined && BATCH_HEADER.test(splitFields(first.text)[0] ?? "") &&
    !/\d/.test(first.text);
  const payments = lines.slice(hasHeader ? 1 : 0).map(({ text, line }) =>
    parseBatchLine(path, text, line)
  );
  if (payments.length >= 1 && payments.length <= BATCH_ITEMS_MAX) return payments;
  throw usageError(
    `${path} must have 1 to ${BATCH_ITEMS_MAX} lines of name,amount, not ${payments.length}`,
  );
}

function parseBatchLine(path: string, text: string, line: number): BatchLine {
  const [name, amount, ...rest] = splitFields(text);
  try {
    if (rest.length > 0) throw usageError("a line is name,amount");
    return { payee: parseAccountName(name), amount: parseAmount(amount), line };
  } catch (cause) {
    throw new SealwireError("usage", `${path}, line ${line}: ${(cause as Error).message}`, {
      cause,
    });
  }
}

/** The fields of a line, at `,` or `;`. A field may stand in quotes. */
function splitFields(line: string): string[] {
  return line.split(/[,;]/).map((field) => field.trim().replace(/^"(.*)"$/, "$1").trim());
}
