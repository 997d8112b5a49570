/**
 * The client's commands: each logs in, does one thing, and prints it as a line of JSON or as text.
 */
import { join } from "node:path";
import process from "node:process";
import { isRefusal, isSealwireError, SealwireError } from "../../base/errors.ts";
import { printable, quoted } from "../../base/text.ts";
import { columnsOf, truncated } from "../../cli/columns.ts";
import type { Output } from "../../cli/output.ts";
import { didYouMean } from "../../cli/suggestion.ts";
import { loadOrMakeAccountKeys, removeAccountKeys } from "../../keys/key_files.ts";
import type { AccountName } from "../../keys/rsa.ts";
import { formatAddress } from "../../net/net.ts";
import type { OnlineRow } from "../../protocol/wire.ts";
import {
  clientOptions,
  type CommandContext,
  explainingUnknown,
  withClient,
  withCurrentKeys,
} from "./commands_context.ts";
import { printRequest } from "./commands_print.ts";
import { type Chosen, Home } from "./home.ts";
import { Listening, type ListenOptions } from "./payee.ts";
import { type Payment, PaymentClient, type PayOptions } from "./payer.ts";

export async function register(
  context: CommandContext,
  account: AccountName,
  invite?: string,
): Promise<void> {
  const { out, keysFolder } = context;
  const { pair, made, warnings } = await loadOrMakeAccountKeys(keysFolder, account);
  for (const warning of warnings) out.warn(warning);
  let asked = false;
  const onAsking = () => asked = true;
  const options = { ...clientOptions(context), account, pair, oldKeys: [] };
  const client = await PaymentClient.open(options, { register: true, invite, onAsking }).catch(
    (error) => {
      // Keys that the server may have taken are kept, whatever became of its answer.
      const isMade = asked && !isRefusal(error);
      if (made && !isMade) removeAccountKeys(keysFolder, account);
      throw explainTaken(error, keysFolder, account);
    },
  );
  const { balance } = client.session;
  out.result({ account, balance }, `${account} is registered; balance ${balance}`);
  if (made) {
    out.note(
      `Created ${join(keysFolder, `${account}_private.pem`)}. ` +
        "Anyone with this file can spend from the account; back it up.",
    );
  }
  choose(context, { server: { host: context.host, port: context.port }, account });
  await client.end();
}

function explainTaken(error: unknown, keysFolder: string, account: AccountName): unknown {
  if (!isSealwireError(error, "name_taken")) return error;
  const message = `the name ${account} is taken: choose another with --as. ` +
    `If the account is yours, put your copy of ${account}_private.pem into ${keysFolder}`;
  return new SealwireError("name_taken", message, { cause: error });
}

/** Remembers what commands take when nothing else is said. Not to be able to is no failure. */
export function choose({ keysFolder, out }: CommandContext, chosen: Partial<Chosen>): void {
  try {
    new Home(keysFolder).choose(chosen);
  } catch (error) {
    if (!isSealwireError(error)) throw error;
    out.warn(`not remembered: ${printable(error.message)}`);
  }
}

export async function showBalance(context: CommandContext, account: AccountName): Promise<void> {
  await withClient(context, account, async (client) => {
    const balance = await client.session.currentBalance();
    context.out.result({ account, balance }, `${account} has ${balance}`);
  });
}

/** `wide`: whole fingerprints, however wide the terminal is. */
export async function list(
  context: CommandContext,
  account: AccountName,
  { wide }: { wide: boolean } = { wide: false },
): Promise<void> {
  await withClient(context, account, async (client) => {
    const balance = await client.session.currentBalance();
    let after: string | null = null;
    do {
      const { online, next } = await client.session.list(after);
      const text = online.length > 0 ? onlineTable(online, wide) : "nobody is online";
      context.out.result(
        { account, balance, online, next },
        after === null ? `balance ${balance}\n${text}` : text,
      );
      after = next;
    } while (after !== null);
  });
}

/** A line for each who is online, within the terminal's columns. */
function onlineTable(online: readonly OnlineRow[], wide: boolean): string {
  const name_columns = Math.max(...online.map(({ name }) => name.length));
  const columns = columnsOf(process.stdout);
  return online.map(({ name, host, port, fingerprint }) => {
    const address = formatAddress(printable(host), port);
    const line = `${name.padEnd(name_columns)}  ${address.padEnd(21)}`;
    return wide ? `${line}  ${fingerprint}` : truncated(`${line}  ${fingerprint}`, columns);
  }).join("\n");
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
  { reconnect_ms = context.timeout_ms, onBalance = () => {} }: {
    /** How long to try to come back when the connection is lost; by default the timeout. */
    reconnect_ms?: number;
    /** Called with what the account has after a payment. */
    onBalance?: (balance: string) => void;
  } = {},
): Promise<Listening> {
  const { p2pHost, p2pPort, out, aside } = context;
  const onPaid: ListenOptions["onPaid"] = (paid) => {
    const { payer, amount, memo, balance, payment, refund_of } = paid;
    onBalance(balance);
    const remark = memo === null ? "" : ` ${quoted(memo)}`;
    const paidYou = refund_of === undefined ? "paid you" : "gave you back";
    const of = refund_of === undefined ? "" : ` of payment ${refund_of}`;
    const text = `${payer} ${paidYou} ${amount}${of}${remark}; balance ${balance} ` +
      `(payment ${payment})`;
    aside(() => out.result({ event: "paid", ...paid }, text));
  };
  const notices = {
    note: (text: string) => aside(() => out.note(text)),
    warn: (text: string) => aside(() => out.warn(text)),
  };
  const onRequest: ListenOptions["onRequest"] = (request, memo) =>
    aside(() => printRequest(out, account, request, memo, { event: "request" }));
  const started = withCurrentKeys(context, account, async (keys) =>
    await Listening.start({
      ...clientOptions(context),
      ...keys,
      notices,
      account,
      p2pHost,
      p2pPort,
      onPaid,
      onRequest,
      reconnect_ms,
    }));
  return await explainingUnknown(context, account, started);
}
