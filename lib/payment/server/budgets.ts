/** How many payment ids an account may cancel. Each cancel is an entry that costs its maker nothing, since no money moves. */
import { SealwireError } from "../../base/errors.ts";
import type { AccountName } from "../../keys/rsa.ts";

/** Ids that one account cancels in {@linkcode WINDOW_S}. */
export const CANCELS_MAX = 1_000;
const WINDOW_S = 3_600;

export class CancelBudget {
  private readonly spent = new Map<AccountName, number>();
  private window = 0;

  constructor(private readonly now_s: () => number) {}

  /** @throws {SealwireError} `too_many_cancels`: nothing was recorded. */
  require(account: AccountName): void {
    if (this.count(account) < CANCELS_MAX) return;
    throw new SealwireError(
      "too_many_cancels",
      `an account cancels at most ${CANCELS_MAX} payments an hour: try again later`,
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
