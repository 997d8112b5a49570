/**
 * Puts several frames into the plaintext of one record, so that small frames do not cost a record
 * each, and takes them out again at the other end. A frame is:
 *
 *     u8 type | u32 BE length | body
 *
 * Buffers are used again. A transfer would otherwise leave 256 KiB of garbage with each record.
 */
import { type Frame, protocolError } from "./frames.ts";

/**
 * The size of the pieces in which content is sent. It is large enough for the cipher to be fast,
 * and small enough to lose one in a crash.
 */
export const CHUNK_BYTES = 256 * 1024;
/** The usual size of a batch: one chunk and some small frames. */
const BATCH_BYTES = CHUNK_BYTES + 4 * 1024;

const FRAME_HEADER_BYTES = 5;
/** The most buffers that are kept for later. */
const SPARE_MAX = 8;

/** Frames that go into one record. */
interface Batch {
  readonly buffer: Uint8Array;
  size_bytes: number;
}

export class FrameBatcher {
  /** The bytes that were added and not yet taken. */
  waiting_bytes = 0;
  private readonly full: Batch[] = [];
  /** The batch that the next frame goes into. */
  private open: Batch | null = null;
  private readonly spare: Uint8Array[] = [];

  /** Whether the next batch is complete, so that waiting longer cannot make it larger. */
  get hasFullBatch(): boolean {
    return this.full.length > 0;
  }

  /** Adds a frame whose body is `parts`, which are copied. */
  add(type: number, parts: readonly Uint8Array[]): void {
    const body_bytes = parts.reduce((sum, part) => sum + part.length, 0);
    const size_bytes = FRAME_HEADER_BYTES + body_bytes;
    if (this.open && this.open.size_bytes + size_bytes > this.open.buffer.length) {
      this.full.push(this.open);
      this.open = null;
    }
    const batch = this.open ??= { buffer: this.newBuffer(size_bytes), size_bytes: 0 };
    const { buffer } = batch;
    buffer[batch.size_bytes] = type;
    new DataView(buffer.buffer).setUint32(batch.size_bytes + 1, body_bytes);
    let offset = batch.size_bytes + FRAME_HEADER_BYTES;
    for (const part of parts) {
      buffer.set(part, offset);
      offset += part.length;
    }
    batch.size_bytes = offset;
    this.waiting_bytes += size_bytes;
  }

  /**
   * Takes the next batch: the plaintext of a record. Give it to {@linkcode reuse} when it has been
   * sealed.
   */
  takeBatch(): Uint8Array {
    const batch = this.full.shift() ?? this.open;
    if (!batch) throw new TypeError("there is nothing to take");
    if (batch === this.open) this.open = null;
    this.waiting_bytes -= batch.size_bytes;
    return batch.buffer.subarray(0, batch.size_bytes);
  }

  /** Takes the buffer of a batch back for later batches. */
  reuse(plaintext: Uint8Array): void {
    const buffer = new Uint8Array(plaintext.buffer);
    const usual = buffer.length === BATCH_BYTES;
    if (usual && this.spare.length < SPARE_MAX) this.spare.push(buffer);
  }

  private newBuffer(size_bytes: number): Uint8Array {
    if (size_bytes > BATCH_BYTES) return new Uint8Array(size_bytes);
    return this.spare.pop() ?? new Uint8Array(BATCH_BYTES);
  }
}

/** Returns the frames of a record, as views of its plaintext. Throws `protocol_error`. */
export function parseFrames(plaintext: Uint8Array): Frame[] {
  const view = new DataView(plaintext.buffer, plaintext.byteOffset, plaintext.byteLength);
  const frames: Frame[] = [];
  let offset = 0;
  while (offset < plaintext.length) {
    const start = offset + FRAME_HEADER_BYTES;
    if (start > plaintext.length) throw protocolError("a frame is cut off");
    const end = start + view.getUint32(offset + 1);
    if (end > plaintext.length) throw protocolError("a frame is cut off");
    frames.push({ type: plaintext[offset]!, body: plaintext.subarray(start, end) });
    offset = end;
  }
  if (frames.length === 0) throw protocolError("an empty record");
  return frames;
}
