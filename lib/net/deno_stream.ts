/** A {@linkcode Connection} over a TCP connection that Deno accepted. */
import { type Connection, connectionLost, END_TIMEOUT_MS, plainHost } from "./connection.ts";

/**
 * Bounds of the read buffer. It grows with the traffic, because every connection holds one while it
 * is idle.
 */
const READ_BYTES_MIN = 4 * 1024;
const READ_BYTES_MAX = 256 * 1024;

export class DenoConnection implements Connection {
  readonly remoteHost: string;
  readonly remotePort: number;
  readonly localHost: string;
  readonly alpn = null;
  unsent_bytes = 0;
  private read_bytes = READ_BYTES_MIN;
  private buffer: Uint8Array<ArrayBuffer> | null = null;
  private failure: Error | null = null;
  private ended: Promise<void> | null = null;
  private lastRead: Promise<unknown> = Promise.resolve();
  private lastWrite: Promise<void> = Promise.resolve();

  constructor(private readonly conn: Deno.TcpConn, private readonly onClosed: () => void) {
    const { hostname, port } = conn.remoteAddr;
    this.remoteHost = plainHost(hostname);
    this.remotePort = port;
    this.localHost = plainHost(conn.localAddr.hostname);
  }

  read(): Promise<Uint8Array | null> {
    if (this.ended) return this.ended.then(() => null);
    const bytes = this.nextBytes();
    this.lastRead = bytes.catch(() => {});
    return bytes;
  }

  write(bytes: Uint8Array): Promise<void> {
    if (this.failure || this.ended) {
      const refused = Promise.reject(this.failure ?? connectionLost());
      refused.catch(() => {});
      return refused;
    }
    this.unsent_bytes += bytes.length;
    const written = this.lastWrite.then(() => this.writeAll(bytes));
    this.lastWrite = written.catch(() => {});
    return written;
  }

  end(): Promise<void> {
    this.ended ??= this.finish();
    return this.ended;
  }

  destroy(): void {
    this.fail();
  }

  /** Reads once. After this side has ended the stream, drops all bytes up to the peer's end. */
  private async nextBytes(): Promise<Uint8Array | null> {
    while (true) {
      if (this.failure) throw this.failure;
      const buffer = this.buffer ?? new Uint8Array(this.read_bytes);
      this.buffer = null;
      let size_bytes;
      try {
        size_bytes = await this.conn.read(buffer);
      } catch (error) {
        if (this.ended) return null;
        throw this.fail(error);
      }
      if (size_bytes === null) return null;
      if (!this.ended) return this.take(buffer, size_bytes);
    }
  }

  /** Hands a well-filled buffer over. Copies a few bytes out of it, and uses the buffer again. */
  private take(buffer: Uint8Array<ArrayBuffer>, size_bytes: number): Uint8Array {
    const full = size_bytes === buffer.length;
    if (full) this.read_bytes = Math.min(this.read_bytes * 2, READ_BYTES_MAX);
    else if (size_bytes < buffer.length / 4) {
      this.read_bytes = Math.max(this.read_bytes / 2, READ_BYTES_MIN);
    }
    if (size_bytes > buffer.length / 2) return buffer.subarray(0, size_bytes);
    if (buffer.length === this.read_bytes) this.buffer = buffer;
    return buffer.slice(0, size_bytes);
  }

  private async writeAll(bytes: Uint8Array): Promise<void> {
    for (let rest = bytes; rest.length > 0;) {
      if (this.failure) throw this.failure;
      let size_bytes;
      try {
        size_bytes = await this.conn.write(rest);
      } catch (error) {
        throw this.fail(error);
      }
      this.unsent_bytes -= size_bytes;
      rest = rest.subarray(size_bytes);
    }
  }

  private async finish(): Promise<void> {
    const timer = setTimeout(() => this.destroy(), END_TIMEOUT_MS);
    try {
      await this.lastWrite;
      if (!this.failure) await this.conn.closeWrite();
      await this.lastRead;
      await this.nextBytes();
    } catch (error) {
      // The peer closed first, or the time is over. The connection has ended either way.
      this.fail(error);
    }
    clearTimeout(timer);
    this.destroy();
  }

  private fail(cause?: unknown): Error {
    if (this.failure) return this.failure;
    this.failure = connectionLost(cause);
    this.unsent_bytes = 0;
    this.conn.close();
    this.onClosed();
    return this.failure;
  }
}
