/**
 * Receives one file: finds what is there of it, writes its content to an unfinished file, and
 * publishes that under its name. The caller holds the claim on the name (`receive_folder.ts`) from
 * the first call to the last.
 */
import { createHash, type Hash, timingSafeEqual } from "node:crypto";
import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  futimesSync,
  openSync,
  type Stats,
  write,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { SealwireError } from "../../base/errors.ts";
import { hashFile } from "./file_hash.ts";
import { type Answer, type End, type Offer, protocolError } from "../channel/frames.ts";
import { type ReceiveFolder, takeName } from "./receive_folder.ts";

const EMPTY_SHA256 = createHash("sha256").digest();
const READ_BITS = 0o444;
/** A microsecond. Without it a time in whole milliseconds may be rounded down to the one before. */
const ROUNDING_S = 1e-6;

export class IncomingFile {
  private readonly partialPath: string;
  private readonly targetPath: string;
  private target: Stats | null = null;
  private targetSha256: Uint8Array | null = null;
  private hash: Hash | null = null;
  private had_bytes = 0;
  private received_bytes = 0;
  private fd: number | null = null;
  private writing: Promise<void> = Promise.resolve();

  constructor(
    private readonly folder: ReceiveFolder,
    private readonly offer: Offer,
    private readonly parts: readonly string[],
  ) {
    this.partialPath = folder.partialPath(offer.name);
    this.targetPath = folder.pathOf(parts);
  }

  /** The path of the file, for people to read. */
  get shownPath(): string {
    return join(this.folder.shownPath, ...this.parts);
  }

  /**
   * Finds what is there of the file. Calls `onProgress` with how much of it was hashed.
   *
   * @throws {SealwireError} `target_exists` where another file has the name; `unsafe_path`.
   */
  async answer(onProgress: (done_bytes: number, total_bytes: number) => void): Promise<Answer> {
    const { item, size_bytes } = this.offer;
    this.target = this.folder.look(this.parts);
    if (this.target) {
      if (!this.target.isFile() || this.target.size !== size_bytes) throw this.targetExists();
      const { sha256 } = await hashFile(this.targetPath, size_bytes, onProgress);
      this.targetSha256 = sha256;
      return { item, has: "finished", length_bytes: size_bytes, sha256 };
    }
    const partial = this.folder.lookAtPartial(this.partialPath);
    if (!isResumable(partial, size_bytes)) {
      return { item, has: "nothing", length_bytes: 0, sha256: EMPTY_SHA256 };
    }
    const { hash, sha256 } = await hashFile(this.partialPath, partial.size, onProgress);
    this.hash = hash;
    this.had_bytes = partial.size;
    return { item, has: "partial", length_bytes: partial.size, sha256 };
  }

  /**
   * Prepares for the content, which follows from `offset_bytes` on: 0, or the length answered.
   *
   * @throws {SealwireError} `target_exists`, `protocol_error`; the system's errors.
   */
  start(offset_bytes: number): void {
    if (this.target) throw this.targetExists();
    if (this.fd !== null || (offset_bytes !== 0 && offset_bytes !== this.had_bytes)) {
      throw protocolError("a file starts twice or at a wrong place");
    }
    if (offset_bytes > 0) {
      this.fd = openSync(this.partialPath, constants.O_WRONLY | constants.O_NOFOLLOW);
    } else {
      this.fd = this.folder.createPartial(this.partialPath);
      this.hash = createHash("sha256");
    }
    this.received_bytes = offset_bytes;
  }

  /** Writes all of a small file, in place of {@linkcode start} and {@linkcode write}. */
  writeWhole(content: Uint8Array): void {
    this.start(0);
    this.hash!.update(content);
    for (let written_bytes = 0; written_bytes < content.length;) {
      const rest_bytes = content.length - written_bytes;
      written_bytes += writeSync(this.fd!, content, written_bytes, rest_bytes, written_bytes);
    }
    this.received_bytes = content.length;
  }

