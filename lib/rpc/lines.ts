/**
 * Splits a byte stream into lines, in time linear in its length, even where it comes in tiny
 * pieces.
 */

const LINE_FEED = 0x0a;
const BUFFER_BYTES_MIN = 1024;

/** Collects bytes until a line is complete. */
export class LineAssembler {
  /** The beginning of an incomplete line. */
  private buffer = new Uint8Array(0);
  private size_bytes = 0;

  /** The size of the incomplete line so far. */
  get partial_bytes(): number {
    return this.size_bytes;
  }

  /** The memory that the incomplete line takes. */
  get held_bytes(): number {
    return this.buffer.length;
  }

  /**
   * Adds `bytes`, and calls `onLine` with each line that they complete, without its line feed. The
   * line is valid during that call only.
   *
   * Stops where `onLine` returns false (`stopped`), or where a line is longer than
   * `line_bytes_max` (`too_long`).
   */
  push(
    bytes: Uint8Array,
    line_bytes_max: number,
    onLine: (line: Uint8Array) => boolean,
  ): "taken" | "stopped" | "too_long" {
    let start = 0;
    while (start < bytes.length) {
      const end = bytes.indexOf(LINE_FEED, start);
      const stop = end < 0 ? bytes.length : end;
      if (this.size_bytes + stop - start > line_bytes_max) return "too_long";
      const piece = bytes.subarray(start, stop);
      if (end < 0) {
        this.keep(piece);
        return "taken";
      }
      start = end + 1;
      if (!onLine(this.complete(piece))) return "stopped";
    }
    return "taken";
  }

  private complete(piece: Uint8Array): Uint8Array {
    if (this.size_bytes === 0) return piece;
    this.keep(piece);
    const line = this.buffer.subarray(0, this.size_bytes);
    this.buffer = new Uint8Array(0);
    this.size_bytes = 0;
    return line;
  }

  private keep(piece: Uint8Array): void {
    const needed_bytes = this.size_bytes + piece.length;
    if (needed_bytes > this.buffer.length) {
      const grown = new Uint8Array(
        Math.max(needed_bytes, 2 * this.buffer.length, BUFFER_BYTES_MIN),
      );
      grown.set(this.buffer.subarray(0, this.size_bytes));
      this.buffer = grown;
    }
    this.buffer.set(piece, this.size_bytes);
    this.size_bytes = needed_bytes;
  }
}
