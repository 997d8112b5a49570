/** The parties of a payment: accounts, and the treasury that money comes from. */
import { type AccountName, parseAccountName } from "../keys/rsa.ts";

/**
 * Where money comes from, and no name that anyone can register. Only its balance may be negative.
 */
export const TREASURY = "@treasury";

export type Party = AccountName | typeof TREASURY;

/** @throws {SealwireError} `bad_name`. */
export function parseParty(value: unknown): Party {
  return value === TREASURY ? value : parseAccountName(value);
}
