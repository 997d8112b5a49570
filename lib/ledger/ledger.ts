/**
 * The running ledger: takes submissions, commits them as entries of the log, and answers with what anyone can verify.
 *
 * The log key signs only what is committed, so no crash and no repeated transaction leaves two signed roots of one size.
 */
import { randomBytes } from "node:crypto";
import { isSealwireError, SealwireError } from "../base/errors.ts";
import { decodeBase64url, encodeBase64url, type Sha256, type Uuid } from "../base/parse.ts";
import type { Ed25519KeyPair } from "../keys/ed25519.ts";
import { parseRsaPublicJwk } from "../keys/rsa.ts";
import { hashLeaf, sameHash, verifyInclusion } from "../protocol/merkle.ts";
import type { Unit } from "../protocol/money.ts";
import { SALT_BYTES } from "../protocol/order.ts";
import type { Party } from "../protocol/party.ts";
import type { Anchor } from "./anchor.ts";
import { type Checkpoint, logOrigin, signCheckpoint } from "./checkpoint.ts";
import { type Clock, CLOCK_STEP_S_MAX } from "./clock.ts";
import { CommitQueue } from "./commit_queue.ts";
import { commitRecord } from "./commit_record.ts";
import type { Origin } from "./fair_queue.ts";
import { explains, formatEntry, parseEntry, type Settings } from "./entry.ts";
import { type Seals, storeDamaged } from "./seal.ts";
import { settle, type Settlement } from "./settle.ts";
import type {
  Head,
  LedgerReader,
  LedgerStore,
  LedgerTransaction,
  StoredAccount,
  StoredPayment,
} from "./store.ts";
import {
  accountsOf,
  type Ending,
  endingKey,
  idOf,
  type Outcome,
  type Submission,
} from "./submission.ts";
import { type LogTree, type ReadTiles } from "./tiles.ts";

/** Entries that are read at a time when another process has extended the log. */
const CATCH_UP_ENTRIES = 1_000;
/** Texts of the last entries, which receipts are asked for right after. */
const RECENT_TEXTS_MAX = 4_096;
/** The anchor follows the log within this time. */
const ANCHOR_DELAY_MS = 1_000;

/** The log as it was committed. */
export interface LogState {
  readonly head: Head;
  readonly tree: LogTree;
}

/** An entry with what proves it: the path from it to the root of a signed checkpoint. */
export interface ProvenEntry {
  readonly index: number;
  readonly text: string;
  /** 32 bytes a step. */
  readonly path: readonly Uint8Array[];
  readonly checkpoint: Checkpoint;
}

/** How a checkpoint that someone shows relates to this log. */
export type ShownCheckpoint =
  /** This log grew out of it. */
  | { readonly kind: "linked" }
  /** It is of a history that was lost, and the operator's entry says so. */
  | { readonly kind: "rolled_back" }
  /** This log lacks what it signed. */
  | { readonly kind: "unlinked" };

export interface LedgerOptions {
  readonly store: LedgerStore;
  readonly logKey: Ed25519KeyPair;
  readonly seals: Seals;
  readonly anchor: Anchor;
  readonly clock: Clock;
  /** Go on although the last entry is from the future. */
  readonly acceptClock?: boolean;
  /** Hears what an operator must know: an event and a sentence. */
  readonly onTrouble?: (code: string, text: string) => void;
}

/** Opened by `openLedger` in `open_ledger.ts`. */
export class Ledger {
  private readonly queue = new CommitQueue((submissions) => this.commit(submissions));
  private readonly recentTexts = new Map<number, string>();
  /** Why nothing may be committed any more. */
  private trouble: SealwireError | null = null;
  private clockWasUnsteady = false;
  private signed: Checkpoint | null = null;
  private anchorTimer: ReturnType<typeof setTimeout> | null = null;
  private readonly readTiles: ReadTiles;

  constructor(private readonly options: LedgerOptions, private state: LogState) {
    this.readTiles = tileReader(options.store);
  }

