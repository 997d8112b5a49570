/** What the tests of file transfer share: looking at folders, and speaking frames by hand. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import type { Channel } from "../../lib/aes/channel/channel.ts";
import {
  decodeRefusal,
  encodeItem,
  encodeOffer,
  encodePosition,
  FRAME,
  type Frame,
  type Offer,
} from "../../lib/aes/channel/frames.ts";
import { PARTIALS_FOLDER } from "../../lib/aes/transfer/names.ts";

export const MIB = 1024 * 1024;

export function sha256(bytes: Uint8Array): Uint8Array {
  return createHash("sha256").update(bytes).digest();
}

/** What lies under a folder, without the unfinished files. */
export function tree(folder: string): string[] {
  return (readdirSync(folder, { recursive: true }) as string[])
    .filter((path) => !path.startsWith(PARTIALS_FOLDER)).sort();
}

/** The unfinished file of a name. */
export function partialPath(out: string, name: string): string {
  return join(out, PARTIALS_FOLDER, createHash("sha256").update(name).digest("hex"));
}

/** Offers a file by hand and gives what comes back. */
export async function offerByHand(channel: Channel, offer: Partial<Offer> & { item: number }) {
  const complete = {
    kind: "file" as const,
    executable: false,
    size_bytes: 4,
    modified_ms: 0,
    name: "x",
    ...offer,
  };
  channel.send(FRAME.offer, encodeOffer(complete));
  return (await channel.receive())!;
}

export function refusalCode(frame: Frame | null): string {
  assert.equal(frame?.type, FRAME.refused);
  return decodeRefusal(frame.body).code;
}

/** Sends the content of an offered file by hand and gives what comes back. */
export function sendByHand(
  channel: Channel,
  item: number,
  offset_bytes: number,
  content: Uint8Array,
): Promise<Frame | null> {
  channel.send(FRAME.start, encodePosition({ item, offset_bytes }));
  channel.send(FRAME.chunk, encodeItem(item), content);
  const end = { item, offset_bytes: offset_bytes + content.length };
  channel.send(FRAME.end, encodePosition(end));
  return channel.receive();
}
