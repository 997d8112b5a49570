/**
 * A client of a payment server that can say anything: its keys are made in this process, its tokens
 * carry the claims that a test wants, and a raw one sends any bytes. What the server proves is
 * verified here.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import tls from "node:tls";
import { setTimeout as delay } from "node:timers/promises";
import type { TLSSocket } from "node:tls";
import { retryAfterMs } from "../../lib/base/errors.ts";
import { decodeBase64, type Sha256 } from "../../lib/base/parse.ts";
import { certificateSha256 } from "../../lib/keys/certificate.ts";
import {
  type Checkpoint,
  type Log,
  logOrigin,
  verifyCheckpoint,
} from "../../lib/ledger/checkpoint.ts";
import { type Entry, parseEntry } from "../../lib/ledger/entry.ts";
import { formatReceipt, type VerifiedReceipt, verifyReceipt } from "../../lib/ledger/receipt.ts";
import { connectTls } from "../../lib/net/net.ts";
import {
  hashLeaf,
  merklePath,
  merkleRoot,
  merkleTree,
  verifyInclusion,
} from "../../lib/protocol/merkle.ts";
import { type SignedStatement, verifyStatement } from "../../lib/protocol/statement.ts";
import { ALPN, type ProofAnswer, type SettledAnswer } from "../../lib/protocol/wire.ts";
import { RpcPeer } from "../../lib/rpc/peer.ts";
import { makeSalt, now_s, type Person } from "./fixtures.ts";
import type { Json, PaymentWorld } from "./payment_world.ts";
import { formatAmount } from "../../lib/protocol/money.ts";
import { partsOf, rawToken } from "./raw_tokens.ts";

export const DELEGATION_HEADER = '{"alg":"PS256","typ":"sealwire-delegation+jws"}';
export const ORDER_HEADER = '{"alg":"EdDSA","typ":"sealwire-order+jws"}';
export const BATCH_HEADER = '{"alg":"EdDSA","typ":"sealwire-batch+jws"}';
export const CANCEL_HEADER = '{"alg":"EdDSA","typ":"sealwire-cancel+jws"}';

const HOST = "127.0.0.1";
const TIMEOUT_MS = 20_000;
const DELEGATION_LIFE_S = 3_600;
const ORDER_LIFE_S = 300;

/** What `payment.settle` takes. */
export interface SignedTexts {
  readonly order: string;
  readonly delegation: string;
  readonly items?: readonly string[];
}

/** What `payment.cancel` takes. */
export interface CancelTexts {
  readonly cancel: string;
  readonly delegation: string;
}

