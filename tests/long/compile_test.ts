import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { whyNot } from "../support/other_runtime.ts";
import type { Json } from "../support/payment_world.ts";
import { RUNTIME, temporaryFolder } from "../support/support.ts";

const SLOW = { timeout: 240_000 };
const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const COMPILE_TIMEOUT_MS = 180_000;
const COMMAND_TIMEOUT_MS = 30_000;

/** A binary runs where there is nothing: no checkout, no runtime in PATH, and a `.env` that must not matter. */
function emptyPlace(): { folder: string; env: Record<string, string> } {
  const folder = join(temporaryFolder(), "place");
  mkdirSync(folder);
  writeFileSync(join(folder, ".env"), "NODE_EXTRA_CA_CERTS=/nowhere\nBUN_CONFIG_VERBOSE_FETCH=1\n");
  writeFileSync(join(folder, "bunfig.toml"), 'preload = ["./missing.ts"]\n');
  return { folder, env: { PATH: "/nowhere", NO_COLOR: "1" } };
}

/** Two people pay each other with nothing but the two binaries. */
async function requireToolsWork(server: string, client: string): Promise<void> {
  const { folder: cwd, env } = emptyPlace();
  const run = (binary: string, ...args: string[]): Json => {
    const { status, stdout, stderr } = spawnSync(binary, [...args, "--json"], {
      cwd,
      env,
      encoding: "utf8",
      timeout: COMMAND_TIMEOUT_MS,
    });
    assert.equal(status, 0, `${binary} ${args.join(" ")}: ${stdout}${stderr}`);
    return JSON.parse(stdout.split("\n")[0]!) as Json;
  };
  const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as Json;
  assert.equal(run(server, "--version").version, version);
  assert.match(String(run(client, "--help").help), /receipt <payment-id>/);

  const serving = spawn(server, ["0", "--host", "127.0.0.1", "--json", "--quiet"], {
    cwd,
    env,
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    const [line] = await once(createInterface({ input: serving.stdout }), "line") as [string];
    const { event, port } = JSON.parse(line) as Json;
    assert.equal(event, "listening");
    const as = (name: string, ...args: string[]) =>
      run(client, "127.0.0.1", String(port), ...args, "--as", name);
    for (const name of ["alice", "bob"]) assert.equal(as(name, "register").balance, "10000.00");
    const { payment, balance } = as("alice", "pay", "bob", "12.50", "--memo", "lunch");
    assert.equal(balance, "9987.50");
    writeFileSync(join(cwd, "receipt.json"), JSON.stringify(as("bob", "receipt", String(payment))));
    const { valid, amount } = run(client, "verify", "receipt.json");
    assert.deepEqual([valid, amount], [true, "12.50"]);
  } finally {
    const closed = once(serving, "close");
    serving.kill("SIGTERM");
    await closed;
  }
  assert.equal(run(server, "audit").valid, true);
}

test(
  "bun build --compile makes binaries that run alone",
  { ...SLOW, skip: whyNot("bun") },
  async () => {
    const folder = temporaryFolder();
    const bun = RUNTIME === "bun" ? process.execPath : "bun";
    const [server, client] = ["server", "client"].map((tool) => {
      const binary = join(folder, tool);
      const { status, stderr } = spawnSync(bun, [
        "build",
        "--compile",
        "--no-compile-autoload-dotenv",
        "--no-compile-autoload-bunfig",
        join(ROOT, `${tool}.ts`),
        "--outfile",
        binary,
      ], { cwd: folder, encoding: "utf8", timeout: COMPILE_TIMEOUT_MS });
      assert.equal(status, 0, stderr);
      return binary;
    });
    await requireToolsWork(server!, client!);
  },
);

/** What `deno task compile` runs, with its binaries put into `folder`. */
function denoCompile(folder: string): string {
  const { tasks } = JSON.parse(readFileSync(join(ROOT, "deno.json"), "utf8")) as {
    tasks: Record<string, string>;
  };
  return tasks.compile!.replaceAll("dist/", `${folder}/`);
}

/** Deno compiles with an archive of its runtime that it downloads: where it cannot, there is nothing to test. */
function whyNotDenoCompile(): string | false {
  if (RUNTIME !== "deno") return "Deno's own runner tests this";
  const script = join(temporaryFolder(), "nothing.ts");
  writeFileSync(script, "");
  const args = ["compile", "--output", `${script}.bin`, script];
  const { status, stderr } = spawnSync(process.execPath, args, {
    encoding: "utf8",
    timeout: COMPILE_TIMEOUT_MS,
    env: { ...process.env, NO_COLOR: "1" },
  });
  if (status === 0) return false;
  assert.match(stderr, /download|dns error|lookup|connect|request/i, "it fails for another reason");
  const [why] = stderr.replace(/\s+/g, " ").split(" Stack backtrace");
  return `deno compile cannot get its runtime: ${why}`;
}

const skip = whyNotDenoCompile();
if (skip) console.log(`skipped: ${skip}`);

test("deno task compile makes binaries that run alone", { ...SLOW, skip }, async () => {
  const folder = temporaryFolder();
  const env = { ...process.env, PATH: `${join(process.execPath, "..")}:${process.env.PATH}` };
  const { status, stderr } = spawnSync("sh", ["-c", denoCompile(folder)], {
    cwd: ROOT,
    encoding: "utf8",
    timeout: COMPILE_TIMEOUT_MS,
    env,
  });
  assert.equal(status, 0, stderr);
  await requireToolsWork(join(folder, "server"), join(folder, "client"));
});
