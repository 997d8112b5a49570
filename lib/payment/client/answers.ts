/** What a server answers, parsed before anyone believes it or a screen shows it. Whatever is wrong is `bad_answer`. */
import { isIP } from "node:net";
import { SealwireError } from "../../base/errors.ts";
import { type AccountName, parseAccountName } from "../../keys/rsa.ts";
import { parseParty, type Party } from "../../protocol/party.ts";
import { Members } from "../../base/parse.ts";
import {
  type HistoryAnswerRow,
  type OnlineRow,
  P2P_PORT_MIN,
  type RequestAnswer,
} from "../../protocol/wire.ts";

const BALANCE = /^(0|[1-9]\d{0,13})\.\d{2}$/;
const PAYMENT_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(\/\d{1,3})?$/;
/** The end of the year 9999. */
const TIME_S_MAX = 253_402_300_799;

/** The account's balance, as decimal text. */
export function readBalance(answer: Members): string {
  return matching(answer, "balance", BALANCE);
}

export function parseName(value: unknown): AccountName {
  try {
    return parseAccountName(value);
  } catch (cause) {
    throw badAnswer("a name", cause);
  }
}

/** Null for one who is offline. */
export function parsePresence(value: unknown): { host: string; port: number } | null {
  if (value === null) return null;
  const presence = new Members(value, "presence", "bad_answer");
  const host = presence.text("host", 45);
  if (isIP(host) === 0) throw badAnswer("presence: host");
  return { host, port: presence.integer("port", P2P_PORT_MIN, 65_535) };
}

export function parseOnlineRow(value: unknown): OnlineRow {
  const row = new Members(value, "online", "bad_answer");
  return {
    name: parseName(row.raw("name")),
    ...parsePresence(value)!,
    fingerprint: row.sha256("fingerprint"),
  };
}

export function parseHistoryRow(value: unknown): HistoryAnswerRow {
  const row = new Members(value, "history", "bad_answer");
  return {
    index: row.integer("index", 1, Number.MAX_SAFE_INTEGER),
    payment: matching(row, "payment", PAYMENT_ID),
    time: row.integer("time", 0, TIME_S_MAX),
    payer: parsePartyName(row.raw("payer")),
    payee: parsePartyName(row.raw("payee")),
    amount: matching(row, "amount", BALANCE),
    memo: row.raw("memo"),
    ...(row.has("request") && { request: row.uuid("request") }),
    ...(row.has("refund_of") && { refund_of: matching(row, "refund_of", PAYMENT_ID) }),
    balance: readBalance(row),
  };
}

const REQUEST_STATES = ["pending", "declined", "withdrawn", "paid"] as const;

export function parseRequest(value: unknown): RequestAnswer {
  const row = new Members(value, "request", "bad_answer");
  const state = REQUEST_STATES.find((known) => known === row.raw("state"));
  if (state === undefined) throw badAnswer("state");
  return {
    id: row.uuid("id"),
    payee: parseName(row.raw("payee")),
    payer: row.raw("payer") === null ? null : parseName(row.raw("payer")),
    amount: matching(row, "amount", BALANCE),
    memo: row.raw("memo"),
    created: row.integer("created", 0, TIME_S_MAX),
    expires: row.integer("expires", 0, TIME_S_MAX),
    state,
    ...(state === "paid" && { index: row.integer("index", 1, Number.MAX_SAFE_INTEGER) }),
  };
}

function parsePartyName(value: unknown): Party {
  try {
    return parseParty(value);
  } catch (cause) {
    throw badAnswer("a name", cause);
  }
}

function matching(answer: Members, name: string, pattern: RegExp): string {
  const text = answer.text(name, 64);
  if (!pattern.test(text)) throw badAnswer(name);
  return text;
}

function badAnswer(what: string, cause?: unknown): SealwireError {
  return new SealwireError("bad_answer", `the server's answer is not as it should be: ${what}`, {
    cause,
  });
}
