/**
 * The ledger in one SQLite file: WAL, synchronous FULL, one connection that writes and one that reads.
 *
 * Why one writer behind a queue of our own: a second write transaction in the same process would block the event loop that
 * the first one waits on. While another process writes, this one waits, {@linkcode BUSY_TIMEOUT_MS} at most.
 */
import type { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import type { AccountName, RsaPublicJwk } from "../keys/rsa.ts";
import { formatBatchItem } from "../protocol/order.ts";
import type { Sha256, Uuid } from "../base/parse.ts";
import { parseHeader, type SignedHeader } from "./block.ts";
import type { Party } from "./entry.ts";
import { type Account, type Posting } from "./settle.ts";
import { outcomeKey, type RecordedOutcome, type VoidReason } from "./submission.ts";
import { BUSY_TIMEOUT_MS, openLedgerFile } from "./sqlite_file.ts";
import {
  parseStored,
  resultCode,
  type Row,
  SQLITE_BUSY,
  Statements,
  unavailable,
} from "./sqlite_statements.ts";
import type {
  BlockRecord,
  Head,
  HistoryRow,
  LedgerStore,
  LedgerTransaction,
  StoredAccount,
  StoredPayment,
} from "./store.ts";

const BUSY_RETRY_MS = 2;
/** Voids are kept longer than any order can live (a day), and then forgotten: such an order is expired by itself. */
const VOID_KEPT_S = 7 * 86_400;

/** Opens the ledger at `path`; `create`: makes it where there is none. Throws `store_unusable`. */
export function openSqlite(path: string, options: { create: boolean }): LedgerStore {
  const { writer, reader } = openLedgerFile(path, options);
  return new SqliteStore(writer, reader);
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
    await this.begin();
    try {
      const result = await work(this.write);
      this.exec("COMMIT");
      return result;
    } catch (error) {
      if (this.writer.isTransaction) this.exec("ROLLBACK");
      throw error;
    }
  }

  /** Waits for another process's transaction as SQLite would, but without stopping this process's event loop. */
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

  head(): Promise<Head> {
    return Promise.resolve(readHead(this.read));
  }

  account(name: string): Promise<StoredAccount | null> {
    const row = this.read.get(
      "SELECT * FROM accounts WHERE name = ? AND opened_seq IS NOT NULL",
      name,
    );
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
        itemTexts: row.items === null ? null : parseStored(row.items) as string[],
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
         (SELECT header FROM blocks WHERE first <= postings.seq ORDER BY first DESC LIMIT 1) AS header
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
      time_s: parseHeader(row.header).claims.time,
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
      yield* rows.map((row) => row.opened_seq === null ? plainAccount(row) : storedAccount(row));
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

  counts(): Promise<{ entries: number; postings: number; settled: number }> {
    const row = this.read.get(
      `SELECT (SELECT count(*) FROM entries) AS entries, (SELECT count(*) FROM postings) AS postings,
         (SELECT count(*) FROM outcomes WHERE void IS NULL) AS settled`,
    )!;
    const { entries, postings, settled } = row;
    return Promise.resolve({
      entries: Number(entries),
      postings: Number(postings),
      settled: Number(settled),
    });
  }

  async snapshot<T>(read: () => Promise<T>): Promise<T> {
    this.reader.exec("BEGIN");
    try {
      return await read();
    } finally {
      this.reader.exec("COMMIT");
    }
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

  begin(): void {
    this.statements.run("BEGIN IMMEDIATE");
  }

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
    return Promise.resolve();
  }

  private appendBlock(record: BlockRecord, header: SignedHeader): void {
    const { height, first, count, time } = header.claims;
    this.statements.run(
      "INSERT INTO blocks VALUES (?, ?, ?, ?)",
      height,
      first,
      count,
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
        opened?.jwk ? JSON.stringify(opened.jwk) : null,
        opened?.seq ?? null,
        balance,
      );
    }
    for (const { account, seq, balance } of record.postings) {
      this.statements.run("INSERT INTO postings VALUES (?, ?, ?)", account, seq, balance);
    }
    // By the time that the header fixes for good: a clock that ran ahead for a moment must bring no void order back.
    this.statements.run(
      "DELETE FROM outcomes WHERE void IS NOT NULL AND time_s < ?",
      time - VOID_KEPT_S,
    );
  }
}

function readHead(statements: Statements): Head {
  const row = statements.get(
    "SELECT height, first, count, header FROM blocks ORDER BY height DESC LIMIT 1",
  );
  if (row === undefined) return { height: 0, sha256: null, nextSeq: 1, time_s: 0, server: null };
  const { sha256, claims } = parseHeader(row.header);
  return {
    height: Number(row.height),
    sha256,
    nextSeq: Number(row.first) + Number(row.count),
    time_s: claims.time,
    server: claims.server,
  };
}

function plainAccount(row: Row): Account {
  return { name: row.name as Party, key: row.key as Sha256 | null, balance: row.balance as bigint };
}

function storedAccount(row: Row): StoredAccount {
  return {
    ...plainAccount(row),
    jwk: row.jwk === null ? null : parseStored(row.jwk) as RsaPublicJwk,
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
