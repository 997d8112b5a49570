/**
 * Listeners of Deno itself: twice as fast as node:tls there, and with backpressure. Their one fault is that a TLS
 * handshake that never finishes cannot be ended: its socket stays open until the peer leaves. So few are let in at a
 * time, and when they pile up, node:tls takes the port over.
 */
import { setTimeout as delay } from "node:timers/promises";
import { isSealwireError } from "../errors.ts";
import {
  type ConnectionHandler,
  CONNECTIONS_MAX_DEFAULT,
  HANDSHAKE_TIMEOUT_MS_DEFAULT,
  type Listener,
  listenError,
  type ListenTcpOptions,
  type ListenTlsOptions,
} from "./connection.ts";
import { DenoConnection, TCP_READ_BYTES_MAX, TLS_READ_BYTES_MAX } from "./deno_stream.ts";
import { listenTlsNode } from "./node_listen.ts";

/** Handshakes under way at once, overdue ones among them: so many sockets a crowd of silent peers can hold. */
export const HANDSHAKES_UNFINISHED_MAX = 128;
/** More than so many past their deadline, and node:tls takes over. */
const HANDSHAKES_OVERDUE_MAX = 32;
/** It takes over, too, when all places are taken and none becomes free for so long. */
const HANDSHAKES_STALLED_MS = 1_000;
/** A port is free a moment after its listener was closed. */
const REBIND_PAUSE_MS = 10;
const REBIND_TRIES_MAX = 500;
const NODE_TLS_LISTENS = "node:tls listens instead, which takes more of the processor";
/** After an accept that failed for want of file descriptors or memory. */
const ACCEPT_PAUSE_MS = 50;

export function listenTcpDeno(
  options: ListenTcpOptions,
  onConnection: ConnectionHandler,
): Listener {
  const listener = listen(
    options,
    () => Deno.listen({ hostname: options.host, port: options.port }),
  );
  const live = new Set<DenoConnection>();
  const connections_max = options.connections_max ?? CONNECTIONS_MAX_DEFAULT;
  const accepting = acceptEach(listener, (conn) => {
    if (live.size >= connections_max) return conn.close();
    conn.setNoDelay(true);
    admit(conn, null, TCP_READ_BYTES_MAX, live, onConnection);
  });
  const { hostname, port } = listener.addr as Deno.NetAddr;
  return {
    host: hostname,
    port,
    close: () => {
      listener.close();
      for (const connection of live) connection.destroy();
      return accepting;
    },
  };
}

export function listenTlsDeno(
  options: ListenTlsOptions,
  onConnection: ConnectionHandler,
): Listener | Promise<Listener> {
  try {
    return new TlsDoor(options, onConnection);
  } catch (error) {
    if (!(error instanceof Error) || isSealwireError(error)) throw error;
    // An X.509 v1 certificate, for one, which node:tls takes.
    options.onNotice?.(`Deno refuses the certificate (${error.message}): ${NODE_TLS_LISTENS}`);
    return listenTlsNode(options, onConnection);
  }
}

class TlsDoor implements Listener {
  readonly host: string;
  readonly port: number;
  private readonly listener: Deno.TlsListener;
  /** Over when the listener is closed and its port is free. */
  private readonly accepting: Promise<void>;
  private readonly unfinished = new Set<Deno.TlsConn>();
  private overdue = 0;
  private onHandshakeOver: (() => void) | null = null;
  private readonly live = new Set<DenoConnection>();
  private closed = false;
  private successor: Promise<Listener> | null = null;

  constructor(
    private readonly options: ListenTlsOptions,
    private readonly onConnection: ConnectionHandler,
  ) {
    const { host: hostname, port, cert, key, alpn } = options;
    this.listener = listen(
      options,
      () => Deno.listenTls({ hostname, port, cert, key, alpnProtocols: alpn }),
    );
    const address = this.listener.addr as Deno.NetAddr;
    this.host = address.hostname;
    this.port = address.port;
    this.accepting = acceptEach(this.listener, (conn) => this.receive(conn));
  }

