/**
 * The payment server: who is connected, what they may ask, and who hears of what. Over money the ledger decides.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { isIP } from "node:net";
import { type Delegation, NONCE_BYTES, requireValidFor, verifyDelegation } from "../delegations.ts";
import { SealwireError } from "../errors.ts";
import { type AccountName, parseAccountName } from "../keys.ts";
import { formatPaymentId, parseEntry } from "../ledger/entry.ts";
import { type Ledger, type OrderTexts, orderTexts, storedOrderTexts } from "../ledger/ledger.ts";
import type { Outcome, SettledEntries, Submission } from "../ledger/submission.ts";
import type { HistoryRow, LedgerStore, StoredPayment } from "../ledger/store.ts";
import { formatAmount } from "../money.ts";
import { type Connection, type Listener, listenTls } from "../net.ts";
import {
  BATCH_ITEMS_MAX,
  isBatch,
  parseBatchItems,
  parseOrder,
  verifySignedOrder,
} from "../orders.ts";
import { encodeBase64url, Members, type Uuid } from "../parse.ts";
import { type Handler, type Method, RpcPeer } from "../rpc.ts";
import type { SealedMemo } from "../sealing.ts";
import type { Token } from "../tokens.ts";
import type { ServerKeys } from "../server_keys.ts";
import { type Listed, Presence } from "./presence.ts";
import { Pushes } from "./pushes.ts";
import { refusal } from "./refusals.ts";
import { VoidBudget } from "./void_budget.ts";
import {
  ALPN,
  BATCH_LINE_BYTES_MAX,
  type HelloAnswer,
  type HistoryAnswer,
  type HistoryAnswerRow,
  type LoginAnswer,
  type OnlineRow,
  P2P_PORT_MIN,
  PAGE_ROWS_MAX,
  type SettledAnswer,
} from "./wire.ts";

/** A connection that has not logged in by then is closed. */
const LOGIN_DEADLINE_MS = 30_000;
/** Delegations that fail, on one connection; each costs an RSA verification. */
const LOGIN_FAILURES_MAX = 4;
/** Verified delegations that are remembered. */
const DELEGATIONS_KEPT_MAX = 10_000;
const TOKEN_CHARACTERS_MAX = 16_384;

export interface PaymentServerOptions {
  readonly host: string;
  readonly port: number;
  readonly keys: ServerKeys;
  readonly ledger: Ledger;
  readonly store: LedgerStore;
  /** Minor units that a new account opens with. */
  readonly openingBalance: bigint;
  readonly now_s: () => number;
  readonly log: (event: string, fields: Readonly<Record<string, unknown>>) => void;
  /** Takes connections whose client does not ask for our protocol. */
  readonly acceptOther: (connection: Connection) => void;
}

/** One connection. */
class Session implements Listed {
  readonly nonce = encodeBase64url(randomBytes(NONCE_BYTES));
  delegation: Delegation | null = null;
  loginFailures = 0;
  closed = false;
  peer!: RpcPeer;
  pushes!: Pushes;

  /** Of a logged-in session. */
  get account(): AccountName {
    if (this.delegation === null) throw new SealwireError("login_required", "log in first");
    return this.delegation.account;
  }

  notify(method: string, params: object): void {
    this.peer.notify(method, params);
  }

  displace(): void {
    this.notify("session.displaced", {});
    void this.peer.end();
  }
}

export class PaymentServer {
  private readonly presence = new Presence<Session>();
  private readonly delegations = new Map<string, Promise<Token<Delegation>>>();
  private readonly voids: VoidBudget;
  private listener: Listener | null = null;

  private constructor(private readonly options: PaymentServerOptions) {
    this.voids = new VoidBudget(options.now_s);
  }

