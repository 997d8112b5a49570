/** Requests: asking for money, and what becomes of it. */
import { randomUUID } from "node:crypto";
import { isSealwireError, SealwireError } from "../../base/errors.ts";
import { createFileAtomic, PUBLIC_FILE_MODE } from "../../base/files.ts";
import type { Uuid } from "../../base/parse.ts";
import { usageError } from "../../cli/arguments.ts";
import { type AccountName, parseAccountName } from "../../keys/rsa.ts";
import { formatAddress } from "../../net/net.ts";
import { REQUEST_LIFE_S_MAX } from "../../ledger/submission.ts";
import { type Amount, formatAmount, parseAmount, parseWireAmount } from "../../protocol/money.ts";
import { MEMO_BYTES_MAX, sealMemo } from "../../protocol/sealing.ts";
import type { RequestAnswer } from "../../protocol/wire.ts";
import { payOrSuggest, printPayment } from "./commands.ts";
import { type CommandContext, confirm, withClient } from "./commands_context.ts";
import { printRequest, quoted } from "./commands_print.ts";
import type { ClientRun } from "./commands_table.ts";
import { readRequestMemo } from "./payee.ts";
import type { PaymentClient, PaymentClientOptions } from "./payer.ts";
import { formatPaymentLink, type PaymentLink } from "./payment_link.ts";

const LIFE_S_MIN = 60;
const SECONDS_OF_UNIT: Readonly<Record<string, number>> = { m: 60, h: 3_600, d: 86_400 };
/** Light squares around a QR code: ISO/IEC 18004 asks for four. */
const QR_BORDER = 4;

interface AskOptions {
  /** Null: anyone may pay. */
  readonly payer: AccountName | null;
  readonly amount: Amount;
  readonly memo: string | null;
  readonly life_s: number;
  readonly link: boolean;
  readonly qr: boolean;
  /** Where the link's QR code is written; null for nowhere. */
  readonly svg: string | null;
}

/** `30m`, `12h` or `7d`, in seconds. Throws `usage`. */
function parseLife(text: string): number {
  const [, count, unit] = /^(\d{1,5})([mhd])$/.exec(text) ?? [];
  const life_s = Number(count) * SECONDS_OF_UNIT[unit ?? "d"]!;
  if (life_s >= LIFE_S_MIN && life_s <= REQUEST_LIFE_S_MAX) return life_s;
  throw usageError(`--expires takes a time such as 30m, 12h or 7d, at most 30d, not "${text}"`);
}

/** Throws `usage`, `bad_name`, `bad_amount`. */
export function parseAsk({ args, values }: ClientRun<"request">): AskOptions {
  return {
    payer: args.payer === undefined ? null : parseAccountName(args.payer),
    amount: parseAmount(args.amount),
    memo: args.memo.length > 0 ? args.memo.join(" ") : null,
    life_s: parseLife(values.expires),
    link: values.link,
    qr: values.qr,
    svg: values.svg ?? null,
  };
}

export async function ask(
  context: CommandContext,
  account: AccountName,
  options: AskOptions,
): Promise<void> {
  await withClient(context, account, async (client, { pair }) => {
    const { payer, amount, memo, life_s: life } = options;
    const sealed = memo === null
      ? null
      : payer === null
      ? requireShort(memo)
      : await sealMemo(memo, pair.publicKey, await keyOfPayer(client, payer));
    const request = await client.session.request({
      id: randomUUID() as Uuid,
      payer,
      amount: formatAmount(amount),
      memo: sealed,
      life,
    });
    const link = options.link || options.qr || options.svg !== null
      ? linkTo(context, client, request)
      : null;
    printRequest(context.out, account, request, memo, link === null ? {} : { link });
    if (link === null) return;
    if (options.qr) context.out.note(await qrText(link));
    if (options.svg !== null) await writeSvg(options.svg, link);
  });
}

function requireShort(memo: string): string {
  const size_bytes = new TextEncoder().encode(memo).length;
  if (size_bytes <= MEMO_BYTES_MAX) return memo;
  throw new SealwireError(
    "memo_too_long",
    `a memo has at most ${MEMO_BYTES_MAX} bytes, not ${size_bytes}`,
  );
}

/** Throws `unknown_account`, and `no_payee_key` for a classic account. */
async function keyOfPayer(client: PaymentClient, payer: AccountName) {
  const { key } = await client.session.lookup(payer).catch((error) => {
    if (!isSealwireError(error, "unknown_payee")) throw error;
    throw new SealwireError("unknown_account", `there is no account ${payer}`, { cause: error });
  });
  if (key !== null) return key;
  throw new SealwireError(
    "no_payee_key",
    `${payer} is a classic account, which can neither read a memo nor accept a request`,
  );
}

function linkTo(
  { host, port }: CommandContext,
  client: PaymentClient,
  { id, payee }: RequestAnswer,
): string {
  return formatPaymentLink({
    host,
    port,
    server: client.session.server.thumbprint,
    payee: parseAccountName(payee),
    pays: { kind: "request", request: id as Uuid },
  });
}

/** The QR code as blocks, for a dark terminal. */
async function qrText(link: string): Promise<string> {
  const { default: encodeQr } = await import("qr");
  return encodeQr(link, "ascii", { ecc: "low", border: QR_BORDER }).trimEnd();
}

/** Throws `target_exists`, `folder_unwritable`, `write_failed`. */
async function writeSvg(path: string, link: string): Promise<void> {
  const { default: encodeQr } = await import("qr");
  const svg = encodeQr(link, "svg", { ecc: "low", border: QR_BORDER });
  if (createFileAtomic(path, svg, PUBLIC_FILE_MODE)) return;
  throw new SealwireError("target_exists", `${path} exists already: give another name`);
}

