/**
 * Writes and reads records, which the channel puts on the wire after its handshake
 * (docs/protocol/aes_channel.md, "Records"):
 *
 *     u32 BE length of what follows | ciphertext ‖ tag
 *
 * Each direction has its own key and numbers its records from 0. The number is the associated data
 * and determines the IV, so a record that was changed, cut, repeated, moved or left out does not
 * open.
 *
 * Several records are sealed and opened at the same time. They leave and are released in order.
 */
import type { Connection } from "../../net/net.ts";
import { type ByteReader, cutOff } from "./byte_reader.ts";
import { type RecordCipher, sealedBytes, TAG_BYTES } from "./cbc_hs256.ts";
import { protocolError } from "./frames.ts";
import { Condition } from "../../base/condition.ts";

const LENGTH_BYTES = 4;
/** The longest ciphertext and tag. Checked before anything is allocated. */
const RECORD_BYTES_MAX = 1024 * 1024 + 64;
/** An empty plaintext has one block of padding. */
const RECORD_BYTES_MIN = 16 + TAG_BYTES;
/** The most records that are being sealed or sent. */
const WRITES_IN_FLIGHT_MAX = 4;
/** The most records that are being opened or wait to be read. */
const READS_IN_FLIGHT_MAX = 4;

export class RecordWriter {
  /** The records that the system has not taken yet. */
  in_flight = 0;
  private n = 0n;
  private last: Promise<void> = Promise.resolve();
  private readonly buffers = new SpareBuffers();
  private readonly changed = new Condition();

  /** `onWritten` is called after each record. */
  constructor(
    private readonly connection: Connection,
    private readonly cipher: RecordCipher,
    private readonly onWritten: () => void,
  ) {}

  /** Resolves when the next record may be written. */
  async room(): Promise<void> {
    while (this.in_flight >= WRITES_IN_FLIGHT_MAX) await this.changed.wait();
  }

  /** Resolves when the system has taken every record. Throws `connection_lost`. */
  flushed(): Promise<void> {
    return this.last;
  }

  /**
   * Seals a record and sends it after the records before it. Resolves when the system has taken it.
   * Throws `connection_lost`.
   */
  write(plaintext: Uint8Array): Promise<void> {
    const n = this.n++;
    const size_bytes = sealedBytes(plaintext.length);
    const record = this.buffers.take(LENGTH_BYTES + size_bytes);
    new DataView(record.buffer).setUint32(0, size_bytes);
    const sealed = this.cipher.seal(n, recordNumber(n), plaintext, record.subarray(LENGTH_BYTES));
    this.in_flight++;
    this.last = this.sendAfter(this.last, sealed, record).finally(() => {
      this.in_flight--;
      this.changed.notifyAll();
    });
    return this.last;
  }

  private async sendAfter(
    previous: Promise<void>,
    sealed: Promise<Uint8Array>,
    record: Uint8Array,
  ): Promise<void> {
    await Promise.all([sealed, previous]);
    await this.connection.write(record);
    this.buffers.giveBack(record);
    this.onWritten();
  }
}

export class RecordReader {
  private n = 0n;
  private readonly opened: Promise<Uint8Array | null>[] = [];
  private readonly buffers = new SpareBuffers();
  private readonly changed = new Condition();

  /** `onRead` is called for each record that has arrived completely. */
  constructor(
    private readonly reader: ByteReader,
    private readonly cipher: RecordCipher,
    private readonly onRead: () => void,
  ) {
    this.readAhead();
  }

  /**
   * Reads the plaintext of the next record. Returns null where the stream ended between two
   * records. Do not call again after an error: the call would wait for ever.
   *
   * @throws {SealwireError} `decrypt_failed`, `protocol_error` (length), `connection_lost`.
   */
  async read(): Promise<Uint8Array | null> {
    while (this.opened.length === 0) await this.changed.wait();
    const plaintext = await this.opened[0]!;
    this.opened.shift();
    this.changed.notifyAll();
    return plaintext;
  }

  private async readAhead(): Promise<void> {
    for (let more = true; more;) {
      while (this.opened.length >= READS_IN_FLIGHT_MAX) await this.changed.wait();
      try {
        const sealed = await this.readSealed();
        const n = this.n++;
        this.push(sealed ? this.open(n, sealed) : Promise.resolve(null));
        more = sealed !== null;
      } catch (error) {
        this.push(Promise.reject(error));
        more = false;
      }
    }
  }

  private push(plaintext: Promise<Uint8Array | null>): void {
    // A failure is reported when this record is read.
    plaintext.catch(() => {});
    this.opened.push(plaintext);
    this.changed.notifyAll();
  }

  private async readSealed(): Promise<Uint8Array | null> {
    const length = await this.reader.read(LENGTH_BYTES);
    if (length === null) return null;
    const size_bytes = new DataView(length.buffer).getUint32(0);
    if (size_bytes < RECORD_BYTES_MIN || size_bytes > RECORD_BYTES_MAX) {
      throw protocolError(`a record of ${size_bytes} bytes`);
    }
    const sealed = this.buffers.take(size_bytes);
    if (!await this.reader.fill(sealed)) throw cutOff();
    this.onRead();
    return sealed;
  }

  private async open(n: bigint, sealed: Uint8Array): Promise<Uint8Array> {
    const plaintext = await this.cipher.open(n, recordNumber(n), sealed);
    this.buffers.giveBack(sealed);
    return plaintext;
  }
}

/**
 * Buffers of records, which are used again: fresh memory costs more than what is done with it. There
 * are at most as many as records in flight.
 */
class SpareBuffers {
  private readonly spare: Uint8Array[] = [];

  /** Returns a buffer of that size, at the start of its memory. */
  take(size_bytes: number): Uint8Array {
    const buffer = this.spare.pop();
    return buffer && buffer.length >= size_bytes
      ? buffer.subarray(0, size_bytes)
      : new Uint8Array(size_bytes);
  }

  /** Takes a buffer back. Nobody may use it any more. */
  giveBack(buffer: Uint8Array): void {
    this.spare.push(new Uint8Array(buffer.buffer));
  }
}

/** The associated data of record `n`: u64 BE. */
function recordNumber(n: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, n);
  return bytes;
}
