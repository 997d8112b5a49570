/**
 * The running ledger: takes submissions, commits them as entries of the log, and answers with what anyone can verify.
 *
 * The log key signs only what is committed, so no crash and no repeated transaction leaves two signed roots of one size.
 */
import { randomBytes } from "node:crypto";
import { BoundedMap } from "../base/bounded_map.ts";
import { isSealwireError, isWorthRetrying, SealwireError } from "../base/errors.ts";
import { decodeBase64url, encodeBase64url, type Sha256, type Uuid } from "../base/parse.ts";
import { retry } from "../base/retry.ts";
import type { Ed25519KeyPair } from "../keys/ed25519.ts";
import { type AccountName, parseRsaPublicJwk, type RsaPublicJwk } from "../keys/rsa.ts";
import { parseDelegation } from "../protocol/delegation.ts";
import { hashLeaf, sameHash, verifyInclusion } from "../protocol/merkle.ts";
import type { Unit } from "../protocol/money.ts";
import { SALT_BYTES } from "../protocol/order.ts";
import { type Party, TREASURY } from "../protocol/party.ts";
import { parseRotation } from "../protocol/rotation.ts";
import { sha256Text } from "../protocol/token.ts";
import type { Anchor } from "./anchor.ts";
import { type Checkpoint, logOrigin, signCheckpoint } from "./checkpoint.ts";
import { type Clock, CLOCK_STEP_S_MAX } from "./clock.ts";
import { CommitQueue } from "./commit_queue.ts";
import { commitRecord } from "./commit_record.ts";
import { explains, formatEntry, type LedgerRollback, parseEntry, type Settings } from "./entry.ts";
import type { Origin } from "./fair_queue.ts";
import { type Invite, makeInvite, openInvite } from "./invite.ts";
import { readView } from "./read_view.ts";
import { type Seals, storeDamaged } from "./seal.ts";
import { settle, type Settlement } from "./settle.ts";
import type {
  Head,
  LedgerReader,
  LedgerStore,
  LedgerTransaction,
  Sealed,
  StoredAccount,
  StoredPayment,
} from "./store.ts";
import type { Outcome, PaymentRequest, Submission } from "./submission.ts";
import { type LogTree, type ReadTiles } from "./tiles.ts";

/** Entries that are read at a time when another process has extended the log. */
const CATCH_UP_ENTRIES = 1_000;
/** Texts of the last entries, which receipts are asked for right after. */
const RECENT_TEXTS_MAX = 4_096;
/** How long to ask whether a commit has happened whose answer was lost. Payments wait meanwhile. */
const CONFIRM_TIMEOUT_MS = 10_000;
const CONFIRM_PAUSE_MS = 100;
const NEVER_ABORTED = new AbortController().signal;
/** The anchor follows the log within this time. */
const ANCHOR_DELAY_MS = 1_000;
/** Rotations that one answer tells of. */
const KEY_CHAIN_MAX = 16;

/** The log as it was committed. */
export interface LogState {
  readonly head: Head;
  readonly tree: LogTree;
  /** The last entry is `ledger.moved`: the log is read, never extended. */
  readonly isMoved: boolean;
}

/** An entry with what proves it: the path from it to the root of a signed checkpoint. */
export interface ProvenEntry {
  readonly index: number;
  readonly text: string;
  /** 32 bytes a step. */
  readonly path: readonly Uint8Array[];
  readonly checkpoint: Checkpoint;
}

/** An entry that gave an account another key, with the tokens that it names. */
export interface KeyChange {
  readonly proven: ProvenEntry;
  readonly oldKey: RsaPublicJwk;
  readonly rotation: string;
  readonly countersignature: string;
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
  /** Where a checkpoint is kept that carries this log's signature and that this log lacks. */
  readonly unlinked: Anchor;
  readonly clock: Clock;
  /** Go on although the last entry is from the future. */
  readonly acceptClock?: boolean;
  /** Hears what an operator must know: an event and a sentence. */
  readonly onTrouble?: (code: string, text: string) => void;
}

