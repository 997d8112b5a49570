/**
 * Links the checkpoints that a server shows. A checkpoint counts once a consistency proof has shown that its log grew out of
 * the one that is remembered. What does not link is asked for again, and then nothing more is believed.
 */
import { isSealwireError, SealwireError } from "../../base/errors.ts";
import { BoundedMap } from "../../base/bounded_map.ts";
import { decodeBase64url, type Members } from "../../base/parse.ts";
import { retry } from "../../base/retry.ts";
import { type Checkpoint, type Log, logOrigin, verifyCheckpoint } from "../../ledger/checkpoint.ts";
import { explains, type LedgerRollback, parseEntry } from "../../ledger/entry.ts";
import { decodeBase64, NOTE_CHARACTERS_MAX } from "../../ledger/signed_note.ts";
import {
  hashLeaf,
  PATH_STEPS_MAX,
  verifyConsistency,
  verifyInclusion,
} from "../../protocol/merkle.ts";
import type { SignedStatement } from "../../protocol/statement.ts";
import { isFork, keepEvidence } from "./evidence.ts";
import { RememberedCheckpoint } from "./remembered.ts";

const ENTRY_CHARACTERS_MAX = 1_024;
/** Checkpoints of a connection that later answers may refer to. */
const CHECKPOINTS_KEPT_MAX = 64;
/** A server whose head is behind, or errs, is asked again for so long. */
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
}

export class LogLink {
  private readonly log: Log;
  private readonly remembered: RememberedCheckpoint;
  /** By size. Signed, and not yet linked. */
  private readonly shown = new BoundedMap<number, Checkpoint>(CHECKPOINTS_KEPT_MAX);
  private newest: Checkpoint | null = null;
  /** The newest that is stored. */
  private linked: Checkpoint | null;

  constructor(private readonly options: LogLinkOptions) {
    const { server, log: publicKey } = options.statement.claims;
    this.log = { origin: logOrigin(server.thumbprint), publicKey };
    this.remembered = new RememberedCheckpoint(options.keysFolder, server.thumbprint, this.log);
    this.linked = this.remembered.get();
  }

  /** The newest checkpoint that is linked to all before it; null before the first login. */
  get known(): Checkpoint | null {
    return this.linked;
  }

  /**
   * The checkpoint that an answer refers to by `size`, with its text where this connection has not brought it before.
   *
   * @throws {SealwireError} `bad_answer`, `ledger_forked`.
   */
  checkpointOf(answer: Members): Checkpoint {
    const size = answer.integer("size", 0, Number.MAX_SAFE_INTEGER);
    if (!answer.has("checkpoint")) {
      const shown = this.shown.get(size);
      if (shown !== undefined) return shown;
      throw badAnswer("it refers to a checkpoint that it has not sent");
    }
    const checkpoint = this.verify(answer.text("checkpoint", NOTE_CHARACTERS_MAX));
    if (checkpoint.size !== size) throw badAnswer("its checkpoint has another size than it says");
    this.take(checkpoint);
    return checkpoint;
  }

