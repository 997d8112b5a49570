/**
 * The channel: sends and receives encrypted, authenticated frames over one connection. It is made
 * of the handshake (`handshake.ts`), the records (`records.ts`) and the cipher (`cbc_hs256.ts`).
 * What the frames mean is in `frames.ts`. docs/protocol/aes_channel.md specifies all of it.
 *
 * After the first failure the channel releases and sends nothing more.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { SealwireError, toSealwireError } from "../../base/errors.ts";
import { cutOff } from "./byte_reader.ts";
import { RecordCipher } from "./cbc_hs256.ts";
import { FRAME, type Frame, protocolError } from "./frames.ts";
import { FrameBatcher, parseFrames } from "./frame_batches.ts";
import type { Handshaken } from "./handshake.ts";
import { RecordReader, RecordWriter } from "./records.ts";
import { Condition } from "../../base/condition.ts";

/** How long a channel that waits for something may see no byte move in either direction. */
export const STALL_MS = 30_000;
/** How often the watchdog looks during that time. */
const STALL_LOOKS = 10;

export class Channel {
  private readonly writer: RecordWriter;
  private readonly reader: RecordReader;
  private readonly watchdog: ReturnType<typeof setInterval>;
  private readonly changed = new Condition();
  private readonly outgoing = new FrameBatcher();
  /** Received frames, the next one last. */
  private incoming: Frame[] = [];
  private writingRecords = false;
  private receiving = false;
  private closedByPeer = false;
  private failure: SealwireError | null = null;
  private moved_at_ms = performance.now();

  constructor(private readonly handshaken: Handshaken, options: { stall_ms?: number } = {}) {
    const { connection, reader, keys } = handshaken;
    const stall_ms = options.stall_ms ?? STALL_MS;
    const onMove = () => this.moved_at_ms = performance.now();
    this.writer = new RecordWriter(connection, new RecordCipher(keys.sendKey), onMove);
    this.reader = new RecordReader(reader, new RecordCipher(keys.receiveKey), onMove);
    this.watchdog = setInterval(() => this.watch(stall_ms), stall_ms / STALL_LOOKS);
  }

  /**
   * Sends a frame whose body is all `parts` in order. They are copied. Resolves when there is room
   * for more, which is the backpressure. A caller that does not wait learns of a failure from
   * {@linkcode receive}.
   *
   * @throws {SealwireError} what ended the channel.
   */
  send(type: number, ...parts: Uint8Array[]): Promise<void> {
    if (this.failure) return rejected(this.failure);
    this.outgoing.add(type, parts);
    if (!this.writingRecords) this.writeRecords();
    if (!this.outgoing.hasFullBatch) return Promise.resolve();
    const room = this.roomToSend();
    room.catch(() => {});
    return room;
  }

  /**
   * Receives the next frame. Returns null when the other end has closed the channel. Only one call
   * may be pending.
   *
   * @throws {SealwireError} `decrypt_failed`, `protocol_error`, `timeout`; `connection_lost`, also
   * where the stream ends without a `close`.
   */
  async receive(): Promise<Frame | null> {
    if (this.incoming.length === 0 && !this.closedByPeer) await this.receiveRecord();
    const frame = this.incoming.pop();
    if (frame === undefined) return null;
    if (frame.type !== FRAME.close) return frame;
    if (frame.body.length > 0) throw this.fail(protocolError("a close with a body"));
    if (this.incoming.length > 0) throw this.fail(protocolError("frames after the close"));
    this.closedByPeer = true;
    return null;
  }

  /**
   * Sends what is pending and a `close`, then ends the connection.
   *
   * @throws {SealwireError} what ended the channel before.
   */
  async close(): Promise<void> {
    this.send(FRAME.close);
    try {
      while (this.outgoing.waiting_bytes > 0) await this.changed.wait();
      await this.writer.flushed();
    } catch (error) {
      throw this.fail(error);
    }
    clearInterval(this.watchdog);
    this.failure = new SealwireError("connection_lost", "the channel is closed");
    await this.handshaken.connection.end();
  }

  /** Ends the channel at once. Everything that waits for it rejects with `reason`. */
  destroy(reason: SealwireError): void {
    this.fail(reason);
  }

  private async receiveRecord(): Promise<void> {
    if (this.failure) throw this.failure;
    this.moved_at_ms = performance.now();
    this.receiving = true;
    try {
      const plaintext = await this.reader.read();
      if (plaintext === null) throw cutOff();
      if (this.failure) throw this.failure;
      // Frames are popped, because a shift moves the rest, and a record can hold 100,000 frames.
      this.incoming = parseFrames(plaintext).reverse();
    } catch (error) {
      throw this.fail(error);
    } finally {
      this.receiving = false;
    }
  }

  /**
   * Resolves when less than a full record is waiting to be sent.
   *
   * @throws {SealwireError} what ended the channel.
   */
  async roomToSend(): Promise<void> {
    while (this.outgoing.hasFullBatch) await this.changed.wait();
  }

  /** Writes records until nothing is waiting to be sent. */
  private async writeRecords(): Promise<void> {
    this.writingRecords = true;
    this.moved_at_ms = performance.now();
    while (this.outgoing.waiting_bytes > 0) {
      // Frames that are sent in one turn of the event loop share a record.
      if (!this.outgoing.hasFullBatch) await nextTurn();
      await this.writer.room();
      if (this.failure) break;
      this.writeRecord(this.outgoing.takeBatch());
      this.changed.notifyAll();
    }
    this.writingRecords = false;
  }

  private async writeRecord(plaintext: Uint8Array): Promise<void> {
    try {
      await this.writer.write(plaintext);
      this.outgoing.reuse(plaintext);
    } catch (error) {
      this.fail(error);
    }
  }

  private watch(stall_ms: number): void {
    const waiting = this.receiving || this.writer.in_flight > 0;
    if (!waiting || performance.now() - this.moved_at_ms < stall_ms) return;
    const message = `nothing came or went for ${stall_ms / 1000} s`;
    this.fail(new SealwireError("timeout", message));
  }

  /** Ends the channel with the first failure, and returns that. */
  private fail(error: unknown): SealwireError {
    if (this.failure) return this.failure;
    const failure = toSealwireError(error);
    this.failure = failure;
    clearInterval(this.watchdog);
    this.incoming = [];
    this.handshaken.connection.destroy();
    this.changed.fail(failure);
    return failure;
  }
}

/** A rejection that need not be handled. */
function rejected(error: SealwireError): Promise<never> {
  const rejection = Promise.reject(error);
  rejection.catch(() => {});
  return rejection;
}
