/**
 * Listens with node:net and node:tls.
 *
 * TLS uses node:tls on Deno too, although `Deno.listenTls` takes a quarter less processor time per
 * call. `Deno.listenTls` leaves TCP_NODELAY off, so a second small message to a quiet peer waits 40
 * ms, and it cannot end a handshake that its peer does not finish.
 */
import net from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";
import tls from "node:tls";
import type { TLSSocket } from "node:tls";
import type { Admission, Place } from "./admission.ts";
import { openFilesMax } from "./open_files.ts";
import { NodeConnection } from "./node_stream.ts";
import {
  type ConnectionHandler,
  CONNECTIONS_MAX_DEFAULT,
  HANDSHAKE_TIMEOUT_MS_DEFAULT,
  type Listener,
  listenError,
  type ListenTcpOptions,
  type ListenTlsOptions,
  makeAdmission,
  plainHost,
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

export function listenTcpNode(
  options: ListenTcpOptions,
  onConnection: ConnectionHandler,
): Promise<Listener> {
  const server = net.createServer({ allowHalfOpen: true });
  const guests = new Guests(options);
  server.on("connection", (socket: Socket) => {
    guests.admit(socket);
    guests.handOver(socket, null, onConnection);
  });
  return listen(server, guests, options);
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
  const guests = new Guests(options);
  // Before the handshake, because one that is never finished takes a place too.
  server.on("connection", (socket: Socket) => guests.admit(socket));
  // The socket of a failed handshake stays open otherwise.
  server.on("tlsClientError", (_error: Error, socket: TLSSocket) => socket.destroy());
  server.on("secureConnection", (socket: TLSSocket) => {
    guests.handOver(socket, socket.alpnProtocol || null, onConnection);
  });
  return listen(server, guests, options);
}

interface Guest {
  readonly place: Place & { leave(): void };
  /** The TCP socket, and after the handshake the TLS socket. */
  socket: Socket;
}

/** The sockets that have a place, with or without a handshake. */
class Guests {
  /** By both ends of the connection. The sockets of a handshake and after it are not the same. */
  private readonly guests = new Map<string, Guest>();
  private readonly admission: Admission;
  private readonly closeNotices: () => void;
  /** Connections that the system may hold ready. */
  readonly backlog: number;

  constructor({ connections_max = CONNECTIONS_MAX_DEFAULT, onNotice }: ListenTcpOptions) {
    const files = openFilesMax(Math.ceil(connections_max / FILES_SHARE_OF_SOCKETS));
    const sockets_max = Math.floor(files * FILES_SHARE_OF_SOCKETS);
    this.backlog = Math.min(BACKLOG_MAX, Math.floor(files * FILES_SHARE_OF_BACKLOG));
    const kept = makeAdmission(Math.min(connections_max, sockets_max), onNotice);
    this.admission = kept.admission;
    this.closeNotices = kept.close;
  }

  /** Gives a new socket a place, or destroys it. */
  admit(socket: Socket): void {
    const ends = endsOf(socket);
    // Without an address the peer has gone already.
    if (ends === null) return void socket.destroy();
    const place = this.admission.enter(plainHost(socket.remoteAddress!), () => {
      this.guests.delete(ends);
      guest.socket.destroy();
    });
    if (place === null) return void socket.destroy();
    const guest: Guest = { place, socket };
    this.guests.set(ends, guest);
    socket.once("close", () => {
      if (this.guests.get(ends) === guest) this.guests.delete(ends);
      place.leave();
    });
  }

  /** Hands a socket over that is ready for use, unless it has lost its place. */
  handOver(socket: Socket, alpn: string | null, onConnection: ConnectionHandler): void {
    const guest = this.guests.get(endsOf(socket) ?? "");
    if (guest === undefined || socket.destroyed) return void socket.destroy();
    guest.socket = socket;
    guest.place.greet();
    onConnection(new NodeConnection(socket, alpn), guest.place);
  }

  destroyAll(): void {
    this.closeNotices();
    for (const { socket } of this.guests.values()) socket.destroy();
  }
}

function endsOf({ remoteAddress, remotePort, localAddress }: Socket): string | null {
  return remoteAddress === undefined ? null : `${remoteAddress} ${remotePort} ${localAddress}`;
}

async function listen(
  server: Server,
  guests: Guests,
  { host, port }: ListenTcpOptions,
): Promise<Listener> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(listenError(error, host, port)));
    server.listen({ host, port, backlog: guests.backlog }, resolve);
  });
  const address = server.address() as AddressInfo;
  return {
    host: address.address,
    port: address.port,
    close: () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      guests.destroyAll();
      return closed;
    },
  };
}
