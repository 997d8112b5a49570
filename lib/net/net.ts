/**
 * Listens and connects over TCP and TLS on every runtime. Each stream is a {@linkcode Connection}.
 * Nothing outside this folder asks which runtime it is on.
 */
import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import type {
  ConnectionHandler,
  Listener,
  ListenTcpOptions,
  ListenTlsOptions,
} from "./connection.ts";
import { listenError, ON_DENO } from "./connection.ts";
import { listenTcpDeno } from "./deno_listen.ts";
import { listenTcpNode, listenTlsNode } from "./node_listen.ts";

export { addressGroup, mayConnectTo, parseIp } from "./address.ts";
export type { Place } from "./admission.ts";
export { connectTcp, connectTls, connectTlsUnverified } from "./connect.ts";
export { CONNECTIONS_MAX_DEFAULT, END_TIMEOUT_MS, formatAddress, plainHost } from "./connection.ts";
export type { Connection, Listener, ListenTlsOptions } from "./connection.ts";

/**
 * Accepts TCP connections.
 *
 * @throws {SealwireError} `port_in_use`, `port_forbidden`, `address_unavailable`.
 */
export async function listenTcp(
  options: ListenTcpOptions,
  onConnection: ConnectionHandler,
): Promise<Listener> {
  const resolved = await resolveHost(options);
  return (ON_DENO ? listenTcpDeno : listenTcpNode)(resolved, onConnection);
}

/**
 * Accepts TLS connections.
 *
 * @throws {SealwireError} `port_in_use`, `port_forbidden`, `address_unavailable`.
 */
export async function listenTls(
  options: ListenTlsOptions,
  onConnection: ConnectionHandler,
): Promise<Listener> {
  return listenTlsNode(await resolveHost(options), onConnection);
}

/** Replaces a host name by its address. The runtimes' errors for an unknown name differ. */
async function resolveHost<O extends ListenTcpOptions>(options: O): Promise<O> {
  if (isIP(options.host)) return options;
  try {
    return { ...options, host: (await lookup(options.host)).address };
  } catch (error) {
    throw listenError(error, options.host, options.port);
  }
}
