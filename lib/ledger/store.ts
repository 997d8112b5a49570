/**
 * What a database must do to hold the ledger. Two things matter. A transaction happens whole and
 * durable, or not at all. And a transaction that extends the ledger reads head, accounts and ids
 * under the same lock that it writes under, so that a second process (`grant` beside a running
 * server) is safe.
 *
 * A store does not judge what it holds: each row on which a decision rests carries a seal, which
 * `ledger.ts` and `read_view.ts` check.
 */
import { SealwireError } from "../base/errors.ts";
import type { Sha256, Uuid } from "../base/parse.ts";
import type { AccountName, RsaPublicJwk } from "../keys/rsa.ts";
import type { Unit } from "../protocol/money.ts";
import type { PaymentReference } from "../protocol/order.ts";
import type { Party } from "../protocol/party.ts";
import type { Settings } from "./entry.ts";
import type { Account, Posting } from "./settle.ts";
import type { SharedPresence } from "./shared_presence.ts";
import type { Ending, PaymentRequest, RefundTotal } from "./submission.ts";
import type { FullTile, TileId } from "./tiles.ts";

/** A row with the seal that it was stored with. */
export type Sealed<Row> = Row & { readonly seal: string };

/** The end of the log, and what the ledger says of itself. */
export interface Head {
  /** How many entries the log has. */
  readonly size: number;
  /** Root of the Merkle tree over all entries. */
  readonly root: Sha256;
  /** Time of the last entry. */
  readonly time_s: number;
  /** Thumbprint of the server's RSA key. */
  readonly server: Sha256;
  readonly unit: Unit;
  readonly settings: Settings;
}

/** An id with its primary key and how it ended. */
export interface EndingRow extends Ending {
  readonly payer: Party;
  readonly id: Uuid;
}

/** An account as people ask for it. */
export interface StoredAccount extends Account {
  /** Null for a classic account, and for the treasury. */
  readonly jwk: RsaPublicJwk | null;
}

/** A payment's id that has ended, with what was submitted under it. */
export interface StoredPayment extends EndingRow {
  /** The order's or cancel's token; null for what nobody signed. */
  readonly signedText: string | null;
  readonly delegationText: string | null;
  /** A batch's items, exact texts. */
  readonly itemTexts: readonly string[] | null;
}

/** What a commit stores of an id that ends. */
export interface NewPayment extends Sealed<EndingRow> {
  readonly signedText: string | null;
  readonly delegationSha256: Sha256 | null;
  readonly itemTexts: readonly string[] | null;
}

/** One account's share in one entry. */
export interface HistoryRow {
  readonly entryText: string;
  readonly signedText: string | null;
  readonly itemTexts: readonly string[] | null;
  /** The account's balance after the entry. */
  readonly balance: bigint;
}

/** All that one commit changes. */
export interface CommitRecord {
  readonly head: Sealed<Head>;
  readonly firstIndex: number;
  /** Exact texts, in order. */
  readonly entryTexts: readonly string[];
  /** Tiles that became full. */
  readonly tiles: readonly FullTile[];
  /** `jwk` is undefined for an account that exists already and keeps its key. */
  readonly accounts: readonly (Sealed<Account> & { readonly jwk?: RsaPublicJwk | null })[];
  readonly postings: readonly Posting[];
  readonly payments: readonly NewPayment[];
  /** Delegations that the entries rest on, by SHA-256. */
  readonly delegations: ReadonlyMap<Sha256, string>;
  /** Rotations and countersignatures, by SHA-256. */
  readonly rotations: ReadonlyMap<Sha256, string>;
  /** Requests that are new or have ended. */
  readonly requests: readonly Sealed<PaymentRequest>[];
  readonly refunds: readonly Sealed<RefundTotal>[];
  /** Indexes of entries that the operator made. */
  readonly operatorIndexes: readonly number[];
}

/** How many rows are stored. */
export interface StoreCounts {
  readonly entries: number;
  readonly postings: number;
  readonly endings: number;
  readonly tiles: number;
  readonly paidRequests: number;
  readonly refunds: number;
}

export interface LedgerReader {
  /** Null before entry 0. */
  head(): Promise<Sealed<Head> | null>;
  accounts(names: Iterable<Party>): Promise<Map<string, Sealed<Account>>>;
  endings(ids: Iterable<{ payer: Party; id: Uuid }>): Promise<Sealed<EndingRow>[]>;
  requests(ids: Iterable<{ payee: AccountName; id: Uuid }>): Promise<Sealed<PaymentRequest>[]>;
  /**
   * Requests of these payees that are pending and not expired at `time_s`: their payers, one for
   * each request.
   */
  pendingRequests(
    payees: Iterable<AccountName>,
    time_s: number,
  ): Promise<Map<AccountName, (AccountName | null)[]>>;
  refundTotals(references: Iterable<PaymentReference>): Promise<Sealed<RefundTotal>[]>;
  /** Texts of the entries from index `from` up to, without, `to`. */
  entries(from: number, to: number): Promise<string[]>;
  /**
   * Stored hashes of full tiles, 8,192 bytes each, in the order asked; null where there is none.
   */
  tiles(ids: readonly TileId[]): Promise<(Uint8Array | null)[]>;
  /** Roots, 32 bytes each, of the full tiles of a level from index `from` up to, without, `to`. */
  tileRoots(level: number, from: number, to: number): Promise<Uint8Array[]>;
}

