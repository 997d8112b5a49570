/**
 * Frames gathered into the plaintexts of records, so that small ones do not cost a record each:
 *
 *     u8 type | u32 BE length | body
 *
 * and taken out of them at the other end. The buffers are used again, for a transfer would otherwise
 * leave a quarter of a mebibyte behind with each record.
 */
import { type Frame, protocolError } from "./frames.ts";

/**
 * Content is sent in pieces of this size: large enough for the cipher, small enough to lose one in
 * a crash.
 */
export const CHUNK_BYTES = 256 * 1024;
/** Room for one chunk and some small frames. */
export const RECORD_PLAINTEXT_BYTES = CHUNK_BYTES + 4 * 1024;

const FRAME_HEADER_BYTES = 5;
/** Buffers that are kept for later. */
const SPARE_MAX = 8;

interface Plaintext {
  readonly buffer: Uint8Array;
  size_bytes: number;
}

export class FrameGatherer {
  /** What has been added and not yet taken. */
  waiting_bytes = 0;
  private readonly full: Plaintext[] = [];
  private open: Plaintext | null = null;
  private readonly spare: Uint8Array[] = [];

  /** Whether waiting longer could not make the next record any larger. */
  get hasFull(): boolean {
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
    const record = this.open ??= { buffer: this.newBuffer(size_bytes), size_bytes: 0 };
    const { buffer } = record;
    buffer[record.size_bytes] = type;
    new DataView(buffer.buffer).setUint32(record.size_bytes + 1, body_bytes);
    let offset = record.size_bytes + FRAME_HEADER_BYTES;
    for (const part of parts) {
      buffer.set(part, offset);
      offset += part.length;
    }
    record.size_bytes = offset;
    this.waiting_bytes += size_bytes;
  }

  /** The plaintext of the next record; to be given to {@linkcode reuse} when it has been sealed. */
  take(): Uint8Array {
    const record = this.full.shift() ?? this.open;
    if (!record) throw new TypeError("there is nothing to take");
    if (record === this.open) this.open = null;
    this.waiting_bytes -= record.size_bytes;
    return record.buffer.subarray(0, record.size_bytes);
  }

  reuse(plaintext: Uint8Array): void {
    const buffer = new Uint8Array(plaintext.buffer);
    const usual = buffer.length === RECORD_PLAINTEXT_BYTES;
    if (usual && this.spare.length < SPARE_MAX) this.spare.push(buffer);
  }

  private newBuffer(size_bytes: number): Uint8Array {
    if (size_bytes > RECORD_PLAINTEXT_BYTES) return new Uint8Array(size_bytes);
    return this.spare.pop() ?? new Uint8Array(RECORD_PLAINTEXT_BYTES);
  }
}

/** The frames of a record, as views of its plaintext. Throws `protocol_error`. */
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
