import assert from "node:assert/strict";
import { SealwireError } from "../lib/errors.ts";

/** The error that `work` refuses with, now or later; anything but a SealwireError fails the test. */
export async function refusalOf(work: () => unknown): Promise<SealwireError> {
  try {
    await work();
  } catch (error) {
    assert.ok(error instanceof SealwireError, `not a SealwireError: ${String(error)}`);
    return error;
  }
  throw new assert.AssertionError({ message: "it was not refused" });
}
