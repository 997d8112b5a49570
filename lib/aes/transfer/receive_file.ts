/**
 * Receives one file: finds what is there of it, writes its content to an unfinished file, and
 * publishes that under its name. The caller holds the claim on the name (`receive_folder.ts`) from
 * the first call to the last.
 *
 * What this connection brings needs no hash: the MACs of the records prove it. What was there
 * before is not believed, because a crash may have spoiled it and the client's file may have
 * changed. The client is told its hashes and compares all of it with its own file. Meanwhile the
 * new content is already coming. No file is published before all of these hashes were sent, and no
 * client ends a file before all of them were right.
 */
import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  ftruncateSync,
  futimesSync,
  openSync,
  type Stats,
  write,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { SealwireError } from "../../base/errors.ts";
import { syncFileInBackground } from "../../base/files.ts";
import { hashPrefixes, type PrefixHash } from "./file_hash.ts";
import { type Answer, type Offer, protocolError } from "../channel/frames.ts";
import { type ReceiveFolder, takeName } from "./receive_folder.ts";

const READ_BITS = 0o444;
/**
 * So much of a file is written between two syncs. A disk that works during a transfer has little
 * left to write at its end, when the client waits for it.
 */
const SYNC_STEP_BYTES = 64 * 1024 * 1024;
/** A microsecond. Without it a time in whole milliseconds may be rounded down to the one before. */
const ROUNDING_S = 1e-6;

export class IncomingFile {
  private readonly partialPath: string;
  private readonly targetPath: string;
  private target: Stats | null = null;
  /** How much was there, as the answer says. */
  private had_bytes = 0;
  /** Whether a part of that was not hashed yet, so that the client cannot know that it is right. */
  private unhashed = false;
  private received_bytes = 0;
  private fd: number | null = null;
  private writing: Promise<void> = Promise.resolve();
  private syncing: Promise<void> = Promise.resolve();
  /** What was written when the last sync began. Infinity while one is running. */
  private sync_began_bytes = 0;

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
   * Finds what is there of the file. If it is anything, {@linkcode hashes} must follow.
   *
   * @throws {SealwireError} `target_exists` where another file has the name; `unsafe_path`.
   */
  answer(): Answer {
    const { item, size_bytes } = this.offer;
    this.target = this.folder.look(this.parts);
    const partial = this.target ? null : this.folder.lookAtPartial(this.partialPath);
    if (this.target) {
      if (!this.target.isFile() || this.target.size !== size_bytes) throw this.targetExists();
      this.had_bytes = size_bytes;
    } else if (isResumable(partial, size_bytes)) {
      this.had_bytes = partial.size;
    } else {
      return { item, has: "nothing", length_bytes: 0 };
    }
    this.unhashed = true;
    const has = this.target ? "finished" : "partial";
    return { item, has, length_bytes: this.had_bytes };
  }

  /**
   * Yields the hashes of what the answer said, up to that of all of it. Ends early where they are
   * not needed any more.
   *
   * @throws {SealwireError} `write_failed` where the file is shorter now; the system's errors.
   */
  async *hashes(onProgress: (done_bytes: number) => void): AsyncGenerator<PrefixHash> {
    if (!this.unhashed) return;
    const path = this.target ? this.targetPath : this.partialPath;
    const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      for await (const prefix of hashPrefixes(fd, this.had_bytes, onProgress)) {
        if (!this.unhashed) return;
        this.unhashed = prefix.length_bytes < this.had_bytes;
        yield prefix;
      }
    } finally {
      closeSync(fd);
    }
    if (!this.unhashed) return;
    const message = `"${this.offer.name}" changed at the receiver while it was checked`;
    throw new SealwireError("write_failed", message);
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
      this.unhashed = false;
    }
    this.received_bytes = offset_bytes;
    this.sync_began_bytes = offset_bytes;
  }

  /** Writes all of a small file, in place of {@linkcode start} and {@linkcode write}. */
  writeWhole(content: Uint8Array): void {
    this.start(0);
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
    if (this.fd === null) throw protocolError("content before its start");
    if (this.received_bytes + bytes.length > this.offer.size_bytes) {
      throw protocolError("a file is longer than was offered");
    }
    await this.writing;
    this.writing = writeAll(this.fd, bytes, this.received_bytes);
    // A failure is reported by the next call.
    this.writing.catch(() => {});
    const written_bytes = this.received_bytes;
    this.received_bytes += bytes.length;
    if (written_bytes - this.sync_began_bytes >= SYNC_STEP_BYTES) this.sync(this.fd);
    return written_bytes;
  }

  /**
   * Syncs the complete file of `length_bytes`, and gives it its name. Returns whether it is new:
   * false where a finished file with the same content was there.
   *
   * @throws {SealwireError} `protocol_error` where a part is missing or the client cannot have
   * compared what was there; `target_exists`; the system's errors.
   */
  async finish(length_bytes: number): Promise<boolean> {
    if (length_bytes !== this.offer.size_bytes) throw protocolError("a file ends too early");
    if (this.unhashed) throw protocolError("a file ends before it was compared");
    if (this.target) {
      await this.syncTarget();
      this.discard();
      return false;
    }
    if (this.fd === null) throw protocolError("a file ends before its start");
    if (this.received_bytes !== length_bytes) throw protocolError("a file ends too early");
    await this.writing;
    await this.syncing;
    await this.publish(this.fd);
    return true;
  }

  /** Cuts the unfinished file that was begun, where more than `keep_bytes` of it are there. */
  async cut(keep_bytes: number): Promise<void> {
    await this.writing;
    if (this.fd === null || keep_bytes >= this.received_bytes) return;
    if (keep_bytes === 0) this.discard();
    else ftruncateSync(this.fd, keep_bytes);
  }

  /** Deletes the unfinished file, which cannot become the file any more. */
  discard(): void {
    this.folder.deletePartial(this.partialPath);
  }

  /** Closes the unfinished file, which stays so that a later connection can go on. */
  async close(): Promise<void> {
    this.unhashed = false;
    await Promise.allSettled([this.writing, this.syncing]);
    if (this.fd !== null) closeSync(this.fd);
    this.fd = null;
  }

  /**
   * Syncs what is written so far. A failure is kept for the end of the file, because the system tells
   * of a lost page only once.
   */
  private sync(fd: number): void {
    const began_bytes = this.received_bytes;
    this.sync_began_bytes = Infinity;
    this.syncing = Promise.all([this.syncing, syncFileInBackground(fd)])
      .then(() => void (this.sync_began_bytes = began_bytes));
    this.syncing.catch(() => {});
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
