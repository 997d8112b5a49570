/**
 * Reads and hashes files in pieces. Both ends of a transfer hash what the receiver already has of a
 * file, step by step, so that they can compare it.
 */
import { createHash } from "node:crypto";
import { read, readSync } from "node:fs";
import { HASH_STEP_BYTES } from "../channel/frames.ts";

const PIECE_BYTES = 256 * 1024;
/** The largest read that is faster on this thread than on another. */
const SMALL_BYTES = 16 * 1024;

export interface PrefixHash {
  /** How many bytes were hashed, from the start of the file. */
  readonly length_bytes: number;
  readonly sha256: Uint8Array;
}

/**
 * Yields the hash of the first 16 MiB of an open file, of the first 32 MiB and so on, and at last
 * that of its first `size_bytes` bytes. Stops earlier where the file is shorter. Does not use the
 * file's position, and needs little memory. Throws the system's error.
 *
 * `onProgress` is called with how many bytes were hashed, more often than hashes come.
 */
export async function* hashPrefixes(
  fd: number,
  size_bytes: number,
  onProgress: (done_bytes: number) => void = () => {},
): AsyncGenerator<PrefixHash> {
  const hash = createHash("sha256");
  const buffers = new BufferPair(PIECE_BYTES);
  let done_bytes = 0;
  let next = readAt(fd, 0, buffers.next(size_bytes));
  try {
    while (true) {
      const piece = await next;
      done_bytes += piece.length;
      next = readAt(fd, done_bytes, buffers.next(size_bytes - done_bytes));
      // A failure is reported when this piece is used.
      next.catch(() => {});
      hash.update(piece);
      onProgress(done_bytes);
      const ended = done_bytes === size_bytes;
      if (ended || (done_bytes % HASH_STEP_BYTES === 0 && piece.length > 0)) {
        yield { length_bytes: done_bytes, sha256: hash.copy().digest() };
      }
      if (ended || piece.length === 0) return;
    }
  } finally {
    // The file must not be closed during a read.
    await Promise.allSettled([next]);
  }
}

/** Two buffers that take turns: one is read into while the other is in use. */
export class BufferPair {
  private current: Uint8Array | null = null;
  private other: Uint8Array | null = null;

  constructor(private readonly size_bytes: number) {}

  /** Returns the buffer that is not in use, cut to `wanted_bytes` where that is less. */
  next(wanted_bytes: number): Uint8Array {
    const size_bytes = Math.min(wanted_bytes, this.size_bytes);
    const reused = this.other ?? new Uint8Array(size_bytes);
    const buffer = reused.length < size_bytes ? new Uint8Array(size_bytes) : reused;
    [this.current, this.other] = [buffer, this.current];
    return buffer.subarray(0, size_bytes);
  }
}

/** Reads from `position` into `target`. Returns less than all of it only at the end of the file. */
export async function readAt(
  fd: number,
  position: number,
  target: Uint8Array,
): Promise<Uint8Array> {
  const size_bytes = target.length;
  if (size_bytes <= SMALL_BYTES) return fillNow(fd, position, target);
  return await new Promise((resolve, reject) => {
    const fill = (filled: number) => {
      if (filled === size_bytes) return resolve(target);
      read(fd, target, filled, size_bytes - filled, position + filled, (error, read_bytes) => {
        if (error) reject(error);
        else if (read_bytes === 0) resolve(target.subarray(0, filled));
        else fill(filled + read_bytes);
      });
    };
    fill(0);
  });
}

/**
 * Does the same as {@linkcode readAt} on this thread. Stops when `enough_bytes` were read: by
 * default all of `target`.
 */
export function fillNow(
  fd: number,
  position: number,
  target: Uint8Array,
  enough_bytes = target.length,
): Uint8Array {
  let filled = 0;
  let read_bytes: number;
  do {
    read_bytes = readSync(fd, target, filled, target.length - filled, position + filled);
    filled += read_bytes;
  } while (read_bytes > 0 && filled < enough_bytes);
  return target.subarray(0, filled);
}
