/**
 * A lock that one process holds at a time, and that the system takes away from a process that ends,
 * however it ends. It is SQLite's on an empty database, for Node has no `flock`.
 */
import { closeSync, openSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { PRIVATE_FILE_MODE } from "./files.ts";

const SQLITE_BUSY = 5;

export class ProcessLock {
  private constructor(private readonly database: DatabaseSync) {}

  /**
   * Takes the lock that is the file at `path`, which is made where it is missing and never removed;
   * null where somebody else has it. Throws the system's error, and SQLite's.
   */
  static take(path: string): ProcessLock | null {
    // Made here, because SQLite would let others read it.
    closeSync(openSync(path, "a", PRIVATE_FILE_MODE));
    const database = new DatabaseSync(path);
    try {
      // Statements, because on Deno an error of `exec` has no `errcode`. Nothing is ever written, so
      // there is nothing to keep a journal of.
      database.prepare("PRAGMA journal_mode = MEMORY").get();
      database.prepare("BEGIN EXCLUSIVE").run();
      return new ProcessLock(database);
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