  /**
   * Writes a piece of the content. Resolves when the piece before it is written, so that the disk
   * and the network work at the same time. Returns how many bytes of the file are written then.
   * `bytes` must not change until the next call has resolved.
   */
  async write(bytes: Uint8Array): Promise<number> {
    if (this.fd === null || !this.hash) throw protocolError("content before its start");
    if (this.received_bytes + bytes.length > this.offer.size_bytes) {
      throw protocolError("a file is longer than was offered");
    }
    this.hash.update(bytes);
    await this.writing;
    this.writing = writeAll(this.fd, bytes, this.received_bytes);
    // A failure is reported by the next call.
    this.writing.catch(() => {});
    const written_bytes = this.received_bytes;
    this.received_bytes += bytes.length;
    return written_bytes;
  }

  /**
   * Checks the complete content, syncs it, and gives it its name. Returns whether the file is new:
   * false where a finished file with the same content was there.
   *
   * @throws {SealwireError} `hash_mismatch`, which deletes the unfinished file; `target_exists`;
   * the system's errors.
   */
  async finish(end: End): Promise<boolean> {
    if (this.target && this.fd === null) {
      if (!equal(this.targetSha256, end.sha256)) throw this.targetExists();
      await this.syncTarget();
      this.discard();
      return false;
    }
    if (this.fd === null || !this.hash) throw protocolError("a file ends before its start");
    await this.writing;
    const complete = this.received_bytes === this.offer.size_bytes &&
      end.length_bytes === this.received_bytes && equal(this.hash.digest(), end.sha256);
    if (!complete) {
      this.discard();
      throw new SealwireError(
        "hash_mismatch",
        `"${this.offer.name}" did not arrive as it was sent`,
      );
    }
    await this.publish(this.fd);
    return true;
  }

  /** Deletes the unfinished file, which cannot become the file any more. */
  discard(): void {
    this.folder.deletePartial(this.partialPath);
  }

  /** Closes the unfinished file, which stays so that a later connection can go on. */
  async close(): Promise<void> {
    await this.writing.catch(() => {});
    if (this.fd !== null) closeSync(this.fd);
    this.fd = null;
  }

  private async publish(fd: number): Promise<void> {
    const modified_s = this.offer.modified_ms / 1000 + ROUNDING_S;
    if (this.offer.executable) {
      const { mode } = fstatSync(fd);
      fchmodSync(fd, mode | ((mode & READ_BITS) >> 2));
    }
    futimesSync(fd, modified_s, modified_s);
    await this.folder.fileSyncs.sync(fd, this.offer.size_bytes);
    const folder = await this.folder.makeFolders(this.parts.slice(0, -1));
    const named = takeName(this.partialPath, this.targetPath);
    this.discard();
    if (!named) throw this.targetExists();
    await this.folder.folderSyncs.sync(folder);
  }

  /** Syncs a file that was there. Its writer may have been killed before it was on the disk. */
  private async syncTarget(): Promise<void> {
    const fd = openSync(this.targetPath, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      await this.folder.fileSyncs.sync(fd, this.offer.size_bytes);
    } finally {
      closeSync(fd);
    }
    await this.folder.folderSyncs.sync(dirname(this.targetPath));
  }

  private targetExists(): SealwireError {
    return new SealwireError(
      "target_exists",
      `"${this.offer.name}" exists there already with other content, and is left as it is`,
    );
  }
}

/**
 * Whether a transfer can go on from this unfinished file. One with a second name was published just
 * before a crash, so writing to it would change a finished file.
 */
function isResumable(partial: Stats | null, size_bytes: number): partial is Stats {
  return partial !== null && partial.isFile() && partial.nlink === 1 && partial.size > 0 &&
    partial.size <= size_bytes;
}

function writeAll(fd: number, bytes: Uint8Array, position: number): Promise<void> {
  return new Promise((resolve, reject) => {
    write(fd, bytes, 0, bytes.length, position, (error, written_bytes) => {
      if (error) reject(error);
      else if (written_bytes === bytes.length) resolve();
      else {
        const rest = bytes.subarray(written_bytes);
        writeAll(fd, rest, position + written_bytes).then(resolve, reject);
      }
    });
  });
}

function equal(left: Uint8Array | null, right: Uint8Array): boolean {
  return left !== null && left.length === right.length && timingSafeEqual(left, right);
}
