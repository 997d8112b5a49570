import assert from "node:assert/strict";
import { test } from "node:test";
import { parseAccountName } from "../../../lib/keys/rsa.ts";
import { VoidBudget, VOIDS_MAX } from "../../../lib/payment/server/budgets.ts";

test("an account that voids without end is stopped for the hour, and nobody else is", () => {
  let now_s = 7_200;
  const budget = new VoidBudget(() => now_s);
  const [mallory, alice] = [parseAccountName("mallory"), parseAccountName("alice")];
  for (let count = 0; count < VOIDS_MAX; count++) {
    budget.require(mallory);
    budget.spend(mallory);
  }
  assert.throws(() => budget.require(mallory), { code: "too_many_voids" });
  budget.require(alice);
  now_s += 3_600;
  budget.require(mallory);
});
