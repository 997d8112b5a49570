/**
 * The frames that the two ends exchange inside the channel (docs/protocol/aes_channel.md,
 * "Frames"). A frame has a type, a length and a body. All numbers are big-endian. This file encodes
 * and decodes the bodies.
 */
import { SealwireError } from "../../base/errors.ts";

export const FRAME = {
  /** Client: a message of this size follows. */
  message: 0x01,
  /** Client: it could send this file or folder. */
  offer: 0x02,
  /** Client: the content follows from this offset on. */
  start: 0x03,
  /** Client: a piece of the content. */
  chunk: 0x04,
  /** Client: the content is complete. Its whole length. */
  end: 0x05,
  /** Client: the rest of this file will not come. How much of what the server has may stay. */
  abort: 0x06,
  /** Either: it is still working, for example hashing what is there. How far it is. */
  working: 0x07,
  /** Server, after an offer: what it has of that file. */
  answer: 0x08,
  /** Server: how much of the file is written. */
  written: 0x09,
  /** Server: the whole item has arrived. A file is safely on the disk. */
  acknowledged: 0x0a,
  /** Server: it refuses this item. The reason. */
  refused: 0x0b,
  /** Client: a small file, with its offer and all of its content. */
  file: 0x0c,
  /** Server, after an answer: the hash of the start of what it has. */
  hashed: 0x0d,
  /** Either: nothing more follows, and all is well. */
  close: 0x0f,
} as const;

export interface Frame {
  readonly type: number;
  readonly body: Uint8Array;
}

const SHA256_BYTES = 32;
/**
 * How much of a file lies between two hashes of what the receiver has of it. Where they differ, so
 * much of the file is sent in vain.
 */
export const HASH_STEP_BYTES = 16 * 1024 * 1024;
/** The longest relative path of a file, in bytes of UTF-8. */
export const NAME_BYTES_MAX = 4096;
const REFUSAL_TEXT_BYTES_MAX = 4096;

/** The largest file that may travel in one frame. */
export const SMALL_FILE_BYTES = 64 * 1024;
/** The most files and folders that a client may have offered and that are not finished. */
export const ITEMS_IN_FLIGHT_MAX = 512;
/** How often an end that hashes or syncs a file tells the other that it is still working. */
export const WORKING_INTERVAL_MS = 1_000;

/** Offers a file or folder. The client numbers its items (messages, files, folders) upwards. */
export interface Offer {
  readonly item: number;
  readonly kind: "file" | "folder";
  readonly executable: boolean;
  readonly size_bytes: number;
  /** The modification time, in whole milliseconds since 1970. */
  readonly modified_ms: number;
  /** A relative path with `/` between the parts. Not checked yet. */
  readonly name: string;
}

/** What the receiver has: nothing, the start of the file, or a whole file of the offered size. */
export interface Answer {
  readonly item: number;
  readonly has: "nothing" | "partial" | "finished";
  readonly length_bytes: number;
}

/** The hash of the first bytes of what the receiver has. */
export interface Hashed {
  readonly item: number;
  readonly length_bytes: number;
  readonly sha256: Uint8Array;
}

/** A small file that travels in one frame. */
export interface SmallFile {
  readonly offer: Offer;
  readonly content: Uint8Array;
}

/** A place in an item: where its content starts or ends, or how much is written. */
export interface Position {
  readonly item: number;
  readonly offset_bytes: number;
}

export interface Refusal {
  readonly item: number;
  /** An `ErrorCode`, unless the server is newer or lies. */
  readonly code: string;
  readonly message: string;
}

const ITEM_BYTES = 4;
const U16_BYTES = 2;
const U64_BYTES = 8;
const OFFER_FIXED_BYTES = ITEM_BYTES + 2 + 2 * U64_BYTES;
const KINDS = ["file", "folder"] as const;
const HAS = ["nothing", "partial", "finished"] as const;

export function encodeOffer(offer: Offer): Uint8Array {
  const name = new TextEncoder().encode(offer.name);
  const { body, view } = newBody(OFFER_FIXED_BYTES + name.length);
  view.setUint32(0, offer.item);
  view.setUint8(4, KINDS.indexOf(offer.kind));
  view.setUint8(5, offer.executable ? 1 : 0);
  view.setBigUint64(6, BigInt(offer.size_bytes));
  view.setBigInt64(14, BigInt(offer.modified_ms));
  body.set(name, OFFER_FIXED_BYTES);
  return body;
}

export function decodeOffer(body: Uint8Array): Offer {
  const view = viewOf(body, OFFER_FIXED_BYTES, OFFER_FIXED_BYTES + NAME_BYTES_MAX);
  return {
    item: view.getUint32(0),
    kind: oneOf(KINDS, view.getUint8(4)),
    executable: oneOf([false, true] as const, view.getUint8(5)),
    size_bytes: safeInteger(view.getBigUint64(6)),
    modified_ms: safeInteger(view.getBigInt64(14)),
    name: text(body.subarray(OFFER_FIXED_BYTES)),
  };
}