  /**
   * Has the rules applied to `submission` in one of the next commits. Resolves when the outcome is
   * durable. `origin`: on whose behalf, because turns go by address and account; null for the operator.
   *
   * @throws {SealwireError} `overloaded`, `store_unavailable`, `clock_unsteady` (nothing was recorded), `store_damaged`,
   * `ledger_rolled_back`.
   */
  submit(submission: Submission, origin: Origin | null = null): Promise<Outcome> {
    return this.queue.submit(submission, origin);
  }

  /** Resolves when nothing is being committed. */
  idle(): Promise<void> {
    return this.queue.idle();
  }

  /** Ends with the anchor at the newest checkpoint. The store stays open. */
  async close(): Promise<void> {
    await this.idle();
    if (this.anchorTimer === null) return;
    clearTimeout(this.anchorTimer);
    this.storeAnchor();
  }

  get size(): number {
    return this.state.head.size;
  }

  get unit(): Unit {
    return this.state.head.unit;
  }

  get settings(): Settings {
    return this.state.head.settings;
  }

  /** Thumbprint of the server's RSA key. */
  get server(): Sha256 {
    return this.state.head.server;
  }

  /** The newest checkpoint. Ed25519 is deterministic: signed again, it is the same text. */
  get checkpoint(): Checkpoint {
    const { tree } = this.state;
    if (this.signed?.size !== tree.size) {
      this.signed = signedCheckpoint(this.options.logKey, this.server, tree);
    }
    return this.signed;
  }

  /** @throws {SealwireError} `store_damaged`. */
  async account(name: Party): Promise<StoredAccount | null> {
    const account = await this.options.store.account(name);
    if (account === null) return null;
    this.options.seals.checkAccount(account);
    const { jwk, key } = account;
    if (jwk !== null && parseRsaPublicJwk(jwk).thumbprint !== key) {
      throw storeDamaged(`the key of account ${name} was changed in the database`);
    }
    return account;
  }

  /** @throws {SealwireError} `store_damaged`. */
  async payment(payer: Party, id: Uuid): Promise<StoredPayment | null> {
    const payment = await this.options.store.payment(payer, id);
    if (payment !== null) this.options.seals.checkEnding(payment);
    return payment;
  }

  /**
   * Entries with their proofs under the newest checkpoint.
   *
   * @throws {SealwireError} `store_damaged` when what is stored is not what was committed. {RangeError} for an index that no
   * entry has.
   */
  async prove(indexes: readonly number[]): Promise<ProvenEntry[]> {
    if (indexes.some((index) => index >= this.size)) await this.refresh();
    const { checkpoint, state: { tree } } = this;
    const texts = await Promise.all(indexes.map((index) => this.entryText(index)));
    const paths = await tree.inclusionProofs(indexes, tree.size, this.readTiles);
    return indexes.map((index, at) => {
      const [text, path] = [texts[at]!, paths[at]!];
      try {
        verifyInclusion(hashLeaf(text), index, tree, path);
      } catch (cause) {
        throw storeDamaged(`entry ${index} was changed in the database`, cause);
      }
      return { index, text, path, checkpoint };
    });
  }

  async proveOne(index: number): Promise<ProvenEntry> {
    const [proven] = await this.prove([index]);
    return proven!;
  }

  /** The consistency proof between two sizes that this log has had. Throws RangeError for others. */
  async consistency(from: number, to: number): Promise<Uint8Array[]> {
    return await this.state.tree.consistencyProof(from, to, this.readTiles);
  }

  /** @throws {RangeError} for a size that this log never had. */
  async rootAt(size: number): Promise<Uint8Array> {
    return await this.state.tree.rootAt(size, this.readTiles);
  }

  /**
   * Compares a checkpoint that carries this log's signature with the log. What this log lacks, and no rollback explains, ends
   * all commits.
   */
  async compare(shown: Checkpoint): Promise<ShownCheckpoint> {
    if (shown.size > this.size) await this.refresh();
    const { checkpoint } = this;
    if (shown.size <= checkpoint.size && sameHash(await this.rootAt(shown.size), shown.root)) {
      return { kind: "linked" };
    }
    if (await this.findRollback(shown.size) !== null) return { kind: "rolled_back" };
    this.stop(rolledBack(shown, this.size));
    this.raiseAnchor(shown);
    return { kind: "unlinked" };
  }

