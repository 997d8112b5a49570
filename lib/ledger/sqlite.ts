/**
 * The ledger in one SQLite file: WAL, synchronous FULL, one connection that writes and one that reads.
 *
 * Why one writer behind a queue of our own: a second write transaction in the same process would block the event loop that
 * the first one waits on. Other processes wait for the lock, {@linkcode BUSY_TIMEOUT_MS} at most.
 */
import { chmodSync, existsSync, mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync, type SQLOutputValue, type StatementSync } from "node:sqlite";
import { SealwireError } from "../errors.ts";
import type { AccountName, RsaPublicJwk } from "../keys.ts";
import { formatBatchItem } from "../orders.ts";
import type { Sha256, Uuid } from "../parse.ts";
import { parseHeader, type SignedHeader } from "./block.ts";
import type { Party } from "./entry.ts";
import {
  type Account,
  outcomeKey,
  type Posting,
  type RecordedOutcome,
  type VoidReason,
} from "./settle.ts";
import type {
  BlockRecord,
  Head,
  HistoryRow,
  LedgerStore,
  LedgerTransaction,
  StoredAccount,
  StoredPayment,
} from "./store.ts";

/** "SWLR": marks a database as a Sealwire ledger. */
const APPLICATION_ID = 0x53574c52;
const SCHEMA_VERSION = 1;
const BUSY_TIMEOUT_MS = 5_000;
/** Voids are kept longer than any order can live (a day), and then forgotten: such an order is expired by itself. */
const VOID_KEPT_S = 7 * 86_400;

const SCHEMA = `
  CREATE TABLE blocks (
    height INTEGER PRIMARY KEY,
    first INTEGER NOT NULL UNIQUE,
    count INTEGER NOT NULL,
    time_s INTEGER NOT NULL,
    header TEXT NOT NULL
  ) STRICT;
  CREATE TABLE entries (seq INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;
  CREATE TABLE accounts (
    name TEXT PRIMARY KEY,
    key TEXT NOT NULL,
    jwk TEXT,
    opened_seq INTEGER,
    balance INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE postings (
    account TEXT NOT NULL,
    seq INTEGER NOT NULL,
    balance INTEGER NOT NULL,
    PRIMARY KEY (account, seq)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE outcomes (
    payer TEXT NOT NULL,
    id TEXT NOT NULL,
    content_sha256 TEXT,
    void TEXT,
    first_seq INTEGER,
    count INTEGER,
    order_text TEXT,
    delegation_sha256 TEXT,
    items TEXT,
    time_s INTEGER NOT NULL,
    PRIMARY KEY (payer, id)
  ) STRICT;
  CREATE INDEX voids_by_time ON outcomes (time_s) WHERE void IS NOT NULL;
  CREATE TABLE delegations (sha256 TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT;
`;

type Row = Record<string, SQLOutputValue>;

/** Opens the ledger at `path`, making it where there is none. */
export function openSqlite(path: string, options: { create: boolean }): LedgerStore {
  try {
    if (options.create) mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    else if (!existsSync(path)) throw unusable(path, "there is none");
    const writer = openDatabase(path, options.create);
    const reader = new DatabaseSync(path, { readOnly: true });
    reader.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
    return new SqliteStore(writer, reader);
  } catch (error) {
    if (error instanceof SealwireError) throw error;
    throw unusable(path, error instanceof Error ? error.message : String(error), error);
  }
}

