/**
 * The SQLite file that a ledger is in: making it, knowing it again, and refusing what is something else.
 */
import { chmodSync, closeSync, existsSync, mkdirSync, openSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync, type SQLOutputValue } from "node:sqlite";
import { SealwireError } from "../base/errors.ts";

/** "SWLR": marks a database as a Sealwire ledger. */
const APPLICATION_ID = 0x53574c52;
const SCHEMA_VERSION = 3;
/** How long to wait for another process's transaction. */
export const BUSY_TIMEOUT_MS = 5_000;

const SCHEMA = `
  CREATE TABLE head (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    size INTEGER NOT NULL,
    root TEXT NOT NULL,
    time_s INTEGER NOT NULL,
    server TEXT NOT NULL,
    unit TEXT NOT NULL,
    opening_balance INTEGER NOT NULL,
    registration TEXT NOT NULL,
    seal TEXT NOT NULL
  ) STRICT;
  CREATE TABLE entries (entry_index INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;
  CREATE TABLE operator_entries (entry_index INTEGER PRIMARY KEY) STRICT;
  CREATE TABLE tiles (
    level INTEGER NOT NULL,
    tile_index INTEGER NOT NULL,
    hashes BLOB NOT NULL,
    root BLOB NOT NULL,
    PRIMARY KEY (level, tile_index)
  ) STRICT;
  CREATE TABLE accounts (
    name TEXT PRIMARY KEY,
    key TEXT,
    jwk TEXT,
    balance INTEGER NOT NULL,
    opened INTEGER NOT NULL,
    keyed INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    seal TEXT NOT NULL
  ) STRICT;
  CREATE TABLE postings (
    account TEXT NOT NULL,
    entry_index INTEGER NOT NULL,
    balance INTEGER NOT NULL,
    PRIMARY KEY (account, entry_index)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE payments (
    payer TEXT NOT NULL,
    id TEXT NOT NULL,
    state TEXT NOT NULL,
    content_sha256 TEXT NOT NULL,
    entry_index INTEGER NOT NULL UNIQUE,
    signed_text TEXT,
    delegation_sha256 TEXT,
    items TEXT,
    seal TEXT NOT NULL,
    PRIMARY KEY (payer, id)
  ) STRICT;
  CREATE TABLE requests (
    payee TEXT NOT NULL,
    id TEXT NOT NULL,
    payer TEXT,
    amount INTEGER NOT NULL,
    memo TEXT,
    created_s INTEGER NOT NULL,
    expires_s INTEGER NOT NULL,
    state TEXT NOT NULL,
    entry_index INTEGER NOT NULL,
    seal TEXT NOT NULL,
    PRIMARY KEY (payee, id)
  ) STRICT;
  CREATE INDEX requests_by_payer ON requests (payer, created_s);
  CREATE TABLE refunds (
    payer TEXT NOT NULL,
    id TEXT NOT NULL,
    item INTEGER NOT NULL,
    total INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    seal TEXT NOT NULL,
    PRIMARY KEY (payer, id, item)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE rotations (sha256 TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT;
  CREATE TABLE delegations (sha256 TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT;
`;

/**
 * Opens the ledger at `path` twice, for the one who writes and for those who read. `create`: makes it where there is none.
 *
 * @throws {SealwireError} `store_unusable`: not there, no ledger of ours, of another version, or not to be read and written.
 */
export function openLedgerFile(
  path: string,
  options: { create: boolean },
): { writer: DatabaseSync; reader: DatabaseSync } {
  try {
    if (options.create) createFile(path);
    else if (!existsSync(path)) throw unusable(path, "there is none");
    const writer = openDatabase(path, options.create);
    const reader = new DatabaseSync(path, { readOnly: true });
    reader.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
    return { writer, reader };
  } catch (error) {
    if (error instanceof SealwireError) throw error;
    throw unusable(path, error instanceof Error ? error.message : String(error), error);
  }
}

/** An empty file is an empty database. Made here, because SQLite would let others read it, and its log after it. */
function createFile(path: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  closeSync(openSync(path, "a", 0o600));
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
    chmodSync(path, 0o600);
    database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 0");
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