export interface LedgerTransaction extends LedgerReader {
  /**
   * The database's clock in seconds since 1970, where servers with clocks of their own share it.
   * Null where the server's clock is the only one.
   */
  readonly now_s: number | null;
  append(record: CommitRecord): Promise<void>;
  /** Absent while the database is at the machine that made its last commit. Stores of one machine never have it. */
  readonly failover?: Failover;
}

/** Another machine has taken the place of the one that made the database's last commit. */
export interface Failover {
  /** The last commit that is here was replicated synchronously: no commit was answered that is not here too. */
  readonly wasSynchronous: boolean;
  /** Has this machine taken for the database from now on, at all servers. Part of the transaction. */
  accept(): Promise<void>;
}

export interface LedgerStore extends LedgerReader {
  /**
   * Runs `work` in one durable write transaction, alone. When it throws, nothing has happened, but
   * for `outcome_unknown`. `work` runs again when the database undid it for reasons of its own.
   *
   * @throws {SealwireError} `store_unavailable` when the database refuses, `outcome_unknown` when
   * its answer to COMMIT was lost (`confirmedHead` tells), and whatever `work` throws.
   */
  transaction<T>(work: (transaction: LedgerTransaction) => Promise<T>): Promise<T>;
  /**
   * The head as it outlasts a failure of the database. What `head` reads may have been committed on
   * one machine alone, if the answer to its COMMIT was lost. So this waits for whoever is writing,
   * commits a write of its own, and tells what was there.
   *
   * @throws {SealwireError} as `transaction`.
   */
  confirmedHead(): Promise<Sealed<Head> | null>;
  account(name: Party): Promise<Sealed<StoredAccount> | null>;
  payment(payer: Party, id: Uuid): Promise<Sealed<StoredPayment> | null>;
  delegation(sha256: Sha256): Promise<string | null>;
  /** The text of a rotation or of a countersignature. */
  rotation(sha256: Sha256): Promise<string | null>;
  /**
   * Requests of which `account` is the payee or the named payer, at most `limit`: pending ones first, then the newest first,
   * then by id.
   */
  requestsOf(account: AccountName, limit: number): Promise<Sealed<PaymentRequest>[]>;
  /** Entries that touched `account` after entry `after`, oldest first, at most `limit`. */
  history(account: Party, after: number, limit: number): Promise<HistoryRow[]>;
  /** Entries that touched `account` before entry `before`, newest first, at most `limit`. */
  historyBefore(account: Party, before: number, limit: number): Promise<HistoryRow[]>;
  /** Indexes of the operator's entries, in order. */
  operatorIndexes(): Promise<number[]>;
  /** Accounts by name after `after`, at most `limit`, for audit. */
  accountsAfter(after: string, limit: number): Promise<Sealed<StoredAccount>[]>;
  /** Postings by account and index after the one given, at most `limit`, for a copy. */
  postingsAfter(after: Omit<Posting, "balance">, limit: number): Promise<Posting[]>;
  /** Ended ids by their entry after entry `after`, at most `limit`, for a copy. */
  paymentsAfter(after: number, limit: number): Promise<NewPayment[]>;
  /** Requests after this one by payee and id, at most `limit`, for a copy. */
  requestsAfter(
    after: { readonly payee: string; readonly id: string },
    limit: number,
  ): Promise<Sealed<PaymentRequest>[]>;
  /** Refund totals after `skip` of them in the order of their keys, at most `limit`, for a copy. */
  refundsFrom(skip: number, limit: number): Promise<Sealed<RefundTotal>[]>;
  /** Rotations and countersignatures by SHA-256 after `after`, at most `limit`, for a copy. */
  rotationsAfter(after: string, limit: number): Promise<[Sha256, string][]>;
  /** Delegations by SHA-256 after `after`, at most `limit`, for a copy. */
  delegationsAfter(after: string, limit: number): Promise<[Sha256, string][]>;
  /**
   * The stored balance after each of these entries, null where there is no such posting, for audit.
   */
  balancesAfter(keys: readonly Omit<Posting, "balance">[]): Promise<(bigint | null)[]>;
  /** For audit. */
  counts(): Promise<StoreCounts>;
  /** Runs `read` on a ledger that stays as it is, whatever is written meanwhile. One at a time. */
  snapshot<T>(read: () => Promise<T>): Promise<T>;
  /**
   * Copies the ledger to a new SQLite file while it is in use. `onProgress`: parts done and parts
   * in all.
   *
   * @throws {SealwireError} `target_exists`, `folder_unwritable`, `write_failed`,
   * `store_unavailable`.
   */
  backup(path: string, onProgress: (done: number, total: number) => void): Promise<void>;
  /**
   * Calls `listener` with the log's size after each commit, whichever process made it, until the
   * store is closed. Sizes may come twice and may be skipped. Stores that cannot tell do not have
   * it.
   */
  onCommitted?(listener: (size: number) => void): void;
  /** Presence at all servers of the database. Stores of one server do not have it. */
  readonly sharedPresence?: SharedPresence;
  close(): Promise<void>;
}

/** What `transaction` throws when nobody knows whether it has happened. */
export function commitUnknown(cause: unknown): SealwireError {
  return new SealwireError(
    "outcome_unknown",
    "the database's answer to COMMIT was lost: whether it was recorded is not known yet",
    { cause },
  );
}
