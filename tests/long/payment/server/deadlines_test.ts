/** Clients that hold still, or almost: each loses its own connection and no other. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { person } from "../../../support/fixtures.ts";
import { RawClient } from "../../../support/wire_client.ts";
import { WireWorld } from "../../../support/wire_world.ts";

const OPTIONS = { timeout: 120_000 };
const LINE_MS_MAX = 10_000;
const LOGIN_DEADLINE_MS = 30_000;
const alice = person("alice");
const wire = await WireWorld.start("alice");
const { port } = wire.world;

function connect(): Promise<RawClient> {
  return RawClient.connect(port);
}

function hello(params: object = {}): string {
  return JSON.stringify({ jsonrpc: "2.0", id: 1, method: "hello", params }) + "\n";
}

/** All at once, each on a connection of its own. */
const slow = {
  dripping: drip(await connect(), hello()),
  drippingBody: drip(await connect(), hello({ x: "x".repeat(100) }), 60),
  silent: untilClosed(await connect()),
  talking: talkWithoutLogin(await connect()),
};

/**
 * Sends `line` at one byte a second after its first `head_bytes`; resolves with what came back, and
 * when.
 */
async function drip(client: RawClient, line: string, head_bytes = 1) {
  const started_at_ms = performance.now();
  client.send(line.slice(0, head_bytes));
  let sent_bytes = head_bytes;
  const dripping = setInterval(() => client.send(line.charAt(sent_bytes++)), 1_000);
  const error = await client.nextError();
  const end = await client.next();
  clearInterval(dripping);
  return { error, end, sent_bytes, lasted_ms: performance.now() - started_at_ms };
}

async function untilClosed(client: RawClient): Promise<number> {
  const started_at_ms = performance.now();
  await client.closed;
  return performance.now() - started_at_ms;
}

/** A connection that asks and asks and never logs in. */
async function talkWithoutLogin(client: RawClient): Promise<number> {
  const talking = setInterval(() => client.send(hello()), 500);
  const lasted_ms = await untilClosed(client);
  clearInterval(talking);
  return lasted_ms;
}

test("one byte a second ends the connection after ten seconds", OPTIONS, async () => {
  for (const dripped of [slow.dripping, slow.drippingBody]) {
    const { error, end, sent_bytes, lasted_ms } = await dripped;
    assert.deepEqual(error, { id: null, code: "limit_exceeded", limit: "line_ms_max" });
    assert.equal(end, null);
    assert.ok(sent_bytes < 80);
    assert.ok(lasted_ms > LINE_MS_MAX - 1_000 && lasted_ms < LINE_MS_MAX + 10_000, `${lasted_ms}`);
  }
  await wire.assertServes();
});

test(
  "a connection that does not log in within thirty seconds is ended, silent or not",
  OPTIONS,
  async () => {
    for (const stayed of [slow.silent, slow.talking]) {
      const lasted_ms = await stayed;
      assert.ok(lasted_ms > LOGIN_DEADLINE_MS - 1_000, `${lasted_ms}`);
      assert.ok(lasted_ms < LOGIN_DEADLINE_MS + 10_000, `${lasted_ms}`);
    }
    // Who did is still there.
    assert.ok(await wire.of(alice).balance());
  },
);
