/**
 * One session with PostgreSQL: one connection, over which statements are sent without waiting for each other's answers.
 * A session that is lost stays lost. The driver would connect again by itself, and the next statement of a transaction
 * would then run outside of it; so here each driver gets one socket and no second.
 */
import type { Socket } from "node:net";
import type postgres from "postgres";
import { SealwireError } from "../base/errors.ts";
import { connectError, ConnectionLostError } from "./postgres_errors.ts";
import { openPostgresSocket } from "./postgres_socket.ts";
import { describeTarget, type PostgresTarget } from "./postgres_url.ts";

/** From the first packet to the end of the login. */
const CONNECT_TIMEOUT_MS = 5_000;
/** The database ends a statement that takes longer. */
const STATEMENT_TIMEOUT_MS = 10_000;
/** The database ends a transaction whose server has stopped in the middle, so that others may go on. */
const IDLE_TIMEOUT_MS = 5_000;
/** A snapshot counts whole tables, and a copy writes elsewhere between two reads of it. */
const SNAPSHOT_TIMEOUT_MS = 120_000;
/** Longer than the database's own limit by this much, and the session does not answer at all. */
const ANSWER_DELAY_MS = 5_000;
const CLOSE_TIMEOUT_S = 2;
/** Statements that are sent without waiting for an answer. */
const PIPELINED_MAX = 100;
/** A connection that is silent for longer is probed by TCP. */
const KEEP_ALIVE_S = 30;
/** The oldest release that is tested to have all that is used here. */
const SERVER_VERSION_MIN = 13;

/** As PostgreSQL sends it: numbers of 64 bits come as text. */
export type PostgresValue = string | number | boolean | Uint8Array | null;
export type PostgresRow = Record<string, PostgresValue>;

export interface SessionOptions {
  readonly kind: "write" | "read" | "snapshot" | "listen";
  readonly onNotify?: (payload: string) => void;
}

export class PostgresSession {
  /** Resolves when the session is lost or closed. */
  readonly lost: Promise<void>;
  private isLost = false;
  private isTaken = false;
  /** Ends a statement that has no answer yet. */
  private readonly waiting = new Set<(error: Error) => void>();
  private warning: string | null = null;
  private client!: postgres.Sql;

  private constructor(
    private readonly socket: Socket,
    private readonly statementTimeout_ms: number,
  ) {
    this.lost = new Promise((resolve) =>
      socket.once("close", () => {
        this.end(new ConnectionLostError("the connection to the database was lost"));
        resolve();
      })
    );
  }

  /**
   * Connects, and checks that the database keeps what it commits.
   *
   * @throws {SealwireError} `store_unavailable`, `store_unusable`.
   */
  static async open(target: PostgresTarget, options: SessionOptions): Promise<PostgresSession> {
    let session: PostgresSession | null = null;
    try {
      const { default: driver } = await import("postgres");
      const socket = await openPostgresSocket(target, CONNECT_TIMEOUT_MS);
      session = new PostgresSession(socket, timeoutsOf(options).statement_ms);
      session.client = driver(driverOptions(target, options, session));
      requireKeeping(await session.query(SERVER_SETTINGS), target);
      return session;
    } catch (error) {
      session?.destroy();
      throw connectError(error, target);
    }
  }

  get isUsable(): boolean {
    return !this.isLost;
  }

  /** Prepared at its first use in the session. `parameters` are sent as the text of their type. */
  async query(
    text: string,
    parameters: readonly (string | null)[] = [],
  ): Promise<PostgresRow[]> {
    return await this.answered(this.client.unsafe(text, [...parameters], { prepare: true }));
  }

  /** Gives the command that the database says it has carried out: a COMMIT may turn out a ROLLBACK. */
  async command(text: string): Promise<string> {
    const { command } = await this.answered(this.client.unsafe(text));
    return command;
  }

  /** The last warning since this was asked before; null where there was none. */
  takeWarning(): string | null {
    const { warning } = this;
    this.warning = null;
    return warning;
  }

  /** Statements under way fail at once. */
  destroy(error = new ConnectionLostError("the connection was given up")): void {
    this.end(error);
    this.socket.destroy();
  }

  private end(error: Error): void {
    this.isLost = true;
    for (const end of this.waiting) end(error);
  }

  async close(): Promise<void> {
    if (this.isUsable) await this.client.end({ timeout: CLOSE_TIMEOUT_S });
    this.destroy();
  }

