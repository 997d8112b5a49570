/** Reads exact numbers of bytes from a connection, whose pieces come in any size. */
import { SealwireError } from "../../base/errors.ts";
import type { Connection } from "../../net/net.ts";

export class ByteReader {
  private rest: Uint8Array = new Uint8Array(0);

  constructor(private readonly connection: Connection) {}

  /**
   * Reads the next `size_bytes` bytes into a new array. Returns null where the stream ended before
   * the first of them.
   *
   * @throws {SealwireError} `connection_lost`, also where the stream ends after some of them.
   */
  async read(size_bytes: number): Promise<Uint8Array | null> {
    const target = new Uint8Array(size_bytes);
    return await this.fill(target) ? target : null;
  }

  /**
   * Does the same as {@linkcode read}, but fills `target`. Returns false where the stream ended
   * before the first byte.
   */
  async fill(target: Uint8Array): Promise<boolean> {
    for (let filled = 0; filled < target.length;) {
      if (this.rest.length === 0) {
        const bytes = await this.connection.read();
        if (bytes === null && filled === 0) return false;
        if (bytes === null) throw cutOff();
        this.rest = bytes;
      }
      const taken = this.rest.subarray(0, target.length - filled);
      target.set(taken, filled);
      filled += taken.length;
      this.rest = this.rest.subarray(taken.length);
    }
    return true;
  }
}

/** The error for a stream that ended where it must not. */
export function cutOff(): SealwireError {
  return new SealwireError("connection_lost", "the connection ended in the middle");
}
