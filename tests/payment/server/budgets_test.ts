import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { isSealwireError } from "../../../lib/base/errors.ts";
import { parseAccountName } from "../../../lib/keys/rsa.ts";
import { Budgets } from "../../../lib/payment/server/budgets.ts";

const [mallory, alice] = [parseAccountName("mallory"), parseAccountName("alice")];

/** How many times `work` passes before it is limited, and how long to wait then. */
function untilLimited(work: () => void): { passed: number; retry_after_ms: number } {
  for (let passed = 0;; passed++) {
    try {
      work();
    } catch (error) {
      assert.ok(isSealwireError(error, "rate_limited"), `${error}`);
      const { retry_after_ms } = error.details as { retry_after_ms: number };
      assert.ok(retry_after_ms > 0);
      return { passed, retry_after_ms };
    }
  }
}

describe("an account", () => {
  test("has 1,000 orders settled at once, then 20 a second, and costs nobody else any", () => {
    let now_ms = 0;
    const budgets = new Budgets({}, () => now_ms);
    const order = () => budgets.requireOrder(mallory, mallory, 0);
    assert.deepEqual(untilLimited(order), { passed: 1_000, retry_after_ms: 50 });
    budgets.requireOrder(alice, alice, 0);
    now_ms += 1_000;
    assert.equal(untilLimited(order).passed, 20);
  });

  test("has 50 batches of 1,000 settled at once", () => {
    const budgets = new Budgets({}, () => 0);
    assert.equal(untilLimited(() => budgets.requireOrder(alice, alice, 1_000)).passed, 50);
  });

  test("that is paid by strangers can still pay", () => {
    const budgets = new Budgets({}, () => 0);
    untilLimited(() => budgets.requireOrder(alice, mallory, 0));
    budgets.requireOrder(alice, alice, 0);
  });

  test("whose name others write on orders that are refused loses nothing", () => {
    const budgets = new Budgets({}, () => 0);
    untilLimited(() => budgets.requireOrder(mallory, alice, 0));
    budgets.requireOrder(alice, alice, 0);
  });

  test("adds 100,000 entries to the ledger a day, and can always cancel", () => {
    let now_ms = 0;
    const budgets = new Budgets({}, () => now_ms);
    let settled = 0;
    for (let second = 0; second < 12_000; second++) {
      now_ms += 1_000;
      try {
        for (let count = 0; count < 20; count++) {
          budgets.requireOrder(mallory, mallory, 0);
          budgets.countEntry(mallory, 0);
          settled++;
        }
      } catch (error) {
        assert.ok(isSealwireError(error, "rate_limited"));
      }
    }
    assert.ok(settled >= 100_000 && settled < 115_000, `${settled}`);
    budgets.requireCancel(mallory);
  });

  test("cancels 1,000 times at once, then 1,000 times an hour", () => {
    let now_ms = 0;
    const budgets = new Budgets({}, () => now_ms);
    assert.equal(untilLimited(() => budgets.requireCancel(mallory)).passed, 1_000);
    now_ms += 3_600_000;
    assert.equal(untilLimited(() => budgets.requireCancel(mallory)).passed, 1_000);
  });

  test("reads 1,000 times at once, and a thousand accounts of one address are one stranger", () => {
    const budgets = new Budgets({}, () => 0);
    const read = (account: string, address: string) => () =>
      budgets.requireRead({ account: parseAccountName(account), address });
    assert.equal(untilLimited(read("mallory", "192.0.2.1")).passed, 1_000);
    let passed = 1_000;
    for (let count = 0; count < 10; count++) {
      passed += untilLimited(read(`m${count}`, "192.0.2.1")).passed;
    }
    assert.equal(passed, 5_000);
    read("alice", "192.0.2.2")();
  });
});

test("an address registers 100 accounts at once, then 20 a minute; an IPv6 network is one", () => {
  let now_ms = 0;
  const budgets = new Budgets({}, () => now_ms);
  const register = (address: string) => () => {
    budgets.requireRegistration(address);
    budgets.countRegistration(address);
  };
  assert.equal(untilLimited(register("2001:db8::1")).passed, 100);
  assert.equal(untilLimited(register("2001:db8::2")).passed, 0);
  assert.equal(untilLimited(register("2001:db8:1::1")).passed, 100);
  now_ms += 60_000;
  assert.equal(untilLimited(register("2001:db8::1")).passed, 20);
});

test("options raise the rates", () => {
  const budgets = new Budgets({ orders_per_s: 100, registrations_per_minute: 1_000 }, () => 0);
  assert.equal(untilLimited(() => budgets.requireOrder(alice, alice, 0)).passed, 5_000);
  const register = () => {
    budgets.requireRegistration("192.0.2.1");
    budgets.countRegistration("192.0.2.1");
  };
  assert.equal(untilLimited(register).passed, 5_000);
});
