/**
 * A client's session: one logged-in connection, and every answer on it checked before anyone believes it. What can be
 * verified is verified (headers, receipts, a payee's entry in the ledger); the rest is parsed.
 */
import {
  type Delegation,
  type SessionKeyPair,
  signDelegation,
  verifyDelegation,
} from "../../protocol/delegation.ts";
import { SealwireError } from "../../base/errors.ts";
import {
  type AccountName,
  parseRsaPublicJwk,
  type RsaKeyPair,
  type RsaPublicKey,
} from "../../keys/rsa.ts";
import { type SignedHeader, verifyHeader } from "../../ledger/block.ts";
import { parseEntry, type Transfer } from "../../ledger/entry.ts";
import { PATH_STEPS_MAX, rootFromPath } from "../../protocol/merkle.ts";
import { type VerifiedReceipt, verifyReceipt } from "../../ledger/receipt.ts";
import { Members, type Uuid } from "../../base/parse.ts";
import { sha256Text, type Token } from "../../protocol/token.ts";
import {
  mayConnectTo,
  parseHistoryRow,
  parseName,
  parseOnlineRow,
  parsePresence,
  readBalance,
  readReason,
} from "./answers.ts";
import { connectServer, type ConnectServerOptions, type ServerLink } from "./connect.ts";
import { HeadMemory } from "./remembered.ts";
import { type HistoryAnswerRow, type OnlineRow, PAGE_ROWS_MAX } from "../../protocol/wire.ts";

const TEXT_CHARACTERS_MAX = 16_384;
/** A block header is stored so long after it was verified, or when the session ends. */
const REMEMBER_AFTER_MS = 200;

export interface SessionOptions extends ConnectServerOptions {
  readonly account: AccountName;
  readonly pair: RsaKeyPair;
  readonly sessionKey: SessionKeyPair;
  readonly now_s: () => number;
}

export interface LoginOptions {
  /** Make the account rather than expect it. */
  readonly register?: boolean;
  /** Where this client takes offers; absent for one that takes none. */
  readonly presence?: { readonly host: string | null; readonly port: number };
  readonly watch?: boolean;
  /** The server says that a payment of this account is settled: the verified receipt, or null where nobody signed it. */
  readonly onSettled?: (settled: Settled | null) => void;
  /** Another listener of the account took this one's place. */
  readonly onDisplaced?: () => void;
  readonly onPresenceChanged?: () => void;
}

/** A payment that is settled beyond doubt. */
export interface Settled {
  readonly receipt: VerifiedReceipt;
  /** This account's balance after it, as decimal text. */
  readonly balance: string;
}

/** What an id has come to, as its payer or payee is told. */
export type PaymentState =
  | { readonly state: "unknown" }
  | { readonly state: "void"; readonly reason: string }
  /** `settled` null: a batch, whose receipts are asked for one by one. */
  | { readonly state: "settled"; readonly settled: Settled | null; readonly balance: string };

export interface Payee {
  readonly name: AccountName;
  /** Null for a classic account, which has none. */
  readonly key: RsaPublicKey | null;
  /** Where the payee takes offers; null when offline. */
  readonly presence: { readonly host: string; readonly port: number } | null;
}

export class ClientSession {
  /** The highest header verified, when it is not stored yet. */
  private unstored: SignedHeader | null = null;

  private constructor(
    private readonly link: ServerLink,
    private readonly options: SessionOptions,
    private readonly heads: HeadMemory,
    readonly delegation: Token<Delegation>,
    /** At login, as decimal text. */
    readonly balance: string,
  ) {}

