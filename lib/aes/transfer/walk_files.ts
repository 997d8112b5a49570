/**
 * The files that a command line names, and those in the folders that it names, with the names they
 * travel under.
 */
import { lstatSync, readdirSync, type Stats, statSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { SealwireError, systemErrorCode } from "../../base/errors.ts";

const EXECUTABLE_BITS = 0o111;

export interface LocalFile {
  /** Where it is here. */
  readonly path: string;
  /** What it is to be called there: relative, with `/` between the parts. */
  readonly name: string;
  /** An empty folder is sent for itself; others are made on the way. */
  readonly kind: "file" | "folder";
  readonly size_bytes: number;
  readonly modified_ms: number;
  readonly executable: boolean;
}

/**
 * Checks what the command line names, before anything is sent.
 *
 * @throws {SealwireError} `file_unreadable`, `not_a_file` (a device or the like), `usage` (two of
 * one name, or no name).
 */
export function checkPaths(paths: readonly string[]): void {
  const names = new Map<string, string>();
  for (const path of paths) {
    const found = statusOf(path);
    if (!found.isFile() && !found.isDirectory()) throw notAFile(path);
    const name = basename(resolve(path));
    const other = names.get(name);
    if (name === "") {
      throw new SealwireError("usage", `--file ${path} has no name to send it under`);
    }
    if (other !== undefined) {
      throw new SealwireError("usage", `--file ${other} and --file ${path} have the same name`);
    }
    names.set(name, path);
  }
}

/**
 * Files one by one, folders in depth, each folder in order of names. Symbolic links inside folders
 * are not followed, and they, devices and the like are not sent: `onSkipped` hears of them, and of
 * what cannot be looked at.
 */
export function* walkFiles(
  paths: readonly string[],
  onSkipped: (path: string, reason: SealwireError) => void,
): Generator<LocalFile> {
  for (const path of paths) {
    const name = basename(resolve(path));
    yield* walk(path, name, (at) => at === path ? statSync(at) : lstatSync(at), onSkipped);
  }
}

function* walk(
  path: string,
  name: string,
  look: (path: string) => Stats,
  onSkipped: (path: string, reason: SealwireError) => void,
): Generator<LocalFile> {
  try {
    const found = look(path);
    if (found.isFile()) return yield describe(path, name, "file", found);
    if (!found.isDirectory()) throw notAFile(path);
    const children = readdirSync(path).sort();
    if (children.length === 0) return yield describe(path, name, "folder", found);
    for (const child of children) {
      yield* walk(join(path, child), `${name}/${child}`, look, onSkipped);
    }
  } catch (error) {
    onSkipped(path, error instanceof SealwireError ? error : unreadable(path, error));
  }
}

function describe(path: string, name: string, kind: "file" | "folder", found: Stats): LocalFile {
  return {
    path,
    name,
    kind,
    size_bytes: kind === "file" ? found.size : 0,
    modified_ms: Math.floor(found.mtimeMs),
    executable: kind === "file" && (found.mode & EXECUTABLE_BITS) !== 0,
  };
}

function statusOf(path: string): Stats {
  try {
    return statSync(path);
  } catch (error) {
    throw unreadable(path, error);
  }
}

function notAFile(path: string): SealwireError {
  return new SealwireError("not_a_file", `${path} is no regular file or folder`);
}

/** A file that cannot be read, and the system's reason. */
export function unreadable(path: string, cause: unknown): SealwireError {
  const reason = systemErrorCode(cause) ?? String(cause);
  return new SealwireError("file_unreadable", `cannot read ${path} (${reason})`, { cause });
}
