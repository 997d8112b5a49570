import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import process from "node:process";
import { after, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { isSealwireError } from "../../lib/base/errors.ts";
import { LineAssembler } from "../../lib/rpc/lines.ts";
import { ALPN, closeAll, HOST, later, OPTIONS } from "../support/net.ts";
import {
  assertServes,
  codeOf,
  connect,
  RawClient,
  request,
  serve,
  withCode,
} from "../support/rpc.ts";

after(closeAll);

describe("a line", () => {
  test("that is not JSON in UTF-8 is parse_error and ends that connection alone", async () => {
    const { port } = await serve();
    const nested = "[".repeat(100_000);
    const bad: (string | Uint8Array)[] = [
      "{",
      "",
      "hello",
      "{'id':1}",
      nested,
      '{"jsonrpc":"2.0","id":1,"method":"echo","params":{"a":' + nested + "}}",
      "\ufeff" + request(1, "echo").trim(),
      Uint8Array.of(0x22, 0xff, 0xfe, 0x22),
      Uint8Array.of(0x22, 0xc0, 0x80, 0x22),
    ];
    for (const line of bad) {
      const raw = await RawClient.open(port);
      await raw.send(line);
      const answer = await raw.ask("\n");
      assert.deepEqual(codeOf(answer), { integer: -32700, code: "parse_error" });
      assert.equal(answer!.id, null);
      assert.equal(await raw.next(), null);
    }
    await assertServes(port);
  });

  test("nested more than 64 deep is parse_error, brackets in text do not count", async () => {
    const { port } = await serve();
    const nest = (depth: number, open = "[", close = "]") =>
      `{"jsonrpc":"2.0","id":1,"method":"echo","params":${open.repeat(depth - 1)}${
        close.repeat(depth - 1)
      }}\n`;
    const deep = [nest(65), nest(65, '{"a":', "}").replace(":}", ":1}"), nest(30_000)];
    for (const line of deep) {
      const raw = await RawClient.open(port);
      assert.deepEqual(codeOf(await raw.ask(line)), { integer: -32700, code: "parse_error" });
      assert.equal(await raw.next(), null);
    }
    const raw = await RawClient.open(port);
    assert.ok("result" in (await raw.ask(nest(64)))!);
    const text = '[{"\\'.repeat(1_000);
    assert.deepEqual((await raw.ask(request(1, "echo", { text })))!.result, { text });
  });

  test("that is JSON but no request is invalid_request, and the next one is served", async () => {
    const { port } = await serve();
    const raw = await RawClient.open(port);
    const bad = [
      "1",
      "null",
      '"text"',
      "[]",
      `[${request(1, "echo").trim()}]`,
      "{}",
      '{"jsonrpc":"1.0","id":1,"method":"echo"}',
      '{"jsonrpc":"2.0","id":1,"method":5}',
      '{"jsonrpc":"2.0","id":1,"method":"echo","params":"x"}',
      '{"jsonrpc":"2.0","id":1,"method":"echo","params":null}',
      '{"jsonrpc":"2.0","id":1}',
    ];
    const badIds = [null, true, 1.5, 2 ** 53, {}, [], "x".repeat(65)];
    for (const line of [...bad, ...badIds.map((id) => request(id, "echo").trim())]) {
      const answer = await raw.ask(line + "\n");
      assert.deepEqual(codeOf(answer), { integer: -32600, code: "invalid_request" }, line);
    }
    for (const id of [0, -1, 2 ** 53 - 1, "", "x".repeat(64)]) {
      const answer = await raw.ask(request(id, "echo", { a: 1 }));
      assert.deepEqual(answer, { jsonrpc: "2.0", id, result: { a: 1 } });
    }
  });

  test("names what is wrong by the integers of JSON-RPC", async () => {
    const { port } = await serve();
    const raw = await RawClient.open(port);
    const expected: [method: string, integer: number, code: string][] = [
      ["no.such", -32601, "unknown_method"],
      ["invalid", -32602, "invalid_params"],
      ["broken", -32603, "internal"],
      ["refuse", -32000, "insufficient_funds"],
    ];
    for (const [method, integer, code] of expected) {
      const answer = codeOf(await raw.ask(request(1, method)));
      assert.deepEqual({ integer: answer.integer, code: answer.code }, { integer, code });
    }
    // A request without an id expects no answer.
    await raw.send('{"jsonrpc":"2.0","method":"no.such"}\n');
    assert.deepEqual(await raw.ask(request(2, "nothing")), { jsonrpc: "2.0", id: 2, result: null });
  });

  test(
    "too long is limit_exceeded before its end, unless its method allows it",
    OPTIONS,
    async () => {
      const { port } = await serve();
      const limit = { integer: -32000, code: "limit_exceeded", limit: "request_line_bytes_max" };
      const text = "x".repeat(70_000);
      const big = await RawClient.open(port);
      assert.equal((await big.ask(request(1, "size", { text })))!.result, 70_011);
      assert.deepEqual(codeOf(await big.ask(request(2, "echo", { text }))), {
        ...limit,
        max: 65_536,
      });
      assert.equal(await big.next(), null);
      const endless = await RawClient.open(port);
      await endless.send("x".repeat(512 * 1024 + 1));
      assert.equal(codeOf(await endless.next()).limit, "request_line_bytes_max");
      assert.equal(await endless.next(), null);
      await assertServes(port);
    },
  );

  test("may come in any pieces, several at once or one byte at a time", OPTIONS, async () => {
    const { port } = await serve();
    const raw = await RawClient.open(port);
    const line = new TextEncoder().encode(request(7, "echo", { text: "€".repeat(300) }));
    for (const byte of line) await raw.send(Uint8Array.of(byte));
    assert.equal((await raw.next())!.id, 7);
    await raw.send(Array.from({ length: 50 }, (_, id) => request(id, "echo")).join(""));
    for (let id = 0; id < 50; id++) assert.equal((await raw.next())!.id, id);
  });

  test("is put together in time linear in its length", OPTIONS, () => {
    const lines = new LineAssembler();
    const size_bytes = 512 * 1024;
    const byte = Uint8Array.of(0x78);
    const started_at_ms = performance.now();
    for (let at = 0; at < size_bytes; at++) lines.push(byte, size_bytes, () => true);
    assert.equal(lines.partial_bytes, size_bytes);
    let whole_bytes = 0;
    lines.push(Uint8Array.of(0x0a), size_bytes, (line) => (whole_bytes = line.length) > 0);
    assert.equal(whole_bytes, size_bytes);
    assert.ok(performance.now() - started_at_ms < 2_000);
  });

  test(
    "that is not whole in time ends the connection, however busily it drips",
    OPTIONS,
    async () => {
      const { port } = await serve({ line_ms_max: 300 });
      const raw = await RawClient.open(port);
      const started_at_ms = performance.now();
      const drip = setInterval(() => raw.send("x"), 20);
      assert.equal(codeOf(await raw.next()).limit, "line_ms_max");
      clearInterval(drip);
      const passed_ms = performance.now() - started_at_ms;
      assert.ok(passed_ms > 250 && passed_ms < 2_000, `${passed_ms} ms`);
      assert.equal(await raw.next(), null);
      // Whole lines may come for longer than that.
      const steady = await RawClient.open(port);
      for (let id = 0; id < 10; id++) {
        await delay(60);
        assert.equal((await steady.ask(request(id, "echo")))!.id, id);
      }
    },
  );
});

/**
 * A client of openssl's that sends `lines` and never reads an answer: nobody takes what it prints.
 */
function openWithoutReading(port: number, lines: string): void {
  const command = `openssl s_client -quiet -alpn ${ALPN} -connect ${HOST}:${port} 2>&1 | sleep 30`;
  const client = spawn("sh", ["-c", command], {
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
  });
  client.stdin.on("error", () => {});
  client.stdin.write(lines);
  later(() => process.kill(-client.pid!, "SIGKILL"));
}

describe("a peer", () => {
  test("with 300 requests in flight loses its connection, 256 are served", OPTIONS, async () => {
    const { port } = await serve();
    const raw = await RawClient.open(port);
    const many = (count: number) =>
      Array.from({ length: count }, (_, id) => request(id, "later", { ms: 100 })).join("");
    await raw.send(many(256));
    for (let answers = 0; answers < 256; answers++) assert.ok("result" in (await raw.next())!);
    const answer = await raw.ask(many(300));
    assert.deepEqual(codeOf(answer), {
      integer: -32000,
      code: "limit_exceeded",
      limit: "requests_in_flight_max",
      max: 256,
    });
    assert.equal(await raw.next(), null);
    await assertServes(port);
  });

  test("is kept from calling more than may be in flight", async () => {
    const { port } = await serve();
    const peer = await connect(port);
    const calls = Array.from({ length: 256 }, () => peer.call("later", { ms: 50 }));
    await assert.rejects(
      peer.call("echo", {}),
      withCode("limit_exceeded", { limit: "requests_in_flight_max", max: 256 }),
    );
    await Promise.all(calls);
    assert.deepEqual(await peer.call("echo", {}), {});
  });

  test("that does not read is dropped when 1 MiB waits for it", OPTIONS, async () => {
    const served = await serve();
    const requests = Array.from(
      { length: 200 },
      (_, id) => request(id, "fill", { size_bytes: 200_000 }),
    );
    openWithoutReading(served.port, requests.join(""));
    while (served.peers.length === 0) await delay(10);
    const reason = await served.peers[0]!.closed;
    assert.ok(isSealwireError(reason, "limit_exceeded"), `${reason}`);
    assert.deepEqual(reason.details, { limit: "unsent_bytes_max", max: 1024 * 1024 });
    await assertServes(served.port);
  });

  test("that notifications pile up for is dropped", OPTIONS, async () => {
    const served = await serve();
    openWithoutReading(served.port, request(0, "echo"));
    while (served.peers.length === 0) await delay(10);
    const peer = served.peers[0]!;
    let over = false;
    peer.closed.then(() => over = true);
    const text = "x".repeat(10_000);
    for (let notified = 0; !over && notified < 5_000; notified++) {
      peer.notify("presence.changed", { text });
      if (notified % 10 === 0) await delay(1);
    }
    assert.ok(over);
    assert.ok(isSealwireError(await peer.closed, "limit_exceeded"));
    peer.notify("presence.changed", { text });
    await assertServes(served.port);
  });

  test("gets an answer of a megabyte, and an error for a longer one", OPTIONS, async () => {
    const { port } = await serve();
    const peer = await connect(port);
    const size_bytes = 1_000_000;
    assert.equal((await peer.call("fill", { size_bytes }) as string).length, size_bytes);
    await assert.rejects(
      peer.call("fill", { size_bytes: 1024 * 1024 }),
      withCode("limit_exceeded", { limit: "answer_line_bytes_max", max: 1024 * 1024 }),
    );
    assert.deepEqual(await peer.call("echo", {}), {});
  });

  test("with a longer answer than a client takes loses its connection", OPTIONS, async () => {
    const { port } = await serve();
    const peer = await connect(port, { limits: { answer_line_bytes_max: 100_000 } });
    const call = peer.call("fill", { size_bytes: 200_000 });
    await assert.rejects(call, (error: Error) => {
      assert.ok(isSealwireError(error, "connection_lost"));
      assert.match(error.message, /answer_line_bytes_max/);
      return true;
    });
    assert.ok(isSealwireError(await peer.closed, "limit_exceeded"));
  });

  test("learns from closed which limit it went over", async () => {
    const { port } = await serve();
    const peer = await connect(port);
    const call = assert.rejects(
      peer.call("echo", { text: "x".repeat(70_000) }),
      withCode("connection_lost"),
    );
    const reason = await peer.closed;
    assert.ok(isSealwireError(reason, "limit_exceeded"));
    assert.deepEqual(reason.details, { limit: "request_line_bytes_max", max: 65_536 });
    await call;
  });

  test("that is silent is asked for a sign of life, and dropped without one", OPTIONS, async () => {
    const served = await serve({ silence_ms_max: 200 });
    const dead = await RawClient.open(served.port);
    const ping = await dead.next();
    assert.equal(ping!.method, "rpc.ping");
    assert.equal(codeOf(await dead.next()).limit, "silence_ms_max");
    assert.equal(await dead.next(), null);
    const lively = await connect(served.port);
    await delay(900);
    assert.deepEqual(await lively.call("echo", {}), {});
    // An error is a sign of life too.
    const stubborn = await RawClient.open(served.port);
    for (let round = 0; round < 3; round++) {
      const { id } = (await stubborn.next())!;
      const error = { code: -32601, message: "no such method" };
      await stubborn.send(JSON.stringify({ jsonrpc: "2.0", id, error }) + "\n");
    }
    assert.equal((await stubborn.ask(request(1, "rpc.ping")))!.result, null);
  });
});