  /** @throws {SealwireError} `bad_answer`, `ledger_forked`. */
  included(answer: Members): IncludedEntry {
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

  /**
   * Links what a login shows to what is remembered; on the first login, makes sure whose ledger it is. With
   * `acceptRollback`, goes on with a ledger whose operator has entered that entries were lost.
   *
   * @throws {SealwireError} `ledger_not_linked`, `ledger_rolled_back`, `ledger_forked`, `bad_answer`.
   */
  async begin(login: Members, acceptRollback: (lost: LedgerRollback) => boolean): Promise<void> {
    const { linked } = this;
    const shown = this.checkpointOf(login);
    if (linked === null) {
      await this.requireOwnLedger();
    } else if (!this.isLinkedBy(linked, shown, login)) {
      const rollback = await this.findRollback(linked);
      if (rollback !== null) {
        if (!acceptRollback(rollback)) throw rolledBack(rollback, linked);
        await this.goBack(rollback, linked);
        return;
      }
    } else if (this.remembered.replace(linked, shown)) {
      this.linked = shown;
      return;
    }
    await this.link();
  }

  /** Links the newest checkpoint of this connection and remembers it. Throws as {@linkcode begin} does. */
  async link(): Promise<void> {
    const { newest } = this;
    if (newest === null || newest.text === this.linked?.text) return;
    await this.untilLinked(newest, async () => {
      const stored = this.remembered.get();
      const reached = stored === null ? newest : await this.extend(stored);
      await this.requirePart(newest, reached);
      if (!this.remembered.replace(stored, reached)) throw notYet("another process was faster");
      this.linked = reached;
    });
  }

  /**
   * Links a checkpoint that someone else was shown by the same server. One that the log key did not sign is nothing to judge
   * by, and is passed over.
   *
   * @throws {SealwireError} `ledger_not_linked`, `ledger_forked`.
   */
  async linkForeign(text: string): Promise<void> {
    let foreign: Checkpoint;
    try {
      foreign = verifyCheckpoint(text, this.log);
    } catch (error) {
      if (isSealwireError(error, "bad_checkpoint")) return;
      throw error;
    }
    this.requireNoFork(foreign);
    await this.untilLinked(foreign, async () => {
      const answer = await this.options.ask("ledger.checkpoint", {});
      await this.requirePart(foreign, this.checkpointOf(answer));
    });
    await this.link();
  }

  private verify(text: string): Checkpoint {
    try {
      return verifyCheckpoint(text, this.log);
    } catch (cause) {
      throw badAnswer("its checkpoint is not signed by the log key", cause);
    }
  }

  private take(checkpoint: Checkpoint): void {
    this.requireNoFork(checkpoint);
    this.shown.set(checkpoint.size, checkpoint);
    if (this.newest === null || checkpoint.size > this.newest.size) this.newest = checkpoint;
  }

  /** Two roots of one size under one key prove a fork. */
  private requireNoFork(checkpoint: Checkpoint): void {
    for (const known of [this.linked, this.shown.get(checkpoint.size) ?? null]) {
      if (known === null || !isFork(known, checkpoint)) continue;
      const path = this.keep(known, checkpoint, "The log key signed two histories of one size.");
      throw new SealwireError(
        "ledger_forked",
        `the server signed two different ledgers of ${checkpoint.size} entries. The proof is in ${path}: ` +
          "show it to everyone who uses this server, and pay nobody through it",
        { details: { evidence: path } },
      );
    }
  }

  private keep(known: Checkpoint, shown: Checkpoint, says: string): string {
    const { keysFolder, statement } = this.options;
    const evidence = { statement: statement.text, known: known.text, shown: shown.text };
    return keepEvidence(keysFolder, evidence, says);
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
    const { text } = this.included(await this.options.ask("ledger.open", {}));
    const entry = parseEntry(text);
    const { server, log } = this.options.statement.claims;
    const own = entry.type === "ledger.open" && entry.index === 0 &&
      entry.server === server.thumbprint && entry.log.x === log.x;
    if (!own) throw badAnswer("its ledger was opened by another server");
  }

  /** The server's newest checkpoint, once its log is shown to have grown out of `older`. */
  private async extend(older: Checkpoint): Promise<Checkpoint> {
    const answer = await this.options.ask("ledger.consistency", { from: older.size });
    const newer = this.checkpointOf(answer);
    requireConsistent(older, newer, pathOf(answer));
    return newer;
  }

  private async requirePart(part: Checkpoint, whole: Checkpoint): Promise<void> {
    if (part.text === whole.text) return;
    if (part.size > whole.size) throw notYet("the server's ledger ends before it");
    const params = { from: part.size, to: whole.size };
    requireConsistent(part, whole, pathOf(await this.options.ask("ledger.consistency", params)));
  }

  /** Tries for a while: a server behind a slow database may be late, and is not accused for that. */
  private async untilLinked(checkpoint: Checkpoint, work: () => Promise<void>): Promise<void> {
    try {
      await retry(work, {
        pause_ms_min: LINK_PAUSE_MS,
        pause_ms_max: LINK_PAUSE_MS,
        timeout_ms: LINK_TIMEOUT_MS,
        signal: this.options.signal,
        isPassing: isUnlinked,
      });
    } catch (error) {
      if (!isUnlinked(error)) throw error;
      const known = this.remembered.get() ?? checkpoint;
      throw await this.notLinked(known, checkpoint, error);
    }
  }

  private async notLinked(known: Checkpoint, shown: Checkpoint, cause: unknown) {
    const rollback = await this.findRollback(known).catch(() => null);
    if (rollback !== null) return rolledBack(rollback, known);
    const path = this.keep(
      known,
      shown,
      "This proves nothing yet. Ask the server's operator for a consistency proof " +
        `between ${Math.min(known.size, shown.size)} and ${
          Math.max(known.size, shown.size)
        } entries.`,
    );
    return new SealwireError(
      "ledger_not_linked",
      `the server does not show that its ledger grew out of the one seen before (${known.size} entries). ` +
        "It may have been restored from an older backup, or show different people different ledgers. " +
        `What was seen is in ${path}. Ask the operator before paying anyone`,
      { cause, details: { evidence: path } },
    );
  }

  /** The operator's entry that explains why the log lacks `lost`; null where there is none. */
  private async findRollback(lost: Checkpoint): Promise<LedgerRollback | null> {
    const answer = await this.options.ask("ledger.rollback", { size: lost.size });
    if (answer.raw("entry") === null) return null;
    const entry = parseEntry(this.included(answer).text);
    return entry.type === "ledger.rollback" && explains(entry, lost) ? entry : null;
  }

  /** Begins anew at the server's ledger, in place of one whose end is lost. */
  private async goBack(rollback: LedgerRollback, lost: Checkpoint): Promise<void> {
    const answer = await this.options.ask("ledger.consistency", { from: rollback.keptSize });
    const newer = this.checkpointOf(answer);
    const root = decodeBase64url(rollback.keptRoot)!;
    requireConsistent({ size: rollback.keptSize, root }, newer, pathOf(answer));
    if (!this.remembered.replace(lost, newer)) throw notYet("another process was faster");
    this.linked = newer;
  }
}

function pathOf(answer: Members, name = "path"): Uint8Array[] {
  return answer.list(name, PATH_STEPS_MAX).map((step) => {
    const bytes = typeof step === "string" ? decodeBase64(step) : null;
    if (bytes === null) throw badAnswer(`${name} is no list of hashes`);
    return bytes;
  });
}

function requireConsistent(
  older: { readonly size: number; readonly root: Uint8Array },
  newer: Checkpoint,
  path: readonly Uint8Array[],
): void {
  try {
    verifyConsistency(older, newer, path);
  } catch (cause) {
    throw notYet("the server's proof does not hold", cause);
  }
}

/** Not linked so far. */
class Unlinked extends SealwireError {}

function notYet(why: string, cause?: unknown): Unlinked {
  return new Unlinked("ledger_not_linked", why, { cause });
}

/** What a server that is merely late may answer: asked again, it may link. */
function isUnlinked(error: unknown): boolean {
  return error instanceof Unlinked || isSealwireError(error, "unknown_size") ||
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
