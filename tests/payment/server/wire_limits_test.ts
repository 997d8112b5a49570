/** Bytes that no client should send: each loses its own connection and no other. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { once } from "node:events";
import net from "node:net";
import { describe, test } from "node:test";
import { person } from "../../support/fixtures.ts";
import type { Json } from "../../support/payment_world.ts";
import { CAN_LOOK_INTO_PROCESSES, residentBytes } from "../../support/process_use.ts";
import { refusalOf } from "../../support/refusal.ts";
import { idOf, RawClient, WireClient } from "../../support/wire_client.ts";
import { WireWorld } from "../../support/wire_world.ts";

const OPTIONS = { timeout: 120_000 };
const KIB = 1024;
const MIB = 1024 * KIB;
const [alice, bob] = [person("alice"), person("bob")];
const wire = await WireWorld.start("alice", "bob");
const [alices, bobs] = [wire.of(alice), wire.of(bob)];
const { port } = wire.world;

function connect(): Promise<RawClient> {
  return RawClient.connect(port);
}

function request(id: unknown, method: string, params: unknown = {}): string {
  return JSON.stringify({ jsonrpc: "2.0", id, method, params }) + "\n";
}

interface Line {
  readonly promise: string;
  readonly line: string | Uint8Array;
  readonly error: { id: unknown; code: string; limit?: string };
}

const PARSE_ERROR = { id: null, code: "parse_error" };
/** Nobody is logged in here. */
const TOO_LONG = { id: null, code: "limit_exceeded", limit: "unproven_line_bytes_max" };

describe("a line that cannot be a request ends its connection, after an error that says why", () => {
  const lines: readonly Line[] = [
    { promise: "not JSON", line: "HELO server\n", error: PARSE_ERROR },
    { promise: "nothing", line: "\n", error: PARSE_ERROR },
    { promise: "half an object", line: '{"jsonrpc":"2.0","id":1\n', error: PARSE_ERROR },
    { promise: "two objects", line: "{}{}\n", error: PARSE_ERROR },
    {
      promise: "invalid UTF-8",
      line: Buffer.from([0x22, 0xc3, 0x28, 0x22, 0x0a]),
      error: PARSE_ERROR,
    },
    {
      promise: "a surrogate as UTF-8",
      line: Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22, 0x0a]),
      error: PARSE_ERROR,
    },
    { promise: "a byte order mark", line: "\uFEFF" + request(1, "hello"), error: PARSE_ERROR },
    { promise: "8,000 open brackets", line: "[".repeat(8_000) + "\n", error: PARSE_ERROR },
    {
      promise: "1,600 open braces",
      line: '{"a":'.repeat(1_600) + "\n",
      error: PARSE_ERROR,
    },
    {
      promise: "more than 8 KiB before a login",
      line: request(1, "hello", { x: "x".repeat(8 * KIB) }),
      error: TOO_LONG,
    },
    {
      promise: "4,000 nested brackets within a request",
      line: `{"jsonrpc":"2.0","id":1,"method":"hello","params":${nested(4_000)}}\n`,
      error: PARSE_ERROR,
    },
    {
      promise: "100 nested brackets within a request",
      line: `{"jsonrpc":"2.0","id":1,"method":"hello","params":${nested(100)}}\n`,
      error: PARSE_ERROR,
    },
    { promise: "512 KiB without an end", line: "x".repeat(513 * KIB), error: TOO_LONG },
    { promise: "8 MiB without an end", line: "x".repeat(8 * MIB), error: TOO_LONG },
  ];
  for (const { promise, line, error } of lines) {
    test(promise, OPTIONS, async () => {
      await wire.unharmed(async () => {
        const client = await connect();
        client.send(line);
        assert.deepEqual(await client.nextError(), error);
        assert.equal(await client.next(), null);
        client.destroy();
      });
    });
  }
});

function nested(depth: number): string {
  return "[".repeat(depth) + "]".repeat(depth);
}

