/**
 * A client's session: one logged-in connection, and every answer on it checked before anyone
 * believes it. What can be verified is verified (checkpoints, receipts, a payee's entry in the
 * ledger); the rest is parsed.
 */
import {
  isSealwireError,
  isServerUntrusted,
  isWorthRetrying,
  retryAfterMs,
  SealwireError,
  toSealwireError,
} from "../../base/errors.ts";
import { Members, type Sha256, type Uuid } from "../../base/parse.ts";
import type { Ed25519KeyPair } from "../../keys/ed25519.ts";
import {
  type AccountName,
  parseRsaPublicJwk,
  type RsaKeyPair,
  type RsaPublicKey,
} from "../../keys/rsa.ts";
import {
  type Batch,
  type Entry,
  formatPaymentId,
  type LedgerRollback,
  parseEntry,
} from "../../ledger/entry.ts";
import {
  formatReceipt,
  type SettledPayment,
  type SettledTexts,
  verifySettled,
} from "../../ledger/receipt.ts";
import type { Cancel } from "../../protocol/cancel.ts";
import { type Delegation, signDelegation, verifyDelegation } from "../../protocol/delegation.ts";
import type { Unit } from "../../protocol/money.ts";
import { PATH_STEPS_MAX } from "../../protocol/merkle.ts";
import { formatAmount } from "../../protocol/money.ts";
import {
  BATCH_ITEMS_MAX,
  type BatchItem,
  type BatchOrder,
  isBatch,
  type Order,
  parseBatchItems,
  verifySignedOrder,
} from "../../protocol/order.ts";
import { type Party, TREASURY } from "../../protocol/party.ts";
import { type SignedRotation, verifyRotation } from "../../protocol/rotation.ts";
import type { Token } from "../../protocol/token.ts";
import { pause } from "../../base/retry.ts";
import { printable } from "../../base/text.ts";
import type { RpcPeer } from "../../rpc/peer.ts";
import {
  HISTORY_ROWS_MAX,
  type HistoryAnswerRow,
  type OnlineRow,
  PAGE_ROWS_MAX,
  type RequestAnswer,
} from "../../protocol/wire.ts";
import { mayConnectTo } from "../../net/net.ts";
import {
  parseHistoryRow,
  parseName,
  parseOnlineRow,
  parsePresence,
  parseRequest,
  readBalance,
} from "./answers.ts";
import { connectServer, type ConnectServerOptions, type ServerLink } from "./connect.ts";
import { type IncludedEntry, LogLink } from "./log_link.ts";

/** A wait of this length is told to the person. */
const WAIT_TOLD_MS = 1_000;
const TEXT_CHARACTERS_MAX = 16_384;
const KEY_CHAIN_MAX = 16;
/** Checkpoints that come during a session are linked together, so long after the first. */
const LINK_AFTER_MS = 1_000;

export interface SessionOptions extends ConnectServerOptions {
  readonly account: AccountName;
  readonly pair: RsaKeyPair;
  readonly sessionKey: Ed25519KeyPair;
  readonly now_s: () => number;
  /** Whether to go on with a ledger that lost entries; without it, such a ledger is refused. */
  readonly acceptRollback?: (lost: LedgerRollback) => boolean;
  /** How long a server that does not link a checkpoint is asked again; 10 s by default. */
  readonly linkTimeout_ms?: number;
}

export interface LoginOptions {
  /** Make the account rather than expect it. */
  readonly register?: boolean;
  /** Called when the right server is reached, before it is asked to log in or register. */
  readonly onAsking?: () => void;
  /** The code that lets a new account in. */
  readonly invite?: string;
  /** Where this client takes offers; absent for one that takes none. */
  readonly presence?: { readonly host: string | null; readonly port: number };
  readonly watch?: boolean;
  /**
   * The server says that a payment of this account is settled: verified, or null where nobody
   * signed it.
   */
  readonly onSettled?: (settled: Settled | null) => void;
  /** A request of this account, as payee or payer, is new or has ended. */
  readonly onRequest?: (request: RequestAnswer) => void;
  /** Another listener of the account took this one's place. */
  readonly onDisplaced?: () => void;
  /** This one took the place of another listener of the account. */
  readonly onDisplacing?: () => void;
  readonly onPresenceChanged?: () => void;
}

/** A payment that is settled beyond doubt. */
export interface Settled {
  readonly payment: SettledPayment;
  /** The receipt's text. */
  readonly receipt: string;
  /** This account's balance after it, as decimal text. */
  readonly balance: string;
}