  async close(): Promise<void> {
    this.closed = true;
    if (this.successor) await (await this.successor).close();
    else this.stopAccepting();
    for (const conn of this.unfinished) conn.close();
    for (const connection of this.live) connection.destroy();
    await this.accepting;
  }

  /** Resolves when the next connection may be accepted. */
  private async receive(conn: Deno.TlsConn): Promise<void> {
    void this.shakeHands(conn);
    if (this.unfinished.size < HANDSHAKES_UNFINISHED_MAX) return;
    const stalled = setTimeout(
      () => this.giveWay(`${HANDSHAKES_UNFINISHED_MAX} TLS handshakes stand still`),
      HANDSHAKES_STALLED_MS,
    );
    await new Promise<void>((resolve) => this.onHandshakeOver = resolve);
    clearTimeout(stalled);
  }

  private async shakeHands(conn: Deno.TlsConn): Promise<void> {
    this.unfinished.add(conn);
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.overdue++;
      if (this.overdue > HANDSHAKES_OVERDUE_MAX) {
        this.giveWay(`${this.overdue} TLS handshakes are unfinished past their deadline`);
      }
    }, this.options.handshake_timeout_ms ?? HANDSHAKE_TIMEOUT_MS_DEFAULT);
    const handshake = await conn.handshake().catch(() => null);
    clearTimeout(timer);
    if (late) this.overdue--;
    this.unfinished.delete(conn);
    this.onHandshakeOver?.();
    if (this.closed) return;
    const connections_max = this.options.connections_max ?? CONNECTIONS_MAX_DEFAULT;
    // One that failed concerns its peer alone.
    if (!handshake || late || this.live.size >= connections_max) return conn.close();
    admit(conn, handshake.alpnProtocol, TLS_READ_BYTES_MAX, this.live, this.onConnection);
  }

  /** Lets node:tls, which can end a handshake, have the port. Connections live on. */
  private giveWay(reason: string): void {
    if (this.successor || this.closed) return;
    this.options.onNotice?.(`${reason}: ${NODE_TLS_LISTENS}`);
    this.stopAccepting();
    this.successor = this.rebind();
  }

  private stopAccepting(): void {
    this.listener.close();
    this.onHandshakeOver?.();
  }

  private async rebind(): Promise<Listener> {
    await this.accepting;
    const options = { ...this.options, host: this.host, port: this.port };
    for (let tries = 1;; tries++) {
      try {
        return await listenTlsNode(options, this.onConnection);
      } catch (error) {
        if (!isSealwireError(error, "port_in_use") || tries >= REBIND_TRIES_MAX) throw error;
        await delay(REBIND_PAUSE_MS);
      }
    }
  }
}

function listen<L>({ host, port }: ListenTcpOptions, start: () => L): L {
  try {
    return start();
  } catch (error) {
    throw listenError(error, host, port);
  }
}

/** Accepts until the listener is closed, the next one only when `receive` is done with the one before. */
async function acceptEach<C extends Deno.Conn>(
  listener: { accept(): Promise<C> },
  receive: (conn: C) => Promise<void> | void,
): Promise<void> {
  while (true) {
    let conn;
    try {
      conn = await listener.accept();
    } catch (error) {
      if (error instanceof Deno.errors.BadResource) return;
      await delay(ACCEPT_PAUSE_MS);
      continue;
    }
    await receive(conn);
  }
}

function admit(
  conn: Deno.TcpConn | Deno.TlsConn,
  alpn: string | null,
  read_bytes_max: number,
  live: Set<DenoConnection>,
  onConnection: ConnectionHandler,
): void {
  const connection = new DenoConnection(
    conn,
    alpn,
    read_bytes_max,
    () => live.delete(connection),
  );
  live.add(connection);
  onConnection(connection);
}