  /** The operator's entry that explains why this log lacks a tree of this size; null where there is none. */
  async findRollback(lostSize: number): Promise<ProvenEntry | null> {
    for (const proven of await this.prove(await this.options.store.operatorIndexes())) {
      const entry = parseEntry(proven.text);
      if (entry.type === "ledger.rollback" && explains(entry, lostSize)) return proven;
    }
    return null;
  }

  /** Nothing is committed from now on. The first reason stays. */
  private stop(reason: SealwireError): void {
    if (this.trouble !== null) return;
    this.trouble = reason;
    this.options.onTrouble?.(reason.code, reason.message);
  }

  private async entryText(index: number): Promise<string> {
    const recent = this.recentTexts.get(index);
    if (recent !== undefined) return recent;
    const [text] = await this.options.store.entries(index, index + 1);
    if (text === undefined) throw storeDamaged(`entry ${index} is missing in the database`);
    return text;
  }

  /** Takes in what other processes have committed. */
  private async refresh(): Promise<void> {
    const { store } = this.options;
    const head = await store.head();
    if (head !== null && head.size > this.size) this.adopt(await this.catchUp(store));
  }

  private async commit(submissions: readonly Submission[]): Promise<readonly Outcome[]> {
    if (this.trouble !== null) throw this.trouble;
    const time_s = this.readClock();
    let next = this.state;
    let settlement: Settlement | null = null;
    let texts: string[] = [];
    try {
      await this.options.store.transaction(async (transaction) => {
        const before = await this.catchUp(transaction);
        settlement = await this.settle(transaction, before, time_s, submissions);
        texts = settlement.entries.map(formatEntry);
        next = await this.append(transaction, before, settlement, texts, time_s);
      });
    } catch (error) {
      if (isSealwireError(error, "store_damaged") || isSealwireError(error, "ledger_rolled_back")) {
        this.stop(error);
      }
      if (!await this.isCommitted(next)) throw error;
    }
    this.remember(texts, next.head.size - texts.length);
    this.adopt(next);
    return settlement!.outcomes;
  }

  /** @throws {SealwireError} `clock_unsteady`. */
  private readClock(): number {
    const { clock, acceptClock } = this.options;
    const now_s = clock.now_s();
    const ahead_s = this.state.head.time_s - now_s;
    const unsteady = !clock.isSteady() || (ahead_s > CLOCK_STEP_S_MAX && !acceptClock);
    if (unsteady) {
      const error = clockUnsteady(ahead_s);
      if (!this.clockWasUnsteady) this.options.onTrouble?.(error.code, error.message);
      this.clockWasUnsteady = true;
      throw error;
    }
    this.clockWasUnsteady = false;
    return ahead_s > 0 && ahead_s <= CLOCK_STEP_S_MAX ? this.state.head.time_s : now_s;
  }

  private async settle(
    transaction: LedgerTransaction,
    { head }: LogState,
    time_s: number,
    submissions: readonly Submission[],
  ): Promise<Settlement> {
    const { seals } = this.options;
    const accounts = await transaction.accounts(submissions.flatMap(accountsOf));
    for (const account of accounts.values()) seals.checkAccount(account);
    const endings = new Map<string, Ending>();
    for (const ending of await transaction.endings(submissions.flatMap((one) => idOf(one) ?? []))) {
      seals.checkEnding(ending);
      endings.set(endingKey(ending.payer, ending.id), ending);
    }
    const { size: firstIndex, server, unit, settings } = head;
    const context = { time_s, firstIndex, server, unit, settings, makeSalt };
    return settle(context, { accounts, endings }, submissions);
  }

  private async append(
    transaction: LedgerTransaction,
    before: LogState,
    settlement: Settlement,
    entryTexts: readonly string[],
    time_s: number,
  ): Promise<LogState> {
    if (entryTexts.length === 0) return before;
    const { tree, fullTiles } = before.tree.appended(entryTexts.map(hashLeaf));
    const root = encodeBase64url(tree.root) as Sha256;
    const { settings } = settlement;
    const head: Head = { ...before.head, size: tree.size, root, time_s, settings };
    const { seals } = this.options;
    await transaction.append(commitRecord(seals, head, settlement, entryTexts, fullTiles));
    return { head, tree };
  }