export class WireClient {
  /** What the server told without being asked, oldest first. */
  readonly notifications: { method: string; params: Json }[] = [];
  /** Every checkpoint that came on this connection, by its size. */
  readonly checkpoints = new Map<number, string>();
  statement!: SignedStatement;
  nonce = "";
  /** SHA-256 of the connection's certificate. */
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
      onNotification: (method, params) => {
        client.keepCheckpoint(params as Json);
        client.notifications.push({ method, params: params as Json });
      },
    });
    const { statement, nonce } = await client.call("hello");
    client.statement = await verifyStatement(statement);
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

  /** Thumbprint of the server's key. */
  get server(): Sha256 {
    return this.statement.claims.server.thumbprint;
  }

  get log(): Log {
    const { server, log: publicKey } = this.statement.claims;
    return { origin: logOrigin(server.thumbprint), publicKey };
  }

  async call(method: string, params: object = {}): Promise<Json> {
    const answer = await this.peer.call(method, params, { timeout_ms: TIMEOUT_MS }) as Json;
    this.keepCheckpoint(answer);
    return answer;
  }

  /** The same, asked again each time when the server says to wait. */
  async callInTime(method: string, params: object): Promise<Json> {
    while (true) {
      try {
        return await this.call(method, params);
      } catch (error) {
        const wait_ms = retryAfterMs(error);
        if (wait_ms === null) throw error;
        await delay(wait_ms);
      }
    }
  }

  private keepCheckpoint({ size, checkpoint }: Json): void {
    if (checkpoint !== undefined) this.checkpoints.set(Number(size), String(checkpoint));
  }

  /** The verified checkpoint of that size, which this connection was sent. */
  checkpointOf(size: number): Checkpoint {
    const text = this.checkpoints.get(size);
    assert.ok(text !== undefined, `no checkpoint of size ${size} was sent`);
    const checkpoint = verifyCheckpoint(text, this.log);
    assert.equal(checkpoint.size, size);
    return checkpoint;
  }

  /** The newest checkpoint of the log. */
  async newestCheckpoint(): Promise<Checkpoint> {
    const { size } = await this.call("ledger.checkpoint");
    return this.checkpointOf(Number(size));
  }

  /** How many entries the log has. */
  async size(): Promise<number> {
    return Number((await this.call("ledger.checkpoint")).size);
  }

  /**
   * The entry of an answer, which must be proven under a checkpoint that this connection was sent.
   */
  provenEntry(answer: Json): Entry {
    const { entry: text, path, size } = answer as unknown as ProofAnswer;
    const entry = parseEntry(text);
    const hashes = path.map((step) => decodeBase64(step)!);
    verifyInclusion(hashLeaf(text), entry.index, this.checkpointOf(size), hashes);
    return entry;
  }

  /**
   * Verifies the receipt that follows from an answer and what was signed; `index`: which payment of
   * a batch.
   */
  async verifiedReceipt(
    { order, delegation, items }: SignedTexts,
    answer: Json,
    index?: number,
  ): Promise<VerifiedReceipt> {
    const item = items === undefined || index === undefined
      ? null
      : { text: items[index]!, path: merklePath(merkleTree(items), index) };
    return await this.receipt({ order, delegation, item }, answer);
  }

  /**
   * Verifies the receipt that an answer of `payment.receipt`, or a notification, holds all parts
   * of.
   */
  async receivedReceipt(answer: Json): Promise<VerifiedReceipt> {
    const { order, delegation, item: text, item_path: path } = answer as unknown as SettledAnswer;
    const item = text === undefined ? null : { text, path: path! };
    return await this.receipt({ order: order!, delegation: delegation!, item }, answer);
  }

  private async receipt(
    texts: Pick<Parameters<typeof formatReceipt>[0], "order" | "delegation" | "item">,
    answer: Json,
  ): Promise<VerifiedReceipt> {
    const { entry, path, size } = answer as unknown as ProofAnswer;
    const text = formatReceipt({
      ...texts,
      entry,
      statement: this.statement.text,
      index: parseEntry(entry).index,
      hashes: path.map((step) => decodeBase64(step)!),
      checkpoint: this.checkpointOf(size).text,
    });
    return await verifyReceipt(text, this.statement.claims.server);
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

  /**
   * A delegation of `by` with `changes` made to its claims, signed by `key`, which is `by`'s own by
   * default.
   */
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

  /**
   * An order of 1.00 from `payer` with `changes` made to its claims, under this connection's
   * delegation.
   */
  order(payer: Person, payee: Person, changes: Json = {}): SignedTexts {
    const claims = JSON.stringify({ ...this.orderClaims(payer, payee), ...changes });
    const order = rawToken(ORDER_HEADER, claims, payer.session.privateKey);
    return { order, delegation: this.delegation };
  }

  /** A batch order of `payer`'s that pays each of `payees` 0.01. */
  batch(payer: Person, payees: readonly Person[]): SignedTexts {
    return this.batchOf(payer, payees.map((payee, index) => formatItem(index, payee, "0.01")));
  }

  /** A batch order of `payer`'s over these items, with `changes` made to its claims. */
  batchOf(payer: Person, items: readonly string[], changes: Json = {}): SignedTexts {
    const { id, server, payer: name, iat, exp } = this.orderClaims(payer, payer);
    const minor = items.reduce((sum, item) => sum + minorUnits(JSON.parse(item).amount), 0n);
    const sums = { count: items.length, total: formatAmount(minor), items_root: merkleRoot(items) };
    const claims = { v: 1, id, server, payer: name, ...sums, iat, exp, ...changes };
    const order = rawToken(BATCH_HEADER, JSON.stringify(claims), payer.session.privateKey);
    return { order, delegation: this.delegation, items };
  }

  /**
   * `payer`'s cancel of `id` with `changes` made to its claims, under this connection's delegation.
   */
  cancel(payer: Person, id: string, changes: Json = {}): CancelTexts {
    const claims = { v: 1, id, server: this.server, payer: payer.name, iat: now_s(), ...changes };
    const cancel = rawToken(CANCEL_HEADER, JSON.stringify(claims), payer.session.privateKey);
    return { cancel, delegation: this.delegation };
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
export function formatItem(
  index: number,
  payee: Person,
  amount: string,
  salt: unknown = makeSalt(),
): string {
  const { name, pair } = payee;
  return JSON.stringify({ index, payee: name, payee_key: pair.publicKey.thumbprint, amount, salt });
}

/** Decimal text as minor units. */
export function minorUnits(amount: unknown): bigint {
  return BigInt(String(amount).replace(".", ""));
}

/** The claim `id` of an order or of a cancel. */
export function idOf(signed: SignedTexts | CancelTexts): string {
  return JSON.parse(partsOf("order" in signed ? signed.order : signed.cancel).payload).id;
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
