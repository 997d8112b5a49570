/** A {@linkcode Connection} over a socket of node:net or node:tls. */
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import {
  type Connection,
  connectionLost,
  END_TIMEOUT_MS,
  ON_DENO,
  plainHost,
} from "./connection.ts";

/** The socket is paused while more than this is waiting to be read. */
const READ_QUEUE_PAUSE_BYTES = 256 * 1024;
/**
 * node:tls on Deno reads on when it is paused. There, a connection with more than this waiting is
 * destroyed.
 */
const READ_QUEUE_BYTES_MAX = 2 * 1024 * 1024;
/** What each piece in the queue costs beside its bytes. It bounds a flood of tiny pieces. */
const READ_QUEUE_PIECE_BYTES = 256;

interface Settle<Value> {
  resolve: (value: Value) => void;
  reject: (error: Error) => void;
}

export class NodeConnection implements Connection {
  readonly remoteHost: string;
  readonly remotePort: number;
  readonly localHost: string;
  unsent_bytes = 0;
  private readonly heedsPause: boolean;
  private readonly queue: Uint8Array[] = [];
  private queued_bytes = 0;
  private peerEnded = false;
  private ending = false;
  private failure: Error | null = null;
  private reader: Settle<Uint8Array | null> | null = null;
  private readonly writers = new Set<Settle<void>>();
  private readonly closed: Promise<void>;

  constructor(private readonly socket: Socket, readonly alpn: string | null) {
    this.remoteHost = plainHost(socket.remoteAddress ?? "");
    this.remotePort = socket.remotePort ?? 0;
    this.localHost = plainHost(socket.localAddress ?? "");
    this.heedsPause = !(ON_DENO && socket instanceof TLSSocket);
    this.closed = new Promise((resolve) => {
      socket.once("close", () => {
        this.onClose();
        resolve();
      });
    });
    socket.setNoDelay(true);
    socket.on("error", (error) => this.failure ??= connectionLost(error));
    socket.on("end", () => this.onEnd());
    socket.on("data", (bytes: Uint8Array) => this.onData(bytes));
  }

  read(): Promise<Uint8Array | null> {
    const bytes = this.queue.shift();
    if (bytes) {
      this.queued_bytes -= bytes.length + READ_QUEUE_PIECE_BYTES;
      if (this.queued_bytes < READ_QUEUE_PAUSE_BYTES && this.socket.isPaused()) {
        this.socket.resume();
      }
      return Promise.resolve(bytes);
    }
    if (this.peerEnded) return Promise.resolve(null);
    if (this.failure) return Promise.reject(this.failure);
    return new Promise((resolve, reject) => this.reader = { resolve, reject });
  }

  write(bytes: Uint8Array): Promise<void> {
    const written = new Promise<void>((resolve, reject) => {
      if (this.failure || this.ending) return reject(this.failure ?? connectionLost());
      // The callback of an empty write never comes in Deno.
      if (bytes.length === 0) return resolve();
      const writer = { resolve, reject };
      this.writers.add(writer);
      this.unsent_bytes += bytes.length;
      this.socket.write(bytes, (error?: Error | null) => {
        if (!this.writers.delete(writer)) return;
        this.unsent_bytes -= bytes.length;
        if (error) reject(connectionLost(error));
        else resolve();
      });
    });
    // A caller that does not wait learns of a failure from `read`.
    written.catch(() => {});
    return written;
  }

  end(): Promise<void> {
    if (!this.ending && !this.failure) {
      this.ending = true;
      this.dropQueue();
      const timer = setTimeout(() => this.destroy(), END_TIMEOUT_MS);
      this.closed.finally(() => clearTimeout(timer));
      this.socket.resume();
      this.socket.end();
    }
    return this.closed;
  }

  destroy(): void {
    this.failure ??= connectionLost();
    this.socket.destroy();
    this.dropQueue();
    this.failPending(this.failure);
  }

  private onData(bytes: Uint8Array): void {
    if (this.ending || this.failure) return;
    // A Buffer's methods (such as `slice`) differ from those of the class that it extends.
    const chunk = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (this.reader) {
      const { resolve } = this.reader;
      this.reader = null;
      return resolve(chunk);
    }
    this.queue.push(chunk);
    this.queued_bytes += chunk.length + READ_QUEUE_PIECE_BYTES;
    if (this.heedsPause && this.queued_bytes >= READ_QUEUE_PAUSE_BYTES) this.socket.pause();
    else if (this.queued_bytes > READ_QUEUE_BYTES_MAX) this.destroy();
  }

  private onEnd(): void {
    this.peerEnded = true;
    this.reader?.resolve(null);
    this.reader = null;
  }

  private onClose(): void {
    if (this.ending) this.onEnd();
    this.failure ??= connectionLost();
    this.failPending(this.failure);
  }

  private failPending(failure: Error): void {
    this.unsent_bytes = 0;
    for (const writer of this.writers) writer.reject(failure);
    this.writers.clear();
    this.reader?.reject(failure);
    this.reader = null;
  }

  private dropQueue(): void {
    this.queue.length = 0;
    this.queued_bytes = 0;
  }
}