  /** @throws {SealwireError} `port_in_use`, `port_forbidden`, `address_unavailable`. */
  static async start(options: PaymentServerOptions): Promise<PaymentServer> {
    const server = new PaymentServer(options);
    const { host, port, keys, log } = options;
    const tls = { host, port, cert: keys.certificatePem, key: keys.tlsKeyPem, alpn: [ALPN] };
    const onNotice = (text: string) => log("notice", { text });
    server.listener = await listenTls(
      { ...tls, onNotice },
      (connection) => server.accept(connection),
    );
    return server;
  }

  get address(): { readonly host: string; readonly port: number } {
    return { host: this.listener!.host, port: this.listener!.port };
  }

  /** Takes no more. Ledger and store stay open. */
  async close(): Promise<void> {
    await this.listener?.close();
    this.presence.close();
  }

  private get ledger(): Ledger {
    return this.options.ledger;
  }

  private accept(connection: Connection): void {
    if (connection.alpn !== ALPN) return this.options.acceptOther(connection);
    const session = new Session();
    const from = { host: connection.remoteHost, port: connection.remotePort };
    const onInternalError = (error: unknown) =>
      this.options.log("internal_error", { ...from, message: String(error) });
    session.peer = new RpcPeer(connection, {
      role: "server",
      methods: this.methods(session),
      onInternalError,
    });
    session.pushes = new Pushes(session.peer, onInternalError);
    const deadline = setTimeout(() => {
      const message = `log in within ${LOGIN_DEADLINE_MS / 1000} s`;
      if (session.delegation === null) {
        session.peer.destroy(new SealwireError("login_required", message));
      }
    }, LOGIN_DEADLINE_MS);
    void session.peer.closed.then((reason) => {
      clearTimeout(deadline);
      session.closed = true;
      if (session.delegation !== null) this.presence.leave(session);
      const account = session.delegation?.account;
      this.options.log("closed", {
        ...from,
        ...(account && { account }),
        ...(reason && { reason: reason.code }),
      });
    });
  }

  private methods(session: Session): Record<string, Method> {
    const anyone = (handle: (params: Members) => unknown): Method => ({
      handle:
        ((params: unknown) => handle(new Members(params, "params", "invalid_params"))) as Handler,
    });
    const holder = (handle: (params: Members) => unknown): Method =>
      anyone((params) => {
        void session.account;
        return handle(params);
      });
    return {
      "hello": anyone(() => this.hello(session)),
      "account.register": anyone((params) => this.register(session, params)),
      "session.login": anyone((params) => this.login(session, params)),
      "directory.list": holder((params) => this.list(params)),
      "directory.lookup": holder((params) => this.lookup(params)),
      "payment.settle": {
        ...holder((params) => this.settle(session, params)),
        line_bytes_max: BATCH_LINE_BYTES_MAX,
      },
      "payment.status": holder((params) => this.status(session, params)),
      "payment.cancel": holder((params) => this.cancel(session, params)),
      "payment.history": holder((params) => this.history(session, params)),
      "payment.receipt": holder((params) => this.receipt(session, params)),
      "account.balance": holder(() => this.balance(session)),
      "ledger.head": holder(() => this.head()),
      "ledger.blocks": holder((params) => this.blocks(params)),
    };
  }

  private hello(session: Session): HelloAnswer {
    return { v: 1, server: this.options.keys.pair.publicKey.jwk, nonce: session.nonce };
  }

  private async register(session: Session, params: Members): Promise<LoginAnswer> {
    const delegation = await this.authenticate(session, params);
    const outcome = await this.ledger.submit({
      type: "open",
      delegation,
      id: randomUUID() as Uuid,
      openingBalance: this.options.openingBalance,
    });
    if (outcome.state === "rejected" || outcome.state === "void") throw refusal(outcome);
    const { account } = delegation.claims;
    if (outcome.state === "opened" && !outcome.again) this.options.log("registered", { account });
    return await this.enter(session, delegation.claims);
  }

