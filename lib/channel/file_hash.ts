/** The SHA-256 of a file, or of its start, in pieces: bounded memory, and progress on the way. */
import { createHash, type Hash } from "node:crypto";
import { closeSync, constants, openSync, read, readSync } from "node:fs";

const PIECE_BYTES = 256 * 1024;
/** Reading so little on this thread takes less time than asking another to. */
const SMALL_BYTES = 16 * 1024;

export interface FileDigest {
  /** Goes on from here. */
  readonly hash: Hash;
  readonly sha256: Uint8Array;
  /** How many bytes were hashed: less than asked where the file is shorter. */
  readonly size_bytes: number;
}

/**
 * Hashes the first `size_bytes` bytes of a file that is no symbolic link. Rejects with the system's
 * error.
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

/** As {@linkcode hashFile}, from an open file, whose own position is not used. */
export async function hashOpenFile(
  fd: number,
  size_bytes: number,
  onProgress: (done_bytes: number, total_bytes: number) => void = () => {},
): Promise<FileDigest> {
  const hash = createHash("sha256");
  let done_bytes = 0;
  let next = readAt(fd, 0, Math.min(PIECE_BYTES, size_bytes));
  while (done_bytes < size_bytes) {
    const piece = await next;
    if (piece.length === 0) break;
    done_bytes += piece.length;
    next = readAt(fd, done_bytes, Math.min(PIECE_BYTES, size_bytes - done_bytes));
    hash.update(piece);
    onProgress(done_bytes, size_bytes);
  }
  await next;
  return { hash, sha256: hash.copy().digest(), size_bytes: done_bytes };
}

/**
 * Up to `size_bytes` bytes from `position`, in an array of their own; fewer only at the end of the
 * file.
 */
export async function readAt(
  fd: number,
  position: number,
  size_bytes: number,
): Promise<Uint8Array> {
  const piece = new Uint8Array(size_bytes);
  if (size_bytes <= SMALL_BYTES) return fillNow(fd, position, piece);
  return await new Promise((resolve, reject) => {
    const fill = (filled: number) => {
      if (filled === size_bytes) return resolve(piece);
      read(fd, piece, filled, size_bytes - filled, position + filled, (error, read_bytes) => {
        if (error) reject(error);
        else if (read_bytes === 0) resolve(piece.subarray(0, filled));
        else fill(filled + read_bytes);
      });
    };
    fill(0);
  });
}

function fillNow(fd: number, position: number, piece: Uint8Array): Uint8Array {
  let filled = 0;
  while (filled < piece.length) {
    const read_bytes = readSync(fd, piece, filled, piece.length - filled, position + filled);
    if (read_bytes === 0) break;
    filled += read_bytes;
  }
  return piece.subarray(0, filled);
}
