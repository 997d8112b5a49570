/** Receives a message. It stays in memory until its end is authenticated, and is then released. */
import { SealwireError } from "../../base/errors.ts";
import { type Position, protocolError } from "../channel/frames.ts";

/** The longest message. A longer text must be sent as a file. */
export const MESSAGE_BYTES_MAX = 16 * 1024 * 1024;
/** The size of all unfinished messages of a server together. */
const UNFINISHED_BYTES_MAX = 256 * 1024 * 1024;

/** The budget of bytes that all connections of a server share for unfinished messages. */
export class MessageBudget {
  private used_bytes = 0;

  /** Takes bytes out of the budget. Throws `server_busy` where it has not as many left. */
  reserve(size_bytes: number): void {
    if (this.used_bytes + size_bytes > UNFINISHED_BYTES_MAX) {
      throw new SealwireError("server_busy", "too many long messages are under way; try again");
    }
    this.used_bytes += size_bytes;
  }

  /** Gives bytes back to the budget. */
  release(size_bytes: number): void {
    this.used_bytes -= size_bytes;
  }
}

export class IncomingMessage {
  /** The pieces are copied here, because each piece would keep its whole record in memory. */
  private readonly content: Uint8Array;
  private received_bytes = 0;

  /** Throws `message_too_long`, `server_busy`. */
  constructor(private readonly announced: Position, private readonly budget: MessageBudget) {
    checkMessageSize(announced.offset_bytes);
    budget.reserve(announced.offset_bytes);
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
    this.budget.release(this.announced.offset_bytes);
  }
}

/** Throws `message_too_long`. */
export function checkMessageSize(size_bytes: number): void {
  if (size_bytes <= MESSAGE_BYTES_MAX) return;
  const limit = `${MESSAGE_BYTES_MAX / 1024 / 1024} MiB`;
  const message = `the message is longer than ${limit}: send it as a file`;
  throw new SealwireError("message_too_long", message);
}
