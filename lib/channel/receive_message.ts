/**
 * Messages on their way in: kept in memory until the end has been authenticated, and only then
 * handed over.
 */
import { createHash, type Hash, timingSafeEqual } from "node:crypto";
import { SealwireError } from "../errors.ts";
import { type End, type Position, protocolError } from "./frames.ts";

/** Longer texts go as files. */
export const MESSAGE_BYTES_MAX = 16 * 1024 * 1024;
/** What the unfinished messages of all connections may take. */
const MEMORY_BYTES_MAX = 256 * 1024 * 1024;

/** The memory that all connections of one server share for unfinished messages. */
export class MessageMemory {
  private used_bytes = 0;

  /** Throws `server_busy`. */
  take(size_bytes: number): void {
    if (this.used_bytes + size_bytes > MEMORY_BYTES_MAX) {
      throw new SealwireError("server_busy", "too many long messages are under way; try again");
    }
    this.used_bytes += size_bytes;
  }

  give(size_bytes: number): void {
    this.used_bytes -= size_bytes;
  }
}

export class IncomingMessage {
  private readonly hash: Hash = createHash("sha256");
  private readonly pieces: Uint8Array[] = [];
  private received_bytes = 0;

  /** Throws `message_too_long`, `server_busy`. */
  constructor(private readonly announced: Position, private readonly memory: MessageMemory) {
    checkMessageSize(announced.offset_bytes);
    memory.take(announced.offset_bytes);
  }

  get item(): number {
    return this.announced.item;
  }

  write(bytes: Uint8Array): void {
    this.received_bytes += bytes.length;
    if (this.received_bytes > this.announced.offset_bytes) {
      throw protocolError("a message is longer than was announced");
    }
    this.hash.update(bytes);
    this.pieces.push(bytes);
  }

  /** The whole message. Throws `protocol_error` unless it is as it was sent. */
  finish(end: End): Uint8Array {
    const complete = this.received_bytes === this.announced.offset_bytes &&
      end.length_bytes === this.received_bytes && timingSafeEqual(this.hash.digest(), end.sha256);
    if (!complete) throw protocolError("a message differs from its hash");
    const message = new Uint8Array(this.received_bytes);
    let offset = 0;
    for (const piece of this.pieces) {
      message.set(piece, offset);
      offset += piece.length;
    }
    return message;
  }

  /** Gives the memory back. */
  release(): void {
    this.memory.give(this.announced.offset_bytes);
  }
}

/** Throws `message_too_long`. */
export function checkMessageSize(size_bytes: number): void {
  if (size_bytes <= MESSAGE_BYTES_MAX) return;
  const limit = `${MESSAGE_BYTES_MAX / 1024 / 1024} MiB`;
  const message = `the message is longer than ${limit}: send it as a file`;
  throw new SealwireError("message_too_long", message);
}
