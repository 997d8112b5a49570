/**
 * The folder that received files go to: which names are being received, the unfinished files, and
 * paths under it that no symbolic link leads out of.
 *
 * An unfinished file is `.partial/<SHA-256 of its name>`; it outlives connections and servers, so
 * that a transfer can go on. It belongs to one connection at a time, and the folder to one server.
 */
import { createHash } from "node:crypto";
import {
  constants,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  realpathSync,
  type Stats,
} from "node:fs";
import { join, sep } from "node:path";
import { setImmediate } from "node:timers";
import { SealwireError, systemErrorCode } from "../../base/errors.ts";
import { FileLock } from "../../base/file_lock.ts";
import { removeIfThere } from "../../base/files.ts";
import { FileSync, FolderSync } from "./disk_sync.ts";
import { PARTIALS_FOLDER } from "./names.ts";
import { Condition } from "../../base/condition.ts";

/**
 * So long an offer waits for another connection that is receiving the same file, which may be just
 * ending.
 */
const CLAIM_WAIT_MS = 5_000;
/**
 * An unfinished file that nobody has gone on with for so long is deleted when the server starts.
 */
const PARTIAL_KEEP_MS = 7 * 24 * 60 * 60 * 1000;
/**
 * Files of all connections that are being synced at once: each is an open file and a waiting
 * thread.
 */
const FINISHING_MAX = 256;
const LOCK_NAME = "lock";
const PARTIAL_NAME = /^[0-9a-f]{64}$/;
const PARTIALS_MODE = 0o700;
/** Less the umask, as for any new file. */
const FILE_MODE = 0o666;

export class ReceiveFolder {
  readonly fileSyncs = new FileSync();
  readonly folderSyncs = new FolderSync();
  private readonly partials: string;
  private readonly claims = new Map<string, object>();
  private readonly changed = new Condition();
  private readonly unfinished = new Set<string>();
  /** Folders that were found to be none but folders in this turn of the event loop. */
  private readonly checked = new Set<string>();
  /** Folders that were made and whose names are not on the disk yet. */
  private readonly making = new Map<string, Promise<void>>();
  private finishing = 0;
  private lock: FileLock | null = null;

  private constructor(
    /** As it was given, for people to read. */
    readonly shownPath: string,
    private readonly path: string,
  ) {
    this.partials = join(path, PARTIALS_FOLDER);
  }

  /** Makes the folder where it is missing. Throws `folder_unwritable`. `now_ms` is the clock. */
  static open(path: string, now_ms = Date.now()): ReceiveFolder {
    try {
      mkdirSync(path, { recursive: true });
      const folder = new ReceiveFolder(path, realpathSync(path));
      folder.openPartials(now_ms);
      return folder;
    } catch (cause) {
      const reason = systemErrorCode(cause) ?? String(cause);
      throw new SealwireError("folder_unwritable", `cannot write in ${path} (${reason})`, {
        cause,
      });
    }
  }

  /** Lets another server have the folder. */
  close(): void {
    this.lock?.release();
    this.lock = null;
  }

  /**
   * Waits until no other connection is receiving this name, and keeps it from all others until
   * `owner` releases it.
   *
   * @throws {SealwireError} `file_busy` after {@linkcode CLAIM_WAIT_MS}; `folder_in_use` by another
   * server.
   */
  async claim(name: string, owner: object): Promise<void> {
    if (this.tryClaim(name, owner)) return;
    // Waiting for itself would be in vain.
    let waiting = this.claims.get(name) !== owner;
    const timer = setTimeout(() => {
      waiting = false;
      this.changed.notifyAll();
    }, CLAIM_WAIT_MS);
    try {
      while (waiting) {
        await this.changed.wait();
        if (this.tryClaim(name, owner)) return;
      }
    } finally {
      clearTimeout(timer);
    }
    throw new SealwireError("file_busy", `"${name}" is being received from another connection`);
  }

  /**
   * As {@linkcode claim}, but at once: false where something has the name, or is being received.
   * Throws `unsafe_path`.
   */
  claimVacant(name: string, parts: readonly string[], owner: object): boolean {
    return this.look(parts) === null && this.tryClaim(name, owner);
  }

  private tryClaim(name: string, owner: object): boolean {
    this.takeLock();
    if (this.claims.has(name)) return false;
    this.claims.set(name, owner);
    return true;
  }

  release(name: string, owner: object): void {
    if (this.claims.get(name) !== owner) return;
    this.claims.delete(name);
    this.changed.notifyAll();
  }

