import assert from "node:assert/strict";
import {
  existsSync,
  readdirSync,
  readFileSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { withFileLock } from "../lib/file_lock.ts";
import { refusalOf } from "./refusal.ts";
import { runTool, spawnTool, temporaryFolder } from "./support.ts";

const WORKER = "tests/keys_worker.ts";

/** Makes the lock of `<folder>/file` look that old, as its holder left it. */
function leaveLock(folder: string, age_s: number): string {
  const lock = join(folder, "file.lock");
  writeFileSync(lock, "left behind");
  const then_s = Date.now() / 1000 - age_s;
  utimesSync(lock, then_s, then_s);
  return lock;
}

test("the work runs under the lock, its result comes back, and the lock is gone after", () => {
  const folder = join(temporaryFolder(), "made");
  const path = join(folder, "file");
  const result = withFileLock(path, (requireHeld) => {
    requireHeld();
    assert.deepEqual(readdirSync(folder), ["file.lock"]);
    return 7;
  });
  assert.equal(result, 7);
  assert.deepEqual(readdirSync(folder), []);
});

test("the lock is gone after work that throws, and its error comes out", () => {
  const folder = temporaryFolder();
  assert.throws(() =>
    withFileLock(join(folder, "file"), () => {
      throw new Error("of the work");
    }), /of the work/);
  assert.deepEqual(readdirSync(folder), []);
});

test("eight processes that count up in one file lose no count", { timeout: 60_000 }, async () => {
  const folder = temporaryFolder();
  writeFileSync(join(folder, "counter"), "0");
  await Promise.all(Array.from({ length: 8 }, () => runTool(WORKER, ["count", folder, "50"])));
  assert.equal(readFileSync(join(folder, "counter"), "utf8"), "400");
  assert.deepEqual(readdirSync(folder), ["counter"]);
});

test(
  "a lock that is held makes others wait until its holder ends",
  { timeout: 60_000 },
  async () => {
    const folder = temporaryFolder();
    const lock = leaveLock(folder, 0);
    const waiter = spawnTool(WORKER, ["lock", folder]);
    let released = false;
    setTimeout(() => {
      released = true;
      // What a holder does last.
      unlinkSync(lock);
    }, 2000);
    const { locked } = await waiter.nextJson();
    assert.equal(locked, true);
    assert.ok(released);
  },
);

for (const [when, age_s] of [["past", 11], ["future", -3600]] as const) {
  test(`a lock from the ${when} belongs to nobody, and is taken away`, () => {
    const folder = temporaryFolder();
    leaveLock(folder, age_s);
    assert.equal(withFileLock(join(folder, "file"), () => "worked"), "worked");
    assert.deepEqual(readdirSync(folder), []);
  });
}

test("the lock of a holder that was killed is waited for, then taken away", {
  timeout: 60_000,
}, async () => {
  const folder = temporaryFolder();
  const holder = spawnTool(WORKER, ["hold", folder]);
  await holder.nextLine();
  await holder.stop("SIGKILL");
  const soon_abandoned_s = Date.now() / 1000 - 8;
  utimesSync(join(folder, "file.lock"), soon_abandoned_s, soon_abandoned_s);
  const waiting_since_ms = performance.now();
  const { stdout } = await runTool(WORKER, ["lock", folder]);
  assert.deepEqual(JSON.parse(stdout), { locked: true });
  assert.ok(performance.now() - waiting_since_ms > 1000);
});

test("of processes that find the same old lock, one at a time goes on", {
  timeout: 60_000,
}, async () => {
  const folder = temporaryFolder();
  for (let round = 0; round < 3; round++) {
    writeFileSync(join(folder, "counter"), "0");
    writeFileSync(join(folder, "counter.lock"), "left behind");
    utimesSync(join(folder, "counter.lock"), 0, 0);
    await Promise.all(Array.from({ length: 6 }, () => runTool(WORKER, ["count", folder, "20"])));
    assert.equal(readFileSync(join(folder, "counter"), "utf8"), "120");
    assert.deepEqual(readdirSync(folder), ["counter"]);
  }
});

test("nobody waits for ever: a lock that is always fresh is refused in the end, named", {
  timeout: 60_000,
}, async () => {
  const folder = temporaryFolder();
  const lock = leaveLock(folder, 0);
  const refresh = setInterval(() => leaveLock(folder, 0), 1000);
  const { stdout } = await runTool(WORKER, ["lock", folder]);
  clearInterval(refresh);
  const { code, message } = JSON.parse(stdout);
  assert.equal(code, "file_locked");
  assert.ok(message.includes(lock));
  assert.ok(existsSync(lock));
});

test("who lost the lock while it slept is told before it writes, and leaves the new holder's", async () => {
  const folder = temporaryFolder();
  const lock = join(folder, "file.lock");
  const error = await refusalOf(() =>
    withFileLock(join(folder, "file"), (requireHeld) => {
      writeFileSync(lock, "of another process");
      requireHeld();
    })
  );
  assert.equal(error.code, "file_locked");
  assert.equal(readFileSync(lock, "utf8"), "of another process");
});
