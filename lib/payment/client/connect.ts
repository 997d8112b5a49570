/**
 * From an address to a server that is the one it should be. The server is its RSA key; what vouches for it is the TLS
 * certificate that this machine pinned: from `--server-cert`, from the keys folder, or from the first use.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import {
  certificateFingerprint,
  certificatePem,
  certificateSha256,
  parseCertificate,
} from "../../keys/certificate.ts";
import { NONCE_BYTES } from "../../protocol/delegation.ts";
import { isSealwireError, SealwireError } from "../../base/errors.ts";
import { loadServerPublicKey } from "../../keys/key_files.ts";
import { parseRsaPublicJwk, type RsaPublicKey } from "../../keys/rsa.ts";
import { type Connection, connectTls, fetchCertificate, formatAddress } from "../../net/net.ts";
import { Members, type Sha256 } from "../../base/parse.ts";
import { RpcPeer } from "../../rpc/peer.ts";
import { loadCertificate } from "../../keys/server_keys.ts";
import { KnownServers } from "../../keys/known_keys.ts";
import { ALPN } from "../../protocol/wire.ts";

export interface ConnectServerOptions {
  readonly host: string;
  readonly port: number;
  readonly keysFolder: string;
  /** `--server-cert`; null to look into the keys folder and the known servers. */
  readonly serverCertPath: string | null;
  readonly timeout_ms: number;
  readonly signal: AbortSignal;
  /** Shows the fingerprint of a server never seen before, and asks whether to trust it. */
  readonly confirmServer: (fingerprint: string) => Promise<boolean>;
  /** Says loudly that the server is not the one that it was. */
  readonly alarm: (lines: readonly string[]) => void;
}

export interface ConnectRpcOptions extends ConnectServerOptions {
  readonly onNotification: (method: string, params: unknown) => void;
}

/** A connection to the right server, before anyone has logged in. */
export interface ServerLink {
  readonly peer: RpcPeer;
  readonly server: RsaPublicKey;
  /** SHA-256 of the certificate that this side sees. */
  readonly cert: Sha256;
  readonly nonce: string;
}

/** The certificate to insist on, and the server key where that is known too. */
export interface Pin {
  readonly certificatePem: string;
  readonly serverKey: RsaPublicKey | null;
}

/**
 * Connects to a server that shows the pinned certificate, or one that is trusted now for the first time. `alpn`: protocols
 * offered.
 *
 * @throws {SealwireError} `no_connection`, `server_untrusted` (nobody vouched for it), `server_changed` (another certificate
 * than was pinned), `certificate_unreadable` and the like for the files.
 */
export async function connectPinned(
  options: ConnectServerOptions,
  alpn: string[],
): Promise<{ readonly connection: Connection; readonly pin: Pin }> {
  const pin = pinnedServer(options) ?? await trustFirstUse(options);
  const { host, port, timeout_ms, signal } = options;
  const certificate = pin.certificatePem;
  try {
    const connection = await connectTls({ host, port, timeout_ms, signal, certificate, alpn });
    return { connection, pin };
  } catch (error) {
    if (isSealwireError(error, "server_changed")) {
      alarm(options, "certificate", certificateFingerprint(certificate));
    }
    throw error;
  }
}

/** Connects over JSON-RPC. Throws as {@linkcode connectPinned} does, and `server_changed` for another server key. */
export async function connectServer(options: ConnectRpcOptions): Promise<ServerLink> {
  const { connection, pin } = await connectPinned(options, [ALPN]);
  const { host, port, timeout_ms, signal, onNotification } = options;
  if (connection.alpn !== ALPN) {
    connection.destroy();
    throw new SealwireError("no_connection", `${formatAddress(host, port)} is no ${ALPN} server`);
  }
  const peer = new RpcPeer(connection, { role: "client", onNotification });
  try {
    const { server, nonce } = parseHello(
      await peer.call("hello", { v: 1 }, { timeout_ms, signal }),
    );
    if (pin.serverKey !== null && pin.serverKey.thumbprint !== server.thumbprint) {
      alarm(options, "key", pin.serverKey.thumbprint);
      throw new SealwireError(
        "server_changed",
        "the server has another key than the one that was pinned",
      );
    }
    remember(options, { ...pin, serverKey: server });
    return { peer, server, nonce, cert: certificateSha256(pin.certificatePem) };
  } catch (error) {
    peer.destroy();
    throw error;
  }
}

function pinnedServer(
  { host, port, keysFolder, serverCertPath }: ConnectServerOptions,
): Pin | null {
  const known = new KnownServers(keysFolder).get(host, port);
  const knownKey = known?.serverKey ? parseRsaPublicJwk(known.serverKey) : null;
  if (serverCertPath !== null) {
    return { certificatePem: readPem(serverCertPath), serverKey: knownKey };
  }
  const certificatePath = join(keysFolder, "server_cert.pem");
  if (existsSync(certificatePath)) {
    const keyPath = join(keysFolder, "server_public.pem");
    const serverKey = existsSync(keyPath) ? loadServerPublicKey(keyPath) : knownKey;
    return { certificatePem: readPem(certificatePath), serverKey };
  }
  return known === null ? null : { certificatePem: known.certificatePem, serverKey: knownKey };
}

function readPem(path: string): string {
  return certificatePem(loadCertificate(path));
}

async function trustFirstUse(options: ConnectServerOptions): Promise<Pin> {
  const der = await fetchCertificate(options);
  const fingerprint = certificateFingerprint(der);
  if (!await options.confirmServer(fingerprint)) {
    throw new SealwireError(
      "server_untrusted",
      `${
        formatAddress(options.host, options.port)
      } is not known here. Its certificate has the SHA-256 fingerprint ` +
        `${fingerprint}. Compare it with what the operator says, then use --accept-new, or --server-cert FILE`,
    );
  }
  return { certificatePem: certificatePem(parseCertificate(der)), serverKey: null };
}

/** Records what a server has shown, so that it must show the same from now on. */
export function remember(
  { host, port, keysFolder }: ConnectServerOptions,
  pin: Required<Pin>,
): void {
  const servers = new KnownServers(keysFolder);
  const known = servers.get(host, port);
  const same = known?.certificatePem === pin.certificatePem &&
    known.serverKey?.n === pin.serverKey?.jwk.n;
  if (!same) servers.record(host, port, { ...pin, serverKey: pin.serverKey?.jwk ?? null });
}

function alarm(options: ConnectServerOptions, what: "certificate" | "key", pinned: string): void {
  const { host, port } = options;
  options.alarm([
    "THE SERVER IS NOT THE ONE THAT IT WAS",
    `${formatAddress(host, port)} shows another ${what} than the one pinned here:`,
    pinned,
    "Someone may be in between. Nothing was sent. Ask the operator by other means; if the",
    "change is right, give the new certificate with --server-cert, or remove the server from",
    `${join(options.keysFolder, "known_servers.json")} or its files from ${options.keysFolder}.`,
  ]);
}

function parseHello(value: unknown): { server: RsaPublicKey; nonce: string } {
  const answer = new Members(value, "hello", "bad_answer");
  answer.constant("v", 1);
  return {
    server: parseRsaPublicJwk(answer.raw("server")),
    nonce: answer.bytes("nonce", NONCE_BYTES),
  };
}
