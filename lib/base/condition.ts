/**
 * Waiting for a condition: `while (!condition) await turnstile.wait();`, and `turn()` whenever it
 * may have changed.
 */
export class Turnstile {
  private readonly waiting: { resolve: () => void; reject: (error: Error) => void }[] = [];
  private failure: Error | null = null;

  /** Resolves at the next turn. Rejects once the turnstile is broken. */
  wait(): Promise<void> {
    if (this.failure) return Promise.reject(this.failure);
    return new Promise((resolve, reject) => this.waiting.push({ resolve, reject }));
  }

  turn(): void {
    for (const { resolve } of this.waiting.splice(0)) resolve();
  }

  /** Every wait, now and later, rejects with `failure`. */
  break(failure: Error): void {
    this.failure ??= failure;
    for (const { reject } of this.waiting.splice(0)) reject(this.failure);
  }
}
