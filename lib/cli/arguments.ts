/** Reads the text of one argument or option into a value. */
import { SealwireError } from "../base/errors.ts";

const TIMEOUT_S_MAX = 86_400;
const PORT_MAX = 65_535;

/**
 * A whole number from `min` to `max`.
 *
 * @throws {SealwireError} `usage`, naming the argument.
 */
export function parseInteger(argument: string, text: string, min: number, max: number): number {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : NaN;
  if (value >= min && value <= max) return value;
  throw usageError(`${argument} takes a whole number from ${min} to ${max}, not "${text}"`);
}

/** A TCP port. 0 lets the system choose, where `min` permits it. Throws `usage`. */
export function parsePort(argument: string, text: string, min = 0): number {
  return parseInteger(argument, text, min, PORT_MAX);
}

/** The value of `--timeout`, given in seconds, in milliseconds. Throws `usage`. */
export function parseTimeoutMs(text: string): number {
  return parseInteger("--timeout", text, 1, TIMEOUT_S_MAX) * 1000;
}

export function usageError(message: string): SealwireError {
  return new SealwireError("usage", message);
}