export async function listRequests(context: CommandContext, account: AccountName): Promise<void> {
  await withClient(context, account, async (client, options) => {
    const requests = await client.session.requests();
    for (const request of requests.toReversed()) {
      const memo = await readRequestMemo(request, options);
      printRequest(context.out, account, request, memo, {});
    }
    if (requests.length === 0) context.out.note("there are no requests");
  });
}

/** Pays a request. `id`: the start of one; null for the newest. */
export async function accept(
  context: CommandContext,
  account: AccountName,
  id: string | null,
): Promise<void> {
  await withClient(context, account, async (client, options) => {
    const request = await choose(client, id, ({ payer }) => payer === account);
    await payRequest(context, client, options, request);
  });
}

/** The payer refuses a request. As {@linkcode accept}. */
export async function decline(
  context: CommandContext,
  account: AccountName,
  id: string | null,
): Promise<void> {
  await close(context, account, id, ({ payer }) => payer === account);
}

/** The payee takes a request back. */
export async function withdraw(
  context: CommandContext,
  account: AccountName,
  id: string,
): Promise<void> {
  await close(context, account, id, ({ payee }) => payee === account);
}

async function close(
  context: CommandContext,
  account: AccountName,
  id: string | null,
  mayClose: (request: RequestAnswer) => boolean,
): Promise<void> {
  await withClient(context, account, async (client, options) => {
    const { payee, id: whole } = await choose(client, id, mayClose);
    const closed = await client.session.closeRequest(parseAccountName(payee), whole as Uuid);
    const memo = await readRequestMemo(closed, options);
    printRequest(context.out, account, closed, memo, {});
  });
}

/** The one request that `start` is the start of; null: the newest that is pending. */
async function choose(
  client: PaymentClient,
  start: string | null,
  isMine: (request: RequestAnswer) => boolean,
): Promise<RequestAnswer> {
  const mine = (await client.session.requests()).filter(isMine);
  const found = start === null
    ? mine.filter(({ state }) => state === "pending").slice(0, 1)
    : mine.filter(({ id }) => id.startsWith(start.toLowerCase()));
  if (found.length === 1) return found[0]!;
  if (found.length > 1) {
    const ids = found.slice(0, 3).map(({ id }) => id).join(", ");
    throw usageError(`several requests begin with "${start}": ${ids}`);
  }
  throw new SealwireError(
    "request_unknown",
    "there is no such request that is yours to answer: see requests",
  );
}

/** `pay <link>`: shows what it says, and pays once a person agrees. */
export async function payLink(
  context: CommandContext,
  account: AccountName,
  link: PaymentLink,
): Promise<void> {
  await withClient(context, account, async (client, options) => {
    requireServer(link, client);
    const { payee, pays, server } = link;
    if (payee === account) {
      throw new SealwireError("payer_is_payee", "this is your own link: others pay by it");
    }
    const request = pays.kind === "amount"
      ? null
      : await client.session.findRequest(payee, pays.request);
    const memo = request === null ? null : await readRequestMemo(request, options);
    const amount = pays.kind === "amount" ? formatAmount(pays.amount) : request!.amount;
    context.out.note(
      `${payee} asks for ${amount}${quoted(memo)}\n` +
        `at the server ${formatAddress(context.host, context.port)}, whose key is ${server}`,
    );
    if (request !== null) requireOpen(request, options);
    if (!await confirm(context, `Pay ${payee} ${amount}`)) {
      throw new SealwireError("not_confirmed", "nothing was paid");
    }
    if (request !== null) return await payRequest(context, client, options, request);
    const payment = { payee, amount: parseWireAmount(amount), memo: null };
    const paid = await payOrSuggest(client, { ...payment, way: "either", id: null });
    printPayment(context.out, paid);
  });
}

/** A link never adds trust in a server. */
function requireServer({ server }: PaymentLink, client: PaymentClient): void {
  const { thumbprint } = client.session.server;
  if (thumbprint === server) return;
  throw new SealwireError(
    "wrong_server",
    `the link is for the server with the key ${server}, and this one's key is ${thumbprint}: nothing was paid`,
  );
}

async function payRequest(
  context: CommandContext,
  client: PaymentClient,
  options: PaymentClientOptions,
  request: RequestAnswer,
): Promise<void> {
  const { payee, id } = request;
  const memo = await readRequestMemo(request, options);
  context.out.note(`${payee} asks for ${request.amount}${quoted(memo)}`);
  requireOpen(request, options);
  const payment = await client.pay({
    payee: parseAccountName(payee),
    amount: parseWireAmount(request.amount),
    memo,
    way: "either",
    id: null,
    request: id as Uuid,
  });
  printPayment(context.out, payment);
}

/** Says why a request is not to be paid before an order is signed. The server has the last word. */
function requireOpen({ state, payee, expires }: RequestAnswer, { now_s }: PaymentClientOptions) {
  if (state === "paid") throw new SealwireError("request_paid", "the request is paid already");
  if (state === "declined") {
    throw new SealwireError("request_declined", "the request was declined by its payer");
  }
  if (state === "withdrawn") {
    throw new SealwireError("request_withdrawn", `the request was withdrawn by ${payee}`);
  }
  if (expires > now_s()) return;
  throw new SealwireError(
    "request_expired",
    `the request has expired: ask ${payee} for a new one`,
  );
}
