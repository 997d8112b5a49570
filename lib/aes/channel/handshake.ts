/**
 * The handshake that starts a channel (docs/protocol/aes_channel.md, "Handshake"). The client sends
 * the prologue and the first Noise message, and the server answers with the second. Both messages
 * have a fixed size, so they need no framing.
 */
import { isSealwireError, SealwireError } from "../../base/errors.ts";
import type { Connection } from "../../net/net.ts";
import { ByteReader } from "./byte_reader.ts";
import { AES128CBCHS256, sealedBytes } from "./cbc_hs256.ts";
import { type HandshakeResult, HandshakeState, NOISE_KEY_BYTES } from "./noise.ts";

export const PROLOGUE_BYTES = 8;
/** The first bytes that a client sends to open a channel. */
export const PROLOGUE: Uint8Array = new TextEncoder().encode("SEALWIR1");
export const HANDSHAKE_TIMEOUT_MS = 10_000;

const NO_PAYLOAD = new Uint8Array(0);
/** The size of both messages: an ephemeral public key and a sealed empty payload. */
const MESSAGE_BYTES = NOISE_KEY_BYTES + sealedBytes(0);

/** A connection whose two ends have proven to each other that they hold the same key. */
export interface Handshaken {
  readonly connection: Connection;
  readonly reader: ByteReader;
  readonly keys: HandshakeResult;
}

/**
 * Runs the client's side of the handshake. `psk`: the 32 bytes of the key file.
 *
 * @throws {SealwireError} `server_untrusted` where the server does not prove that it holds the key,
 * or ends the connection; `timeout`, `connection_lost`.
 */
export function clientHandshake(connection: Connection, psk: Uint8Array): Promise<Handshaken> {
  return withHandshakeTimeout(connection, async () => {
    const handshake = newHandshake(true, psk);
    const first = handshake.writeMessage(NO_PAYLOAD);
    const hello = new Uint8Array(PROLOGUE_BYTES + first.length);
    hello.set(PROLOGUE);
    hello.set(first, PROLOGUE_BYTES);
    try {
      await connection.write(hello);
      const reader = new ByteReader(connection);
      handshake.readMessage(await reader.read(MESSAGE_BYTES) ?? NO_PAYLOAD);
      return { connection, reader, keys: handshake.split() };
    } catch (cause) {
      connection.destroy();
      throw new SealwireError(
        "server_untrusted",
        "the server did not prove that it holds the same key: compare the key files of both ends",
        { cause },
      );
    }
  });
}

/**
 * Runs the server's side of the handshake, after the prologue was read through `reader`. Call it
 * within {@linkcode withHandshakeTimeout}.
 *
 * @throws {SealwireError} `handshake_failed` where the client does not hold the key;
 * `connection_lost`.
 */
export async function serverHandshake(
  connection: Connection,
  reader: ByteReader,
  psk: Uint8Array,
): Promise<Handshaken> {
  const handshake = newHandshake(false, psk);
  handshake.readMessage(await reader.read(MESSAGE_BYTES) ?? NO_PAYLOAD);
  await connection.write(handshake.writeMessage(NO_PAYLOAD));
  return { connection, reader, keys: handshake.split() };
}

/**
 * Runs a handshake. Destroys the connection after `timeout_ms`.
 *
 * @throws {SealwireError} `timeout`; what `handshake` throws.
 */
export function withHandshakeTimeout<Result>(
  connection: Connection,
  handshake: () => Promise<Result>,
  timeout_ms = HANDSHAKE_TIMEOUT_MS,
): Promise<Result> {
  const message = `the other end did not finish the handshake within ${timeout_ms / 1000} s`;
  return withTimeout(connection, { timeout_ms, message }, handshake);
}

/**
 * Runs `work`. Destroys the connection after `timeout_ms`.
 *
 * @throws {SealwireError} `timeout`, with `message`; what `work` throws.
 */
export async function withTimeout<Result>(
  connection: Connection,
  { timeout_ms, message }: { readonly timeout_ms: number; readonly message: string },
  work: () => Promise<Result>,
): Promise<Result> {
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    connection.destroy();
  }, timeout_ms);
  try {
    return await work();
  } catch (cause) {
    if (!late || !isSealwireError(cause, "connection_lost")) throw cause;
    throw new SealwireError("timeout", message, { cause });
  } finally {
    clearTimeout(timer);
  }
}

function newHandshake(initiator: boolean, psk: Uint8Array): HandshakeState {
  return new HandshakeState({
    pattern: "NNpsk0",
    cipher: AES128CBCHS256,
    initiator,
    prologue: PROLOGUE,
    psk,
  });
}
