/**
 * Links the checkpoints that a server shows. A checkpoint counts after a consistency proof has
 * shown that its log and the remembered one are the same. If a checkpoint does not link, the client
 * asks again, and then believes nothing more.
 *
 * Every checkpoint that carries the log key's signature is linked: those of logins, of receipts and
 * of other clients. A checkpoint that is not linked when a connection ends waits in a file for the
 * next connection, so a server gains nothing by hanging up.
 */
import { BoundedMap } from "../../base/bounded_map.ts";
import { isSealwireError, SealwireError } from "../../base/errors.ts";
import { decodeBase64, decodeBase64url, type Members } from "../../base/parse.ts";
import { retry } from "../../base/retry.ts";
import { type Checkpoint, type Log, logOrigin, verifyCheckpoint } from "../../ledger/checkpoint.ts";
import { explains, type LedgerRollback, parseEntry } from "../../ledger/entry.ts";
import { NOTE_CHARACTERS_MAX } from "../../ledger/signed_note.ts";
import {
  hashLeaf,
  PATH_STEPS_MAX,
  verifyConsistency,
  verifyInclusion,
} from "../../protocol/merkle.ts";
import type { SignedStatement } from "../../protocol/statement.ts";
import { isFork, keepEvidence } from "./evidence.ts";
import {
  RememberedCheckpoint,
  type Unlinked,
  UNLINKED_MAX,
  UnlinkedCheckpoints,
} from "./remembered.ts";

const ENTRY_CHARACTERS_MAX = 1_024;
/** Checkpoints of a connection that later answers may refer to. */
const CHECKPOINTS_KEPT_MAX = 64;
/** When this many checkpoints wait, they are linked at once. */
const UNLINKED_GATHERED_MAX = 64;
/** Proofs asked for at a time. */
const PROOFS_IN_FLIGHT_MAX = 32;
/** How long to ask a server again whose head is behind, or that reports an error. */
const LINK_TIMEOUT_MS = 10_000;
const LINK_PAUSE_MS = 500;

/** Asks the server; the answer is parsed as `bad_answer`. */
export type Ask = (method: string, params: object) => Promise<Members>;

/** An entry that is in the log. */
export interface IncludedEntry {
  readonly text: string;
  readonly hashes: readonly Uint8Array[];
  readonly checkpoint: Checkpoint;
}

export interface LogLinkOptions {
  readonly keysFolder: string;
  readonly statement: SignedStatement;
  readonly ask: Ask;
  readonly signal: AbortSignal;
  /** Whether to go on with a ledger whose operator has entered that entries were lost. */
  readonly acceptRollback: (lost: LedgerRollback) => boolean;
  /** How long a server that does not link is asked again. */
  readonly linkTimeout_ms?: number;
}

/**
 * An operator's entry that entries were lost, proven: in the log, and after what it says was kept.
 */
interface ProvenRollback {
  readonly rollback: LedgerRollback;
  /** Of the log that it is in. */
  readonly checkpoint: Checkpoint;
}

export class LogLink {
  private readonly log: Log;
  private readonly remembered: RememberedCheckpoint;
  private readonly leftOver: UnlinkedCheckpoints;
  /** Texts that this connection has brought, by size. */
  private readonly sent = new BoundedMap<number, string>(CHECKPOINTS_KEPT_MAX);
  /** Verified checkpoints of this connection, by size. */
  private readonly shown = new BoundedMap<number, Checkpoint>(CHECKPOINTS_KEPT_MAX);
  /** Checkpoints that are not linked yet, by size. */
  private readonly unlinked = new Map<number, Unlinked>();
  /** The newest checkpoint that is stored. */
  private linked: Checkpoint | null;
  private linking: Promise<void> = Promise.resolve();

  constructor(private readonly options: LogLinkOptions) {
    const { keysFolder, statement: { claims: { server, log: publicKey } } } = options;
    this.log = { origin: logOrigin(server.thumbprint), publicKey };
    this.remembered = new RememberedCheckpoint(keysFolder, server.thumbprint, this.log);
    this.leftOver = new UnlinkedCheckpoints(keysFolder, server.thumbprint, this.log);
    this.linked = this.remembered.get();
    for (const one of this.leftOver.read()) this.unlinked.set(one.checkpoint.size, one);
  }

  /** The newest checkpoint that is linked to all before it; null before the first login. */
  get known(): Checkpoint | null {
    return this.linked;
  }

  /** Entries in the largest log that was shown under the log key's signature. */
  get size(): number {
    return Math.max(this.linked?.size ?? 0, ...this.unlinked.keys());
  }

