/** The classic client's commands: each connects, logs in, does one thing, and prints it as a line of JSON or as text. */
import { Buffer } from "node:buffer";
import type { KeyObject } from "node:crypto";
import { printable } from "../../base/text.ts";
import { isSealwireError, SealwireError } from "../../base/errors.ts";
import { type Amount, formatAmount } from "../../protocol/money.ts";
import { connectTcp, formatAddress, listenTcp } from "../../net/net.ts";
import { type CommandContext, serverOptions } from "../client/commands_context.ts";
import { ClassicSession } from "./client.ts";
import {
  type ClassicList,
  type ClassicName,
  type ClassicOrder,
  type ClassicRow,
  formatOrder,
  isTransferred,
  MESSAGE_BYTES_MAX,
  parseClassicName,
  refusalOf,
} from "./format.ts";
import { ClassicListener, OFFER_HOST } from "./offer_listener.ts";
import { loadOfferPublicKey, openOfferPrivateKey, sealClassicOffer } from "./offer.ts";

/** A server whose list is cut goes on in the next one. */
const LISTS_MAX = 200;

export interface ClassicPayOptions {
  readonly payee: ClassicName;
  /** Whole units. */
  readonly amount: Amount;
}

/** Online as a classic account, taking offers. */
export interface ClassicListening {
  readonly session: ClassicSession;
  readonly list: ClassicList;
  readonly port: number;
  close(): Promise<void>;
}

export async function register(context: CommandContext, name: ClassicName): Promise<void> {
  const session = await ClassicSession.connect(serverOptions(context));
  try {
    await session.register(name.written);
    const { list, close } = await loginWithoutOffers(context, session, name);
    printAccount(context, name, list, "is registered");
    await close();
  } finally {
    await session.exit();
  }
}

export async function list(context: CommandContext, name: ClassicName): Promise<void> {
  await withLogin(context, name, (session, list) => printList(context, name, session, list));
}

export async function pay(
  context: CommandContext,
  name: ClassicName,
  options: ClassicPayOptions,
): Promise<void> {
  await withLogin(context, name, (session, list) => payFrom(context, name, session, list, options));
}

/** Takes offers until Ctrl-C. Throws why the session ended when it did so before. */
export async function listen(context: CommandContext, name: ClassicName): Promise<void> {
  const { out, interrupted } = context;
  const listening = await startListening(context, name);
  try {
    const { account } = name;
    const { port } = listening;
    out.result(
      { event: "online", account, port },
      `${account} is online and takes payments on port ${port}`,
    );
    const stop = new Promise<void>((resolve) =>
      interrupted.addEventListener("abort", () => resolve(), { once: true })
    );
    const ended = await Promise.race([listening.session.closed, stop]);
    interrupted.throwIfAborted();
    if (ended) throw ended;
  } finally {
    await listening.close();
  }
}

/** Logs in and takes offers, printing each payment that arrives. */
export async function startListening(
  context: CommandContext,
  name: ClassicName,
): Promise<ClassicListening> {
  const { out, keysFolder, p2pPort } = context;
  const { privateKey, made, warnings } = await openOfferPrivateKey(keysFolder);
  for (const path of made) out.note(`made ${path}`);
  if (made.length > 0) out.note("payers need a copy of B_public.pem");
  for (const warning of warnings) out.warn(warning);
  const session = await ClassicSession.connect(serverOptions(context));
  try {
    const door = await openDoor(context, session, name, privateKey, p2pPort);
    const close = async () => {
      await door.close();
      await session.exit();
    };
    try {
      const list = await session.login(name.written, door.port);
      return { session, list, port: door.port, close };
    } catch (error) {
      await door.close();
      throw error;
    }
  } catch (error) {
    await session.exit();
    throw error;
  }
}

function openDoor(
  context: CommandContext,
  session: ClassicSession,
  name: ClassicName,
  privateKey: KeyObject,
  port: number,
): Promise<ClassicListener> {
  const { out, aside } = context;
  const note = (text: string) => aside(() => out.note(text));
  const relay = async (text: string, order: ClassicOrder) => {
    const answer = await session.order(text);
    if (isTransferred(answer)) {
      printPaid(context, session, order).catch((error) =>
        note(`cannot ask for the balance: ${printable(String(error))}`)
      );
    }
    return answer;
  };
  const onRefused = ({ message }: SealwireError) => note(`refused: ${printable(message)}`);
  return ClassicListener.start({ port, privateKey, name, relay, onRefused });
}

async function printPaid(
  { out, aside }: CommandContext,
  session: ClassicSession,
  { payer, amount: minor }: ClassicOrder,
): Promise<void> {
  const amount = formatAmount(minor);
  const balance = decimal(await session.list());
  const paid = { payment: null, payer: payer!.account, amount, memo: null, balance };
  const text = `${paid.payer} paid you ${amount}; balance ${balance}`;
  aside(() => out.result({ event: "paid", ...paid }, text));
}

