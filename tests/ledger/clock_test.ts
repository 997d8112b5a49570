/** Entries carry the clock's time and orders expire by it, so a clock that jumps decides about nothing. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { watchedClock } from "../../lib/ledger/clock.ts";
import { parseEntry } from "../../lib/ledger/entry.ts";
import { auditFolder } from "../support/audited_ledger.ts";
import {
  NOW_S,
  openAccounts,
  orderOf,
  person,
  signedOrder,
  type TemporaryLedger,
  temporaryLedger,
  TestClock,
} from "../support/fixtures.ts";
import { grant, openClassic } from "../support/settle_world.ts";

const alice = person("alice");
const bob = person("bob");
const DAY_S = 86_400;
const UNSTEADY = { code: "clock_unsteady" };

async function timeOf({ ledger }: TemporaryLedger, index: number): Promise<number> {
  return parseEntry((await ledger.proveOne(index)).text).time;
}

function pay({ ledger }: TemporaryLedger) {
  return ledger.submit(grant(bob, "1.00"));
}

test("a clock is steady while it goes as the monotonic one does, give or take a minute", () => {
  let [wall_ms, monotonic_ms] = [1_000_000, 5_000];
  const clock = watchedClock(() => wall_ms, () => monotonic_ms);
  assert.equal(clock.now_s(), 1_000);
  wall_ms += DAY_S * 1000;
  monotonic_ms += DAY_S * 1000;
  assert.ok(clock.isSteady());
  for (
    const [step_ms, steady] of [[60_000, true], [60_001, false], [-60_000, true], [
      -60_001,
      false,
    ]] as const
  ) {
    wall_ms += step_ms;
    assert.equal(clock.isSteady(), steady, `${step_ms} ms`);
    wall_ms -= step_ms;
    assert.ok(clock.isSteady());
  }
  // Small steps add up: a clock that runs away is no steady one.
  for (let steps = 0; steps < 4; steps++) wall_ms += 20_000;
  assert.ok(!clock.isSteady());
  clock.trust();
  assert.ok(clock.isSteady());
});

test("the clock of this machine is steady", () => {
  const clock = watchedClock();
  assert.ok(clock.isSteady());
  assert.ok(Math.abs(clock.now_s() - Date.now() / 1000) <= 1);
});

for (const step_s of [61, 2 * DAY_S, -61, -2 * DAY_S]) {
  test(`a step of ${step_s} s pauses commits, and they go on when the clock is right again`, async () => {
    const opened = await temporaryLedger();
    const { ledger, clock, troubles, close, folder } = opened;
    await openAccounts(ledger, alice, bob);
    const order = orderOf(await signedOrder(alice, bob));
    clock.step(step_s);
    await assert.rejects(ledger.submit(order), UNSTEADY);
    await assert.rejects(pay(opened), UNSTEADY);
    // The operator hears of it once.
    assert.deepEqual(troubles, ["clock_unsteady"]);
    assert.equal(ledger.size, 5);
    clock.pass(10);
    clock.step(-step_s);
    assert.equal((await ledger.submit(order)).state, "settled");
    assert.equal(await timeOf(opened, 5), NOW_S + 10);
    clock.step(step_s);
    await assert.rejects(pay(opened), UNSTEADY);
    assert.deepEqual(troubles, ["clock_unsteady", "clock_unsteady"]);
    await close();
    await auditFolder(folder);
  });
}

test("a clock that ran ahead for a moment expires no order and leaves no entry from the future", async () => {
  const opened = await temporaryLedger();
  await openAccounts(opened.ledger, alice, bob);
  const order = orderOf(await signedOrder(alice, bob));
  opened.clock.step(2 * DAY_S);
  await assert.rejects(opened.ledger.submit(order), UNSTEADY);
  opened.clock.step(-2 * DAY_S);
  assert.equal((await opened.ledger.submit(order)).state, "settled");
  await opened.close();
});

test("a small step back lets the time of entries stand still, not fall", async () => {
  const opened = await temporaryLedger();
  await openAccounts(opened.ledger, bob);
  opened.clock.pass(100);
  await pay(opened);
  opened.clock.step(-60);
  await pay(opened);
  opened.clock.pass(59);
  await pay(opened);
  opened.clock.pass(2);
  await pay(opened);
  const times = await Promise.all([3, 4, 5, 6].map((index) => timeOf(opened, index)));
  assert.deepEqual(times, [NOW_S + 100, NOW_S + 100, NOW_S + 100, NOW_S + 101]);
  await opened.close();
});

test("time does not fall between the entries of two processes either", async () => {
  const first = await temporaryLedger();
  await openAccounts(first.ledger, bob);
  const second = await temporaryLedger(first.folder, { clock: new TestClock(NOW_S + 50) });
  await pay(second);
  await pay(first);
  assert.equal(await timeOf(first, 3), NOW_S + 50);
  assert.equal(await timeOf(first, 4), NOW_S + 50);
  await second.close();
  await first.close();
});

/** A ledger whose last entry has a time that is `ahead_s` ahead of the clock at the next start. */
async function futureLedger(ahead_s: number): Promise<string> {
  const { ledger, folder, close } = await temporaryLedger(undefined, {
    clock: new TestClock(NOW_S + ahead_s),
  });
  await ledger.submit(openClassic(bob.name));
  await close();
  return folder;
}

test("a last entry in the future at start pauses commits until the clock has got there", async () => {
  const opened = await temporaryLedger(await futureLedger(1_000));
  await assert.rejects(pay(opened), { code: "clock_unsteady", message: /1000 s in the future/ });
  opened.clock.pass(939);
  await assert.rejects(pay(opened), UNSTEADY);
  opened.clock.pass(1);
  assert.equal((await pay(opened)).state, "settled");
  assert.equal(await timeOf(opened, 3), NOW_S + 1_000);
  await opened.close();
});

test("a clock that was wrong at start and is then put right is right again", async () => {
  // A machine without a battery starts in the past, and hears the time from the network later.
  const opened = await temporaryLedger(await futureLedger(2 * DAY_S));
  await assert.rejects(pay(opened), UNSTEADY);
  opened.clock.step(2 * DAY_S + 5);
  assert.equal((await pay(opened)).state, "settled");
  assert.equal(await timeOf(opened, 3), NOW_S + 2 * DAY_S + 5);
  // From now on it is watched as any other.
  opened.clock.step(61);
  await assert.rejects(pay(opened), UNSTEADY);
  await opened.close();
});

test("a last entry less than a minute ahead is no reason to pause", async () => {
  const opened = await temporaryLedger(await futureLedger(60));
  assert.equal((await pay(opened)).state, "settled");
  assert.equal(await timeOf(opened, 3), NOW_S + 60);
  await opened.close();
});

test("the operator goes on with a last entry in the future, at the clock's time", async () => {
  const folder = await futureLedger(2 * DAY_S);
  const opened = await temporaryLedger(folder, { acceptClock: true });
  assert.equal((await pay(opened)).state, "settled");
  assert.equal(await timeOf(opened, 3), NOW_S);
  // The clock is watched all the same.
  opened.clock.step(-61);
  await assert.rejects(pay(opened), UNSTEADY);
  await opened.close();
  // What comes after needs no acceptance.
  const next = await temporaryLedger(folder);
  assert.equal((await pay(next)).state, "settled");
  await next.close();
  await auditFolder(folder);
});
