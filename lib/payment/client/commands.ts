/** The client's commands: each logs in, does one thing, and prints it as a line of JSON or as text. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { usageError } from "../../cli/arguments.ts";
import type { Output } from "../../cli/output.ts";
import { didYouMean } from "../../cli/suggestion.ts";
import { printable } from "../../base/text.ts";
import {
  internalError,
  isSealwireError,
  SealwireError,
  systemErrorCode,
} from "../../base/errors.ts";
import {
  loadAccountKeys,
  loadOrMakeAccountKeys,
  loadServerPublicKey,
} from "../../keys/key_files.ts";
import {
  type AccountName,
  parseAccountName,
  parseRsaPublicJwk,
  type RsaPublicKey,
} from "../../keys/rsa.ts";
import {
  RECEIPT_CHARACTERS_MAX,
  receiptServer,
  type VerifiedReceipt,
  verifyReceipt,
} from "../../ledger/receipt.ts";
import { formatPaymentId } from "../../ledger/entry.ts";
import { type Amount, formatAmount, parseAmount } from "../../protocol/money.ts";
import { formatAddress } from "../../net/net.ts";
import { BATCH_ITEMS_MAX } from "../../protocol/order.ts";
import { parseUuidArgument, type Uuid } from "../../base/parse.ts";
import {
  type Payment,
  PaymentClient,
  type PaymentClientOptions,
  type PayOptions,
} from "./payer.ts";
import type { ConnectServerOptions } from "./connect.ts";
import { Listening, type ListenOptions, readMemo } from "./payee.ts";
import { KnownServers } from "../../keys/known_keys.ts";
import type { HistoryAnswerRow } from "../../protocol/wire.ts";

/** What every command knows: where the server is, who acts, and where results go. */
export interface CommandContext {
  readonly host: string;
  readonly port: number;
  readonly keysFolder: string;
  readonly serverCertPath: string | null;
  readonly acceptNew: boolean;
  readonly timeout_ms: number;
  readonly p2pHost: string | null;
  readonly p2pPort: number;
  readonly out: Output;
  readonly interrupted: AbortSignal;
  /** Asks a person one question; null when there is no answer. */
  readonly ask: (question: string) => Promise<string | null>;
  /** Runs what prints news, which may come while a person types. */
  readonly aside: (print: () => void) => void;
}

export async function register(context: CommandContext, account: AccountName): Promise<void> {
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
    const remark = memo === null ? "" : ` "${printable(memo)}"`;
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
  const remark = memo === null ? "" : ` "${printable(memo)}"`;
  const amount = `${sign}${row.amount}`.padStart(14);
  return `${formatTime(row.time)} ${amount} ${other.padEnd(24)} ${
    row.balance.padStart(14)
  } ${row.payment}${remark}`;
}

export async function receipt(
  context: CommandContext,
  account: AccountName,
  paymentId: string,
): Promise<void> {
  const { id, index } = parsePaymentId(paymentId);
  await withClient(context, account, async (client) => {
    const payer = await findPayer(client, account, formatPaymentId(id, index));
    const { text } = await client.session.receipt(id, index, payer);
    context.out.result(JSON.parse(text), text);
  });
}

/** An id is the payer's own, so a payee must say whose; the payee's history knows. */
async function findPayer(
  client: PaymentClient,
  account: AccountName,
  payment: string,
): Promise<AccountName> {
  for await (const row of client.session.history(0)) {
    if (row.payment === payment && row.payee === account) return parseAccountName(row.payer);
  }
  return account;
}

/** `verify`: needs no server, only its public key: the one given, or one of those that this keys folder trusts. */
export async function verify(
  out: Output,
  path: string,
  keysFolder: string,
  serverKeyPath: string | null,
): Promise<void> {
  const text = readReceipt(path);
  const verified = await verifyReceipt(text, receiptKey(text, keysFolder, serverKeyPath))
    .catch((error) => {
      if (!isSealwireError(error)) throw error;
      throw new SealwireError(error.code, `this is no valid receipt: ${error.message}`, {
        cause: error,
      });
    });
  out.result({ valid: true, ...describe(verified) }, describeText(verified));
}

function receiptKey(text: string, keysFolder: string, serverKeyPath: string | null): RsaPublicKey {
  if (serverKeyPath !== null) return loadServerPublicKey(serverKeyPath);
  const path = join(keysFolder, "server_public.pem");
  if (existsSync(path)) return loadServerPublicKey(path);
  const key = new KnownServers(keysFolder).findKey(receiptServer(text));
  if (key !== null) return parseRsaPublicJwk(key);
  const hint = "ask the server's operator for it, and give it with --server-key";
  throw new SealwireError(
    "key_missing",
    `there is no ${path}, and no known server signed this: ${hint}`,
  );
}

