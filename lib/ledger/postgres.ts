/**
 * The ledger in PostgreSQL, for several servers that are one system.
 *
 * READ COMMITTED, with the head row locked first: whoever holds it reads what the one before has
 * committed, and is the only one to write. (Under SERIALIZABLE all who waited would fail with
 * 40001.) Nothing else locks.
 *
 * When the answer to a COMMIT is lost, nobody knows what happened. And when a backend is ended
 * while it waits for its standby, its transaction is visible although only one machine has it. In
 * both cases `confirmedHead` tells the truth: its own COMMIT, once answered, carries all that was
 * committed before to wherever commits must go.
 */
import type { Sha256, Uuid } from "../base/parse.ts";
import { isSealwireError } from "../base/errors.ts";
import type { AccountName } from "../keys/rsa.ts";
import type { PaymentReference } from "../protocol/order.ts";
import type { Party } from "../protocol/party.ts";
import { copyToNewFile } from "./copy_ledger.ts";
import { appendRecord, COMMITTED_CHANNEL } from "./postgres_append.ts";
import { isCommitInDoubt, isRetryable, isSessionLost, statementError } from "./postgres_errors.ts";
import { listen } from "./postgres_listener.ts";
import { PostgresPool } from "./postgres_pool.ts";
import { PostgresPresence } from "./postgres_presence.ts";
import {
  arrayOf,
  historyOf,
  paymentOf,
  storedAccountOf,
  storedPaymentOf,
} from "./postgres_rows.ts";
import { prepareSchema } from "./postgres_schema.ts";
import { type PostgresRow, PostgresSession } from "./postgres_session.ts";
import { parsePostgresUrl } from "./postgres_url.ts";
import { storeDamaged } from "./seal.ts";
import type { Account, Posting } from "./settle.ts";
import {
  type CommitRecord,
  commitUnknown,
  type EndingRow,
  type Failover,
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
  bigintOf,
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

/**
 * How often a transaction is tried that fails for no fault of its own: a deadlock, a connection
 * that had died unseen.
 */
const TRANSACTION_TRIES_MAX = 5;

/** The name of the WAL file says it at once; pg_control_checkpoint() only after the first checkpoint on the new timeline. */
const CURRENT_TIMELINE =
  "('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer";
const IS_SYNCHRONOUS = `(current_setting('synchronous_standby_names') <> ''
  AND current_setting('synchronous_commit') NOT IN ('off', 'local'))`;

/**
 * Opens the ledger in the database at `url`; `create`: makes it where there is none.
 *
 * @throws {SealwireError} `store_unusable`, `store_unavailable`.
 */
export async function openPostgres(
  url: string,
  options: { create: boolean },
): Promise<LedgerStore> {
  const target = parsePostgresUrl(url);
  const session = await PostgresSession.open(target, { kind: "write" });
  try {
    await prepareSchema(session, target, options);
  } catch (error) {
    throw statementError(error);
  } finally {
    await session.close();
  }
  return new PostgresStore(new PostgresPool(target));
}

/** Reads in one session, or in any of several. */
class PostgresReader implements LedgerReader {
  constructor(protected readonly query: PostgresSession["query"]) {}

  async head(): Promise<Sealed<Head> | null> {
    const [row] = await this.query("SELECT * FROM sealwire.head");
    return row!.size === "0" ? null : headOf(row!);
  }

  async accounts(names: Iterable<Party>): Promise<Map<string, Sealed<Account>>> {
    const rows = await this.query(
      "SELECT * FROM sealwire.accounts WHERE name = ANY ($1::text[])",
      [arrayOf(new Set(names))],
    );
    return new Map(rows.map((row) => [String(row.name), accountOf(row)]));
  }

  async endings(ids: Iterable<{ payer: Party; id: Uuid }>): Promise<Sealed<EndingRow>[]> {
    const wanted = [...ids];
    const rows = await this.query(
      `SELECT payer, id, state, content_sha256, entry_index, seal
       FROM unnest($1::text[], $2::text[]) AS wanted (payer, id)
       JOIN sealwire.payments USING (payer, id)`,
      [arrayOf(wanted.map(({ payer }) => payer)), arrayOf(wanted.map(({ id }) => id))],
    );
    return rows.map(endingOf);
  }

  async requests(
    ids: Iterable<{ payee: AccountName; id: Uuid }>,
  ): Promise<Sealed<PaymentRequest>[]> {
    const wanted = [...ids];
    const rows = await this.query(
      `SELECT requests.* FROM unnest($1::text[], $2::text[]) AS wanted (payee, id)
       JOIN sealwire.requests USING (payee, id)`,
      [arrayOf(wanted.map(({ payee }) => payee)), arrayOf(wanted.map(({ id }) => id))],
    );
    return rows.map(requestOf);
  }

  async pendingRequests(
    payees: Iterable<AccountName>,
    time_s: number,
  ): Promise<Map<AccountName, (AccountName | null)[]>> {
    const found = new Map<AccountName, (AccountName | null)[]>();
    for (const payee of payees) found.set(payee, []);
    const rows = await this.query(
      `SELECT payee, payer FROM sealwire.requests
       WHERE payee = ANY ($1::text[]) AND state = 'pending' AND expires_s > $2`,
      [arrayOf(found.keys()), String(time_s)],
    );
    for (const { payee, payer } of rows) {
      found.get(payee as AccountName)!.push(payer as AccountName | null);
    }
    return found;
  }

  async refundTotals(references: Iterable<PaymentReference>): Promise<Sealed<RefundTotal>[]> {
    const wanted = [...references];
    const rows = await this.query(
      `SELECT refunds.* FROM unnest($1::text[], $2::text[], $3::integer[])
         AS wanted (payer, id, item)
       JOIN sealwire.refunds USING (payer, id, item)`,
      [
        arrayOf(wanted.map(({ payer }) => payer)),
        arrayOf(wanted.map(({ id }) => id)),
        arrayOf(wanted.map(({ item }) => item ?? NO_ITEM)),
      ],
    );
    return rows.map(refundOf);
  }

  async entries(from: number, to: number): Promise<string[]> {
    const rows = await this.query(
      `SELECT text FROM sealwire.entries WHERE entry_index >= $1 AND entry_index < $2
       ORDER BY entry_index`,
      [String(from), String(to)],
    );
    return rows.map((row) => String(row.text));
  }

  async tiles(ids: readonly TileId[]): Promise<(Uint8Array | null)[]> {
    const rows = await this.query(
      `SELECT hashes FROM unnest($1::integer[], $2::bigint[]) WITH ORDINALITY
         AS wanted (level, tile_index, place)
       LEFT JOIN sealwire.tiles USING (level, tile_index) ORDER BY place`,
      [arrayOf(ids.map(({ level }) => level)), arrayOf(ids.map(({ index }) => index))],
    );
    return rows.map((row) => row.hashes as Uint8Array | null);
  }

  async tileRoots(level: number, from: number, to: number): Promise<Uint8Array[]> {
    const rows = await this.query(
      `SELECT root FROM sealwire.tiles WHERE level = $1 AND tile_index >= $2 AND tile_index < $3
       ORDER BY tile_index`,
      [String(level), String(from), String(to)],
    );
    return rows.map((row) => row.root as Uint8Array);
  }
}

class PostgresStore extends PostgresReader implements LedgerStore {
  private lastTransaction: Promise<unknown> = Promise.resolve();
  private snapshotSession: PostgresSession | null = null;
  private readonly closing = new AbortController();
  readonly sharedPresence: PostgresPresence;

  constructor(private readonly pool: PostgresPool) {
    super((text, parameters) => this.read(text, parameters));
    this.sharedPresence = new PostgresPresence(pool, this.closing.signal);
  }

  private async read(
    text: string,
    parameters?: readonly (string | null)[],
  ): Promise<PostgresRow[]> {
    if (this.snapshotSession === null) {
      return await this.pool.reading((session) => session.query(text, parameters));
    }
    try {
      return await this.snapshotSession.query(text, parameters);
    } catch (error) {
      throw statementError(error);
    }
  }

  transaction<T>(work: (transaction: LedgerTransaction) => Promise<T>): Promise<T> {
    return this.alone(async () => {
      for (let tries = 1;; tries++) {
        try {
          return await this.runTransaction(work);
        } catch (error) {
          // A session that was lost before COMMIT has left nothing.
          const passing = isRetryable(error) || isSessionLost(error);
          if (!passing || tries === TRANSACTION_TRIES_MAX) throw statementError(error);
        }
      }
    });
  }

  confirmedHead(): Promise<Sealed<Head> | null> {
    return this.transaction(async (transaction) => {
      await (transaction as PostgresTransaction).confirm();
      return await transaction.head();
    });
  }

  /** One write transaction at a time: others of this process wait here and not in the database. */
  private alone<T>(work: () => Promise<T>): Promise<T> {
    const run = this.lastTransaction.then(work);
    this.lastTransaction = run.catch(() => {});
    return run;
  }

  private async runTransaction<T>(
    work: (transaction: LedgerTransaction) => Promise<T>,
  ): Promise<T> {
    const session = await this.pool.writing();
    try {
      const transaction = await PostgresTransaction.begin(session);
      const result = await work(transaction);
      await commit(session);
      return result;
    } catch (error) {
      if (!isSealwireError(error, "outcome_unknown")) await rollBack(session);
      throw error;
    }
  }

  async account(name: Party): Promise<Sealed<StoredAccount> | null> {
    const [row] = await this.query("SELECT * FROM sealwire.accounts WHERE name = $1", [name]);
    return row === undefined ? null : storedAccountOf(row);
  }

  async payment(payer: Party, id: Uuid): Promise<Sealed<StoredPayment> | null> {
    const [row] = await this.query(
      `SELECT payments.*, delegations.text AS delegation_text FROM sealwire.payments
       LEFT JOIN sealwire.delegations ON delegations.sha256 = payments.delegation_sha256
       WHERE payer = $1 AND id = $2`,
      [payer, id],
    );
    return row === undefined ? null : storedPaymentOf(row);
  }

  async delegation(sha256: Sha256): Promise<string | null> {
    const [row] = await this.query(
      "SELECT text FROM sealwire.delegations WHERE sha256 = $1",
      [sha256],
    );
    return row === undefined ? null : String(row.text);
  }

  async rotation(sha256: Sha256): Promise<string | null> {
    const [row] = await this.query(
      "SELECT text FROM sealwire.rotations WHERE sha256 = $1",
      [sha256],
    );
    return row === undefined ? null : String(row.text);
  }

  async requestsOf(account: AccountName, limit: number): Promise<Sealed<PaymentRequest>[]> {
    const rows = await this.query(
      `SELECT * FROM sealwire.requests WHERE payee = $1 OR payer = $1
       ORDER BY state = 'pending' DESC, created_s DESC, id LIMIT $2`,
      [account, String(limit)],
    );
    return rows.map(requestOf);
  }

  async requestsAfter(
    { payee, id }: { readonly payee: string; readonly id: string },
    limit: number,
  ): Promise<Sealed<PaymentRequest>[]> {
    const rows = await this.query(
      `SELECT * FROM sealwire.requests WHERE (payee, id) > ($1, $2)
       ORDER BY payee, id LIMIT $3`,
      [payee, id, String(limit)],
    );
    return rows.map(requestOf);
  }

  async refundsFrom(skip: number, limit: number): Promise<Sealed<RefundTotal>[]> {
    const rows = await this.query(
      "SELECT * FROM sealwire.refunds ORDER BY payer, id, item LIMIT $1 OFFSET $2",
      [String(limit), String(skip)],
    );
    return rows.map(refundOf);
  }

  async rotationsAfter(after: string, limit: number): Promise<[Sha256, string][]> {
    const rows = await this.query(
      "SELECT sha256, text FROM sealwire.rotations WHERE sha256 > $1 ORDER BY sha256 LIMIT $2",
      [after, String(limit)],
    );
    return rows.map((row) => [row.sha256 as Sha256, String(row.text)]);
  }

  async history(account: Party, after: number, limit: number): Promise<HistoryRow[]> {
    const where = "account = $1 AND entry_index > $2 ORDER BY entry_index";
    return await this.historyRows(where, account, after, limit);
  }

  async historyBefore(account: Party, before: number, limit: number): Promise<HistoryRow[]> {
    const where = "account = $1 AND entry_index < $2 ORDER BY entry_index DESC";
    return await this.historyRows(where, account, before, limit);
  }

  private async historyRows(
    where: string,
    account: Party,
    index: number,
    limit: number,
  ): Promise<HistoryRow[]> {
    const rows = await this.query(
      `SELECT entries.text, postings.balance, signed_text, items FROM sealwire.postings
       JOIN sealwire.entries USING (entry_index) LEFT JOIN sealwire.payments USING (entry_index)
       WHERE ${where} LIMIT $3`,
      [account, String(index), String(limit)],
    );
    return rows.map(historyOf);
  }

  async operatorIndexes(): Promise<number[]> {
    const rows = await this.query("SELECT entry_index FROM sealwire.operator_entries ORDER BY 1");
    return rows.map((row) => Number(row.entry_index));
  }

  async accountsAfter(after: string, limit: number): Promise<Sealed<StoredAccount>[]> {
    const rows = await this.query(
      "SELECT * FROM sealwire.accounts WHERE name > $1 ORDER BY name LIMIT $2",
      [after, String(limit)],
    );
    return rows.map(storedAccountOf);
  }

  async postingsAfter(
    { account, index }: Omit<Posting, "balance">,
    limit: number,
  ): Promise<Posting[]> {
    const rows = await this.query(
      `SELECT * FROM sealwire.postings WHERE (account, entry_index) > ($1, $2)
       ORDER BY account, entry_index LIMIT $3`,
      [account, String(index), String(limit)],
    );
    return rows.map(postingOf);
  }

  async paymentsAfter(after: number, limit: number): Promise<NewPayment[]> {
    const rows = await this.query(
      "SELECT * FROM sealwire.payments WHERE entry_index > $1 ORDER BY entry_index LIMIT $2",
      [String(after), String(limit)],
    );
    return rows.map(paymentOf);
  }

  async delegationsAfter(after: string, limit: number): Promise<[Sha256, string][]> {
    const rows = await this.query(
      "SELECT sha256, text FROM sealwire.delegations WHERE sha256 > $1 ORDER BY sha256 LIMIT $2",
      [after, String(limit)],
    );
    return rows.map((row) => [row.sha256 as Sha256, String(row.text)]);
  }

  async balancesAfter(keys: readonly Omit<Posting, "balance">[]): Promise<(bigint | null)[]> {
    const rows = await this.query(
      `SELECT balance FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY
         AS wanted (account, entry_index, place)
       LEFT JOIN sealwire.postings USING (account, entry_index) ORDER BY place`,
      [arrayOf(keys.map(({ account }) => account)), arrayOf(keys.map(({ index }) => index))],
    );
    return rows.map(({ balance }) => balance === null ? null : bigintOf(balance));
  }

  async counts(): Promise<StoreCounts> {
    const [row] = await this.query(
      `SELECT (SELECT count(*) FROM sealwire.entries) AS entries,
         (SELECT count(*) FROM sealwire.postings) AS postings,
         (SELECT count(*) FROM sealwire.payments) AS endings,
         (SELECT count(*) FROM sealwire.tiles) AS tiles,
         (SELECT count(*) FROM sealwire.requests WHERE state = 'paid') AS paid_requests,
         (SELECT count(*) FROM sealwire.refunds) AS refunds`,
    );
    return countsOf(row!);
  }

  async snapshot<T>(read: () => Promise<T>): Promise<T> {
    const session = await this.pool.connect({ kind: "snapshot" });
    this.snapshotSession = session;
    try {
      await session.command("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
      return await read();
    } catch (error) {
      throw statementError(error);
    } finally {
      this.snapshotSession = null;
      await session.close();
    }
  }

  async backup(path: string, onProgress: (done: number, total: number) => void): Promise<void> {
    await copyToNewFile(this, path, onProgress);
  }

  onCommitted(listener: (size: number) => void): void {
    void listen(this.pool, {
      channel: COMMITTED_CHANNEL,
      onNotify: (size) => listener(Number(size)),
      onListening: async (session) => {
        const [row] = await session.query("SELECT size FROM sealwire.head");
        listener(Number(row!.size));
      },
    }, this.closing.signal);
  }

  async close(): Promise<void> {
    this.closing.abort();
    await this.lastTransaction;
    await this.pool.close();
  }
}

/** The database keeps all of it, or says that it does not. */
async function commit(session: PostgresSession): Promise<void> {
  session.takeWarning();
  let done: string;
  try {
    done = await session.command("COMMIT");
  } catch (error) {
    if (!isCommitInDoubt(error)) throw error;
    session.destroy();
    throw commitUnknown(error);
  }
  if (done !== "COMMIT") throw new Error(`the database answered COMMIT with ${done}`);
  // "The transaction has already committed locally, but might not have been replicated to the
  // standby."
  const warning = session.takeWarning();
  if (warning !== null) throw commitUnknown(new Error(warning));
}

async function rollBack(session: PostgresSession): Promise<void> {
  if (!session.isUsable) return;
  try {
    await session.command("ROLLBACK");
  } catch {
    // Without a session there is no transaction either.
    session.destroy();
  }
}

class PostgresTransaction extends PostgresReader implements LedgerTransaction {
  private constructor(
    private readonly session: PostgresSession,
    private readonly lockedHead: PostgresRow,
  ) {
    super((text, parameters) => session.query(text, parameters));
  }

  /** Waits for the head row. */
  static async begin(session: PostgresSession): Promise<PostgresTransaction> {
    const [, [head]] = await Promise.all([
      session.command("BEGIN"),
      session.query(
        `SELECT *, floor(extract(epoch FROM clock_timestamp()))::bigint AS now_s,
           ${CURRENT_TIMELINE} AS current_timeline, ${IS_SYNCHRONOUS} AS synchronous_now
         FROM sealwire.head FOR UPDATE`,
      ),
    ]);
    if (head === undefined) throw storeDamaged("the head row is missing in the database");
    return new PostgresTransaction(session, head);
  }

  get now_s(): number {
    return Number(this.lockedHead.now_s);
  }

  /** Nobody else can have changed it. */
  override head(): Promise<Sealed<Head> | null> {
    return Promise.resolve(this.lockedHead.size === "0" ? null : headOf(this.lockedHead));
  }

  /** A write of no meaning, so that COMMIT has something to carry. */
  async confirm(): Promise<void> {
    await this.query("UPDATE sealwire.head SET confirmations = confirmations + 1");
  }

  async append(record: CommitRecord): Promise<void> {
    const { timeline, is_synchronous, current_timeline, synchronous_now } = this.lockedHead;
    const isAsBefore = timeline === current_timeline && is_synchronous === synchronous_now;
    await Promise.all([
      appendRecord(this.session, record),
      ...(isAsBefore ? [] : [this.recordMachine()]),
    ]);
  }

  /** A standby that is promoted begins a new timeline. */
  get failover(): Failover | undefined {
    const { timeline, is_synchronous, current_timeline } = this.lockedHead;
    if (timeline === null || timeline === current_timeline) return undefined;
    return { wasSynchronous: is_synchronous === true, accept: () => this.recordMachine() };
  }

  private async recordMachine(): Promise<void> {
    await this.query(
      `UPDATE sealwire.head SET timeline = ${CURRENT_TIMELINE}, is_synchronous = ${IS_SYNCHRONOUS}`,
    );
  }
}
