/** Payees hear of what they are paid. Nobody loses a connection, or the server its memory, over how fast another reads. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { person } from "../../support/fixtures.ts";
import type { Json } from "../../support/payment_world.ts";
import { CAN_LOOK_INTO_PROCESSES, residentBytes } from "../../support/process_use.ts";
import { StallingProxy } from "../../support/stalling_proxy.ts";
import { WireClient } from "../../support/wire_client.ts";
import { WireWorld } from "../../support/wire_world.ts";

const OPTIONS = { timeout: 120_000 };
const BATCH_ITEMS = 1_000;
const MIB = 1024 * 1024;
/** What a runtime's collector may leave lying about, above what the server holds. */
const GROWTH_BYTES_MAX = 160 * MIB;
const TIMEOUT_MS = 20_000;
const [alice, bob] = [person("alice"), person("bob")];
const wire = await WireWorld.start("alice", "bob");
const [alices, bobs] = [wire.of(alice), wire.of(bob)];

function batchToBob(): ReturnType<WireClient["batch"]> {
  return alices.batch(alice, new Array(BATCH_ITEMS).fill(bob));
}

/** Pushes that have come to `client`, once one brings `balance`. */
async function pushesUpTo(client: WireClient, balance: string): Promise<Json[]> {
  const until_ms = Date.now() + TIMEOUT_MS;
  while (Date.now() < until_ms) {
    const pushes = client.notifications.filter(({ method }) => method === "payment.settled");
    if (pushes.at(-1)?.params.balance === balance) return pushes.map(({ params }) => params);
    await delay(20);
  }
  throw new assert.AssertionError({ message: `no push brought the balance ${balance}` });
}

/** What the server has grown by, at its highest, while `work` was done; 0 where the system does not say. */
async function growthOf(work: () => Promise<unknown>): Promise<number> {
  if (!CAN_LOOK_INTO_PROCESSES) {
    await work();
    return 0;
  }
  const { pid } = wire.world.server;
  const before = residentBytes(pid);
  let highest = before;
  const looking = setInterval(() => highest = Math.max(highest, residentBytes(pid)), 20);
  await work();
  clearInterval(looking);
  return highest - before;
}

test("250 payments at once are pushed to their payee, each once, in order", OPTIONS, async () => {
  const listener = await WireClient.enter(wire.world, bob);
  await Promise.all(
    Array.from({ length: 250 }, () => alices.settle(alices.order(alice, bob))),
  );
  const balance = await bobs.balance();
  const pushes = await pushesUpTo(listener, balance);
  assert.equal(pushes.length, 250);
  const balances = pushes.map((push) => Number(push.balance));
  assert.deepEqual(balances, balances.toSorted((one, other) => one - other));
  listener.close();
});

test(
  "a batch that pays one account a thousand times cuts none of its sessions off",
  OPTIONS,
  async () => {
    const listener = await WireClient.enter(wire.world, bob);
    await alices.settle(batchToBob());
    const pushes = await pushesUpTo(listener, await listener.balance());
    assert.ok(pushes.length > 0 && pushes.length <= BATCH_ITEMS);
    assert.equal(await bobs.balance(), await listener.balance());
    listener.close();
  },
);

test(
  "one who stops reading while being paid costs little memory and disturbs nobody",
  OPTIONS,
  async () => {
    const proxy = await StallingProxy.start(wire.world.port);
    const stalled = await WireClient.enter(wire.world, bob, "session.login", {}, proxy.port);
    const reading = await WireClient.enter(wire.world, bob);
    // What a process grows by at its first batches is none of the stalled session's.
    for (let round = 0; round < 5; round++) await alices.settle(batchToBob());
    proxy.stall();
    const grown_bytes = await growthOf(async () => {
      for (let round = 0; round < 20; round++) {
        await alices.settle(batchToBob());
        await wire.assertServes();
      }
    });
    assert.ok(grown_bytes < GROWTH_BYTES_MAX, `grown by ${grown_bytes} bytes`);
    const balance = await bobs.balance();
    await pushesUpTo(reading, balance);
    const heard = stalled.notifications.length;
    proxy.resume();
    const pushes = await pushesUpTo(stalled, balance);
    assert.ok(pushes.length > heard);
    assert.equal(await stalled.balance(), balance);
    for (const client of [stalled, reading]) client.close();
    proxy.close();
  },
);

test("one who asks without reading the answers is cut off, and nobody else", OPTIONS, async () => {
  // A page that is filled by a batch has some 250 KB.
  await alices.settle(batchToBob());
  const after = await bobs.size() - 2;
  const proxy = await StallingProxy.start(wire.world.port);
  const stalled = await WireClient.enter(wire.world, bob, "session.login", {}, proxy.port);
  proxy.stall();
  const asked: Promise<unknown>[] = [];
  const grown_bytes = await growthOf(async () => {
    for (let request = 0; request < 250; request++) {
      asked.push(stalled.call("payment.history", { after }));
    }
    const ends = Promise.allSettled(asked);
    await delay(1_000);
    await wire.assertServes();
    proxy.resume();
    const lost = (await ends).filter(({ status }) => status === "rejected");
    assert.ok(lost.length > 0);
  });
  assert.ok(grown_bytes < GROWTH_BYTES_MAX, `grown by ${grown_bytes} bytes`);
  await stalled.peer.closed;
  proxy.close();
});

test("after all of this the sum is zero and the audit passes", OPTIONS, async () => {
  await wire.assertAuditPasses();
});
