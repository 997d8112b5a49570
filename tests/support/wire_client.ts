/**
 * A client of a payment server that can say anything: its keys are made in this process, its tokens carry whatever claims
 * a test wants, and a raw one sends whatever bytes.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import tls from "node:tls";
import type { TLSSocket } from "node:tls";
import { certificateSha256 } from "../../lib/keys/certificate.ts";
import { parseRsaPublicJwk } from "../../lib/keys/rsa.ts";
import { merkleRoot } from "../../lib/protocol/merkle.ts";
import { connectTls } from "../../lib/net/net.ts";
import { RpcPeer } from "../../lib/rpc/peer.ts";
import type { Person } from "./fixtures.ts";
import type { Json, PaymentWorld } from "./payment_world.ts";
import { rawToken } from "./raw_tokens.ts";

export const DELEGATION_HEADER = '{"alg":"PS256","typ":"sealwire-delegation+jws"}';
export const ORDER_HEADER = '{"alg":"EdDSA","typ":"sealwire-order+jws"}';
export const BATCH_HEADER = '{"alg":"EdDSA","typ":"sealwire-batch+jws"}';

const HOST = "127.0.0.1";
const ALPN = "sealwire/1";
const TIMEOUT_MS = 20_000;
const DELEGATION_LIFE_S = 3_600;
const ORDER_LIFE_S = 300;

/** What `payment.settle` takes. */
export interface SignedTexts {
  readonly order: string;
  readonly delegation: string;
  readonly items?: readonly string[];
}

export function now_s(): number {
  return Math.floor(Date.now() / 1000);
}

export class WireClient {
  /** What the server told without being asked, oldest first. */
  readonly notifications: { method: string; params: Json }[] = [];
  /** Thumbprint of the server's key. */
  server = "";
  nonce = "";
  cert = "";
  /** The delegation of the last login. */
  delegation = "";
  peer!: RpcPeer;

  private constructor() {}

  /** Connects and says hello. `port`: of what stands before the server, if anything does. */
  static async connect(world: PaymentWorld, port = world.port): Promise<WireClient> {
    const client = new WireClient();
    const certificate = readFileSync(join(world.serverKeys, "server_cert.pem"), "utf8");
    const target = { host: HOST, port, timeout_ms: TIMEOUT_MS };
    client.peer = new RpcPeer(await connectTls({ ...target, certificate, alpn: [ALPN] }), {
      role: "client",
      onNotification: (method, params) =>
        client.notifications.push({ method, params: params as Json }),
    });
    const { server, nonce } = await client.call("hello");
    client.server = parseRsaPublicJwk(server).thumbprint;
    client.nonce = String(nonce);
    client.cert = certificateSha256(certificate);
    return client;
  }

  /** Connects and logs in, or registers first where `method` says so. */
  static async enter(
    world: PaymentWorld,
    by: Person,
    method: "session.login" | "account.register" = "session.login",
    params: object = {},
    port = world.port,
  ): Promise<WireClient> {
    const client = await WireClient.connect(world, port);
    client.delegation = client.delegate(by);
    await client.call(method, { delegation: client.delegation, ...params });
    return client;
  }

  async call(method: string, params: object = {}): Promise<Json> {
    return await this.peer.call(method, params, { timeout_ms: TIMEOUT_MS }) as Json;
  }

  delegationClaims(by: Person): Json {
    const { name: account, pair, session } = by;
    return {
      v: 1,
      account,
      key: pair.publicKey.jwk,
      session: { crv: "Ed25519", kty: "OKP", x: session.publicKey.x },
      server: this.server,
      cert: this.cert,
      nonce: this.nonce,
      iat: now_s(),
      exp: now_s() + DELEGATION_LIFE_S,
    };
  }

  /** A delegation of `by` with `changes` made to its claims, signed by `key`, which is `by`'s own by default. */
  delegate(by: Person, changes: Json = {}, key = by.pair.privateKey): string {
    const claims = { ...this.delegationClaims(by), ...changes };
    return rawToken(DELEGATION_HEADER, JSON.stringify(claims), key);
  }

  orderClaims(payer: Person, payee: Person): Json {
    return {
      v: 1,
      id: randomUUID(),
      server: this.server,
      payer: payer.name,
      payee: payee.name,
      payee_key: payee.pair.publicKey.thumbprint,
      amount: "1.00",
      iat: now_s(),
      exp: now_s() + ORDER_LIFE_S,
    };
  }

