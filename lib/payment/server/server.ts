/** The payment server: who is connected, and what they may ask. */
import { type ErrorCode, isSealwireError, SealwireError } from "../../base/errors.ts";
import { RepeatedNotice } from "../../base/repeated_notice.ts";
import type { AccountName, RsaPublicKey } from "../../keys/rsa.ts";
import type { LedgerStore } from "../../ledger/store.ts";
import { type Connection, type Listener, listenTls, type Place } from "../../net/net.ts";
import { ALPN, BATCH_LINE_BYTES_MAX } from "../../protocol/wire.ts";
import type { Method } from "../../rpc/peer.ts";
import { Directory } from "./directory.ts";
import { ForeignEntries } from "./foreign_entries.ts";
import { type BudgetOptions, Budgets } from "./budgets.ts";
import { History } from "./history.ts";
import { Login, type LoginOptions } from "./login.ts";
import { Lookups } from "./lookups.ts";
import { Payments } from "./payments.ts";
import { Presence } from "./presence.ts";
import { LogAnswers } from "./proofs.ts";
import { Requests } from "./requests.ts";
import { Rotations } from "./rotations.ts";
import {
  type AccountHandler,
  accountHolder,
  anyone,
  type LoggedIn,
  ServerSession,
} from "./session.ts";

/** When those may try again who met what passes by itself or by the operator's doing. */
const RETRY_AFTER_MS: Partial<Readonly<Record<ErrorCode, number>>> = {
  store_unavailable: 2_000,
  clock_unsteady: 10_000,
};

/** A connection that has not logged in by then is closed. */
const LOGIN_DEADLINE_MS = 30_000;

export interface PaymentServerOptions extends Omit<LoginOptions, "budgets"> {
  readonly store: LedgerStore;
  readonly budgets?: BudgetOptions;
}

export interface ListenOptions {
  readonly host: string;
  readonly port: number;
  /** Takes connections whose client does not ask for our protocol. */
  readonly acceptOther: (connection: Connection, place: Place) => void;
  /** The most connections at once. The default is the listener's. */
  readonly connections_max?: number;
}

export class PaymentServer {
  readonly budgets: Budgets;
  private readonly presence: Presence<LoggedIn>;
  private readonly directory: Directory<LoggedIn>;
  private readonly lookups: Lookups;
  private readonly login: Login;
  private readonly payments: Payments;
  private readonly history: History;
  private readonly requests: Requests;
  private readonly rotations: Rotations;
  private readonly logAnswers: LogAnswers;
  private readonly foreignEntries: ForeignEntries;
  private listener: Listener | null = null;
  private storeReason = "";
  private readonly storeAway = new RepeatedNotice((count) =>
    this.options.log("store_unavailable", { text: this.storeReason, requests: count })
  );

  constructor(private readonly options: PaymentServerOptions) {
    const { store: { sharedPresence = null }, log } = options;
    const budgets = this.budgets = new Budgets(options.budgets);
    this.presence = new Presence(sharedPresence ? () => sharedPresence.count() : undefined);
    this.directory = new Directory(this.presence, sharedPresence, log);
    this.lookups = new Lookups(options.ledger, this.directory);
    this.login = new Login({ ...options, budgets }, this.presence, this.directory, this.lookups);
    this.payments = new Payments({ ...options, budgets }, this.presence);
    this.history = new History(options.store);
    this.requests = new Requests(options.ledger, this.presence);
    this.rotations = new Rotations(options.ledger, this.presence);
    this.foreignEntries = new ForeignEntries(options, this.payments, this.rotations);
    this.logAnswers = new LogAnswers(options.ledger);
  }

  /** @throws {SealwireError} `port_in_use`, `port_forbidden`, `address_unavailable`. */
  async listen({ acceptOther, ...address }: ListenOptions): Promise<Listener> {
    const { identity: { keys }, log } = this.options;
    const tls = { ...address, cert: keys.certificatePem, key: keys.tlsKeyPem, alpn: [ALPN] };
    const onNotice = (text: string) => log("notice", { text });
    this.listener = await listenTls({ ...tls, onNotice }, (connection, place) => {
      if (connection.alpn === ALPN) this.accept(connection, place);
      else acceptOther(connection, place);
    });
    this.directory.start();
    this.foreignEntries.start();
    return this.listener;
  }

  get publicKey(): RsaPublicKey {
    return this.options.identity.keys.pair.publicKey;
  }

  /** Takes no more. Ledger and store stay open. */
  async close(): Promise<void> {
    await this.listener?.close();
    this.foreignEntries.close();
    await this.directory.close();
    this.storeAway.close();
    this.presence.close();
  }

