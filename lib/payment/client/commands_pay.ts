/** Paying: one payee, or the payees of a batch file. */
import { isSealwireError, SealwireError } from "../../base/errors.ts";
import type { Uuid } from "../../base/parse.ts";
import { usageError } from "../../cli/arguments.ts";
import { type AccountName, parseAccountName } from "../../keys/rsa.ts";
import { type Amount, parseAmount } from "../../protocol/money.ts";
import { BATCH_ITEMS_MAX } from "../../protocol/order.ts";
import { payOrSuggest, printPayment } from "./commands.ts";
import { type CommandContext, readInput, withClient } from "./commands_context.ts";
import type { PayOptions } from "./payer.ts";

export async function pay(
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

export async function payBatch(
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

/** What `pay` was given, in one payment. */
export interface PayGiven {
  readonly args: {
    readonly payee?: string;
    readonly amount?: string;
    readonly memo?: readonly string[];
  };
  readonly values: {
    readonly memo?: string | undefined;
    readonly direct: boolean;
    readonly "via-server": boolean;
  };
}

/** Throws `usage`, `bad_name`, `bad_amount`. */
export function parsePay({ args, values, id }: PayGiven & { id: Uuid | null }): PayOptions {
  if (args.amount === undefined) {
    throw usageError("<amount> is missing: pay takes <payee> <amount> [memo...]");
  }
  return {
    memo: memoOf({ args, values }),
    payee: parseAccountName(args.payee),
    amount: parseAmount(args.amount),
    way: values.direct ? "direct" : values["via-server"] ? "via-server" : "either",
    id,
  };
}

/** The memo of a payment: `--memo`, or the words after the amount. Throws `usage`. */
export function memoOf(
  { args: { memo: words = [] }, values }: Pick<PayGiven, "args"> & {
    readonly values: { readonly memo?: string | undefined };
  },
): string | null {
  if (words.length === 0) return values.memo ?? null;
  if (values.memo === undefined) return words.join(" ");
  throw usageError(`the memo is given twice: by --memo, and by "${words.join(" ")}"`);
}

/** One payment of a batch file. */
export interface BatchLine {
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
export function readBatch(path: string): BatchLine[] {
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
