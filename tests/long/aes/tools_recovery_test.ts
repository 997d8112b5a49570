import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes, randomInt } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { LIMIT, MIB, partialBytes, runClient, startServer } from "../../support/aes_tools.ts";
import { spawnTool, temporaryFolder, until } from "../../support/support.ts";

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
    await until(() => partialBytes(partials) >= target_bytes, LIMIT.timeout, 5);
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
  const { resent_bytes } = JSON.parse(stdout.trim());
  assert.ok(resent_bytes <= server_kills * size_bytes / 100, `${resent_bytes} bytes sent again`);
  const received = readFileSync(join(server.folder, "received", "big"));
  assert.ok(received.equals(readFileSync(path)));
  assert.deepEqual(readdirSync(partials), ["lock"]);
  await server.tool.stop();
});

test(
  "a server that takes the message and does not acknowledge it: exit status 3",
  LIMIT,
  async () => {
    const silent = await startServer();
    execFileSync("kill", ["-STOP", String(silent.tool.pid)]);
    const started_at_ms = performance.now();
    const unanswered = await runClient(silent, ["x", "--json", "--timeout", "2"]);
    assert.equal(unanswered.status, 3);
    assert.ok(performance.now() - started_at_ms < 20_000);
    execFileSync("kill", ["-CONT", String(silent.tool.pid)]);
    await silent.tool.stop();
  },
);
