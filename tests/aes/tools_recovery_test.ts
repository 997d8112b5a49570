import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { spawnTool, temporaryFolder, until } from "../support/support.ts";
import {
  lastJson,
  LIMIT,
  MIB,
  partialBytes,
  runClient,
  startServer,
} from "../support/aes_tools.ts";

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
    await until(() => partialBytes(partials) > 4 * MIB, LIMIT.timeout, 5);
    assert.equal((await client.stop("SIGINT")).status, 130);
    assert.deepEqual(readdirSync(join(server.folder, "received")), [".partial"]);
    const again = await runClient(server, ["--file", path, "--json"]);
    assert.equal(again.status, 0, again.stderr);
    assert.ok(Number(lastJson(again).resumed_from_bytes) >= 4 * MIB);
    assert.deepEqual(readFileSync(join(server.folder, "received", "big")), content);
    await server.tool.stop();
  },
);
