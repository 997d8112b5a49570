/**
 * Presence that servers share, in PostgreSQL. The table is UNLOGGED: it is empty after a crash or a failover, and each
 * server fills it again when it renews its leases. So going online waits for no disk and no standby.
 */
import { randomUUID } from "node:crypto";
import type { AccountName } from "../keys/rsa.ts";
import type { OnlineRow } from "../protocol/wire.ts";
import { listen } from "./postgres_listener.ts";
import type { PostgresPool } from "./postgres_pool.ts";
import { arrayOf } from "./postgres_rows.ts";
import type { PostgresRow, PostgresSession } from "./postgres_session.ts";
import { LEASE_S, type Published, type SharedPresence } from "./shared_presence.ts";

/** Servers hear on it who has come or gone. The payload is the account. */
const PRESENCE_CHANNEL = "sealwire_presence";

const LEASE_END = `clock_timestamp() + interval '${LEASE_S} seconds'`;
const IS_HELD = "expires > clock_timestamp()";

export class PostgresPresence implements SharedPresence {
  /** Of this process. */
  private readonly server = randomUUID();

  constructor(private readonly pool: PostgresPool, private readonly closing: AbortSignal) {}

  private query(text: string, parameters: readonly (string | null)[]): Promise<PostgresRow[]> {
    return this.pool.reading((session: PostgresSession) => session.query(text, parameters));
  }

  async publish({ row: { name, host, port, fingerprint }, place }: Published): Promise<void> {
    // Two logins of an account at one server may arrive here in the wrong order.
    await this.query(
      `WITH published AS (
         INSERT INTO sealwire.listeners AS held (name, host, port, fingerprint, server, place, expires)
         VALUES ($1, $2, $3::integer, $4, $5, $6::bigint, ${LEASE_END})
         ON CONFLICT (name) DO UPDATE SET host = excluded.host, port = excluded.port,
           fingerprint = excluded.fingerprint, server = excluded.server, place = excluded.place,
           expires = excluded.expires
         WHERE held.server <> excluded.server OR held.place < excluded.place RETURNING name)
       SELECT pg_notify('${PRESENCE_CHANNEL}', name) FROM published`,
      [name, host, String(port), fingerprint, this.server, String(place)],
    );
  }

  async withdraw(account: AccountName, place: number): Promise<void> {
    await this.query(
      `WITH withdrawn AS (DELETE FROM sealwire.listeners
         WHERE name = $1 AND server = $2 AND place = $3::bigint RETURNING name)
       SELECT pg_notify('${PRESENCE_CHANNEL}', name) FROM withdrawn`,
      [account, this.server, String(place)],
    );
  }

  async renew(published: readonly Published[]): Promise<Published[]> {
    const rows = published.map(({ row }) => row);
    const held = await this.query(
      `INSERT INTO sealwire.listeners AS held (name, host, port, fingerprint, server, place, expires)
       SELECT name, host, port, fingerprint, $5, place, ${LEASE_END}
       FROM unnest($1::text[], $2::text[], $3::integer[], $4::text[], $6::bigint[])
         AS published (name, host, port, fingerprint, place) ORDER BY name
       ON CONFLICT (name) DO UPDATE SET host = excluded.host, port = excluded.port,
         fingerprint = excluded.fingerprint, server = excluded.server, place = excluded.place,
         expires = excluded.expires
       WHERE (held.server = excluded.server AND held.place <= excluded.place)
         OR NOT held.${IS_HELD} RETURNING name`,
      [
        arrayOf(rows.map(({ name }) => name)),
        arrayOf(rows.map(({ host }) => host)),
        arrayOf(rows.map(({ port }) => port)),
        arrayOf(rows.map(({ fingerprint }) => fingerprint)),
        this.server,
        arrayOf(published.map(({ place }) => place)),
      ],
    );
    await this.query(`DELETE FROM sealwire.listeners WHERE NOT ${IS_HELD}`, []);
    const own = new Set(held.map(({ name }) => name));
    return published.filter(({ row }) => !own.has(row.name));
  }

  async release(): Promise<void> {
    await this.query(
      `WITH released AS (DELETE FROM sealwire.listeners WHERE server = $1 RETURNING name)
       SELECT pg_notify('${PRESENCE_CHANNEL}', name) FROM released`,
      [this.server],
    );
  }

  async find(account: AccountName): Promise<OnlineRow | null> {
    const [row] = await this.query(
      `SELECT * FROM sealwire.listeners WHERE name = $1 AND ${IS_HELD}`,
      [account],
    );
    return row === undefined ? null : onlineOf(row);
  }

  async page(after: string, limit: number): Promise<OnlineRow[]> {
    const rows = await this.query(
      `SELECT * FROM sealwire.listeners WHERE name > $1 AND ${IS_HELD} ORDER BY name LIMIT $2`,
      [after, String(limit)],
    );
    return rows.map(onlineOf);
  }

  async count(): Promise<number> {
    const [row] = await this.query(
      `SELECT count(*) AS online FROM sealwire.listeners WHERE ${IS_HELD}`,
      [],
    );
    return Number(row!.online);
  }

  async isElsewhere(account: AccountName): Promise<boolean> {
    const rows = await this.query(
      `SELECT 1 FROM sealwire.listeners WHERE name = $1 AND server <> $2 AND ${IS_HELD}`,
      [account, this.server],
    );
    return rows.length > 0;
  }

  onChanged(listener: (account: AccountName | null) => void): void {
    void listen(this.pool, {
      channel: PRESENCE_CHANNEL,
      onNotify: (account) => listener(account as AccountName),
      onListening: () => listener(null),
    }, this.closing);
  }
}

function onlineOf(row: PostgresRow): OnlineRow {
  return {
    name: String(row.name),
    host: String(row.host),
    port: Number(row.port),
    fingerprint: String(row.fingerprint),
  };
}
