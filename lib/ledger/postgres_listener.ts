/**
 * Hears of commits, whichever server made them. The connection may be lost at any time, and with it what was notified
 * meanwhile: so after each LISTEN the size is read.
 */
import { isSealwireError } from "../base/errors.ts";
import { pause } from "../base/retry.ts";
import { COMMITTED_CHANNEL } from "./postgres_append.ts";
import { statementError } from "./postgres_errors.ts";
import type { PostgresPool } from "./postgres_pool.ts";
import type { PostgresSession } from "./postgres_session.ts";

const RECONNECT_PAUSE_MS_MIN = 50;
const RECONNECT_PAUSE_MS_MAX = 2_000;
/** A connection that says nothing is asked this often whether it still is one. */
const HEARTBEAT_MS = 30_000;

/** Calls `listener` with the log's size until `signal` is aborted. A size may come twice, and sizes may be skipped. */
export async function listenForCommits(
  pool: PostgresPool,
  listener: (size: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const options = { kind: "listen", onNotify: (size: string) => listener(Number(size)) } as const;
  let pause_ms = RECONNECT_PAUSE_MS_MIN;
  while (!signal.aborted) {
    try {
      const session = await pool.connect(options);
      await session.command(`LISTEN ${COMMITTED_CHANNEL}`);
      listener(await sizeIn(session));
      pause_ms = RECONNECT_PAUSE_MS_MIN;
      await beatUntilLost(session);
    } catch (error) {
      if (signal.aborted) return;
      if (!isSealwireError(statementError(error), "store_unavailable")) throw error;
    }
    await pause(pause_ms, signal).catch(() => {});
    pause_ms = Math.min(pause_ms * 2, RECONNECT_PAUSE_MS_MAX);
  }
}

async function sizeIn(session: PostgresSession): Promise<number> {
  const [row] = await session.query("SELECT size FROM sealwire.head");
  return Number(row!.size);
}

async function beatUntilLost(session: PostgresSession): Promise<void> {
  const heartbeat = setInterval(
    () => void sizeIn(session).catch(() => session.destroy()),
    HEARTBEAT_MS,
  );
  await session.lost;
  clearInterval(heartbeat);
}
