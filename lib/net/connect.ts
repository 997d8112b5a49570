/** Connects with node:net and node:tls, on every runtime. */
import { Buffer } from "node:buffer";
import { X509Certificate } from "node:crypto";
import net from "node:net";
import type { Socket } from "node:net";
import tls from "node:tls";
import type { PeerCertificate, TLSSocket } from "node:tls";
import { isSealwireError, SealwireError, systemErrorCode } from "../base/errors.ts";
import { type Connection, type ConnectOptions, formatAddress } from "./connection.ts";
import { NodeConnection } from "./node_stream.ts";

export interface ConnectTlsOptions extends ConnectOptions {
  /** The one pinned certificate, PEM. The server's is compared with it byte for byte. */
  certificate: string;
  /** The protocols offered. Empty for a peer that knows no ALPN. */
  alpn: string[];
}

/** The runtimes' codes for a certificate that is not the pinned one or is out of date. */
const CERTIFICATE_ERROR_CODES: ReadonlySet<string> = new Set([
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "CERT_SIGNATURE_FAILURE",
  "CERT_UNTRUSTED",
  "CERT_HAS_EXPIRED",
  "CERT_NOT_YET_VALID",
  "INVALID_CA",
  "INVALID_PURPOSE",
]);

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "nothing listens there",
  ENOTFOUND: "no such host",
  EAI_AGAIN: "the name could not be looked up",
  EHOSTUNREACH: "the host is unreachable",
  ENETUNREACH: "the network is unreachable",
  ETIMEDOUT: "no answer",
  ECONNRESET: "it closed the connection",
  EPIPE: "it closed the connection",
  ERR_SSL_WRONG_VERSION_NUMBER: "it does not speak TLS",
  ERR_SSL_PACKET_LENGTH_TOO_LONG: "it does not speak TLS",
};

/**
 * Connects over TCP.
 *
 * @throws {SealwireError} `no_connection`, `interrupted`.
 */
export function connectTcp(options: ConnectOptions): Promise<Connection> {
  const { host, port } = options;
  return openSocket(
    options,
    () => net.connect({ host, port, allowHalfOpen: true }),
    "connect",
    (socket) => new NodeConnection(socket, null),
  );
}

/**
 * Connects over TLS to the server that shows exactly the pinned certificate and holds its key.
 *
 * @throws {SealwireError} `no_connection`, `interrupted`; `server_changed` where the server shows
 * another certificate; `server_untrusted` where the pinned one is out of date.
 */
export function connectTls(options: ConnectTlsOptions): Promise<Connection> {
  const pinned = new X509Certificate(options.certificate);
  const check = (_host: string, shown: PeerCertificate) => pinError(pinned, shown);
  return openSocket<TLSSocket, Connection>(
    options,
    () =>
      tls.connect({
        ...tlsTarget(options),
        ...(options.alpn.length > 0 ? { ALPNProtocols: options.alpn } : {}),
        ca: [options.certificate],
        rejectUnauthorized: true,
        checkServerIdentity: check,
      }),
    "secureConnect",
    (socket) => {
      const error = check(options.host, socket.getPeerCertificate());
      if (error) throw error;
      return new NodeConnection(socket, socket.alpnProtocol || null);
    },
    (error) => certificateError(error, pinned),
  );
}

/** A TLS connection to an unverified server, with the certificate that it showed. */
export interface UnverifiedConnection {
  readonly connection: Connection;
  /** DER. */
  readonly certificate: Uint8Array;
}

/**
 * Connects over TLS without checking who answers. Use it only to ask who the server claims to be.
 * Send no secret on it, and connect again with {@linkcode connectTls}. Deno may not even check the
 * handshake's signature. Throws `no_connection`.
 */
