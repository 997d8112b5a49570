/** `docs/club.sh`, run as it is printed. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { HLEDGER_MISSING } from "../support/hledger.ts";

const SCRIPT = fileURLToPath(new URL("../../docs/club.sh", import.meta.url));

test(
  "a club in 20 lines: a grant, a request paid by link, a refund, a statement, hledger, an audit",
  { timeout: 120_000, skip: HLEDGER_MISSING },
  async () => {
    const child = spawn("bash", [SCRIPT], { stdio: ["ignore", "pipe", "pipe"] });
    let [stdout, stderr] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => stdout += text);
    child.stderr.setEncoding("utf8").on("data", (text: string) => stderr += text);
    const status = await new Promise((resolve) => child.on("close", resolve));
    assert.equal(status, 0, stdout + stderr);
    assert.match(stdout, /granted 50\.00 to ada/);
    assert.match(stdout, /paid 12\.50 to ben/);
    assert.match(stdout, /paid 2\.50 to cleo/);
    assert.match(stdout, /^Closing balance +90\.00$/m);
    assert.match(stdout, /^ +90\.00 EUR +assets:sealwire:cleo$/m);
    assert.match(stdout, /^valid: 10 entries, 3 accounts/m);
  },
);