  /** Called by the driver. */
  hear({ severity, message }: postgres.Notice): void {
    if (severity === "WARNING") this.warning = message ?? "a warning";
  }

  /** Called by the driver, once for each time that it wants to connect. */
  takeSocket(): Socket {
    if (this.isTaken) throw new ConnectionLostError("the connection to the database was lost");
    this.isTaken = true;
    return this.socket;
  }

  /** The driver forgets some statements when the connection ends between two of its steps. So they are ended here. */
  private answered<Answer>(query: PromiseLike<Answer>): Promise<Answer> {
    // Not sent before somebody waits for it.
    if (this.isLost) return Promise.reject(new ConnectionLostError("the connection was lost"));
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => this.destroy(new ConnectionLostError("the database does not answer")),
        this.statementTimeout_ms + ANSWER_DELAY_MS,
      );
      const settle = () => {
        clearTimeout(timer);
        this.waiting.delete(end);
      };
      const end = (error: Error) => {
        settle();
        reject(error);
      };
      this.waiting.add(end);
      query.then((answer) => {
        settle();
        resolve(answer);
      }, end);
    });
  }
}

function timeoutsOf({ kind }: SessionOptions): { statement_ms: number; idle_ms: number } {
  return kind === "snapshot"
    ? { statement_ms: SNAPSHOT_TIMEOUT_MS, idle_ms: SNAPSHOT_TIMEOUT_MS }
    : { statement_ms: STATEMENT_TIMEOUT_MS, idle_ms: IDLE_TIMEOUT_MS };
}

function driverOptions(
  { host, port, database, user, password }: PostgresTarget,
  sessionOptions: SessionOptions,
  session: PostgresSession,
): postgres.Options<Record<string, never>> {
  const { statement_ms, idle_ms } = timeoutsOf(sessionOptions);
  const options = {
    host,
    port,
    database,
    user,
    pass: password,
    ssl: false,
    max: 1,
    max_lifetime: null,
    fetch_types: false,
    connect_timeout: CONNECT_TIMEOUT_MS / 1000,
    // What is not said here the driver takes from variables of the environment that are its own.
    sslnegotiation: null,
    idle_timeout: undefined,
    max_pipeline: PIPELINED_MAX,
    backoff: false,
    keep_alive: KEEP_ALIVE_S,
    prepare: true,
    debug: false,
    publications: "",
    target_session_attrs: undefined,
    connection: {
      application_name: `sealwire ${sessionOptions.kind}`,
      default_transaction_isolation: "read committed",
      statement_timeout: statement_ms,
      idle_in_transaction_session_timeout: idle_ms,
      bytea_output: "hex",
    },
    onnotice: (notice: postgres.Notice) => session.hear(notice),
    onnotify: (_channel: string, payload: string) => sessionOptions.onNotify?.(payload),
    socket: () => session.takeSocket(),
  };
  // The driver's types leave out `socket` and `onnotify`.
  return options as postgres.Options<Record<string, never>>;
}

const SERVER_SETTINGS = `
  SELECT current_setting('server_version_num')::integer / 10000 AS version,
    current_setting('server_encoding') AS encoding,
    current_setting('fsync') AS fsync,
    current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('synchronous_standby_names') AS standbys,
    current_setting('transaction_read_only') AS read_only,
    pg_is_in_recovery() AS standby`;

/** @throws {SealwireError} `store_unusable` for a database that would lose or not take what is committed. */
function requireKeeping([settings]: readonly PostgresRow[], target: PostgresTarget): void {
  const { version, encoding, fsync, synchronous_commit, standbys, read_only, standby } = settings!;
  const flaw = Number(version) < SERVER_VERSION_MIN
    ? `it is PostgreSQL ${version}, and ${SERVER_VERSION_MIN} is the oldest that works`
    : encoding !== "UTF8"
    ? `its encoding is ${encoding}. Create one with "createdb --encoding=UTF8 --template=template0"`
    : fsync !== "on"
    ? "fsync is off there, so a power cut loses payments. Set fsync = on in its postgresql.conf"
    : synchronous_commit === "off" || (synchronous_commit === "local" && standbys !== "")
    ? `synchronous_commit is ${synchronous_commit} there, so a crash loses payments. Set it to on`
    : standby === true
    ? "it is a standby, which only reads. Name the primary"
    : read_only !== "off"
    ? "it is read-only (default_transaction_read_only). Switch that off for this user and database"
    : null;
  if (flaw === null) return;
  throw new SealwireError("store_unusable", `cannot use ${describeTarget(target)}: ${flaw}`);
}