  private async login(session: Session, params: Members): Promise<LoginAnswer> {
    const presence = params.has("presence") ? parsePresence(params.object("presence")) : null;
    const { claims: delegation } = await this.authenticate(session, params);
    const account = await this.options.store.account(delegation.account);
    if (account === null) {
      throw new SealwireError("unknown_account", "there is no such account: register first");
    }
    if (account.key !== delegation.key.thumbprint) {
      throw new SealwireError("wrong_key", "the account has another key");
    }
    const answer = await this.enter(session, delegation);
    if (presence !== null && !session.closed) {
      const host = presence.host ?? session.peer.connection.remoteHost;
      const row: OnlineRow = {
        name: account.name,
        host,
        port: presence.port,
        fingerprint: account.key,
      };
      this.presence.publish(session, row);
    }
    if (params.raw("watch") === true && !session.closed) this.presence.subscribe(session);
    return answer;
  }

  /** The delegation of someone who holds the key it names, made for this very connection. */
  private async authenticate(session: Session, params: Members): Promise<Token<Delegation>> {
    if (session.delegation !== null) {
      throw new SealwireError("already_logged_in", "this connection is logged in");
    }
    if (session.loginFailures >= LOGIN_FAILURES_MAX) {
      throw new SealwireError(
        "too_many_failures",
        "too many logins have failed on this connection",
      );
    }
    // Counted before any waiting, so that requests sent together count as well.
    session.loginFailures++;
    const delegation = await verifyDelegation(params.text("delegation", TOKEN_CHARACTERS_MAX));
    requireValidFor(delegation.claims, this.delegationContext());
    if (delegation.claims.nonce !== session.nonce) {
      throw new SealwireError("wrong_nonce", "the delegation was made for another connection");
    }
    return delegation;
  }

  private delegationContext() {
    const { keys, now_s } = this.options;
    return { server: keys.pair.publicKey.thumbprint, cert: keys.certificateSha256, now_s: now_s() };
  }

  private async enter(session: Session, delegation: Delegation): Promise<LoginAnswer> {
    if (session.delegation !== null) {
      throw new SealwireError("already_logged_in", "this connection is logged in");
    }
    if (session.closed) throw new SealwireError("connection_lost", "the connection was lost");
    session.delegation = delegation;
    try {
      this.presence.enter(session);
    } catch (error) {
      session.delegation = null;
      throw error;
    }
    this.options.log("login", { account: delegation.account });
    const { balance } = await this.balance(session);
    return { account: delegation.account, balance, ...await this.head() };
  }

  private async balance(session: Session): Promise<{ balance: string }> {
    const account = await this.options.store.account(session.account);
    return { balance: formatAmount(account!.balance) };
  }

  private async head(): Promise<{ head: string | null }> {
    const { height } = await this.options.store.head();
    const [head] = await this.options.store.headers(height, 1);
    return { head: head ?? null };
  }

  private async blocks(params: Members): Promise<{ headers: string[] }> {
    const from = params.integer("from", 1, Number.MAX_SAFE_INTEGER);
    return { headers: await this.options.store.headers(from, PAGE_ROWS_MAX) };
  }

  private list(params: Members): { online: OnlineRow[]; next: string | null } {
    const after = params.has("after") ? parseAccountName(params.raw("after")) : "";
    const online = this.presence.page(after, PAGE_ROWS_MAX);
    return { online, next: online.length === PAGE_ROWS_MAX ? online.at(-1)!.name : null };
  }

  private async lookup(params: Members): Promise<object> {
    const name = parseAccountName(params.raw("account"));
    const account = await this.options.store.account(name);
    if (account === null) throw new SealwireError("unknown_payee", "there is no such payee");
    const proof = await this.ledger.prove(account.openedSeq);
    return { account: name, key: account.jwk, ...proof, presence: this.presence.find(name) };
  }

