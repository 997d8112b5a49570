/**
 * The classic side of the payment server: C++ clients over TLS without ALPN. Their accounts are accounts of the same ledger,
 * without a key; who says a name there is believed, and therefore the rules let nobody say so much as to touch an account
 * that has a key (`ledger/settle.ts`).
 */
import { Buffer } from "node:buffer";
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { isSealwireError } from "../../base/errors.ts";
import type { AccountName, RsaPublicKey } from "../../keys/rsa.ts";
import type { Ledger } from "../../ledger/ledger.ts";
import type { Outcome, RefusalReason } from "../../ledger/submission.ts";
import { addressGroup, type Connection, type Place } from "../../net/net.ts";
import type { Uuid } from "../../base/parse.ts";
import type { Budgets } from "../server/budgets.ts";
import type { Log } from "../server/log.ts";
import { MessageReader } from "./message_reader.ts";
import {
  ANSWERS,
  type ClassicName,
  type ClassicOrder,
  type ClassicRequest,
  formatClassicAmount,
  formatList,
  formatTransferred,
  parseRequest,
} from "./format.ts";

/** Silence, before a login and after it: C++ clients send nothing while their person does nothing. */
const LOGIN_SILENCE_MS = 60_000;
const SESSION_SILENCE_MS = 12 * 3_600_000;
/** How long the beginning of a message waits for the rest of it. */
const HOLD_MS = 100;
/** Messages of one connection: so many at once, and then so many a second. What is more waits. */
const BURST_MESSAGES = 100;
const MESSAGES_PER_S = 50;

export interface ClassicPaymentOptions {
  readonly ledger: Ledger;
  readonly serverKey: RsaPublicKey;
  readonly log: Log;
  readonly budgets: Budgets;
  /** Tells an account that has a key of a payment that nobody signed, in entry `index`. */
  readonly announce: (account: AccountName, index: number) => void;
}

/** One connection. */
class Session {
  readonly reader = new MessageReader();
  /** Null before login. */
  name: ClassicName | null = null;
  port = 0;
  /** Who the next list begins with, when the last one was cut before them. */
  listFrom: AccountName | null = null;
  closed = false;
  private allowance = BURST_MESSAGES;
  private allowed_at_ms = performance.now();

  constructor(readonly connection: Connection, readonly place: Place) {}

  /** Waits until this session may have another message answered. */
  async turn(): Promise<void> {
    const now_ms = performance.now();
    const earned = (now_ms - this.allowed_at_ms) / 1000 * MESSAGES_PER_S;
    this.allowance = Math.min(this.allowance + earned, BURST_MESSAGES) - 1;
    this.allowed_at_ms = now_ms;
    if (this.allowance < 0) await delay(-this.allowance / MESSAGES_PER_S * 1000);
  }
}

export class ClassicPaymentServer {
  private readonly online = new Map<AccountName, Session>();
  private readonly serverKey: string;

  constructor(private readonly options: ClassicPaymentOptions) {
    const spki = options.serverKey.key.export({ type: "spki", format: "der" });
    this.serverKey = Buffer.from(spki).toString("base64");
  }

  /** Takes a connection and serves it to its end. */
  accept(connection: Connection, place: Place): void {
    const session = new Session(connection, place);
    void this.serve(session).then(() => this.leave(session, null), (error) => {
      connection.destroy();
      this.leave(session, error);
    });
  }

  private leave(session: Session, error: unknown): void {
    session.closed = true;
    const { name, connection } = session;
    if (name !== null && this.online.get(name.account) === session) {
      this.online.delete(name.account);
    }
    const from = { host: connection.remoteHost, port: connection.remotePort, classic: true };
    if (error !== null && !isSealwireError(error)) {
      this.options.log("internal_error", { ...from, message: String(error) });
    }
    const reason = isSealwireError(error) ? { reason: error.code } : {};
    this.options.log("closed", { ...from, ...(name && { account: name.account }), ...reason });
  }

  private async serve(session: Session): Promise<void> {
    const { connection, reader } = session;
    let hold_until_ms: number | null = null;
    let reading = read(connection);
    while (true) {
      const silence_ms = session.name === null ? LOGIN_SILENCE_MS : SESSION_SILENCE_MS;
      const wait_ms = hold_until_ms === null ? silence_ms : hold_until_ms - performance.now();
      const bytes = await within(reading, wait_ms);
      if (bytes === "late" && hold_until_ms === null) return connection.destroy();
      const now_ms = performance.now();
      if (bytes instanceof Uint8Array) reading = read(connection);
      const messages = bytes instanceof Uint8Array
        ? reader.push(bytes, now_ms)
        : reader.flush(now_ms);
      hold_until_ms = reader.holding ? hold_until_ms ?? now_ms + HOLD_MS : null;
      for (const message of messages) {
        if (await this.answer(session, message) === ANSWERS.bye) return void connection.end();
      }
      if (bytes === null) return void connection.end();
    }
  }

  /** Answers one message; the answer is one write, so that it is one record. */
  private async answer(session: Session, message: string): Promise<string> {
    await session.turn();
    const request = parseRequest(message);
    const answer = request === null ? ANSWERS.invalidCommand : await this.handle(session, request);
    await session.connection.write(new TextEncoder().encode(answer));
    return answer;
  }

