/**
 * Small files that hold together: a reader sees the old content or the new, never a part; what was written is on the disk
 * when the call returns; what must not be replaced is not. The new content goes to a temporary file beside the target,
 * is synced, gets its name by `rename` (replaces) or `link` (refuses an existing target), and the folder is synced.
 */
import { randomBytes } from "node:crypto";
import {
  closeSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { type ErrorCode, SealwireError, systemErrorCode } from "./errors.ts";

export const PRIVATE_FILE_MODE = 0o600;
export const PUBLIC_FILE_MODE = 0o644;
const PRIVATE_FOLDER_MODE = 0o700;
const TEMPORARY_NAME_BYTES = 8;

/** What the system's refusals mean to a person. */
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
/** Refusals that no other content or moment would change: the folder is the matter. */
const FOLDER_REFUSALS = new Set(["EACCES", "EPERM", "EROFS", "ENOENT", "ENOTDIR", "EEXIST"]);

/**
 * Replaces the file, or makes it, in one step. `mode` is that of the new file, less the umask.
 *
 * @throws {SealwireError} `folder_unwritable`, or `write_failed` (disk full and the like); the old content is then whole.
 */
export function writeFileAtomic(path: string, content: string | Uint8Array, mode: number): void {
  const temporary = writeTemporary(path, content, mode);
  try {
    renameSync(temporary, path);
    syncFolder(dirname(path));
  } catch (error) {
    removeIfThere(temporary);
    throw writeError(path, error);
  }
}

/**
 * Makes the file in one step, unless one of that name exists: then false, and that one is as it was.
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
    removeIfThere(temporary);
    if (systemErrorCode(error) === "EEXIST") return false;
    throw writeError(path, error);
  }
}

/** Makes the folder and those above it, open to this user alone, where they are missing. Throws `folder_unwritable`. */
export function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true, mode: PRIVATE_FOLDER_MODE });
  } catch (error) {
    throw folderUnwritable(folder, error);
  }
}

/**
 * The UTF-8 text of a regular file, or null where there is none.
 *
 * @throws {SealwireError} with `code`, when it cannot be read, is longer than `size_bytes_max`, or is not UTF-8.
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

function writeTemporary(path: string, content: string | Uint8Array, mode: number): string {
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
    removeIfThere(temporary);
    throw writeError(path, error);
  }
}

/** A name lasts through a power failure only once its folder has been synced. */
function syncFolder(folder: string): void {
  const fd = openSync(folder, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** For clean-up on the way out with an error, which must not be hidden by a second one. */
function removeIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Already gone, or as unwritable as the error on its way says.
  }
}

/** Why `path` could not be written: `folder_unwritable` or `write_failed`. */
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
