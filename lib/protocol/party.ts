/** The parties of a payment: accounts, and the treasury that money comes from. */
import { type AccountName, parseAccountName } from "../keys/rsa.ts";

/**
 * The party that money comes from. Nobody can register this name. Only its balance may be negative.
 */
export const TREASURY = "@treasury";

export type Party = AccountName | typeof TREASURY;

/** @throws {SealwireError} `bad_name`. */
export function parseParty(value: unknown): Party {
  return value === TREASURY ? value : parseAccountName(value);
}
