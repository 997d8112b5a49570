/** Sends a message. */
import { isSealwireError, peerError, SealwireError } from "../../base/errors.ts";
import type { Channel } from "../channel/channel.ts";
import {
  decodeItem,
  decodeRefusal,
  encodeItem,
  encodePosition,
  FRAME,
  type Frame,
  protocolError,
} from "../channel/frames.ts";
import { CHUNK_BYTES } from "../channel/frame_batches.ts";

/**
 * Sends a message (at most 16 MiB) as item number `item`. Resolves when the server has acknowledged
 * the whole message.
 *
 * @throws {SealwireError} `outcome_unknown` where the connection was lost before that; the server's
 * refusal.
 */
export async function sendMessage(
  channel: Channel,
  item: number,
  message: Uint8Array,
): Promise<void> {
  const size_bytes = message.length;
  const size = { item, offset_bytes: size_bytes };
  try {
    await channel.send(FRAME.message, encodePosition(size));
    for (let offset = 0; offset < size_bytes; offset += CHUNK_BYTES) {
      const piece = message.subarray(offset, offset + CHUNK_BYTES);
      await channel.send(FRAME.chunk, encodeItem(item), piece);
    }
    await channel.send(FRAME.end, encodePosition(size));
    requireAcknowledgement(await channel.receive(), item);
  } catch (cause) {
    if (!isSealwireError(cause, "connection_lost") && !isSealwireError(cause, "timeout")) {
      throw cause;
    }
    const message = "the server did not acknowledge the message, which may have arrived or not: " +
      cause.message;
    throw new SealwireError("outcome_unknown", message, { cause });
  }
}

function requireAcknowledgement(frame: Frame | null, item: number): void {
  if (frame === null) throw new SealwireError("connection_lost", "the server closed the channel");
  if (frame.type === FRAME.refused) {
    const { code, message } = decodeRefusal(frame.body);
    throw peerError(code, message);
  }
  if (frame.type !== FRAME.acknowledged) throw protocolError(`a frame of type ${frame.type}`);
  if (decodeItem(frame.body) !== item) throw protocolError("an acknowledgement of something else");
}
