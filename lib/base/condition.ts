/**
 * A condition variable: asynchronous code waits here until something that it depends on changes.
 *
 *     while (this.queue.length === 0) await this.changed.wait();
 *     …
 *     this.queue.push(item);
 *     this.changed.notifyAll();
 *
 * The loop is necessary: every waiter wakes up, and an earlier one may have undone the change.
 */
export class Condition {
  private readonly waiting: { resolve: () => void; reject: (error: Error) => void }[] = [];
  private failure: Error | null = null;

  /** Resolves at the next {@linkcode notifyAll}. Rejects after {@linkcode fail}. */
  wait(): Promise<void> {
    if (this.failure) return Promise.reject(this.failure);
    return new Promise((resolve, reject) => this.waiting.push({ resolve, reject }));
  }

  /** Wakes everyone who waits, in the order in which they came. */
  notifyAll(): void {
    for (const { resolve } of this.waiting.splice(0)) resolve();
  }

  /** Makes every wait, present and future, reject with `failure`. The first failure counts. */
  fail(failure: Error): void {
    this.failure ??= failure;
    for (const { reject } of this.waiting.splice(0)) reject(this.failure);
  }
}
