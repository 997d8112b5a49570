/**
 * A payment server as a real process, and clients as real processes, each with a keys folder of its
 * own.
 */
import assert from "node:assert/strict";
import { copyFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import {
  type Outcome,
  type Runtime,
  runTool,
  spawnTool,
  temporaryFolder,
  type ToolProcess,
} from "./support.ts";

/** Tests register more accounts from one address than strangers may. */
const CROWD = ["--registrations-per-minute", "10000"];

export interface WorldOptions {
  /** Options of `server.ts`, besides port, keys and ledger. */
  readonly serverArgs?: readonly string[];
  readonly serverRuntime?: Runtime;
  readonly clientRuntime?: Runtime;
  /** The ledger; a new file by default. */
  readonly db?: string;
  /** Added to the environment of the server and its operator. */
  readonly env?: Record<string, string>;
}

/** One of several servers on one ledger. */
export interface OtherServer {
  readonly process: ToolProcess;
  readonly port: number;
}

export type Json = Record<string, unknown>;

/** The JSON lines that a tool printed. */
export function jsonLines({ stdout }: Outcome): Json[] {
  return stdout.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line) as Json);
}

/** The code of the error that a tool printed as its first JSON line. */
export function errorCode(outcome: Outcome): string {
  return (jsonLines(outcome)[0]!.error as { code: string }).code;
}

/** A run ended with `exit`, and printed the error `code` alone. Returns the error's sentence. */
export function assertFails({ status, stdout }: Outcome, code: string, exit = 1): string {
  const { error } = JSON.parse(stdout) as { error: Json };
  assert.deepEqual([error?.code, status], [code, exit], stdout);
  return String(error.message);
}

export class PaymentWorld {
  readonly folder = temporaryFolder();
  readonly serverKeys = join(this.folder, "server_keys");
  readonly db: string;
  server!: ToolProcess;
  port = 0;
  /** `<host> <port>` of client commands, where it is not the server's. */
  address: readonly [host: string, port: string] | null = null;

  private constructor(private readonly options: WorldOptions) {
    this.db = options.db ?? join(this.folder, "data", "ledger.db");
  }

  static async start(options: WorldOptions = {}): Promise<PaymentWorld> {
    const world = new PaymentWorld(options);
    await world.startServer();
    return world;
  }

  /**
   * Starts the server on the same port as before, once it has one. `serverArgs`: other options than
   * the first time; `more`: options for this start alone.
   */
  async startServer(
    { serverArgs = this.options.serverArgs ?? [], more = [] }: {
      serverArgs?: readonly string[];
      more?: readonly string[];
    } = {},
  ): Promise<void> {
    this.server = this.spawnServer(this.port, [...CROWD, ...serverArgs, ...more]);
    this.port = Number((await this.server.nextJson()).port);
  }

  /** Starts one more server on the same ledger, with the same keys. `port` 0: the system chooses. */
  async startAnother(port = 0, ...more: readonly string[]): Promise<OtherServer> {
    const process = this.spawnServer(port, [...this.options.serverArgs ?? [], ...more]);
    return { process, port: Number((await process.nextJson()).port) };
  }

  private spawnServer(port: number, more: readonly string[]): ToolProcess {
    const args = [String(port), "--json", "--quiet", "--host", "127.0.0.1", ...this.serverFiles()];
    const { serverRuntime: runtime, env } = this.options;
    return spawnTool("server.ts", [...args, ...more], { runtime, env, timeout_ms: 300_000 });
  }

  /** `server.ts audit` and the like, beside the running server or without it. */
  async operate(...args: string[]): Promise<Outcome> {
    return await runTool("server.ts", [...args, "--json", ...this.serverFiles()], {
      runtime: this.options.serverRuntime,
      env: this.options.env,
    });
  }

  private get clientAddress(): readonly [host: string, port: string] {
    return this.address ?? ["127.0.0.1", String(this.port)];
  }

  private serverFiles(): string[] {
    return ["--keys", this.serverKeys, "--db", this.db];
  }

  /**
   * The account's keys folder. It holds the server's public key from the start, so that nothing
   * asks.
   */
  keysOf(name: string): string {
    const folder = join(this.folder, `${name}_keys`);
    mkdirSync(folder, { recursive: true });
    copyFileSync(join(this.serverKeys, "server_public.pem"), join(folder, "server_public.pem"));
    return folder;
  }

  clientArgs(name: string, ...args: string[]): string[] {
    return [
      ...this.clientAddress,
      ...args,
      "--as",
      name,
      "--json",
      "--keys",
      this.keysOf(name),
    ];
  }

  async client(name: string, ...args: string[]): Promise<Outcome> {
    return await runTool("client.ts", this.clientArgs(name, ...args), {
      runtime: this.options.clientRuntime,
    });
  }

  /** Runs a client command that must succeed, and returns its first JSON line. */
  async ask(name: string, ...args: string[]): Promise<Json> {
    const outcome = await this.client(name, ...args);
    if (outcome.status !== 0) {
      throw new Error(`${name} ${args.join(" ")}: ${JSON.stringify(outcome)}`);
    }
    return jsonLines(outcome)[0]!;
  }

  /** Starts `listen` and waits until the account is online. */
  async listen(name: string, ...args: string[]): Promise<ToolProcess> {
    const runtime = this.options.clientRuntime;
    const listener = spawnTool("client.ts", this.clientArgs(name, "listen", ...args), {
      runtime,
      timeout_ms: 300_000,
    });
    await listener.nextJson(({ event }) => event === "online");
    return listener;
  }

  async register(...names: string[]): Promise<void> {
    for (const name of names) await this.ask(name, "register");
  }

  async stop(): Promise<Outcome> {
    return await this.server.stop();
  }
}
