/**
 * The tables in PostgreSQL: making them, knowing them again, and bringing older ones up to date.
 *
 * They are in a schema of their own, `sealwire`. Their names clash with nothing, `pg_dump -n
 * sealwire` takes them all, one GRANT covers them, and since PostgreSQL 15 only a database's owner
 * may make tables in `public` anyway.
 */
import { SealwireError } from "../base/errors.ts";
import type { PostgresSession } from "./postgres_session.ts";
import { describeTarget, type PostgresTarget } from "./postgres_url.ts";

/** Advisory lock of those that make or migrate the schema: "SWLR". */
const MIGRATION_LOCK = 0x53574c52;

/**
 * Each brings the schema from the version of its index to the next. Texts compare byte by byte
 * (COLLATE "C"), as they do everywhere else in the program, whatever the database's language.
 */
const MIGRATIONS: readonly string[] = [
  `
  CREATE SCHEMA sealwire;
  CREATE TABLE sealwire.schema_version (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    version integer NOT NULL
  );
  INSERT INTO sealwire.schema_version (version) VALUES (0);

  -- One row that is always there: whoever extends the ledger locks it, also while the ledger is empty (size 0).
  CREATE TABLE sealwire.head (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    size bigint NOT NULL,
    root text,
    time_s bigint,
    server text,
    unit text,
    opening_balance bigint,
    registration text,
    seal text,
    confirmations bigint NOT NULL DEFAULT 0
  ) WITH (fillfactor = 10);
  INSERT INTO sealwire.head (size) VALUES (0);

  CREATE TABLE sealwire.entries (entry_index bigint PRIMARY KEY, text text NOT NULL);
  CREATE TABLE sealwire.operator_entries (entry_index bigint PRIMARY KEY);
  CREATE TABLE sealwire.tiles (
    level integer NOT NULL,
    tile_index bigint NOT NULL,
    hashes bytea NOT NULL,
    root bytea NOT NULL,
    PRIMARY KEY (level, tile_index)
  );
  CREATE TABLE sealwire.accounts (
    name text COLLATE "C" PRIMARY KEY,
    key text,
    jwk text,
    balance bigint NOT NULL,
    opened bigint NOT NULL,
    keyed bigint NOT NULL,
    changed bigint NOT NULL,
    seal text NOT NULL
  ) WITH (fillfactor = 70);
  CREATE TABLE sealwire.postings (
    account text COLLATE "C" NOT NULL,
    entry_index bigint NOT NULL,
    balance bigint NOT NULL,
    PRIMARY KEY (account, entry_index)
  );
  CREATE TABLE sealwire.payments (
    payer text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    state text NOT NULL,
    content_sha256 text NOT NULL,
    entry_index bigint NOT NULL UNIQUE,
    signed_text text,
    delegation_sha256 text COLLATE "C",
    items text,
    seal text NOT NULL,
    PRIMARY KEY (payer, id)
  );
  CREATE TABLE sealwire.requests (
    payee text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    payer text COLLATE "C",
    amount bigint NOT NULL,
    memo text,
    created_s bigint NOT NULL,
    expires_s bigint NOT NULL,
    state text NOT NULL,
    entry_index bigint NOT NULL,
    seal text NOT NULL,
    PRIMARY KEY (payee, id)
  );
  CREATE INDEX requests_by_payer ON sealwire.requests (payer, created_s);
  -- item -1: the payment is none of a batch.
  CREATE TABLE sealwire.refunds (
    payer text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    item integer NOT NULL,
    total bigint NOT NULL,
    changed bigint NOT NULL,
    seal text NOT NULL,
    PRIMARY KEY (payer, id, item)
  );
  CREATE TABLE sealwire.rotations (sha256 text COLLATE "C" PRIMARY KEY, text text NOT NULL);
  CREATE TABLE sealwire.delegations (sha256 text COLLATE "C" PRIMARY KEY, text text NOT NULL);
  `,
  `
  -- Who takes offers, and at which server: see postgres_presence.ts.
  CREATE UNLOGGED TABLE sealwire.listeners (
    name text COLLATE "C" PRIMARY KEY,
    host text NOT NULL,
    port integer NOT NULL,
    fingerprint text NOT NULL,
    server text NOT NULL,
    place bigint NOT NULL,
    expires timestamptz NOT NULL
  ) WITH (fillfactor = 50);
  `,
  `
  -- Where and how the last commit was made: its timeline, and whether a standby had it before it was answered.
  ALTER TABLE sealwire.head ADD COLUMN timeline integer, ADD COLUMN is_synchronous boolean;
  `,
];

