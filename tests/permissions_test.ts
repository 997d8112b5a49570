/**
 * deno.json's permission sets. That each tool works with no more than its set, all tests show: they
 * run tools that way.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { runTool } from "./support/support.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const TOOLS = ["server.ts", "client.ts", "aes_server.ts", "aes_client.ts"];

interface DenoConfig {
  readonly permissions: Readonly<Record<string, { readonly env: readonly string[] }>>;
  readonly tasks: Readonly<Record<string, string>>;
}

const config = JSON.parse(readFileSync(join(ROOT, "deno.json"), "utf8")) as DenoConfig;

/** What `process.env` is asked for in the tools and in lib/. */
function variablesRead(): string[] {
  const modules = readdirSync(join(ROOT, "lib"), { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".ts")).map((path) => join("lib", path));
  const names = [...TOOLS, ...modules].flatMap((path) => {
    const text = readFileSync(join(ROOT, path), "utf8");
    return [...text.matchAll(/process\.env\b(?:\.(\w+))?/g)].map(([, name]) => {
      assert.ok(name, `${path} reads the environment other than by process.env.NAME`);
      return name;
    });
  });
  return [...new Set(names)].sort();
}

/** The driver of PostgreSQL asks for these itself; what they say is overruled. */
const OF_THE_DRIVER = ["PGAPPNAME", "PGTARGETSESSIONATTRS"];

test("each permission set names the environment variables that the tools read, and no others", () => {
  const read = variablesRead();
  assert.ok(read.includes("NO_COLOR"));
  const ofDatabase = (name: string) => name.startsWith("PG");
  const { server, client } = config.permissions;
  assert.deepEqual([...server!.env].sort(), [...read, ...OF_THE_DRIVER].sort());
  assert.deepEqual([...client!.env].sort(), read.filter((name) => !ofDatabase(name)));
});

test("each tool starts with the permissions of its set alone", async () => {
  for (const tool of TOOLS) {
    const { status, stderr } = await runTool(tool, ["--version"]);
    assert.deepEqual({ status, stderr }, { status: 0, stderr: "" }, tool);
    const task = tool.replace(".ts", "").replace("_", "-");
    assert.match(config.tasks[task]!, /^deno run --quiet -P=(server|client) \w+\.ts$/);
  }
});
