import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { TokenBuckets } from "../../lib/base/token_bucket.ts";

test("a bucket gives its burst at once, then its rate, and says how long to wait", () => {
  let now_ms = 0;
  const buckets = new TokenBuckets({ per_s: 2, burst: 3 }, () => now_ms);
  for (let count = 0; count < 3; count++) assert.equal(buckets.take("a"), 0);
  assert.equal(buckets.take("a"), 500);
  assert.equal(buckets.take("b"), 0);
  now_ms += 499;
  assert.ok(buckets.take("a") <= 2);
  now_ms += 2;
  assert.equal(buckets.take("a"), 0);
  assert.ok(Math.abs(buckets.wait_ms("a", 3) - 1_500) <= 2);
  now_ms += 3_600_000;
  assert.equal(buckets.take("a", 3), 0);
  assert.equal(buckets.take("a"), 500);
});

test("more than a bucket holds is taken from a full one, and owed", () => {
  let now_ms = 0;
  const buckets = new TokenBuckets({ per_s: 1, burst: 10 }, () => now_ms);
  assert.equal(buckets.take("a", 20), 0);
  assert.equal(buckets.take("a"), 11_000);
  now_ms += 20_000;
  assert.equal(buckets.take("a", 10), 0);
});

test("no more is taken than burst and rate allow, whatever is asked when", () => {
  const step = fc.record({ wait_ms: fc.nat(5_000), count: fc.integer({ min: 1, max: 5 }) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
      let now_ms = 0;
      let taken = 0;
      const buckets = new TokenBuckets({ per_s: 3, burst: 7 }, () => now_ms);
      for (const { wait_ms, count } of steps) {
        now_ms += wait_ms;
        const left_ms = buckets.take("a", count);
        if (left_ms === 0) taken += count;
        else {
          now_ms += left_ms;
          assert.equal(buckets.take("a", count), 0);
          taken += count;
        }
        assert.ok(taken <= 7 + now_ms / 1000 * 3 + 1e-6);
      }
    }),
  );
});
