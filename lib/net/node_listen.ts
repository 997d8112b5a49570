/**
 * Listens with node:net and node:tls.
 *
 * TLS uses node:tls on Deno too, although `Deno.listenTls` takes a quarter less processor time per
 * call. `Deno.listenTls` leaves TCP_NODELAY off, so a second small message to a quiet peer waits 40
 * ms, and it cannot end a handshake that its peer does not finish.
 */
import { readFileSync } from "node:fs";
import net from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";
import tls from "node:tls";
import type { TLSSocket } from "node:tls";
import { NodeConnection } from "./node_stream.ts";
import {
  type ConnectionHandler,
  CONNECTIONS_MAX_DEFAULT,
  HANDSHAKE_TIMEOUT_MS_DEFAULT,
  type Listener,
  listenError,
  type ListenTcpOptions,
  type ListenTlsOptions,
} from "./connection.ts";

/** Connections that the system may hold ready. Deno accepts that many at a time. */
const BACKLOG_MAX = 1024;
/**
 * The share of the files that this process may open which connections may use. On Deno, a listener
 * that has run out of files once never accepts again, so it must not come to that.
 */
const FILES_SHARE_OF_SOCKETS = 1 / 2;
/** The share for connections that are accepted in one go, before one too many can be refused. */
const FILES_SHARE_OF_BACKLOG = 1 / 4;
/** The time between two notices that connections are refused. */
const NOTICE_INTERVAL_MS = 60_000;

export function listenTcpNode(
  options: ListenTcpOptions,
  onConnection: ConnectionHandler,
): Promise<Listener> {
  const server = net.createServer({ allowHalfOpen: true });
  const sockets = trackSockets(server, options);
  server.on("connection", (socket: Socket) => handOver(socket, null, onConnection));
  return listen(server, sockets, options);
}

export function listenTlsNode(
  options: ListenTlsOptions,
  onConnection: ConnectionHandler,
): Promise<Listener> {
  const server = tls.createServer({
    cert: options.cert,
    key: options.key,
    minVersion: "TLSv1.3",
    allowHalfOpen: true,
    handshakeTimeout: options.handshake_timeout_ms ?? HANDSHAKE_TIMEOUT_MS_DEFAULT,
    ...(options.alpn.length > 0 ? { ALPNProtocols: options.alpn } : {}),
  });
  const sockets = trackSockets(server, options);
  // The socket of a failed handshake stays open otherwise.
  server.on("tlsClientError", (_error: Error, socket: TLSSocket) => socket.destroy());
  server.on("secureConnection", (socket: TLSSocket) => {
    handOver(socket, socket.alpnProtocol || null, onConnection);
  });
  return listen(server, sockets, options);
}

/** Tracks the open sockets, with or without a handshake. Destroys each one too many. */
function trackSockets(server: Server, options: ListenTcpOptions): Set<Socket> {
  const sockets = new Set<Socket>();
  const connections_max = options.connections_max ?? CONNECTIONS_MAX_DEFAULT;
  const sockets_max = Math.min(
    connections_max,
    Math.floor(openFilesMax() * FILES_SHARE_OF_SOCKETS),
  );
  let noticed_at_ms = -Infinity;
  const refuse = (socket: Socket) => {
    socket.destroy();
    if (performance.now() - noticed_at_ms < NOTICE_INTERVAL_MS) return;
    noticed_at_ms = performance.now();
    options.onNotice?.(`${sockets_max} connections are open; more are refused`);
  };
  server.on("connection", (socket: Socket) => {
    if (sockets.size >= sockets_max) forgetDestroyed(sockets);
    if (sockets.size >= sockets_max) return refuse(socket);
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  return sockets;
}

/** Removes sockets that were destroyed in this turn of the event loop. Their event comes later. */
function forgetDestroyed(sockets: Set<Socket>): void {
  for (const socket of sockets) {
    if (socket.destroyed) sockets.delete(socket);
  }
}

/** How many files this process may have open. Infinity where the system does not tell. */
function openFilesMax(): number {
  let limits;
  try {
    limits = readFileSync("/proc/self/limits", "utf8");
  } catch {
    return Infinity;
  }
  const [, soft] = /^Max open files +(\d+)/m.exec(limits) ?? [];
  return soft === undefined ? Infinity : Number(soft);
}

function handOver(socket: Socket, alpn: string | null, onConnection: ConnectionHandler): void {
  // The peer has gone already, or the socket was one too many.
  if (socket.destroyed || socket.remoteAddress === undefined) socket.destroy();
  else onConnection(new NodeConnection(socket, alpn));
}

async function listen(
  server: Server,
  sockets: Set<Socket>,
  { host, port }: ListenTcpOptions,
): Promise<Listener> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(listenError(error, host, port)));
    const backlog = Math.min(BACKLOG_MAX, Math.floor(openFilesMax() * FILES_SHARE_OF_BACKLOG));
    server.listen({ host, port, backlog }, resolve);
  });
  const address = server.address() as AddressInfo;
  return {
    host: address.address,
    port: address.port,
    close: () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      return closed;
    },
  };
}