  /**
   * Connects and logs in.
   *
   * @throws {SealwireError} what {@linkcode connectServer} throws, `ledger_forked`, and the server's refusals
   * (`unknown_account`, `name_taken`, …).
   */
  static async open(options: SessionOptions, login: LoginOptions = {}): Promise<ClientSession> {
    const { account, pair, sessionKey, now_s, keysFolder } = options;
    // Notifications follow the login's answer, so there is a session by the time one arrives.
    let session: ClientSession | null = null;
    const onNotification = (method: string, params: unknown) =>
      session?.hear(method, params, login);
    const link = await connectServer({ ...options, onNotification });
    try {
      const claims = { account, session: sessionKey.publicKey, server: link.server.thumbprint };
      const { cert, nonce } = link;
      const delegation = await signDelegation(pair, { ...claims, cert, nonce }, now_s());
      // Read before the server says its head: another process of this account may raise it meanwhile.
      const heads = new HeadMemory(keysFolder, account);
      const seen = heads.get(link.server.thumbprint);
      const { register, presence, watch } = login;
      const params = {
        delegation: delegation.text,
        ...(presence &&
          { presence: { ...(presence.host && { host: presence.host }), port: presence.port } }),
        ...(watch && { watch }),
      };
      const { timeout_ms, signal } = options;
      const method = register ? "account.register" : "session.login";
      const answer = new Members(
        await link.peer.call(method, params, { timeout_ms, signal }),
        "login",
        "bad_answer",
      );
      session = new ClientSession(link, options, heads, delegation, readBalance(answer));
      await session.checkHead(seen, answer.raw("head"));
      return session;
    } catch (error) {
      link.peer.destroy();
      throw error;
    }
  }

  get server(): RsaPublicKey {
    return this.link.server;
  }

  get cert(): string {
    return this.link.cert;
  }

  /** Why the session ended, when it has. */
  get closed(): Promise<SealwireError | null> {
    return this.link.peer.closed;
  }

  async end(): Promise<void> {
    this.storeHead();
    await this.link.peer.end();
  }

  /** Ends it at once. */
  destroy(): void {
    this.link.peer.destroy();
  }

