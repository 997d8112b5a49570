import assert from "node:assert/strict";
import { createHash, randomBytes, randomInt } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { spawnTool, temporaryFolder } from "../support/support.ts";
import { lastJson, LIMIT, MIB, runClient, startServer } from "../support/aes_tools.ts";

test(
  "Ctrl-C ends the client with 130 and keeps what arrived for the next time",
  LIMIT,
  async () => {
    const server = await startServer();
    const path = join(temporaryFolder(), "big");
    const content = randomBytes(64 * MIB);
    writeFileSync(path, content);
    const key = join(server.folder, "aes_key.bin");
    const args = ["--port", String(server.port), "--key", key, "--file", path, "--json"];
    const client = spawnTool("aes_client.ts", args);
    const partials = join(server.folder, "received", ".partial");
    await until(() => partialBytes(partials) > 4 * MIB);
    assert.equal((await client.stop("SIGINT")).status, 130);
    assert.deepEqual(readdirSync(join(server.folder, "received")), [".partial"]);
    const again = await runClient(server, ["--file", path, "--json"]);
    assert.equal(again.status, 0, again.stderr);
    assert.ok(Number(lastJson(again).resumed_from_bytes) >= 4 * MIB);
    assert.deepEqual(readFileSync(join(server.folder, "received", "big")), content);
    await server.tool.stop();
  },
);

/** The size of the one unfinished file; 0 where there is none. */
function partialBytes(partials: string): number {
  const name = existsSync(partials) && readdirSync(partials).find((entry) => entry.length === 64);
  return name ? statSync(join(partials, name)).size : 0;
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(5);
}

const KILLS = Math.min(20, Number(process.env.SEALWIRE_CRASHES ?? 20));

test(`killed ${KILLS} times at random, either end: the file arrives, and a kill costs under 1 %`, {
  timeout: 300_000,
}, async () => {
  const client_kills = Math.ceil(KILLS / 2);
  const server_kills = KILLS - client_kills;
  const size_bytes = 256 * MIB;
  const path = join(temporaryFolder(), "big");
  writeFileSync(path, randomBytes(size_bytes));
  let server = await startServer();
  const partials = join(server.folder, "received", ".partial");
  const key = join(server.folder, "aes_key.bin");
  const args = ["--port", String(server.port), "--key", key, "--file", path, "--json"];
  const options = { timeout_ms: 290_000 };
  let client = spawnTool("aes_client.ts", args, options);
  for (let kill = 0; kill < client_kills + server_kills; kill++) {
    // At a random point of each part of the way, however fast this machine is.
    const target_bytes = size_bytes * (kill + randomInt(90) / 100) /
      (client_kills + server_kills + 1);
    await until(() => partialBytes(partials) >= target_bytes);
    if (kill < client_kills) {
      client.kill("SIGKILL");
      await client.ended;
      client = spawnTool("aes_client.ts", args, options);
    } else {
      server.tool.kill("SIGKILL");
      await server.tool.ended;
      server = await startServer([], { cwd: server.folder, ...options }, server.port);
    }
  }
  const { status, stdout, stderr } = await client.ended;
  assert.equal(status, 0, stderr);
  // The last client lived through every kill of the server, and counted.
  const { resent_bytes, sha256 } = JSON.parse(stdout.trim());
  assert.ok(resent_bytes <= server_kills * size_bytes / 100, `${resent_bytes} bytes sent again`);
  const received = readFileSync(join(server.folder, "received", "big"));
  assert.equal(createHash("sha256").update(received).digest("hex"), sha256);
  assert.deepEqual(readdirSync(partials), ["lock"]);
  await server.tool.stop();
});