  private async settle(session: Session, params: Members): Promise<SettledAnswer> {
    const signed = await verifySignedOrder(
      params.raw("order"),
      params.raw("delegation"),
      (text) => this.verifiedDelegation(text),
    );
    const order = signed.order.claims;
    const items = isBatch(order)
      ? parseBatchItems(order, params.list("items", BATCH_ITEMS_MAX))
      : [];
    const party = session.account === order.payer ||
      (!isBatch(order) && session.account === order.payee);
    if (!party) {
      throw new SealwireError("not_a_party", "only its payer or payee may have an order settled");
    }
    const submission = { type: "order", signed, items } as const;
    const outcome = await this.submit(order.payer, submission);
    if (outcome.state === "void" || outcome.state === "rejected") throw refusal(outcome);
    if (outcome.state !== "settled") throw new TypeError(`an order ended as ${outcome.state}`);
    if (!outcome.again) {
      this.options.log("settled", { payment: order.id, payer: order.payer });
      this.announce(session, submission, outcome.entries);
    }
    const index = isBatch(order) ? null : undefined;
    return await this.settledAnswer(
      session.account,
      orderTexts(submission),
      outcome.entries,
      index,
    );
  }

  /** A void counts for the payer, who signed it, whoever hands it in: a payee's listener hands in what strangers sign. */
  private async submit(payer: AccountName, submission: Submission): Promise<Outcome> {
    this.voids.require(payer);
    const outcome = await this.ledger.submit(submission);
    if (outcome.state === "void" && !outcome.again) this.voids.spend(payer);
    return outcome;
  }

  /** A delegation as it comes with an order; a day's orders share one. */
  private verifiedDelegation(text: unknown): Promise<Token<Delegation>> {
    if (typeof text !== "string") return verifyDelegation(text);
    const known = this.delegations.get(text);
    if (known !== undefined) return known;
    const verified = verifyDelegation(text);
    verified.then(() => {
      this.delegations.set(text, verified);
      if (this.delegations.size > DELEGATIONS_KEPT_MAX) {
        this.delegations.delete(this.delegations.keys().next().value!);
      }
    }, () => {});
    return verified;
  }

  /**
   * What a party hears of a settled payment. `order` null: nobody signed it, so it has no receipt. `index`: which of a batch;
   * undefined for a plain payment; null for a whole batch, whose receipts are asked for one by one.
   */
  private async settledAnswer(
    account: AccountName,
    order: OrderTexts | null,
    entries: SettledEntries,
    index: number | null | undefined,
  ): Promise<SettledAnswer> {
    const seq = entries.seq + (index === null ? entries.count - 1 : index ?? 0);
    const [balance] = await this.options.store.balancesAfter([{ account, seq }]);
    const receipt = index === null || order === null
      ? {}
      : { receipt: await this.ledger.receipt(order, entries, index ?? null) };
    return { state: "settled", ...receipt, balance: formatAmount(balance ?? 0n) };
  }

  /** Tells `account` of a payment in entry `seq` that nobody signed, and that has no receipt therefore. */
  announceUnsigned(account: AccountName, seq: number): void {
    let answer: Promise<SettledAnswer> | null = null;
    const make = () => answer ??= this.settledAnswer(account, null, { seq, count: 1 }, undefined);
    for (const session of this.presence.sessionsOf(account)) session.pushes.add(make);
  }

  /** Tells payer and payees of what was settled, but for `teller`, who has the answer. */
  private announce(
    teller: Session,
    submission: Submission & { type: "order" },
    entries: SettledEntries,
  ): void {
    const order = submission.signed.order.claims;
    const texts = orderTexts(submission);
    const hearers: { account: AccountName; index: number | undefined }[] = isBatch(order)
      ? submission.items.map(({ payee, index }) => ({ account: payee, index }))
      : [{ account: order.payer, index: undefined }, { account: order.payee, index: undefined }];
    for (const { account, index } of hearers) {
      let answer: Promise<SettledAnswer> | null = null;
      const make = () => answer ??= this.settledAnswer(account, texts, entries, index);
      for (const session of this.presence.sessionsOf(account)) {
        if (session !== teller) session.pushes.add(make);
      }
    }
  }

