/**
 * Opens a ledger: makes entry 0 where there is none, rebuilds the tree's edge, and refuses a database that lacks what was
 * signed before.
 */
import { join } from "node:path";
import { isSealwireError, SealwireError } from "../base/errors.ts";
import { decodeBase64url, encodeBase64url, type Sha256 } from "../base/parse.ts";
import { ed25519Jwk, type Ed25519KeyPair } from "../keys/ed25519.ts";
import { deriveSealKey } from "../keys/log_key.ts";
import { EMPTY_ROOT, hashLeaf, sameHash } from "../protocol/merkle.ts";
import type { Unit } from "../protocol/money.ts";
import { Anchor } from "./anchor.ts";
import { type Checkpoint, type Log, logOrigin } from "./checkpoint.ts";
import { type LedgerOpen, type LedgerRollback, parseEntry, type Settings } from "./entry.ts";
import {
  isMove,
  Ledger,
  type LedgerOptions,
  type LogState,
  rolledBack,
  signedCheckpoint,
} from "./ledger.ts";
import { Seals, storeDamaged } from "./seal.ts";
import type { Head, LedgerStore, Sealed } from "./store.ts";
import { emptyTree, loadTree, type LogTree } from "./tiles.ts";

const ANCHOR_FILE = "server_anchor.txt";
/** A checkpoint under our signature that a client showed and that the database lacks. Gone once that is settled. */
const UNLINKED_FILE = "server_unlinked.txt";

/** What entry 0 says. */
export interface NewLedger extends Settings {
  readonly unit: Unit;
}

export interface OpenLedgerOptions
  extends Pick<LedgerOptions, "clock" | "acceptClock" | "onTrouble"> {
  readonly store: LedgerStore;
  /** Thumbprint of the server's RSA key. */
  readonly server: Sha256;
  readonly logKey: Ed25519KeyPair;
  /** Where the anchor is kept. */
  readonly keysFolder: string;
  /** Null where the ledger must exist. */
  readonly create: NewLedger | null;
  /** Go on with a database that lacks entries which were signed. */
  readonly acceptRollback?: boolean;
  /** Go on with a database that has failed over, after comparing. */
  readonly acceptFailover?: boolean;
}

/**
 * @throws {SealwireError} `ledger_missing`, `ledger_of_another_server`, `ledger_rolled_back`, `ledger_moved` (and gone on
 * elsewhere since), `store_damaged`,
 * `anchor_unreadable`, `bad_checkpoint` (of the anchor), and what making an entry or writing the anchor throws.
 */
export async function openLedger(options: OpenLedgerOptions): Promise<Ledger> {
  const { store, server, logKey, create, keysFolder } = options;
  const seals = new Seals(deriveSealKey(logKey.privateKey));
  const log = { origin: logOrigin(server), publicKey: logKey.publicKey };
  const anchor = openAnchor(keysFolder, log);
  const unlinked = openUnlinked(keysFolder, log);
  await requireSameServer(store, log, server);

  const { anchored, stored } = await readAnchorAndHead(anchor, store);
  if (stored === null && create === null) {
    throw new SealwireError(
      "ledger_missing",
      "the database holds no ledger yet: start the server once",
    );
  }
  const isNew = stored === null && (anchored === null || anchored.size === 0);
  if (isNew) anchor.raise(signedCheckpoint(logKey, server, emptyTree()));
  if (stored !== null) seals.checkHead(stored);

  const state = stored === null ? emptyState(server, create!) : await loadState(store, stored);
  const ledger = new Ledger({ ...options, seals, anchor, unlinked }, state);
  const losses = await findLosses(ledger, isNew, anchored, unlinked.read());
  if (losses.length > 0 && ledger.isMoved) throw await movedError(ledger);
  if (losses.length > 0 && !options.acceptRollback) throw losses[0]!.error;
  // Only a database of several servers fails over.
  if (store.onCommitted !== undefined) await ledger.checkFailover(options.acceptFailover ?? false);
  // Submitted together they are one commit: a crash does not leave a new log that says nothing of the lost one.
  await Promise.all(
    [
      ...(stored === null ? [firstEntry(options, create!)] : []),
      ...losses.flatMap(({ fact }) => fact ?? []),
    ].map((fact) => ledger.submit({ type: "operator", fact })),
  );
  // Also after a crash, before which the anchor fell behind or was not replaced.
  if (anchored?.text !== ledger.checkpoint.text) anchor.replace(ledger.checkpoint, anchored);
  unlinked.remove();
  return ledger;
}

/** The anchor of the server whose keys are in `keysFolder`. */
export function openAnchor(keysFolder: string, log: Log): Anchor {
  return new Anchor(join(keysFolder, ANCHOR_FILE), log);
}

/** The checkpoint that a client showed and the log lacks. */
export function openUnlinked(keysFolder: string, log: Log): Anchor {
  return new Anchor(join(keysFolder, UNLINKED_FILE), log);
}