  /** Whether anything waits to be linked, and whether so much that it must be linked at once. */
  get waiting(): "none" | "some" | "many" {
    const { size } = this.unlinked;
    return size === 0 ? "none" : size < UNLINKED_GATHERED_MAX ? "some" : "many";
  }

  /**
   * Keeps the checkpoint that a message brings, as soon as it arrives: the server sends each once,
   * and answers and notifications are not always read in the order in which they came.
   */
  hear(message: unknown): void {
    if (typeof message !== "object" || message === null) return;
    const { size, checkpoint } = message as { size?: unknown; checkpoint?: unknown };
    if (typeof size !== "number" || typeof checkpoint !== "string") return;
    if (checkpoint.length <= NOTE_CHARACTERS_MAX) this.sent.set(size, checkpoint);
  }

  /** The entry of an answer, proven. Throws `bad_answer`, `ledger_forked`, `ledger_rolled_back`. */
  async included(answer: Members): Promise<IncludedEntry> {
    const included = this.proven(answer);
    await this.takeOrJudge(included.checkpoint);
    return included;
  }

  /** Asks for the newest checkpoint. Throws as {@linkcode included} does. */
  async refresh(): Promise<void> {
    const answer = await this.options.ask("ledger.checkpoint", {});
    await this.takeOrJudge(this.checkpointOf(answer));
  }

  /**
   * Links what a login shows to what is remembered; on the first login, makes sure whose ledger it
   * is.
   *
   * @throws {SealwireError} `ledger_not_linked`, `ledger_rolled_back`, `ledger_forked`,
   * `bad_answer`.
   */
  async begin(login: Members): Promise<void> {
    const { linked } = this;
    const shown = this.checkpointOf(login);
    if (linked === null) {
      await this.requireOwnLedger();
    } else if (!this.isLinkedBy(linked, shown, login)) {
      const proven = await this.findRollback(linked);
      if (proven !== null) await this.goBack(proven, linked, shown);
    } else if (this.remembered.replace(linked, shown)) {
      this.linked = shown;
    }
    await this.takeOrJudge(shown);
    await this.link();
  }

  /**
   * Links every checkpoint that waits, and remembers the newest. One link is made at a time.
   *
   * @throws {SealwireError} `ledger_not_linked`, `ledger_rolled_back`, `ledger_forked`; what asking
   * the server throws.
   */
  link(): Promise<void> {
    this.linking = this.linking.catch(() => {}).then(() => this.linkAll());
    return this.linking;
  }

  /**
   * Links a checkpoint that someone else was shown by the same server. One that the log key did not
   * sign is nothing to judge by, and is passed over; so is one of a history whose loss the operator
   * has entered.
   *
   * @throws {SealwireError} as {@linkcode link} does.
   */
  async linkForeign(text: string): Promise<void> {
    let foreign: Checkpoint;
    try {
      foreign = verifyCheckpoint(text, this.log);
    } catch (error) {
      if (isSealwireError(error, "bad_checkpoint")) return;
      throw error;
    }
    await this.takeOrJudge(foreign, true);
    await this.link();
  }

  /**
   * Stores what is not linked yet for the next connection. Throws `file_locked`,
   * `folder_unwritable`, `write_failed`.
   */
  keep(): void {
    this.leftOver.replace([...this.unlinked.values()]);
  }

  /**
   * The checkpoint that an answer refers to by `size`, with its text where this connection has not
   * brought it before. Throws `bad_answer`.
   */
  private checkpointOf(answer: Members): Checkpoint {
    const size = answer.integer("size", 0, Number.MAX_SAFE_INTEGER);
    const text = answer.has("checkpoint")
      ? answer.text("checkpoint", NOTE_CHARACTERS_MAX)
      : this.sent.get(size);
    if (text === undefined) throw badAnswer("it refers to a checkpoint that it has not sent");
    const shown = this.shown.get(size);
    if (shown?.text === text) return shown;
    const checkpoint = this.verify(text);
    if (checkpoint.size !== size) throw badAnswer("its checkpoint has another size than it says");
    return checkpoint;
  }

  private proven(answer: Members): IncludedEntry {
    const checkpoint = this.checkpointOf(answer);
    const text = answer.text("entry", ENTRY_CHARACTERS_MAX);
    const hashes = pathOf(answer);
    try {
      const { index } = parseEntry(text);
      verifyInclusion(hashLeaf(text), index, checkpoint, hashes);
      return { text, hashes, checkpoint };
    } catch (cause) {
      throw badAnswer("it does not prove that the entry is in the ledger", cause);
    }
  }

