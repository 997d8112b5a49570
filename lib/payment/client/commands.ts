/** The client's commands: each logs in, does one thing, and prints it as a line of JSON or as text. */
import { isSealwireError, SealwireError } from "../../base/errors.ts";
import type { Uuid } from "../../base/parse.ts";
import { printable, quoted } from "../../base/text.ts";
import { usageError } from "../../cli/arguments.ts";
import type { Output } from "../../cli/output.ts";
import { didYouMean } from "../../cli/suggestion.ts";
import { loadOrMakeAccountKeys } from "../../keys/key_files.ts";
import { type AccountName, parseAccountName } from "../../keys/rsa.ts";
import { formatAddress } from "../../net/net.ts";
import { type Amount, parseAmount } from "../../protocol/money.ts";
import { BATCH_ITEMS_MAX } from "../../protocol/order.ts";
import type { HistoryAnswerRow } from "../../protocol/wire.ts";
import {
  accountKeys,
  clientOptions,
  type CommandContext,
  formatTime,
  readInput,
  withClient,
} from "./commands_context.ts";
import { Listening, type ListenOptions, readMemo } from "./payee.ts";
import { type Payment, PaymentClient, type PayOptions } from "./payer.ts";

export async function register(
  context: CommandContext,
  account: AccountName,
  invite?: string,
): Promise<void> {
  const { out, keysFolder } = context;
  const { pair, made, warnings } = await loadOrMakeAccountKeys(keysFolder, account);
  if (made) {
    out.note(
      `made the keys of ${account} in ${keysFolder}: whoever has them has the account, so keep a copy`,
    );
  }
  for (const warning of warnings) out.warn(warning);
  const client = await PaymentClient.open({ ...clientOptions(context), account, pair }, {
    register: true,
    invite,
  });
  const { balance } = client.session;
  out.result({ account, balance }, `${account} is registered; balance ${balance}`);
  await client.end();
}

export async function showBalance(context: CommandContext, account: AccountName): Promise<void> {
  await withClient(context, account, async (client) => {
    const balance = await client.session.currentBalance();
    context.out.result({ account, balance }, `${account} has ${balance}`);
  });
}

export async function list(context: CommandContext, account: AccountName): Promise<void> {
  await withClient(context, account, async (client) => {
    const balance = await client.session.currentBalance();
    let after: string | null = null;
    do {
      const { online, next } = await client.session.list(after);
      const rows = online.map(({ name, host, port, fingerprint }) =>
        `${name.padEnd(32)} ${formatAddress(printable(host), port).padEnd(21)} ${fingerprint}`
      );
      const text = rows.length > 0 ? rows.join("\n") : "nobody is online";
      context.out.result(
        { account, balance, online, next },
        after === null ? `balance ${balance}\n${text}` : text,
      );
      after = next;
    } while (after !== null);
  });
}

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

/**
 * Pays. The error about a payee whom the server does not know names the nearest of those who are
 * online.
 */
export async function payOrSuggest(client: PaymentClient, options: PayOptions): Promise<Payment> {
  try {
    return await client.pay(options);
  } catch (error) {
    if (!isSealwireError(error, "unknown_payee")) throw error;
    const { online } = await client.session.list(null).catch(() => ({ online: [] }));
    const names = online.map(({ name }) => name);
    error.message += didYouMean(options.payee, names);
    throw error;
  }
}

export async function payBatch(
  context: CommandContext,
  account: AccountName,
  payments: readonly { payee: AccountName; amount: Amount }[],
  id: Uuid | null,
): Promise<void> {
  await withClient(context, account, async (client) => {
    for (const payment of await client.payBatch(payments, id)) printPayment(context.out, payment);
  });
}

export function printPayment(out: Output, payment: Payment): void {
  const { payment: id, payee, amount, path, balance } = payment;
  const way = path === "direct" ? "directly" : "through the server";
  out.result(payment, `paid ${amount} to ${payee} ${way}; balance ${balance} (payment ${id})`);
}

export async function listen(context: CommandContext, account: AccountName): Promise<void> {
  const { out } = context;
  const listening = await startListening(context, account);
  try {
    const { port } = listening;
    out.result(
      { event: "online", account, port },
      `${account} is online and takes payments on port ${port}`,
    );
    await listening.client.resolveOutbox();
    await listening.stay();
  } finally {
    await listening.close();
  }
}

/** Goes online as `account`, printing each payment that arrives. */
export async function startListening(
  context: CommandContext,
  account: AccountName,
): Promise<Listening> {
  const { p2pHost, p2pPort, out, aside } = context;
  const pair = await accountKeys(context, account);
  const onPaid: ListenOptions["onPaid"] = (paid) => {
    const { payer, amount, memo, balance, payment } = paid;
    const remark = memo === null ? "" : ` ${quoted(memo)}`;
    const text = `${payer} paid you ${amount}${remark}; balance ${balance} (payment ${payment})`;
    aside(() => out.result({ event: "paid", ...paid }, text));
  };
  const notices = {
    note: (text: string) => aside(() => out.note(text)),
    warn: (text: string) => aside(() => out.warn(text)),
  };
  return await Listening.start({
    ...clientOptions(context),
    notices,
    account,
    pair,
    p2pHost,
    p2pPort,
    onPaid,
  });
}

export async function history(context: CommandContext, account: AccountName): Promise<void> {
  await withClient(context, account, async (client, { pair }) => {
    for await (const row of client.session.history(0)) {
      const memo = await readMemo(row.memo, pair.privateKey);
      const { payment, payer, payee, amount, balance } = row;
      const time = formatTime(row.time);
      const result = { payment, time, payer, payee, amount, memo, balance };
      context.out.result(result, historyLine(account, row, memo));
    }
  });
}

function historyLine(account: AccountName, row: HistoryAnswerRow, memo: string | null): string {
  const [sign, other] = row.payee === account
    ? ["+", `from ${row.payer}`]
    : ["-", `to ${row.payee}`];
  const remark = memo === null ? "" : ` ${quoted(memo)}`;
  const amount = `${sign}${row.amount}`.padStart(14);
  return `${formatTime(row.time)} ${amount} ${other.padEnd(24)} ${
    row.balance.padStart(14)
  } ${row.payment}${remark}`;
}

/** `--batch FILE`: lines of `name,amount`; empty lines are passed over. */
export function readBatch(path: string): { payee: AccountName; amount: Amount }[] {
  const text = readInput("batch", path);
  const payments = text.split(/\r?\n/).flatMap((line, index) =>
    line.trim() === "" ? [] : [parseBatchLine(path, line, index + 1)]
  );
  if (payments.length >= 1 && payments.length <= BATCH_ITEMS_MAX) return payments;
  throw usageError(
    `${path} must have 1 to ${BATCH_ITEMS_MAX} lines of name,amount, not ${payments.length}`,
  );
}

function parseBatchLine(
  path: string,
  line: string,
  number: number,
): { payee: AccountName; amount: Amount } {
  const [name, amount, ...rest] = line.split(",").map((part) => part.trim());
  try {
    if (rest.length > 0) throw usageError("a line is name,amount");
    return { payee: parseAccountName(name), amount: parseAmount(amount) };
  } catch (cause) {
    throw new SealwireError("usage", `${path}, line ${number}: ${(cause as Error).message}`, {
      cause,
    });
  }
}