/** A whole batch that is settled beyond doubt, as its payer sees it. */
export interface SettledBatch {
  readonly id: Uuid;
  readonly items: readonly BatchItem[];
  readonly balance: string;
}

/** What an id has come to, as its payer or payee is told. */
export type PaymentState =
  | { readonly state: "unknown" }
  | { readonly state: "cancelled" }
  | { readonly state: "settled"; readonly settled: Settled }
  | { readonly state: "batch"; readonly batch: SettledBatch }
  /** Settled without an order: a classic payment, or money from the treasury. */
  | { readonly state: "unsigned"; readonly balance: string };

/** What `request.create` takes. */
export interface AskedRequest {
  readonly id: Uuid;
  readonly payer: AccountName | null;
  /** Decimal text. */
  readonly amount: string;
  readonly memo: unknown;
  /** Seconds. */
  readonly life: number;
}

export interface Payee {
  readonly name: Party;
  /** Null for a classic account, which has none. */
  readonly key: RsaPublicKey | null;
  /** Where the payee takes offers; null when offline. */
  readonly presence: { readonly host: string; readonly port: number } | null;
}

export class ClientSession {
  private linkTimer: ReturnType<typeof setTimeout> | null = null;
  private isLinking = false;
  private isOver = false;
  /** Why nothing that this server says is believed any more. */
  private distrust: SealwireError | null = null;

  private constructor(
    private readonly link: ServerLink,
    private readonly options: SessionOptions,
    private readonly logLink: LogLink,
    readonly delegation: Token<Delegation>,
    /** At login, as decimal text. */
    readonly balance: string,
  ) {}

  /**
   * Connects and logs in.
   *
   * @throws {SealwireError} what {@linkcode connectServer} and linking the ledger throw, and the
   * server's refusals (`unknown_account`, `name_taken`, …).
   */
  static async open(options: SessionOptions, login: LoginOptions = {}): Promise<ClientSession> {
    const { account, pair, sessionKey, now_s, keysFolder, signal } = options;
    let session: ClientSession | null = null;
    let logLink: LogLink | null = null;
    const link = await connectServer({
      ...options,
      onResult: (result) => logLink?.hear(result),
      onNotification(method, params) {
        logLink?.hear(params);
        session?.hear(method, params, login);
      },
    });
    try {
      const { peer, statement, cert, nonce } = link;
      const ask = (method: string, params: object) => callPatiently(peer, method, params, options);
      const server = statement.claims.server.thumbprint;
      const claims = { account, session: sessionKey.publicKey, server, cert, nonce };
      const delegation = await signDelegation(pair, claims, now_s());
      const { acceptRollback = () => false, linkTimeout_ms } = options;
      const linkOptions = { keysFolder, statement, ask, signal, acceptRollback, linkTimeout_ms };
      logLink = new LogLink(linkOptions);
      const method = login.register ? "account.register" : "session.login";
      login.onAsking?.();
      const answer = await ask(method, loginParams(login, delegation, logLink.known?.text ?? null));
      if (answer.raw("displacing") === true) login.onDisplacing?.();
      session = new ClientSession(link, options, logLink, delegation, readBalance(answer));
      await logLink.begin(answer);
      return session;
    } catch (error) {
      session?.stopLinking();
      link.peer.destroy();
      logLink?.keep();
      throw session?.distrust ?? error;
    }
  }

  get server(): RsaPublicKey {
    return this.link.statement.claims.server;
  }

  /** The newest checkpoint that is linked; null where none is. */
  get checkpoint(): string | null {
    return this.logLink.known?.text ?? null;
  }

  /** Why the session ended, when it has. */
  get closed(): Promise<SealwireError | null> {
    return this.link.peer.closed;
  }

  /**
   * Links what was seen last, and ends. When the connection is lost, the next session links it.
   *
   * @throws {SealwireError} as {@linkcode LogLink.link} does.
   */
  async end(): Promise<void> {
    this.isOver = true;
    this.stopLinking();
    try {
      if (this.distrust !== null) throw this.distrust;
      await this.logLink.link();
    } catch (error) {
      if (!isWorthRetrying(error) && !isSealwireError(error, "interrupted")) throw error;
    } finally {
      this.logLink.keep();
      await this.link.peer.end();
    }
  }

  /** Ends it at once. What is not linked yet, the next session links. */
  destroy(): void {
    this.isOver = true;
    this.stopLinking();
    this.link.peer.destroy();
    this.logLink.keep();
  }

