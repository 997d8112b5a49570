/** What the tests of the AES tools share: the tools as processes, with a key and a folder. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { whyNot } from "./other_runtime.ts";
import {
  type Outcome,
  RUNTIME,
  type Runtime,
  runTool,
  spawnTool,
  temporaryFolder,
  type ToolOptions,
  type ToolProcess,
} from "./support.ts";

export const MIB = 1024 * 1024;
export const LIMIT = { timeout: 60_000 };

export interface Server {
  tool: ToolProcess;
  port: number;
  folder: string;
}

/** `aes_server.ts --json` on a free port, in a folder of its own. */
export async function startServer(
  args: string[] = [],
  options: ToolOptions = {},
  port = 0,
): Promise<Server> {
  const folder = options.cwd ?? temporaryFolder();
  const tool = spawnTool("aes_server.ts", ["--port", String(port), "--json", ...args], {
    ...options,
    cwd: folder,
  });
  const { event, port: listening } = await tool.nextJson();
  assert.equal(event, "listening");
  return { tool, port: Number(listening), folder };
}

/** `aes_client.ts` with the server's key. */
export function runClient(
  { port, folder }: { port: number; folder: string },
  args: string[],
  options: ToolOptions & { stdin?: string | Uint8Array } = {},
): Promise<Outcome> {
  const key = join(folder, "aes_key.bin");
  return runTool("aes_client.ts", ["--port", String(port), "--key", key, ...args], options);
}

export function lastJson(outcome: Outcome): Record<string, unknown> {
  return JSON.parse(outcome.stdout.trim().split("\n").at(-1)!);
}

/** The runtimes that can be started here: this one, and the other where it can be. */
export function runtimes(): Runtime[] {
  const other = RUNTIME === "deno" ? "bun" : "deno";
  return whyNot(other) === false ? [RUNTIME, other] : [RUNTIME];
}

/** The size of the one unfinished file; 0 where there is none. */
export function partialBytes(partials: string): number {
  const name = existsSync(partials) && readdirSync(partials).find((entry) => entry.length === 64);
  return name ? statSync(join(partials, name)).size : 0;
}
