/**
 * One process at a time: a lock that the system takes away from a process that ends, however it ends. It is SQLite's on
 * an empty file, for Node has no `flock`.
 */
import { closeSync, openSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { SealwireError } from "./errors.ts";
import { makeFolder, PRIVATE_FILE_MODE, writeError } from "./files.ts";

const SQLITE_BUSY = 5;
/** The work takes milliseconds. */
const WAIT_MS_MAX = 15_000;

export class FileLock {
  private constructor(private readonly database: DatabaseSync) {}

  /**
   * Takes the lock that is the file at `path`, which is made where it is missing and never removed; null where somebody
   * else has it, and still has it after `wait_ms`, for which the thread sleeps. Throws the system's error, and SQLite's.
   */
  static take(path: string, wait_ms = 0): FileLock | null {
    // Made here, because SQLite would let others read it.
    closeSync(openSync(path, "a", PRIVATE_FILE_MODE));
    const database = new DatabaseSync(path);
    try {
      database.exec(`PRAGMA busy_timeout = ${wait_ms}`);
      // Statements, because on Deno an error of `exec` has no `errcode`. Nothing is ever written, so there is nothing to
      // keep a journal of.
      database.prepare("PRAGMA journal_mode = MEMORY").get();
      database.prepare("BEGIN EXCLUSIVE").run();
      return new FileLock(database);
    } catch (error) {
      database.close();
      if ((error as { errcode?: number }).errcode === SQLITE_BUSY) return null;
      throw error;
    }
  }

  release(): void {
    this.database.close();
  }
}

/**
 * Runs `work` while no other process does so for the same `path`: for a read, a change and a write of that file which
 * must not lose what another process writes in between. The thread sleeps until it may; the lock is `<path>.lock`.
 *
 * @throws {SealwireError} `file_locked`, `folder_unwritable`, `write_failed`, and what `work` throws.
 */
export function withFileLock<T>(path: string, work: () => T): T {
  makeFolder(dirname(path));
  const lock = takeLock(`${path}.lock`);
  if (!lock) {
    throw new SealwireError("file_locked", `another process keeps ${path} locked: try again`);
  }
  try {
    return work();
  } finally {
    lock.release();
  }
}

function takeLock(path: string): FileLock | null {
  try {
    return FileLock.take(path, WAIT_MS_MAX);
  } catch (error) {
    throw writeError(path, error);
  }
}
