/**
 * What a client remembers between runs: of each server the newest checkpoint that was linked to all
 * before it and those that are still to be linked, and of each account the last payment that was
 * shown.
 */
import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { SealwireError } from "../../base/errors.ts";
import { withFileLock } from "../../base/file_lock.ts";
import { PRIVATE_FILE_MODE, readTextFile, writeError, writeFileAtomic } from "../../base/files.ts";
import { JsonFile } from "../../base/json_file.ts";
import { isSha256, type Members, type Sha256 } from "../../base/parse.ts";
import type { AccountName } from "../../keys/rsa.ts";
import { type Checkpoint, type Log, verifyCheckpoint } from "../../ledger/checkpoint.ts";
import { NOTE_CHARACTERS_MAX } from "../../ledger/signed_note.ts";

const FILE_BYTES_MAX = 1024 * 1024;
const SERVERS_MAX = 1_000;
const SHOWN_LINE = /^([\w-]{43}) (\d{1,15})\n/gm;
/** Checkpoints that wait to be linked. A server that shows more before it links them is not believed. */
export const UNLINKED_MAX = 1_024;

/**
 * The newest linked checkpoint of one server, shared by all accounts of a keys folder: `checkpoint_<thumbprint>.txt`. Every
 * method may throw `memory_unreadable`.
 */
export class RememberedCheckpoint {
  readonly path: string;

  constructor(keysFolder: string, server: Sha256, private readonly log: Log) {
    this.path = join(keysFolder, `checkpoint_${server}.txt`);
  }

  get(): Checkpoint | null {
    const options = { size_bytes_max: NOTE_CHARACTERS_MAX, code: "memory_unreadable" } as const;
    const text = readTextFile(this.path, options);
    try {
      return text === null ? null : verifyCheckpoint(text, this.log);
    } catch (cause) {
      throw new SealwireError(
        "memory_unreadable",
        `${this.path} is not what was stored there: put back a copy, or move it away to trust the server's ledger anew`,
        { cause },
      );
    }
  }

  /**
   * Stores `newer`, which has been linked to `known`. False when another process has stored something else meanwhile: then
   * nothing was written, and that must be linked first.
   *
   * @throws {SealwireError} `file_locked`, `folder_unwritable`, `write_failed`.
   */
  replace(known: Checkpoint | null, newer: Checkpoint): boolean {
    return withFileLock(this.path, () => {
      const stored = this.get();
      if (stored?.text !== known?.text) return false;
      if (stored?.text !== newer.text) writeFileAtomic(this.path, newer.text, PRIVATE_FILE_MODE);
      return true;
    });
  }
}

/** A checkpoint that the log key signed, and that is not linked to the remembered one yet. */
export interface Unlinked {
  readonly checkpoint: Checkpoint;
  /** Another client was shown it, and this one was told. */
  readonly foreign: boolean;
}

/**
 * Checkpoints that a connection left unlinked when it ended: `unlinked_<thumbprint>.json`. The next
 * one links them before anything else. Every method may throw `memory_unreadable`.
 */
export class UnlinkedCheckpoints {
  private readonly file: JsonFile<Map<string, Unlinked>>;
  /** As this process has read or written them last, by text. */
  private stored: ReadonlyMap<string, Unlinked> = new Map();

  constructor(keysFolder: string, server: Sha256, log: Log) {
    this.file = new JsonFile(join(keysFolder, `unlinked_${server}.json`), {
      version: 1,
      size_bytes_max: FILE_BYTES_MAX,
      unreadable_code: "memory_unreadable",
      advice: "put back a copy, or move it away to forget what was not linked",
      members: ["own", "foreign"],
      empty: () => new Map(),
      parse: (members) =>
        new Map([
          ...parseUnlinked(members, "own", log),
          ...parseUnlinked(members, "foreign", log),
        ]),
      toJson: (unlinked) => ({
        own: textsOf(unlinked, false),
        foreign: textsOf(unlinked, true),
      }),
    });
  }

  read(): Unlinked[] {
    this.stored = this.file.read();
    return [...this.stored.values()];
  }

