/** Reads lines from a person or a pipe: one answer, or a prompt that shows news meanwhile. */
import process from "node:process";
import { clearScreenDown, createInterface, cursorTo, moveCursor } from "node:readline";
import type { Interface } from "node:readline";
import { SealwireError } from "../base/errors.ts";
import { writeError } from "./streams.ts";

/** A prompt that shows what arrives meanwhile above a half-typed line. */
export class LinePrompt {
  private readonly reader: Interface;
  private readonly iterator: AsyncIterator<string>;
  private open = true;
  private wasInterrupted = false;
  /** Whether a line is being typed, with a prompt before it. */
  private waiting = false;

  constructor(interrupted: AbortSignal) {
    const terminal = Boolean(process.stdin.isTTY && process.stderr.isTTY);
    this.reader = createInterface({ input: process.stdin, output: process.stderr, terminal });
    this.iterator = this.reader[Symbol.asyncIterator]();
    // The end of piped input comes before its last lines are dealt with.
    this.reader.on("close", () => this.open = false);
    this.reader.on("SIGINT", () => this.interrupt());
    interrupted.addEventListener("abort", () => this.interrupt(), { once: true });
  }

  /**
   * The next line, trimmed; null at the end of the input.
   *
   * @throws {SealwireError} `interrupted` after Ctrl-C.
   */
  async ask(prompt: string): Promise<string | null> {
    this.reader.setPrompt(prompt);
    if (this.open) this.reader.prompt();
    this.waiting = this.open;
    const { value, done } = await this.iterator.next();
    this.waiting = false;
    if (this.wasInterrupted) throw new SealwireError("interrupted", "interrupted");
    if (done && this.reader.terminal) process.stderr.write("\n");
    return done ? null : value.trim();
  }

  /** Runs `print`, which writes whole lines, without spoiling the line that is being typed. */
  aside(print: () => void): void {
    if (!this.waiting || !this.open || !this.reader.terminal) return print();
    moveCursor(process.stderr, 0, -this.reader.getCursorPos().rows);
    cursorTo(process.stderr, 0);
    clearScreenDown(process.stderr);
    print();
    this.reader.prompt(true);
  }

  close(): void {
    this.reader.close();
  }

  private interrupt(): void {
    if (this.waiting && this.reader.terminal) process.stderr.write("\n");
    this.wasInterrupted = true;
    this.reader.close();
  }
}

/**
 * Asks one question and takes a line of standard input as the answer; null when it ends before. A
 * terminal keeps its own line editing, so that Ctrl-C interrupts.
 *
 * @throws the signal's reason when it is aborted meanwhile.
 */
export async function askLine(question: string, interrupted: AbortSignal): Promise<string | null> {
  writeError(question);
  const reader = createInterface({ input: process.stdin, terminal: false });
  try {
    return await new Promise((resolve, reject) => {
      reader.once("line", (line) => resolve(line.trim()));
      reader.once("close", () => resolve(null));
      interrupted.addEventListener("abort", () => reject(interrupted.reason), { once: true });
    });
  } finally {
    reader.close();
  }
}
