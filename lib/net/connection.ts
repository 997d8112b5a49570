/** What a byte stream is to the rest of the program, and what all of its implementations share. */
import { SealwireError, systemErrorCode } from "../base/errors.ts";

/** One byte stream, TCP or TLS, on any runtime. */
export interface Connection {
  /** IP literal of the peer; an IPv4-mapped IPv6 address is given as plain IPv4. */
  readonly remoteHost: string;
  readonly remotePort: number;
  /** Negotiated ALPN protocol; null where there is none. */
  readonly alpn: string | null;
  /** Bytes given to write and not yet handed to the system. */
  readonly unsent_bytes: number;
  /**
   * The next bytes (at least one), or null at the end of the stream. One read at a time. An end proves nothing: a peer
   * that was cut off can look the same, so a protocol marks its own end. A TLS connection is to be read without long
   * pauses: where the runtime cannot hold its peer back, it is lost when 2 MiB wait. Throws `connection_lost`.
   */
  read(): Promise<Uint8Array | null>;
  /**
   * Resolves when the bytes are handed to the system: backpressure. May be called without waiting; order is kept. The
   * bytes must stay as they are until then. Throws `connection_lost`.
   */
  write(bytes: Uint8Array): Promise<void>;
  /**
   * Sends what is pending, then ends the stream; what still arrives is dropped, and a pending read gives null. Resolves
   * when the peer has ended it too, at the latest after `END_TIMEOUT_MS`, when it is destroyed.
   */
  end(): Promise<void>;
  /** Closes at once; a pending read or write rejects with `connection_lost`. May be called more than once. */
  destroy(): void;
}

export type ConnectionHandler = (connection: Connection) => void;

export interface Listener {
  /** The address really listened on. */
  readonly host: string;
  readonly port: number;
  /** Stops listening and destroys the connections it accepted. */
  close(): Promise<void>;
}

export interface ListenTcpOptions {
  host: string;
  /** 0 lets the system choose. */
  port: number;
  /** More than so many at once are closed as they come. */
  connections_max?: number;
  /** Called with a sentence for the operator's log. */
  onNotice?: (text: string) => void;
}

export interface ListenTlsOptions extends ListenTcpOptions {
  /** PEM. */
  cert: string;
  key: string;
  /** Protocols offered; a client that asks for none of them is refused, one that does not ask is not. */
  alpn: string[];
  handshake_timeout_ms?: number;
}

export interface ConnectOptions {
  host: string;
  port: number;
  /** For the name, the connection and the handshake together. */
  timeout_ms: number;
  /** Its reason is thrown when it is a `SealwireError`, else `interrupted`. */
  signal?: AbortSignal;
}

export const CONNECTIONS_MAX_DEFAULT = 10_000;
export const HANDSHAKE_TIMEOUT_MS_DEFAULT = 10_000;
/** How long an ended connection waits for its peer to take the last bytes and end as well. */
export const END_TIMEOUT_MS = 10_000;

export const ON_DENO = "Deno" in globalThis;

/** `::ffff:127.0.0.1` is `127.0.0.1`. */
export function plainHost(host: string): string {
  return /^::ffff:\d+\.\d+\.\d+\.\d+$/i.test(host) ? host.slice("::ffff:".length) : host;
}

/** `host:port`, with an IPv6 literal in brackets. */
export function formatAddress(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

export function connectionLost(cause?: unknown): SealwireError {
  return new SealwireError("connection_lost", "the connection was lost", { cause });
}

/** The error that a failed listen stands for: `port_in_use`, `port_forbidden` or `address_unavailable`. */
export function listenError(error: unknown, host: string, port: number): unknown {
  const address = formatAddress(host, port);
  switch (systemErrorCode(error)) {
    case "EADDRINUSE":
      return new SealwireError("port_in_use", `port ${port} is in use on ${host}`, {
        cause: error,
      });
    case "EACCES":
    case "EPERM":
      return new SealwireError("port_forbidden", `this user may not listen on ${address}`, {
        cause: error,
      });
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
    case "EAI_AGAIN":
    case "EINVAL":
      return new SealwireError("address_unavailable", `${host} is no address of this machine`, {
        cause: error,
      });
    default:
      return error;
  }
}
