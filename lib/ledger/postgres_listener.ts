/**
 * Hears what servers on one database tell each other. The connection may be lost at any time, and with it what was notified
 * meanwhile: so after each LISTEN the listener looks for itself.
 */
import { isSealwireError } from "../base/errors.ts";
import { pause } from "../base/retry.ts";
import { statementError } from "./postgres_errors.ts";
import type { PostgresPool } from "./postgres_pool.ts";
import type { PostgresSession } from "./postgres_session.ts";

const RECONNECT_PAUSE_MS_MIN = 50;
const RECONNECT_PAUSE_MS_MAX = 2_000;
/** A connection that says nothing is asked this often whether it still is one. */
const HEARTBEAT_MS = 30_000;

/** What a listener does with a channel. */
export interface Hearing {
  readonly channel: string;
  onNotify(payload: string): void;
  /** Called after each LISTEN: what came before was not heard. */
  onListening(session: PostgresSession): void | Promise<void>;
}

/** Listens until `signal` is aborted, over one connection after the other. */
export async function listen(
  pool: PostgresPool,
  { channel, onNotify, onListening }: Hearing,
  signal: AbortSignal,
): Promise<void> {
  let pause_ms = RECONNECT_PAUSE_MS_MIN;
  while (!signal.aborted) {
    try {
      const session = await pool.connect({ kind: "listen", onNotify });
      await session.command(`LISTEN ${channel}`);
      await onListening(session);
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

async function beatUntilLost(session: PostgresSession): Promise<void> {
  const heartbeat = setInterval(
    () => void session.query("SELECT 1").catch(() => session.destroy()),
    HEARTBEAT_MS,
  );
  await session.lost;
  clearInterval(heartbeat);
}