/** Opened by `openLedger` in `open_ledger.ts`. */
export class Ledger {
  private readonly queue = new CommitQueue((submissions) => this.commit(submissions));
  private readonly recentTexts = new BoundedMap<number, string>(RECENT_TEXTS_MAX);
  /** Why nothing may be committed any more. */
  private trouble: SealwireError | null = null;
  private clockWasUnsteady = false;
  /** The last entry was from the future at start, and the clock has not come right since. */
  private awaitsClock: boolean;
  private failoverWasPending = false;
  private signed: Checkpoint | null = null;
  private anchorTimer: ReturnType<typeof setTimeout> | null = null;
  private refreshing: Promise<void> | null = null;
  private onForeign: (from: number, to: number) => void = () => {};
  private readonly readTiles: ReadTiles;

  constructor(private readonly options: LedgerOptions, private state: LogState) {
    this.readTiles = tileReader(options.store);
    this.awaitsClock = state.head.time_s - options.clock.now_s() > CLOCK_STEP_S_MAX;
  }

  /**
   * Has the rules applied to `submission` in one of the next commits. Resolves when the outcome is
   * durable. `origin`: on whose behalf, because turns go by address and account; null for the operator.
   *
   * @throws {SealwireError} `overloaded`, `store_unavailable`, `clock_unsteady`, `store_damaged`,
   * `ledger_rolled_back`.
   */
  submit(submission: Submission, origin: Origin | null = null): Promise<Outcome> {
    return this.queue.submit(submission, origin);
  }

  /** An invite to open an account with `balance`. */
  makeInvite(balance: bigint): Invite {
    return makeInvite(this.options.seals, balance);
  }

  /** @throws {SealwireError} `bad_invite` for a code that this server did not make. */
  openInvite(code: unknown): Invite {
    return openInvite(this.options.seals, code);
  }

