import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { HANDSHAKE_TIMEOUT_MS, PROLOGUE } from "../../../../lib/aes/channel/handshake.ts";
import { connectTcp } from "../../../../lib/net/net.ts";
import { HOST, startServer } from "../../../support/aes.ts";
import { temporaryFolder } from "../../../support/support.ts";

test("a peer that stops in the handshake, however slowly it began, is let go in time", {
  timeout: 30_000,
}, async () => {
  const server = await startServer({ out: temporaryFolder() });
  const client = await connectTcp({ host: HOST, port: server.port, timeout_ms: 5_000 });
  const started_at_ms = performance.now();
  await client.write(PROLOGUE.subarray(0, 4));
  await sleep(HANDSHAKE_TIMEOUT_MS / 2);
  await client.write(Uint8Array.from([...PROLOGUE.subarray(4), 1, 2, 3]));
  await server.ended(1);
  const duration_ms = performance.now() - started_at_ms;
  assert.equal(server.endings[0]?.code, "timeout");
  assert.ok(duration_ms < HANDSHAKE_TIMEOUT_MS + 2_000, `${duration_ms} ms`);
  client.destroy();
  await server.close();
});
