/** Writes to standard output and standard error, synchronously: nothing is lost at the exit. */
import { writeSync } from "node:fs";
import process from "node:process";
import { systemErrorCode } from "../base/errors.ts";
import { EXIT_FAILED } from "./exit_status.ts";

/** Writes all of `text` to standard output. */
export function writeOutput(text: string): void {
  write(1, text);
}

/** Writes all of `text` to standard error. */
export function writeError(text: string): void {
  write(2, text);
}

function write(fd: 1 | 2, text: string): void {
  let bytes: Uint8Array = new TextEncoder().encode(text);
  while (bytes.length > 0) {
    try {
      bytes = bytes.subarray(writeSync(fd, bytes));
    } catch (error) {
      const code = systemErrorCode(error);
      if (code === "EAGAIN") continue;
      if (code === "EPIPE" || code === "EBADF") return process.exit(EXIT_FAILED);
      throw error;
    }
  }
}