function describe({ transfer, header }: VerifiedReceipt) {
  const { id, index, payer, payee, amount } = transfer;
  const time = formatTime(header.claims.time);
  return { payment: formatPaymentId(id, index), payer, payee, amount: formatAmount(amount), time };
}

function describeText(verified: VerifiedReceipt): string {
  const { payment, payer, payee, amount, time } = describe(verified);
  return `valid: ${payer} paid ${payee} ${amount} at ${time} (payment ${payment})`;
}

function readReceipt(path: string): string {
  const text = readInput("receipt", path).replace(/\r?\n$/, "");
  if (text.length <= RECEIPT_CHARACTERS_MAX) return text;
  throw new SealwireError("file_unreadable", `cannot read the receipt ${path}: it is too long`);
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

/** The text of a file, or of standard input for `-`. */
function readInput(what: string, path: string): string {
  try {
    return readFileSync(path === "-" ? 0 : path, "utf8");
  } catch (cause) {
    const why = systemErrorCode(cause) === "ENOENT"
      ? "there is none"
      : internalError(cause).message;
    throw new SealwireError("file_unreadable", `cannot read the ${what} ${path}: ${why}`, {
      cause,
    });
  }
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

/** `<uuid>` or, of a batch, `<uuid>/<index>`. */
function parsePaymentId(text: string): { id: Uuid; index: number | null } {
  const [id, index, ...rest] = text.split("/");
  if (rest.length > 0 || (index !== undefined && !/^\d{1,3}$/.test(index))) {
    throw usageError(`<payment-id> is a UUID, or UUID/index for one of a batch, not "${text}"`);
  }
  return {
    id: parseUuidArgument("<payment-id>", id!),
    index: index === undefined ? null : Number(index),
  };
}

async function withClient(
  context: CommandContext,
  account: AccountName,
  work: (client: PaymentClient, options: PaymentClientOptions) => Promise<void>,
): Promise<void> {
  const options = { ...clientOptions(context), account, pair: await accountKeys(context, account) };
  const client = await PaymentClient.open(options);
  try {
    await client.resolveOutbox();
    await work(client, options);
  } finally {
    await client.end();
  }
}

async function accountKeys({ keysFolder, out }: CommandContext, account: AccountName) {
  const { warnings, ...pair } = await loadAccountKeys(keysFolder, account).catch((error) => {
    if (!isSealwireError(error, "key_missing")) throw error;
    const hint = "register first, or see whether --as and --keys are right";
    throw new SealwireError("key_missing", `${error.message}: ${hint}`, { cause: error });
  });
  for (const warning of warnings) out.warn(warning);
  return pair;
}

function clientOptions(context: CommandContext): Omit<PaymentClientOptions, "account" | "pair"> {
  const now_s = () => Math.floor(Date.now() / 1000);
  return { ...serverOptions(context), notices: context.out, now_s };
}

/** How any command reaches the server. */
export function serverOptions(context: CommandContext): ConnectServerOptions {
  const { host, port, keysFolder, serverCertPath, timeout_ms, interrupted, out } = context;
  return {
    host,
    port,
    keysFolder,
    serverCertPath,
    timeout_ms,
    signal: interrupted,
    confirmServer: (fingerprint) => confirmServer(context, fingerprint),
    alarm: (lines) => {
      for (const line of ["", "!".repeat(78), ...lines, "!".repeat(78), ""]) out.warn(line);
    },
  };
}

/** First use of a server: shows what it is, and takes the word of a person, or of `--accept-new`. */
async function confirmServer(context: CommandContext, fingerprint: string): Promise<boolean> {
  const { acceptNew, out, host, port } = context;
  const address = formatAddress(host, port);
  if (acceptNew) {
    out.note(`trusting ${address}, certificate SHA-256 ${fingerprint}`);
    return true;
  }
  if (!process.stdin.isTTY || !process.stderr.isTTY) return false;
  out.note(
    `${address} is not known here. Its certificate has the SHA-256 fingerprint\n  ${fingerprint}`,
  );
  const answer = await context.ask("Does the operator say the same? Trust it (yes/no)? ");
  return answer?.toLowerCase() === "yes";
}

/** Seconds since 1970 as `2026-01-31T12:00:00Z`. */
function formatTime(time_s: number): string {
  return new Date(time_s * 1000).toISOString().replace(".000", "");
}
