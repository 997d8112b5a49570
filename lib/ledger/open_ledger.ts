/**
 * Opens a ledger: makes entry 0 where there is none, rebuilds the tree's edge, and refuses a database that lacks what was
 * signed before.
 */
import { join } from "node:path";
import { SealwireError } from "../base/errors.ts";
import { decodeBase64url, encodeBase64url, type Sha256 } from "../base/parse.ts";
import { ed25519Jwk, type Ed25519KeyPair } from "../keys/ed25519.ts";
import { deriveSealKey } from "../keys/log_key.ts";
import { EMPTY_ROOT, hashLeaf, sameHash } from "../protocol/merkle.ts";
import type { Unit } from "../protocol/money.ts";
import { Anchor } from "./anchor.ts";
import { type Checkpoint, type Log, logOrigin } from "./checkpoint.ts";
import { type LedgerRollback, parseEntry, type Settings } from "./entry.ts";
import {
  Ledger,
  type LedgerOptions,
  type LogState,
  rolledBack,
  signedCheckpoint,
} from "./ledger.ts";
import { Seals } from "./seal.ts";
import type { Head, LedgerStore } from "./store.ts";
import { emptyTree, loadTree, type LogTree } from "./tiles.ts";

const ANCHOR_FILE = "server_anchor.txt";

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
}

/**
 * @throws {SealwireError} `ledger_missing`, `ledger_of_another_server`, `ledger_rolled_back`, `store_damaged`,
 * `anchor_unreadable`, `bad_checkpoint` (of the anchor), and what making entry 0 throws.
 */
export async function openLedger(options: OpenLedgerOptions): Promise<Ledger> {
  const { store, server, logKey, create } = options;
  const seals = new Seals(deriveSealKey(logKey.privateKey));
  const log = { origin: logOrigin(server), publicKey: logKey.publicKey };
  const anchor = openAnchor(options.keysFolder, log);
  const ledgerOptions = { ...options, seals, anchor };

  // Before the head: another process may raise both, the anchor last.
  const anchored = anchor.read();
  const stored = await store.head();
  if (stored === null && create === null) {
    throw new SealwireError(
      "ledger_missing",
      "the database holds no ledger yet: start the server once",
    );
  }
  if (stored !== null) await requireSameServer(store, stored, options);
  const isNew = stored === null && (anchored === null || anchored.size === 0);
  if (isNew) anchor.raise(signedCheckpoint(logKey, server, emptyTree()));
  if (stored !== null) seals.checkHead(stored);

  const state = stored === null ? emptyState(server, create!) : await loadState(store, stored);
  const ledger = new Ledger(ledgerOptions, state);
  const lost = isNew ? null : await findLoss(ledger, anchored);
  if (lost !== null && !options.acceptRollback) throw lost.error;
  if (stored === null) {
    const { publicKey } = logKey;
    await ledger.submit({
      type: "operator",
      fact: { ...create!, type: "ledger.open", server, log: ed25519Jwk(publicKey) },
    });
  }
  if (lost !== null) {
    if (lost.fact !== null) await ledger.submit({ type: "operator", fact: lost.fact });
    anchor.replace(ledger.checkpoint);
  }
  return ledger;
}

/** The anchor of the server whose keys are in `keysFolder`. */
export function openAnchor(keysFolder: string, log: Log): Anchor {
  return new Anchor(join(keysFolder, ANCHOR_FILE), log);
}

/** What the database lacks. */
interface Loss {
  readonly error: SealwireError;
  /** The entry that tells of it; null where nobody knows what was lost. */
  readonly fact: LedgerRollback | null;
}

async function findLoss(ledger: Ledger, anchored: Checkpoint | null): Promise<Loss | null> {
  if (anchored === null) return { error: anchorMissing(ledger.size), fact: null };
  const { size } = ledger;
  const isPrefix = anchored.size > size;
  if (!isPrefix && sameHash(await ledger.rootAt(anchored.size), anchored.root)) return null;
  if (size > 0 && await ledger.findRollback(anchored.size) !== null) return null;
  const error = rolledBack(anchored, size);
  // A history that is as long but different shares nothing that could be named.
  const kept = isPrefix ? { size, root: await ledger.rootAt(size) } : { size: 0, root: EMPTY_ROOT };
  return {
    error,
    fact: {
      type: "ledger.rollback",
      keptSize: kept.size,
      keptRoot: encodeBase64url(kept.root) as Sha256,
      lostSize: anchored.size,
      lostRoot: encodeBase64url(anchored.root) as Sha256,
    },
  };
}

function emptyState(server: Sha256, { unit, ...settings }: NewLedger): LogState {
  const tree = emptyTree();
  const root = encodeBase64url(tree.root) as Sha256;
  return { head: { size: 0, root, time_s: 0, server, unit, settings }, tree };
}

async function loadState(store: LedgerStore, head: Head): Promise<LogState> {
  const root = decodeBase64url(head.root)!;
  const tree: LogTree = await loadTree({ size: head.size, root }, async (level, start, end) => {
    if (level > 0) return await store.tileRoots(level - 1, start, end);
    return (await store.entries(start, end)).map((text) => hashLeaf(text));
  });
  return { head, tree };
}

/** One server and one log key sign a whole log. Throws `ledger_of_another_server`. */
async function requireSameServer(
  store: LedgerStore,
  head: Head,
  { server, logKey }: Pick<OpenLedgerOptions, "server" | "logKey">,
): Promise<void> {
  const other = (file: string) =>
    new SealwireError(
      "ledger_of_another_server",
      `the ledger was not made with this ${file}: put back the keys that it was made with`,
    );
  if (head.server !== server) throw other("server_private.pem");
  const [text] = await store.entries(0, 1);
  const entry = text === undefined ? null : parseEntry(text);
  if (entry?.type === "ledger.open" && entry.log.x !== logKey.publicKey.x) {
    throw other("server_log_key.pem");
  }
}

function anchorMissing(size: number): SealwireError {
  return new SealwireError(
    "ledger_rolled_back",
    `the database holds ${size} entries, but the keys folder has no ${ANCHOR_FILE}, which says how many there should ` +
      "be: put it back, or start the server with --accept-rollback if this is the newest database",
  );
}