  /** Calls `listener` with the entries, `from` up to, without, `to`, that other processes have committed, in order. */
  onForeignEntries(listener: (from: number, to: number) => void): void {
    this.onForeign = listener;
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

  /** Whether the ledger goes on in another database. Everything submitted is refused with `ledger_moved`. */
  get isMoved(): boolean {
    return this.state.isMoved;
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
    // Nothing is stored beside the thumbprint of the treasury's key, which is the server's.
    if (name !== TREASURY && thumbprintOf(account.jwk) !== account.key) {
      throw storeDamaged(`the key of account ${name} was changed in the database`);
    }
    return account;
  }

  /** @throws {SealwireError} `store_damaged`. */
  async payment(payer: Party, id: Uuid): Promise<StoredPayment | null> {
    const payment = await this.options.store.payment(payer, id);
    if (payment === null) return null;
    this.options.seals.checkEnding(payment);
    const { signedText, contentSha256 } = payment;
    if (signedText !== null && sha256Text(signedText) !== contentSha256) {
      throw storeDamaged(`the order of payment ${id} was changed in the database`);
    }
    return payment;
  }

  /** @throws {SealwireError} `store_damaged`. */
  async request(payee: AccountName, id: Uuid): Promise<PaymentRequest | null> {
    const [request] = await this.options.store.requests([{ payee, id }]);
    if (request === undefined) return null;
    this.options.seals.checkRequest(request);
    return request;
  }

  /** Requests of which `account` is the payee or the named payer: pending ones first, then the newest. Throws `store_damaged`. */
  async requestsOf(account: AccountName, limit: number): Promise<PaymentRequest[]> {
    const requests = await this.options.store.requestsOf(account, limit);
    for (const request of requests) this.options.seals.checkRequest(request);
    return requests;
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
    const missing = indexes.find((index) => !(index >= 0 && index < tree.size));
    if (missing !== undefined) throw new RangeError(`the log has no entry ${missing}`);
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

  /**
   * The rotations that led from the key with thumbprint `known` to the account's key, oldest first; none where that key never
   * was the account's, or is further back than {@linkcode KEY_CHAIN_MAX}.
   */
  async keyChain(name: AccountName, known: Sha256): Promise<KeyChange[]> {
    const account = await this.account(name);
    const chain: KeyChange[] = [];
    let index = account?.keyed ?? 0;
    while (index > 0 && chain.length < KEY_CHAIN_MAX) {
      const proven = await this.proveOne(index);
      const entry = parseEntry(proven.text);
      if (entry.type === "account.open" && entry.key === known) return chain;
      if (entry.type !== "account.key") return [];
      if (entry.key === known) return chain;
      const { store } = this.options;
      const rotation = await store.rotation(entry.rotationSha256);
      const countersignature = await store.rotation(entry.countersignatureSha256);
      if (rotation === null || countersignature === null) {
        throw storeDamaged("a rotation is missing");
      }
      const oldKey = await this.keyOfEntry(entry.replaces);
      chain.unshift({ proven, oldKey, rotation, countersignature });
      index = entry.replaces;
    }
    return [];
  }

  /** The key that an entry gave an account. */
  private async keyOfEntry(index: number): Promise<RsaPublicJwk> {
    const { store } = this.options;
    const entry = parseEntry(await this.entryText(index));
    if (entry.type === "account.open" && entry.delegationSha256 !== null) {
      return parseDelegation(await store.delegation(entry.delegationSha256)).claims.key.jwk;
    }
    if (entry.type !== "account.key") throw storeDamaged(`entry ${index} gives no key`);
    return parseRotation(await store.rotation(entry.rotationSha256)).claims.key.jwk;
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
    const explained = await this.findRollback((rollback) => explains(rollback, shown));
    if (explained !== null) return { kind: "rolled_back" };
    this.stop(rolledBack(shown, this.size));
    // Kept, so that the next start does not extend the log either. The anchor is of this history and may be larger.
    this.keep(this.options.unlinked, shown);
    return { kind: "unlinked" };
  }

  /** The first rollback that the operator has entered for which `matches` holds; null where there is none. */
  async findRollback(matches: (rollback: LedgerRollback) => boolean): Promise<ProvenEntry | null> {
    for (const proven of await this.operatorEntries()) {
      const entry = parseEntry(proven.text);
      if (entry.type === "ledger.rollback" && matches(entry)) return proven;
    }
    return null;
  }

  private async operatorEntries(): Promise<ProvenEntry[]> {
    const indexes = await this.options.store.operatorIndexes();
    try {
      return await this.prove(indexes);
    } catch (cause) {
      if (!(cause instanceof RangeError)) throw cause;
      throw storeDamaged("the list of the operator's entries was changed in the database", cause);
    }
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

  /**
   * Takes in what other processes have committed.
   *
   * @throws {SealwireError} `store_unavailable`, `store_damaged`, `ledger_rolled_back`.
   */
  async refresh(): Promise<void> {
    const head = await this.options.store.head();
    while (head !== null && head.size > this.size) {
      this.refreshing ??= this.adoptConfirmed().finally(() => this.refreshing = null);
      await this.refreshing;
    }
  }

  /** What is taken in is signed, so it must be there to stay. */
  private async adoptConfirmed(): Promise<void> {
    const { store } = this.options;
    this.adopt(await this.catchUp(store, await store.confirmedHead()));
  }

  private async commit(submissions: readonly Submission[]): Promise<readonly Outcome[]> {
    if (this.trouble !== null) throw this.trouble;
    let next = this.state;
    let settlement: Settlement | null = null;
    let texts: string[] = [];
    try {
      await this.options.store.transaction(async (transaction) => {
        const before = await this.catchUp(transaction, await transaction.head());
        await this.judgeFailover(transaction, false);
        const time_s = this.readClock(before.head, transaction.now_s);
        settlement = await this.settle(transaction, before, time_s, submissions);
        texts = settlement.entries.map(formatEntry);
        next = await this.append(transaction, before, settlement, texts, time_s);
      });
    } catch (error) {
      if (isSealwireError(error, "store_damaged") || isSealwireError(error, "ledger_rolled_back")) {
        this.stop(error);
      }
      if (!isSealwireError(error, "outcome_unknown")) throw error;
      await this.requireCommitted(texts, next, error);
    }
    const firstOwn = next.head.size - texts.length;
    this.remember(texts, firstOwn);
    this.adopt(next, firstOwn);
    return settlement!.outcomes;
  }

  /**
   * Finds out whether the database has failed over. Then it may lack commits that were answered, of which another server
   * knows. `accept`: the operator has compared, and it does not.
   *
   * @throws {SealwireError} `ledger_rolled_back`, and as `transaction` of the store.
   */
  async checkFailover(accept: boolean): Promise<void> {
    try {
      await this.options.store.transaction(async (transaction) => {
        await this.catchUp(transaction, await transaction.head());
        await this.judgeFailover(transaction, accept);
      });
    } catch (error) {
      if (!isSealwireError(error, "failover_pending")) throw error;
    }
  }

  /** With synchronous replication nothing is missing that any server knows of, once this one's own head links. */
  private async judgeFailover({ failover }: LedgerTransaction, accept: boolean): Promise<void> {
    if (failover === undefined) {
      this.failoverWasPending = false;
    } else if (failover.wasSynchronous || accept) {
      await failover.accept();
    } else {
      const error = failoverPending();
      if (!this.failoverWasPending) this.options.onTrouble?.(error.code, error.message);
      this.failoverWasPending = true;
      throw error;
    }
  }

  /**
   * The time of the entries that follow `last`, by the database's clock where servers share one. A small step back does
   * not let it fall.
   *
   * @throws {SealwireError} `clock_unsteady`.
   */
  private readClock(last: Head, shared_s: number | null): number {
    const { clock, acceptClock } = this.options;
    // A clock that was wrong at start is put right by a step, which is then no reason to pause.
    if (this.awaitsClock) clock.trust();
    const now_s = shared_s ?? clock.now_s();
    const ahead_s = last.time_s - now_s;
    const isSteady = shared_s !== null || clock.isSteady();
    if (!isSteady || (ahead_s > CLOCK_STEP_S_MAX && !acceptClock)) {
      const error = clockUnsteady(ahead_s);
      if (!this.clockWasUnsteady) this.options.onTrouble?.(error.code, error.message);
      this.clockWasUnsteady = true;
      throw error;
    }
    this.awaitsClock = false;
    this.clockWasUnsteady = false;
    return ahead_s > 0 && ahead_s <= CLOCK_STEP_S_MAX ? last.time_s : now_s;
  }

  private async settle(
    transaction: LedgerTransaction,
    { head, isMoved }: LogState,
    time_s: number,
    submissions: readonly Submission[],
  ): Promise<Settlement> {
    const view = await readView(transaction, submissions, {
      time_s,
      seals: this.options.seals,
      payment: (payer, id) => this.payment(payer, id),
    });
    const { size: firstIndex, server, unit, settings } = head;
    const context = { time_s, firstIndex, server, unit, settings, isMoved, makeSalt };
    return settle(context, view, submissions);
  }

  private async append(
    transaction: LedgerTransaction,
    before: LogState,
    settlement: Settlement,
    entryTexts: readonly string[],
    time_s: number,
  ): Promise<LogState> {
    if (entryTexts.length === 0) {
      if (settlement.requests.length === 0) return before;
      const record = commitRecord(this.options.seals, before.head, settlement, [], []);
      await transaction.append(record);
      return before;
    }
    const { tree, fullTiles } = before.tree.appended(entryTexts.map(hashLeaf));
    const root = encodeBase64url(tree.root) as Sha256;
    const { settings } = settlement;
    const head: Head = { ...before.head, size: tree.size, root, time_s, settings };
    const { seals } = this.options;
    await transaction.append(commitRecord(seals, head, settlement, entryTexts, fullTiles));
    return { head, tree, isMoved: isMove(entryTexts.at(-1)) };
  }

  /** The log up to the head `stored`, by which another process may have extended it. */
  private async catchUp(reader: LedgerReader, stored: Sealed<Head> | null): Promise<LogState> {
    const { state } = this;
    let last: string | undefined;
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
      last = texts.at(-1);
      ({ tree } = tree.appended(texts.map(hashLeaf)));
    }
    if (!sameHash(tree.root, decodeBase64url(head.root)!)) {
      throw storeDamaged(`the first ${head.size} entries are not those of the signed log`);
    }
    return { head, tree, isMoved: last === undefined ? state.isMoved : isMove(last) };
  }

  /**
   * Finds out whether a commit has happened whose answer was lost. Entries have salts, so the last one says it.
   *
   * @throws {SealwireError} `store_unavailable` when it has not happened, or when that cannot be found out now. Then the
   * same submission, sent again, ends it.
   */
  private async requireCommitted(
    texts: readonly string[],
    { head: { size } }: LogState,
    cause: SealwireError,
  ): Promise<void> {
    const { store } = this.options;
    const head = await retry(() => store.confirmedHead(), {
      pause_ms_min: CONFIRM_PAUSE_MS,
      pause_ms_max: CONFIRM_PAUSE_MS,
      timeout_ms: CONFIRM_TIMEOUT_MS,
      signal: NEVER_ABORTED,
      isPassing: (error) => isSealwireError(error, "outcome_unknown") || isWorthRetrying(error),
    }).catch((error) => {
      throw isSealwireError(error, "outcome_unknown") ? undecided(error) : error;
    });
    if (texts.length > 0 && head !== null && head.size >= size) {
      const [text] = await store.entries(size - 1, size);
      if (text === texts.at(-1)) return;
    }
    throw new SealwireError(
      "store_unavailable",
      "the database lost the connection before it recorded anything: try again",
      { cause },
    );
  }

  /** `firstOwn`: the index from which on the entries are this ledger's own. */
  private adopt(state: LogState, firstOwn = state.head.size): void {
    const from = this.state.head.size;
    if (state.head.size <= from) return;
    this.state = state;
    if (firstOwn > from) this.onForeign(from, firstOwn);
    this.anchorTimer ??= setTimeout(() => this.storeAnchor(), ANCHOR_DELAY_MS);
  }

  private storeAnchor(): void {
    this.anchorTimer = null;
    this.keep(this.options.anchor, this.checkpoint);
  }

  private keep(anchor: Anchor, checkpoint: Checkpoint): void {
    try {
      anchor.raise(checkpoint);
    } catch (error) {
      if (!isSealwireError(error)) throw error;
      // The next commit tries again with the anchor. Until then a rollback of the last seconds would go unseen.
      const text = `checkpoint ${checkpoint.size} is not kept in the keys folder: ${error.message}`;
      this.options.onTrouble?.(error.code, text);
    }
  }

  private remember(texts: readonly string[], firstIndex: number): void {
    for (const [offset, text] of texts.entries()) this.recentTexts.set(firstIndex + offset, text);
  }
}

/** Whether the entry after which a log ends, undefined where there is none, says that it goes on elsewhere. */
export function isMove(lastText: string | undefined): boolean {
  return lastText !== undefined && lastText.includes('"ledger.moved"') &&
    parseEntry(lastText).type === "ledger.moved";
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
function tileReader(store: LedgerReader): ReadTiles {
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
  const why = size === 0
    ? "the database is empty: check --db."
    : `the database has another history of ${size}: it was restored from an older backup, or entries were removed.`;
  return new SealwireError(
    "ledger_rolled_back",
    `this ledger was signed with ${lost.size} entries, and ${why} Put back the newest database, ` +
      "or start the server with --accept-rollback to go on without what is missing",
    { details: { signed_size: lost.size, size } },
  );
}

function failoverPending(): SealwireError {
  return new SealwireError(
    "failover_pending",
    "the database has failed over to another machine, without synchronous replication, and may lack payments: they pause " +
      'until the operator has compared "server.ts anchor" of every server with the database, and has started one with ' +
      "--accept-failover",
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

/** Null where there is no key, undefined where there is none that could be read. */
function thumbprintOf(jwk: RsaPublicJwk | null): Sha256 | null | undefined {
  if (jwk === null) return null;
  try {
    return parseRsaPublicJwk(jwk).thumbprint;
  } catch (error) {
    if (!isSealwireError(error, "bad_key")) throw error;
    return undefined;
  }
}

function undecided(cause: unknown): SealwireError {
  return new SealwireError(
    "store_unavailable",
    "the database did not answer in time, so this may have been recorded or not: send the same again",
    { cause },
  );
}

function makeSalt(): string {
  return encodeBase64url(randomBytes(SALT_BYTES));
}
