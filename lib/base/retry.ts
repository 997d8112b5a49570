/** Tries again what may succeed later, with growing pauses between the tries. */
import { setTimeout as sleep } from "node:timers/promises";

/** Waits. Rejects with the signal's reason as soon as the signal is aborted. */
export async function pause(duration_ms: number, signal?: AbortSignal): Promise<void> {
  try {
    await sleep(duration_ms, undefined, { signal });
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}

export interface RetryOptions {
  /** The pause before the second try. Each further pause is twice as long as the one before. */
  readonly pause_ms_min: number;
  /** The longest pause. Equal to `pause_ms_min`, it makes all pauses alike. */
  readonly pause_ms_max: number;
  /** How many failures in a row are followed by another try. */
  readonly retries_max?: number;
  /** No try begins later than this after the call. */
  readonly timeout_ms?: number;
  readonly signal: AbortSignal;
  /** Whether another try may succeed after this error. */
  isPassing(error: unknown): boolean;
  /** Counts what all tries together have achieved. A rise makes pauses and count start over. */
  progress?(): number;
  /** Called with the error before each pause. */
  onRetry?(error: unknown): void;
}

/**
 * Runs `work` until it succeeds, and returns its result. `work` gets the number of failures so far:
 * 0 at the first try.
 *
 * @throws the error of the last try, where it is not a passing one or where retries or time are
 * used up; the signal's reason when the signal is aborted during a pause. A signal that is aborted
 * during a try is for `work` to notice.
 */
export async function retry<Result>(
  work: (failures: number) => Promise<Result>,
  options: RetryOptions,
): Promise<Result> {
  const { pause_ms_min, pause_ms_max, retries_max = Infinity, timeout_ms = Infinity } = options;
  const { signal, progress = () => 0 } = options;
  const until_ms = performance.now() + timeout_ms;
  let retries = 0;
  let pause_ms = pause_ms_min;
  for (let failures = 0;; failures++) {
    const before = progress();
    try {
      return await work(failures);
    } catch (error) {
      if (!options.isPassing(error)) throw error;
      if (progress() > before) {
        retries = 0;
        pause_ms = pause_ms_min;
      }
      if (retries++ === retries_max || performance.now() + pause_ms > until_ms) throw error;
      options.onRetry?.(error);
      await pause(pause_ms, signal);
      pause_ms = Math.min(pause_ms * 2, pause_ms_max);
    }
  }
}
