/**
 * An operator who has every key of a server tries to hide a payment, and two members find out.
 * `docs/demonstration.md` tells the story. It uses the tools of this folder and nothing else of
 * Sealwire:
 *
 *     deno run -A docs/demonstration.ts
 *     bun docs/demonstration.ts
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import tls, { type TLSSocket } from "node:tls";
import { fileURLToPath } from "node:url";

const HOST = "127.0.0.1";
const ALPN = "sealwire/2";
const ROOT = fileURLToPath(new URL("..", import.meta.url));
const FOLDER = mkdtempSync(join(tmpdir(), "sealwire-demonstration-"));

type Json = Record<string, unknown>;

/** A tool of this folder that runs. */
class Tool {
  readonly ended: Promise<number | null>;
  private readonly process: ChildProcess;
  private readonly lines: AsyncIterator<string>;

  constructor(name: string, ...args: string[]) {
    const run = process.versions.bun ? [] : ["run", "--quiet", "-A"];
    this.process = spawn(process.execPath, [...run, join(ROOT, name), ...args, "--json"], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    this.ended = once(this.process, "exit").then(([status]) => status);
    const reader = createInterface({ input: this.process.stdout! });
    this.lines = reader[Symbol.asyncIterator]();
  }

  /** The next result; null at the end. */
  async next(): Promise<Json | null> {
    const { value, done } = await this.lines.next();
    return done ? null : JSON.parse(value);
  }

  async stop(): Promise<void> {
    this.process.kill("SIGTERM");
    await this.ended;
  }
}

/** Runs a tool to its end; returns its last result and its exit status. */
async function run(name: string, ...args: string[]): Promise<{ result: Json; status: number }> {
  const tool = new Tool(name, ...args);
  let result: Json = {};
  for (let next; (next = await tool.next()) !== null;) result = next;
  return { result, status: await tool.ended ?? 1 };
}

/** A folder with the operator's keys and a database: one history. */
function history(name: string): { folder: string; keys: string; files: string[] } {
  const folder = join(FOLDER, name);
  const keys = join(folder, "keys");
  return { folder, keys, files: ["--keys", keys, "--db", join(folder, "ledger.db")] };
}

async function startServer(name: string): Promise<{ server: Tool; port: number }> {
  const server = new Tool("server.ts", "0", "--host", HOST, "--quiet", ...history(name).files);
  const { port } = (await server.next())!;
  return { server, port: Number(port) };
}

/** A member's own folder of keys. It trusts the server by its public key. */
function keysOf(name: string): string {
  const folder = join(FOLDER, `${name}'s keys`);
  mkdirSync(folder, { recursive: true });
  copyFileSync(
    join(history("one").keys, "server_public.pem"),
    join(folder, "server_public.pem"),
  );
  return folder;
}

function memberArgs(name: string, port: number, command: string[]): string[] {
  return [HOST, String(port), ...command, "--as", name, "--keys", keysOf(name)];
}

async function member(name: string, port: number, ...command: string[]) {
  const { result, status } = await run("client.ts", ...memberArgs(name, port, command));
  if (status !== 0) throw new Error(`${name} ${command.join(" ")}: ${JSON.stringify(result)}`);
  return result;
}

/** Takes payments as `name`; online once this resolves. */
async function listen(name: string, port: number): Promise<Tool> {
  const tool = new Tool("client.ts", ...memberArgs(name, port, ["listen"]));
  await tool.next();
  return tool;
}

/** Who is online at either server, and where: what the operator's fronts tell one another. */
const online = new Map<unknown, Json>();

/**
 * The operator's front before one of the servers, with the keys of both. It passes on every line, and
 * lets members of either history find one another, so that nobody notices that there are two.
 */
async function startFront(port: number): Promise<number> {
  const { keys } = history("one");
  const [key, cert] = ["server_key.pem", "server_cert.pem"]
    .map((name) => readFileSync(join(keys, name)));
  const front = tls.createServer({ key, cert, ALPNProtocols: [ALPN] }, (client) => {
    const server = tls.connect({
      host: HOST,
      port,
      rejectUnauthorized: false,
      ALPNProtocols: [ALPN],
    });
    const asked = new Map<unknown, Json>();
    pass(client, server, (line) => void asked.set(line.id, line));
    pass(server, client, (line) => {
      const { method, params } = asked.get(line.id) as { method?: string; params?: Json } ?? {};
      const result = line.result as Json | undefined;
      if (method === "session.login" && params?.presence && result) {
        online.set(result.account, { host: HOST, ...params.presence as Json });
      }
      if (method === "directory.lookup" && result) {
        result.presence ??= online.get(result.account) ?? null;
      }
    });
  });
  front.listen(0, HOST);
  await once(front, "listening");
  front.unref();
  return (front.address() as AddressInfo).port;
}

/** Passes on lines of JSON, which `change` may change. */
function pass(from: TLSSocket, to: TLSSocket, change: (line: Json) => void): void {
  createInterface({ input: from }).on("line", (text) => {
    const line = JSON.parse(text);
    change(line);
    to.write(JSON.stringify(line) + "\n");
  });
  from.on("error", () => to.destroy()).on("close", () => to.destroy());
}

function say(text: string): void {
  console.log(text);
}

/** Says how a member's client ended, and what its evidence proves to anyone. */
async function requireFoundOut(name: string, listener: Tool): Promise<void> {
  let last: Json = {};
  for (let next; (next = await listener.next()) !== null;) last = next;
  const { error, evidence } = last as { error?: { code: string }; evidence?: string };
  const status = await listener.ended;
  say(`   ${name}'s client stops: ${error?.code}, exit status ${status}`);
  const { result } = await run("client.ts", "verify-fork", String(evidence));
  if (result.proven !== true) throw new Error(JSON.stringify(result));
  say(`   client.ts verify-fork: proven, two ledgers of ${result.size} entries`);
}

async function demonstrate(): Promise<void> {
  say("1. Alice, bob, carol and dave open accounts. The operator copies keys and database.");
  const first = await startServer("one");
  for (const name of ["alice", "bob", "carol", "dave"]) await member(name, first.port, "register");
  await first.server.stop();
  cpSync(history("one").folder, history("two").folder, { recursive: true });

  say("2. Alice pays bob 500.00. In the copy dave pays carol 1.00 instead.");
  const [one, two] = [await startServer("one"), await startServer("two")];
  const [frontOne, frontTwo] = [await startFront(one.port), await startFront(two.port)];
  await member("alice", frontOne, "pay", "bob", "500");
  await member("dave", frontTwo, "pay", "carol", "1");

  say("3. Each member is shown one of the two, and everything looks right:");
  const { balance: bobs } = await member("bob", frontOne, "balance");
  const { balance: carols } = await member("carol", frontTwo, "balance");
  say(`   bob has ${bobs}, carol has ${carols}`);
  for (const name of ["one", "two"]) {
    const { result } = await run("server.ts", "audit", ...history(name).files);
    say(`   server.ts audit of ledger ${name}: valid ${result.valid}, ${result.entries} entries`);
  }

  say("4. Alice pays carol 2.00, directly. Her client sends along what it was shown.");
  const carol = await listen("carol", frontTwo);
  await member("alice", frontOne, "pay", "carol", "2");
  await requireFoundOut("carol", carol);

  say("5. Carol pays alice back, directly.");
  const alice = await listen("alice", frontOne);
  await member("carol", frontTwo, "pay", "alice", "2");
  await requireFoundOut("alice", alice);

  say("Two members have found out, and each has a proof that convinces anyone.");
  for (const { server } of [one, two]) await server.stop();
}

try {
  await demonstrate();
} finally {
  rmSync(FOLDER, { recursive: true, force: true });
}
process.exit(0);