  private async handle(session: Session, request: ClassicRequest): Promise<string> {
    switch (request.type) {
      case "register":
        return await this.register(session, request.name);
      case "login":
        return await this.login(session, request);
      case "list":
        return session.name === null ? ANSWERS.loginFirst : await this.list(session, session.name);
      case "order":
        return await this.order(session, request);
      case "exit":
        return ANSWERS.bye;
    }
  }

  private async register(session: Session, name: ClassicName | null): Promise<string> {
    if (name === null) return ANSWERS.registerFailed;
    const { ledger, log, budgets } = this.options;
    const { account } = name;
    const { remoteHost } = session.connection;
    try {
      budgets.requireRegistration(remoteHost);
    } catch (error) {
      if (!isSealwireError(error, "rate_limited")) throw error;
      return ANSWERS.registerFailed;
    }
    const id = randomUUID() as Uuid;
    const origin = { address: addressGroup(remoteHost), account };
    const outcome = await ledger.submit({ type: "open-classic", account, id }, origin);
    if (outcome.state !== "opened") return ANSWERS.registerFailed;
    budgets.countRegistration(remoteHost);
    log("registered", { account, classic: true });
    return ANSWERS.registered;
  }

  private async login(
    session: Session,
    { name, port }: ClassicRequest & { type: "login" },
  ): Promise<string> {
    if (port === null) return ANSWERS.portOutOfRange;
    const account = name && await this.options.ledger.account(name.account);
    if (name === null || account === null || account.key !== null) return ANSWERS.loginFailed;
    // A session is one account's, and an account has one session.
    const other = session.name !== null && session.name.account !== name.account;
    const holder = this.online.get(name.account) ?? session;
    if (other || holder !== session || session.closed) return ANSWERS.loginFailed;
    session.name = name;
    session.port = port;
    session.place.prove(name.account);
    this.online.set(name.account, session);
    this.options.log("login", { account: name.account, classic: true });
    return await this.list(session, name);
  }

  /** When not all go into one answer, the next List of the session goes on where this one was cut. */
  private async list(session: Session, name: ClassicName): Promise<string> {
    const account = await this.options.ledger.account(name.account);
    const sessions = [...this.online.values()];
    const start = sessions.findIndex(({ name }) => name!.account === session.listFrom);
    const inOrder = start > 0 ? [...sessions.slice(start), ...sessions.slice(0, start)] : sessions;
    const rows = inOrder.map(({ name, connection, port }) => (
      { name: name!.written, host: connection.remoteHost, port }
    ));
    const balance = formatClassicAmount(account!.balance);
    const { text, listed } = formatList({ balance, serverKey: this.serverKey, rows });
    session.listFrom = inOrder[listed]?.name?.account ?? null;
    return text;
  }

  /** Answers when the outcome is durable. */
  private async order(session: Session, { payer, payee, amount }: ClassicOrder): Promise<string> {
    if (payer === null || !this.online.has(payer.account)) return ANSWERS.senderNotLoggedIn;
    if (payee === null || !await this.mayOrder(session, payer, payee)) {
      return ANSWERS.recipientNotFound;
    }
    const parties = { payer: payer.account, payee: payee.account };
    const id = randomUUID() as Uuid;
    const submission = { type: "unsigned", id, ...parties, amount } as const;
    const { name, connection } = session;
    const origin = { address: addressGroup(connection.remoteHost), account: name!.account };
    const outcome = await this.options.ledger.submit(submission, origin);
    if (outcome.state !== "settled") return refusalAnswer(outcome);
    this.options.log("settled", { payment: id, payer: payer.account, classic: true });
    this.options.announce(payee.account, outcome.index);
    return formatTransferred(payer.written, amount, payee.written);
  }

  /**
   * An order comes from the session of its payee. To an account that has a key, and so no such session, it comes from the
   * session of its payer.
   */
  private async mayOrder(
    session: Session,
    payer: ClassicName,
    payee: ClassicName,
  ): Promise<boolean> {
    if (session.name === null) return false;
    if (session.name.account === payee.account) return true;
    if (session.name.account !== payer.account) return false;
    const account = await this.options.ledger.account(payee.account);
    return account !== null && account.key !== null;
  }
}

const REFUSALS: Partial<Readonly<Record<RefusalReason, string>>> = {
  insufficient_funds: ANSWERS.insufficientBalance,
  signature_required: ANSWERS.senderNotLoggedIn,
  unknown_account: ANSWERS.senderNotLoggedIn,
  payer_is_payee: ANSWERS.recipientNotFound,
  unknown_payee: ANSWERS.recipientNotFound,
};

function refusalAnswer(outcome: Exclude<Outcome, { state: "settled" }>): string {
  const answer = outcome.state === "refused" ? REFUSALS[outcome.reason] : undefined;
  if (answer === undefined) throw new TypeError(`an order ended as ${JSON.stringify(outcome)}`);
  return answer;
}

/** The next bytes. A failure that comes when nobody waits for them any more is nobody's. */
function read(connection: Connection): Promise<Uint8Array | null> {
  const bytes = connection.read();
  bytes.catch(() => {});
  return bytes;
}

/** What `promise` gives, or `late` when that takes longer. */
async function within<T>(promise: Promise<T>, timeout_ms: number): Promise<T | "late"> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<"late">((resolve) => {
    timer = setTimeout(() => resolve("late"), Math.max(timeout_ms, 0));
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
