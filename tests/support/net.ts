/** A listener of ours, clients of ours and of others, for the tests of the network. */
import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import type { Socket } from "node:net";
import tls from "node:tls";
import { type ErrorCode, isSealwireError } from "../../lib/base/errors.ts";
import {
  type Connection,
  connectTcp,
  connectTls,
  type Listener,
  listenTcp,
  listenTls,
  type ListenTlsOptions,
  type Place,
} from "../../lib/net/net.ts";
import { makeCertificate } from "./certificates.ts";
import { temporaryFolder } from "./support.ts";

export const HOST = "127.0.0.1";
export const ALPN = "sealwire/1";
export const TIMEOUT_MS = 5_000;
export const OPTIONS = { timeout: 60_000 };

/** Holds `server_cert.pem` and `server_key.pem`, which are `server`. */
export const folder = temporaryFolder();
export const server = makeCertificate(folder, "server");

const closing: (() => unknown)[] = [];

/** What is to be done when the tests of a file are over. */
export function later(close: () => unknown): void {
  closing.push(close);
}

/** To be called `after` all tests of a file. */
export async function closeAll(): Promise<void> {
  for (const close of closing.splice(0)) await close();
}

/** Sends back what comes, then ends as the peer does. */
export async function echo(connection: Connection): Promise<void> {
  try {
    for (let bytes; (bytes = await connection.read()) !== null;) await connection.write(bytes);
    await connection.end();
  } catch (error) {
    if (!isSealwireError(error, "connection_lost")) throw error;
  }
}

export async function listening(
  kind: "tcp" | "tls",
  onConnection: (connection: Connection, place: Place) => void,
  options: Partial<ListenTlsOptions> = {},
): Promise<Listener> {
  const all = { host: HOST, port: 0, alpn: [ALPN], ...server, ...options };
  const listener =
    await (kind === "tcp" ? listenTcp(all, onConnection) : listenTls(all, onConnection));
  later(() => listener.close());
  return listener;
}

export function connect(kind: "tcp" | "tls", port: number): Promise<Connection> {
  const target = { host: HOST, port, timeout_ms: TIMEOUT_MS };
  return kind === "tcp"
    ? connectTcp(target)
    : connectTls({ ...target, certificate: server.cert, alpn: [ALPN] });
}

/** Both ends of one new connection. */
export async function pair(kind: "tcp" | "tls"): Promise<[client: Connection, server: Connection]> {
  const accepted = Promise.withResolvers<Connection>();
  const listener = await listening(kind, accepted.resolve);
  const client = await connect(kind, listener.port);
  return [client, await accepted.promise];
}

export function withCode(code: ErrorCode) {
  return (error: unknown) => {
    assert.ok(isSealwireError(error, code), `${code} expected, got ${error}`);
    return true;
  };
}

/** A client that is none of ours: a bare socket, or a TLS one. */
export async function foreignClient(kind: "tcp" | "tls", port: number): Promise<Socket> {
  const target = { host: HOST, port, allowHalfOpen: true };
  const socket = kind === "tcp"
    ? net.connect(target)
    : tls.connect({ ...target, rejectUnauthorized: false });
  socket.on("error", () => {});
  await once(socket, kind === "tcp" ? "connect" : "secureConnect");
  return socket;
}