  /**
   * Links a checkpoint that another client was shown. When it cannot be linked, the session ends,
   * and {@linkcode closed} says why.
   */
  async linkForeign(checkpoint: string): Promise<void> {
    try {
      await this.logLink.linkForeign(checkpoint);
    } catch (error) {
      this.fail(error);
    }
  }

  /** The answer proves the payee's key by its entry in the log. */
  async lookup(name: AccountName): Promise<Payee> {
    const answer = await this.call("directory.lookup", { account: name });
    const key = answer.raw("key") === null ? null : parseRsaPublicJwk(answer.raw("key"));
    const entry = parseEntry((await this.included(answer)).text);
    const isKeyed = (entry.type === "account.open" || entry.type === "account.key") &&
      entry.account === name && entry.key === (key?.thumbprint ?? null);
    if (!isKeyed) {
      throw new SealwireError("bad_answer", `the server cannot prove that this key is ${name}'s`);
    }
    const presence = parsePresence(answer.raw("presence"));
    const { remoteHost: serverHost, localHost: ownHost } = this.link.peer.connection;
    const reachable = presence !== null && mayConnectTo(presence.host, { serverHost, ownHost });
    return { name, key, presence: reachable ? presence : null };
  }

  /**
   * Whether the key with thumbprint `known` vouches for the account's key: each rotation since is
   * signed by the key before it, countersigned by the key after it, and in the log. Throws
   * `bad_answer` for a chain that does not hold.
   */
  async isVouchedFor(payee: Payee, known: Sha256): Promise<boolean> {
    const answer = await this.call("directory.keys", { account: payee.name, known });
    let current: string = known;
    for (const value of answer.list("rotations", KEY_CHAIN_MAX)) {
      const change = new Members(value, "rotation", "bad_answer");
      const entry = parseEntry((await this.included(change)).text);
      const oldKey = parseRsaPublicJwk(change.raw("old_key"));
      const { rotation, countersignature } = await verifyRotation(
        change.raw("rotation"),
        change.raw("countersignature"),
        oldKey,
      );
      const holds = entry.type === "account.key" && entry.account === payee.name &&
        oldKey.thumbprint === current && entry.rotationSha256 === rotation.sha256 &&
        entry.countersignatureSha256 === countersignature.sha256 &&
        rotation.claims.account === payee.name && rotation.claims.key.thumbprint === entry.key &&
        rotation.claims.server === this.server.thumbprint;
      if (!holds) {
        throw new SealwireError(
          "bad_answer",
          `the server cannot prove how ${payee.name}'s key changed`,
        );
      }
      current = entry.key;
    }
    return current !== known && current === payee.key?.thumbprint;
  }

  /** Index of the entry that made this account's key current. */
  async keyedAt(): Promise<number> {
    const entry = parseEntry((await this.included(await this.call("account.key", {}))).text);
    const own = (entry.type === "account.open" || entry.type === "account.key") &&
      entry.account === this.options.account;
    if (!own) throw new SealwireError("bad_answer", "the server shows another account's key");
    return entry.index;
  }

  /** Gives the account another key. Every session of it ends, this one by its own `end`. */
  async rotate({ rotation, countersignature }: SignedRotation): Promise<void> {
    const answer = await this.call("account.rotate", {
      rotation: rotation.text,
      countersignature: countersignature.text,
    });
    const entry = parseEntry((await this.included(answer)).text);
    const done = entry.type === "account.key" && entry.account === this.options.account &&
      entry.key === rotation.claims.key.thumbprint;
    if (!done) throw new SealwireError("bad_answer", "the server does not show the new key");
  }

  /** Asks for money. */
  async request(asked: AskedRequest): Promise<RequestAnswer> {
    return parseRequest((await this.call("request.create", asked)).all());
  }

  /** Declines or withdraws a request. */
  async closeRequest(payee: AccountName, id: Uuid): Promise<RequestAnswer> {
    return parseRequest((await this.call("request.close", { payee, id })).all());
  }

  async findRequest(payee: AccountName, id: Uuid): Promise<RequestAnswer> {
    return parseRequest((await this.call("request.find", { payee, id })).all());
  }

  /** The pending requests of which this account is payee or payer, and then the newest of the others. */
  async requests(): Promise<RequestAnswer[]> {
    const answer = await this.call("request.list", {});
    return answer.list("requests", PAGE_ROWS_MAX).map(parseRequest);
  }

