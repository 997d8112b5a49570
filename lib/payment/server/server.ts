/** The payment server: who is connected, and what they may ask. */
import { SealwireError } from "../../base/errors.ts";
import type { AccountName } from "../../keys/rsa.ts";
import { type Connection, type Listener, listenTls } from "../../net/net.ts";
import { Members } from "../../base/parse.ts";
import { type Handler, type Method, RpcPeer } from "../../rpc/peer.ts";
import { Directory } from "./lookups.ts";
import { Logins, type LoginsOptions } from "./login.ts";
import { Payments } from "./payments.ts";
import { Presence } from "./presence.ts";
import { Pushes } from "./notifications.ts";
import { ServerSession } from "./session.ts";
import { ALPN, BATCH_LINE_BYTES_MAX } from "../../protocol/wire.ts";

/** A connection that has not logged in by then is closed. */
const LOGIN_DEADLINE_MS = 30_000;

export interface PaymentServerOptions extends LoginsOptions {
  readonly host: string;
  readonly port: number;
  /** Takes connections to `server` whose client does not ask for our protocol. */
  readonly acceptOther: (connection: Connection, server: PaymentServer) => void;
}

export class PaymentServer {
  private readonly presence = new Presence<ServerSession>();
  private readonly directory: Directory;
  private readonly logins: Logins;
  private readonly payments: Payments;
  private listener: Listener | null = null;

  private constructor(private readonly options: PaymentServerOptions) {
    const { presence } = this;
    this.directory = new Directory(options.ledger, options.store, presence);
    this.logins = new Logins(options, presence, this.directory);
    this.payments = new Payments(options, presence);
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

  /** Tells `account` of a payment in entry `seq` that nobody signed. */
  announceUnsigned(account: AccountName, seq: number): void {
    this.payments.announceUnsigned(account, seq);
  }

  private accept(connection: Connection): void {
    if (connection.alpn !== ALPN) return this.options.acceptOther(connection, this);
    const session = new ServerSession();
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

  private methods(session: ServerSession): Record<string, Method> {
    const { directory, logins, payments } = this;
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
      "hello": anyone(() => logins.hello(session)),
      "account.register": anyone((params) => logins.register(session, params)),
      "session.login": anyone((params) => logins.login(session, params)),
      "directory.list": holder((params) => directory.list(params)),
      "directory.lookup": holder((params) => directory.lookup(params)),
      "payment.settle": {
        ...holder((params) => payments.settle(session, params)),
        line_bytes_max: BATCH_LINE_BYTES_MAX,
      },
      "payment.status": holder((params) => payments.status(session, params)),
      "payment.cancel": holder((params) => payments.cancel(session, params)),
      "payment.history": holder((params) => payments.history(session, params)),
      "payment.receipt": holder((params) => payments.receipt(session, params)),
      "account.balance": holder(() => directory.balance(session.account)),
      "ledger.head": holder(() => directory.head()),
      "ledger.blocks": holder((params) => directory.blocks(params)),
    };
  }
}
