import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type ByteAccount, ByteBudget } from "../../lib/base/byte_budget.ts";

describe("a budget of bytes", () => {
  /** Accounts by name, and which of them have given way. */
  function open(bytes_max: number) {
    const budget = new ByteBudget(bytes_max);
    const gone: string[] = [];
    const account = (name: string) => budget.open(() => gone.push(name));
    return { budget, gone, account };
  }

  test("that is used up closes the connection that holds most", () => {
    const { budget, gone, account } = open(100);
    const [honest, greedy, other] = [account("honest"), account("greedy"), account("other")];
    assert.ok(honest.hold(10));
    assert.ok(greedy.hold(60));
    assert.ok(other.hold(40));
    assert.deepEqual(gone, ["greedy"]);
    assert.equal(budget.size_bytes, 50);
    assert.equal(greedy.hold(1), false);
    assert.equal(budget.size_bytes, 50);
  });

  test("refuses the one who asks, where that one holds most", () => {
    const { gone, account } = open(100);
    const honest = account("honest");
    honest.hold(10);
    assert.equal(account("greedy").hold(200), false);
    assert.deepEqual(gone, ["greedy"]);
    assert.ok(honest.hold(90));
  });

  test("makes those give way first who have proven nothing", () => {
    const { gone, account } = open(100);
    const [member, stranger] = [account("member"), account("stranger")];
    member.prove();
    member.hold(70);
    stranger.hold(20);
    assert.ok(member.hold(90));
    assert.deepEqual(gone, ["stranger"]);
  });

  test("says no to a proven one that only asks, and takes nothing from others", () => {
    const { budget, gone, account } = open(100);
    const [first, second] = [account("first"), account("second")];
    for (const one of [first, second]) one.prove();
    assert.ok(first.tryHold(60));
    assert.equal(second.tryHold(60), false);
    assert.deepEqual(gone, []);
    assert.equal(budget.size_bytes, 60);
    account("stranger").hold(40);
    assert.ok(second.tryHold(40));
    assert.deepEqual(gone, ["stranger"]);
  });

  test("tells the operator once, with a count", () => {
    const { budget, account } = open(100);
    const told: string[] = [];
    budget.onPressure((text) => told.push(text));
    for (let count = 0; count < 5; count++) account(String(count)).hold(200);
    assert.equal(told.length, 1);
    assert.match(told[0]!, /used up \(1 connections closed\)/);
  });

  test("is never exceeded, and empty when all have left", () => {
    const step = fc.record({ who: fc.nat(9), size: fc.nat(80), act: fc.nat(9) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const budget = new ByteBudget(100);
        const accounts = new Map<number, ByteAccount>();
        for (const { who, size, act } of steps) {
          const account = accounts.get(who) ?? budget.open(() => accounts.delete(who));
          accounts.set(who, account);
          if (act === 0) account.prove();
          else if (act === 1) account.tryHold(size);
          else account.hold(size);
          assert.ok(budget.size_bytes <= 100);
          const held = [...accounts.values()].reduce((sum, one) => sum + one.held_bytes, 0);
          assert.equal(budget.size_bytes, held);
        }
        for (const account of [...accounts.values()]) account.close();
        assert.equal(budget.size_bytes, 0);
      }),
    );
  });
});