  /** One page of those online, and the name to go on after. */
  async list(after: string | null): Promise<{ online: OnlineRow[]; next: string | null }> {
    const answer = await this.call("directory.list", after === null ? {} : { after });
    const online = answer.list("online", PAGE_ROWS_MAX).map(parseOnlineRow);
    const next = answer.raw("next") === null ? null : parseName(answer.raw("next"));
    // Names go up, so there is an end, whatever a server says.
    const isOn = next === null ||
      (next === online.at(-1)?.name && (after === null || next > after));
    if (!isOn) throw new SealwireError("bad_answer", "the server's list goes in circles");
    return { online, next };
  }

  /**
   * Has an order settled, and verifies that it is.
   *
   * @throws {SealwireError} the server's refusals, which have recorded nothing; `bad_answer`.
   */
  async settle(order: Token<Order>, delegation: string): Promise<Settled> {
    const params = { order: order.text, delegation };
    const answer = await this.call("payment.settle", params);
    return await this.settled(answer, { order: order.text, delegation, item: null });
  }

  /** Has a batch settled, and verifies that it is. Throws as {@linkcode settle} does. */
  async settleBatch(
    order: Token<BatchOrder>,
    delegation: string,
    items: readonly string[],
  ): Promise<SettledBatch> {
    const answer = await this.call("payment.settle", { order: order.text, delegation, items });
    const entry = await this.batchEntry(answer);
    if (entry.orderSha256 !== order.sha256) throw anotherPayment();
    const balance = readBalance(answer);
    return { id: entry.id, items: parseBatchItems(order.claims, items), balance };
  }

  async status(id: Uuid): Promise<PaymentState> {
    const { account: payer } = this.options;
    return await this.paymentState(id, await this.call("payment.status", { id, payer }));
  }

  /** Ends an id that is not settled yet; answers what it has come to. */
  async cancel(cancel: Token<Cancel>): Promise<PaymentState> {
    const { text: delegation } = this.delegation;
    const answer = await this.call("payment.cancel", { cancel: cancel.text, delegation });
    return await this.paymentState(cancel.claims.id, answer);
  }

  /** The receipt of one payment, of which this account is a party. `item`: which of a batch. */
  async receipt(id: Uuid, item: number | null, payer = this.options.account): Promise<Settled> {
    const params = { id, ...(item !== null && { index: item }), payer };
    const settled = await this.settled(await this.call("payment.receipt", params), null);
    const { payment } = settled;
    if (payment.id !== id || payment.item !== item || payment.payer !== payer) {
      throw anotherPayment();
    }
    return settled;
  }

  /** The unit that the ledger counts in, as its first entry says. */
  async unit(): Promise<Unit> {
    const entry = parseEntry((await this.included(await this.call("ledger.open", {}))).text);
    if (entry.type === "ledger.open") return entry.unit;
    throw new SealwireError("bad_answer", "the server shows another entry than the first one");
  }

  async currentBalance(): Promise<string> {
    return readBalance(await this.call("account.balance", {}));
  }

  /** This account's payments after entry `after`, oldest first. */
  async *history(after: number): AsyncIterable<HistoryAnswerRow> {
    for await (const page of this.historyPages(after)) yield* page;
  }

  /** As {@linkcode history}, by the page. The payments of one entry are on one page. */
  async *historyPages(after: number): AsyncIterable<readonly HistoryAnswerRow[]> {
    let next: number | null = after;
    while (next !== null) {
      const answer: Members = await this.call("payment.history", { after: next });
      const rows = answer.list("rows", HISTORY_ROWS_MAX).map(parseHistoryRow);
      const last = await this.requireInLog(rows, next);
      yield rows;
      const isLast = rows.length === 0 || answer.raw("next") === null;
      next = isLast ? answer.constant("next", null) : answer.integer("next", last, last);
    }
  }

  /**
   * Rows come in the order of the log, after entry `after`, and the log has their entries. Returns
   * the last one's index. Throws `bad_answer`.
   */
  private async requireInLog(rows: readonly HistoryAnswerRow[], after: number): Promise<number> {
    let last = after + 1;
    for (const { index } of rows) {
      if (index < last) {
        throw new SealwireError("bad_answer", "the server's history is not in order");
      }
      last = index;
    }
    if (rows.length > 0 && last >= this.logLink.size) {
      await this.logLink.refresh();
      if (last >= this.logLink.size) {
        throw new SealwireError("bad_answer", "the server's history is longer than its log");
      }
      this.linkSoon();
    }
    return last;
  }

