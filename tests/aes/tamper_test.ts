import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  type Direction,
  type Proxy,
  runClient,
  startProxy,
  startServer,
  type TestServer,
} from "../support/aes.ts";
import { temporaryFolder } from "../support/support.ts";

const MESSAGE = "Pay 10 to bob";
/** Long enough for an honest session on a busy machine; what is cut off must wait for so long. */
const STALL_MS = 1_000;
const PROLOGUE_AND_HANDSHAKE_BYTES = { to_server: 72, to_client: 64 };
const FLIPS_AT_ONCE = 16;

let server: TestServer;

before(async () => {
  server = await startServer({ out: temporaryFolder(), stall_ms: STALL_MS });
});
after(() => server.close());

/**
 * One session through a proxy that rewrites it: what the server took and how each end saw it end.
 */
async function session(
  change: (bytes: Uint8Array, direction: Direction, offset_bytes: number) => Uint8Array,
  at: TestServer = server,
) {
  const proxy: Proxy = await startProxy(at.port, change);
  const { error } = await runClient(proxy.port, { message: MESSAGE }, { stall_ms: STALL_MS });
  await proxy.close();
  return { error };
}

/** The length of each direction of an honest session. */
async function measure(): Promise<Record<Direction, number>> {
  const lengths = { to_server: 0, to_client: 0 };
  const before_count = server.endings.length;
  const { error } = await session((bytes, direction, offset) => {
    lengths[direction] = offset + bytes.length;
    return bytes;
  });
  await server.ended(before_count + 1);
  assert.equal(error, null);
  assert.deepEqual(server.messages, [MESSAGE]);
  return lengths;
}

/** Flips one bit of one byte on the way, in a server of its own, and says who noticed. */
async function flip(direction: Direction, position: number) {
  const own = await startServer({ out: temporaryFolder(), stall_ms: STALL_MS });
  try {
    const { error } = await session((bytes, way, offset) => {
      const index = position - offset;
      if (way === direction && index >= 0 && index < bytes.length) {
        bytes[index]! ^= 1 << (position % 8);
      }
      return bytes;
    }, own);
    await own.ended(1);
    return { error, messages: own.messages, ending: own.endings[0]!, files: own.files };
  } finally {
    await own.close();
  }
}

async function flipAll(
  direction: Direction,
  length: number,
  check: (
    position: number,
    result: Awaited<ReturnType<typeof flip>>,
  ) => void,
): Promise<void> {
  for (let start = 0; start < length; start += FLIPS_AT_ONCE) {
    const count = Math.min(FLIPS_AT_ONCE, length - start);
    const positions = Array.from({ length: count }, (_, index) => start + index);
    const results = await Promise.all(positions.map((position) => flip(direction, position)));
    results.forEach((result, index) => check(start + index, result));
  }
}

test("a bit changed anywhere on the way to the server is noticed, and nothing else is taken", {
  timeout: 90_000,
}, async () => {
  const lengths = await measure();
  await flipAll("to_server", lengths.to_server, (position, { error, messages, ending, files }) => {
    const where = `byte ${position} of ${lengths.to_server}`;
    assert.notEqual(ending, null, `${where}: the server took it for an honest session`);
    assert.deepEqual(files, []);
    // The client is told that the message is there only where it is: what was changed is the close
    // after it.
    if (messages.length > 0) assert.deepEqual(messages, [MESSAGE], where);
    else assert.notEqual(error, null, `${where}: the client believes that it arrived`);
    if (position < PROLOGUE_AND_HANDSHAKE_BYTES.to_server) assert.deepEqual(messages, [], where);
  });
});

test("a bit changed anywhere on the way to the client never makes it believe more than is true", {
  timeout: 90_000,
}, async () => {
  server.messages.length = 0;
  const lengths = await measure();
  await flipAll("to_client", lengths.to_client, (position, { error, messages }) => {
    const where = `byte ${position} of ${lengths.to_client}`;
    if (error === null) assert.deepEqual(messages, [MESSAGE], where);
    if (position < PROLOGUE_AND_HANDSHAKE_BYTES.to_client) {
      assert.equal(error, "server_untrusted", where);
      assert.deepEqual(messages, [], where);
    }
  });
});

/** Rewrites the list of records that go to the server once all of them are there. */
async function withRecords(rewrite: (records: Uint8Array[]) => Uint8Array[]) {
  const own = await startServer({ out: temporaryFolder(), stall_ms: STALL_MS });
  let seen = new Uint8Array(0);
  try {
    const { error } = await session((bytes, way, offset) => {
      if (way === "to_client" || offset < PROLOGUE_AND_HANDSHAKE_BYTES.to_server) return bytes;
      seen = Uint8Array.from([...seen, ...bytes]);
      const out = rewrite([seen]);
      seen = new Uint8Array(0);
      return Uint8Array.from(out.flatMap((record) => [...record]));
    }, own);
    await own.ended(1);
    return { error, messages: own.messages, ending: own.endings[0]! };
  } finally {
    await own.close();
  }
}

test("a record that is left out, repeated, cut or put before another ends the session", async () => {
  const rewrites: Record<string, (records: Uint8Array[]) => Uint8Array[]> = {
    "left out": () => [],
    "cut": ([record]) => [record!.subarray(0, -1)],
    "cut to its length": ([record]) => [record!.subarray(0, 4)],
    "a stranger's put first": ([record]) => [new Uint8Array(36).fill(32, 3, 4), record!],
  };
  for (const [name, rewrite] of Object.entries(rewrites)) {
    const { error, messages, ending } = await withRecords(rewrite);
    assert.deepEqual(messages, [], name);
    assert.equal(error, "outcome_unknown", name);
    assert.notEqual(ending, null, name);
  }
});

test("a message recorded and played again is taken once", async () => {
  const own = await startServer({ out: temporaryFolder(), stall_ms: STALL_MS });
  try {
    await session((bytes, way, offset) => {
      if (way === "to_client" || offset < PROLOGUE_AND_HANDSHAKE_BYTES.to_server) return bytes;
      return Uint8Array.from([...bytes, ...bytes]);
    }, own);
    await own.ended(1);
    assert.deepEqual(own.messages, [MESSAGE]);
    assert.equal(own.endings[0]?.code, "decrypt_failed");
  } finally {
    await own.close();
  }
});
