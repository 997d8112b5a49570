/**
 * Compares what the receiver already has of a file with the sender's own file, hash by hash. It
 * runs while new content is being sent, so a file of any size goes on at once.
 *
 * This is sound, because the sender ends a file only after both ends have hashed every byte that
 * was there, and all of these hashes were equal. Until then the receiver publishes nothing. Sizes,
 * times and what earlier connections said prove nothing here.
 */
import { timingSafeEqual } from "node:crypto";
import type { Condition } from "../../base/condition.ts";
import { HASH_STEP_BYTES, type Hashed, protocolError } from "../channel/frames.ts";
import type { PrefixHash } from "./file_hash.ts";

export class ContentCheck {
  /** Where the receiver's content is known to differ: behind so many bytes. Null while it is not. */
  equal_bytes: number | null = null;
  private readonly received: Hashed[] = [];
  private received_bytes = -1;
  private stopped = false;

  /** `length_bytes`: how much the receiver has. `changed` is notified after each frame. */
  constructor(readonly length_bytes: number, private readonly changed: Condition) {}

  /** Takes the receiver's next hash. Throws `protocol_error` where another one was due. */
  take(hashed: Hashed): void {
    const step_bytes = Math.max(this.received_bytes, 0) + HASH_STEP_BYTES;
    const due_bytes = Math.min(step_bytes, this.length_bytes);
    if (hashed.length_bytes !== due_bytes || due_bytes === this.received_bytes) {
      throw protocolError("a hash that was not due");
    }
    this.received_bytes = due_bytes;
    this.received.push(hashed);
  }

  /** Ends {@linkcode run}, whose result is not needed any more. */
  stop(): void {
    this.stopped = true;
    this.changed.notifyAll();
  }

  /**
   * Compares the receiver's hashes with the sender's `own`. Returns whether the receiver has the
   * same bytes: false also after {@linkcode stop}.
   *
   * @throws {SealwireError} what `own` throws; what ended the channel.
   */
  async run(own: AsyncIterable<PrefixHash>): Promise<boolean> {
    let equal_bytes = 0;
    for await (const { length_bytes, sha256 } of own) {
      while (this.received.length === 0 && !this.stopped) await this.changed.wait();
      if (this.stopped) return false;
      if (!timingSafeEqual(this.received.shift()!.sha256, sha256)) {
        this.equal_bytes = equal_bytes;
        return false;
      }
      equal_bytes = length_bytes;
    }
    return true;
  }
}
