import assert from "node:assert/strict";
import { test } from "node:test";
import { parseAccountName } from "../../../lib/keys/rsa.ts";
import { CancelBudget, CANCELS_MAX } from "../../../lib/payment/server/budgets.ts";

const [mallory, alice] = [parseAccountName("mallory"), parseAccountName("alice")];

test("an account that cancels without end is stopped for the hour, and nobody else is", () => {
  let now_s = 7_200;
  const budget = new CancelBudget(() => now_s);
  for (let count = 0; count < CANCELS_MAX; count++) budget.take(mallory);
  assert.throws(() => budget.take(mallory), { code: "too_many_cancels" });
  budget.take(alice);
  now_s += 3_600;
  budget.take(mallory);
});

test("a cancel that recorded nothing costs nothing", () => {
  const budget = new CancelBudget(() => 0);
  for (let count = 0; count < CANCELS_MAX; count++) {
    budget.take(mallory);
    budget.giveBack(mallory);
  }
  for (let count = 0; count < CANCELS_MAX; count++) budget.take(mallory);
  budget.giveBack(mallory);
  budget.take(mallory);
  assert.throws(() => budget.take(mallory), { code: "too_many_cancels" });
});
