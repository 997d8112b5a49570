/** What strangers do to a real server, with honest clients beside them. */
import assert from "node:assert/strict";
import net from "node:net";
import { join } from "node:path";
import process from "node:process";
import { DatabaseSync } from "node:sqlite";
import tls from "node:tls";
import { after, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { isSealwireError } from "../../../lib/base/errors.ts";
import type { PaymentClient } from "../../../lib/payment/client/payer.ts";
import { peakBytes } from "../../support/process_use.ts";
import { flood, HOST, logIn, openSilent, payCent, startServer } from "../../support/siege.ts";
import { until } from "../../support/support.ts";

const OPTIONS = { timeout: 120_000, skip: process.platform !== "linux" };
const STRANGER = "127.0.0.2";
const MEMORY_BYTES_MAX = 320 * 1024 * 1024;

/** As many as systems give a process that asks for no more: 512 connections, 64 of one address. */
const server = await startServer([], { files_max: 1_024 });
const alice = await logIn(server, "alice");
const bob = await logIn(server, "bob");
after(async () => {
  for (const client of [alice, bob]) await client.end().catch(() => {});
  await server.tool.stop("SIGKILL");
});

async function payMany(count: number): Promise<number[]> {
  const times_ms: number[] = [];
  while (times_ms.length < count) times_ms.push(await payCent(alice, "bob"));
  return times_ms.sort((a, b) => a - b);
}

describe("while one address floods the door with silence", () => {
  test("payments are settled, and newcomers log in", OPTIONS, async (context) => {
    const quiet = await payMany(50);
    const attack = flood(server.port, STRANGER);
    const during = await payMany(50);
    for (let count = 0; count < 5; count++) {
      const client = await logIn(server, "alice", { register: false });
      await client.end();
    }
    const count = await attack.stop();
    const peak = peakBytes(server.tool.pid);
    context.diagnostic(
      `${count} connections; median ${quiet[25]} then ${during[25]} ms; ${peak} bytes`,
    );
    assert.ok(peak < MEMORY_BYTES_MAX, `${peak}`);
  });

  test(
    "a club behind one router gets back in, also past a flood from that router",
    OPTIONS,
    async () => {
      const attacks = [flood(server.port, STRANGER), flood(server.port, HOST)];
      const began_ms = performance.now();
      const club = await Promise.all(Array.from({ length: 50 }, async () => {
        for (let tries = 0;; tries++) {
          try {
            return await logIn(server, "bob", { register: false, timeout_ms: 10_000 });
          } catch (error) {
            assert.ok(isSealwireError(error) && tries < 20, `${error}`);
            await delay(200);
          }
        }
      }));
      const took_ms = performance.now() - began_ms;
      for (const attack of attacks) await attack.stop();
      await Promise.all(club.map((client) => client.end()));
      assert.ok(took_ms < 10_000, `${took_ms} ms`);
    },
  );
});

test(
  "3,000 silent connections that stay take bounded memory and keep nobody out",
  OPTIONS,
  async () => {
    const crowd = [];
    for (let address = 2; address < 8; address++) {
      crowd.push(...await openSilent(server.port, `127.0.0.${address}`, 500));
    }
    await payMany(10);
    const peak = peakBytes(server.tool.pid);
    for (const socket of crowd) socket.destroy();
    assert.ok(peak < MEMORY_BYTES_MAX, `${peak}`);
  },
);

test("half lines before login are cut at 8 KiB", OPTIONS, async () => {
  const crowd = await Promise.all(Array.from({ length: 100 }, async () => {
    const socket = net.connect({ host: HOST, port: server.port, localAddress: "127.0.0.3" });
    const secure = tls.connect({
      socket,
      rejectUnauthorized: false,
      ALPNProtocols: ["sealwire/2"],
    });
    secure.on("error", () => {});
    await new Promise((resolve) => secure.once("secureConnect", resolve).once("close", resolve));
    secure.write("x".repeat(511 * 1024));
    return secure;
  }));
  await payMany(10);
  for (const socket of crowd) socket.destroy();
  const peak = peakBytes(server.tool.pid);
  assert.ok(peak < MEMORY_BYTES_MAX, `${peak}`);
});

test("an account over its rate waits, is served, and costs others nothing", OPTIONS, async () => {
  const slow = await startServer(["--orders-per-second", "1"]);
  const clients: PaymentClient[] = [];
  for (const name of ["carol", "dave"]) clients.push(await logIn(slow, name));
  const [carol, dave] = clients;
  const began_ms = performance.now();
  await Promise.all(Array.from({ length: 51 }, () => payCent(carol!, "dave")));
  assert.ok(performance.now() - began_ms > 900, "the 51st had to wait");
  assert.ok(await payCent(dave!, "carol") < 900);
  for (const client of clients) await client.end();
  await slow.tool.stop("SIGKILL");
});

test("one address registers a hundred accounts, and is told when to go on", OPTIONS, async () => {
  const open = await startServer(["--registrations-per-minute", "1"]);
  for (const name of ["a", "b", "c", "d", "e"]) await (await logIn(open, name)).end();
  await assert.rejects(logIn(open, "f", { timeout_ms: 3_000 }), (error) => {
    assert.ok(isSealwireError(error, "rate_limited"), `${error}`);
    const { retry_after_ms } = error.details as { retry_after_ms: number };
    assert.ok(retry_after_ms > 3_000 && retry_after_ms <= 60_000);
    return true;
  });
  await (await logIn(open, "a", { register: false })).end();
  await open.tool.stop("SIGKILL");
});

test(
  "a store that is away is told once to the operator, and clients wait for it",
  OPTIONS,
  async () => {
    const away = await startServer(["--log", "json"]);
    const erin = await logIn(away, "erin", { timeout_ms: 15_000 });
    await (await logIn(away, "frank")).end();
    const lock = new DatabaseSync(join(away.folder, "ledger.db"));
    lock.exec("BEGIN IMMEDIATE");
    const paying = payCent(erin, "frank");
    await until(() => away.tool.stderrText.includes("store_unavailable"), 30_000);
    assert.equal(await erin.session.currentBalance(), "10000.00");
    await delay(1_000);
    lock.exec("ROLLBACK");
    lock.close();
    await paying;
    const told = away.tool.stderrText.split("\n").filter((line) =>
      line.includes("store_unavailable")
    );
    assert.equal(told.length, 1, told.join("\n"));
    await erin.end();
    await away.tool.stop("SIGKILL");
  },
);
