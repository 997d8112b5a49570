/**
 * The AES pair's classic protocol. The client connects over plain TCP, sends one AES-128-CBC
 * ciphertext under the key and IV of `aes_key.bin`, and closes. The end of the stream is the end of
 * the message.
 *
 * Nobody acknowledges anything, and nothing shows whether the ciphertext was changed, cut at a
 * block, or sent before. The channel exists for that.
 */
import { type AesKey, decryptAES, encryptAES } from "../aes_utils.ts";
import { PROLOGUE, PROLOGUE_BYTES, withTimeout } from "./channel/handshake.ts";
import { PAIRING_PROLOGUE } from "./pairing/pairing.ts";
import { checkMessageSize, MESSAGE_BYTES_MAX, serverBusy } from "./transfer/receive_message.ts";
import { CONNECT_TIMEOUT_MS, unlessInterrupted } from "./transfer/transfer.ts";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { ByteAccount } from "../base/byte_budget.ts";
import { type Connection, connectTcp } from "../net/net.ts";

const BLOCK_BYTES = 16;
/** The ciphertext of the longest message. Padding adds up to a block. */
const CIPHERTEXT_BYTES_MAX = MESSAGE_BYTES_MAX + BLOCK_BYTES;
/** The C++ server reads one buffer of 1,024 bytes of ciphertext, the last 16 being padding. */
export const CLASSIC_MESSAGE_BYTES_MAX = 1_008;
const BUFFER_BYTES_MIN = 4 * 1024;

export interface ReceiveClassicOptions {
  readonly aesKey: AesKey;
  /** How long the connection may be silent before its end. */
  readonly stall_ms: number;
  /** What the connection holds of the server's budget. It gives way first, as it proves nothing. */
  readonly bytes: ByteAccount;
}

/**
 * Receives the message of a classic client, and destroys the connection. Where the first 8 bytes
 * are those of a channel or a pairing, returns the connection as it was before they were read.
 *
 * @throws {SealwireError} `decrypt_failed`, also for an empty stream or an incomplete block;
 * `message_too_long`, `server_busy`, `timeout`, `connection_lost`. The connection is destroyed
 * then.
 */
export async function receiveClassicMessage(
  connection: Connection,
  options: ReceiveClassicOptions,
): Promise<Uint8Array | Connection> {
  const incoming = new Ciphertext(options.bytes);
  let kept = false;
  try {
    while (true) {
      const bytes = await readInTime(connection, options.stall_ms);
      if (bytes === null) break;
      incoming.add(bytes);
      if (startsChannel(incoming.bytes) && incoming.bytes.length >= PROLOGUE_BYTES) {
        kept = true;
        return new RewoundConnection(connection, incoming.bytes.slice());
      }
    }
    // Closed before the ciphertext is read: when it closes must not tell a valid padding from an
    // invalid one (Vaudenay, "Security Flaws Induced by CBC Padding", 2002).
    connection.destroy();
    await nextTurn();
    const { key, iv } = options.aesKey;
    return decryptAES(incoming.bytes, key, iv);
  } finally {
    incoming.drop();
    if (!kept) connection.destroy();
  }
}

/** Whether these bytes, as far as they go, are the beginning of a channel or a pairing. */
function startsChannel(bytes: Uint8Array): boolean {
  return [PROLOGUE, PAIRING_PROLOGUE].some((prologue) =>
    prologue.every((byte, index) => index >= bytes.length || bytes[index] === byte)
  );
}

function readInTime(connection: Connection, stall_ms: number): Promise<Uint8Array | null> {
  const message = `nothing more came for ${stall_ms / 1000} s, and no end`;
  return withTimeout(connection, { timeout_ms: stall_ms, message }, () => connection.read());
}

/** The ciphertext so far, in one buffer, even where it arrives in tiny pieces. */
class Ciphertext {
  private buffer = new Uint8Array(0);
  private size_bytes = 0;

  constructor(private readonly account: ByteAccount) {}

  get bytes(): Uint8Array {
    return this.buffer.subarray(0, this.size_bytes);
  }

  /** Throws `message_too_long`, `server_busy`. */
  add(bytes: Uint8Array): void {
    const size_bytes = this.size_bytes + bytes.length;
    if (size_bytes > CIPHERTEXT_BYTES_MAX) checkMessageSize(size_bytes);
    if (size_bytes > this.buffer.length) this.grow(size_bytes);
    this.buffer.set(bytes, this.size_bytes);
    this.size_bytes = size_bytes;
  }

  drop(): void {
    this.account.hold(0);
    this.buffer = new Uint8Array(0);
    this.size_bytes = 0;
  }

  private grow(size_bytes: number): void {
    const doubled_bytes = Math.min(this.buffer.length * 2, CIPHERTEXT_BYTES_MAX);
    const capacity_bytes = Math.max(size_bytes, doubled_bytes, BUFFER_BYTES_MIN);
    if (!this.account.hold(capacity_bytes)) throw serverBusy();
    const buffer = new Uint8Array(capacity_bytes);
    buffer.set(this.bytes);
    this.buffer = buffer;
  }
}

/** A connection whose first bytes were read and will be read again. */
class RewoundConnection implements Connection {
  readonly remoteHost: string;
  readonly remotePort: number;
  readonly localHost: string;
  readonly alpn: string | null;

  constructor(private readonly connection: Connection, private start: Uint8Array | null) {
    this.remoteHost = connection.remoteHost;
    this.remotePort = connection.remotePort;
    this.localHost = connection.localHost;
    this.alpn = connection.alpn;
  }

  get unsent_bytes(): number {
    return this.connection.unsent_bytes;
  }

  read(): Promise<Uint8Array | null> {
    const { start } = this;
    this.start = null;
    return start === null ? this.connection.read() : Promise.resolve(start);
  }

  write(bytes: Uint8Array): Promise<void> {
    return this.connection.write(bytes);
  }

  end(): Promise<void> {
    return this.connection.end();
  }

  destroy(): void {
    this.connection.destroy();
  }
}

export interface SendClassicOptions {
  readonly host: string;
  readonly port: number;
  readonly aesKey: AesKey;
  readonly signal: AbortSignal;
}

/**
 * Sends one message. Resolves when the network has taken it. Nobody can know more than that.
 *
 * @throws {SealwireError} `message_too_long`, `no_connection`, `connection_lost`, `interrupted`.
 */
export async function sendClassicMessage(
  { host, port, aesKey: { key, iv }, signal }: SendClassicOptions,
  message: Uint8Array,
): Promise<void> {
  checkMessageSize(message.length);
  const timeout_ms = CONNECT_TIMEOUT_MS;
  const connection = await connectTcp({ host, port, timeout_ms, signal });
  await unlessInterrupted(signal, () => connection.destroy(), async () => {
    // Both at once, as the original does: its server must not be the first to close, which would
    // leave its port waiting.
    const written = connection.write(encryptAES(message, key, iv));
    const ended = connection.end();
    await Promise.all([written, ended]);
  });
}