/** The anchor first, because another process raises it last. */
async function readAnchorAndHead(
  anchor: Anchor,
  store: LedgerStore,
): Promise<{ anchored: Checkpoint | null; stored: Sealed<Head> | null }> {
  const anchored = anchor.read();
  const stored = await store.confirmedHead();
  if (anchored !== null || stored === null) return { anchored, stored };
  // A ledger without an anchor, or one that another process is just making: it makes the anchor before the head.
  return { anchored: anchor.read(), stored: await store.confirmedHead() };
}

/** What the database lacks. */
interface Loss {
  readonly error: SealwireError;
  /** The entry that tells of it; null where nobody knows what was lost. */
  readonly fact: LedgerRollback | null;
}

/** `shown`: a checkpoint that a client showed and that was not linked then. */
async function findLosses(
  ledger: Ledger,
  isNew: boolean,
  anchored: Checkpoint | null,
  shown: Checkpoint | null,
): Promise<Loss[]> {
  const losses: Loss[] = [];
  if (anchored === null && !isNew) losses.push({ error: anchorMissing(ledger.size), fact: null });
  for (const checkpoint of [anchored, shown]) {
    const loss = checkpoint === null ? null : await findLoss(ledger, checkpoint);
    if (loss !== null) losses.push(loss);
  }
  return losses;
}

async function findLoss(ledger: Ledger, lost: Checkpoint): Promise<Loss | null> {
  const { size } = ledger;
  const isPrefix = lost.size > size;
  if (!isPrefix && sameHash(await ledger.rootAt(lost.size), lost.root)) return null;
  const lostRoot = encodeBase64url(lost.root) as Sha256;
  // This very loss, accepted before. A later one may be of a size that an earlier one has covered.
  const isAccepted = (rollback: LedgerRollback) =>
    rollback.lostSize === lost.size && rollback.lostRoot === lostRoot;
  if (size > 0 && await ledger.findRollback(isAccepted) !== null) return null;
  // A history that is as long but different shares nothing that could be named.
  const kept = isPrefix ? { size, root: await ledger.rootAt(size) } : { size: 0, root: EMPTY_ROOT };
  return {
    error: rolledBack(lost, size),
    fact: {
      type: "ledger.rollback",
      keptSize: kept.size,
      keptRoot: encodeBase64url(kept.root) as Sha256,
      lostSize: lost.size,
      lostRoot,
    },
  };
}

function firstEntry({ server, logKey }: OpenLedgerOptions, create: NewLedger): LedgerOpen {
  return { ...create, type: "ledger.open", server, log: ed25519Jwk(logKey.publicKey) };
}

function emptyState(server: Sha256, { unit, ...settings }: NewLedger): LogState {
  const tree = emptyTree();
  const root = encodeBase64url(tree.root) as Sha256;
  return { head: { size: 0, root, time_s: 0, server, unit, settings }, tree, isMoved: false };
}

async function loadState(store: LedgerStore, head: Head): Promise<LogState> {
  const root = decodeBase64url(head.root)!;
  const tree: LogTree = await loadTree({ size: head.size, root }, async (level, start, end) => {
    if (level > 0) return await store.tileRoots(level - 1, start, end);
    return (await store.entries(start, end)).map((text) => hashLeaf(text));
  });
  const [last] = await store.entries(head.size - 1, head.size);
  return { head, tree, isMoved: isMove(last) };
}

/**
 * One server and one log key sign a whole log, and entry 0 names both.
 *
 * @throws {SealwireError} `ledger_of_another_server`, `store_damaged`.
 */
async function requireSameServer(store: LedgerStore, log: Log, server: Sha256): Promise<void> {
  const [text] = await store.entries(0, 1);
  if (text === undefined) return;
  const entry = parseFirstEntry(text);
  const wrong = (whose: string, file: string) =>
    new SealwireError(
      "ledger_of_another_server",
      `the ledger is signed by another ${whose}: put back the ${file} that it was made with`,
    );
  if (entry.server !== server) throw wrong("server's key", "server_private.pem");
  if (entry.log.x !== log.publicKey.x) throw wrong("log key", "server_log_key.pem");
}

function parseFirstEntry(text: string): LedgerOpen {
  try {
    const entry = parseEntry(text);
    if (entry.type === "ledger.open") return entry;
  } catch (cause) {
    if (isSealwireError(cause)) throw storeDamaged("entry 0 was changed in the database", cause);
    throw cause;
  }
  throw storeDamaged("entry 0 was changed in the database");
}

/** The ledger has gone on elsewhere, so what this database lacks is there. */
export async function movedError(ledger: Ledger): Promise<SealwireError> {
  const { text } = await ledger.proveOne(ledger.size - 1);
  const entry = parseEntry(text);
  const to = entry.type === "ledger.moved" ? ` to ${entry.to}` : "";
  return new SealwireError(
    "ledger_moved",
    `this ledger was moved${to}: start the server with the database that it is in now`,
  );
}

function anchorMissing(size: number): SealwireError {
  return new SealwireError(
    "ledger_rolled_back",
    `the database holds ${size} entries, but the keys folder has no ${ANCHOR_FILE}, which says how many there should ` +
      "be: put it back, or start the server with --accept-rollback if this is the newest database",
  );
}
