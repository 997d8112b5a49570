import assert from "node:assert/strict";
import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { FileLock, withFileLock } from "../../lib/base/file_lock.ts";
import { refusalOf } from "../support/refusal.ts";
import { runTool, spawnTool, temporaryFolder } from "../support/support.ts";

const WORKER = "tests/support/keys_worker.ts";
const LIMIT = { timeout: 60_000 };

test("the work runs under the lock, its result comes back, and the lock is free after", () => {
  const folder = join(temporaryFolder(), "made");
  const path = join(folder, "file");
  const result = withFileLock(path, () => {
    assert.equal(FileLock.take(`${path}.lock`), null);
    return 7;
  });
  assert.equal(result, 7);
  FileLock.take(`${path}.lock`)!.release();
  assert.equal(statSync(`${path}.lock`).mode & 0o777, 0o600);
});

test("the lock is free after work that throws, and its error comes out", () => {
  const path = join(temporaryFolder(), "file");
  assert.throws(() =>
    withFileLock(path, () => {
      throw new Error("of the work");
    }), /of the work/);
  assert.equal(withFileLock(path, () => "worked"), "worked");
});

test("eight processes that count up in one file lose no count", LIMIT, async () => {
  const folder = temporaryFolder();
  writeFileSync(join(folder, "counter"), "0");
  await Promise.all(Array.from({ length: 8 }, () => runTool(WORKER, ["count", folder, "50"])));
  assert.equal(readFileSync(join(folder, "counter"), "utf8"), "400");
});

test(
  "a lock that is held makes others wait, until its holder lets go or is killed",
  LIMIT,
  async () => {
    const folder = temporaryFolder();
    const lock = FileLock.take(join(folder, "file.lock"))!;
    const waiter = spawnTool(WORKER, ["lock", folder]);
    let released = false;
    setTimeout(() => {
      released = true;
      lock.release();
    }, 2_000);
    assert.deepEqual(await waiter.nextJson(), { locked: true });
    assert.ok(released);

    const holder = spawnTool(WORKER, ["hold", folder]);
    await holder.nextLine();
    assert.equal(FileLock.take(join(folder, "file.lock")), null);
    await holder.stop("SIGKILL");
    assert.equal(withFileLock(join(folder, "file"), () => "worked"), "worked");
  },
);

test("a lock that cannot be made, or is something else, is refused", async () => {
  const folder = temporaryFolder();
  mkdirSync(join(folder, "a.lock"));
  assert.equal(
    (await refusalOf(() => withFileLock(join(folder, "a"), () => 1))).code,
    "write_failed",
  );
  writeFileSync(
    join(folder, "b.lock"),
    "no database, but a text that somebody keeps here".repeat(40),
  );
  assert.equal(
    (await refusalOf(() => withFileLock(join(folder, "b"), () => 1))).code,
    "write_failed",
  );
});
