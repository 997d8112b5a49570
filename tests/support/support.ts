/**
 * What the tests share: temporary folders, waiting for something to come about, and the tools run
 * as real processes on the runtime that runs the tests. Folders and processes left over when the
 * tests end are removed and killed.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

export type Runtime = "deno" | "bun";

export const RUNTIME: Runtime = process.versions.bun ? "bun" : "deno";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const TOOL_TIMEOUT_MS = 60_000;
/** Of deno.json, by tool. */
const PERMISSION_SETS: Readonly<Record<string, string>> = {
  "server.ts": "server",
  "client.ts": "client",
  "aes_server.ts": "client",
  "aes_client.ts": "client",
};

const folders: string[] = [];
const running = new Set<ToolProcess>();

function cleanUp(): void {
  for (const tool of running) tool.kill("SIGKILL");
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
}

// `deno test` tells a test file of its end with `unload` and no process event; `bun test` the other
// way round.
if (RUNTIME === "deno") globalThis.addEventListener("unload", cleanUp);
else process.on("exit", cleanUp);

/** A new, empty folder that is removed when the tests end. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "sealwire-test-"));
  folders.push(folder);
  return folder;
}

/** Waits until `condition` holds, which must be within `timeout_ms`; asks each `poll_ms`. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  timeout_ms = 10_000,
  poll_ms = 20,
): Promise<void> {
  const until_ms = performance.now() + timeout_ms;
  while (!await condition()) {
    assert.ok(performance.now() < until_ms, "it does not come about");
    await sleep(poll_ms);
  }
}

/** A port of this machine that nobody listens at. */
export async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

/** How a process ended, and all that it printed. */
export interface Outcome {
  /** Exit status; null after a signal. */
  status: number | null;
  signal: string | null;
  stdout: string;
  stderr: string;
}

export interface ToolOptions {
  /** Working folder; the project's own by default. */
  cwd?: string;
  /** Added to this process's environment. */
  env?: Record<string, string>;
  /** The process is killed (SIGKILL) when it takes longer; 60 s by default. */
  timeout_ms?: number;
  /** Default: the runtime that runs the tests. Another one is looked up in PATH. */
  runtime?: Runtime;
  /** How many files it may have open. */
  files_max?: number;
}

/** A tool that runs. Lines of its standard output are kept until they are asked for. */
export class ToolProcess {
  /** Resolves when the process has ended and all of its output has been read. */
  readonly ended: Promise<Outcome>;
  private readonly child;
  private readonly lines: string[] = [];
  private readonly waiting: (() => void)[] = [];
  private stdout = "";
  private stderr = "";
  private outcome: Outcome | null = null;

  constructor(tool: string, args: readonly string[], options: ToolOptions = {}) {
    const [command, ...runArgs] = commandLine(tool, options);
    this.child = spawn(command!, [...runArgs, ...args], {
      cwd: options.cwd ?? ROOT,
      env: { ...process.env, NO_COLOR: "1", ...options.env },
      stdio: ["pipe", "pipe", "pipe"],
    });
    running.add(this);
    // A tool that ends without reading its input is judged by its outcome.
    this.child.stdin.on("error", () => {});
    this.child.stderr.setEncoding("utf8").on("data", (text: string) => this.stderr += text);
    const reader = createInterface({ input: this.child.stdout, crlfDelay: Infinity });
    reader.on("line", (line) => {
      this.stdout += line + "\n";
      this.lines.push(line);
      this.wake();
    });
    const timer = setTimeout(() => this.kill("SIGKILL"), options.timeout_ms ?? TOOL_TIMEOUT_MS);
    const read = new Promise<void>((resolve) => reader.on("close", resolve));
    const exited = new Promise<[number | null, string | null]>((resolve, reject) => {
      this.child.on("error", reject);
      this.child.on("close", (status, signal) => resolve([status, signal]));
    });
    this.ended = exited.then(async ([status, signal]) => {
      await read;
      clearTimeout(timer);
      running.delete(this);
      this.outcome = { status, signal, stdout: this.stdout, stderr: this.stderr };
      this.wake();
      return this.outcome;
    });
  }

  get pid(): number {
    return this.child.pid!;
  }

  /** What it has written to standard error so far. */
  get stderrText(): string {
    return this.stderr;
  }

  /**
   * The next line of standard output. Throws, with what was printed, when the process ends before
   * there is one.
   */
  async nextLine(): Promise<string> {
    while (this.lines.length === 0) {
      if (this.outcome) throw new Error(`no more lines; it ended: ${JSON.stringify(this.outcome)}`);
      await new Promise<void>((resolve) => this.waiting.push(resolve));
    }
    return this.lines.shift()!;
  }

  /**
   * The next line of standard output that is a JSON object for which `matches` holds; others are
   * passed over.
   */
  async nextJson(
    matches: (line: Record<string, unknown>) => boolean = () => true,
  ): Promise<Record<string, unknown>> {
    while (true) {
      const line = JSON.parse(await this.nextLine()) as Record<string, unknown>;
      if (matches(line)) return line;
    }
  }

  /** Writes to its standard input. */
  type(text: string): void {
    this.child.stdin.write(text);
  }

  /** Ends its standard input, after a last piece if one is given. */
  endInput(last: string | Uint8Array = ""): void {
    this.child.stdin.end(last);
  }

  kill(signal: "SIGTERM" | "SIGINT" | "SIGKILL" | "SIGHUP"): void {
    // Not `child.kill`: Deno then reports the signal as the cause of the end, whatever status the
    // process exits with.
    try {
      process.kill(this.pid, signal);
    } catch {
      // It has ended already.
    }
  }

  /** Sends `signal` and waits for the end. */
  stop(signal: "SIGTERM" | "SIGINT" | "SIGKILL" = "SIGTERM"): Promise<Outcome> {
    this.kill(signal);
    return this.ended;
  }

  private wake(): void {
    for (const resolve of this.waiting.splice(0)) resolve();
  }
}

/** Starts a tool (`server.ts`, or a path from the project's root) and leaves it running. */
export function spawnTool(
  tool: string,
  args: readonly string[],
  options: ToolOptions = {},
): ToolProcess {
  return new ToolProcess(tool, args, options);
}

/** Runs a tool to its end with `stdin` as its whole input. */
export function runTool(
  tool: string,
  args: readonly string[],
  options: ToolOptions & { stdin?: string | Uint8Array } = {},
): Promise<Outcome> {
  const started = spawnTool(tool, args, options);
  started.endInput(options.stdin);
  return started.ended;
}

function commandLine(tool: string, { runtime = RUNTIME, files_max }: ToolOptions): string[] {
  const limit = files_max === undefined
    ? []
    : ["sh", "-c", `ulimit -n ${files_max}; exec "$0" "$@"`];
  const command = runtime === RUNTIME ? process.execPath : runtime;
  const run = runtime === "deno" ? ["run", "--quiet", "--no-check", ...permissions(tool)] : [];
  return [...limit, command, ...run, join(ROOT, tool)];
}

/**
 * A tool gets the permissions that `deno task` gives it, and is refused anything else; a test's own
 * script gets all.
 */
function permissions(tool: string): string[] {
  const set = PERMISSION_SETS[tool];
  return set === undefined ? ["-A"] : [`-P=${set}`, "--no-prompt"];
}