  /** An order of 1.00 from `payer` with `changes` made to its claims, under this connection's delegation. */
  order(payer: Person, payee: Person, changes: Json = {}): SignedTexts {
    const claims = JSON.stringify({ ...this.orderClaims(payer, payee), ...changes });
    const order = rawToken(ORDER_HEADER, claims, payer.session.privateKey);
    return { order, delegation: this.delegation };
  }

  /** A batch order of `payer`'s that pays each of `payees` 0.01. */
  batch(payer: Person, payees: readonly Person[]): SignedTexts {
    const items = payees.map((payee, index) => formatItem(index, payee, "0.01"));
    const { id, server, payer: name, iat, exp } = this.orderClaims(payer, payer);
    const total = `${Math.floor(items.length / 100)}.${
      String(items.length % 100).padStart(2, "0")
    }`;
    const sums = { count: items.length, total, items_root: merkleRoot(items) };
    const claims = JSON.stringify({ v: 1, id, server, payer: name, ...sums, iat, exp });
    const order = rawToken(BATCH_HEADER, claims, payer.session.privateKey);
    return { order, delegation: this.delegation, items };
  }

  async settle(signed: SignedTexts): Promise<Json> {
    return await this.call("payment.settle", signed);
  }

  async balance(): Promise<string> {
    return String((await this.call("account.balance")).balance);
  }

  /** The next notification of this kind; throws when none comes in time. */
  async heard(method: string): Promise<Json> {
    const until_ms = Date.now() + TIMEOUT_MS;
    while (Date.now() < until_ms) {
      const index = this.notifications.findIndex((notification) => notification.method === method);
      if (index >= 0) return this.notifications.splice(index, 1)[0]!.params;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    throw new assert.AssertionError({ message: `no ${method} came` });
  }

  close(): void {
    this.peer.destroy();
  }
}

/** The text of one item of a batch. */
export function formatItem(index: number, payee: Person, amount: string): string {
  const { name, pair } = payee;
  return JSON.stringify({ index, payee: name, payee_key: pair.publicKey.thumbprint, amount });
}

/** The claim `id` of an order. */
export function idOf({ order }: SignedTexts): string {
  return JSON.parse(atob(order.split(".")[1]!.replaceAll("-", "+").replaceAll("_", "/"))).id;
}

/** A TLS connection to the server on which a test sends bytes and reads lines. */
export class RawClient {
  /** Resolves when the server has closed the connection. */
  readonly closed: Promise<unknown>;
  private text = "";
  private ended = false;

  private constructor(readonly socket: TLSSocket) {
    socket.setEncoding("utf8");
    socket.on("data", (piece: string) => this.text += piece);
    socket.on("end", () => this.ended = true);
    socket.on("error", () => this.ended = true);
    this.closed = new Promise((resolve) => socket.once("close", resolve));
    socket.once("close", () => this.ended = true);
  }

  static async connect(port: number): Promise<RawClient> {
    const options = { host: HOST, port, rejectUnauthorized: false, ALPNProtocols: [ALPN] };
    const socket = tls.connect(options);
    await once(socket, "secureConnect");
    return new RawClient(socket);
  }

  send(bytes: string | Uint8Array): void {
    this.socket.write(bytes);
  }

  /** The next line, parsed; null when the server has ended the connection instead. */
  async next(): Promise<Json | null> {
    const until_ms = Date.now() + TIMEOUT_MS;
    while (Date.now() < until_ms) {
      const end = this.text.indexOf("\n");
      if (end >= 0) {
        const line = this.text.slice(0, end);
        this.text = this.text.slice(end + 1);
        return JSON.parse(line) as Json;
      }
      if (this.ended) return null;
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    throw new assert.AssertionError({ message: "neither a line nor the end came" });
  }

  /** `data.code` and `data.limit` of the next line, which must be an error. */
  async nextError(): Promise<{ id: unknown; code: unknown; limit?: unknown }> {
    const line = await this.next();
    assert.ok(line?.error, `an error expected, got ${JSON.stringify(line)}`);
    const { code, limit } = (line.error as { data: Json }).data;
    return { id: line.id, code, ...(limit === undefined ? {} : { limit }) };
  }

  destroy(): void {
    this.socket.destroy();
  }
}
