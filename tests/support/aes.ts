/**
 * What the tests of the AES pair share: a server and a client in this process, over real sockets.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { ByteReader } from "../../lib/aes/channel/byte_reader.ts";
import { Channel } from "../../lib/aes/channel/channel.ts";
import {
  clientHandshake,
  PROLOGUE_BYTES,
  serverHandshake,
} from "../../lib/aes/channel/handshake.ts";
import { ReceiveFolder } from "../../lib/aes/transfer/receive_folder.ts";
import { ByteBudget } from "../../lib/base/byte_budget.ts";
import type { ReceivedFile } from "../../lib/aes/transfer/receive.ts";
import { FileSender } from "../../lib/aes/transfer/send_files.ts";
import type { SendEvents, SentFile } from "../../lib/aes/transfer/send_run.ts";
import { sendAll, serveConnection } from "../../lib/aes/transfer/transfer.ts";
import { walkFiles } from "../../lib/aes/transfer/walk_files.ts";
import { isSealwireError, type SealwireError } from "../../lib/base/errors.ts";
import { type Connection, connectTcp, listenTcp } from "../../lib/net/net.ts";

export const PSK = new Uint8Array(Buffer.from("sealwire test key, of 32 bytes..", "latin1"));
export const TEST_STALL_MS = 3_000;
export const HOST = "127.0.0.1";

/** A server in this process, and all that it was given. */
export interface TestServer {
  readonly port: number;
  readonly folder: ReceiveFolder;
  readonly messages: string[];
  readonly files: ReceivedFile[];
  /** How each connection ended, in order: null where it was served to its end. */
  readonly endings: (SealwireError | null)[];
  /** Resolves when so many connections have ended. */
  ended(count: number): Promise<void>;
  close(): Promise<void>;
}

export async function startServer(
  options: { out: string; psk?: Uint8Array; stall_ms?: number },
): Promise<TestServer> {
  const folder = ReceiveFolder.open(options.out);
  const budget = new ByteBudget(256 * 1024 * 1024);
  const messages: string[] = [];
  const files: ReceivedFile[] = [];
  const endings: (SealwireError | null)[] = [];
  const waiting: (() => void)[] = [];
  const serve = async (connection: Connection) => {
    let ending: unknown = null;
    const bytes = budget.open(() => connection.destroy());
    try {
      await serveConnection(connection, {
        psk: options.psk ?? PSK,
        stall_ms: options.stall_ms ?? TEST_STALL_MS,
        folder,
        bytes,
        onMessage: (message) => messages.push(new TextDecoder().decode(message)),
        onFile: (file) => files.push(file),
        onPairing: () => Promise.reject(new Error("no pairing here")),
      });
    } catch (error) {
      ending = error;
    }
    endings.push(ending as SealwireError | null);
    for (const resolve of waiting.splice(0)) resolve();
  };
  const listener = await listenTcp({ host: HOST, port: 0 }, serve);
  return {
    port: listener.port,
    folder,
    messages,
    files,
    endings,
    async ended(count) {
      while (endings.length < count) await new Promise<void>((resolve) => waiting.push(resolve));
    },
    async close() {
      await listener.close();
      folder.close();
    },
  };
}

/** A channel to speak frames over by hand. */
export async function openRawChannel(port: number): Promise<Channel> {
  const connection = await connectTcp({ host: HOST, port, timeout_ms: 5_000 });
  const handshaken = await clientHandshake(connection, PSK);
  return new Channel(handshaken, { stall_ms: TEST_STALL_MS });
}

/** Each of `misdeeds`, over a connection of its own, breaks the protocol and ends its connection. */
export async function assertEndsEach(
  server: TestServer,
  misdeeds: readonly ((channel: Channel) => unknown)[],
): Promise<void> {
  for (const [index, misdeed] of misdeeds.entries()) {
    const channel = await openRawChannel(server.port);
    misdeed(channel);
    await server.ended(index + 1);
    assert.equal(server.endings[index]?.code, "protocol_error", `misdeed ${index}`);
    channel.destroy(server.endings[index]!);
  }
}

