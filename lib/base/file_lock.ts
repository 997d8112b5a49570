/**
 * A lock between processes. The system releases it when its holder ends, also when it is killed.
 *
 * Node has no `flock`, so this is SQLite's lock on an empty database file.
 */
import { closeSync, openSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { SealwireError } from "./errors.ts";
import { makeFolder, PRIVATE_FILE_MODE, writeError } from "./files.ts";

const SQLITE_BUSY = 5;
/** How long {@linkcode withFileLock} waits. The work under a lock takes milliseconds. */
const WAIT_MS_MAX = 15_000;

export class FileLock {
  private constructor(private readonly database: DatabaseSync) {}

  /**
   * Takes the lock. Returns null where another holder still has it after `wait_ms`; the thread
   * sleeps for that time. The file at `path` is made where it is missing, and never removed.
   * Throws the system's errors and SQLite's.
   */
  static take(path: string, wait_ms = 0): FileLock | null {
    // Created here, because SQLite would create it readable for others.
    closeSync(openSync(path, "a", PRIVATE_FILE_MODE));
    const database = new DatabaseSync(path);
    try {
      database.exec(`PRAGMA busy_timeout = ${wait_ms}`);
      // Statements, because on Deno an error of `exec` has no `errcode`. The journal needs no file,
      // because nothing is ever written.
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
 * Runs `work` while no other process runs any for the same `path`. Use it to read, change and write
 * a file without losing what another process writes in between. The thread sleeps until the lock
 * `<path>.lock` is free.
 *
 * @throws {SealwireError} `file_locked`, `folder_unwritable`, `write_failed`, and what
 * `work` throws.
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
