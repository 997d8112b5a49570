/** What the buffers of many connections may hold together. */
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { ByteBudget } from "../../lib/base/byte_budget.ts";
import { RpcPeer, type RpcPeerOptions } from "../../lib/rpc/peer.ts";
import { closeAll, listening, OPTIONS } from "../support/net.ts";
import { codeOf, connect, RawClient, request } from "../support/rpc.ts";
import { until } from "../support/support.ts";

const KIB = 1024;
const WAIT_MS = 14_000;

after(closeAll);

async function serve(budget: ByteBudget, options: Partial<RpcPeerOptions> = {}) {
  const peers: RpcPeer[] = [];
  const listener = await listening("tls", (connection) => {
    peers.push(
      new RpcPeer(connection, {
        role: "server",
        budget,
        methods: {
          echo: { handle: (params) => params },
          fill: { handle: () => "x".repeat(500 * KIB) },
          never: { handle: () => new Promise(() => {}), line_bytes_max: 512 * KIB },
        },
        ...options,
      }),
    );
  });
  return { port: listener.port, peers };
}

describe("buffers", () => {
  test("of half lines are bounded together, and others are served", OPTIONS, async () => {
    const budget = new ByteBudget(1024 * KIB);
    const { port } = await serve(budget);
    const honest = await connect(port);
    for (let count = 0; count < 12; count++) {
      const raw = await RawClient.open(port);
      await raw.send("x".repeat(300 * KIB));
      assert.ok(budget.size_bytes <= budget.bytes_max);
      assert.deepEqual(await honest.call("echo", { count }), { count });
    }
    await until(() => budget.size_bytes > 0, WAIT_MS);
  });

  test(
    "of requests that are not answered count, and of answers nobody reads",
    OPTIONS,
    async () => {
      for (const method of ["never", "fill"]) {
        const budget = new ByteBudget(2048 * KIB);
        const { port, peers } = await serve(budget);
        const honest = await connect(port);
        const line = request(1, method, { text: "x".repeat(method === "never" ? 400 * KIB : 1) });
        const greedy = [];
        for (let count = 0; count < 8; count++) {
          const raw = await RawClient.open(port);
          await raw.send(line);
          greedy.push(raw);
          assert.ok(budget.size_bytes <= budget.bytes_max);
        }
        assert.deepEqual(await honest.call("echo", { still: "here" }), { still: "here" });
        if (method === "never") {
          const reasons = await Promise.race([
            Promise.any(peers.map((peer) => peer.closed)),
            delay(5_000),
          ]);
          assert.equal((reasons as { code: string }).code, "overloaded");
        }
        for (const raw of greedy) raw.connection.destroy();
        honest.destroy();
        await until(() => budget.size_bytes === 0, WAIT_MS);
      }
    },
  );

  test(
    "of a client that has not proven itself hold 8 KiB, and longer lines after",
    OPTIONS,
    async () => {
      const { port, peers } = await serve(new ByteBudget(1024 * KIB), { unproven: true });
      const raw = await RawClient.open(port);
      await raw.send("x".repeat(8 * KIB + 1));
      const answer = codeOf(await raw.next());
      assert.equal(answer.limit, "unproven_line_bytes_max");
      assert.equal(answer.max, 8 * KIB);
      assert.equal(await raw.next(), null);

      const client = await connect(port);
      const long = { text: "x".repeat(20 * KIB) };
      assert.deepEqual(await client.call("echo", { short: true }), { short: true });
      peers[1]!.prove();
      assert.deepEqual(await client.call("echo", long), long);
    },
  );
});