function openDatabase(path: string, create: boolean): DatabaseSync {
  const database = new DatabaseSync(path);
  try {
    database.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
    const applicationId = pragma(database, "application_id");
    const tables = database.prepare("SELECT count(*) AS tables FROM sqlite_schema").get()!.tables;
    if (applicationId === 0 && tables === 0 && create) createSchema(database);
    else if (applicationId !== APPLICATION_ID) throw unusable(path, "it is not a Sealwire ledger");
    const version = pragma(database, "user_version");
    if (version !== SCHEMA_VERSION) {
      throw unusable(
        path,
        `it has version ${version}, and this program reads version ${SCHEMA_VERSION}`,
      );
    }
    database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
    chmodSync(path, 0o600);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

function createSchema(database: DatabaseSync): void {
  database.exec("BEGIN IMMEDIATE");
  // Another process may have made it while this one waited for the lock.
  if (pragma(database, "application_id") === 0) {
    database.exec(SCHEMA);
    database.exec(
      `PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${SCHEMA_VERSION}`,
    );
  }
  database.exec("COMMIT");
}

function pragma(database: DatabaseSync, name: string): SQLOutputValue | undefined {
  return database.prepare(`PRAGMA ${name}`).get()?.[name];
}

function unusable(path: string, why: string, cause?: unknown): SealwireError {
  return new SealwireError("store_unusable", `cannot use the ledger ${path}: ${why}`, { cause });
}

class SqliteStore implements LedgerStore {
  private readonly write: SqliteTransaction;
  private readonly read: Statements;
  private lastTransaction: Promise<unknown> = Promise.resolve();

  constructor(private readonly writer: DatabaseSync, private readonly reader: DatabaseSync) {
    this.write = new SqliteTransaction(new Statements(writer));
    this.read = new Statements(reader);
  }

  transaction<T>(work: (transaction: LedgerTransaction) => Promise<T>): Promise<T> {
    const run = this.lastTransaction.then(() => this.runTransaction(work));
    this.lastTransaction = run.catch(() => {});
    return run;
  }

  private async runTransaction<T>(
    work: (transaction: LedgerTransaction) => Promise<T>,
  ): Promise<T> {
    this.exec("BEGIN IMMEDIATE");
    try {
      const result = await work(this.write);
      this.exec("COMMIT");
      return result;
    } catch (error) {
      if (this.writer.isTransaction) this.exec("ROLLBACK");
      throw error;
    }
  }

  private exec(sql: string): void {
    try {
      this.writer.exec(sql);
    } catch (cause) {
      throw new SealwireError("store_unavailable", "the ledger cannot be written now: try again", {
        cause,
      });
    }
  }

  head(): Promise<Head> {
    return Promise.resolve(readHead(this.read));
  }

  account(name: string): Promise<StoredAccount | null> {
    const row = this.read.get("SELECT * FROM accounts WHERE name = ? AND jwk IS NOT NULL", name);
    return Promise.resolve(row === undefined ? null : storedAccount(row));
  }

  payment(payer: Party, id: Uuid): Promise<StoredPayment | null> {
    const row = this.read.get(
      `SELECT outcomes.*, delegations.text AS delegation_text FROM outcomes
       LEFT JOIN delegations ON delegations.sha256 = outcomes.delegation_sha256 WHERE payer = ? AND id = ?`,
      payer,
      id,
    );
    return Promise.resolve(
      row === undefined ? null : {
        ...recordedOutcome(row),
        orderText: row.order_text as string | null,
        delegationText: row.delegation_text as string | null,
        itemTexts: row.items === null ? null : JSON.parse(String(row.items)),
      },
    );
  }

  blockOf(seq: number): Promise<{ header: SignedHeader; entryTexts: string[] } | null> {
    const block = this.read.get(
      "SELECT header, first, count FROM blocks WHERE first <= ? ORDER BY first DESC LIMIT 1",
      seq,
    );
    if (block === undefined || seq >= Number(block.first) + Number(block.count)) {
      return Promise.resolve(null);
    }
    const rows = this.read.all(
      "SELECT text FROM entries WHERE seq >= ? ORDER BY seq LIMIT ?",
      block.first!,
      block.count!,
    );
    return Promise.resolve({
      header: parseHeader(block.header),
      entryTexts: rows.map((row) => String(row.text)),
    });
  }

  headers(height: number, limit: number): Promise<string[]> {
    const rows = this.read.all(
      "SELECT header FROM blocks WHERE height >= ? ORDER BY height LIMIT ?",
      height,
      limit,
    );
    return Promise.resolve(rows.map((row) => String(row.header)));
  }

  history(account: AccountName, after_seq: number, limit: number): Promise<HistoryRow[]> {
    const rows = this.read.all(
      `SELECT entries.text, postings.balance, order_text,
         (SELECT time_s FROM blocks WHERE first <= postings.seq ORDER BY first DESC LIMIT 1) AS time_s
       FROM postings JOIN entries USING (seq)
       LEFT JOIN outcomes ON outcomes.payer = entries.text ->> 'payer' AND outcomes.id = entries.text ->> 'id'
       WHERE account = ? AND postings.seq > ? ORDER BY postings.seq LIMIT ?`,
      account,
      after_seq,
      limit,
    );
    return Promise.resolve(rows.map((row) => ({
      entryText: String(row.text),
      orderText: row.order_text as string | null,
      time_s: Number(row.time_s),
      balance: row.balance as bigint,
    })));
  }

  async *allAccounts(): AsyncIterable<StoredAccount | Account> {
    let after = "";
    while (true) {
      const rows = this.read.all(
        "SELECT * FROM accounts WHERE name > ? ORDER BY name LIMIT 1000",
        after,
      );
      if (rows.length === 0) return;
      yield* rows.map((row) => row.jwk === null ? plainAccount(row) : storedAccount(row));
      after = String(rows.at(-1)!.name);
    }
  }

  balancesAfter(keys: readonly Omit<Posting, "balance">[]): Promise<(bigint | null)[]> {
    return Promise.resolve(keys.map(({ account, seq }) => {
      const row = this.read.get(
        "SELECT balance FROM postings WHERE account = ? AND seq = ?",
        account,
        seq,
      );
      return row === undefined ? null : row.balance as bigint;
    }));
  }

  postingCount(): Promise<number> {
    return Promise.resolve(
      Number(this.read.get("SELECT count(*) AS postings FROM postings")!.postings),
    );
  }

  delegation(sha256: Sha256): Promise<string | null> {
    const row = this.read.get("SELECT text FROM delegations WHERE sha256 = ?", sha256);
    return Promise.resolve(row === undefined ? null : String(row.text));
  }

  async close(): Promise<void> {
    await this.lastTransaction;
    this.reader.close();
    this.writer.close();
  }
}

class SqliteTransaction implements LedgerTransaction {
  constructor(private readonly statements: Statements) {}

  head(): Promise<Head> {
    return Promise.resolve(readHead(this.statements));
  }

  accounts(names: Iterable<Party>): Promise<Map<string, Account>> {
    const found = new Map<string, Account>();
    for (const name of new Set(names)) {
      const row = this.statements.get(
        "SELECT name, key, balance FROM accounts WHERE name = ?",
        name,
      );
      if (row !== undefined) found.set(name, plainAccount(row));
    }
    return Promise.resolve(found);
  }

  outcomes(ids: Iterable<{ payer: Party; id: Uuid }>): Promise<Map<string, RecordedOutcome>> {
    const found = new Map<string, RecordedOutcome>();
    for (const { payer, id } of ids) {
      const row = this.statements.get(
        "SELECT content_sha256, void, first_seq, count FROM outcomes WHERE payer = ? AND id = ?",
        payer,
        id,
      );
      if (row !== undefined) found.set(outcomeKey(payer, id), recordedOutcome(row));
    }
    return Promise.resolve(found);
  }

  append(record: BlockRecord): Promise<void> {
    if (record.header !== null) this.appendBlock(record, record.header);
    for (const [sha256, text] of record.delegations) {
      this.statements.run("INSERT OR IGNORE INTO delegations VALUES (?, ?)", sha256, text);
    }
    for (const { payer, id, contentSha256, end, submission } of record.newOutcomes) {
      const settled = "settled" in end ? end.settled : null;
      // A void needs its hash alone; what it said is nobody's receipt.
      const ordered = settled !== null && submission.type === "order" ? submission : null;
      const items = ordered?.items.map(formatBatchItem) ?? [];
      this.statements.run(
        "INSERT INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        payer,
        id,
        contentSha256,
        "void" in end ? end.void : null,
        settled?.seq ?? null,
        settled?.count ?? null,
        ordered?.signed.order.text ?? null,
        ordered?.signed.delegation.sha256 ?? null,
        items.length > 0 ? JSON.stringify(items) : null,
        record.time_s,
      );
    }
    this.statements.run(
      "DELETE FROM outcomes WHERE void IS NOT NULL AND time_s < ?",
      record.time_s - VOID_KEPT_S,
    );
    return Promise.resolve();
  }

  private appendBlock(record: BlockRecord, header: SignedHeader): void {
    const { height, first, count, time } = header.claims;
    this.statements.run(
      "INSERT INTO blocks VALUES (?, ?, ?, ?, ?)",
      height,
      first,
      count,
      time,
      header.text,
    );
    for (const [index, text] of record.entryTexts.entries()) {
      this.statements.run("INSERT INTO entries VALUES (?, ?)", first + index, text);
    }
    for (const { name, key, balance } of record.accounts) {
      const opened = record.openedKeys.get(name as AccountName);
      this.statements.run(
        `INSERT INTO accounts VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET balance = excluded.balance`,
        name,
        key,
        opened === undefined ? null : JSON.stringify(opened.jwk),
        opened?.seq ?? null,
        balance,
      );
    }
    for (const { account, seq, balance } of record.postings) {
      this.statements.run("INSERT INTO postings VALUES (?, ?, ?)", account, seq, balance);
    }
  }
}

/** Prepared once, used often: five times as fast as preparing each time. */
class Statements {
  private readonly prepared = new Map<string, StatementSync>();

  constructor(private readonly database: DatabaseSync) {}

  get(sql: string, ...parameters: (string | number | bigint)[]): Row | undefined {
    return this.statement(sql).get(...parameters);
  }

  all(sql: string, ...parameters: SQLOutputValue[]): Row[] {
    return this.statement(sql).all(...parameters);
  }

  run(sql: string, ...parameters: (string | number | bigint | null)[]): void {
    this.statement(sql).run(...parameters);
  }

  private statement(sql: string): StatementSync {
    let statement = this.prepared.get(sql);
    if (statement === undefined) {
      statement = this.database.prepare(sql);
      statement.setReadBigInts(true);
      this.prepared.set(sql, statement);
    }
    return statement;
  }
}

function readHead(statements: Statements): Head {
  const row = statements.get(
    "SELECT height, first, count, time_s, header FROM blocks ORDER BY height DESC LIMIT 1",
  );
  if (row === undefined) return { height: 0, sha256: null, nextSeq: 1, time_s: 0 };
  return {
    height: Number(row.height),
    sha256: parseHeader(row.header).sha256,
    nextSeq: Number(row.first) + Number(row.count),
    time_s: Number(row.time_s),
  };
}

function plainAccount(row: Row): Account {
  return { name: row.name as Party, key: row.key as Sha256, balance: row.balance as bigint };
}

function storedAccount(row: Row): StoredAccount {
  return {
    ...plainAccount(row),
    jwk: JSON.parse(String(row.jwk)) as RsaPublicJwk,
    openedSeq: Number(row.opened_seq),
  };
}

function recordedOutcome(row: Row): RecordedOutcome {
  return {
    contentSha256: row.content_sha256 as Sha256 | null,
    end: row.void === null
      ? { settled: { seq: Number(row.first_seq), count: Number(row.count) } }
      : { void: row.void as VoidReason },
  };
}