  /** Tells `account` of a payment in entry `index` that nobody signed. */
  announceUnsigned(account: AccountName, index: number): void {
    this.payments.announceUnsigned(account, index);
  }

  private accept(connection: Connection, place: Place): void {
    const { log } = this.options;
    const from = { host: connection.remoteHost, port: connection.remotePort };
    const session = new ServerSession(connection, place, {
      methods: (session) => this.watched(this.methods(session)),
      onInternalError: (error) => log("internal_error", { ...from, message: String(error) }),
    });
    const deadline = setTimeout(() => {
      const message = `log in within ${LOGIN_DEADLINE_MS / 1000} s`;
      if (session.loggedIn === null) {
        session.peer.destroy(new SealwireError("login_required", message));
      }
    }, LOGIN_DEADLINE_MS);
    void session.peer.closed.then((reason) => {
      clearTimeout(deadline);
      session.closed = true;
      const { loggedIn } = session;
      if (loggedIn !== null) this.directory.leave(loggedIn);
      log("closed", {
        ...from,
        ...(loggedIn && { account: loggedIn.account }),
        ...(reason && { [session.peer.closedByPeer ? "peer_reason" : "reason"]: reason.code }),
      });
    });
  }

  /** Tells the operator, once with a count, of what clients are told to wait for. */
  private watched(methods: Record<string, Method>): Record<string, Method> {
    const watch = (method: Method): Method => ({
      ...method,
      handle: async (params, peer) => {
        try {
          return await method.handle(params, peer);
        } catch (error) {
          throw isSealwireError(error) ? this.passing(error) : error;
        }
      },
    });
    return Object.fromEntries(
      Object.entries(methods).map(([name, method]) => [name, watch(method)]),
    );
  }

  private passing(error: SealwireError): SealwireError {
    const { code, message } = error;
    const retry_after_ms = RETRY_AFTER_MS[code];
    if (retry_after_ms === undefined) return error;
    if (code === "store_unavailable") {
      this.storeReason = message;
      this.storeAway.happened();
    }
    const details = { ...error.details, retry_after_ms };
    return new SealwireError(code, message, { cause: error, details });
  }

  private methods(session: ServerSession): Record<string, Method> {
    const { login, lookups, payments, history, requests, rotations, logAnswers } = this;
    const holder = (handle: AccountHandler) => accountHolder(session, handle);
    const reader = (handle: AccountHandler) =>
      holder((asker, params) => {
        this.budgets.requireRead(asker.origin);
        return handle(asker, params);
      });
    const writer = (handle: AccountHandler) =>
      holder(async (asker, params) => {
        this.budgets.requireOrder(asker.account, asker.account, 0);
        const answer = await handle(asker, params);
        this.budgets.countEntry(asker.account, 0);
        return answer;
      });
    const inTurn = (handle: AccountHandler) =>
      reader((asker, params) => session.inTurn(async () => await handle(asker, params)));
    return {
      "hello": anyone(() => login.hello(session)),
      "account.register": anyone((params) => login.register(session, params)),
      "session.login": anyone((params) => login.login(session, params)),
      "account.balance": reader(({ account }) => lookups.balance(account)),
      "directory.list": reader((_, params) => lookups.list(params)),
      "directory.lookup": reader((asker, params) => lookups.lookup(asker, params)),
      "directory.keys": reader((asker, params) => lookups.keyChain(asker, params)),
      "payment.settle": {
        ...holder((asker, params) => payments.settle(asker, params)),
        line_bytes_max: BATCH_LINE_BYTES_MAX,
      },
      "payment.status": inTurn((asker, params) => payments.status(asker, params)),
      "payment.cancel": holder((asker, params) => payments.cancel(asker, params)),
      "payment.receipt": inTurn((asker, params) => payments.receipt(asker, params)),
      "payment.history": inTurn((asker, params) => history.page(asker, params)),
      "request.create": writer((asker, params) => requests.create(asker, params)),
      "request.close": writer((asker, params) => requests.close(asker, params)),
      "request.list": reader((asker) => requests.list(asker)),
      "request.find": reader((asker, params) => requests.find(asker, params)),
      "account.key": reader((asker) => rotations.current(asker)),
      "account.rotate": writer((asker, params) => rotations.rotate(asker, params)),
      "ledger.open": reader((asker) => logAnswers.open(asker)),
      "ledger.checkpoint": reader((asker) => logAnswers.checkpoint(asker)),
      "ledger.consistency": reader((asker, params) => logAnswers.consistency(asker, params)),
      "ledger.rollback": reader((asker, params) => logAnswers.rollback(asker, params)),
    };
  }
}
