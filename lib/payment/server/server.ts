/** The payment server: who is connected, and what they may ask. */
import { SealwireError } from "../../base/errors.ts";
import type { AccountName, RsaPublicKey } from "../../keys/rsa.ts";
import type { LedgerStore } from "../../ledger/store.ts";
import { type Connection, type Listener, listenTls } from "../../net/net.ts";
import { ALPN, BATCH_LINE_BYTES_MAX } from "../../protocol/wire.ts";
import type { Method } from "../../rpc/peer.ts";
import { Directory } from "./directory.ts";
import { ForeignEntries } from "./foreign_entries.ts";
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

/** A connection that has not logged in by then is closed. */
const LOGIN_DEADLINE_MS = 30_000;

export interface PaymentServerOptions extends LoginOptions {
  readonly store: LedgerStore;
}

export interface ListenOptions {
  readonly host: string;
  readonly port: number;
  /** Takes connections whose client does not ask for our protocol. */
  readonly acceptOther: (connection: Connection) => void;
}

export class PaymentServer {
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

  constructor(private readonly options: PaymentServerOptions) {
    const { store: { sharedPresence = null }, log } = options;
    this.presence = new Presence(sharedPresence ? () => sharedPresence.count() : undefined);
    this.directory = new Directory(this.presence, sharedPresence, log);
    this.lookups = new Lookups(options.ledger, this.directory);
    this.login = new Login(options, this.presence, this.directory, this.lookups);
    this.payments = new Payments(options, this.presence);
    this.history = new History(options.store);
    this.requests = new Requests(options.ledger, this.presence);
    this.rotations = new Rotations(options.ledger, this.presence);
    this.foreignEntries = new ForeignEntries(options, this.payments, this.rotations);
    this.logAnswers = new LogAnswers(options.ledger);
  }

  /** @throws {SealwireError} `port_in_use`, `port_forbidden`, `address_unavailable`. */
  async listen({ host, port, acceptOther }: ListenOptions): Promise<Listener> {
    const { identity: { keys }, log } = this.options;
    const tls = { host, port, cert: keys.certificatePem, key: keys.tlsKeyPem, alpn: [ALPN] };
    const onNotice = (text: string) => log("notice", { text });
    this.listener = await listenTls({ ...tls, onNotice }, (connection) => {
      if (connection.alpn === ALPN) this.accept(connection);
      else acceptOther(connection);
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
    this.presence.close();
  }

  /** Tells `account` of a payment in entry `index` that nobody signed. */
  announceUnsigned(account: AccountName, index: number): void {
    this.payments.announceUnsigned(account, index);
  }

  private accept(connection: Connection): void {
    const { log } = this.options;
    const from = { host: connection.remoteHost, port: connection.remotePort };
    const session = new ServerSession(connection, {
      methods: (session) => this.methods(session),
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
        ...(reason && { reason: reason.code }),
      });
    });
  }

  private methods(session: ServerSession): Record<string, Method> {
    const { login, lookups, payments, history, requests, rotations, logAnswers } = this;
    const holder = (handle: AccountHandler) => accountHolder(session, handle);
    const inTurn = (handle: AccountHandler) =>
      holder((asker, params) => session.inTurn(async () => await handle(asker, params)));
    return {
      "hello": anyone(() => login.hello(session)),
      "account.register": anyone((params) => login.register(session, params)),
      "session.login": anyone((params) => login.login(session, params)),
      "account.balance": holder(({ account }) => lookups.balance(account)),
      "directory.list": holder((_, params) => lookups.list(params)),
      "directory.lookup": holder((asker, params) => lookups.lookup(asker, params)),
      "directory.keys": holder((asker, params) => lookups.keyChain(asker, params)),
      "payment.settle": {
        ...holder((asker, params) => payments.settle(asker, params)),
        line_bytes_max: BATCH_LINE_BYTES_MAX,
      },
      "payment.status": inTurn((asker, params) => payments.status(asker, params)),
      "payment.cancel": holder((asker, params) => payments.cancel(asker, params)),
      "payment.receipt": inTurn((asker, params) => payments.receipt(asker, params)),
      "payment.history": inTurn((asker, params) => history.page(asker, params)),
      "request.create": holder((asker, params) => requests.create(asker, params)),
      "request.close": holder((asker, params) => requests.close(asker, params)),
      "request.list": holder((asker) => requests.list(asker)),
      "request.find": holder((asker, params) => requests.find(asker, params)),
      "account.key": holder((asker) => rotations.current(asker)),
      "account.rotate": holder((asker, params) => rotations.rotate(asker, params)),
      "ledger.open": holder((asker) => logAnswers.open(asker)),
      "ledger.checkpoint": holder((asker) => logAnswers.checkpoint(asker)),
      "ledger.consistency": holder((asker, params) => logAnswers.consistency(asker, params)),
      "ledger.rollback": holder((asker, params) => logAnswers.rollback(asker, params)),
    };
  }
}
