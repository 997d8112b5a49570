/** The interface of a byte stream, and what its implementations share. */
import { SealwireError, systemErrorCode } from "../base/errors.ts";
import { RepeatedNotice } from "../base/repeated_notice.ts";
import { Admission, type Place } from "./admission.ts";

/** A byte stream over TCP or TLS, on any runtime. */
export interface Connection {
  /** The IP literal of the peer. An IPv4-mapped IPv6 address is given as plain IPv4. */
  readonly remoteHost: string;
  readonly remotePort: number;
  /** The IP literal of this end, in the same form as `remoteHost`. */
  readonly localHost: string;
  /** The negotiated ALPN protocol, or null where there is none. */
  readonly alpn: string | null;
  /** The bytes that were written and that the system has not taken yet. */
  readonly unsent_bytes: number;
  /**
   * Reads the next bytes (at least one). Returns null at the end of the stream. Only one read may
   * be pending.
   *
   * The end of a stream proves nothing, because a peer that was cut off can look the same. A
   * protocol must mark its own end.
   *
   * A TLS connection must be read without long pauses. Where the runtime cannot hold the peer back,
   * the connection is lost when 2 MiB wait.
   *
   * @throws {SealwireError} `connection_lost`.
   */
  read(): Promise<Uint8Array | null>;
  /**
   * Writes bytes. Resolves when the system has taken them, which is the backpressure. They must not
   * change until then. Several writes may be pending; they keep their order.
   *
   * A caller that does not wait learns of a failure from {@linkcode read}.
   *
   * @throws {SealwireError} `connection_lost`.
   */
  write(bytes: Uint8Array): Promise<void>;
  /**
   * Sends what is pending, then ends the stream. Bytes that still arrive are dropped, and a pending
   * read returns null. Resolves when the peer has ended the stream too. After `END_TIMEOUT_MS` the
   * connection is destroyed.
   */
  end(): Promise<void>;
  /**
   * Closes the connection at once. Pending reads and writes reject with `connection_lost`. May be
   * called more than once.
   */
  destroy(): void;
}

/** `place` is the connection's place at the listener. It ends with the connection. */
export type ConnectionHandler = (connection: Connection, place: Place) => void;

export interface Listener {
  /** The address that the system chose or confirmed. */
  readonly host: string;
  readonly port: number;
  /** Stops listening and destroys all accepted connections. */
  close(): Promise<void>;
}

export interface ListenTcpOptions {
  host: string;
  /** 0 lets the system choose. */
  port: number;
  /** The most connections at once. `admission.ts` says which ones are kept when more come. */
  connections_max?: number;
  /** Called with a sentence for the operator's log. */
  onNotice?: (text: string) => void;
}

export interface ListenTlsOptions extends ListenTcpOptions {
  /** The certificate, PEM. */
  cert: string;
  /** Its private key, PEM. */
  key: string;
  /** The protocols offered. A client that asks for others only is refused. */
  alpn: string[];
  handshake_timeout_ms?: number;
}

export interface ConnectOptions {
  host: string;
  port: number;
  /** The time for looking up the name, connecting and the handshake together. */
  timeout_ms: number;
  /** Ends the attempt. Its reason is thrown if that is a `SealwireError`, else `interrupted`. */
  signal?: AbortSignal;
}

export const CONNECTIONS_MAX_DEFAULT = 10_000;
export const HANDSHAKE_TIMEOUT_MS_DEFAULT = 10_000;
/** How long an ended connection waits for its peer to take the last bytes and to end as well. */
export const END_TIMEOUT_MS = 10_000;

export const ON_DENO = "Deno" in globalThis;

/** Turns an IPv4-mapped address into plain IPv4: `::ffff:127.0.0.1` is `127.0.0.1`. */
export function plainHost(host: string): string {
  return /^::ffff:\d+\.\d+\.\d+\.\d+$/i.test(host) ? host.slice("::ffff:".length) : host;
}

/** Formats `host:port`. An IPv6 literal goes in brackets. */
export function formatAddress(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Keeps the places of one listener, and tells the operator when they do not suffice. */
export function makeAdmission(connections_max: number, onNotice?: (text: string) => void) {
  const notice = (why: string) =>
    new RepeatedNotice((count) => onNotice?.(`${why} (${count} closed or refused)`));
  const notices = {
    door: notice(`all ${connections_max} places for connections are taken`),
    address: notice("one address holds as many places as strangers may"),
  };
  const admission = new Admission({
    connections_max,
    onPressure: (lack) => notices[lack].happened(),
  });
  const close = () => Object.values(notices).forEach((one) => one.close());
  return { admission, close };
}

export function connectionLost(cause?: unknown): SealwireError {
  return new SealwireError("connection_lost", "the connection was lost", { cause });
}

/** The error for a failed listen: `port_in_use`, `port_forbidden` or `address_unavailable`. */
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
