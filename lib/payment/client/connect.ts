/**
 * From an address to the server that it should be. A server is its RSA key. Its statement, signed
 * by that key, vouches for the TLS certificate and for the log key, so a renewed certificate is no
 * alarm.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { isSealwireError, SealwireError } from "../../base/errors.ts";
import { Members, type Sha256 } from "../../base/parse.ts";
import {
  certificateFingerprint,
  certificatePem,
  certificateSha256,
  parseCertificate,
} from "../../keys/certificate.ts";
import { loadServerPublicKey } from "../../keys/key_files.ts";
import { type KnownIdentity, type KnownServer, KnownServers } from "../../keys/known_keys.ts";
import { parseRsaPublicJwk } from "../../keys/rsa.ts";
import { loadCertificate } from "../../keys/server_keys.ts";
import { type Connection, connectTls, connectTlsUnverified, formatAddress } from "../../net/net.ts";
import { NONCE_BYTES } from "../../protocol/delegation.ts";
import { type SignedStatement, verifyStatement } from "../../protocol/statement.ts";
import { ALPN, PROTOCOL_VERSION } from "../../protocol/wire.ts";
import { RpcPeer } from "../../rpc/peer.ts";

/** What a person is to compare with the operator's word. */
export interface ShownFingerprint {
  /** A classic server has no more than its certificate. */
  readonly kind: "key" | "certificate";
  readonly fingerprint: string;
  /** Where the server was reached. */
  readonly address: string;
}

export interface ConnectServerOptions {
  readonly host: string;
  readonly port: number;
  readonly keysFolder: string;
  /** `--server-cert`; null to look into the keys folder and the known servers. */
  readonly serverCertPath: string | null;
  readonly timeout_ms: number;
  readonly signal: AbortSignal;
  /** Shows the fingerprint of a server never seen before, and asks whether to trust it. */
  readonly confirmServer: (shown: ShownFingerprint) => Promise<boolean>;
  /** Says what a person should know, and need not act on. */
  readonly remark: (text: string) => void;
  /** Says loudly that the server is not the one that it was. */
  readonly alarm: (lines: readonly string[]) => void;
}

export interface ConnectRpcOptions extends ConnectServerOptions {
  readonly onNotification: (method: string, params: unknown) => void;
  readonly onResult: (result: unknown) => void;
}

/** A connection to the right server, before anyone has logged in. */
export interface ServerLink {
  readonly peer: RpcPeer;
  readonly statement: SignedStatement;
  /** SHA-256 of the certificate that this side sees. */
  readonly cert: Sha256;
  /** 32 bytes, base64url. */
  readonly nonce: string;
}

/** What must hold for a server at this address. */
interface Pin {
  /** Null until a first connection has shown it. */
  readonly certificatePem: string | null;
  /** Thumbprint of the server's key; null for a server never seen before. */
  readonly server: Sha256 | null;
  /** Lines: where the key was pinned, and so what to do when another one is right. */
  readonly advice: readonly string[];
}

/**
 * Connects over JSON-RPC to the pinned server, or to one that is trusted now for the first time.
 *
 * @throws {SealwireError} `no_connection`, `server_untrusted` (nobody vouched for it),
 * `server_changed` (another key than was pinned), `bad_answer`, `certificate_unreadable` and the
 * like for the files.
 */
export async function connectServer(options: ConnectRpcOptions): Promise<ServerLink> {
  const pin = pinOf(options);
  if (pin.certificatePem === null) return await connectIntroduced(options, pin);
  const mayBeRenewed = pin.server !== null && options.serverCertPath === null;
  try {
    const connection = await connectPinned(options, pin.certificatePem, [ALPN]);
    return await greet(options, connection, pin.certificatePem, pin);
  } catch (error) {
    if (!(error instanceof OtherCertificate)) throw error;
    if (mayBeRenewed) return await connectIntroduced(options, pin);
    certificateAlarm(options, pin.certificatePem);
    throw error;
  }
}

/** The server shows another certificate than the pinned one, or that one is out of date. */
class OtherCertificate extends SealwireError {}

/**
 * Connects over TLS to whoever shows this certificate. Throws {@linkcode OtherCertificate},
 * `no_connection`.
 */
async function connectPinned(
  { host, port, timeout_ms, signal }: ConnectServerOptions,
  certificate: string,
  alpn: string[],
): Promise<Connection> {
  try {
    return await connectTls({ host, port, timeout_ms, signal, certificate, alpn });
  } catch (error) {
    if (!isSealwireError(error, "server_changed") && !isSealwireError(error, "server_untrusted")) {
      throw error;
    }
    throw new OtherCertificate(error.code, error.message, { cause: error });
  }
}

/**
 * Asks on a connection that proves nothing who the server is, and connects strictly to who it must
 * be.
 */
