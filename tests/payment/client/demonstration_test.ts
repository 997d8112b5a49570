import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { RUNTIME } from "../../support/support.ts";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const PAGE = readFileSync(new URL("../../../docs/demonstration.md", import.meta.url), "utf8");

/** The content of the page's block of code in `language`. */
function block(language: string): string {
  return new RegExp(`\n\`\`\`${language}\n(.*?)\`\`\`\n`, "s").exec(PAGE)![1]!;
}

test("the demonstration prints what its page says, when it is run as the page says", {
  timeout: 180_000,
}, async () => {
  const command = block("sh").split("\n").find((line) => line.startsWith(`${RUNTIME} `))!;
  const { stdout } = await promisify(execFile)("sh", ["-c", command], { cwd: ROOT });
  assert.equal(stdout, block("text"));
});
