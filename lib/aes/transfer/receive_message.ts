/** Receives a message. It stays in memory until its end is authenticated, and is then released. */
import type { ByteAccount } from "../../base/byte_budget.ts";
import { SealwireError } from "../../base/errors.ts";
import { type Position, protocolError } from "../channel/frames.ts";

/** The longest message. A longer text must be sent as a file. */
export const MESSAGE_BYTES_MAX = 16 * 1024 * 1024;
export class IncomingMessage {
  /** The pieces are copied here, because each piece would keep its whole record in memory. */
  private readonly content: Uint8Array;
  private received_bytes = 0;

  /** Throws `message_too_long`; `server_busy` where the budget has no room for it. */
  constructor(private readonly announced: Position, private readonly bytes: ByteAccount) {
    checkMessageSize(announced.offset_bytes);
    if (!bytes.tryHold(bytes.held_bytes + announced.offset_bytes)) throw serverBusy();
    this.content = new Uint8Array(announced.offset_bytes);
  }

  get item(): number {
    return this.announced.item;
  }

  write(bytes: Uint8Array): void {
    if (this.received_bytes + bytes.length > this.content.length) {
      throw protocolError("a message is longer than was announced");
    }
    this.content.set(bytes, this.received_bytes);
    this.received_bytes += bytes.length;
  }

  /** Returns the whole message. Throws `protocol_error` where a part of it is missing. */
  finish(size_bytes: number): Uint8Array {
    if (this.received_bytes !== this.content.length || size_bytes !== this.received_bytes) {
      throw protocolError("a message ends too early");
    }
    return this.content;
  }

  /** Gives the message's bytes back to the budget. */
  release(): void {
    this.bytes.hold(this.bytes.held_bytes - this.announced.offset_bytes);
  }
}

/** The budget for unfinished messages is used up. */
export function serverBusy(): SealwireError {
  return new SealwireError("server_busy", "too many long messages are under way; try again");
}

/** Throws `message_too_long`. */
export function checkMessageSize(size_bytes: number): void {
  if (size_bytes <= MESSAGE_BYTES_MAX) return;
  const limit = `${MESSAGE_BYTES_MAX / 1024 / 1024} MiB`;
  const message = `the message is longer than ${limit}: send it as a file`;
  throw new SealwireError("message_too_long", message);
}
