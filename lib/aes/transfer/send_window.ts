/**
 * The window of a sender: how much content may be sent that the receiver has not written yet. A
 * crash of the receiver can cost that much, so it should be small. A long line stands still where
 * it is too small.
 *
 * So it follows the line, as BBR does (draft-ietf-ccwg-bbr): twice the rate at which the receiver
 * writes, times the shortest time from the sending of a piece to the news that it is written. While
 * the window limits the rate, that doubles it each round trip. When the line limits the rate, pieces
 * begin to wait in queues, the rate rises no more, and neither does the window. On a local network
 * it stays at its minimum.
 */

export const WINDOW_BYTES_MIN = 2 * 1024 * 1024;
/** Enough for 1 Gbit/s at 500 ms. */
export const WINDOW_BYTES_MAX = 64 * 1024 * 1024;
const GAIN = 2;
/** The most pieces that are remembered. Those of small files may never be told to be written. */
const PIECES_MAX = 1_024;
/** The part of a new sample in the rate. */
const SMOOTHING = 1 / 8;

/** A piece that was sent. */
interface Piece {
  readonly item: number;
  /** The place in the file where it ends. */
  readonly end_bytes: number;
  readonly sent_at_ms: number;
  /** How much had been written in all when it was sent. */
  readonly written_bytes: number;
}

export class SendWindow {
  size_bytes = WINDOW_BYTES_MIN;
  private written_bytes = 0;
  private latency_min_ms = Infinity;
  private bytes_per_ms = 0;
  /** The pieces under way, the oldest first. */
  private readonly pieces: Piece[] = [];

  /** A piece was sent at `now_ms` that ends at `end_bytes` of its file. */
  sent(item: number, end_bytes: number, now_ms: number): void {
    if (this.pieces.length === PIECES_MAX) this.pieces.shift();
    this.pieces.push({ item, end_bytes, sent_at_ms: now_ms, written_bytes: this.written_bytes });
  }

  /** A file is written up to `end_bytes`; `new_bytes` of that were not before. */
  written(item: number, end_bytes: number, new_bytes: number, now_ms: number): void {
    this.written_bytes += new_bytes;
    let newest: Piece | null = null;
    let count = 0;
    for (const piece of this.pieces) {
      if (piece.item === item && piece.end_bytes > end_bytes) break;
      // The last pieces of an earlier file are acknowledged with it, and tell nothing here.
      if (piece.item === item) newest = piece;
      count++;
    }
    this.pieces.splice(0, count);
    if (newest) this.measure(newest, now_ms);
  }

  private measure({ sent_at_ms, written_bytes }: Piece, now_ms: number): void {
    // A clock that has not moved on would give an endless rate.
    const latency_ms = Math.max(now_ms - sent_at_ms, 1);
    this.latency_min_ms = Math.min(this.latency_min_ms, latency_ms);
    const sample = (this.written_bytes - written_bytes) / latency_ms;
    this.bytes_per_ms += (sample - this.bytes_per_ms) * SMOOTHING;
    const wanted_bytes = GAIN * this.bytes_per_ms * this.latency_min_ms;
    this.size_bytes = Math.min(Math.max(wanted_bytes, WINDOW_BYTES_MIN), WINDOW_BYTES_MAX);
  }
}
