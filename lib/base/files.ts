/**
 * Reads and writes small files whole. A reader sees the old content or the new content, never a
 * part of it. When a write returns, the content is on the disk.
 *
 * The new content goes to a temporary file beside the target and is synced. `rename` (replaces the
 * target) or `link` (refuses an existing target) then gives it its name, and the folder is synced.
 */
import { randomBytes } from "node:crypto";
import {
  closeSync,
  fsync,
  fsyncSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  type Stats,
  statSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { type ErrorCode, SealwireError, systemErrorCode } from "./errors.ts";

export const PRIVATE_FILE_MODE = 0o600;
export const PUBLIC_FILE_MODE = 0o644;
const PRIVATE_FOLDER_MODE = 0o700;
/** The permissions of the group and of others. */
const OTHERS_MODE = 0o077;
const TEMPORARY_NAME_BYTES = 8;
const TEMPORARY_NAME = /^\..+\.[0-9a-f]{16}\.tmp$/;
/** A temporary file of this age belongs to no running process: a write takes milliseconds. */
const LEFTOVER_AGE_MS = 10 * 60 * 1000;

/** System error codes in words. */
const REASONS: Readonly<Record<string, string>> = {
  EACCES: "permission denied",
  EPERM: "the system does not allow it",
  EROFS: "the file system is read-only",
  ENOENT: "there is no such folder",
  ENOTDIR: "part of the path is no folder",
  EISDIR: "it is a folder",
  EEXIST: "part of the path is no folder",
  ENOSPC: "the disk is full",
  EDQUOT: "the disk quota is used up",
  EIO: "the disk reports an error",
};
/** Codes that concern the folder. Other content, or a later try, would not help. */
const FOLDER_REFUSALS = new Set(["EACCES", "EPERM", "EROFS", "ENOENT", "ENOTDIR", "EEXIST"]);

/**
 * Replaces or creates a file in one step. `mode` is the mode of the new file, less the umask.
 *
 * @throws {SealwireError} `folder_unwritable`, `write_failed` (disk full and the like). The old
 * content is then untouched.
 */
export function writeFileAtomic(path: string, content: string | Uint8Array, mode: number): void {
  const temporary = writeTemporary(path, content, mode);
  try {
    renameSync(temporary, path);
    syncFolder(dirname(path));
  } catch (error) {
    tryToRemove(temporary);
    throw writeError(path, error);
  }
}

/**
 * Creates a file in one step. Returns false, and changes nothing, where `path` exists.
 *
 * @throws {SealwireError} `folder_unwritable`, `write_failed`.
 */
export function createFileAtomic(
  path: string,
  content: string | Uint8Array,
  mode: number,
): boolean {
  const temporary = writeTemporary(path, content, mode);
  try {
    linkSync(temporary, path);
    unlinkSync(temporary);
    syncFolder(dirname(path));
    return true;
  } catch (error) {
    tryToRemove(temporary);
    if (systemErrorCode(error) === "EEXIST") return false;
    throw writeError(path, error);
  }
}

/**
 * Creates a folder and its parents where they are missing. Only this user can enter them.
 *
 * @throws {SealwireError} `folder_unwritable`.
 */
export function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true, mode: PRIVATE_FOLDER_MODE });
  } catch (error) {
    throw folderUnwritable(folder, error);
  }
}

/**
 * Reads a regular file of UTF-8 text. Returns null where there is none.
 *
 * @throws {SealwireError} with `code` where the file cannot be read, is longer than
 * `size_bytes_max`, or is not UTF-8.
 */
export function readTextFile(
  path: string,
  options: { size_bytes_max: number; code: ErrorCode },
): string | null {
  const unreadable = (why: string, cause?: unknown) =>
    new SealwireError(options.code, `cannot read ${path}: ${why}`, { cause });
  try {
    const status = statSync(path);
    if (!status.isFile()) throw unreadable("it is not a file");
    if (status.size > options.size_bytes_max) {
      throw unreadable(`it is longer than ${options.size_bytes_max} bytes`);
    }
    return new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(path));
  } catch (error) {
    if (error instanceof SealwireError) throw error;
    if (["ENOENT", "ENOTDIR"].includes(systemErrorCode(error) ?? "")) return null;
    if (error instanceof TypeError) throw unreadable("it is not UTF-8 text", error);
    throw unreadable(reason(error), error);
  }
}

/** Folders that this process has looked through for leftovers. */
const tidied = new Set<string>();

/**
 * Removes temporary files that killed processes left behind: private keys and signed orders may be
 * among them. Only files with the name and the age of one are removed, at the first write to a folder.
 */
function removeLeftovers(folder: string): void {
  if (tidied.has(folder)) return;
  tidied.add(folder);
  try {
    for (const name of readdirSync(folder)) {
      if (!TEMPORARY_NAME.test(name)) continue;
      const path = join(folder, name);
      const status = lstatSync(path);
      if (status.isFile() && Date.now() - status.mtimeMs > LEFTOVER_AGE_MS) tryToRemove(path);
    }
  } catch {
    // What is wrong with the folder, the write itself says.
  }
}

function writeTemporary(path: string, content: string | Uint8Array, mode: number): string {
  removeLeftovers(dirname(path));
  const suffix = randomBytes(TEMPORARY_NAME_BYTES).toString("hex");
  const temporary = join(dirname(path), `.${basename(path)}.${suffix}.tmp`);
  try {
    const fd = openSync(temporary, "wx", mode);
    try {
      writeFileSync(fd, content);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    return temporary;
  } catch (error) {
    tryToRemove(temporary);
    throw writeError(path, error);
  }
}

/**
 * Syncs a folder, that is the names in it. A new name survives a power failure only after that.
 * Throws the system's error.
 */
export function syncFolder(folder: string): void {
  const fd = openSync(folder, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Does the same as {@linkcode syncFolder} on another thread. Rejects with the system's error. */
export async function syncFolderInBackground(folder: string): Promise<void> {
  const fd = openSync(folder, "r");
  try {
    await syncFileInBackground(fd);
  } finally {
    closeSync(fd);
  }
}

/** Syncs an open file on another thread. Rejects with the system's error. */
export function syncFileInBackground(fd: number): Promise<void> {
  return new Promise((resolve, reject) => {
    fsync(fd, (error) => error ? reject(error) : resolve());
  });
}

/** Removes a file. Does nothing where there is none. Throws the system's other errors. */
export function removeIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (systemErrorCode(error) !== "ENOENT") throw error;
  }
}

/** Cleans up after an error, which a second error must not hide. */
function tryToRemove(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // The first error says what is wrong with the folder.
  }
}

/** Whether the group or other users have any permission on the file. */
export function isOpenToOthers({ mode }: Stats): boolean {
  return (mode & OTHERS_MODE) !== 0;
}

/** The error for a failed write to `path`: `folder_unwritable` or `write_failed`. */
export function writeError(path: string, error: unknown): SealwireError {
  if (FOLDER_REFUSALS.has(systemErrorCode(error) ?? "")) {
    return folderUnwritable(dirname(path), error);
  }
  return new SealwireError("write_failed", `cannot write ${path}: ${reason(error)}`, {
    cause: error,
  });
}

function folderUnwritable(folder: string, error: unknown): SealwireError {
  const message = `cannot write in the folder ${folder}: ${reason(error)}`;
  return new SealwireError("folder_unwritable", message, { cause: error });
}

function reason(error: unknown): string {
  const known = REASONS[systemErrorCode(error) ?? ""];
  if (known) return known;
  return error instanceof Error ? error.message : String(error);
}
