/**
 * The texts of the classic payment protocol, as the C++ programs exchange them over TLS: what a
 * client asks, what the server answers, and what a payer's client hands to a payee's. Pure
 * functions; docs/protocol/classic.md has the table.
 */
import { type ErrorCode, isSealwireError, SealwireError } from "../../base/errors.ts";
import { type AccountName, parseAccountName } from "../../keys/rsa.ts";
import { type Amount, formatAmount, parseAmount } from "../../protocol/money.ts";
import { P2P_PORT_MIN } from "../../protocol/wire.ts";

/** Those programs read one buffer of 1,024 bytes, and end it with a zero. */
export const MESSAGE_BYTES_MAX = 1_023;
const PORT_MAX = 65_535;

/** A name as a classic client writes it, and the account that it means. */
export interface ClassicName {
  readonly written: string;
  readonly account: AccountName;
}

/** A name exactly as it is written, at a server whose names nobody folds. */
export type WrittenName = string & { readonly __brand: "WrittenName" };

export interface ClassicOrder {
  readonly payer: ClassicName | null;
  readonly payee: ClassicName | null;
  readonly amount: Amount;
}

/** A client's request. A name that no account can have is null, and so is a port out of range. */
export type ClassicRequest =
  | { readonly type: "register"; readonly name: ClassicName | null }
  | { readonly type: "login"; readonly name: ClassicName | null; readonly port: number | null }
  | { readonly type: "list" }
  | ({ readonly type: "order" } & ClassicOrder)
  | { readonly type: "exit" };

/** One line of the list of those online. */
export interface ClassicRow {
  readonly name: string;
  readonly host: string;
  readonly port: number;
}

/** The answer to a login and to List. */
export interface ClassicList {
  /** Decimal text. A whole number has no decimals. */
  readonly balance: string;
  /** The server's public key: base64 of its SPKI, on one line. */
  readonly serverKey: string;
  readonly rows: readonly ClassicRow[];
}

export const ANSWERS = {
  registered: "100 OK\r\n",
  registerFailed: "210 FAIL\r\n",
  loginFailed: "220 AUTH_FAIL\r\n",
  portOutOfRange: "Invalid port range.\r\n",
  loginFirst: "Please Login First\r\n",
  senderNotLoggedIn: "Sender not logged in.\r\n",
  recipientNotFound: "Recipient not found.\r\n",
  insufficientBalance: "Insufficient balance.\r\n",
  bye: "Bye\r\n",
  invalidCommand: "Invalid command format.\r\n",
} as const;

/**
 * Capital letters are folded. Only ASCII: what else folds to it (the Kelvin sign to k) is another
 * name to a person.
 */
function parseClassicName(written: string): ClassicName | null {
  if (!/^[\x21-\x7e]+$/.test(written)) return null;
  try {
    return { written, account: parseAccountName(written.toLowerCase()) };
  } catch (error) {
    if (isSealwireError(error, "bad_name")) return null;
    throw error;
  }
}

/**
 * A name as a client writes it, at whatever server: the C++ server's are case-sensitive and hold
 * any character but those that end a name. Null for what is none.
 */
