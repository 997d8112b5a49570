import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { whyNot } from "../support/other_runtime.ts";
import type { Json } from "../support/payment_world.ts";
import { RUNTIME, type Runtime, temporaryFolder } from "../support/support.ts";

const SLOW = { timeout: 240_000 };
const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const COMPILE_TIMEOUT_MS = 180_000;
const COMMAND_TIMEOUT_MS = 30_000;

interface Place {
  readonly folder: string;
  readonly env: Record<string, string>;
}

/** A tool of one file runs where there is nothing: no checkout, and no runtime in PATH. */
function emptyPlace(): Place {
  const folder = join(temporaryFolder(), "place");
  mkdirSync(folder);
  return { folder, env: { PATH: "/nowhere", NO_COLOR: "1" } };
}

/** A binary has a runtime within it, to which files of the working folder must not matter. */
function trappedPlace(): Place {
  const place = emptyPlace();
  const variables = "NODE_EXTRA_CA_CERTS=/nowhere\nBUN_CONFIG_VERBOSE_FETCH=1\n";
  writeFileSync(join(place.folder, ".env"), variables);
  writeFileSync(join(place.folder, "bunfig.toml"), 'preload = ["./missing.ts"]\n');
  return place;
}

/** A binary, or a runtime and a bundle. */
type Command = readonly [string, ...string[]];

/** Two people pay each other with nothing but the two tools. */
async function requireToolsWork(
  server: Command,
  client: Command,
  { folder: cwd, env }: Place,
): Promise<void> {
  const run = ([binary, ...start]: Command, ...args: string[]): Json => {
    const { status, stdout, stderr } = spawnSync(binary, [...start, ...args, "--json"], {
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
  assert.match(String(run(client, "receipt", "--help").help), /receipt <payment-id>/);

  const [binary, ...start] = server;
  const serving = spawn(binary, [...start, "0", "--host", "127.0.0.1", "--json", "--quiet"], {
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
    await requireToolsWork([server!], [client!], trappedPlace());
  },
);

/** What a task of deno.json runs, with its files put into `folder`. */
function taskInto(folder: string, task: "bundle" | "compile"): string {
  const { tasks } = JSON.parse(readFileSync(join(ROOT, "deno.json"), "utf8")) as {
    tasks: Record<string, string>;
  };
  return tasks[task]!.replaceAll("dist/", `${folder}/`);
}

/** The file that runs as `runtime`, which may be looked up in PATH. */
function pathOf(runtime: Runtime): string {
  if (runtime === RUNTIME) return process.execPath;
  return spawnSync("sh", ["-c", `command -v ${runtime}`], { encoding: "utf8" }).stdout.trim();
}

test(
  "deno task bundle makes tools of one file each, which run alone on either runtime",
  { ...SLOW, skip: whyNot("bun") },
  async () => {
    const folder = temporaryFolder();
    const env = { ...process.env, PATH: `${dirname(pathOf("bun"))}:${process.env.PATH}` };
    const options = { cwd: ROOT, encoding: "utf8", timeout: COMPILE_TIMEOUT_MS, env } as const;
    const { status, stderr } = spawnSync("sh", ["-c", taskInto(folder, "bundle")], options);
    assert.equal(status, 0, stderr);
    const names = ["aes_client.mjs", "aes_server.mjs", "client.mjs", "server.mjs"];
    assert.deepEqual(readdirSync(folder).sort(), names);
    for (const runtime of (["deno", "bun"] as const).filter((name) => whyNot(name) === false)) {
      const start: Command = runtime === "deno" ? [pathOf("deno"), "run", "-A"] : [pathOf("bun")];
      const tool = (name: string): Command => [...start, join(folder, name)];
      await requireToolsWork(tool("server.mjs"), tool("client.mjs"), emptyPlace());
      for (const name of ["aes_server.mjs", "aes_client.mjs"]) {
        const [binary, ...args] = tool(name);
        const { folder: cwd, env } = emptyPlace();
        const asked = spawnSync(binary, [...args, "--version"], {
          cwd,
          env,
          encoding: "utf8",
          timeout: COMMAND_TIMEOUT_MS,
        });
        assert.equal(asked.status, 0, asked.stderr);
      }
    }
  },
);

/**
 * Deno compiles with an archive of its runtime that it downloads: where it cannot, there is nothing
 * to test.
 */
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
  const { status, stderr } = spawnSync("sh", ["-c", taskInto(folder, "compile")], {
    cwd: ROOT,
    encoding: "utf8",
    timeout: COMPILE_TIMEOUT_MS,
    env,
  });
  assert.equal(status, 0, stderr);
  await requireToolsWork([join(folder, "server")], [join(folder, "client")], trappedPlace());
});
