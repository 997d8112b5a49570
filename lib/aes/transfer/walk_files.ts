/** Finds the files to send: those that a command line names, and those in the folders it names. */
import { lstatSync, readdirSync, type Stats, statSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { SealwireError, systemErrorCode } from "../../base/errors.ts";

const EXECUTABLE_BITS = 0o111;

export interface LocalFile {
  /** The path on this machine. */
  readonly path: string;
  /** The name at the receiver: a relative path with `/` between the parts. */
  readonly name: string;
  /** Only an empty folder is sent by itself. The receiver makes other folders for their files. */
  readonly kind: "file" | "folder";
  readonly size_bytes: number;
  readonly modified_ms: number;
  readonly executable: boolean;
}

/**
 * Checks the paths of a command line, before anything is sent.
 *
 * @throws {SealwireError} `file_unreadable`; `not_a_file` for a device or the like; `usage` where
 * two have the same name, or one has none.
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
 * Yields all files, and the empty folders, in depth and in order of names. Skips symbolic links
 * inside folders, devices and the like, and what cannot be read. Calls `onSkipped` for each.
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

/** The error for a file that cannot be read, with the system's reason. */
export function unreadable(path: string, cause: unknown): SealwireError {
  const reason = systemErrorCode(cause) ?? String(cause);
  return new SealwireError("file_unreadable", `cannot read ${path} (${reason})`, { cause });
}