  private verify(text: string): Checkpoint {
    try {
      return verifyCheckpoint(text, this.log);
    } catch (cause) {
      throw badAnswer("its checkpoint is not signed by the log key", cause);
    }
  }

  /**
   * Takes a checkpoint among those to be linked. `foreign`: another client was shown it.
   *
   * @throws {Fork} {SealwireError} `bad_answer`.
   */
  private take(checkpoint: Checkpoint, foreign = false): void {
    const { size } = checkpoint;
    const others = [this.linked, this.unlinked.get(size)?.checkpoint, this.shown.get(size)];
    const other = others.find((other) => other && isFork(other, checkpoint));
    const isKnown = others.some((other) => other?.size === size && !isFork(other, checkpoint));
    if (!isKnown && !this.unlinked.has(size)) {
      if (this.unlinked.size >= UNLINKED_MAX) {
        throw badAnswer("it shows more checkpoints than it links to one another");
      }
      this.unlinked.set(size, { checkpoint, foreign });
    }
    if (other) throw new Fork(other, checkpoint, foreign);
    if (!foreign) this.shown.set(size, checkpoint);
  }

  /** Throws as {@linkcode included} does. */
  private async takeOrJudge(checkpoint: Checkpoint, foreign = false): Promise<void> {
    while (true) {
      try {
        return this.take(checkpoint, foreign);
      } catch (error) {
        if (!(error instanceof Fork)) throw error;
        const verdict = await this.judge(error, error);
        if (verdict !== null) throw verdict;
        if (foreign) return;
      }
    }
  }

  private isLinkedBy(linked: Checkpoint, shown: Checkpoint, login: Members): boolean {
    if (login.raw("consistency") === null) return false;
    try {
      verifyConsistency(linked, shown, pathOf(login, "consistency"));
      return true;
    } catch (error) {
      if (isSealwireError(error, "bad_proof")) return false;
      throw error;
    }
  }

  /** Entry 0 names the server and its log key. */
  private async requireOwnLedger(): Promise<void> {
    const { text } = await this.included(await this.options.ask("ledger.open", {}));
    const entry = parseEntry(text);
    const { server, log } = this.options.statement.claims;
    const own = entry.type === "ledger.open" && entry.index === 0 &&
      entry.server === server.thumbprint && entry.log.x === log.x;
    if (!own) throw badAnswer("its ledger was opened by another server");
  }

  private async linkAll(): Promise<void> {
    while (this.unlinked.size > 0) {
      try {
        // A server with a slow database may be late, and is not accused of anything for that.
        await retry(() => this.linkWaiting(), {
          pause_ms_min: LINK_PAUSE_MS,
          pause_ms_max: LINK_PAUSE_MS,
          timeout_ms: this.options.linkTimeout_ms ?? LINK_TIMEOUT_MS,
          signal: this.options.signal,
          isPassing: isUnlinked,
        });
        return;
      } catch (error) {
        if (!isUnlinked(error) && !(error instanceof Fork)) throw error;
        const verdict = await this.judge(this.disagreementOf(error), error);
        if (verdict !== null) throw verdict;
      }
    }
  }

  /** Links the checkpoints that wait now. More may come meanwhile. */
  private async linkWaiting(): Promise<void> {
    const stored = this.remembered.get();
    const waiting = [...this.unlinked.values()].map(({ checkpoint }) => checkpoint);
    const fork = stored && waiting.find((one) => isFork(stored, one));
    if (fork) throw new Fork(stored, fork);
    const unsure = waiting.filter(({ text }) => text !== stored?.text);
    if (stored === null || unsure.length > 0) {
      const reached = stored === null ? newestOf(waiting) : await this.extend(stored);
      for (let start = 0; start < unsure.length; start += PROOFS_IN_FLIGHT_MAX) {
        const group = unsure.slice(start, start + PROOFS_IN_FLIGHT_MAX);
        await Promise.all(group.map((one) => this.requirePart(one, reached)));
      }
      if (!this.remembered.replace(stored, reached)) throw notYet("another process was faster");
      this.linked = reached;
      this.unlinked.delete(reached.size);
    } else {
      this.linked = stored;
    }
    for (const { size } of waiting) this.unlinked.delete(size);
    this.keep();
  }

  /** The server's newest checkpoint, once its log is shown to have grown out of `older`. */
  private async extend(older: Checkpoint): Promise<Checkpoint> {
    const answer = await this.options.ask("ledger.consistency", { from: older.size });
    const newer = this.checkpointOf(answer);
    requireConsistent(older, newer, pathOf(answer));
    this.take(newer);
    return newer;
  }

