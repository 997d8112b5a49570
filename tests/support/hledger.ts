/** hledger, which reads plain-text accounting: Debian has it as a package. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";

/** Why a test that needs it is skipped; false where it is installed. */
export const HLEDGER_MISSING: string | false = spawnSync("hledger", ["--version"]).status === 0
  ? false
  : "hledger is not installed";

/** What hledger prints about `journal`. */
export function hledger(journal: string, ...args: string[]): string {
  const { stdout, stderr, status } = spawnSync("hledger", ["-f", "-", ...args], {
    input: journal,
    encoding: "utf8",
  });
  assert.equal(status, 0, stderr);
  return stdout.trim();
}