  /** Waits until one more file may be synced; then {@linkcode leaveFinishing} must follow. */
  async enterFinishing(): Promise<void> {
    while (this.finishing >= FINISHING_MAX) await this.changed.wait();
    this.finishing++;
  }

  leaveFinishing(): void {
    this.finishing--;
    this.changed.notifyAll();
  }

  /** Where a name's unfinished file is or would be. */
  partialPath(name: string): string {
    return this.partials + sep + createHash("sha256").update(name).digest("hex");
  }

  /** Looks at an unfinished file without asking the system for one that never was. */
  lookAtPartial(path: string): Stats | null {
    return this.unfinished.has(path) ? lstatIfThere(path) : null;
  }

  /** Makes a new unfinished file, in place of an older one, and opens it for writing. */
  createPartial(path: string): number {
    this.deletePartial(path);
    this.unfinished.add(path);
    return openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, FILE_MODE);
  }

  deletePartial(path: string): void {
    if (this.unfinished.delete(path)) removeIfThere(path);
  }

  /** Where a name would be. */
  pathOf(parts: readonly string[]): string {
    return [this.path, ...parts].join(sep);
  }

  /** What is at a name now; null where nothing is. Throws `unsafe_path`. */
  look(parts: readonly string[]): Stats | null {
    let path = this.path;
    for (const part of parts.slice(0, -1)) {
      path += sep + part;
      if (this.checked.has(path)) continue;
      const found = lstatIfThere(path);
      if (found === null) break;
      this.check(path, found);
    }
    return lstatIfThere(this.pathOf(parts));
  }

  /**
   * Makes the folders that lead to a name, and returns the last of them. Throws `unsafe_path` and
   * the system's errors.
   */
  async makeFolders(parts: readonly string[]): Promise<string> {
    let path = this.path;
    for (const part of parts) {
      const parent = path;
      path += sep + part;
      if (this.making.has(path)) await this.making.get(path);
      if (this.checked.has(path)) continue;
      const found = lstatIfThere(path);
      if (found === null && makeFolder(path)) await this.syncMade(path, parent);
      else this.check(path, found ?? lstatSync(path));
    }
    return path;
  }

  private async syncMade(path: string, parent: string): Promise<void> {
    const synced = this.folderSyncs.sync(parent).finally(() => this.making.delete(path));
    this.making.set(path, synced);
    await synced;
  }

  private check(path: string, found: Stats): void {
    requireFolder(path.slice(this.path.length + 1), found);
    if (this.checked.size === 0) setImmediate(() => this.checked.clear());
    this.checked.add(path);
  }

  private openPartials(now_ms: number): void {
    makeFolder(this.partials, PARTIALS_MODE);
    requireFolder(PARTIALS_FOLDER, lstatSync(this.partials));
    for (const name of readdirSync(this.partials)) {
      const path = join(this.partials, name);
      // Not its modification time, which may be the sender's already.
      const age_ms = now_ms - lstatSync(path).ctimeMs;
      if (PARTIAL_NAME.test(name) && age_ms > PARTIAL_KEEP_MS) removeIfThere(path);
    }
  }

  /** Two servers that write the same unfinished file would spoil it unseen. */
  private takeLock(): void {
    if (this.lock) return;
    this.lock = FileLock.take(join(this.partials, LOCK_NAME));
    if (!this.lock) {
      throw new SealwireError("folder_in_use", "another server receives files in that folder");
    }
    for (const name of readdirSync(this.partials)) {
      if (PARTIAL_NAME.test(name)) this.unfinished.add(join(this.partials, name));
    }
  }
}

/** Asking first is cheaper for what is not there. A symbolic link to nothing counts as nothing. */
function lstatIfThere(path: string): Stats | null {
  return existsSync(path) ? lstatSync(path, { throwIfNoEntry: false }) ?? null : null;
}

/** Gives a file a second name; false where that is taken already. */
export function takeName(path: string, name: string): boolean {
  try {
    linkSync(path, name);
    return true;
  } catch (error) {
    if (systemErrorCode(error) === "EEXIST") return false;
    throw error;
  }
}

/** False where it is there already. */
function makeFolder(path: string, mode?: number): boolean {
  try {
    mkdirSync(path, { mode });
    return true;
  } catch (error) {
    if (systemErrorCode(error) === "EEXIST") return false;
    throw error;
  }
}

/** `name`: under the folder, for the client is told. */
function requireFolder(name: string, found: Stats): void {
  if (found.isDirectory()) return;
  const what = found.isSymbolicLink() ? "a symbolic link" : "no folder";
  throw new SealwireError("unsafe_path", `"${name}" is ${what} there`);
}
