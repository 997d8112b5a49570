/**
 * The server's clock, watched. Entries carry its time, and orders expire by it, so a clock that jumps must not decide about
 * payments: commits pause until it is right again.
 */

/** A step this long against the monotonic clock makes the clock unsteady. */
export const CLOCK_STEP_S_MAX = 60;

export interface Clock {
  /** Seconds since 1970, whole. */
  now_s(): number;
  /** Whether the clock is where it was taken for right, give or take {@linkcode CLOCK_STEP_S_MAX}. */
  isSteady(): boolean;
  /** Takes the clock for right as it is now; when it is made it is. */
  trust(): void;
}

/** A clock over two sources of milliseconds: the wall clock, and one that never jumps. */
export function watchedClock(
  wall_ms: () => number = Date.now,
  monotonic_ms: () => number = () => performance.now(),
): Clock {
  const offset_ms = () => wall_ms() - monotonic_ms();
  let trusted_ms = offset_ms();
  return {
    now_s: () => Math.floor(wall_ms() / 1000),
    isSteady: () => Math.abs(offset_ms() - trusted_ms) <= CLOCK_STEP_S_MAX * 1000,
    trust: () => {
      trusted_ms = offset_ms();
    },
  };
}