  /**
   * Makes sure that the ledger has a payment to this account as a row says it: by its receipt;
   * where nobody signed, by the payer having no key. What the treasury gives, its operator may give
   * at will.
   *
   * @throws {SealwireError} `bad_answer`.
   */
  async prove(row: HistoryAnswerRow): Promise<void> {
    const { payment, payer } = row;
    if (payer === TREASURY) return;
    const name = parseName(payer);
    const [id, item] = payment.split("/");
    try {
      const settled = await this.receipt(
        id as Uuid,
        item === undefined ? null : Number(item),
        name,
      );
      if (!isRowOf(row, settled.payment)) throw anotherPayment();
    } catch (error) {
      if (!isSealwireError(error, "unknown_payment")) throw error;
      if ((await this.lookup(name)).key === null) return;
      throw new SealwireError("bad_answer", `the server cannot prove the payment ${payment}`);
    }
  }

  /**
   * This account's payments, newest first, by the page. The payments of one entry are on one page.
   */
  async *historyBackwards(): AsyncIterable<readonly HistoryAnswerRow[]> {
    let before: number | null = Number.MAX_SAFE_INTEGER;
    while (before !== null) {
      const answer: Members = await this.call("payment.history", { before });
      yield answer.list("rows", HISTORY_ROWS_MAX).map(parseHistoryRow);
      before = answer.raw("next") === null ? null : answer.integer("next", 1, before - 1);
    }
  }

  private async call(method: string, params: object): Promise<Members> {
    try {
      return await callPatiently(this.link.peer, method, params, this.options);
    } catch (error) {
      throw this.distrust ?? error;
    }
  }

  private hear(method: string, params: unknown, login: LoginOptions): void {
    if (method === "session.displaced") login.onDisplaced?.();
    if (method === "presence.changed") login.onPresenceChanged?.();
    if (method === "request.changed") this.hearRequest(params, login);
    if (method !== "payment.settled" || login.onSettled === undefined) return;
    // A notification that is wrong says nothing; whoever waits asks the server. One that proves a
    // fork ends the session.
    this.notified(params).then(login.onSettled, () => {});
  }

  /** A notification that is wrong says nothing. */
  private hearRequest(params: unknown, { onRequest }: LoginOptions): void {
    try {
      onRequest?.(parseRequest(params));
    } catch (error) {
      if (!isSealwireError(error)) throw error;
    }
  }

  /** Null for a payment that nobody signed, which has no receipt. */
  private async notified(params: unknown): Promise<Settled | null> {
    const answer = new Members(params, "notification", "bad_answer");
    if (answer.has("order")) return await this.settled(answer, null);
    await this.included(answer);
    return null;
  }

  private async paymentState(id: Uuid, answer: Members): Promise<PaymentState> {
    const state = answer.raw("state");
    if (state === "unknown" || state === "cancelled") return { state };
    answer.constant("state", "settled");
    if (answer.has("items")) return { state: "batch", batch: await this.wholeBatch(id, answer) };
    if (!answer.has("order")) {
      await this.included(answer);
      return { state: "unsigned", balance: readBalance(answer) };
    }
    const settled = await this.settled(answer, null);
    const { payment } = settled;
    if (payment.id !== id || payment.payer !== this.options.account) throw anotherPayment();
    return { state: "settled", settled };
  }

  /** `sent`: what this side sent itself, which an answer does not repeat. */
  private async settled(
    answer: Members,
    sent: Omit<SettledTexts, "entry"> | null,
  ): Promise<Settled> {
    const included = await this.included(answer);
    const texts = { ...(sent ?? quotedTexts(answer)), entry: included.text };
    const payment = await verifySettled(texts, this.server.thumbprint, this.verifyDelegation)
      .catch((cause) => {
        throw new SealwireError("bad_answer", "the server sent a receipt that does not verify", {
          cause,
        });
      });
    const receipt = formatReceipt({
      ...texts,
      statement: this.link.statement.text,
      index: payment.index,
      hashes: included.hashes,
      checkpoint: included.checkpoint.text,
    });
    return { payment, receipt, balance: readBalance(answer) };
  }

  private async wholeBatch(id: Uuid, answer: Members): Promise<SettledBatch> {
    const entry = await this.batchEntry(answer);
    const { order, delegation } = quotedTexts(answer);
    const signed = await verifySignedOrder(order, delegation, this.verifyDelegation);
    const { claims, sha256 } = signed.order;
    const own = isBatch(claims) && sha256 === entry.orderSha256 && claims.id === id &&
      claims.payer === this.options.account;
    if (!own) throw anotherPayment();
    const items = parseBatchItems(claims, answer.list("items", BATCH_ITEMS_MAX));
    return { id, items, balance: readBalance(answer) };
  }

