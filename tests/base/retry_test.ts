import assert from "node:assert/strict";
import { test } from "node:test";
import { pause, retry, type RetryOptions } from "../../lib/base/retry.ts";

const LOST = new Error("lost");
const NEVER = new AbortController().signal;
const OPTIONS: RetryOptions = {
  pause_ms_min: 1,
  pause_ms_max: 4,
  signal: NEVER,
  isPassing: (error) => error === LOST,
};

/** Fails `count` times, and then gives the number of failures that it was told of. */
function failing(count: number): (failures: number) => Promise<number> {
  return (failures) => failures < count ? Promise.reject(LOST) : Promise.resolve(failures);
}

test("work is tried again until it succeeds, and hears how often it has failed", async () => {
  assert.equal(await retry(failing(0), OPTIONS), 0);
  assert.equal(await retry(failing(5), OPTIONS), 5);
});

test("an error that another try cannot cure ends it at once", async () => {
  let tries = 0;
  const fatal = new Error("fatal");
  const work = () => Promise.reject(tries++ === 0 ? LOST : fatal);
  await assert.rejects(retry(work, OPTIONS), fatal);
  assert.equal(tries, 2);
});

test("after the last retry the error of the last try is thrown", async () => {
  assert.equal(await retry(failing(3), { ...OPTIONS, retries_max: 3 }), 3);
  await assert.rejects(retry(failing(4), { ...OPTIONS, retries_max: 3 }), LOST);
});

test("a pause that would end after the time is over is not waited for", async () => {
  const start_ms = performance.now();
  const options = { ...OPTIONS, pause_ms_min: 60_000, pause_ms_max: 60_000, timeout_ms: 30_000 };
  await assert.rejects(retry(failing(1), options), LOST);
  assert.ok(performance.now() - start_ms < 30_000);
  await assert.rejects(retry(failing(1_000), { ...OPTIONS, timeout_ms: 50 }), LOST);
});

test("pauses double up to the longest", async () => {
  const failed_at_ms: number[] = [];
  const options = {
    ...OPTIONS,
    pause_ms_min: 40,
    pause_ms_max: 80,
    onRetry: () => failed_at_ms.push(performance.now()),
  };
  await retry(failing(4), options);
  const pauses_ms = failed_at_ms.slice(1).map((at_ms, index) => at_ms - failed_at_ms[index]!);
  for (const [index, least_ms] of [40, 80, 80].entries()) {
    // A timer may fire up to a millisecond early.
    assert.ok(pauses_ms[index]! >= least_ms - 1, `${pauses_ms}`);
  }
});

test("progress makes the retries count from the start", async () => {
  let tries = 0;
  const work = () => ++tries < 10 ? Promise.reject(LOST) : Promise.resolve("done");
  const options = { ...OPTIONS, retries_max: 1 };
  assert.equal(await retry(work, { ...options, progress: () => tries }), "done");
  tries = 0;
  await assert.rejects(retry(work, { ...options, progress: () => 7 }), LOST);
  assert.equal(tries, 2);
});

test("an abort ends a pause at once, with the signal's reason", async () => {
  const stop = new AbortController();
  const reason = new Error("interrupted");
  const paused = pause(60_000, stop.signal);
  stop.abort(reason);
  await assert.rejects(paused, reason);
  await assert.rejects(pause(60_000, stop.signal), reason);
  let tries = 0;
  const work = () => Promise.reject(tries++ === 0 ? LOST : new Error("tried again"));
  await assert.rejects(retry(work, { ...OPTIONS, signal: stop.signal }), reason);
  await pause(1, NEVER);
  await pause(1);
});
