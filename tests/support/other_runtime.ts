/** Whether a runtime can be used by a test, and if not, why its test is skipped. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { RUNTIME, type Runtime } from "./support.ts";

const INSTALLED = fileURLToPath(new URL("../../node_modules/jose", import.meta.url));

/** False, or the reason to skip. */
export function whyNot(runtime: Runtime): string | false {
  const found = runtime === RUNTIME || spawnSync(runtime, ["--version"]).status === 0;
  if (!found) return `${runtime} is not in PATH`;
  if (runtime === "bun" && !existsSync(INSTALLED)) return "`bun install` has not been run";
  return false;
}