/** Of the tables that this program reads. */
const SCHEMA_VERSION = MIGRATIONS.length;

/**
 * Makes the tables where there are none (`create`), and brings them up to date. Several servers may
 * start at once: the others wait for the first.
 *
 * @throws {SealwireError} `store_unusable`: none there, not ours, of a newer version, or without
 * the rights.
 */
export async function prepareSchema(
  session: PostgresSession,
  target: PostgresTarget,
  { create }: { create: boolean },
): Promise<void> {
  await session.command("BEGIN");
  await session.query("SELECT pg_advisory_xact_lock($1)", [String(MIGRATION_LOCK)]);
  const found = await findVersion(session, target);
  if (found === 0 && !create) {
    throw unusable(target, "it holds no ledger yet: start the server once");
  }
  if (found > SCHEMA_VERSION) {
    throw unusable(
      target,
      `its ledger has version ${found}, and this program reads version ${SCHEMA_VERSION}: use a newer one`,
    );
  }
  if (found < SCHEMA_VERSION) await migrate(session, target, found);
  await requireRights(session, target);
  await session.command("COMMIT");
}

/** 0 where there is no ledger. */
async function findVersion(session: PostgresSession, target: PostgresTarget): Promise<number> {
  const [found] = await denied(
    target,
    session.query(
      `SELECT to_regnamespace('sealwire') IS NOT NULL AS taken,
         to_regclass('sealwire.schema_version') IS NOT NULL
           AND to_regclass('sealwire.head') IS NOT NULL AS ours`,
    ),
  );
  const { taken, ours } = found!;
  if (taken !== true) return 0;
  if (ours !== true) {
    throw unusable(target, "its schema sealwire is not a Sealwire ledger. Use another database");
  }
  const [row] = await denied(
    target,
    session.query("SELECT version FROM sealwire.schema_version"),
  );
  return Number(row!.version);
}

async function migrate(
  session: PostgresSession,
  target: PostgresTarget,
  from: number,
): Promise<void> {
  for (const migration of MIGRATIONS.slice(from)) await denied(target, session.command(migration));
  await denied(
    target,
    session.query("UPDATE sealwire.schema_version SET version = $1", [String(SCHEMA_VERSION)]),
  );
}

async function requireRights(session: PostgresSession, target: PostgresTarget): Promise<void> {
  const [rights] = await session.query(
    `SELECT has_schema_privilege(nspname, 'USAGE') AND bool_and(
       has_table_privilege(pg_class.oid, 'SELECT') AND has_table_privilege(pg_class.oid, 'INSERT')
       AND has_table_privilege(pg_class.oid, 'UPDATE')
       AND (relname <> 'listeners' OR has_table_privilege(pg_class.oid, 'DELETE'))) AS granted
     FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
     WHERE nspname = 'sealwire' AND relkind = 'r' GROUP BY nspname`,
  );
  if (rights?.granted !== true) throw withoutRights(target);
}

/** Gives what `answer` gives, and a sentence when this user has no right to it. */
async function denied<Answer>(target: PostgresTarget, answer: Promise<Answer>): Promise<Answer> {
  try {
    return await answer;
  } catch (error) {
    if ((error as { code?: unknown }).code !== "42501") throw error;
    throw withoutRights(target, error);
  }
}

function withoutRights(target: PostgresTarget, cause?: unknown): SealwireError {
  return unusable(
    target,
    "this user lacks rights. To make a ledger it needs CREATE on the database; to use one, USAGE on the schema sealwire, " +
      "SELECT, INSERT and UPDATE on all tables in it, and DELETE on sealwire.listeners",
    cause,
  );
}

function unusable(target: PostgresTarget, why: string, cause?: unknown): SealwireError {
  return new SealwireError("store_unusable", `cannot use ${describeTarget(target)}: ${why}`, {
    cause,
  });
}