  private async requirePart(part: Checkpoint, whole: Checkpoint): Promise<void> {
    if (isFork(part, whole)) throw new Fork(part, whole);
    if (part.size === whole.size) return;
    if (part.size > whole.size) throw notYet("the server's ledger ends before it", part, whole);
    const params = { from: part.size, to: whole.size };
    requireConsistent(part, whole, pathOf(await this.options.ask("ledger.consistency", params)));
  }

  /** The two checkpoints that are not of one log. */
  private disagreementOf(error: unknown): Disagreement {
    if (error instanceof Fork || (error instanceof NotYet && error.known !== null)) {
      return { known: error.known!, shown: error.shown! };
    }
    const newest = newestOf([...this.unlinked.values()].map(({ checkpoint }) => checkpoint));
    return { known: this.remembered.get() ?? newest, shown: newest };
  }

  /**
   * Says what two checkpoints that are not of one log mean. Null when the operator's entry explains
   * the one of them that waited, and it needs no link any more.
   */
  private async judge(
    { known, shown }: Disagreement,
    cause: unknown,
  ): Promise<SealwireError | null> {
    // What another client was shown may be of a history that this one never saw.
    const foreign = cause instanceof Fork && cause.isForeign
      ? shown
      : [known, shown].find((one) => this.waitingOf(one)?.foreign);
    const suspect = foreign ?? known;
    const proven = await this.findRollback(suspect);
    if (proven !== null) {
      const isWaiting = this.waitingOf(suspect) !== null;
      const isSettled = foreign !== undefined ||
        (isWaiting && this.options.acceptRollback(proven.rollback));
      if (!isSettled) return rolledBack(proven.rollback, suspect);
      if (isWaiting) this.unlinked.delete(suspect.size);
      return null;
    }
    return this.condemn({ known, shown }, cause);
  }

  /** Keeps the evidence, and remembers no unlinked checkpoint. */
  private condemn({ known, shown }: Disagreement, cause: unknown): SealwireError {
    this.unlinked.clear();
    return isFork(known, shown) ? this.forked(known, shown) : this.notLinked(known, shown, cause);
  }

  private waitingOf(checkpoint: Checkpoint): Unlinked | null {
    const waiting = this.unlinked.get(checkpoint.size);
    return waiting?.checkpoint === checkpoint ? waiting : null;
  }

  private forked(known: Checkpoint, shown: Checkpoint): SealwireError {
    const says = "This proves a fork: the log key signed two histories of one size.";
    const path = this.keepEvidence("fork", { known, shown }, says);
    return new SealwireError(
      "ledger_forked",
      `the server signed two different ledgers of ${shown.size} entries. The proof is in ${path}: ` +
        "show it to everyone who uses this server, and pay nobody through it",
      { details: { evidence: path } },
    );
  }

  private notLinked(known: Checkpoint, shown: Checkpoint, cause: unknown): SealwireError {
    const [from, to] = [known.size, shown.size].sort((one, other) => one - other);
    const says = "This proves nothing yet. Ask the server's operator for a consistency proof " +
      `between ${from} and ${to} entries.`;
    const path = this.keepEvidence("unlinked", { known, shown }, says);
    return new SealwireError(
      "ledger_not_linked",
      `the server does not show that its ledger grew out of the one seen before (${known.size} entries). ` +
        "It may have been restored from an older backup, or show different people different ledgers. " +
        `What was seen is in ${path}. Ask the operator before paying anyone`,
      { cause, details: { evidence: path } },
    );
  }

  private keepEvidence(
    kind: "fork" | "unlinked",
    { known, shown }: Disagreement,
    says: string,
  ): string {
    const { keysFolder, statement } = this.options;
    const evidence = { statement: statement.text, known: known.text, shown: shown.text };
    return keepEvidence(keysFolder, kind, evidence, says);
  }

  /**
   * The operator's entry that explains why the log lacks `lost`, proven; null where there is none,
   * or it proves nothing.
   */
  private async findRollback(lost: Checkpoint): Promise<ProvenRollback | null> {
    const { ask } = this.options;
    try {
      const answer = await ask("ledger.rollback", { size: lost.size });
      if (answer.raw("entry") === null) return null;
      const { text, checkpoint } = this.proven(answer);
      const rollback = parseEntry(text);
      if (rollback.type !== "ledger.rollback" || !explains(rollback, lost)) return null;
      const kept = { size: rollback.keptSize, root: decodeBase64url(rollback.keptRoot)! };
      const params = { from: kept.size, to: checkpoint.size };
      requireConsistent(kept, checkpoint, pathOf(await ask("ledger.consistency", params)));
      return { rollback, checkpoint };
    } catch (error) {
      if (isUnlinked(error)) return null;
      throw error;
    }
  }

