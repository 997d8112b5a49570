/**
 * The ledger in one SQLite file: WAL, synchronous FULL, one connection that writes and one that
 * reads.
 *
 * There is one writer behind a queue of our own, because a second write transaction in the same
 * process would block the event loop that the first one waits on. While another process writes,
 * this one waits, {@linkcode BUSY_TIMEOUT_MS} at most.
 */
import { closeSync, openSync } from "node:fs";
import { backup, type DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { SealwireError, systemErrorCode } from "../base/errors.ts";
import { PRIVATE_FILE_MODE, removeIfThere, writeError } from "../base/files.ts";
import type { Sha256, Uuid } from "../base/parse.ts";
import type { AccountName, RsaPublicJwk } from "../keys/rsa.ts";
import type { PaymentReference } from "../protocol/order.ts";
import type { Party } from "../protocol/party.ts";
import type { Account, Posting } from "./settle.ts";
import { appendRecord } from "./sqlite_append.ts";
import { BUSY_TIMEOUT_MS, openLedgerFile } from "./sqlite_file.ts";
import {
  parseStored,
  resultCode,
  type Row,
  SQLITE_BUSY,
  Statements,
  unavailable,
} from "./sqlite_statements.ts";
import {
  type CommitRecord,
  commitUnknown,
  type EndingRow,
  type Head,
  type HistoryRow,
  type LedgerReader,
  type LedgerStore,
  type LedgerTransaction,
  type NewPayment,
  type Sealed,
  type StoreCounts,
  type StoredAccount,
  type StoredPayment,
} from "./store.ts";
import {
  accountOf,
  countsOf,
  endingOf,
  headOf,
  NO_ITEM,
  postingOf,
  refundOf,
  requestOf,
} from "./stored_rows.ts";
import type { PaymentRequest, RefundTotal } from "./submission.ts";
import type { TileId } from "./tiles.ts";

const BUSY_RETRY_MS = 2;
/** Pages that a backup copies between two turns of the event loop. */
const BACKUP_PAGES = 1_000;

/** Opens the ledger at `path`; `create`: makes it where there is none. Throws `store_unusable`. */
export function openSqlite(path: string, options: { create: boolean }): LedgerStore {
  const { writer, reader } = openLedgerFile(path, options);
  return new SqliteStore(writer, reader);
}

/** Reads over one connection, inside a write transaction or outside. */
class SqliteReader implements LedgerReader {
  constructor(protected readonly statements: Statements) {}

  head(): Promise<Sealed<Head> | null> {
    const row = this.statements.get("SELECT * FROM head");
    return Promise.resolve(row === undefined ? null : headOf(row));
  }

  accounts(names: Iterable<Party>): Promise<Map<string, Sealed<Account>>> {
    const found = new Map<string, Sealed<Account>>();
    for (const name of new Set(names)) {
      const row = this.statements.get("SELECT * FROM accounts WHERE name = ?", name);
      if (row !== undefined) found.set(name, accountOf(row));
    }
    return Promise.resolve(found);
  }

  endings(ids: Iterable<{ payer: Party; id: Uuid }>): Promise<Sealed<EndingRow>[]> {
    const found: Sealed<EndingRow>[] = [];
    for (const { payer, id } of ids) {
      const row = this.statements.get(
        `SELECT payer, id, state, content_sha256, entry_index, seal FROM payments
         WHERE payer = ? AND id = ?`,
        payer,
        id,
      );
      if (row !== undefined) found.push(endingOf(row));
    }
    return Promise.resolve(found);
  }

  requests(
    ids: Iterable<{ payee: AccountName; id: Uuid }>,
  ): Promise<Sealed<PaymentRequest>[]> {
    const found: Sealed<PaymentRequest>[] = [];
    for (const { payee, id } of ids) {
      const row = this.statements.get(
        "SELECT * FROM requests WHERE payee = ? AND id = ?",
        payee,
        id,
      );
      if (row !== undefined) found.push(requestOf(row));
    }
    return Promise.resolve(found);
  }

  pendingRequests(
    payees: Iterable<AccountName>,
    time_s: number,
  ): Promise<Map<AccountName, (AccountName | null)[]>> {
    const found = new Map<AccountName, (AccountName | null)[]>();
    for (const payee of new Set(payees)) {
      const rows = this.statements.all(
        "SELECT payer FROM requests WHERE payee = ? AND state = 'pending' AND expires_s > ?",
        payee,
        BigInt(time_s),
      );
      found.set(payee, rows.map((row) => row.payer as AccountName | null));
    }
    return Promise.resolve(found);
  }

  refundTotals(references: Iterable<PaymentReference>): Promise<Sealed<RefundTotal>[]> {
    const found: Sealed<RefundTotal>[] = [];
    for (const reference of references) {
      const row = this.statements.get(
        "SELECT * FROM refunds WHERE payer = ? AND id = ? AND item = ?",
        reference.payer,
        reference.id,
        BigInt(reference.item ?? NO_ITEM),
      );
      if (row !== undefined) found.push(refundOf(row));
    }
    return Promise.resolve(found);
  }

  entries(from: number, to: number): Promise<string[]> {
    const rows = this.statements.all(
      "SELECT text FROM entries WHERE entry_index >= ? AND entry_index < ? ORDER BY entry_index",
      BigInt(from),
      BigInt(to),
    );
    return Promise.resolve(rows.map((row) => String(row.text)));
  }

  tiles(ids: readonly TileId[]): Promise<(Uint8Array | null)[]> {
    return Promise.resolve(ids.map(({ level, index }) => {
      const row = this.statements.get(
        "SELECT hashes FROM tiles WHERE level = ? AND tile_index = ?",
        BigInt(level),
        BigInt(index),
      );
      return row === undefined ? null : row.hashes as Uint8Array;
    }));
  }

  tileRoots(level: number, from: number, to: number): Promise<Uint8Array[]> {
    const rows = this.statements.all(
      `SELECT root FROM tiles WHERE level = ? AND tile_index >= ? AND tile_index < ?
       ORDER BY tile_index`,
      BigInt(level),
      BigInt(from),
      BigInt(to),
    );
    return Promise.resolve(rows.map((row) => row.root as Uint8Array));
  }
}

class SqliteStore extends SqliteReader implements LedgerStore {
  private readonly write: SqliteTransaction;
  private lastTransaction: Promise<unknown> = Promise.resolve();

  constructor(private readonly writer: DatabaseSync, private readonly reader: DatabaseSync) {
    super(new Statements(reader));
    this.write = new SqliteTransaction(new Statements(writer));
  }

  transaction<T>(work: (transaction: LedgerTransaction) => Promise<T>): Promise<T> {
    const run = this.lastTransaction.then(() => this.runTransaction(work));
    this.lastTransaction = run.catch(() => {});
    return run;
  }

  private async runTransaction<T>(
    work: (transaction: LedgerTransaction) => Promise<T>,
  ): Promise<T> {
    await this.begin();
    try {
      const result = await work(this.write);
      this.commit();
      return result;
    } catch (error) {
      if (this.writer.isTransaction) this.exec("ROLLBACK");
      throw error;
    }
  }

  /**
   * A COMMIT that fails leaves the transaction open, to be rolled back. If it does not, nobody
   * knows.
   */
  private commit(): void {
    try {
      this.exec("COMMIT");
    } catch (error) {
      if (this.writer.isTransaction) throw error;
      throw commitUnknown(error);
    }
  }

  confirmedHead(): Promise<Sealed<Head> | null> {
    // Others see a commit only once it is on the disk.
    return this.head();
  }

  /**
   * Waits for another process's transaction as SQLite would, but without stopping this process's
   * event loop.
   */
  private async begin(): Promise<void> {
    const deadline_ms = performance.now() + BUSY_TIMEOUT_MS;
    while (true) {
      try {
        return this.write.begin();
      } catch (error) {
        const busy = resultCode((error as Error).cause) === SQLITE_BUSY;
        if (!busy || performance.now() >= deadline_ms) throw error;
      }
      await sleep(BUSY_RETRY_MS);
    }
  }

  private exec(sql: string): void {
    try {
      this.writer.exec(sql);
    } catch (cause) {
      throw unavailable(cause);
    }
  }

  account(name: Party): Promise<Sealed<StoredAccount> | null> {
    const row = this.statements.get("SELECT * FROM accounts WHERE name = ?", name);
    return Promise.resolve(row === undefined ? null : storedAccountOf(row));
  }

  payment(payer: Party, id: Uuid): Promise<Sealed<StoredPayment> | null> {
    const row = this.statements.get(
      `SELECT payments.*, delegations.text AS delegation_text FROM payments
       LEFT JOIN delegations ON delegations.sha256 = payments.delegation_sha256
       WHERE payer = ? AND id = ?`,
      payer,
      id,
    );
    return Promise.resolve(
      row === undefined ? null : {
        ...endingOf(row),
        signedText: row.signed_text as string | null,
        delegationText: row.delegation_text as string | null,
        itemTexts: itemsOf(row),
      },
    );
  }

  delegation(sha256: Sha256): Promise<string | null> {
    const row = this.statements.get("SELECT text FROM delegations WHERE sha256 = ?", sha256);
    return Promise.resolve(row === undefined ? null : String(row.text));
  }

  rotation(sha256: Sha256): Promise<string | null> {
    const row = this.statements.get("SELECT text FROM rotations WHERE sha256 = ?", sha256);
    return Promise.resolve(row === undefined ? null : String(row.text));
  }

  requestsOf(account: AccountName, limit: number): Promise<Sealed<PaymentRequest>[]> {
    const rows = this.statements.all(
      `SELECT * FROM requests WHERE payee = ? OR payer = ?
       ORDER BY state = 'pending' DESC, created_s DESC, id LIMIT ?`,
      account,
      account,
      BigInt(limit),
    );
    return Promise.resolve(rows.map(requestOf));
  }

  history(account: Party, after: number, limit: number): Promise<HistoryRow[]> {
    const where = "account = ? AND entry_index > ? ORDER BY entry_index";
    return Promise.resolve(this.historyRows(where, account, after, limit));
  }

  historyBefore(account: Party, before: number, limit: number): Promise<HistoryRow[]> {
    const where = "account = ? AND entry_index < ? ORDER BY entry_index DESC";
    return Promise.resolve(this.historyRows(where, account, before, limit));
  }

  private historyRows(where: string, account: Party, index: number, limit: number): HistoryRow[] {
    const rows = this.statements.all(
      `SELECT entries.text, postings.balance, signed_text, items FROM postings
       JOIN entries USING (entry_index) LEFT JOIN payments USING (entry_index)
       WHERE ${where} LIMIT ?`,
      account,
      BigInt(index),
      BigInt(limit),
    );
    return rows.map((row) => ({
      entryText: String(row.text),
      signedText: row.signed_text as string | null,
      itemTexts: itemsOf(row),
      balance: row.balance as bigint,
    }));
  }

  operatorIndexes(): Promise<number[]> {
    const rows = this.statements.all("SELECT entry_index FROM operator_entries ORDER BY 1");
    return Promise.resolve(rows.map((row) => Number(row.entry_index)));
  }

  accountsAfter(after: string, limit: number): Promise<Sealed<StoredAccount>[]> {
    const rows = this.statements.all(
      "SELECT * FROM accounts WHERE name > ? ORDER BY name LIMIT ?",
      after,
      BigInt(limit),
    );
    return Promise.resolve(rows.map(storedAccountOf));
  }

  postingsAfter(
    { account, index }: Omit<Posting, "balance">,
    limit: number,
  ): Promise<Posting[]> {
    const rows = this.statements.all(
      `SELECT * FROM postings WHERE (account, entry_index) > (?, ?)
       ORDER BY account, entry_index LIMIT ?`,
      account,
      BigInt(index),
      BigInt(limit),
    );
    return Promise.resolve(rows.map(postingOf));
  }

  paymentsAfter(after: number, limit: number): Promise<NewPayment[]> {
    const rows = this.statements.all(
      "SELECT * FROM payments WHERE entry_index > ? ORDER BY entry_index LIMIT ?",
      BigInt(after),
      BigInt(limit),
    );
    return Promise.resolve(rows.map(paymentOf));
  }

  requestsAfter(
    { payee, id }: { readonly payee: string; readonly id: string },
    limit: number,
  ): Promise<Sealed<PaymentRequest>[]> {
    const rows = this.statements.all(
      "SELECT * FROM requests WHERE (payee, id) > (?, ?) ORDER BY payee, id LIMIT ?",
      payee,
      id,
      BigInt(limit),
    );
    return Promise.resolve(rows.map(requestOf));
  }

  refundsFrom(skip: number, limit: number): Promise<Sealed<RefundTotal>[]> {
    const rows = this.statements.all(
      "SELECT * FROM refunds ORDER BY payer, id, item LIMIT ? OFFSET ?",
      BigInt(limit),
      BigInt(skip),
    );
    return Promise.resolve(rows.map(refundOf));
  }

  rotationsAfter(after: string, limit: number): Promise<[Sha256, string][]> {
    const rows = this.statements.all(
      "SELECT sha256, text FROM rotations WHERE sha256 > ? ORDER BY sha256 LIMIT ?",
      after,
      BigInt(limit),
    );
    return Promise.resolve(rows.map((row) => [row.sha256 as Sha256, String(row.text)]));
  }

  delegationsAfter(after: string, limit: number): Promise<[Sha256, string][]> {
    const rows = this.statements.all(
      "SELECT sha256, text FROM delegations WHERE sha256 > ? ORDER BY sha256 LIMIT ?",
      after,
      BigInt(limit),
    );
    return Promise.resolve(rows.map((row) => [row.sha256 as Sha256, String(row.text)]));
  }

  balancesAfter(keys: readonly Omit<Posting, "balance">[]): Promise<(bigint | null)[]> {
    return Promise.resolve(keys.map(({ account, index }) => {
      const row = this.statements.get(
        "SELECT balance FROM postings WHERE account = ? AND entry_index = ?",
        account,
        BigInt(index),
      );
      return row === undefined ? null : row.balance as bigint;
    }));
  }

  counts(): Promise<StoreCounts> {
    const row = this.statements.get(
      `SELECT (SELECT count(*) FROM entries) AS entries,
         (SELECT count(*) FROM postings) AS postings,
         (SELECT count(*) FROM payments) AS endings,
         (SELECT count(*) FROM tiles) AS tiles,
         (SELECT count(*) FROM requests WHERE state = 'paid') AS paid_requests,
         (SELECT count(*) FROM refunds) AS refunds`,
    )!;
    return Promise.resolve(countsOf(row));
  }

  async snapshot<T>(read: () => Promise<T>): Promise<T> {
    this.reader.exec("BEGIN");
    try {
      return await read();
    } finally {
      this.reader.exec("COMMIT");
    }
  }

  async backup(path: string, onProgress: (done: number, total: number) => void): Promise<void> {
    createNew(path);
    try {
      await backup(this.reader, path, {
        rate: BACKUP_PAGES,
        progress: ({ totalPages, remainingPages }) =>
          onProgress(totalPages - remainingPages, totalPages),
      });
    } catch (cause) {
      // Half a ledger would pass for a backup.
      removeIfThere(path);
      throw unavailable(cause);
    }
  }

  async close(): Promise<void> {
    await this.lastTransaction;
    this.reader.close();
    this.writer.close();
  }
}

class SqliteTransaction extends SqliteReader implements LedgerTransaction {
  /** Processes that share a file share a clock. */
  readonly now_s = null;

  begin(): void {
    this.statements.run("BEGIN IMMEDIATE");
  }

  append(record: CommitRecord): Promise<void> {
    appendRecord(this.statements, record);
    return Promise.resolve();
  }
}

/**
 * An empty file is an empty database. Made here, because SQLite would let others read it, and
 * overwrite what is there.
 */
function createNew(path: string): void {
  try {
    closeSync(openSync(path, "wx", PRIVATE_FILE_MODE));
  } catch (error) {
    if (systemErrorCode(error) !== "EEXIST") throw writeError(path, error);
    throw new SealwireError("target_exists", `${path} exists already: give another name`);
  }
}

function storedAccountOf(row: Row): Sealed<StoredAccount> {
  return {
    ...accountOf(row),
    jwk: row.jwk === null ? null : parseStored(row.jwk) as RsaPublicJwk,
  };
}

function paymentOf(row: Row): NewPayment {
  return {
    ...endingOf(row),
    signedText: row.signed_text as string | null,
    delegationSha256: row.delegation_sha256 as Sha256 | null,
    itemTexts: itemsOf(row),
  };
}

function itemsOf(row: Row): string[] | null {
  return row.items === null ? null : parseStored(row.items) as string[];
}
