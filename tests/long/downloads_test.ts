import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { whyNot } from "../support/other_runtime.ts";
import { RUNTIME, temporaryFolder } from "../support/support.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const OPTIONS = { timeout: 240_000, skip: whyNot("deno") };

/** With what they import themselves. */
const PACKAGES: Readonly<Record<string, readonly string[]>> = {
  "server.ts": ["@noble/curves", "@noble/hashes", "jose", "postgres"],
  "client.ts": ["@noble/curves", "@noble/hashes", "jose", "qr"],
  "aes_server.ts": ["@noble/ciphers", "@noble/curves", "@noble/hashes"],
  "aes_client.ts": ["@noble/ciphers", "@noble/curves", "@noble/hashes"],
};

/** The packages whose content a folder of Deno's downloads has. */
function downloaded(denoFolder: string): string[] {
  const [registry] = readdirSync(join(denoFolder, "npm"));
  const folder = join(denoFolder, "npm", registry!);
  const names = readdirSync(folder).flatMap((name) =>
    name.startsWith("@") ? readdirSync(join(folder, name)).map((part) => `${name}/${part}`) : [name]
  );
  const hasVersion = (name: string) =>
    readdirSync(join(folder, name)).some((version) =>
      existsSync(join(folder, name, version, "package.json"))
    );
  return names.filter(hasVersion).sort();
}

for (const [tool, packages] of Object.entries(PACKAGES)) {
  test(`${tool} downloads what it imports, and nothing else, when it first runs`, OPTIONS, () => {
    const denoFolder = temporaryFolder();
    const deno = RUNTIME === "deno" ? process.execPath : "deno";
    const { status, stderr } = spawnSync(deno, ["run", "-A", join(ROOT, tool), "--version"], {
      encoding: "utf8",
      env: { ...process.env, DENO_DIR: denoFolder },
    });
    assert.equal(status, 0, stderr);
    assert.deepEqual(downloaded(denoFolder), packages);
  });
}
