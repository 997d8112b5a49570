import assert from "node:assert/strict";
import { once } from "node:events";
import { after, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { isSealwireError, SealwireError } from "../../lib/base/errors.ts";
import { RpcPeer } from "../../lib/rpc/peer.ts";
import { closeAll, foreignClient, OPTIONS } from "../support/net.ts";
import { connect, open, request, serve, withCode } from "../support/rpc.ts";

after(closeAll);

describe("calls", () => {
  test("an answer goes to its call, in whatever order answers come", async () => {
    const { port } = await serve();
    const peer = await connect(port);
    const order: number[] = [];
    const waits_ms = [150, 10, 80];
    await Promise.all(waits_ms.map(async (ms) => {
      assert.deepEqual(await peer.call("later", { ms }), { ms });
      order.push(ms);
    }));
    assert.deepEqual(order, [10, 80, 150]);
    assert.equal(await peer.call("nothing", {}), null);
  });

  test("text of any script and size arrives as it was", OPTIONS, async () => {
    const { port } = await serve();
    const peer = await connect(port);
    for (
      const text of ["", '\n\r\u2028"\\', "πληρωμή 支払い 💶".repeat(1000), "x".repeat(65_000)]
    ) {
      assert.deepEqual(await peer.call("echo", { text }), { text });
    }
  });

  test("errors arrive with code, sentence and details", async () => {
    const { port } = await serve();
    const peer = await connect(port);
    await assert.rejects(
      peer.call("refuse", {}),
      withCode("insufficient_funds", { retry_after_ms: 7 }),
    );
    await assert.rejects(peer.call("refuse", {}), { message: "not enough" });
    await assert.rejects(peer.call("invalid", {}), withCode("invalid_params"));
    await assert.rejects(peer.call("no.such", {}), withCode("unknown_method"));
    await assert.rejects(peer.call("toString", {}), withCode("unknown_method"));
  });

  test("a fault in a handler is told to its owner, and to the peer without its words", async () => {
    const { port, internalErrors } = await serve();
    const peer = await connect(port);
    for (const method of ["broken", "unspeakable"]) {
      await assert.rejects(peer.call(method, {}), (error: Error) => {
        assert.ok(isSealwireError(error, "internal"));
        assert.ok(!error.message.includes("secret"));
        return true;
      });
    }
    assert.equal(internalErrors.length, 2);
    assert.match(String(internalErrors[0]), /secret inside/);
    peer.notify("break", {});
    assert.deepEqual(await peer.call("echo", {}), {});
    assert.match(String(internalErrors[2]), /broken/);
  });

  test("every result is heard as it arrives, also one whose call was given up", async () => {
    const { port } = await serve();
    const heard: unknown[] = [];
    const peer = await connect(port, { onResult: (result) => heard.push(result) });
    const late = peer.call("later", { ms: 100 }, { timeout_ms: 10 });
    await assert.rejects(late, withCode("timeout"));
    const answer = peer.call("echo", { a: 1 }).then((result) => heard.push("returned", result));
    await assert.rejects(
      peer.call("refuse", {}),
      withCode("insufficient_funds", { retry_after_ms: 7 }),
    );
    await answer;
    await peer.call("later", { ms: 200 });
    assert.deepEqual(heard, [{ a: 1 }, "returned", { a: 1 }, { ms: 100 }, { ms: 200 }]);
  });

  test("both ends call and notify", async () => {
    const served = await serve();
    const heard: unknown[] = [];
    const peer = await connect(served.port, {
      methods: { answer: { handle: (params) => ({ answered: params }) } },
      onNotification: (method, params) => heard.push([method, params]),
    });
    assert.deepEqual(await peer.call("ask", { a: 1 }), { answered: { a: 1 } });
    served.peers[0]!.notify("payment.settled", { amount: "12.50" });
    peer.notify("hello", { b: 2 });
    await peer.call("echo", {});
    assert.deepEqual(heard, [["payment.settled", { amount: "12.50" }]]);
    assert.deepEqual(served.notifications, [["hello", { b: 2 }]]);
  });

  test("a call ends at its timeout or its signal, and the connection lives on", async () => {
    const { port } = await serve();
    const peer = await connect(port);
    await assert.rejects(peer.call("never", {}, { timeout_ms: 50 }), withCode("timeout"));
    const reason = new SealwireError("interrupted", "enough");
    await assert.rejects(peer.call("never", {}, { signal: AbortSignal.abort(reason) }), reason);
    const controller = new AbortController();
    setTimeout(() => controller.abort(reason), 50);
    await assert.rejects(peer.call("never", {}, { signal: controller.signal }), reason);
    // The late answer to a call that was given up disturbs nobody.
    await assert.rejects(peer.call("later", { ms: 100 }, { timeout_ms: 20 }), withCode("timeout"));
    await delay(150);
    assert.deepEqual(await peer.call("echo", {}), {});
  });

  test("when the connection ends, all calls reject with connection_lost", async () => {
    for (const end of ["end", "destroy"] as const) {
      const served = await serve();
      const peer = await connect(served.port);
      const calls = [peer.call("never", {}), peer.call("later", { ms: 5_000 })];
      const rejected = calls.map((call) => assert.rejects(call, withCode("connection_lost")));
      await peer.call("echo", {});
      served.peers[0]![end]();
      await Promise.all(rejected);
      const reason = await peer.closed;
      assert.ok(reason === null || isSealwireError(reason, "connection_lost"));
      await assert.rejects(peer.call("echo", {}), withCode("connection_lost"));
      assert.equal(await served.peers[0]!.closed, null);
    }
  });

  test("end sends what was said before it", async () => {
    const served = await serve();
    const peer = await connect(served.port);
    for (let number = 0; number < 100; number++) peer.notify("n", { number });
    await peer.end();
    assert.equal(await peer.closed, null);
    assert.equal(await served.peers[0]!.closed, null);
    assert.equal(served.notifications.length, 100);
  });

  test("a peer that ends its side still gets the answers to what it asked", async () => {
    const { port } = await serve();
    const socket = await foreignClient("tls", port);
    let answers = "";
    socket.setEncoding("utf8").on("data", (text: string) => answers += text);
    socket.end(request(1, "later", { ms: 200 }) + request(2, "echo"));
    await once(socket, "close");
    const ids = answers.trim().split("\n").map((line) => JSON.parse(line).id);
    assert.deepEqual(ids, [2, 1]);
  });

  test("all lines of one turn leave in one write", async () => {
    const { port } = await serve();
    const connection = await open(port);
    let writes = 0;
    const write = connection.write.bind(connection);
    connection.write = (bytes) => {
      writes++;
      return write(bytes);
    };
    const peer = new RpcPeer(connection, { role: "client" });
    const calls = Array.from({ length: 100 }, (_, number) => peer.call("echo", { number }));
    assert.deepEqual((await Promise.all(calls))[99], { number: 99 });
    assert.equal(writes, 1);
    peer.destroy();
  });
});
