/**
 * A payment server in this process, someone in front of it who holds its keys and changes what
 * clients hear, and clients that are to find out.
 */
import assert from "node:assert/strict";
import { cpSync, existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { SealwireError } from "../../lib/base/errors.ts";
import { encodeBase64, type Sha256 } from "../../lib/base/parse.ts";
import {
  type Checkpoint,
  type Log,
  logOrigin,
  signCheckpoint,
  verifyCheckpoint,
} from "../../lib/ledger/checkpoint.ts";
import { watchedClock } from "../../lib/ledger/clock.ts";
import type { Ledger } from "../../lib/ledger/ledger.ts";
import { openLedger } from "../../lib/ledger/open_ledger.ts";
import { openSqlite } from "../../lib/ledger/sqlite.ts";
import type { LedgerStore } from "../../lib/ledger/store.ts";
import type { Listener } from "../../lib/net/net.ts";
import { judgeEvidence, type Verdict } from "../../lib/payment/client/evidence.ts";
import { Listening, type Paid } from "../../lib/payment/client/payee.ts";
import { PaymentClient, type PaymentClientOptions } from "../../lib/payment/client/payer.ts";
import type { LoginOptions } from "../../lib/payment/client/session.ts";
import { openIdentity, type ServerIdentity } from "../../lib/payment/server/identity.ts";
import { PaymentServer } from "../../lib/payment/server/server.ts";
import { hashLeaf } from "../../lib/protocol/merkle.ts";
import { amount, NEW_LEDGER, now_s, person } from "./fixtures.ts";
import { clientOptions } from "./payment_clients.ts";
import type { Json } from "./payment_world.ts";
import { StoredLog } from "./stored_log.ts";
import { temporaryFolder } from "./support.ts";
import { type Line, Tap } from "./tap.ts";

const HOST = "127.0.0.1";
/** Enough to ask twice, and short enough to wait for. */
const LINK_TIMEOUT_MS = 600;

/** The payment server and its ledger, on a folder with keys and database. */
export class OwnServer {
  private constructor(
    readonly folder: string,
    readonly identity: ServerIdentity,
    readonly ledger: Ledger,
    readonly store: LedgerStore,
    private readonly server: PaymentServer,
    private readonly listener: Listener,
  ) {}

  static async start(
    folder = temporaryFolder(),
    options: { port?: number; acceptRollback?: boolean } = {},
  ): Promise<OwnServer> {
    const { port = 0, acceptRollback = false } = options;
    const keysFolder = join(folder, "keys");
    const { identity } = await openIdentity(keysFolder, { hosts: [HOST], now: new Date() });
    const store = openSqlite(join(folder, "ledger.db"), { create: true });
    const ledger = await openLedger({
      store,
      server: identity.keys.pair.publicKey.thumbprint,
      logKey: identity.logKey,
      keysFolder,
      clock: watchedClock(),
      create: NEW_LEDGER,
      acceptRollback,
    }).catch(async (error) => {
      await store.close();
      throw error;
    });
    const server = new PaymentServer({ identity, ledger, store, now_s, log: () => {} });
    const acceptOther = (connection: { destroy(): void }) => connection.destroy();
    const listener = await server.listen({ host: HOST, port, acceptOther });
    return new OwnServer(folder, identity, ledger, store, server, listener);
  }

  /** The operator's keys and database in another folder. The server must be stopped. */
  static copy(folder: string): string {
    const copy = temporaryFolder();
    cpSync(folder, copy, { recursive: true });
    return copy;
  }

  get serverKeys(): string {
    return join(this.folder, "keys");
  }

  get port(): number {
    return this.listener.port;
  }

  get thumbprint(): Sha256 {
    return this.identity.keys.pair.publicKey.thumbprint;
  }

  get log(): Log {
    return { origin: logOrigin(this.thumbprint), publicKey: this.identity.logKey.publicKey };
  }

  /** What the log key signs for whoever holds it. */
  sign(size: number, root: Uint8Array): string {
    return signCheckpoint(this.identity.logKey, this.log.origin, size, root);
  }

  /** The exact texts of all entries. */
  async entries(): Promise<string[]> {
    return await this.store.entries(0, this.ledger.size);
  }

  async stop(): Promise<void> {
    await this.server.close();
    await this.ledger.close();
    await this.store.close();
  }
}

/** A history that the log key signs beside the true one, with all its proofs. */
export class OtherHistory {
  private readonly stored = new StoredLog();

  constructor(private readonly server: OwnServer, private readonly texts: readonly string[]) {
    this.stored.commit(texts.map((text) => hashLeaf(text)));
  }

  get size(): number {
    return this.texts.length;
  }

  async checkpoint(size = this.size): Promise<string> {
    const { tree, readTiles } = this.stored;
    return this.server.sign(size, await tree.rootAt(size, readTiles));
  }

  /** The checkpoint of `size` entries as members of an answer. */
  async shown(size = this.size): Promise<{ size: number; checkpoint: string }> {
    return { size, checkpoint: await this.checkpoint(size) };
  }

  async consistency(from: number, to = this.size): Promise<string[]> {
    const { tree, readTiles } = this.stored;
    return (await tree.consistencyProof(from, to, readTiles)).map(encodeBase64);
  }

  async inclusion(index: number, size = this.size): Promise<string[]> {
    const { tree, readTiles } = this.stored;
    return (await tree.inclusionProof(index, size, readTiles)).map(encodeBase64);
  }

  /** Entry `index` with its proof, as members of an answer. */
  async included(index: number, size = this.size): Promise<Json> {
    const path = await this.inclusion(index, size);
    return { entry: this.texts[index]!, path, ...await this.shown(size) };
  }
}

/**
 * What is said in place of an answer or a notification; an error in place of an answer; `cut`: the
 * connection ends.
 */
export type Said = Json | SealwireError | "cut";
/**
 * `told`: the server's own answer, empty where that is an error; `params`: of the request; `notify`
 * tells the client something before it gets the answer.
 */
export type Lie = (
  told: Json,
  params: Json,
  notify: (method: string, params: Json) => void,
) => Said | Promise<Said>;

/** Stands between clients and a server. Without lies nobody sees a difference. */
export class LyingServer {
  /** By method: what becomes of its answers, and of its notifications. */
  readonly lies = new Map<string, Lie>();
  /** Methods that were asked for, in order. */
  readonly asked: string[] = [];
  private readonly params = new Map<unknown, Json>();
  private readonly checkpoints = new Map<unknown, unknown>();

  private constructor(private readonly tap: Tap) {}

  static async start(server: OwnServer): Promise<LyingServer> {
    const liar = new LyingServer(await Tap.start(server));
    liar.tap.judge = (line) => liar.judge(line);
    return liar;
  }

  get port(): number {
    return this.tap.port;
  }

  lie(method: string, lie: Lie): this {
    this.lies.set(method, lie);
    return this;
  }

  honest(): void {
    this.lies.clear();
  }

  async close(): Promise<void> {
    await this.tap.close();
  }

  private async judge(
    { kind, method, message, cut, reply }: Line,
  ): Promise<Json | "pass" | "lose"> {
    if (kind === "request") {
      this.asked.push(method);
      this.params.set(message.id, (message.params ?? {}) as Json);
      return "pass";
    }
    const told = ((kind === "answer" ? message.result : message.params) ?? {}) as Json;
    this.complete(told);
    const lie = this.lies.get(method);
    if (lie === undefined) return "pass";
    const notify = (method: string, params: Json) => reply({ jsonrpc: "2.0", method, params });
    const said = await lie(told, this.params.get(message.id) ?? {}, notify);
    if (said === "cut") {
      cut();
      return "lose";
    }
    if (kind === "notification") return { ...message, params: said };
    const { jsonrpc, id } = message;
    if (!(said instanceof SealwireError)) return { jsonrpc, id, result: said };
    const { code, message: text } = said;
    return { jsonrpc, id, error: { code: -32000, message: text, data: { code } } };
  }

  /** The server sends a checkpoint once a connection, and a lie may have taken its place. */
  private complete(told: Json): void {
    if (told.size === undefined) return;
    if (told.checkpoint === undefined) told.checkpoint = this.checkpoints.get(told.size);
    else this.checkpoints.set(told.size, told.checkpoint);
  }
}

/** A client in this process, with a keys folder of its own. */
export class Member {
  readonly warnings: string[] = [];

  constructor(
    readonly server: OwnServer,
    readonly name: string,
    readonly folder = temporaryFolder(),
  ) {}

  options(port: number, changed: Partial<PaymentClientOptions> = {}): PaymentClientOptions {
    return clientOptions({ port, keysOf: () => this.folder }, this.name, {
      pair: person(this.name).pair,
      timeout_ms: 20_000,
      notices: { note: () => {}, warn: (text) => this.warnings.push(text) },
      confirmServer: () => Promise.resolve(true),
      linkTimeout_ms: LINK_TIMEOUT_MS,
      ...changed,
    });
  }

  async open(
    port = this.server.port,
    changed: Partial<PaymentClientOptions> = {},
    login: LoginOptions = {},
  ): Promise<PaymentClient> {
    return await PaymentClient.open(this.options(port, changed), login);
  }

  /** Logs in, and ends as a one-shot command does. */
  async visit(port = this.server.port, changed: Partial<PaymentClientOptions> = {}): Promise<void> {
    await (await this.open(port, changed)).end();
  }

  async register(port = this.server.port): Promise<void> {
    await (await this.open(port, {}, { register: true })).end();
  }

  /** Pays 1.00, as the command does; says by which path. */
  async pay(
    payee: string,
    port = this.server.port,
    way: "either" | "via-server" = "via-server",
  ): Promise<string> {
    const client = await this.open(port);
    try {
      await client.resolveOutbox();
      return await payBy(client, payee, way);
    } finally {
      await client.end();
    }
  }

  async listen(port = this.server.port): Promise<TakingMember> {
    const paid: Paid[] = [];
    const listening = await Listening.start({
      ...this.options(port),
      p2pHost: HOST,
      p2pPort: 0,
      reconnect_ms: 20_000,
      onPaid: (payment) => paid.push(payment),
      onRequest: () => {},
    });
    // Whoever wants to know how it ends, asks later.
    const ended = listening.stay().then(() => null, (error) => error as SealwireError);
    return { listening, paid, ended };
  }

  get checkpointPath(): string {
    return join(this.folder, `checkpoint_${this.server.thumbprint}.txt`);
  }

  get remembered(): Checkpoint | null {
    const path = this.checkpointPath;
    if (!existsSync(path)) return null;
    return verifyCheckpoint(readFileSync(path, "utf8"), this.server.log);
  }

  /** Checkpoints that wait for the next connection. */
  get unlinked(): unknown[] {
    const path = join(this.folder, `unlinked_${this.server.thumbprint}.json`);
    if (!existsSync(path)) return [];
    const { own, foreign } = JSON.parse(readFileSync(path, "utf8"));
    return [...own, ...foreign];
  }

  /** What the files of evidence prove. */
  async evidence(): Promise<Verdict[]> {
    const folder = join(this.folder, "evidence");
    const names = existsSync(folder) ? readdirSync(folder).sort() : [];
    return await Promise.all(
      names.map((name) => judgeEvidence(readFileSync(join(folder, name), "utf8"))),
    );
  }

  /**
   * `work` fails with `code`; what was remembered before still is, and the evidence proves what is
   * `proven`.
   */
  async requireDistrust(
    code: string,
    proven: boolean,
    work: () => Promise<unknown>,
  ): Promise<SealwireError> {
    const before = this.remembered?.text;
    const error = await work().then(() => null, (error) => error);
    assert.ok(error instanceof SealwireError, `not refused: ${error}`);
    assert.equal(error.code, code, error.stack);
    assert.equal(this.remembered?.text, before);
    assert.deepEqual((await this.evidence()).map((verdict) => verdict.proven), [proven]);
    const { evidence } = error.details as { evidence: string };
    assert.ok(existsSync(evidence), "the error names the file");
    return error;
  }
}

/** Pays 1.00; says by which path. */
export async function payBy(
  client: PaymentClient,
  payee: string,
  way: "either" | "via-server" = "via-server",
): Promise<string> {
  const payment = { payee: person(payee).name, amount: amount("1.00"), memo: null, id: null };
  return (await client.pay({ ...payment, way })).path;
}

/** A client that takes payments. */
export interface TakingMember {
  readonly listening: Listening;
  readonly paid: readonly Paid[];
  /** Resolves with why it ended. */
  readonly ended: Promise<SealwireError | null>;
}
