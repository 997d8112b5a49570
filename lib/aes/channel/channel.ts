/**
 * The channel: frames in both directions over one connection, secret and unalterable
 * (PROTOCOL.md, "The AES channel"). Under it lie the handshake (`handshake.ts`), the records
 * (`records.ts`) and the cipher (`cbc_hs256.ts`); what the frames say is in `frames.ts`.
 *
 * After the first failure nothing more is released or sent.
 */
import { setImmediate } from "node:timers";
import { internalError, SealwireError } from "../../base/errors.ts";
import { cutOff } from "./byte_reader.ts";
import { RecordCipher } from "./cbc_hs256.ts";
import { FRAME, type Frame, protocolError } from "./frames.ts";
import { FrameGatherer, parseFrames } from "./frame_batches.ts";
import type { Handshaken } from "./handshake.ts";
import { RecordReader, RecordWriter } from "./records.ts";
import { Condition } from "../../base/condition.ts";

/** So long nothing may move in either direction while something is waited for. */
export const STALL_MS = 30_000;
/** The watchdog looks so many times during the time allowed. */
const STALL_LOOKS = 10;

export class Channel {
  /** IP literal and port of the other end. */
  readonly remoteHost: string;
  readonly remotePort: number;
  private readonly writer: RecordWriter;
  private readonly reader: RecordReader;
  private readonly watchdog: ReturnType<typeof setInterval>;
  private readonly changed = new Condition();
  private readonly outgoing = new FrameGatherer();
  private incoming: Frame[] = [];
  private pumping = false;
  private receiving = false;
  private closedByPeer = false;
  private failure: SealwireError | null = null;
  private moved_at_ms = performance.now();

  constructor(private readonly handshaken: Handshaken, options: { stall_ms?: number } = {}) {
    const { connection, reader, keys } = handshaken;
    const stall_ms = options.stall_ms ?? STALL_MS;
    const onMove = () => this.moved_at_ms = performance.now();
    this.remoteHost = connection.remoteHost;
    this.remotePort = connection.remotePort;
    this.writer = new RecordWriter(connection, new RecordCipher(keys.sendKey), onMove);
    this.reader = new RecordReader(reader, new RecordCipher(keys.receiveKey), onMove);
    this.watchdog = setInterval(() => this.watch(stall_ms), stall_ms / STALL_LOOKS);
  }

  /**
   * Sends a frame whose body is `parts` one after the other, which are copied. Resolves at once, or
   * where much is waiting to be sent, when there is room again: that is the backpressure.
   *
   * @throws {SealwireError} what ended the channel.
   */
  send(type: number, ...parts: Uint8Array[]): Promise<void> {
    if (this.failure) return rejected(this.failure);
    this.outgoing.add(type, parts);
    if (!this.pumping) this.pump();
    if (!this.outgoing.hasFull) return Promise.resolve();
    const room = this.roomToSend();
    // Nobody has to wait for it: what ended the channel is told by `receive` as well.
    room.catch(() => {});
    return room;
  }

  /**
   * The next frame, or null when the other end has closed the channel. One call at a time.
   *
   * @throws {SealwireError} `decrypt_failed`, `protocol_error`, `connection_lost` (also an end
   * without `close`), `timeout`.
   */
  async receive(): Promise<Frame | null> {
    if (this.incoming.length === 0 && !this.closedByPeer) await this.receiveRecord();
    const frame = this.incoming.pop();
    if (frame === undefined) return null;
    if (frame.type !== FRAME.close) return frame;
    if (this.incoming.length > 0) throw this.fail(protocolError("frames after the close"));
    this.closedByPeer = true;
    return null;
  }

  /**
   * Sends what is pending and a `close`, then ends the connection. Throws what ended the channel
   * before.
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

  /** Ends the channel at once, because of `reason`; what waits for it rejects with that. */
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
      // Taken from the end: a shift moves all the rest, and a record can hold a hundred thousand frames.
      this.incoming = parseFrames(plaintext).reverse();
    } catch (error) {
      throw this.fail(error);
    } finally {
      this.receiving = false;
    }
  }

  /** Resolves when not more than a record waits to be sent. Throws what ended the channel. */
  async roomToSend(): Promise<void> {
    while (this.outgoing.hasFull) await this.changed.wait();
  }

  /** Makes records of what is to be sent as long as there is anything. */
  private async pump(): Promise<void> {
    this.pumping = true;
    this.moved_at_ms = performance.now();
    while (this.outgoing.waiting_bytes > 0) {
      // Frames that are sent in one turn of the event loop go together.
      if (!this.outgoing.hasFull) await turnOfTheLoop();
      await this.writer.room();
      if (this.failure) break;
      this.writeRecord(this.outgoing.take());
      this.changed.notifyAll();
    }
    this.pumping = false;
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

  /** The first failure ends everything; it is returned. */
  private fail(error: unknown): SealwireError {
    if (this.failure) return this.failure;
    const failure = error instanceof SealwireError ? error : internalError(error);
    this.failure = failure;
    clearInterval(this.watchdog);
    this.incoming = [];
    this.handshaken.connection.destroy();
    this.changed.fail(failure);
    return failure;
  }
}

/** A rejection that nobody has to wait for: it is told by `receive` as well. */
function rejected(error: SealwireError): Promise<never> {
  const rejection = Promise.reject(error);
  rejection.catch(() => {});
  return rejection;
}

function turnOfTheLoop(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
