/** Reads lines from a person or a pipe: one answer, or a prompt that shows news meanwhile. */
import process from "node:process";
import { createInterface } from "node:readline";
import type { Interface } from "node:readline";
import { SealwireError } from "../base/errors.ts";
import { writeError } from "./streams.ts";

/** Lines of the history that Ctrl-R and the arrows reach. */
const HISTORY_LINES_MAX = 1_000;

export interface LinePromptOptions {
  /** Aborted when the process is to end. */
  readonly interrupted: AbortSignal;
  /** Lines of earlier runs, oldest first. */
  readonly history?: readonly string[];
  /** Candidates for the end of a line, and the part of the line that they complete. */
  readonly complete?: (line: string) => Promise<[candidates: string[], typed: string]>;
}

/** What `node:readline` has on every runtime and does not declare. */
interface ReadlineInternals {
  history: string[];
  /** Rows between the first row of the prompt and the cursor, as they were last drawn. */
  prevRows: number;
}

/**
 * A prompt with line editing, on a terminal. News appears above a half-typed line. Ctrl-C clears
 * the line, Ctrl-C on an empty line twice or Ctrl-D leaves, and Ctrl-R finds the last line that
 * contains what is typed, again the one before.
 */
export class LinePrompt {
  /** Whether a person is typing, rather than a pipe. */
  readonly isTerminal: boolean;
  private readonly reader: Interface;
  private readonly internals: ReadlineInternals;
  /** Lines that came before anyone asked. */
  private readonly lines: string[] = [];
  private waiting: ((line: string | null) => void) | null = null;
  private open = true;
  private wasInterrupted = false;
  /** Ctrl-C was pressed where there was nothing to clear. */
  private isLeaving = false;
  /** A question is open, rather than the prompt. */
  private isQuestion = false;
  private search: { query: string; at: number; shown: string } | null = null;

  constructor({ interrupted, history = [], complete }: LinePromptOptions) {
    this.isTerminal = isAtTerminal() && process.env.TERM !== "dumb";
    this.reader = createInterface({
      input: process.stdin,
      output: process.stderr,
      terminal: this.isTerminal,
      historySize: HISTORY_LINES_MAX,
      history: [...history].reverse(),
      removeHistoryDuplicates: true,
      ...(complete && this.isTerminal && {
        completer: (
          line: string,
          callback: (error: Error | null, result: [string[], string]) => void,
        ) => {
          const nothing: [string[], string] = [[], line];
          const found = this.isQuestion ? Promise.resolve(nothing) : complete(line);
          found.then((result) => callback(null, result), () => callback(null, nothing));
        },
      }),
    });
    this.internals = this.reader as unknown as ReadlineInternals;
    this.reader.on("line", (line) => this.take(line));
    this.reader.on("close", () => {
      this.open = false;
      this.waiting?.(null);
    });
    this.reader.on("SIGINT", () => this.pressedInterrupt());
    interrupted.addEventListener("abort", () => this.interrupt(), { once: true });
    if (this.isTerminal) {
      process.stdin.on("keypress", (_text, key: { ctrl?: boolean; name?: string } | undefined) => {
        if (key?.ctrl && key.name === "r") this.searchBack();
      });
    }
  }

  /**
   * The next line, trimmed; null at the end of the input.
   *
   * @throws {SealwireError} `interrupted` after Ctrl-C.
   */
  async read(prompt: string): Promise<string | null> {
    const line = await this.next(prompt);
    if (line === null && this.isTerminal) writeError("\n");
    return line;
  }

  /** The answer to a question, which the history does not keep; null for none, and after Ctrl-C. */
  async ask(question: string): Promise<string | null> {
    this.isQuestion = true;
    const { history } = this.internals;
    const kept = history === undefined ? [] : [...history];
    try {
      return await this.next(question);
    } finally {
      this.isQuestion = false;
      history?.splice(0, history.length, ...kept);
    }
  }

  /**
   * Runs `print`, which writes whole lines, above the line that is being typed. `prompt`: a new
   * one.
   */
  aside(print: () => void, prompt?: () => string): void {
    if (this.waiting === null || !this.open || !this.isTerminal) return print();
    const { rows } = this.reader.getCursorPos();
    writeError(`${rows > 0 ? `\x1b[${rows}A` : ""}\r\x1b[J`);
    print();
    if (prompt !== undefined && !this.isQuestion) this.reader.setPrompt(prompt());
    // Nothing of the old line is left to go back over.
    this.internals.prevRows = 0;
    this.reader.prompt(true);
  }

  close(): void {
    this.reader.close();
  }

  private async next(prompt: string): Promise<string | null> {
    this.search = null;
    const line = this.lines.shift() ?? await this.wait(prompt);
    if (this.wasInterrupted) throw new SealwireError("interrupted", "interrupted");
    return line?.trim() ?? null;
  }

  private wait(prompt: string): Promise<string | null> {
    if (!this.open) return Promise.resolve(null);
    this.reader.setPrompt(prompt);
    if (process.stdin.isTTY) this.reader.prompt();
    return new Promise((resolve) => {
      this.waiting = (line) => {
        this.waiting = null;
        resolve(line);
      };
    });
  }

  private take(line: string): void {
    this.isLeaving = false;
    if (this.waiting === null) this.lines.push(line);
    else this.waiting(line);
  }

  private pressedInterrupt(): void {
    if (this.isQuestion && this.waiting !== null) {
      this.clearLine();
      writeError("\n");
      return this.waiting(null);
    }
    const isTyped = this.waiting !== null && this.reader.line !== "";
    if (!isTyped && this.isLeaving) return this.interrupt();
    this.isLeaving = !isTyped;
    const hint = isTyped ? "^C" : "Ctrl-C again or Ctrl-D leaves.";
    if (this.waiting === null) return writeError(`${hint}\n`);
    this.clearLine();
    this.aside(() => writeError(`${hint}\n`));
  }

  private clearLine(): void {
    this.reader.write(null, { ctrl: true, name: "e" });
    this.reader.write(null, { ctrl: true, name: "u" });
  }

  /** Shows the newest line of the history that contains what is typed; again: an older one. */
  private searchBack(): void {
    if (this.waiting === null || this.isQuestion) return;
    const { line } = this.reader;
    const { query, at } = this.search?.shown === line ? this.search : { query: line, at: -1 };
    const { history } = this.internals;
    const found = history.findIndex((past, index) =>
      index > at && past.includes(query) && past !== line
    );
    if (found < 0) return;
    const shown = history[found]!;
    this.search = { query, at: found, shown };
    this.clearLine();
    this.reader.write(shown);
  }

  private interrupt(): void {
    if (this.waiting !== null && this.isTerminal) writeError("\n");
    this.wasInterrupted = true;
    this.reader.close();
    this.waiting?.(null);
  }
}

/** Whether a person is there to be asked. */
export function isAtTerminal(): boolean {
  return Boolean(process.stdin.isTTY && process.stderr.isTTY);
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