  /**
   * The payment that `params` names, when the asker is a party of it; null when it is none of the asker's. `index`: as in
   * {@linkcode settledAnswer}; a whole batch is its payer's alone.
   */
  private async findPayment(
    session: Session,
    params: Members,
  ): Promise<{ payment: StoredPayment; index: number | null | undefined } | null> {
    const id = params.uuid("id");
    const payer = params.has("payer") ? parseAccountName(params.raw("payer")) : session.account;
    const index = params.has("index") ? params.integer("index", 0, BATCH_ITEMS_MAX - 1) : undefined;
    const isPayer = session.account === payer;
    const payment = await this.options.store.payment(payer, id);
    if (payment === null) return null;
    if ("void" in payment.end) return isPayer ? { payment, index } : null;
    const { seq, count } = payment.end.settled;
    const batch = payment.itemTexts !== null;
    if (batch && index === undefined) return isPayer ? { payment, index: null } : null;
    if (index !== undefined && (!batch || index >= count)) return null;
    if (isPayer) return { payment, index };
    const entry = parseEntry((await this.ledger.prove(seq + (index ?? 0))).entry);
    return entry.type === "transfer" && entry.payee === session.account ? { payment, index } : null;
  }

  private async status(session: Session, params: Members): Promise<object> {
    const found = await this.findPayment(session, params);
    if (found === null) return { state: "unknown" };
    const { payment, index } = found;
    if ("void" in payment.end) return { state: "void", reason: payment.end.void };
    const order = storedOrderTexts(payment);
    return await this.settledAnswer(session.account, order, payment.end.settled, index);
  }

  private async receipt(session: Session, params: Members): Promise<{ receipt: string }> {
    const found = await this.findPayment(session, params);
    const order = found && storedOrderTexts(found.payment);
    const unknown = new SealwireError(
      "unknown_payment",
      "no settled payment of this account has that id",
    );
    if (!found || !order || "void" in found.payment.end) throw unknown;
    const { payment: { end: { settled } }, index } = found;
    if (index === null) {
      throw new SealwireError("index_required", "this is a batch: say which of its payments");
    }
    return { receipt: await this.ledger.receipt(order, settled, index ?? null) };
  }

  private async cancel(session: Session, params: Members): Promise<object> {
    const id = params.uuid("id");
    const { account } = session;
    const outcome = await this.submit(account, { type: "cancel", payer: account, id });
    if (outcome.state === "rejected") throw refusal(outcome);
    return await this.status(session, new Members({ id }, "params", "invalid_params"));
  }

  private async history(session: Session, params: Members): Promise<HistoryAnswer> {
    const after = params.has("after") ? params.integer("after", 0, Number.MAX_SAFE_INTEGER) : 0;
    const rows = (await this.options.store.history(session.account, after, PAGE_ROWS_MAX)).map(
      historyRow,
    );
    return { rows, next: rows.length === PAGE_ROWS_MAX ? rows.at(-1)!.seq : null };
  }
}

function parsePresence(presence: Members): { host: string | null; port: number } {
  const port = presence.integer("port", P2P_PORT_MIN, 65_535);
  if (!presence.has("host")) return { host: null, port };
  const host = presence.text("host", 45);
  if (isIP(host) === 0) {
    throw new SealwireError("invalid_params", "presence: host must be an IP address");
  }
  return { host, port };
}

function historyRow({ entryText, orderText, time_s, balance }: HistoryRow): HistoryAnswerRow {
  const entry = parseEntry(entryText);
  if (entry.type !== "transfer") throw new Error("an account.open moves no money");
  return {
    seq: entry.seq,
    payment: formatPaymentId(entry.id, entry.index),
    time: time_s,
    payer: entry.payer,
    payee: entry.payee,
    amount: formatAmount(entry.amount),
    memo: orderText === null ? null : memoOf(orderText),
    balance: formatAmount(balance),
  };
}

function memoOf(orderText: string): SealedMemo | null {
  const order = parseOrder(orderText).claims;
  return isBatch(order) ? null : order.memo;
}