/** A server that speaks frames by hand with the first client that comes. */
export async function startRawServer(): Promise<
  { port: number; channel: Promise<Channel>; close(): Promise<void> }
> {
  const { promise, resolve, reject } = Promise.withResolvers<Channel>();
  const listener = await listenTcp({ host: HOST, port: 0 }, async (connection) => {
    try {
      const reader = new ByteReader(connection);
      await reader.read(PROLOGUE_BYTES);
      const handshaken = await serverHandshake(connection, reader, PSK);
      resolve(new Channel(handshaken, { stall_ms: TEST_STALL_MS }));
    } catch (error) {
      reject(error);
    }
  });
  return { port: listener.port, channel: promise, close: () => listener.close() };
}

/** What a client did. */
export interface ClientOutcome {
  readonly sent: SentFile[];
  readonly failed: { name: string; code: string }[];
  /** That of the error it stopped with; null where it came to its end. */
  readonly error: string | null;
  readonly reconnects: number;
}

/** Sends a message, files, or both, as the tool does. */
export async function runClient(
  port: number,
  sending: { message?: string; paths?: string[]; onProgress?: SendEvents["onProgress"] },
  options: { psk?: Uint8Array; stall_ms?: number; interrupted?: AbortSignal } = {},
): Promise<ClientOutcome> {
  const sent: SentFile[] = [];
  const failed: { name: string; code: string }[] = [];
  let reconnects = 0;
  const events: SendEvents = {
    onSent: (file) => sent.push(file),
    onFailed: ({ name }, { code }) => failed.push({ name, code }),
    onProgress: sending.onProgress ?? (() => {}),
    onChecking: () => {},
  };
  const skipped = (name: string, { code }: SealwireError) => failed.push({ name, code });
  const files = sending.paths && new FileSender(walkFiles(sending.paths, skipped), events, 1);
  try {
    await sendAll({
      host: HOST,
      port,
      psk: options.psk ?? PSK,
      stall_ms: options.stall_ms ?? TEST_STALL_MS,
      interrupted: options.interrupted ?? new AbortController().signal,
    }, {
      message: sending.message === undefined ? null : new TextEncoder().encode(sending.message),
      files: files ?? null,
      onMessageSent: () => {},
      onReconnect: () => reconnects++,
    });
    return { sent, failed, error: null, reconnects };
  } catch (error) {
    if (!isSealwireError(error)) throw error;
    return { sent, failed, error: error.code, reconnects };
  }
}

/** A proxy between client and server that lets `change` rewrite what goes past. */
export interface Proxy {
  readonly port: number;
  close(): Promise<void>;
}

export type Direction = "to_server" | "to_client";

/**
 * `change` gets the bytes and where the first of them stands in its direction, and gives what goes
 * on.
 */
export async function startProxy(
  server_port: number,
  change: (bytes: Uint8Array, direction: Direction, offset_bytes: number) => Uint8Array,
): Promise<Proxy> {
  const listener = await listenTcp({ host: HOST, port: 0 }, async (client) => {
    const server = await connectTcp({ host: HOST, port: server_port, timeout_ms: 5_000 });
    pass(client, server, (bytes, offset) => change(bytes, "to_server", offset));
    pass(server, client, (bytes, offset) => change(bytes, "to_client", offset));
  });
  return { port: listener.port, close: () => listener.close() };
}

async function pass(
  from: Connection,
  to: Connection,
  change: (bytes: Uint8Array, offset_bytes: number) => Uint8Array,
): Promise<void> {
  let offset_bytes = 0;
  try {
    for (let bytes = await from.read(); bytes; bytes = await from.read()) {
      const changed = change(Uint8Array.from(bytes), offset_bytes);
      offset_bytes += bytes.length;
      if (changed.length > 0) await to.write(changed);
    }
    await to.end();
  } catch {
    from.destroy();
    to.destroy();
  }
}
