import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { CommitQueue } from "../../lib/ledger/commit_queue.ts";
import { FairQueue, type Origin } from "../../lib/ledger/fair_queue.ts";
import type { Outcome, Submission } from "../../lib/ledger/submission.ts";

const from = (address: string, account = address): Origin => ({ address, account });

const fails = () => assert.fail("pushed out");

function takeAll<Work>(queue: FairQueue<Work>): Work[] {
  const works: Work[] = [];
  for (let work; (work = queue.take(Infinity)) !== null;) works.push(work);
  return works;
}

describe("turns", () => {
  test("go by address: who comes last with little is served first", () => {
    const queue = new FairQueue<string>(20_000, fails);
    for (let count = 0; count < 5_000; count++) queue.add(from("flood"), "flood", 1);
    queue.add(from("honest"), "honest", 1);
    assert.ok(takeAll(queue).indexOf("honest") <= 50);
  });

  test("go by address: a thousand accounts of one stranger are one stranger", () => {
    const queue = new FairQueue<string>(20_000, fails);
    for (let count = 0; count < 1_000; count++) {
      for (let time = 0; time < 3; time++) queue.add(from("flood", `m${count}`), "flood", 1);
    }
    for (let count = 0; count < 10; count++) queue.add(from("honest"), "honest", 1);
    assert.ok(takeAll(queue).lastIndexOf("honest") <= 60);
  });

  test("go by account within an address", () => {
    const queue = new FairQueue<string>(20_000, fails);
    for (let count = 0; count < 1_000; count++) queue.add(from("router", "greedy"), "greedy", 1);
    queue.add(from("router", "honest"), "honest", 1);
    assert.equal(takeAll(queue).indexOf("honest"), 1);
  });

  test("of batches are as long as those of single orders", () => {
    const queue = new FairQueue<string>(20_000, fails);
    for (let count = 0; count < 5; count++) queue.add(from("batches"), "batch", 1_000);
    for (let count = 0; count < 900; count++) queue.add(from("honest"), "honest", 1);
    const order = takeAll(queue);
    assert.ok(order.slice(0, 901).filter((work) => work === "batch").length <= 1);
    assert.equal(order.length, 905);
  });

  test("of one address alone need no waiting, and keep the order of an account", () => {
    const queue = new FairQueue<number>(20_000, fails);
    const works = Array.from({ length: 6 }, (_, count) => count);
    for (const work of works) queue.add(from("alone"), work, 1_000);
    assert.deepEqual(takeAll(queue), works);
  });
});

describe("a full queue", () => {
  test("has room for whoever holds little, however many hold much", () => {
    const out: string[] = [];
    const queue = new FairQueue<string>(20_000, (work) => out.push(work));
    for (let address = 0; address < 20; address++) {
      for (let count = 0; count < 2_000; count++) {
        queue.add(from(`a${address}`, `m${count % 4}`), "flood", 1);
      }
      queue.add(from(`honest ${address}`), "honest", 1);
    }
    assert.equal(queue.weight, 20_000);
    assert.ok(!out.includes("honest"));
    queue.add(from("batch"), "batch of an honest one", 900);
    assert.ok(!out.includes("batch of an honest one"));
  });

  test("pushes out the account that holds most of the address that holds most", () => {
    const out: string[] = [];
    const queue = new FairQueue<string>(10, (work) => out.push(work));
    for (let count = 0; count < 2; count++) queue.add(from("router", "honest"), "honest", 1);
    for (let count = 0; count < 3; count++) queue.add(from("other"), "other", 1);
    for (let count = 0; count < 8; count++) {
      queue.add(from("router", "greedy"), `greedy ${count}`, 1);
    }
    assert.deepEqual(out, ["greedy 5", "greedy 6", "greedy 7"]);
    queue.add(from("other"), "other", 1);
    assert.deepEqual(out.slice(3), ["greedy 4"]);
  });
});

test("nothing is lost or served twice, whatever comes", () => {
  const step = fc.record({
    who: fc.nat(3),
    account: fc.nat(2),
    weight: fc.integer({ min: 1, max: 120 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), fc.nat(200), (steps, group) => {
      const seen: number[] = [];
      const queue = new FairQueue<number>(2_000, (work) => seen.push(work));
      for (const [at, { who, account, weight }] of steps.entries()) {
        queue.add(from(`a${who}`, `m${account}`), at, weight);
        assert.ok(queue.weight <= 2_000);
        if (at % 7 === 0) seen.push(queue.take(Infinity)!);
      }
      while (queue.weight > 0) seen.push((queue.take(group) ?? queue.take(Infinity))!);
      assert.equal(queue.take(Infinity), null);
      assert.deepEqual(seen.toSorted((a, b) => a - b), [...steps.keys()]);
    }),
  );
});

test("a commit holds a thousand payments; only who is over the share is overloaded", async () => {
  const grant = { type: "grant" } as unknown as Submission;
  const sizes: number[] = [];
  const { promise: gate, resolve: open } = Promise.withResolvers<void>();
  const queue = new CommitQueue(async (submissions) => {
    await gate;
    sizes.push(submissions.length);
    return submissions.map((): Outcome => ({ state: "recorded", index: 0 }));
  });
  const flood = Array.from({ length: 21_500 }, () => queue.submit(grant, from("flood")));
  const honest = queue.submit(grant, from("honest"));
  const settled = Promise.allSettled(flood);
  open();
  assert.deepEqual(await honest, { state: "recorded", index: 0 });
  assert.ok(sizes.length <= 3, `${sizes}`);
  const results = await settled;
  const refused = results.filter(({ status }) => status === "rejected") as PromiseRejectedResult[];
  assert.ok(refused.length > 0 && refused.length <= 1_501, `${refused.length}`);
  assert.equal(refused[0]!.reason.code, "overloaded");
  assert.equal(refused[0]!.reason.details.retry_after_ms, 1_000);
  assert.ok(Math.max(...sizes) <= 1_000);
});
