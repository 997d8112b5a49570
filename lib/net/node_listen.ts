/** Listeners of node:net and node:tls. */
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

/** Connections that the system may hold ready before they are accepted. */
const BACKLOG = 1024;

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
  const sockets_max = options.connections_max ?? CONNECTIONS_MAX_DEFAULT;
  server.on("connection", (socket: Socket) => {
    if (sockets.size >= sockets_max) return socket.destroy();
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  return sockets;
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
    server.listen({ host, port, backlog: BACKLOG }, resolve);
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
