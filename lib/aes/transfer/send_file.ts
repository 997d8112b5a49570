/** Reads a file to send: its content in pieces, from where the receiver can go on, and its hashes. */
import { closeSync, fstatSync, openSync } from "node:fs";
import { isSealwireError, SealwireError } from "../../base/errors.ts";
import { BufferPair, fillNow, hashPrefixes, type PrefixHash, readAt } from "./file_hash.ts";
import { CHUNK_BYTES } from "../channel/frame_batches.ts";
import { type LocalFile, unreadable } from "./walk_files.ts";

/**
 * An open file that must stay as it was offered. Every method may throw `file_unreadable` or
 * `file_changed`.
 */
export class OutgoingFile {
  private readonly buffers = new BufferPair(CHUNK_BYTES);

  private constructor(private readonly file: LocalFile, private readonly fd: number) {}

  static open(file: LocalFile): OutgoingFile {
    try {
      return new OutgoingFile(file, openSync(file.path, "r"));
    } catch (error) {
      throw unreadable(file.path, error);
    }
  }

  /** Yields the hashes of the first `size_bytes` bytes, as `file_hash.ts` says. */
  async *hashes(
    size_bytes: number,
    onProgress: (done_bytes: number) => void,
  ): AsyncGenerator<PrefixHash> {
    let hashed_bytes = 0;
    try {
      for await (const prefix of hashPrefixes(this.fd, size_bytes, onProgress)) {
        hashed_bytes = prefix.length_bytes;
        yield prefix;
      }
    } catch (error) {
      throw unreadable(this.file.path, error);
    }
    if (hashed_bytes < size_bytes) throw changed(this.file.path);
  }

  /**
   * Yields the content from `offset_bytes` on. The next piece is read while one is in use. A piece
   * is valid until the next one is requested.
   */
  async *pieces(offset_bytes: number): AsyncGenerator<Uint8Array> {
    const { size_bytes, path } = this.file;
    let next = this.readFrom(offset_bytes);
    try {
      for (let at_bytes = offset_bytes; at_bytes < size_bytes;) {
        const piece = await this.reading(next);
        if (piece.length < Math.min(CHUNK_BYTES, size_bytes - at_bytes)) throw changed(path);
        at_bytes += piece.length;
        next = this.readFrom(at_bytes);
        yield piece;
      }
    } finally {
      // The file must not be closed during a read.
      await Promise.allSettled([next]);
    }
  }

  /** Checks that the file is still as it was offered. */
  requireSame(): void {
    if (!isSame(this.fd, this.file)) throw changed(this.file.path);
  }

  close(): void {
    closeSync(this.fd);
  }

  private readFrom(offset_bytes: number): Promise<Uint8Array> {
    const target = this.buffers.next(this.file.size_bytes - offset_bytes);
    const next = readAt(this.fd, offset_bytes, target);
    // A failure is reported when this piece is used.
    next.catch(() => {});
    return next;
  }

  private async reading<Result>(result: Promise<Result>): Promise<Result> {
    try {
      return await result;
    } catch (error) {
      throw unreadable(this.file.path, error);
    }
  }
}

/**
 * Reads a small file into the start of `buffer`, which has room for one byte more. That byte shows
 * that the file has grown.
 *
 * @throws {SealwireError} `file_unreadable`, `file_changed`.
 */
export function readWhole(file: LocalFile, buffer: Uint8Array): Uint8Array {
  const { path, size_bytes } = file;
  try {
    const fd = openSync(path, "r");
    try {
      const content = fillNow(fd, 0, buffer.subarray(0, size_bytes + 1), size_bytes);
      if (content.length !== size_bytes || !isSame(fd, file)) throw changed(path);
      return content;
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    throw isSealwireError(error) ? error : unreadable(path, error);
  }
}

/** Whether an open file still has the size and the time that were offered. */
function isSame(fd: number, { size_bytes, modified_ms }: LocalFile): boolean {
  const found = fstatSync(fd);
  return found.size === size_bytes && Math.floor(found.mtimeMs) === modified_ms;
}

function changed(path: string): SealwireError {
  return new SealwireError("file_changed", `${path} changed while it was being sent`);
}