  /**
   * Stores `unlinked` in place of what this process has read or stored before. What other processes
   * have stored stays.
   *
   * @throws {SealwireError} `file_locked`, `folder_unwritable`, `write_failed`.
   */
  replace(unlinked: readonly Unlinked[]): void {
    const next = new Map(unlinked.map((one) => [one.checkpoint.text, one]));
    const added = [...next].filter(([text]) => !this.stored.has(text));
    const removed = [...this.stored.keys()].filter((text) => !next.has(text));
    if (added.length === 0 && removed.length === 0) return;
    this.file.update((stored) => {
      for (const text of removed) stored.delete(text);
      for (const [text, one] of added) {
        // The oldest stay: unless they are linked, nothing that follows is believed.
        if (stored.size < UNLINKED_MAX) stored.set(text, one);
      }
      return stored;
    });
    this.stored = next;
  }
}

function parseUnlinked(members: Members, name: "own" | "foreign", log: Log): [string, Unlinked][] {
  return members.list(name, UNLINKED_MAX).map((text) => {
    const checkpoint = verifyCheckpoint(text, log);
    return [checkpoint.text, { checkpoint, foreign: name === "foreign" }];
  });
}

function textsOf(unlinked: ReadonlyMap<string, Unlinked>, foreign: boolean): string[] {
  return [...unlinked].flatMap(([text, one]) => one.foreign === foreign ? [text] : []);
}

/**
 * The entry of the last payment shown, for each server. Payments are shown by the page, and the disk
 * is waited for once a page only:
 *
 * - `<account>_shown.log` gets a line for each payment at once, without a sync. It survives a killed
 *   process: then at most the one payment is shown again that was being shown.
 * - `<account>_shown.json` is written and synced at the end of each page. It survives a power
 *   failure: then at most the last page is shown again.
 *
 * One process at a time shows the payments of an account, because a second listener displaces the
 * first.
 */
export class ShownPayments {
  private readonly file: JsonFile<Map<Sha256, number>>;
  private readonly logPath: string;
  /** What this process has shown and not synced yet. */
  private readonly unsynced = new Map<Sha256, number>();
  private log: number | null = null;

  constructor(keysFolder: string, account: AccountName) {
    this.logPath = join(keysFolder, `${account}_shown.log`);
    this.file = new JsonFile(join(keysFolder, `${account}_shown.json`), {
      version: 2,
      size_bytes_max: FILE_BYTES_MAX,
      unreadable_code: "memory_unreadable",
      advice: "put back a copy, or move it away to be shown every payment again",
      members: ["servers"],
      empty: () => new Map(),
      parse: (members) => parseShown(members.object("servers")),
      toJson: (shown) => ({ servers: Object.fromEntries(shown) }),
    });
  }

  /** The entry's index; null where nothing has been shown. */
  get(server: Sha256): number | null {
    const unsynced = this.unsynced.get(server);
    if (unsynced !== undefined) return unsynced;
    const indexes = [...this.readLog(), ...this.file.read()]
      .filter(([shownBy]) => shownBy === server).map(([, index]) => index);
    return indexes.length === 0 ? null : Math.max(...indexes);
  }

  /**
   * Remembers that the payment in entry `index` is shown, in case this process is killed.
   *
   * @throws {SealwireError} `folder_unwritable`, `write_failed`.
   */
  set(server: Sha256, index: number): void {
    this.unsynced.set(server, index);
    try {
      this.log ??= openSync(this.logPath, "a", PRIVATE_FILE_MODE);
      writeSync(this.log, `${server} ${index}\n`);
    } catch (error) {
      throw writeError(this.logPath, error);
    }
  }

  /** Remembers all that was shown, in case the power fails. */
  sync(): void {
    if (this.unsynced.size === 0) return;
    this.file.update((shown) => new Map([...shown, ...this.unsynced]));
    this.unsynced.clear();
    if (this.log !== null) ftruncateSync(this.log);
  }

  close(): void {
    this.sync();
    if (this.log !== null) closeSync(this.log);
    this.log = null;
  }

  /** The lines that are whole: a process may have been killed in the middle of the last one. */
  private readLog(): [server: string, index: number][] {
    const options = { size_bytes_max: FILE_BYTES_MAX, code: "memory_unreadable" } as const;
    const text = readTextFile(this.logPath, options) ?? "";
    return [...text.matchAll(SHOWN_LINE)].map(([, server, index]) => [server!, Number(index)]);
  }
}

function parseShown(members: Members): Map<Sha256, number> {
  return new Map(
    members.entries(SERVERS_MAX).map(([server]) => {
      if (!isSha256(server)) {
        throw new SealwireError("memory_unreadable", `${JSON.stringify(server)} is no thumbprint`);
      }
      return [server, members.integer(server, 0, Number.MAX_SAFE_INTEGER)];
    }),
  );
}
