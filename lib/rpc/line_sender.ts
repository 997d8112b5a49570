/**
 * Sends lines over a connection. All lines of one turn of the event loop, and all that come during
 * a write, go in one piece.
 */
import { Buffer } from "node:buffer";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Connection } from "../net/net.ts";

const encoder = new TextEncoder();

export class LineSender {
  private unsentLines = "";
  private unsentLines_bytes = 0;
  private flushing: Promise<void> | null = null;

  /** `onTaken` is called when less is unsent, `onFailure` with what ended the connection. */
  constructor(
    private readonly connection: Connection,
    private readonly onTaken: () => void,
    private readonly onFailure: (error: unknown) => void,
  ) {}

  /** The bytes that the system has not taken yet. */
  get unsent_bytes(): number {
    return this.unsentLines_bytes + this.connection.unsent_bytes;
  }

  /** Sends a line, which ends with a line feed. */
  send(line: string): void {
    this.unsentLines += line;
    this.unsentLines_bytes += Buffer.byteLength(line);
    this.flushing ??= this.flush();
  }

  /** Resolves when the system has taken all lines, or can take no more. */
  async flushed(): Promise<void> {
    await this.flushing;
  }

  private async flush(): Promise<void> {
    await nextTurn();
    try {
      while (this.unsentLines !== "") {
        const bytes = encoder.encode(this.unsentLines);
        this.unsentLines = "";
        this.unsentLines_bytes = 0;
        await this.connection.write(bytes);
        this.onTaken();
      }
      this.flushing = null;
    } catch (error) {
      this.onFailure(error);
    }
  }
}
