/**
 * The sessions that a server has with its database, and what happens while it is away: whoever asks is told at once, and
 * one in a while tries again. So the server goes on when the database is back, without a restart.
 */
import { isSealwireError, SealwireError } from "../base/errors.ts";
import { isSessionLost, statementError, unavailable } from "./postgres_errors.ts";
import { PostgresSession, type SessionOptions } from "./postgres_session.ts";
import type { PostgresTarget } from "./postgres_url.ts";

/** Sessions that read, shared by all reads. Besides there are one that writes, one that listens, and snapshots. */
const READ_SESSIONS = 3;
const AWAY_PAUSE_MS_MIN = 50;
const AWAY_PAUSE_MS_MAX = 2_000;

/** The database cannot be reached. */
interface Away {
  readonly error: SealwireError;
  readonly pause_ms: number;
  /** Nobody tries before. */
  readonly until_ms: number;
}

export class PostgresPool {
  private away: Away | null = null;
  private readonly open = new Set<PostgresSession>();
  private readonly readers: (Promise<PostgresSession> | null)[] = [];
  private nextReader = 0;
  private writer: PostgresSession | null = null;
  private isClosed = false;

  constructor(private readonly target: PostgresTarget) {}

  /**
   * A session of the caller's own, to be closed by the caller.
   *
   * @throws {SealwireError} `store_unavailable`, at once while the database is away.
   */
  async connect(options: SessionOptions): Promise<PostgresSession> {
    if (this.isClosed) throw unavailable(new Error("it has been closed"));
    const pause_ms = this.beginTry();
    try {
      const session = await PostgresSession.open(this.target, options);
      this.away = null;
      this.open.add(session);
      void session.lost.then(() => this.open.delete(session));
      return session;
    } catch (cause) {
      if (!isSealwireError(cause)) throw cause;
      // It was usable once and may be again: a standby that is about to be promoted, a password that is being changed.
      const error = new SealwireError("store_unavailable", cause.message, { cause });
      this.away = { error, pause_ms, until_ms: performance.now() + pause_ms };
      throw error;
    }
  }

  /** Gives how long to pause if the try fails. Throws while the database is away and it is too early to try again. */
  private beginTry(): number {
    const { away } = this;
    if (away === null) return AWAY_PAUSE_MS_MIN;
    if (performance.now() < away.until_ms) throw away.error;
    // Others are told at once while this one tries.
    this.away = { ...away, until_ms: Infinity };
    return Math.min(away.pause_ms * 2, AWAY_PAUSE_MS_MAX);
  }

  /** The session for transactions that write: one at a time. */
  async writing(): Promise<PostgresSession> {
    if (this.writer === null || !this.writer.isUsable) {
      this.writer = await this.connect({ kind: "write" });
    }
    return this.writer;
  }

  /** Runs `read` in a session that others use too; once more in a new one when the session is lost. */
  async reading<T>(read: (session: PostgresSession) => Promise<T>): Promise<T> {
    const at = this.nextReader++ % READ_SESSIONS;
    try {
      return await read(await this.reader(at));
    } catch (error) {
      if (!isSessionLost(error)) throw statementError(error);
    }
    try {
      return await read(await this.reader(at));
    } catch (error) {
      throw statementError(error);
    }
  }

  async close(): Promise<void> {
    this.isClosed = true;
    await Promise.all([...this.open].map((session) => session.close()));
  }

  private async reader(at: number): Promise<PostgresSession> {
    const opening = this.readers[at] ?? null;
    const session = await opening?.catch(() => null);
    if (session?.isUsable) return session;
    // Another read has begun to open one meanwhile.
    if ((this.readers[at] ?? null) !== opening) return await this.reader(at);
    const opened = this.connect({ kind: "read" });
    this.readers[at] = opened;
    return await opened;
  }
}