async function connectIntroduced(options: ConnectRpcOptions, pin: Pin): Promise<ServerLink> {
  const { statement, certificate } = await askIdentity(options);
  const { server, cert } = statement.claims;
  const { host, port } = options;
  const address = formatAddress(host, port);
  if (certificateSha256(certificate) !== cert) {
    throw untrusted(`${address} shows another certificate than its own statement names`);
  }
  const fingerprint = server.thumbprint;
  if (pin.server !== null && pin.server !== fingerprint) {
    throw keyChanged(options, pin, fingerprint);
  }
  const known = new KnownServers(options.keysFolder).findIdentity(fingerprint);
  if (known !== null) requireNewer(known, statement, address);
  const pem = certificatePem(parseCertificate(certificate));
  if (pin.certificatePem !== null && pin.certificatePem !== pem) {
    options.remark(`${address} has a new certificate, and its key vouches for it`);
  } else if (pin.server === null && known !== null) {
    const elsewhere = new KnownServers(options.keysFolder).addressesOf(fingerprint).join(", ");
    options.remark(`${address} is the server that is trusted here as ${elsewhere}`);
  } else if (
    pin.server === null && !await options.confirmServer({ kind: "key", fingerprint, address })
  ) {
    throw untrusted(
      `${address} is not known here. Its key has the fingerprint ${fingerprint}. ` +
        "Compare it with what the operator says, then use --accept-new",
    );
  }
  const connection = await connectPinned(options, pem, [ALPN]);
  return await greet(options, connection, pem, { ...pin, server: fingerprint });
}

/** The statement and the certificate that a server shows. Nothing secret is sent. */
async function askIdentity(
  options: ConnectRpcOptions,
): Promise<{ statement: SignedStatement; certificate: Uint8Array }> {
  const { connection, certificate } = await connectTlsUnverified({ ...options, alpn: [ALPN] });
  const peer = openPeer({ ...options, onNotification: () => {}, onResult: () => {} }, connection);
  try {
    const { statement } = await hello(options, peer);
    return { statement, certificate };
  } finally {
    peer.destroy();
  }
}

/** Says hello on a connection that shows the pinned certificate, and checks the answer. */
async function greet(
  options: ConnectRpcOptions,
  connection: Connection,
  certificate: string,
  pin: Pin,
): Promise<ServerLink> {
  const address = formatAddress(options.host, options.port);
  const peer = openPeer(options, connection);
  try {
    const { statement, nonce } = await hello(options, peer);
    const { server, cert } = statement.claims;
    if (pin.server !== null && server.thumbprint !== pin.server) {
      throw keyChanged(options, pin, server.thumbprint);
    }
    if (cert !== certificateSha256(certificate)) {
      throw untrusted(`the statement of ${address} names another certificate than it shows`);
    }
    const known = new KnownServers(options.keysFolder).findIdentity(server.thumbprint);
    if (known !== null) requireNewer(known, statement, address);
    const shown = { certificatePem: certificate, identity: identityOf(statement) };
    remember(options, shown, ({ identity }) => {
      if (identity === null) return;
      const trusted = parseRsaPublicJwk(identity.serverKey).thumbprint;
      if (trusted !== server.thumbprint) {
        throw keyChanged(options, { ...pin, server: trusted }, server.thumbprint);
      }
      requireNewer(identity, statement, address);
    });
    return { peer, statement, nonce, cert };
  } catch (error) {
    peer.destroy();
    throw error;
  }
}

function openPeer(
  { host, port, onNotification, onResult }: ConnectRpcOptions,
  connection: Connection,
): RpcPeer {
  if (connection.alpn === ALPN) {
    return new RpcPeer(connection, { role: "client", onNotification, onResult });
  }
  connection.destroy();
  const address = formatAddress(host, port);
  throw new SealwireError(
    "no_connection",
    `${address} is no ${ALPN} server: for an old C++ server use --classic`,
  );
}

async function hello(
  { timeout_ms, signal }: ConnectServerOptions,
  peer: RpcPeer,
): Promise<{ statement: SignedStatement; nonce: string }> {
  const value = await peer.call("hello", {}, { timeout_ms, signal });
  const answer = new Members(value, "hello", "bad_answer");
  answer.constant("v", PROTOCOL_VERSION);
  const nonce = answer.bytes("nonce", NONCE_BYTES);
  const statement = await verifyStatement(answer.raw("statement")).catch((cause) => {
    throw untrusted("the server's statement is not signed by the key that it names", cause);
  });
  return { statement, nonce };
}

/** A stolen old certificate is no way back, and the log key never changes. */
function requireNewer(known: KnownIdentity, statement: SignedStatement, address: string): void {
  const { iat, log } = statement.claims;
  if (iat < known.statementTime) {
    throw untrusted(`${address} shows an older statement than one seen before`);
  }
  if (log.x !== known.logKey) {
    throw untrusted(`${address} names another log key than before, which a server never changes`);
  }
}