  /**
   * Begins anew at the server's ledger, in place of one whose end is lost. `shown`: the ledger of
   * the login, which the operator's entry must be in.
   *
   * @throws {SealwireError} `ledger_rolled_back`, `ledger_not_linked`, `ledger_forked`,
   * `bad_answer`.
   */
  private async goBack(
    { rollback, checkpoint }: ProvenRollback,
    lost: Checkpoint,
    shown: Checkpoint,
  ): Promise<void> {
    if (!this.options.acceptRollback(rollback)) throw rolledBack(rollback, lost);
    const inOrder = checkpoint.size <= shown.size;
    const [older, newer] = inOrder ? [checkpoint, shown] : [shown, checkpoint];
    try {
      await this.requirePart(older, newer);
    } catch (error) {
      if (!isUnlinked(error) && !(error instanceof Fork)) throw error;
      throw this.condemn({ known: older, shown: newer }, error);
    }
    this.linked = newer;
    // Nothing of the ledger was kept, so the server must prove again whose ledger it is.
    if (rollback.keptSize === 0) await this.requireOwnLedger();
    if (!this.remembered.replace(lost, newer)) throw notYet("another process was faster");
    for (const { checkpoint } of this.unlinked.values()) {
      if (explains(rollback, checkpoint)) this.unlinked.delete(checkpoint.size);
    }
  }
}

/** Two checkpoints that are not shown to be of one log. */
interface Disagreement {
  readonly known: Checkpoint;
  readonly shown: Checkpoint;
}

function newestOf([first, ...others]: readonly Checkpoint[]): Checkpoint {
  return others.reduce((newest, one) => one.size > newest.size ? one : newest, first!);
}

function pathOf(answer: Members, name = "path"): Uint8Array[] {
  return answer.list(name, PATH_STEPS_MAX).map((step) => {
    const bytes = typeof step === "string" ? decodeBase64(step) : null;
    if (bytes === null) throw badAnswer(`${name} is no list of hashes`);
    return bytes;
  });
}

function requireConsistent(
  older: Pick<Checkpoint, "size" | "root"> & Partial<Checkpoint>,
  newer: Checkpoint,
  path: readonly Uint8Array[],
): void {
  const signed = older.text === undefined ? null : older as Checkpoint;
  if (signed !== null && isFork(signed, newer)) throw new Fork(signed, newer);
  try {
    verifyConsistency(older, newer, path);
  } catch (cause) {
    throw notYet("the server's proof does not hold", signed, newer, cause);
  }
}

/** The log key signed two roots of one size. `isForeign`: another client was shown `shown`. */
class Fork extends SealwireError {
  constructor(
    readonly known: Checkpoint,
    readonly shown: Checkpoint,
    readonly isForeign = false,
  ) {
    super("ledger_forked", `the server signed two different ledgers of ${shown.size} entries`);
  }
}

/** Not linked so far. Names the two checkpoints where they are known. */
class NotYet extends SealwireError {
  known: Checkpoint | null = null;
  shown: Checkpoint | null = null;
}

function notYet(
  why: string,
  known: Checkpoint | null = null,
  shown: Checkpoint | null = null,
  cause?: unknown,
): NotYet {
  return Object.assign(new NotYet("ledger_not_linked", why, { cause }), { known, shown });
}

/** Codes that a late server may answer with. Asked again, it may link. */
function isUnlinked(error: unknown): boolean {
  return error instanceof NotYet || isSealwireError(error, "unknown_size") ||
    isSealwireError(error, "bad_answer") || isSealwireError(error, "internal") ||
    isSealwireError(error, "store_damaged");
}

function rolledBack({ keptSize, lostSize }: LedgerRollback, known: Checkpoint): SealwireError {
  return new SealwireError(
    "ledger_rolled_back",
    `the server's operator has put back an older ledger: entries ${keptSize} to ${
      lostSize - 1
    } are lost, ` +
      `and this client has seen ${known.size}. Payments among those entries never happened for the server. ` +
      "Talk to the operator, then accept it with: client.ts servers accept-rollback <host> <port>",
    { details: { kept_size: keptSize, lost_size: lostSize } },
  );
}

function badAnswer(why: string, cause?: unknown): SealwireError {
  return new SealwireError("bad_answer", `the server's answer is not as it should be: ${why}`, {
    cause,
  });
}
