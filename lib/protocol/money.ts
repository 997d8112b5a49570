/**
 * Money: an integer of minor units (hundredths), never a fraction. Decimal text is what people and
 * the wire see.
 */
import { SealwireError } from "../base/errors.ts";

/** Minor units, 1 to {@linkcode AMOUNT_MAX}: what a payment moves. */
export type Amount = bigint & { readonly __brand: "Amount" };

/**
 * The most minor units that a payment moves or an account holds: 2^53 - 1, which every JSON reader
 * can hold exactly.
 */
export const AMOUNT_MAX = 9_007_199_254_740_991n;

const MINOR_UNITS = 100n;
const DECIMALS = 2;

/**
 * Parses an amount that a person typed: `12`, `12.5` or `12.50`.
 *
 * @throws {SealwireError} `bad_amount` for anything else: a sign, an exponent, a third decimal,
 * zero, more than {@linkcode AMOUNT_MAX}.
 */
export function parseAmount(text: unknown): Amount {
  const match = typeof text === "string" ? /^(0|[1-9]\d{0,15})(?:\.(\d{1,2}))?$/.exec(text) : null;
  if (match === null) {
    throw badAmount(
      `an amount is a number such as 12.50 with at most two decimals, not ${
        JSON.stringify(text) ?? text
      }`,
    );
  }
  const minor = BigInt(match[1]!) * MINOR_UNITS + BigInt((match[2] ?? "").padEnd(DECIMALS, "0"));
  if (minor === 0n) throw badAmount("an amount must be more than zero");
  if (minor > AMOUNT_MAX) throw badAmount(`an amount is at most ${formatAmount(AMOUNT_MAX)}`);
  return minor as Amount;
}

/**
 * Parses an amount from the wire or a token: exactly two decimals, so that one amount has one text.
 *
 * @throws {SealwireError} `bad_amount`.
 */
export function parseWireAmount(text: unknown): Amount {
  const amount = parseAmount(text);
  if (formatAmount(amount) !== text) {
    throw badAmount(`an amount on the wire has two decimals: ${formatAmount(amount)}`);
  }
  return amount;
}

/** Formats minor units as decimal text with two decimals: `-1234` is `-12.34`. */
export function formatAmount(minor: bigint): string {
  const digits = (minor < 0n ? -minor : minor).toString().padStart(DECIMALS + 1, "0");
  return `${minor < 0n ? "-" : ""}${digits.slice(0, -DECIMALS)}.${digits.slice(-DECIMALS)}`;
}

/** Parses an opening balance: an amount, or zero. Throws `bad_amount`. */
export function parseOpeningBalance(text: unknown): bigint {
  return text === "0" || text === "0.00" ? 0n : parseAmount(text);
}

/** The unit that a ledger counts in, for people to read: `EUR`. */
export type Unit = string & { readonly __brand: "Unit" };

export const UNIT_DEFAULT = "EUR" as Unit;

/** Parses a unit: 1 to 12 letters and digits. Throws `bad_unit`. */
export function parseUnit(value: unknown): Unit {
  if (typeof value === "string" && /^[A-Za-z0-9]{1,12}$/.test(value)) return value as Unit;
  throw new SealwireError("bad_unit", "a unit of money is 1 to 12 letters and digits, such as EUR");
}

function badAmount(message: string): SealwireError {
  return new SealwireError("bad_amount", message);
}
