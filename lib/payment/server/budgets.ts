/**
 * How many payment ids an account may cancel. Each cancel is an entry that costs its maker nothing,
 * since no money moves.
 */
import { SealwireError } from "../../base/errors.ts";
import type { AccountName } from "../../keys/rsa.ts";

/** Ids that one account cancels in {@linkcode WINDOW_S}. */
export const CANCELS_MAX = 1_000;
const WINDOW_S = 3_600;

export class CancelBudget {
  private readonly taken = new Map<AccountName, number>();
  private window = 0;

  constructor(private readonly now_s: () => number) {}

  /**
   * Takes one cancel out of the account's budget, before it is recorded: many may be under way at
   * once.
   *
   * @throws {SealwireError} `too_many_cancels`: nothing was recorded.
   */
  take(account: AccountName): void {
    const count = this.count(account);
    if (count >= CANCELS_MAX) {
      throw new SealwireError(
        "too_many_cancels",
        `an account cancels at most ${CANCELS_MAX} payments an hour: try again later`,
      );
    }
    this.taken.set(account, count + 1);
  }

  /** Puts one back that recorded nothing. */
  giveBack(account: AccountName): void {
    this.taken.set(account, Math.max(this.count(account) - 1, 0));
  }

  private count(account: AccountName): number {
    const window = Math.floor(this.now_s() / WINDOW_S);
    if (window !== this.window) this.taken.clear();
    this.window = window;
    return this.taken.get(account) ?? 0;
  }
}
