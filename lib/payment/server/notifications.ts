/**
 * Sends settlement notifications no faster than the session reads them. Someone who is paid a
 * thousand times at once must not lose the connection over it.
 */
import type { RpcPeer } from "../../rpc/peer.ts";

/**
 * Notifications that wait for one session. Past this the oldest are left out; the account's history
 * has them all.
 */
const WAITING_MAX = 256;
/** Nothing more is sent while this much waits to be read. */
const UNREAD_BYTES_MAX = 64 * 1024;

export class Notifications {
  private readonly waiting: (() => Promise<object>)[] = [];
  private sending = false;

  constructor(
    private readonly peer: RpcPeer,
    private readonly onError: (error: unknown) => void,
  ) {}

  /** Sends the result of `make` when its turn comes. */
  add(make: () => Promise<object>): void {
    this.waiting.push(make);
    if (this.waiting.length > WAITING_MAX) this.waiting.shift();
    if (!this.sending) void this.send();
  }

  private async send(): Promise<void> {
    this.sending = true;
    for (let make; (make = this.waiting.shift()) !== undefined;) {
      try {
        this.peer.notify("payment.settled", await make());
      } catch (error) {
        this.onError(error);
      }
      if (this.peer.unsent_bytes > UNREAD_BYTES_MAX) await this.peer.flushed();
    }
    this.sending = false;
  }
}
