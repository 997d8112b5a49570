/**
 * Token buckets: how often something may happen, for each of many keys. A bucket starts full with
 * `burst` tokens and gains `per_s` a second. What happens takes tokens out.
 */
import { BoundedMap } from "./bounded_map.ts";

/** Keys that are remembered. The one used longest ago is forgotten first; its bucket is full then. */
const KEYS_MAX = 100_000;

/** Less than this of a token is lacking because of rounding. */
const TOKEN_FRACTION_MIN = 1e-6;

export interface Rate {
  /** Tokens that a bucket gains a second. */
  readonly per_s: number;
  /** Tokens that a full bucket holds. */
  readonly burst: number;
}

interface Bucket {
  tokens: number;
  readonly filled_at_ms: number;
}

export class TokenBuckets {
  /** The one used longest ago first. */
  private readonly buckets = new BoundedMap<string, Bucket>(KEYS_MAX);

  /** `now_ms`: a clock that never jumps. */
  constructor(
    private readonly rate: Rate,
    private readonly now_ms: () => number = () => performance.now(),
  ) {}

  /**
   * Takes `count` tokens. Returns 0, or how many milliseconds to wait where there are not enough;
   * then none are taken. More tokens than a bucket holds are taken from a full bucket.
   */
  take(key: string, count = 1): number {
    const wait_ms = this.wait_ms(key, count);
    if (wait_ms === 0) this.spend(key, count);
    return wait_ms;
  }

  /** How long until `count` tokens can be taken. 0: at once. */
  wait_ms(key: string, count = 1): number {
    const { per_s, burst } = this.rate;
    const lacking = Math.min(count, burst) - this.tokensOf(key);
    return lacking <= TOKEN_FRACTION_MIN ? 0 : Math.ceil(lacking / per_s * 1000);
  }

  /** Takes `count` tokens, whether they are there or not. */
  spend(key: string, count = 1): void {
    const tokens = this.tokensOf(key) - count;
    this.buckets.delete(key);
    this.buckets.set(key, { tokens, filled_at_ms: this.now_ms() });
  }

  private tokensOf(key: string): number {
    const bucket = this.buckets.get(key);
    const { per_s, burst } = this.rate;
    if (bucket === undefined) return burst;
    const gained = (this.now_ms() - bucket.filled_at_ms) / 1000 * per_s;
    return Math.min(bucket.tokens + gained, burst);
  }
}
