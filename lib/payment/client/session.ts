/**
 * A client's session: one logged-in connection, and every answer on it checked before anyone believes it. What can be
 * verified is verified (checkpoints, receipts, a payee's entry in the ledger); the rest is parsed.
 */
import {
  isSealwireError,
  isServerUntrusted,
  isWorthRetrying,
  SealwireError,
} from "../../base/errors.ts";
import { Members, type Sha256, type Uuid } from "../../base/parse.ts";
import type { Ed25519KeyPair } from "../../keys/ed25519.ts";
import {
  type AccountName,
  parseRsaPublicJwk,
  type RsaKeyPair,
  type RsaPublicKey,
} from "../../keys/rsa.ts";
import { type Batch, type Entry, type LedgerRollback, parseEntry } from "../../ledger/entry.ts";
import {
  formatReceipt,
  type SettledPayment,
  type SettledTexts,
  verifySettled,
} from "../../ledger/receipt.ts";
import type { Cancel } from "../../protocol/cancel.ts";
import { type Delegation, signDelegation, verifyDelegation } from "../../protocol/delegation.ts";
import type { Unit } from "../../protocol/money.ts";
import type { Party } from "../../protocol/party.ts";
import { PATH_STEPS_MAX } from "../../protocol/merkle.ts";
import {
  BATCH_ITEMS_MAX,
  type BatchItem,
  type BatchOrder,
  isBatch,
  type Order,
  parseBatchItems,
  verifySignedOrder,
} from "../../protocol/order.ts";
import { type SignedRotation, verifyRotation } from "../../protocol/rotation.ts";
import type { Token } from "../../protocol/token.ts";
import {
  HISTORY_ROWS_MAX,
  type HistoryAnswerRow,
  type OnlineRow,
  PAGE_ROWS_MAX,
  type RequestAnswer,
} from "../../protocol/wire.ts";
import {
  mayConnectTo,
  parseHistoryRow,
  parseName,
  parseOnlineRow,
  parsePresence,
  parseRequest,
  readBalance,
} from "./answers.ts";
import { connectServer, type ConnectServerOptions, type ServerLink } from "./connect.ts";
import { type IncludedEntry, LogLink } from "./log_link.ts";

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
}

export interface LoginOptions {
  /** Make the account rather than expect it. */
  readonly register?: boolean;
  /** Where this client takes offers; absent for one that takes none. */
  readonly presence?: { readonly host: string | null; readonly port: number };
  readonly watch?: boolean;
  /** The server says that a payment of this account is settled: verified, or null where nobody signed it. */
  readonly onSettled?: (settled: Settled | null) => void;
  /** A request of this account, as payee or payer, is new or has ended. */
  readonly onRequest?: (request: RequestAnswer) => void;
  /** Another listener of the account took this one's place. */
  readonly onDisplaced?: () => void;
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
   * @throws {SealwireError} what {@linkcode connectServer} and linking the ledger throw, and the server's refusals
   * (`unknown_account`, `name_taken`, …).
   */
  static async open(options: SessionOptions, login: LoginOptions = {}): Promise<ClientSession> {
    const { account, pair, sessionKey, now_s, keysFolder, timeout_ms, signal } = options;
    // Notifications follow the login's answer, so there is a session by the time one arrives.
    let session: ClientSession | null = null;
    const onNotification = (method: string, params: unknown) =>
      session?.hear(method, params, login);
    const link = await connectServer({ ...options, onNotification });
    try {
      const { peer, statement, cert, nonce } = link;
      const ask = async (method: string, params: object) => {
        const answer = await peer.call(method, params, { timeout_ms, signal });
        return new Members(answer, method, "bad_answer");
      };
      const server = statement.claims.server.thumbprint;
      const claims = { account, session: sessionKey.publicKey, server, cert, nonce };
      const delegation = await signDelegation(pair, claims, now_s());
      const logLink = new LogLink({ keysFolder, statement, ask, signal });
      const method = login.register ? "account.register" : "session.login";
      const answer = await ask(method, loginParams(login, delegation, logLink.known?.text ?? null));
      session = new ClientSession(link, options, logLink, delegation, readBalance(answer));
      await logLink.begin(answer, options.acceptRollback ?? (() => false));
      return session;
    } catch (error) {
      link.peer.destroy();
      throw error;
    }
  }

  get server(): RsaPublicKey {
    return this.link.statement.claims.server;
  }

