/**
 * The folder for received files. It knows which names are being received, keeps unfinished files,
 * and gives out paths that no symbolic link leads out of.
 *
 * An unfinished file is `.partial/<SHA-256 of its name>`. It outlives connections and servers, so
 * that a transfer can go on. It belongs to one connection at a time, and the folder to one server.
 */
import { Buffer } from "node:buffer";
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
import process from "node:process";
import { setImmediate } from "node:timers";
import { SealwireError, systemErrorCode } from "../../base/errors.ts";
import { FileLock } from "../../base/file_lock.ts";
import { removeIfThere } from "../../base/files.ts";
import { FileSync, FolderSync } from "./disk_sync.ts";
import { PARTIALS_FOLDER } from "./names.ts";
import { Condition } from "../../base/condition.ts";

/**
 * How long an offer waits for another connection that is receiving the same file and may be about
 * to end.
 */
const CLAIM_WAIT_MS = 5_000;
/** How long an unfinished file is kept after its last change. Checked when the server starts. */
const PARTIAL_KEEP_MS = 7 * 24 * 60 * 60 * 1000;
/**
 * The most files of all connections that are being synced. Each one is an open file and a waiting
 * thread.
 */
const FINISHING_MAX = 256;
/** The longest path that the system takes, without the zero byte at its end (PATH_MAX). */
const PATH_BYTES_MAX = process.platform === "darwin" ? 1_023 : 4_095;
const LOCK_NAME = "lock";
const PARTIAL_NAME = /^[0-9a-f]{64}$/;
const PARTIALS_MODE = 0o700;
/** The mode of a received file, less the umask. */
const FILE_MODE = 0o666;

export class ReceiveFolder {
  readonly fileSyncs = new FileSync();
  readonly folderSyncs = new FolderSync();
  private readonly partials: string;
  private readonly claims = new Map<string, object>();
  private readonly changed = new Condition();
  private readonly unfinished = new Set<string>();
  /** Paths that were found to be real folders in this turn of the event loop. */
  private readonly checked = new Set<string>();
  /** New folders whose names are not on the disk yet. */
  private readonly making = new Map<string, Promise<void>>();
  private finishing = 0;
  private lock: FileLock | null = null;

  private constructor(
    /** The path as it was given, for people to read. */
    readonly shownPath: string,
    private readonly path: string,
  ) {
    this.partials = join(path, PARTIALS_FOLDER);
  }

  /**
   * Opens the folder. Makes it where it is missing. `now_ms` is the clock.
   *
   * @throws {SealwireError} `folder_unwritable`.
   */
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

  /** Gives the folder up for another server. */
  close(): void {
    this.lock?.release();
    this.lock = null;
  }

  /**
   * Claims a name for `owner`, until it releases it. Waits while another connection is receiving a
   * file of that name.
   *
   * @throws {SealwireError} `file_busy` after {@linkcode CLAIM_WAIT_MS}; `folder_in_use` where
   * another server has the folder.
   */
  async claim(name: string, owner: object): Promise<void> {
    if (this.tryClaim(name, owner)) return;
    // An owner does not wait for itself.
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
   * Claims a name without waiting. Returns false where something has the name or is being received
   * under it.
   *
   * @throws {SealwireError} `unsafe_path`, `folder_in_use`.
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

  /** Waits until one more file may be synced. {@linkcode leaveFinishing} must follow. */
  async enterFinishing(): Promise<void> {
    while (this.finishing >= FINISHING_MAX) await this.changed.wait();
    this.finishing++;
  }

  leaveFinishing(): void {
    this.finishing--;
    this.changed.notifyAll();
  }

  /** Returns the path for the unfinished file of a name. */
  partialPath(name: string): string {
    return this.partials + sep + createHash("sha256").update(name).digest("hex");
  }

  /** Looks at an unfinished file. Does not ask the system for one that was never made. */
  lookAtPartial(path: string): Stats | null {
    return this.unfinished.has(path) ? lstatIfThere(path) : null;
  }

  /** Makes a new unfinished file in place of an older one, and opens it for writing. */
  createPartial(path: string): number {
    this.deletePartial(path);
    this.unfinished.add(path);
    return openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, FILE_MODE);
  }

  deletePartial(path: string): void {
    if (this.unfinished.delete(path)) removeIfThere(path);
  }

  /**
   * Returns the path for a name.
   *
   * @throws {SealwireError} `bad_name` where the path is longer than the system takes. Folders on the
   * way to it must not be made then.
   */
  pathOf(parts: readonly string[]): string {
    const path = [this.path, ...parts].join(sep);
    if (Buffer.byteLength(path) <= PATH_BYTES_MAX) return path;
    throw new SealwireError("bad_name", `the path in ${this.shownPath} would be too long`);
  }

  /** Looks at what has a name. Returns null where nothing has it. Throws `unsafe_path`. */
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
   * Makes the folders that lead to a name. Returns the path of the last one.
   *
   * @throws {SealwireError} `bad_name`, `unsafe_path`; the system's errors.
   */
  async makeFolders(parts: readonly string[]): Promise<string> {
    this.pathOf(parts);
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
      // The modification time may already be the sender's.
      const age_ms = now_ms - lstatSync(path).ctimeMs;
      if (PARTIAL_NAME.test(name) && age_ms > PARTIAL_KEEP_MS) removeIfThere(path);
    }
  }

  /** Takes the folder's lock. Two servers that write the same unfinished file would spoil it. */
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

/**
 * Looks at a path. `existsSync` first is cheaper where nothing is there. A symbolic link to nothing
 * counts as nothing.
 */
function lstatIfThere(path: string): Stats | null {
  return existsSync(path) ? lstatSync(path, { throwIfNoEntry: false }) ?? null : null;
}

/** Gives a file a second name. Returns false where that is taken. */
export function takeName(path: string, name: string): boolean {
  try {
    linkSync(path, name);
    return true;
  } catch (error) {
    if (systemErrorCode(error) === "EEXIST") return false;
    throw error;
  }
}

/** Makes a folder. Returns false where something has its name. */
function makeFolder(path: string, mode?: number): boolean {
  try {
    mkdirSync(path, { mode });
    return true;
  } catch (error) {
    if (systemErrorCode(error) === "EEXIST") return false;
    throw error;
  }
}

/** Checks that `found` is a real folder. `name` is the path that the client may see. */
function requireFolder(name: string, found: Stats): void {
  if (found.isDirectory()) return;
  const what = found.isSymbolicLink() ? "a symbolic link" : "no folder";
  throw new SealwireError("unsafe_path", `"${name}" is ${what} there`);
}
