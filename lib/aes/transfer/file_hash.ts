/** Hashes a file, or its start, in pieces. It needs little memory and reports its progress. */
import { createHash, type Hash } from "node:crypto";
import { closeSync, constants, openSync, read, readSync } from "node:fs";

const PIECE_BYTES = 256 * 1024;
/** The largest read that is faster on this thread than on another. */
const SMALL_BYTES = 16 * 1024;

export interface FileDigest {
  /** The hash state, to go on from. */
  readonly hash: Hash;
  readonly sha256: Uint8Array;
  /** How many bytes were hashed. Fewer than requested where the file is shorter. */
  readonly size_bytes: number;
}

/**
 * Hashes the first `size_bytes` bytes of a file that is not a symbolic link. Rejects with the
 * system's error.
 */
export async function hashFile(
  path: string,
  size_bytes: number,
  onProgress: (done_bytes: number, total_bytes: number) => void = () => {},
): Promise<FileDigest> {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    return await hashOpenFile(fd, size_bytes, onProgress);
  } finally {
    closeSync(fd);
  }
}

/** Does the same as {@linkcode hashFile} for an open file. Does not use the file's position. */
export async function hashOpenFile(
  fd: number,
  size_bytes: number,
  onProgress: (done_bytes: number, total_bytes: number) => void = () => {},
): Promise<FileDigest> {
  const hash = createHash("sha256");
  const buffers = new BufferPair(PIECE_BYTES);
  let done_bytes = 0;
  let next = readAt(fd, 0, buffers.next(size_bytes));
  while (done_bytes < size_bytes) {
    const piece = await next;
    if (piece.length === 0) break;
    done_bytes += piece.length;
    next = readAt(fd, done_bytes, buffers.next(size_bytes - done_bytes));
    hash.update(piece);
    onProgress(done_bytes, size_bytes);
  }
  await next;
  return { hash, sha256: hash.copy().digest(), size_bytes: done_bytes };
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