  get cert(): string {
    return this.link.cert;
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
   * Links what was seen last, and ends. When the connection is lost, the next session links it. Throws as
   * {@linkcode LogLink.link} does.
   */
  async end(): Promise<void> {
    this.stopLinking();
    try {
      await this.logLink.link();
    } catch (error) {
      if (!isWorthRetrying(error) && !isSealwireError(error, "interrupted")) throw error;
    } finally {
      await this.link.peer.end();
    }
  }

  /** Ends it at once. */
  destroy(): void {
    this.stopLinking();
    this.link.peer.destroy();
  }

  /** Links a checkpoint that another client was shown. Throws as {@linkcode LogLink.linkForeign} does. */
  async linkForeign(checkpoint: string): Promise<void> {
    await this.logLink.linkForeign(checkpoint);
  }

  /** The answer proves the payee's key by its entry in the log. */
  async lookup(name: AccountName): Promise<Payee> {
    const answer = await this.call("directory.lookup", { account: name });
    const key = answer.raw("key") === null ? null : parseRsaPublicJwk(answer.raw("key"));
    const entry = parseEntry(this.included(answer).text);
    const isKeyed = (entry.type === "account.open" || entry.type === "account.key") &&
      entry.account === name && entry.key === (key?.thumbprint ?? null);
    if (!isKeyed) {
      throw new SealwireError("bad_answer", `the server cannot prove that this key is ${name}'s`);
    }
    const presence = parsePresence(answer.raw("presence"));
    const { remoteHost } = this.link.peer.connection;
    const reachable = presence !== null && mayConnectTo(presence.host, remoteHost);
    return { name, key, presence: reachable ? presence : null };
  }

  /**
   * Whether the key with thumbprint `known` vouches for the account's key: each rotation since is signed by the key before it,
   * countersigned by the key after it, and in the log. Throws `bad_answer` for a chain that does not hold.
   */
  async isVouchedFor(payee: Payee, known: Sha256): Promise<boolean> {
    const answer = await this.call("directory.keys", { account: payee.name, known });
    let current: string = known;
    for (const value of answer.list("rotations", KEY_CHAIN_MAX)) {
      const change = new Members(value, "rotation", "bad_answer");
      const entry = parseEntry(this.included(change).text);
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
    const entry = parseEntry(this.included(await this.call("account.key", {})).text);
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
    const entry = parseEntry(this.included(answer).text);
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
    return {
      online,
      next: answer.raw("next") === null ? null : parseName(answer.raw("next")),
    };
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
    const entry = this.batchEntry(answer);
    if (entry.orderSha256 !== order.sha256) throw anotherPayment();
    const balance = readBalance(answer);
    return { id: entry.id, items: parseBatchItems(order.claims, items), balance };
  }

  async status(id: Uuid): Promise<PaymentState> {
    const { account: payer } = this.options;
    return await this.paymentState(id, await this.call("payment.status", { id, payer }));
  }

  /** Ends an id that is not settled yet; answers what it has come to. `delegation`: the one that the cancel rests on. */
  async cancel(cancel: Token<Cancel>, delegation = this.delegation.text): Promise<PaymentState> {
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
    const entry = parseEntry(this.included(await this.call("ledger.open", {})).text);
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
      yield answer.list("rows", HISTORY_ROWS_MAX).map(parseHistoryRow);
      next = answer.raw("next") === null
        ? null
        : answer.integer("next", next + 1, Number.MAX_SAFE_INTEGER);
    }
  }

  private async call(method: string, params: object): Promise<Members> {
    const { timeout_ms, signal } = this.options;
    const answer = await this.link.peer.call(method, params, { timeout_ms, signal });
    return new Members(answer, method, "bad_answer");
  }

  private hear(method: string, params: unknown, login: LoginOptions): void {
    if (method === "session.displaced") login.onDisplaced?.();
    if (method === "presence.changed") login.onPresenceChanged?.();
    if (method === "request.changed") this.hearRequest(params, login);
    if (method !== "payment.settled" || login.onSettled === undefined) return;
    // A notification that is wrong says nothing; whoever waits asks the server. One that proves a fork ends the session.
    this.notified(params).then(login.onSettled, (error) => {
      if (isServerUntrusted(error)) this.link.peer.destroy(error as SealwireError);
    });
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
    this.included(answer);
    return null;
  }

  private async paymentState(id: Uuid, answer: Members): Promise<PaymentState> {
    const state = answer.raw("state");
    if (state === "unknown" || state === "cancelled") return { state };
    answer.constant("state", "settled");
    if (answer.has("items")) return { state: "batch", batch: await this.wholeBatch(id, answer) };
    if (!answer.has("order")) {
      this.included(answer);
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
    const included = this.included(answer);
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
    const entry = this.batchEntry(answer);
    const { order, delegation } = quotedTexts(answer);
    const signed = await verifySignedOrder(order, delegation, this.verifyDelegation);
    const { claims, sha256 } = signed.order;
    const own = isBatch(claims) && sha256 === entry.orderSha256 && claims.id === id &&
      claims.payer === this.options.account;
    if (!own) throw anotherPayment();
    const items = parseBatchItems(claims, answer.list("items", BATCH_ITEMS_MAX));
    return { id, items, balance: readBalance(answer) };
  }

  private batchEntry(answer: Members): Entry<Batch> {
    answer.constant("state", "settled");
    const entry = parseEntry(this.included(answer).text);
    if (entry.type !== "batch") throw anotherPayment();
    return entry;
  }

  private readonly verifyDelegation = (text: unknown) =>
    text === this.delegation.text ? Promise.resolve(this.delegation) : verifyDelegation(text);

  /** The entry of an answer, proven; its checkpoint is linked soon. */
  private included(answer: Members): IncludedEntry {
    const included = this.logLink.included(answer);
    this.linkTimer ??= setTimeout(() => void this.linkNow(), LINK_AFTER_MS);
    return included;
  }

  /** A client that cannot link goes no further: its next login fails for the same reason, and says so. */
  private async linkNow(): Promise<void> {
    this.linkTimer = null;
    try {
      await this.logLink.link();
    } catch (error) {
      this.link.peer.destroy(error as SealwireError);
    }
  }

  private stopLinking(): void {
    if (this.linkTimer !== null) clearTimeout(this.linkTimer);
    this.linkTimer = null;
  }
}

function loginParams(
  { register, presence, watch }: LoginOptions,
  delegation: Token<Delegation>,
  checkpoint: string | null,
): object {
  return {
    delegation: delegation.text,
    ...(checkpoint !== null && { checkpoint }),
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

function anotherPayment(): SealwireError {
  return new SealwireError("bad_answer", "the server sent the receipt of another payment");
}