function identityOf({ claims: { server, log, iat } }: SignedStatement): KnownIdentity {
  return { serverKey: server.jwk, logKey: log.x, statementTime: iat };
}

function pinOf(options: ConnectServerOptions): Pin {
  const { host, port, keysFolder, serverCertPath } = options;
  const known = new KnownServers(keysFolder).get(host, port);
  const certificatePem = serverCertPath !== null
    ? readPem(serverCertPath)
    : known?.identity
    ? known.certificatePem
    : null;
  if (known?.identity) {
    const server = parseRsaPublicJwk(known.identity.serverKey).thumbprint;
    const advice = ["If the new key is right:", `  ${forgetCommand(options)}`];
    return { certificatePem, server, advice };
  }
  const ownKeyPath = join(keysFolder, "server_public.pem");
  const server = existsSync(ownKeyPath) ? loadServerPublicKey(ownKeyPath).thumbprint : null;
  const advice = [
    "The trusted key is in",
    `  ${ownKeyPath}`,
    "If you mean another server: use another folder with --keys, or move that file away.",
  ];
  return { certificatePem, server, advice };
}

function forgetCommand({ host, port, keysFolder }: ConnectServerOptions): string {
  return `client.ts servers forget ${host} ${port} --keys ${keysFolder}`;
}

function readPem(path: string): string {
  return certificatePem(loadCertificate(path));
}

/**
 * Records what a server has shown, so that it must show the same from now on. `judge` throws where
 * another process has recorded what forbids that: a person may have taken minutes to confirm.
 */
function remember(
  { host, port, keysFolder }: ConnectServerOptions,
  server: KnownServer,
  judge: (known: KnownServer) => void,
): void {
  const servers = new KnownServers(keysFolder);
  const known = servers.get(host, port);
  const same = known?.certificatePem === server.certificatePem &&
    known.identity?.statementTime === server.identity?.statementTime &&
    known.identity?.serverKey.n === server.identity?.serverKey.n;
  if (!same) servers.record(host, port, server, (known) => known && judge(known));
}

/**
 * Connects to a classic server: pinned by its certificate, for it has no statement. Throws as
 * {@linkcode connectServer}.
 */
export async function connectClassicServer(options: ConnectServerOptions): Promise<Connection> {
  const { host, port, serverCertPath } = options;
  const known = serverCertPath === null
    ? new KnownServers(options.keysFolder).get(host, port)?.certificatePem ?? null
    : readPem(serverCertPath);
  const certificate = known ?? await trustCertificate(options);
  try {
    const connection = await connectPinned(options, certificate, []);
    const identity = new KnownServers(options.keysFolder).get(host, port)?.identity ?? null;
    remember(options, { certificatePem: certificate, identity }, () => {});
    return connection;
  } catch (error) {
    if (error instanceof OtherCertificate) certificateAlarm(options, certificate);
    throw error;
  }
}

/** First use of a classic server: all there is to compare is its certificate. */
async function trustCertificate(options: ConnectServerOptions): Promise<string> {
  const { connection, certificate } = await connectTlsUnverified({ ...options, alpn: [] });
  connection.destroy();
  const fingerprint = certificateFingerprint(certificate);
  const address = formatAddress(options.host, options.port);
  if (!await options.confirmServer({ kind: "certificate", fingerprint, address })) {
    throw untrusted(
      `${address} is not known here. Its certificate has the SHA-256 fingerprint ${fingerprint}. ` +
        "Compare it with what the operator says, then use --accept-new, or --server-cert FILE",
    );
  }
  return certificatePem(parseCertificate(certificate));
}

function untrusted(message: string, cause?: unknown): SealwireError {
  return new SealwireError("server_untrusted", message, { cause });
}

function keyChanged(
  { host, port, alarm }: ConnectServerOptions,
  { server: trusted, advice }: Pin,
  shown: Sha256,
): SealwireError {
  const address = formatAddress(host, port);
  alarm([
    "THE SERVER IS NOT THE ONE THAT IT WAS",
    `${address} has another key than the one trusted here.`,
    `trusted: ${trusted}`,
    `shown:   ${shown}`,
    "Someone may be in between. Nothing was sent. Ask the operator by other means.",
    ...advice,
  ]);
  const message = `${address} has another key than the one trusted here`;
  return new SealwireError("server_changed", message, { details: { trusted, shown } });
}

function certificateAlarm(options: ConnectServerOptions, pinned: string): void {
  const { host, port, serverCertPath } = options;
  const remedy = serverCertPath === null
    ? `  ${forgetCommand(options)}`
    : `  give it with --server-cert, in place of ${serverCertPath}`;
  options.alarm([
    "THE SERVER IS NOT THE ONE THAT IT WAS",
    `${formatAddress(host, port)} shows another certificate than the one trusted here:`,
    `  ${certificateFingerprint(pinned)}`,
    "Someone may be in between. Nothing was sent. Ask the operator by other means.",
    "If the new certificate is right:",
    remedy,
  ]);
}
