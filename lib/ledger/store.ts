/**
 * What a database must do to hold the ledger. Two things matter: a transaction that either happens whole and durable or not
 * at all, and that what extends the ledger reads head and balances under the same lock that it writes under, so that a
 * second process (`grant` beside a running server) is safe.
 */
import type { AccountName, RsaPublicJwk } from "../keys/rsa.ts";
import type { Sha256, Uuid } from "../base/parse.ts";
import type { SignedHeader } from "./block.ts";
import type { Party } from "./entry.ts";
import type { Account, Posting } from "./settle.ts";
import type { NewOutcome, RecordedOutcome } from "./submission.ts";

/** The end of the chain. */
export interface Head {
  /** 0 before the first block. */
  readonly height: number;
  /** SHA-256 of the last header's text; null before the first block. */
  readonly sha256: Sha256 | null;
  readonly nextSeq: number;
  readonly time_s: number;
  /** Thumbprint of the key that signs the chain; null before the first block. */
  readonly server: Sha256 | null;
}

/** All that one block changes. */
export interface BlockRecord {
  /** Null when the block would have no entry: only voids are recorded then, and no header is made. */
  readonly header: SignedHeader | null;
  /** Exact texts, in order of `seq`. */
  readonly entryTexts: readonly string[];
  readonly accounts: readonly Account[];
  /** The keys of the accounts that this block opens. */
  readonly openedKeys: ReadonlyMap<
    AccountName,
    { readonly jwk: RsaPublicJwk | null; readonly seq: number }
  >;
  readonly postings: readonly Posting[];
  readonly newOutcomes: readonly NewOutcome[];
  /** Delegations that the block's orders and openings rest on, by SHA-256. */
  readonly delegations: ReadonlyMap<Sha256, string>;
  readonly time_s: number;
}

/** The ledger inside a write transaction. */
export interface LedgerTransaction {
  head(): Promise<Head>;
  accounts(names: Iterable<Party>): Promise<Map<string, Account>>;
  /** By `outcomeKey`. */
  outcomes(ids: Iterable<{ payer: Party; id: Uuid }>): Promise<Map<string, RecordedOutcome>>;
  append(record: BlockRecord): Promise<void>;
}

/** An account as people ask for it. */
export interface StoredAccount extends Account {
  /** Null for a classic account. */
  readonly jwk: RsaPublicJwk | null;
  /** `seq` of its `account.open` entry. */
  readonly openedSeq: number;
}

/** One id that has ended, with what was submitted under it. */
export interface StoredPayment extends RecordedOutcome {
  /** The order's token; null for what is void and for what nobody signed. */
  readonly orderText: string | null;
  readonly delegationText: string | null;
  /** A batch's items, exact texts. */
  readonly itemTexts: readonly string[] | null;
}

/** One line of an account's history. */
export interface HistoryRow {
  readonly entryText: string;
  readonly orderText: string | null;
  readonly time_s: number;
  /** The account's balance after the entry. */
  readonly balance: bigint;
}

export interface LedgerStore {
  /**
   * Runs `work` in one durable write transaction, alone. When it throws, nothing has happened.
   *
   * @throws {SealwireError} `store_unavailable` when the database refuses, and whatever `work` throws.
   */
  transaction<T>(work: (transaction: LedgerTransaction) => Promise<T>): Promise<T>;
  head(): Promise<Head>;
  account(name: string): Promise<StoredAccount | null>;
  payment(payer: Party, id: Uuid): Promise<StoredPayment | null>;
  /** The header of the block that entry `seq` is in, and all its entries; null when there is none. */
  blockOf(seq: number): Promise<{ header: SignedHeader; entryTexts: string[] } | null>;
  /** Header texts from `height` on, at most `limit`. */
  headers(height: number, limit: number): Promise<string[]>;
  /** Transfers that touched `account` after entry `after_seq`, oldest first, at most `limit`. */
  history(account: AccountName, after_seq: number, limit: number): Promise<HistoryRow[]>;
  /** All accounts with their balances, for audit. */
  allAccounts(): AsyncIterable<StoredAccount | Account>;
  /** The stored balance after each of these entries, null where there is no such posting, for audit. */
  balancesAfter(keys: readonly Omit<Posting, "balance">[]): Promise<(bigint | null)[]>;
  /** How many entries, postings and settled ids are stored, for audit. */
  counts(): Promise<{ entries: number; postings: number; settled: number }>;
  /** Runs `read`, for which the ledger stays as it is, whatever is written meanwhile. One at a time. */
  snapshot<T>(read: () => Promise<T>): Promise<T>;
  delegation(sha256: Sha256): Promise<string | null>;
  close(): Promise<void>;
}