/** Pays from a session that is logged in as `name`, and prints what the server's balance says of it. */
export async function payFrom(
  context: CommandContext,
  name: ClassicName,
  session: ClassicSession,
  list: ClassicList,
  { payee, amount }: ClassicPayOptions,
): Promise<void> {
  if (payee.account === name.account) {
    throw new SealwireError("payer_is_payee", "payer and payee are the same account");
  }
  const row = (await listAll(session, list)).find(({ name }) =>
    parseClassicName(name)?.account === payee.account
  );
  const text = formatOrder(name.written, amount, row?.name ?? payee.written);
  const before = minorOf(await session.list());
  const answer = row === undefined
    ? await session.order(text)
    : await offerTo(context, row, payee, text);
  const after = minorOf(await session.list());
  requirePaid(answer, amount, before, after);
  const path = row === undefined ? "server" : "direct";
  const parties = { payer: name.account, payee: payee.account };
  const balance = formatAmount(after);
  const way = path === "direct" ? "directly" : "through the server";
  const said = `paid ${formatAmount(amount)} to ${payee.account} ${way}; balance ${balance}`;
  context.out.result(
    { payment: null, ...parties, amount: formatAmount(amount), path, balance },
    said,
  );
}

/**
 * What the payee answers is a hint; the balance is the server's word. Throws the refusal, or `outcome_unknown` where the two
 * do not agree.
 */
function requirePaid(answer: string | null, amount: Amount, before: bigint, after: bigint): void {
  const unchanged = after === before;
  if (answer !== null && isTransferred(answer) && after === before - amount) return;
  if (answer !== null && !isTransferred(answer) && unchanged) throw refusalOf(answer);
  const said = answer === null ? "the payee did not answer" : `the payee says: ${answer.trim()}`;
  const [from, to] = [formatAmount(before), formatAmount(after)];
  throw new SealwireError(
    "outcome_unknown",
    `${said}; but the balance was ${from} and is ${to}. Ask the payee before paying again`,
  );
}

/**
 * Hands the order to the payee's client and gives its answer; null when none came.
 *
 * @throws {SealwireError} `payee_unreachable`: nothing was sent; what the key file's reader throws.
 */
async function offerTo(
  { keysFolder, timeout_ms, interrupted: signal }: CommandContext,
  { port }: ClassicRow,
  payee: ClassicName,
  text: string,
): Promise<string | null> {
  const offer = sealClassicOffer(text, loadOfferPublicKey(keysFolder));
  const connection = await connectTcp({ host: OFFER_HOST, port, timeout_ms, signal })
    .catch((cause) => {
      if (!isSealwireError(cause, "no_connection")) throw cause;
      const message = `${payee.account} is not to be reached; nothing was paid`;
      throw new SealwireError("payee_unreachable", message, { cause });
    });
  const timer = setTimeout(() => connection.destroy(), timeout_ms);
  let answer = "";
  try {
    await connection.write(offer);
    while (!answer.endsWith("\n") && answer.length <= MESSAGE_BYTES_MAX) {
      const bytes = await connection.read();
      if (bytes === null) break;
      const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
      // A C++ payee passes on the NUL that ends some texts of its server.
      answer += text.replaceAll("\0", "");
    }
  } catch (error) {
    if (!isSealwireError(error, "connection_lost")) throw error;
  } finally {
    clearTimeout(timer);
    connection.destroy();
  }
  return answer === "" ? null : answer;
}

export async function printList(
  { out }: CommandContext,
  { account }: ClassicName,
  session: ClassicSession,
  list: ClassicList,
): Promise<void> {
  const online = (await listAll(session, list)).map((row) => ({ ...row, fingerprint: null }));
  const balance = decimal(list);
  const lines = online.map(({ name, host, port }) =>
    `${name.padEnd(32)} ${formatAddress(printable(host), port)}`
  );
  out.result({ account, balance, online, next: null }, [`balance ${balance}`, ...lines].join("\n"));
}

/** Everyone online: asks on until a list shows nobody new. */
async function listAll(session: ClassicSession, first: ClassicList): Promise<ClassicRow[]> {
  const rows = new Map(first.rows.map((row) => [row.name, row]));
  for (let asked = 1; asked < LISTS_MAX; asked++) {
    const known = rows.size;
    for (const row of (await session.list()).rows) rows.set(row.name, row);
    if (rows.size === known) break;
  }
  return [...rows.values()];
}

export function printAccount(
  { out }: CommandContext,
  { account }: ClassicName,
  list: ClassicList,
  what: string,
): void {
  const balance = decimal(list);
  out.result({ account, balance }, `${account} ${what}; balance ${balance}`);
}

async function withLogin(
  context: CommandContext,
  name: ClassicName,
  work: (session: ClassicSession, list: ClassicList) => Promise<void>,
): Promise<void> {
  const session = await ClassicSession.connect(serverOptions(context));
  try {
    const { list, close } = await loginWithoutOffers(context, session, name);
    try {
      await work(session, list);
    } finally {
      await close();
    }
  } finally {
    await session.exit();
  }
}

/** A login must name a port: one on which every payer is turned away, rather than one where someone else may listen. */
async function loginWithoutOffers(
  { p2pPort: port }: CommandContext,
  session: ClassicSession,
  name: ClassicName,
): Promise<{ list: ClassicList; close: () => Promise<void> }> {
  const door = await listenTcp({ host: OFFER_HOST, port }, (connection) => connection.destroy());
  try {
    const list = await session.login(name.written, door.port);
    return { list, close: () => door.close() };
  } catch (error) {
    await door.close();
    throw error;
  }
}

function minorOf(list: ClassicList): bigint {
  return BigInt(decimal(list).replace(".", ""));
}

/** The balance with two decimals, as the other commands print it. */
function decimal({ balance }: ClassicList): string {
  const [units, cents = ""] = balance.split(".");
  return `${units}.${cents.padEnd(2, "0")}`;
}
