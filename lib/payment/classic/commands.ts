/**
 * The classic client's commands: each connects, logs in, does one thing, and prints it as a line of
 * JSON or as text.
 */
import { Buffer } from "node:buffer";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { printable } from "../../base/text.ts";
import { padded } from "../../cli/columns.ts";
import { isSealwireError, SealwireError } from "../../base/errors.ts";
import { type Amount, formatAmount } from "../../protocol/money.ts";
import { connectTcp, formatAddress, listenTcp } from "../../net/net.ts";
import { type CommandContext, serverOptions } from "../client/commands_context.ts";
import { ClassicSession } from "./client.ts";
import {
  type ClassicList,
  type ClassicRow,
  formatOrder,
  isTransferred,
  MESSAGE_BYTES_MAX,
  refusalOf,
  type WrittenName,
} from "./format.ts";
import { OFFER_HOST } from "./offer_listener.ts";
import { loadOfferPublicKey, sealClassicOffer } from "./offer.ts";

const NAME_COLUMNS = 32;
/** How often to ask for the list. A list that is cut goes on in the next one. */
const LISTS_MAX = 200;

export interface ClassicPayOptions {
  readonly payee: WrittenName;
  /** Whole units. */
  readonly amount: Amount;
}

export async function register(context: CommandContext, name: WrittenName): Promise<void> {
  const session = await ClassicSession.connect(serverOptions(context));
  try {
    await session.register(name);
    const { list, close } = await loginWithoutOffers(context, session, name);
    printAccount(context, name, list, "is registered");
    await close();
  } finally {
    await session.exit();
  }
}

export async function list(context: CommandContext, name: WrittenName): Promise<void> {
  await withLogin(context, name, (session, list) => printList(context, name, session, list));
}

export async function pay(
  context: CommandContext,
  name: WrittenName,
  options: ClassicPayOptions,
): Promise<void> {
  await withLogin(context, name, (session, list) => payFrom(context, name, session, list, options));
}

/** Pays from a session that is logged in as `name`. Prints the outcome, judged by the server's
 * balance. */
export async function payFrom(
  context: CommandContext,
  name: WrittenName,
  session: ClassicSession,
  list: ClassicList,
  { payee, amount }: ClassicPayOptions,
): Promise<void> {
  if (payee === name) {
    throw new SealwireError("payer_is_payee", "payer and payee are the same account");
  }
  const online = await listAll(session, list);
  // Exactly: at a C++ server `Bob` and `bob` are two people.
  const row = online.find(({ name }) => name === payee);
  const text = formatOrder(name, amount, payee);
  const before = minorOf(await session.list());
  const answer = row === undefined
    ? await session.order(text)
    : await offerTo(context, row, payee, text);
  const after = minorOf(await session.list());
  try {
    requirePaid(answer, amount, before, after);
  } catch (error) {
    throw isSealwireError(error, "unknown_payee") ? namingOtherCase(error, payee, online) : error;
  }
  const path = row === undefined ? "server" : "direct";
  const parties = { payer: name, payee };
  const balance = formatAmount(after);
  const way = path === "direct" ? "directly" : "through the server";
  const said = `paid ${formatAmount(amount)} to ${printable(payee)} ${way}; balance ${balance}`;
  context.out.result(
    { payment: null, ...parties, amount: formatAmount(amount), path, balance },
    said,
  );
}

/** An unknown payee whose name is online in other letters is two people, or a slip. */
function namingOtherCase(
  error: SealwireError,
  payee: WrittenName,
  online: readonly ClassicRow[],
): SealwireError {
  const alike = online.find(({ name }) => name.toLowerCase() === payee.toLowerCase());
  if (alike === undefined) return error;
  const message = `${error.message}; "${alike.name}" is online, and capital letters count`;
  return new SealwireError(error.code, message, { cause: error });
}

/**
 * What the payee answers is a hint; the balance is the server's word. Throws the refusal, or
 * `outcome_unknown` where the two do not agree.
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
 * Hands the order to the payee's client. Returns its answer, or null if none came.
 *
 * @throws {SealwireError} `payee_unreachable`: nothing was sent; what the key file's reader throws.
 */
async function offerTo(
  { keysFolder, timeout_ms, interrupted: signal, out }: CommandContext,
  { port }: ClassicRow,
  payee: WrittenName,
  text: string,
): Promise<string | null> {
  noteKeysHere({ keysFolder, out }, "B_public.pem");
  const offer = sealClassicOffer(text, loadOfferPublicKey(keysFolder));
  const connection = await connectTcp({ host: OFFER_HOST, port, timeout_ms, signal })
    .catch((cause) => {
      if (!isSealwireError(cause, "no_connection")) throw cause;
      const message = `${payee} is not to be reached; nothing was paid`;
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

/** The C++ programs keep their keys in the working folder, where this client does not look. */
export function noteKeysHere(
  { keysFolder, out }: Pick<CommandContext, "keysFolder" | "out">,
  file: string,
): void {
  if (resolve(keysFolder) === resolve(".") || !existsSync(file)) return;
  out.note(
    `${resolve(file)}, where the C++ programs look, is not the key used here: ` +
      `that is ${join(keysFolder, file)}. To use the keys of this folder: --keys .`,
  );
}

export async function printList(
  { out }: CommandContext,
  account: WrittenName,
  session: ClassicSession,
  list: ClassicList,
): Promise<void> {
  const online = (await listAll(session, list)).map((row) => ({ ...row, fingerprint: null }));
  const balance = decimal(list);
  const lines = online.map(({ name, host, port }) =>
    `${padded(printable(name), NAME_COLUMNS)} ${formatAddress(printable(host), port)}`
  );
  out.result({ account, balance, online, next: null }, [`balance ${balance}`, ...lines].join("\n"));
}

/** Returns everyone who is online. Asks until a list shows nobody new. */
export async function listAll(session: ClassicSession, first: ClassicList): Promise<ClassicRow[]> {
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
  account: WrittenName,
  list: ClassicList,
  what: string,
): void {
  const balance = decimal(list);
  out.result({ account, balance }, `${printable(account)} ${what}; balance ${balance}`);
}

async function withLogin(
  context: CommandContext,
  name: WrittenName,
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

/**
 * A login must name a port: one on which every payer is turned away, rather than one where someone
 * else may listen.
 */
async function loginWithoutOffers(
  { p2pPort: port }: CommandContext,
  session: ClassicSession,
  name: WrittenName,
): Promise<{ list: ClassicList; close: () => Promise<void> }> {
  const place = { host: OFFER_HOST, port, connections_max: 1 };
  const door = await listenTcp(place, (connection) => connection.destroy());
  try {
    const list = await session.login(name, door.port);
    return { list, close: () => door.close() };
  } catch (error) {
    await door.close();
    throw error;
  }
}

function minorOf(list: ClassicList): bigint {
  return BigInt(decimal(list).replace(".", ""));
}

/** Formats the balance with two decimals, as the other commands do. */
export function decimal({ balance }: ClassicList): string {
  const [units, cents = ""] = balance.split(".");
  return `${units}.${cents.padEnd(2, "0")}`;
}
