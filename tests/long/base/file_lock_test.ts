import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { FileLock } from "../../../lib/base/file_lock.ts";
import { runTool, temporaryFolder } from "../../support/support.ts";

const WORKER = "tests/support/keys_worker.ts";
const LIMIT = { timeout: 60_000 };

test(
  "nobody waits for ever: what is locked for long is refused in the end, named",
  LIMIT,
  async () => {
    const folder = temporaryFolder();
    const lock = FileLock.take(join(folder, "file.lock"))!;
    const { stdout } = await runTool(WORKER, ["lock", folder]);
    lock.release();
    const { code, message } = JSON.parse(stdout);
    assert.equal(code, "file_locked");
    assert.ok(message.includes(join(folder, "file")));
  },
);