describe("a line that is JSON and no request is answered, and the connection goes on", () => {
  const invalid = (id: unknown = null) => ({ id, code: "invalid_request" });
  const lines: readonly Line[] = [
    { promise: "a number", line: "1\n", error: invalid() },
    { promise: "null", line: "null\n", error: invalid() },
    { promise: "an empty object", line: "{}\n", error: invalid() },
    { promise: "a batch", line: `[${request(1, "hello").trim()}]\n`, error: invalid() },
    { promise: "an empty batch", line: "[]\n", error: invalid() },
    {
      promise: "another version",
      line: '{"jsonrpc":"1.0","id":1,"method":"hello"}\n',
      error: invalid(1),
    },
    { promise: "no version", line: '{"id":1,"method":"hello"}\n', error: invalid(1) },
    { promise: "an id that is an object", line: request({}, "hello"), error: invalid() },
    { promise: "an id that is a fraction", line: request(0.5, "hello"), error: invalid() },
    { promise: "an id that is null", line: request(null, "hello"), error: invalid() },
    { promise: "an id of 65 characters", line: request("x".repeat(65), "hello"), error: invalid() },
    {
      promise: "a method that is a number",
      line: '{"jsonrpc":"2.0","id":1,"method":1}\n',
      error: invalid(1),
    },
    { promise: "params that are text", line: request(1, "hello", "x"), error: invalid(1) },
    { promise: "params that are null", line: request(1, "hello", null), error: invalid(1) },
    {
      promise: "params that are a list",
      line: request(1, "hello", []),
      error: { id: 1, code: "invalid_params" },
    },
    {
      promise: "an unknown method",
      line: request("a", "nothing"),
      error: { id: "a", code: "unknown_method" },
    },
    {
      promise: "a method of every object",
      line: request(1, "__proto__"),
      error: { id: 1, code: "unknown_method" },
    },
    {
      promise: "an order before a login",
      line: request(1, "payment.settle", { order: "x".repeat(7 * KIB) }),
      error: { id: 1, code: "login_required" },
    },
  ];
  for (const { promise, line, error } of lines) {
    test(promise, OPTIONS, async () => {
      await wire.unharmed(async () => {
        const client = await connect();
        client.send(line);
        assert.deepEqual(await client.nextError(), error);
        client.send(request(2, "hello"));
        const answer = await client.next();
        assert.equal(answer?.id, 2);
        assert.equal((answer?.result as Json).v, 2);
        client.destroy();
      });
    });
  }

  test(
    "notifications, and answers to nothing that was asked, are passed over",
    OPTIONS,
    async () => {
      const client = await connect();
      client.send('{"jsonrpc":"2.0","method":"hello"}\n{"jsonrpc":"2.0","method":"nothing"}\n');
      client.send('{"jsonrpc":"2.0","id":7,"result":1}\n');
      client.send('{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"x"}}\n');
      client.send(request(2, "hello"));
      assert.equal((await client.next())?.id, 2);
      client.destroy();
    },
  );
});

test("300 requests at once end the connection that sent them", OPTIONS, async () => {
  await wire.unharmed(async () => {
    const client = await connect();
    const pings = Array.from({ length: 300 }, (_, id) => request(id, "rpc.ping", undefined));
    client.send(pings.join(""));
    const error = { id: null, code: "limit_exceeded", limit: "requests_in_flight_max" };
    assert.deepEqual(await client.nextError(), error);
    assert.equal(await client.next(), null);
  });
});

test(
  "of 300 orders at once each is settled once or not at all, and status says which",
  OPTIONS,
  async () => {
    const client = await WireClient.enter(wire.world, alice);
    const before = Number((await bobs.balance()).replace(".", ""));
    const orders = Array.from({ length: 300 }, () => client.order(alice, bob, { amount: "0.01" }));
    // The caller's own limit is lower, so the lines go out as they are.
    const lines = orders.map((signed, id) => request(id, "payment.settle", signed)).join("");
    await client.peer.connection.write(new TextEncoder().encode(lines));
    const until_ms = Date.now() + 10_000;
    let settled = 0;
    let balance = -1;
    while (Date.now() < until_ms && (settled === 0 || balance !== before + settled)) {
      settled = 0;
      for (const signed of orders) {
        const { state } = await alices.call("payment.status", { id: idOf(signed) });
        if (state === "settled") settled++;
        else assert.equal(state, "unknown");
      }
      balance = Number((await bobs.balance()).replace(".", ""));
    }
    assert.ok(settled > 0);
    assert.equal(balance, before + settled);
    client.close();
    await wire.assertServes();
  },
);

test("plain text on the TLS port harms nobody, and leaks nothing", OPTIONS, async () => {
  await wire.unharmed(async () => {
    const texts = [
      "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
      request(1, "hello"),
      "REGISTER#alice",
      "\0".repeat(KIB),
    ];
    for (const text of texts) {
      const socket = net.connect(port, "127.0.0.1");
      let answered = "";
      socket.on("data", (bytes) => answered += bytes.toString("latin1"));
      socket.on("error", () => {});
      socket.write(text);
      await once(socket, "close");
      // At most an alert, which is a TLS record of type 21.
      assert.ok(answered === "" || (answered.length < 10 && answered.charCodeAt(0) === 21));
    }
  });
});

test("requests that wait for an answer are dropped with their connection", OPTIONS, async () => {
  const client = await WireClient.enter(wire.world, alice);
  const waiting = client.settle(client.order(alice, bob, { amount: "0.01" }));
  client.close();
  assert.equal((await refusalOf(() => waiting)).code, "connection_lost");
  await wire.assertServes();
});

test(
  "ten connections that send 100 MiB of garbage leave the server's memory as it was",
  OPTIONS,
  async (context) => {
    if (!CAN_LOOK_INTO_PROCESSES) {
      return context.skip(
        "this system does not say what a process uses",
      );
    }
    const { pid } = wire.world.server;
    const before = residentBytes(pid);
    await wire.unharmed(async () => {
      await Promise.all(Array.from({ length: 10 }, async () => {
        for (let round = 0; round < 5; round++) {
          const client = await connect();
          for (let piece = 0; piece < 8; piece++) client.send("x".repeat(256 * KIB));
          assert.deepEqual(await client.nextError(), TOO_LONG);
          await client.next();
          client.destroy();
        }
      }));
    });
    const grown_bytes = residentBytes(pid) - before;
    assert.ok(grown_bytes < 128 * MIB, `grown by ${grown_bytes} bytes`);
  },
);

test("after all of this the sum is zero and the audit passes", OPTIONS, async () => {
  await wire.assertAuditPasses();
});
