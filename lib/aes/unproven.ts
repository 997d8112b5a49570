/**
 * Connections that have not yet shown that they hold the key. Past the limit the oldest one gives
 * way, so that strangers who connect and say nothing keep nobody out.
 */
import type { Connection } from "../net/net.ts";

const UNPROVEN_MAX = 64;

export class UnprovenConnections {
  /** The oldest one first. */
  private readonly connections = new Set<Connection>();

  /** Adds a new connection. Destroys the oldest one where there are too many. */
  add(connection: Connection): void {
    this.connections.add(connection);
    if (this.connections.size <= UNPROVEN_MAX) return;
    const [oldest] = this.connections;
    this.connections.delete(oldest!);
    oldest!.destroy();
  }

  /** Removes a connection that has shown that it holds the key, or has ended. */
  delete(connection: Connection): void {
    this.connections.delete(connection);
  }
}
