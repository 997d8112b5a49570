/**
 * The runtime seam: listening and connecting, TCP and TLS, with one {@linkcode Connection} over all of it. Nothing else in
 * the program asks which runtime it is on.
 */
import type {
  ConnectionHandler,
  Listener,
  ListenTcpOptions,
  ListenTlsOptions,
} from "./net/connection.ts";
import { listenTcpNode, listenTlsNode } from "./net/node_listen.ts";

export { connectTcp, connectTls, fetchCertificate } from "./net/connect.ts";
export type { ConnectTlsOptions } from "./net/connect.ts";
export { END_TIMEOUT_MS, formatAddress } from "./net/connection.ts";
export type {
  Connection,
  ConnectOptions,
  Listener,
  ListenTcpOptions,
  ListenTlsOptions,
} from "./net/connection.ts";

/** Accepts TCP connections. Throws `port_in_use`, `port_forbidden` or `address_unavailable`. */
export function listenTcp(
  options: ListenTcpOptions,
  onConnection: ConnectionHandler,
): Promise<Listener> {
  return listenTcpNode(options, onConnection);
}

/** Accepts TLS connections. Throws `port_in_use`, `port_forbidden` or `address_unavailable`. */
export function listenTls(
  options: ListenTlsOptions,
  onConnection: ConnectionHandler,
): Promise<Listener> {
  return listenTlsNode(options, onConnection);
}
