import assert from "node:assert/strict";
import { test } from "node:test";
import { Condition } from "../../lib/base/condition.ts";

test("everyone who waits wakes up, in order, and nobody before", async () => {
  const condition = new Condition();
  const woken: string[] = [];
  const waits = ["a", "b"].map((name) => condition.wait().then(() => woken.push(name)));
  await Promise.resolve();
  assert.deepEqual(woken, []);
  condition.notifyAll();
  await Promise.all(waits);
  assert.deepEqual(woken, ["a", "b"]);
});

test("a notification is not kept for those who wait later", async () => {
  const condition = new Condition();
  condition.notifyAll();
  let woken = false;
  const wait = condition.wait().then(() => woken = true);
  await new Promise((resolve) => setTimeout(resolve, 0));
  assert.equal(woken, false);
  condition.notifyAll();
  await wait;
});

test("of two waiters for one item, the second finds it taken and waits on", async () => {
  const changed = new Condition();
  const items: number[] = [];
  const taken: number[] = [];
  const take = async () => {
    while (items.length === 0) await changed.wait();
    taken.push(items.shift()!);
  };
  const both = Promise.all([take(), take()]);
  items.push(1);
  changed.notifyAll();
  await new Promise((resolve) => setTimeout(resolve, 0));
  assert.deepEqual(taken, [1]);
  items.push(2);
  changed.notifyAll();
  await both;
  assert.deepEqual(taken, [1, 2]);
});

test("a failure ends every wait, present and future, and the first one counts", async () => {
  const condition = new Condition();
  const before = assert.rejects(condition.wait(), /the first/);
  condition.fail(new Error("the first"));
  condition.fail(new Error("the second"));
  await before;
  await assert.rejects(condition.wait(), /the first/);
});
