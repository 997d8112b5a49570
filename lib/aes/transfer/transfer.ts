/**
 * The two ends of a transfer. The client connects, sends, and connects again where a connection was
 * lost. The server receives what one client sends.
 */
import { isWorthResuming, SealwireError } from "../../base/errors.ts";
import { retry } from "../../base/retry.ts";
import { type Connection, connectTcp } from "../../net/net.ts";
import { ByteReader } from "../channel/byte_reader.ts";
import { Channel } from "../channel/channel.ts";
import {
  clientHandshake,
  type Handshaken,
  PROLOGUE,
  PROLOGUE_BYTES,
  serverHandshake,
  withHandshakeTimeout,
} from "../channel/handshake.ts";
import { PAIRING_PROLOGUE } from "../pairing/pairing.ts";
import { receiveItems, type Receiver } from "./receive.ts";
import type { FileSender } from "./send_files.ts";
import { sendMessage } from "./send_message.ts";

export const CONNECT_TIMEOUT_MS = 10_000;
/** How often in a row a client connects again without making progress. */
const RECONNECTS_MAX = 8;
const RECONNECT_PAUSE_MIN_MS = 250;
const RECONNECT_PAUSE_MAX_MS = 5_000;

export interface ChannelOptions {
  readonly host: string;
  readonly port: number;
  /** The 32 bytes of the key file. */
  readonly psk: Uint8Array;
  /** How long a connection may stall. */
  readonly stall_ms: number;
  readonly interrupted: AbortSignal;
}

export interface Sending {
  /** Is sent first, as item 0. */
  readonly message: Uint8Array | null;
  /** Its first item is 1. */
  readonly files: FileSender | null;
  onMessageSent(message: Uint8Array): void;
  onReconnect(reason: SealwireError): void;
}

/**
 * Sends a message, files, or both. Resolves when the server has acknowledged or refused each. Files
 * go on after a lost connection. A message does not, because it may have arrived.
 *
 * @throws {SealwireError} `no_connection`, `server_untrusted`, `connection_lost`, `timeout`,
 * `outcome_unknown`, `decrypt_failed`, `protocol_error`, `interrupted`.
 */
export async function sendAll(options: ChannelOptions, sending: Sending): Promise<void> {
  const channel = await openChannel(options);
  const { message, files } = sending;
  const { interrupted } = options;
  await unlessInterrupted(interrupted, () => channel.destroy(interrupted.reason), async () => {
    if (message) {
      await sendMessage(channel, 0, message);
      sending.onMessageSent(message);
    }
    if (!files) await channel.close();
  });
  if (files) await sendFiles(options, channel, files, sending.onReconnect);
}

/** Sends the files, and goes on over a new channel where one is lost. */
async function sendFiles(
  options: ChannelOptions,
  first: Channel,
  files: FileSender,
  onReconnect: (reason: SealwireError) => void,
): Promise<void> {
  const { interrupted } = options;
  const work = async (failures: number) => {
    const channel = failures === 0 ? first : await openChannel(options);
    await sendFilesOver(channel, files, interrupted);
  };
  await retry(work, {
    pause_ms_min: RECONNECT_PAUSE_MIN_MS,
    pause_ms_max: RECONNECT_PAUSE_MAX_MS,
    retries_max: RECONNECTS_MAX,
    signal: interrupted,
    isPassing: isWorthResuming,
    progress: () => files.progress,
    onRetry: (error) => onReconnect(error as SealwireError),
  });
}

async function sendFilesOver(
  channel: Channel,
  files: FileSender,
  interrupted: AbortSignal,
): Promise<void> {
  await unlessInterrupted(interrupted, () => channel.destroy(interrupted.reason), async () => {
    await files.run(channel);
    await channel.close();
  });
}

/**
 * Connects and shakes hands. Throws `no_connection`, `server_untrusted`, `timeout`, `interrupted`.
 */
async function openChannel(options: ChannelOptions): Promise<Channel> {
  const { host, port, psk, stall_ms, interrupted } = options;
  const connection = await connectTcp({
    host,
    port,
    timeout_ms: CONNECT_TIMEOUT_MS,
    signal: interrupted,
  });
  const handshaken = await unlessInterrupted(
    interrupted,
    () => connection.destroy(),
    () => clientHandshake(connection, psk),
  );
  return new Channel(handshaken, { stall_ms });
}

/** Runs `work`. An interruption calls `stop`, and its reason is thrown. */
export async function unlessInterrupted<Result>(
  interrupted: AbortSignal,
  stop: () => void,
  work: () => Promise<Result>,
): Promise<Result> {
  interrupted.addEventListener("abort", stop);
  try {
    interrupted.throwIfAborted();
    return await work();
  } catch (error) {
    throw interrupted.aborted ? interrupted.reason : error;
  } finally {
    interrupted.removeEventListener("abort", stop);
  }
}

export interface ServeOptions extends Receiver {
  readonly psk: Uint8Array;
  readonly stall_ms: number;
  /** Called when the client has proven that it holds the key. */
  onProven?(): void;
  /** Serves a client that wants to pair. */
  onPairing(connection: Connection, reader: ByteReader): Promise<void>;
}

/**
 * Serves one connection to its end, and ends it in any case.
 *
 * @throws {SealwireError} `not_a_channel` where the client speaks another protocol;
 * `handshake_failed`; what ended the channel.
 */
export async function serveConnection(
  connection: Connection,
  options: ServeOptions,
): Promise<void> {
  const reader = new ByteReader(connection);
  try {
    const handshaken = await withHandshakeTimeout(
      connection,
      () => acceptHandshake(connection, reader, options.psk),
    );
    if (handshaken === null) return await options.onPairing(connection, reader);
    options.onProven?.();
    await receiveItems(new Channel(handshaken, { stall_ms: options.stall_ms }), options);
  } finally {
    connection.destroy();
  }
}

/** Reads the prologue and shakes hands. Returns null for a client that wants to pair. */
async function acceptHandshake(
  connection: Connection,
  reader: ByteReader,
  psk: Uint8Array,
): Promise<Handshaken | null> {
  const prologue = await reader.read(PROLOGUE_BYTES);
  if (prologue === null) throw notAChannel("it sent nothing");
  if (equal(prologue, PAIRING_PROLOGUE)) return null;
  if (!equal(prologue, PROLOGUE)) {
    await connection.write(new TextEncoder().encode(WRONG_PROTOCOL_ANSWER));
    await connection.end();
    throw notAChannel("it does not speak the channel (an old AES client?): use aes_client.ts");
  }
  return await serverHandshake(connection, reader, psk);
}

/** The answer to an old client, for a person who looks at it. */
const WRONG_PROTOCOL_ANSWER =
  "This server takes encrypted channels only: use aes_client.ts of the same version.\r\n";

function notAChannel(reason: string): SealwireError {
  return new SealwireError("not_a_channel", `the client was refused: ${reason}`);
}

function equal(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && left.every((byte, index) => byte === right[index]);
}