export function parseWrittenName(text: string): WrittenName | null {
  const isName = /^[^#\0\r\n]+$/.test(text) && text.trim() === text;
  return isName ? text as WrittenName : null;
}

/** An order as a payee's client is handed it: names as they are written. */
export interface WrittenOrder {
  readonly payer: WrittenName;
  readonly payee: WrittenName;
  readonly amount: Amount;
}

/** `<payer>#<amount>#<payee>` at whatever server, or null. */
export function parseWrittenOrder(text: string): WrittenOrder | null {
  const [payer = "", amount = "", payee = "", ...more] = text.split("#");
  const names = [parseWrittenName(payer), parseWrittenName(payee)] as const;
  const minor = parseWholeAmount(amount);
  if (more.length > 0 || names[0] === null || names[1] === null || minor === null) return null;
  return { payer: names[0], payee: names[1], amount: minor };
}

/** Parses one message without its line end. Returns null for anything else. */
export function parseRequest(text: string): ClassicRequest | null {
  if (text.length > MESSAGE_BYTES_MAX) return null;
  if (text === "List") return { type: "list" };
  if (text === "Exit") return { type: "exit" };
  const [first = "", second, third, ...more] = text.split("#");
  if (second === undefined || more.length > 0) return null;
  // Some clients append their public key. It is not used.
  if (first === "REGISTER") return { type: "register", name: parseClassicName(second) };
  if (third === undefined) {
    return { type: "login", name: parseClassicName(first), port: parsePort(second) };
  }
  return parseOrderFields(first, second, third);
}

/** `<payer>#<amount>#<payee>`, or null. */
function parseOrderFields(payer: string, amountText: string, payee: string) {
  const amount = parseWholeAmount(amountText);
  if (amount === null) return null;
  const [payerName, payeeName] = [parseClassicName(payer), parseClassicName(payee)];
  return { type: "order", payer: payerName, payee: payeeName, amount } as const;
}

/** Parses a positive number of whole units. Returns null for anything else. */
export function parseWholeAmount(text: string): Amount | null {
  if (!/^[1-9]\d*$/.test(text)) return null;
  try {
    return parseAmount(text);
  } catch (error) {
    if (isSealwireError(error, "bad_amount")) return null;
    throw error;
  }
}

function parsePort(text: string): number | null {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  return port >= P2P_PORT_MIN && port <= PORT_MAX ? port : null;
}

export function formatRegister(name: string): string {
  return `REGISTER#${name}`;
}

export function formatLogin(name: string, port: number): string {
  return `${name}#${port}`;
}

/** Formats an order, for the payee and for the server. `amount`: whole units. */
export function formatOrder(payer: string, amount: Amount, payee: string): string {
  return `${payer}#${formatClassicAmount(amount)}#${payee}`;
}

export function formatTransferred(payer: string, amount: Amount, payee: string): string {
  return `Transfer Successful: ${formatClassicAmount(amount)} from ${payer} to ${payee}.\r\n`;
}

export function isTransferred(answer: string): boolean {
  return answer.startsWith("Transfer Successful");
}

/** Formats minor units: whole units as `12`, others as `12.50`. */
export function formatClassicAmount(minor: bigint): string {
  return formatAmount(minor).replace(/\.00$/, "");
}

/**
 * The answer to login and List, with as many of `rows` as go into {@linkcode MESSAGE_BYTES_MAX},
 * the first ones; its count is of those. All parts are ASCII.
 */
export function formatList({ balance, serverKey, rows }: ClassicList): {
  readonly text: string;
  readonly listed: number;
} {
  const start = `${balance}\n${serverKey}\r\n`;
  let left_bytes = MESSAGE_BYTES_MAX - start.length - `${rows.length}\n`.length;
  let text = "";
  let listed = 0;
  for (const { name, host, port } of rows) {
    const row = `${name}#${host}#${port}\r\n`;
    left_bytes -= row.length;
    if (left_bytes < 0) break;
    text += row;
    listed++;
  }
  return { text: `${start}${listed}\n${text}`, listed };
}

/** Parses an answer to login or List, also an incomplete one. Null for anything else. */
export function parseList(
  answer: string,
): (ClassicList & { readonly complete: boolean }) | null {
  const [balance = "", serverKey, count, ...lines] = answer.split(/\r?\n/);
  if (!/^\d{1,16}(\.\d{1,2})?$/.test(balance) || !count || !/^\d{1,5}$/.test(count)) return null;
  const rows = lines.flatMap(parseRow);
  return { balance, serverKey: serverKey!, rows, complete: rows.length >= Number(count) };
}

function parseRow(line: string): ClassicRow[] {
  const [name = "", host, portText, ...more] = line.split("#");
  const port = parsePort(portText ?? "");
  if (host === undefined || port === null || more.length > 0) return [];
  return parseWrittenName(name) === null ? [] : [{ name, host, port }];
}

/** Returns the error that an answer stands for, when it is not a success. */
export function refusalOf(answer: string): SealwireError {
  const codes: Readonly<Record<string, [ErrorCode, string]>> = {
    [ANSWERS.registerFailed]: ["name_taken", "the name is taken, or is none that the server takes"],
    [ANSWERS.loginFailed]: [
      "login_refused",
      "the server has no such classic account, or it is online elsewhere",
    ],
    [ANSWERS.portOutOfRange]: ["bad_port", "the server does not take this port"],
    [ANSWERS.loginFirst]: ["login_required", "log in first"],
    [ANSWERS.senderNotLoggedIn]: ["payer_offline", "the payer is not logged in"],
    [ANSWERS.recipientNotFound]: ["unknown_payee", "there is no such payee, or none who is online"],
    [ANSWERS.insufficientBalance]: [
      "insufficient_funds",
      "the payer's balance is less than the payment",
    ],
    [ANSWERS.invalidCommand]: ["bad_answer", "the server does not understand this"],
  };
  const [code, message] = codes[answer] ??
    ["bad_answer", `the server answered with something else: ${answer.trim().slice(0, 200)}`];
  return new SealwireError(code, message);
}
