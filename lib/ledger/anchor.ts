/**
 * The anchor: the newest checkpoint that this server signed or saw, in a file of the keys folder, outside the database. A
 * database that lacks it was rolled back, and is not extended.
 */
import { isSealwireError, SealwireError } from "../base/errors.ts";
import { withFileLock } from "../base/file_lock.ts";
import { PRIVATE_FILE_MODE, readTextFile, removeIfThere, writeFileAtomic } from "../base/files.ts";
import { type Checkpoint, type Log, verifyCheckpoint } from "./checkpoint.ts";

const ANCHOR_BYTES_MAX = 16 * 1024;

export class Anchor {
  constructor(private readonly path: string, private readonly log: Log) {}

  /**
   * Null where there is none.
   *
   * @throws {SealwireError} `anchor_unreadable`, `bad_checkpoint`.
   */
  read(): Checkpoint | null {
    const options = { size_bytes_max: ANCHOR_BYTES_MAX, code: "anchor_unreadable" } as const;
    const text = readTextFile(this.path, options);
    if (text === null) return null;
    try {
      return verifyCheckpoint(text, this.log);
    } catch (error) {
      if (!isSealwireError(error)) throw error;
      throw new SealwireError(
        error.code,
        `${this.path}: ${error.message}. Put the file back, or move it away and start the server with --accept-rollback`,
        { cause: error },
      );
    }
  }

  /** Stores `checkpoint` unless a newer one is stored. Throws `file_locked`, `folder_unwritable`, `write_failed`. */
  raise(checkpoint: Checkpoint): void {
    this.update(checkpoint, (stored) => stored === null || checkpoint.size > stored.size);
  }

  /**
   * Stores `checkpoint` in place of `lost`, which may be newer, once the operator has accepted that. What another process has
   * stored meanwhile gives way to a newer one only.
   */
  replace(checkpoint: Checkpoint, lost: Checkpoint | null): void {
    this.update(
      checkpoint,
      (stored) => stored === null || stored.text === lost?.text || checkpoint.size > stored.size,
    );
  }

  /** Throws as {@linkcode read} does, and `file_locked`, `folder_unwritable`, `write_failed`. */
  remove(): void {
    if (this.read() !== null) withFileLock(this.path, () => removeIfThere(this.path));
  }

  private update(checkpoint: Checkpoint, wanted: (stored: Checkpoint | null) => boolean): void {
    withFileLock(this.path, () => {
      if (wanted(this.read())) writeFileAtomic(this.path, checkpoint.text, PRIVATE_FILE_MODE);
    });
  }
}
