/**
 * Connections that have not yet shown that they hold the key. Where there are too many, the oldest
 * gives way, so that strangers who connect and say nothing keep nobody out.
 */
import type { Connection } from "../net/net.ts";

export const NEWCOMERS_MAX = 64;

export class Newcomers {
  /** In order of their coming. */
  private readonly connections = new Set<Connection>();

  /** Destroys the oldest where there is one too many. */
  add(connection: Connection): void {
    this.connections.add(connection);
    if (this.connections.size <= NEWCOMERS_MAX) return;
    const [oldest] = this.connections;
    this.connections.delete(oldest!);
    oldest!.destroy();
  }

  /** It has shown that it holds the key, or has ended. */
  delete(connection: Connection): void {
    this.connections.delete(connection);
  }
}
