/** What the tests of refusals share. */
import assert from "node:assert/strict";
import { chmodSync } from "node:fs";
import process from "node:process";
import { isSealwireError, SealwireError } from "../../lib/base/errors.ts";
import { temporaryFolder } from "./support.ts";

/**
 * The error that `work` refuses with, now or later; anything but a SealwireError fails the test.
 */
export async function refusalOf(work: () => unknown): Promise<SealwireError> {
  try {
    await work();
  } catch (error) {
    assert.ok(error instanceof SealwireError, `not a SealwireError: ${String(error)}`);
    return error;
  }
  throw new assert.AssertionError({ message: "it was not refused" });
}

/** The code with which `work` was refused, or null. */
export async function codeOf(work: Promise<unknown>): Promise<string | null> {
  try {
    await work;
    return null;
  } catch (error) {
    if (isSealwireError(error)) return error.code;
    throw error;
  }
}

/** A folder in which this user, be it root, can write nothing. */
export function unwritableFolder(): string {
  if (process.getuid!() === 0) return "/sys/kernel";
  const folder = temporaryFolder();
  chmodSync(folder, 0o500);
  return folder;
}
