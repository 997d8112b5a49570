/**
 * How many ids an account may void: each is a row that the ledger keeps for days, and costs its maker nothing, since no money
 * moves. Nobody who pays comes near it.
 */
import { SealwireError } from "../../base/errors.ts";
import type { AccountName } from "../../keys/rsa.ts";

/** Ids that one account voids in {@linkcode WINDOW_S}, by refused orders and by cancels. */
export const VOIDS_MAX = 1_000;
const WINDOW_S = 3_600;

export class VoidBudget {
  private readonly spent = new Map<AccountName, number>();
  private window = 0;

  constructor(private readonly now_s: () => number) {}

  /** @throws {SealwireError} `too_many_voids`: nothing was recorded. */
  require(account: AccountName): void {
    if (this.count(account) < VOIDS_MAX) return;
    throw new SealwireError(
      "too_many_voids",
      `an account voids at most ${VOIDS_MAX} payments an hour`,
    );
  }

  spend(account: AccountName): void {
    this.spent.set(account, this.count(account) + 1);
  }

  private count(account: AccountName): number {
    const window = Math.floor(this.now_s() / WINDOW_S);
    if (window !== this.window) this.spent.clear();
    this.window = window;
    return this.spent.get(account) ?? 0;
  }
}
