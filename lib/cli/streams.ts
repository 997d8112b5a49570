/** Writes to standard output and standard error, synchronously: nothing is lost at the exit. */
import { writeSync } from "node:fs";
import process from "node:process";
import { systemErrorCode } from "../base/errors.ts";

/** Writes bytes to standard output. Ends the process with status 0 when the reader has left. */
export function writeOutputBytes(bytes: Uint8Array): void {
  if (!writeBytes(1, bytes)) process.exit(0);
}

/**
 * Writes all of `text` to standard output. Ends the process with status 0 when the reader has left,
 * as in `history | head`.
 */
export function writeOutput(text: string): void {
  if (!write(1, text)) process.exit(0);
}

/** Writes all of `text` to standard output, for as far as somebody reads it. */
export function writeLastOutput(text: string): void {
  write(1, text);
}

/** Writes all of `text` to standard error, for as far as somebody reads it. */
export function writeError(text: string): void {
  write(2, text);
}

/** Returns false when the reader has left. */
function write(fd: 1 | 2, text: string): boolean {
  return writeBytes(fd, new TextEncoder().encode(text));
}

/** Returns false when the reader has left. */
function writeBytes(fd: 1 | 2, bytes: Uint8Array): boolean {
  while (bytes.length > 0) {
    try {
      bytes = bytes.subarray(writeSync(fd, bytes));
    } catch (error) {
      const code = systemErrorCode(error);
      if (code === "EPIPE" || code === "EBADF") return false;
      if (code !== "EAGAIN") throw error;
    }
  }
  return true;
}
