/**
 * One process at a time: a lock file beside the file it guards, for a read, a change and a write that must not lose what
 * another process writes in between. Node has no `flock`, so the lock of a process that was killed is taken away by its age.
 */
import { randomBytes } from "node:crypto";
import { linkSync, readFileSync, renameSync, statSync, unlinkSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { SealwireError, systemErrorCode } from "./errors.ts";
import { makeFolder, PRIVATE_FILE_MODE, writeError } from "./files.ts";

/** The work takes milliseconds; a lock this old was left by a process that is gone. */
const HELD_MS_MAX = 10_000;
/** Longer than {@linkcode HELD_MS_MAX}, so that one abandoned lock makes nobody fail. */
const WAIT_MS_MAX = 15_000;
const POLL_MS = 10;
const TOKEN_BYTES = 16;

/**
 * Runs `work` while no other process does so for the same `path`; the thread sleeps until it may. `requireHeld`, called
 * just before writing, throws if this process slept so long that its lock was taken away.
 *
 * @throws {SealwireError} `file_locked`, `folder_unwritable`, and what `work` throws.
 */
export function withFileLock<T>(path: string, work: (requireHeld: () => void) => T): T {
  makeFolder(dirname(path));
  const lock = `${path}.lock`;
  const token = randomBytes(TOKEN_BYTES).toString("hex");
  const deadline_ms = performance.now() + WAIT_MS_MAX;
  while (!acquire(lock, token)) {
    if (performance.now() > deadline_ms) throw locked(path, lock);
    removeIfAbandoned(lock);
    sleep(POLL_MS);
  }
  const held = () => readIfThere(lock) === token;
  try {
    return work(() => {
      if (!held()) throw locked(path, lock);
    });
  } finally {
    if (held()) unlinkSync(lock);
  }
}

function acquire(lock: string, token: string): boolean {
  try {
    writeFileSync(lock, token, { flag: "wx", mode: PRIVATE_FILE_MODE });
    return true;
  } catch (error) {
    if (systemErrorCode(error) === "EEXIST") return false;
    throw writeError(lock, error);
  }
}

/**
 * Renamed before it is removed, so that of two processes that find the same old lock, the slower one does not remove the
 * new lock of the faster: it puts back what turns out to be another than it judged.
 */
function removeIfAbandoned(lock: string): void {
  const token = readIfThere(lock);
  const aside = `${lock}.${randomBytes(TOKEN_BYTES).toString("hex")}`;
  try {
    if (Math.abs(Date.now() - statSync(lock).mtimeMs) < HELD_MS_MAX) return;
    renameSync(lock, aside);
    if (readIfThere(aside) !== token) linkSync(aside, lock);
  } catch (error) {
    // ENOENT: released meanwhile; EEXIST: taken meanwhile. Either way, try again.
    const code = systemErrorCode(error);
    if (code !== "ENOENT" && code !== "EEXIST") throw writeError(lock, error);
  }
  if (readIfThere(aside) !== null) unlinkSync(aside);
}

function readIfThere(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return null;
    throw error;
  }
}

function sleep(duration_ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, duration_ms);
}

function locked(path: string, lock: string): SealwireError {
  return new SealwireError(
    "file_locked",
    `another process keeps ${path} locked: try again, and if none is running, delete ${lock}`,
  );
}