/** Encodes a small file without its content, which must follow. */
export function encodeSmallFile(offer: Offer): Uint8Array {
  const offered = encodeOffer(offer);
  const { body, view } = newBody(U16_BYTES + offered.length);
  view.setUint16(0, offered.length);
  body.set(offered, U16_BYTES);
  return body;
}

export function decodeSmallFile(body: Uint8Array): SmallFile {
  const content_start = U16_BYTES + viewOf(body, U16_BYTES, Infinity).getUint16(0);
  if (content_start > body.length) throw malformed();
  const offer = decodeOffer(body.subarray(U16_BYTES, content_start));
  const content = body.subarray(content_start);
  const whole = offer.kind === "file" && offer.size_bytes === content.length;
  if (!whole || content.length > SMALL_FILE_BYTES) throw malformed();
  return { offer, content };
}

export function encodeAnswer(answer: Answer): Uint8Array {
  const { body, view } = newBody(ITEM_BYTES + 1 + U64_BYTES);
  view.setUint32(0, answer.item);
  view.setUint8(4, HAS.indexOf(answer.has));
  view.setBigUint64(5, BigInt(answer.length_bytes));
  return body;
}

export function decodeAnswer(body: Uint8Array): Answer {
  const view = viewOf(body, ITEM_BYTES + 1 + U64_BYTES);
  return {
    item: view.getUint32(0),
    has: oneOf(HAS, view.getUint8(4)),
    length_bytes: safeInteger(view.getBigUint64(5)),
  };
}

export function encodeHashed(hashed: Hashed): Uint8Array {
  const { body, view } = newBody(ITEM_BYTES + U64_BYTES + SHA256_BYTES);
  view.setUint32(0, hashed.item);
  view.setBigUint64(4, BigInt(hashed.length_bytes));
  body.set(hashed.sha256, 12);
  return body;
}

export function decodeHashed(body: Uint8Array): Hashed {
  const view = viewOf(body, ITEM_BYTES + U64_BYTES + SHA256_BYTES);
  return {
    item: view.getUint32(0),
    length_bytes: safeInteger(view.getBigUint64(4)),
    sha256: body.slice(12),
  };
}

export function encodePosition(position: Position): Uint8Array {
  const { body, view } = newBody(ITEM_BYTES + U64_BYTES);
  view.setUint32(0, position.item);
  view.setBigUint64(4, BigInt(position.offset_bytes));
  return body;
}

export function decodePosition(body: Uint8Array): Position {
  const view = viewOf(body, ITEM_BYTES + U64_BYTES);
  return { item: view.getUint32(0), offset_bytes: safeInteger(view.getBigUint64(4)) };
}

export function encodeRefusal({ item, code, message }: Refusal): Uint8Array {
  const reason = new TextEncoder().encode(`${code}\n${message}`);
  const body = new Uint8Array(ITEM_BYTES + Math.min(reason.length, REFUSAL_TEXT_BYTES_MAX));
  body.set(encodeItem(item));
  body.set(reason.subarray(0, REFUSAL_TEXT_BYTES_MAX), ITEM_BYTES);
  return body;
}

export function decodeRefusal(body: Uint8Array): Refusal {
  const view = viewOf(body, ITEM_BYTES, ITEM_BYTES + REFUSAL_TEXT_BYTES_MAX);
  const reason = new TextDecoder().decode(body.subarray(ITEM_BYTES));
  const [, code, message] = /^([a-z_]{1,40})\n(.*)$/s.exec(reason) ?? [];
  if (code === undefined || message === undefined) throw malformed();
  return { item: view.getUint32(0), code, message };
}

/** Encodes an item number: the body of an acknowledgement, and the start of a chunk. */
export function encodeItem(item: number): Uint8Array {
  const { body, view } = newBody(ITEM_BYTES);
  view.setUint32(0, item);
  return body;
}

export function decodeItem(body: Uint8Array): number {
  return viewOf(body, ITEM_BYTES).getUint32(0);
}

export function decodeChunk(body: Uint8Array): { item: number; bytes: Uint8Array } {
  const view = viewOf(body, ITEM_BYTES, Infinity);
  return { item: view.getUint32(0), bytes: body.subarray(ITEM_BYTES) };
}

/** The error for a peer that holds the key but breaks the protocol. */
export function protocolError(what: string): SealwireError {
  return new SealwireError("protocol_error", `the other end broke the protocol: ${what}`);
}

function malformed(): SealwireError {
  return protocolError("a frame is malformed");
}

function newBody(size_bytes: number): { body: Uint8Array; view: DataView } {
  const body = new Uint8Array(size_bytes);
  return { body, view: new DataView(body.buffer) };
}

function viewOf(body: Uint8Array, min_bytes: number, max_bytes = min_bytes): DataView {
  if (body.length < min_bytes || body.length > max_bytes) throw malformed();
  return new DataView(body.buffer, body.byteOffset, body.byteLength);
}

function oneOf<T>(values: readonly T[], index: number): T {
  if (index >= values.length) throw malformed();
  return values[index]!;
}

function safeInteger(value: bigint): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw malformed();
  return number;
}

const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function text(bytes: Uint8Array): string {
  try {
    return UTF8.decode(bytes);
  } catch {
    throw malformed();
  }
}