  async lookup(name: AccountName): Promise<Payee> {
    const answer = await this.call("directory.lookup", { account: name });
    const key = answer.raw("key") === null ? null : parseRsaPublicJwk(answer.raw("key"));
    const entryText = answer.text("entry", TEXT_CHARACTERS_MAX);
    const entry = parseEntry(entryText);
    const header = await verifyHeader(answer.raw("header"), this.server);
    const { first, count, root } = header.claims;
    const path = answer.list("path", PATH_STEPS_MAX).map(String);
    const opened = entry.type === "account.open" && entry.account === name &&
      entry.key === (key?.thumbprint ?? null);
    if (!opened || rootFromPath(entryText, entry.seq - first, count, path) !== root) {
      throw new SealwireError("bad_answer", `the server cannot prove that this key is ${name}'s`);
    }
    const presence = parsePresence(answer.raw("presence"));
    const { remoteHost } = this.link.peer.connection;
    const reachable = presence !== null && mayConnectTo(presence.host, remoteHost);
    return { name, key, presence: reachable ? presence : null };
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
   * Has an order settled. The receipt is verified; null for a batch.
   *
   * @throws {SealwireError} with `details.void` when the id is void for ever; other refusals have recorded nothing.
   */
  async settle(
    order: string,
    delegation: string,
    items: readonly string[],
  ): Promise<Settled | null> {
    const batch = items.length > 0;
    const answer = await this.call("payment.settle", {
      order,
      delegation,
      ...(batch && { items }),
    });
    const orderSha256 = sha256Text(order);
    return batch ? null : await this.settled(answer, (paid) => paid.orderSha256 === orderSha256);
  }

  async status(id: Uuid, payer = this.options.account): Promise<PaymentState> {
    return await this.paymentState(id, payer, await this.call("payment.status", { id, payer }));
  }

  /** Voids an id that is not settled yet; answers what it has come to. */
  async cancel(id: Uuid): Promise<PaymentState> {
    const answer = await this.call("payment.cancel", { id });
    return await this.paymentState(id, this.options.account, answer);
  }

  async receipt(
    id: Uuid,
    index: number | null,
    payer = this.options.account,
  ): Promise<VerifiedReceipt> {
    const params = { id, ...(index !== null && { index }), payer };
    const answer = await this.call("payment.receipt", params);
    const isIt = (paid: Transfer) => paid.id === id && paid.index === index && paid.payer === payer;
    return await this.verified(answer.raw("receipt"), isIt);
  }

  async currentBalance(): Promise<string> {
    return readBalance(await this.call("account.balance", {}));
  }

  /** Pages of this account's transfers after entry `after`, oldest first. */
  async *history(after: number): AsyncIterable<HistoryAnswerRow> {
    let next: number | null = after;
    while (next !== null) {
      const answer: Members = await this.call("payment.history", { after: next });
      const rows = answer.list("rows", PAGE_ROWS_MAX).map(parseHistoryRow);
      yield* rows;
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
    if (method !== "payment.settled" || login.onSettled === undefined) return;
    // A push that is wrong says nothing; whoever waits asks the server.
    this.pushed(params).then(login.onSettled, () => {});
  }

  /** Null for a payment that nobody signed, which has no receipt. */
  private async pushed(params: unknown): Promise<Settled | null> {
    const push = new Members(params, "push", "bad_answer");
    return push.has("receipt") ? await this.settled(push, () => true) : null;
  }

  private async paymentState(
    id: Uuid,
    payer: AccountName,
    answer: Members,
  ): Promise<PaymentState> {
    const state = answer.raw("state");
    if (state === "unknown") return { state };
    if (state === "void") return { state, reason: readReason(answer) };
    const isIt = (paid: Transfer) => paid.id === id && paid.payer === payer;
    const settled = answer.has("receipt") ? await this.settled(answer, isIt) : null;
    return {
      state: answer.constant("state", "settled"),
      settled,
      balance: readBalance(answer),
    };
  }

  private async settled(
    answer: Members,
    isIt: (transfer: Transfer) => boolean,
  ): Promise<Settled> {
    const receipt = await this.verified(answer.raw("receipt"), isIt);
    return { receipt, balance: readBalance(answer) };
  }

  /** A receipt that is genuine, and of the payment that was asked about. */
  private async verified(
    text: unknown,
    isIt: (transfer: Transfer) => boolean,
  ): Promise<VerifiedReceipt> {
    const ownOrAny = (delegation: unknown) =>
      delegation === this.delegation.text
        ? Promise.resolve(this.delegation)
        : verifyDelegation(delegation);
    const receipt = await verifyReceipt(text, this.server, ownOrAny).catch((cause) => {
      throw new SealwireError("bad_answer", "the server sent a receipt that does not verify", {
        cause,
      });
    });
    if (!isIt(receipt.transfer)) {
      throw new SealwireError("bad_answer", "the server sent the receipt of another payment");
    }
    this.remember(receipt.header);
    return receipt;
  }

  /**
   * Two disk syncs are kept out of the way of whoever waits for a receipt, and headers that come together are stored once. A
   * client that dies before that remembers a lower block: it asks for less, and is told nothing wrong.
   */
  private remember(header: SignedHeader): void {
    if (this.unstored === null) setTimeout(() => this.storeHeadLater(), REMEMBER_AFTER_MS);
    else if (header.claims.height <= this.unstored.claims.height) return;
    this.unstored = header;
  }

  private storeHead(): void {
    const header = this.unstored;
    this.unstored = null;
    if (header !== null) this.heads.raise(header);
  }

  /** A client that cannot remember goes no further: its next login fails for the same reason, and says so. */
  private storeHeadLater(): void {
    try {
      this.storeHead();
    } catch (error) {
      this.link.peer.destroy(error as SealwireError);
    }
  }

  /** A head lower than one seen before, or another header at its height, is a second history of the same ledger. */
  private async checkHead(seen: SignedHeader | null, headText: unknown): Promise<void> {
    const head = headText === null ? null : await verifyHeader(headText, this.server);
    if (seen !== null) {
      const { height } = seen.claims;
      if (head === null || head.claims.height < height) {
        throw forked(
          `it ends at block ${head?.claims.height ?? 0}, and block ${height} was seen before`,
        );
      }
      const [same] = (await this.call("ledger.blocks", { from: height })).list(
        "headers",
        PAGE_ROWS_MAX,
      );
      if (same !== seen.text) throw forked(`block ${height} is not the one that was seen before`);
    }
    if (head !== null) this.heads.raise(head);
  }
}

function forked(why: string): SealwireError {
  return new SealwireError(
    "ledger_forked",
    `the server's ledger is not the one that this account has seen: ${why}. It was restored from an older backup, or ` +
      "shows different people different histories. Ask the operator before paying anyone",
  );
}

/** Whether the server has made the id void for ever. */
export function isVoid(error: SealwireError): boolean {
  return "void" in error.details && error.details.void === true;
}
