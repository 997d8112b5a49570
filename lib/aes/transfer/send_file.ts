/** Reads the content of a file to send, in pieces, from where the receiver can go on. */
import { createHash, type Hash, timingSafeEqual } from "node:crypto";
import { closeSync, fstatSync, openSync } from "node:fs";
import { isSealwireError, SealwireError } from "../../base/errors.ts";
import { BufferPair, fillNow, hashOpenFile, readAt } from "./file_hash.ts";
import type { Answer } from "../channel/frames.ts";
import { CHUNK_BYTES } from "../channel/frame_batches.ts";
import { type LocalFile, unreadable } from "./walk_files.ts";

type OnProgress = (done_bytes: number, total_bytes: number) => void;

/**
 * An open file that must stay as it was offered. Every method may throw `file_unreadable` or
 * `file_changed`.
 */
export class OutgoingFile {
  private hash: Hash = createHash("sha256");
  private readonly buffers = new BufferPair(CHUNK_BYTES);
  private offset_bytes = 0;

  private constructor(private readonly file: LocalFile, private readonly fd: number) {}

  static open(file: LocalFile): OutgoingFile {
    try {
      return new OutgoingFile(file, openSync(file.path, "r"));
    } catch (error) {
      throw unreadable(file.path, error);
    }
  }

  /**
   * Finds the byte from which the content must be sent: the whole size where the receiver has all
   * of it. What the receiver has counts only if the same bytes are here.
   */
  async resumeFrom(answer: Answer, onProgress: OnProgress): Promise<number> {
    const { length_bytes } = answer;
    if (answer.has === "nothing" || length_bytes > this.file.size_bytes) return 0;
    const { hash, sha256 } = await this.reading(hashOpenFile(this.fd, length_bytes, onProgress));
    if (timingSafeEqual(sha256, answer.sha256)) {
      this.hash = hash;
      this.offset_bytes = length_bytes;
    }
    return this.offset_bytes;
  }

  /**
   * Yields the content from {@linkcode resumeFrom} on. The next piece is read while one is in use.
   * A piece is valid until the next one is requested.
   */
  async *pieces(): AsyncGenerator<Uint8Array> {
    const { size_bytes } = this.file;
    let next = this.readNext();
    try {
      while (this.offset_bytes < size_bytes) {
        const piece = await this.reading(next);
        const wanted_bytes = Math.min(CHUNK_BYTES, size_bytes - this.offset_bytes);
        if (piece.length < wanted_bytes) throw changed(this.file.path);
        this.offset_bytes += piece.length;
        next = this.readNext();
        this.hash.update(piece);
        yield piece;
      }
    } finally {
      // The file must not be closed during a read.
      await Promise.allSettled([next]);
    }
  }

  /** Returns the SHA-256 of the whole content. Checks that the file is still as it was offered. */
  finish(): Uint8Array {
    if (!isSame(this.fd, this.file)) throw changed(this.file.path);
    return this.hash.digest();
  }

  close(): void {
    closeSync(this.fd);
  }

  private readNext(): Promise<Uint8Array> {
    const target = this.buffers.next(this.file.size_bytes - this.offset_bytes);
    const next = readAt(this.fd, this.offset_bytes, target);
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