  private async batchEntry(answer: Members): Promise<Entry<Batch>> {
    answer.constant("state", "settled");
    const entry = parseEntry((await this.included(answer)).text);
    if (entry.type !== "batch") throw anotherPayment();
    return entry;
  }

  private readonly verifyDelegation = (text: unknown) =>
    text === this.delegation.text ? Promise.resolve(this.delegation) : verifyDelegation(text);

  /** The entry of an answer, proven; its checkpoint is linked soon. */
  private async included(answer: Members): Promise<IncludedEntry> {
    try {
      const included = await this.logLink.included(answer);
      this.linkSoon();
      return included;
    } catch (error) {
      if (isServerUntrusted(error)) this.fail(error);
      throw error;
    }
  }

  private linkSoon(): void {
    const { waiting } = this.logLink;
    if (waiting === "none" || this.isOver) return;
    if (waiting === "some") {
      this.linkTimer ??= setTimeout(() => void this.linkNow(), LINK_AFTER_MS);
    } else if (!this.isLinking) {
      void this.linkNow();
    }
  }

  private async linkNow(): Promise<void> {
    this.stopLinking();
    this.isLinking = true;
    try {
      await this.logLink.link();
    } catch (error) {
      this.fail(error);
    } finally {
      this.isLinking = false;
    }
  }

  /**
   * A client that cannot link goes no further. What it does not trust, it says wherever it is
   * asked.
   */
  private fail(error: unknown): void {
    const reason = toSealwireError(error);
    if (isServerUntrusted(reason)) this.distrust ??= reason;
    this.isOver = true;
    this.stopLinking();
    this.link.peer.destroy(reason);
    this.logLink.keep();
  }

  private stopLinking(): void {
    if (this.linkTimer !== null) clearTimeout(this.linkTimer);
    this.linkTimer = null;
  }
}

function loginParams(
  { register, invite, presence, watch }: LoginOptions,
  delegation: Token<Delegation>,
  checkpoint: string | null,
): object {
  return {
    delegation: delegation.text,
    ...(checkpoint !== null && { checkpoint }),
    ...(register && invite !== undefined && { invite }),
    ...(!register && presence &&
      { presence: { ...(presence.host && { host: presence.host }), port: presence.port } }),
    ...(!register && watch && { watch }),
  };
}

/** The texts that an answer quotes. Throws `bad_answer`. */
function quotedTexts(answer: Members): Omit<SettledTexts, "entry"> {
  const item = answer.has("item")
    ? {
      text: answer.text("item", TEXT_CHARACTERS_MAX),
      path: answer.list("item_path", PATH_STEPS_MAX).map(String),
    }
    : null;
  return {
    order: answer.text("order", TEXT_CHARACTERS_MAX),
    delegation: answer.text("delegation", TEXT_CHARACTERS_MAX),
    item,
  };
}

/** Whether a row of a history tells of this payment. */
export function isRowOf(row: HistoryAnswerRow, settled: SettledPayment): boolean {
  const { id, item, payer, payee, amount, index } = settled;
  return row.payment === formatPaymentId(id, item) && row.payer === payer &&
    row.payee === payee && row.amount === formatAmount(amount) && row.index === index;
}

function anotherPayment(): SealwireError {
  return new SealwireError("bad_answer", "the server sent the receipt of another payment");
}

/**
 * Calls a method of the server. Where the server says when to try again, waits that long and does,
 * as long as the timeout allows.
 */
async function callPatiently(
  peer: RpcPeer,
  method: string,
  params: object,
  { timeout_ms, signal, remark }: Pick<SessionOptions, "timeout_ms" | "signal" | "remark">,
): Promise<Members> {
  let told = false;
  const until_ms = performance.now() + timeout_ms;
  while (true) {
    try {
      const answer = await peer.call(method, params, { timeout_ms, signal });
      return new Members(answer, method, "bad_answer");
    } catch (error) {
      const wait_ms = retryAfterMs(error);
      if (wait_ms === null || performance.now() + wait_ms > until_ms) throw error;
      if (!told && wait_ms >= WAIT_TOLD_MS) {
        const sentence = printable((error as SealwireError).message);
        remark(`the server says to wait: ${sentence}; trying again until the timeout`);
        told = true;
      }
      await pause(wait_ms, signal);
    }
  }
}