  /** The log as the database has it, which another process may have extended. */
  private async catchUp(reader: LedgerReader): Promise<LogState> {
    const { state } = this;
    const stored = await reader.head();
    if (stored === null) {
      if (state.head.size === 0) return state;
      throw storeDamaged("the head of the ledger is missing in the database");
    }
    this.options.seals.checkHead(stored);
    const { seal: _, ...head } = stored;
    if (head.size < state.head.size) throw rolledBack(this.checkpoint, head.size);
    let { tree } = state;
    while (tree.size < head.size) {
      const to = Math.min(head.size, tree.size + CATCH_UP_ENTRIES);
      const texts = await reader.entries(tree.size, to);
      if (texts.length !== to - tree.size) throw storeDamaged("entries are missing");
      ({ tree } = tree.appended(texts.map(hashLeaf)));
    }
    if (!sameHash(tree.root, decodeBase64url(head.root)!)) {
      throw storeDamaged(`the first ${head.size} entries are not those of the signed log`);
    }
    return { head, tree };
  }

  /** Whether a commit that failed has happened all the same: the head knows. */
  private async isCommitted({ head: { size, root } }: LogState): Promise<boolean> {
    if (size === this.state.head.size) return false;
    const stored = await this.options.store.head();
    return stored?.size === size && stored.root === root;
  }

  private adopt(state: LogState): void {
    if (state.head.size <= this.state.head.size) return;
    this.state = state;
    this.anchorTimer ??= setTimeout(() => this.storeAnchor(), ANCHOR_DELAY_MS);
  }

  private storeAnchor(): void {
    this.anchorTimer = null;
    this.raiseAnchor(this.checkpoint);
  }

  private raiseAnchor(checkpoint: Checkpoint): void {
    try {
      this.options.anchor.raise(checkpoint);
    } catch (error) {
      if (!isSealwireError(error)) throw error;
      // The next commit tries again. Until then a rollback of the last seconds would go unseen.
      this.options.onTrouble?.(error.code, `the anchor is behind the ledger: ${error.message}`);
    }
  }

  private remember(texts: readonly string[], firstIndex: number): void {
    for (const [offset, text] of texts.entries()) this.recentTexts.set(firstIndex + offset, text);
    for (const index of this.recentTexts.keys()) {
      if (this.recentTexts.size <= RECENT_TEXTS_MAX) return;
      this.recentTexts.delete(index);
    }
  }
}

export function signedCheckpoint(
  logKey: Ed25519KeyPair,
  server: Sha256,
  { size, root }: Pick<LogTree, "size" | "root">,
): Checkpoint {
  const origin = logOrigin(server);
  return { origin, size, root, text: signCheckpoint(logKey, origin, size, root) };
}

/** Tiles of `store` as a proof needs them. */
export function tileReader(store: LedgerReader): ReadTiles {
  return async (ids) => {
    const tiles = await store.tiles(ids);
    return tiles.map((hashes, at) => {
      const { level, index } = ids[at]!;
      if (hashes === null) throw storeDamaged(`tile ${level}/${index} is missing in the database`);
      return hashes;
    });
  };
}

/** The database lacks what was signed. */
export function rolledBack(lost: Checkpoint, size: number): SealwireError {
  return new SealwireError(
    "ledger_rolled_back",
    `this ledger was signed with ${lost.size} entries, and the database has another history of ${size}: ` +
      "it was restored from an older backup, or entries were removed. Put back the newest database, " +
      "or start the server with --accept-rollback to go on without what is missing",
    { details: { signed_size: lost.size, size } },
  );
}

function clockUnsteady(ahead_s: number): SealwireError {
  const why = ahead_s > CLOCK_STEP_S_MAX
    ? `the last entry is ${ahead_s} s in the future`
    : "the clock has jumped";
  return new SealwireError(
    "clock_unsteady",
    `${why}: payments pause until the server's clock is right. ` +
      "If it is right now, restart the server with --accept-clock",
  );
}

function makeSalt(): string {
  return encodeBase64url(randomBytes(SALT_BYTES));
}