export function connectTlsUnverified(
  options: ConnectOptions & { alpn: string[] },
): Promise<UnverifiedConnection> {
  return openSocket<TLSSocket, UnverifiedConnection>(
    options,
    () =>
      tls.connect({
        ...tlsTarget(options),
        ...(options.alpn.length > 0 ? { ALPNProtocols: options.alpn } : {}),
        rejectUnauthorized: false,
      }),
    "secureConnect",
    (socket) => ({
      connection: new NodeConnection(socket, socket.alpnProtocol || null),
      certificate: new Uint8Array(socket.getPeerCertificate().raw),
    }),
  );
}

function tlsTarget({ host, port }: ConnectOptions) {
  return { host, port, allowHalfOpen: true, ...(net.isIP(host) ? {} : { servername: host }) };
}

/**
 * Compares the certificate shown with the pinned one. Returns the error, because a throw in this
 * callback would hang the connect. The date is checked here too, because Deno accepts an X.509 v1
 * certificate that is out of date.
 */
function pinError(pinned: X509Certificate, shown: PeerCertificate): SealwireError | undefined {
  if (!shown.raw || Buffer.compare(shown.raw, pinned.raw) !== 0) return serverChanged();
  return isInDate(pinned) ? undefined : serverOutOfDate(pinned);
}

function isInDate(certificate: X509Certificate): boolean {
  const now = Date.now();
  return now >= Date.parse(certificate.validFrom) && now <= Date.parse(certificate.validTo);
}

function serverChanged(cause?: Error): SealwireError {
  return new SealwireError("server_changed", "the server shows another certificate than before", {
    cause,
  });
}

function serverOutOfDate({ validFrom, validTo }: X509Certificate, cause?: Error): SealwireError {
  return new SealwireError(
    "server_untrusted",
    `the server's certificate is out of date: it is valid from ${validFrom} to ${validTo}`,
    { cause },
  );
}

/** Returns what a failed handshake says about the pinned certificate, or null. */
function certificateError(error: Error, pinned: X509Certificate): SealwireError | null {
  if (!CERTIFICATE_ERROR_CODES.has(systemErrorCode(error) ?? "")) return null;
  return isInDate(pinned) ? serverChanged(error) : serverOutOfDate(pinned, error);
}

/** Waits for a socket's `ready` event, within the time and unless aborted. Then calls `make`. */
function openSocket<S extends Socket, Result>(
  options: ConnectOptions,
  connect: () => S,
  ready: "connect" | "secureConnect",
  make: (socket: S) => Result,
  explain: (error: Error) => SealwireError | null = () => null,
): Promise<Result> {
  const { signal, timeout_ms } = options;
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(abortError(signal));
    const socket = connect();
    const fail = (error: unknown) => {
      settle();
      // A later error changes nothing any more, but it must have a listener.
      socket.on("error", () => {});
      socket.destroy();
      reject(error);
    };
    const timer = setTimeout(
      () => fail(noConnection(options, `no answer within ${timeout_ms / 1000} s`)),
      timeout_ms,
    );
    const onAbort = () => fail(abortError(signal!));
    const onClose = () => fail(noConnection(options, "it closed the connection"));
    const onError = (error: Error) => {
      fail(isSealwireError(error) ? error : explain(error) ?? refusal(options, error));
    };
    const onReady = () => {
      settle();
      try {
        resolve(make(socket));
      } catch (error) {
        fail(error);
      }
    };
    const settle = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      socket.off(ready, onReady).off("error", onError).off("close", onClose);
    };
    signal?.addEventListener("abort", onAbort);
    socket.on(ready, onReady).on("error", onError).on("close", onClose);
  });
}

function refusal(options: ConnectOptions, error: Error): SealwireError {
  const code = systemErrorCode(error) ?? "";
  return noConnection(options, REASONS[code] ?? error.message, error);
}

function noConnection(options: ConnectOptions, reason: string, cause?: Error): SealwireError {
  const address = formatAddress(options.host, options.port);
  return new SealwireError("no_connection", `no connection to ${address}: ${reason}`, { cause });
}

function abortError(signal: AbortSignal): SealwireError {
  return isSealwireError(signal.reason)
    ? signal.reason
    : new SealwireError("interrupted", "interrupted", { cause: signal.reason });
}
