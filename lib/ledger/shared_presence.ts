/**
 * Who takes offers at any of several servers on one database. Each server leases the places of its own listeners, so those
 * of a server that dies are free again soon. The log knows nothing of it.
 */
import type { AccountName } from "../keys/rsa.ts";
import type { OnlineRow } from "../protocol/wire.ts";

/** A place that is not renewed for so long is free. */
export const LEASE_S = 15;
export const RENEW_INTERVAL_MS = 5_000;

/** What one server has published. `place` tells an account's listeners at one server apart; a later one has a higher number. */
export interface Published {
  readonly row: OnlineRow;
  readonly place: number;
}

/** Every method may throw `store_unavailable`. */
export interface SharedPresence {
  /** Puts the account's listener in the place of the one before it, at whichever server. */
  publish(published: Published): Promise<void>;
  /** Does nothing when another listener has taken the place. */
  withdraw(account: AccountName, place: number): Promise<void>;
  /** Renews the leases of this server's listeners. Gives those that have lost their place. */
  renew(published: readonly Published[]): Promise<readonly Published[]>;
  /** Gives back all that this server holds. */
  release(): Promise<void>;
  find(account: AccountName): Promise<OnlineRow | null>;
  /** Those online whose names come after `after`, in order of their names. */
  page(after: string, limit: number): Promise<OnlineRow[]>;
  count(): Promise<number>;
  /** Whether the account's place is held by another server. */
  isElsewhere(account: AccountName): Promise<boolean>;
  /** Calls `listener` with an account that came or went at any server, and with null when some may have been missed. */
  onChanged(listener: (account: AccountName | null) => void): void;
}
