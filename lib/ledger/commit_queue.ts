/**
 * Group commit without a timer: while one commit is under way, the next one's submissions gather.
 * Nobody hears of an outcome before it is durable.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { isSealwireError, SealwireError } from "../base/errors.ts";
import { FairQueue, type Origin } from "./fair_queue.ts";
import { type Outcome, type Submission, weightOf } from "./submission.ts";

/** Payments of one commit. */
const COMMIT_PAYMENTS_MAX = 1_000;
/** Payments that wait for a commit. `fair_queue.ts` says who gives way. */
const QUEUE_PAYMENTS_MAX = 20_000;
/** When those are to try again who lost their place in it. */
const OVERLOADED_RETRY_MS = 1_000;

interface Waiting {
  readonly submission: Submission;
  readonly resolve: (outcome: Outcome) => void;
  readonly reject: (error: unknown) => void;
}

export class CommitQueue {
  private readonly waiting = new FairQueue<Waiting>(
    QUEUE_PAYMENTS_MAX,
    ({ reject }) => reject(overloaded()),
  );
  private committing: Promise<void> = Promise.resolve();
  private isCommitting = false;

  /** `commit` gives an outcome for each submission once they are durable. */
  constructor(
    private readonly commit: (submissions: readonly Submission[]) => Promise<readonly Outcome[]>,
  ) {}

  /**
   * `origin`: on whose behalf; null for the operator.
   *
   * @throws {SealwireError} `overloaded` (it was pushed out of the full queue, and nothing was recorded), and what `commit` throws.
   */
  submit(submission: Submission, origin: Origin | null): Promise<Outcome> {
    return new Promise<Outcome>((resolve, reject) => {
      this.waiting.add(origin, { submission, resolve, reject }, weightOf(submission));
      if (!this.isCommitting) this.committing = this.commitAll();
    });
  }

  /** Resolves when nothing is being committed. */
  async idle(): Promise<void> {
    await this.committing;
  }

  private async commitAll(): Promise<void> {
    this.isCommitting = true;
    while (this.waiting.weight > 0) {
      // What has arrived by the end of this turn of the event loop goes into one commit.
      await nextTurn();
      await this.commitGroup(this.takeGroup());
    }
    // In the same turn as the check: who hears of an outcome may submit the next before this
    // promise resolves.
    this.isCommitting = false;
  }

  /**
   * A fault that one submission brings about fails that one alone: the others are tried again in
   * halves.
   */
  private async commitGroup(group: readonly Waiting[]): Promise<void> {
    try {
      const outcomes = await this.commit(group.map(({ submission }) => submission));
      for (const [index, { resolve }] of group.entries()) resolve(outcomes[index]!);
    } catch (error) {
      if (group.length === 1 || isSealwireError(error)) {
        for (const { reject } of group) reject(error);
        return;
      }
      const half = Math.ceil(group.length / 2);
      await this.commitGroup(group.slice(0, half));
      await this.commitGroup(group.slice(half));
    }
  }

  /** As many of the waiting as one commit holds, at least one. */
  private takeGroup(): Waiting[] {
    const group: Waiting[] = [];
    for (let payments = 0; payments < COMMIT_PAYMENTS_MAX;) {
      const left = group.length === 0 ? Infinity : COMMIT_PAYMENTS_MAX - payments;
      const next = this.waiting.take(left);
      if (next === null) break;
      group.push(next);
      payments += weightOf(next.submission);
    }
    return group;
  }
}

function overloaded(): SealwireError {
  return new SealwireError("overloaded", "too many payments wait to be settled: try again", {
    details: { retry_after_ms: OVERLOADED_RETRY_MS },
  });
}
