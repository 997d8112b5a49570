/**
 * Listeners of node:net and node:tls. TLS is node:tls on Deno too, although `Deno.listenTls` takes a quarter less of the
 * processor a call: that one leaves TCP_NODELAY off, so that a second small message to a quiet peer waits 40 ms, and it
 * cannot end a handshake that its peer does not finish.
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

/** Connections that the system may hold ready; Deno accepts as many at a time. */
const BACKLOG_MAX = 1024;
/**
 * A listener that has run out of files once never accepts again in Deno, so it must not come to that: shares of all files
 * for the connections, and for those that are accepted before one too many can be refused.
 */
const FILES_SHARE_OF_SOCKETS = 1 / 2;
const FILES_SHARE_OF_BACKLOG = 1 / 4;
/** Between two notices that connections are refused. */
const NOTICE_INTERVAL_MS = 60_000;

export function listenTcpNode(
  options: ListenTcpOptions,
  onConnection: ConnectionHandler,
): Promise<Listener> {
  const server = net.createServer({ allowHalfOpen: true });
  const sockets = trackSockets(server, options);
  server.on("connection", (socket: Socket) => greet(socket, null, onConnection));
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
  // Without the destroy the socket of a failed handshake stays open.
  server.on("tlsClientError", (_error: Error, socket: TLSSocket) => socket.destroy());
  server.on("secureConnection", (socket: TLSSocket) => {
    greet(socket, socket.alpnProtocol || null, onConnection);
  });
  return listen(server, sockets, options);
}

/** The sockets that are open, handshake done or not. One too many is destroyed as it comes. */
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

/** Those that were let go of in this turn of the event loop, and say so only later. */
function forgetDestroyed(sockets: Set<Socket>): void {
  for (const socket of sockets) {
    if (socket.destroyed) sockets.delete(socket);
  }
}

/** How many files this process may have open, where the system tells. */
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

function greet(socket: Socket, alpn: string | null, onConnection: ConnectionHandler): void {
  // Gone again before it could be looked at, or one too many.
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
