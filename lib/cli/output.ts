/**
 * What a tool prints: results on standard output, everything else on standard error.
 *
 * Text from others must pass through {@linkcode printable} before it comes here.
 */
import { toSealwireError } from "../base/errors.ts";
import { printable, printableJson } from "../base/text.ts";
import { COLUMNS_DEFAULT, columnsOf, wrapped } from "./columns.ts";
import { Progress, type ProgressUnit } from "./progress.ts";
import { writeError, writeLastOutput, writeOutput } from "./streams.ts";

export interface OutputOptions {
  /** Results are JSON, one object a line. */
  readonly json: boolean;
  /** Remarks and bars are left out. */
  readonly quiet: boolean;
  /** Results go to standard error too, because standard output is for something else. */
  readonly resultsAside?: boolean;
  /** Standard error is a terminal and `NO_COLOR` is unset: colour and bars are welcome. */
  readonly lively: boolean;
}

export class Output {
  readonly json: boolean;
  readonly lively: boolean;
  readonly quiet: boolean;

  /** Bars that may be on the screen. Whatever else is printed takes them off first. */
  private readonly bars = new Set<Progress>();

  constructor(private readonly options: OutputOptions) {
    this.json = options.json;
    this.quiet = options.quiet;
    this.lively = options.lively;
  }

  /** The same, but for its results, which go to standard error. */
  aside(): Output {
    return new Output({ ...this.options, resultsAside: true });
  }

  /** One result on standard output: the object as a line of JSON under `--json`, else the text. */
  result(object: object, text: string): void {
    this.hideBars();
    const line = (this.json ? printableJson(object) : text) + "\n";
    if (this.options.resultsAside) writeError(line);
    else writeOutput(line);
  }

  /** A remark on standard error; silent under `--quiet`. */
  note(text: string): void {
    if (!this.quiet) this.writeError(text + "\n");
  }

  /** Lines on standard error that a question refers to; `--quiet` or not. */
  block(lines: readonly string[]): void {
    this.writeError(this.wrap(lines) + "\n");
  }

  /** A block that nobody overlooks. */
  alarm(lines: readonly string[]): void {
    const line = this.paint("31", "!".repeat(this.columns - 1));
    this.writeError(`\n${line}\n${this.wrap(lines)}\n${line}\n\n`);
  }

  private get columns(): number {
    return Math.min(columnsOf(), COLUMNS_DEFAULT);
  }

  /** An indented line stays whole: it is a command or a fingerprint to copy. */
  private wrap(lines: readonly string[]): string {
    return lines.map((line) =>
      line.startsWith(" ") ? printable(line) : wrapped(printable(line), this.columns)
    ).join("\n");
  }

  /** A warning on standard error, `--quiet` or not. */
  warn(text: string): void {
    this.writeError(this.paint("33", "warning: ") + text + "\n");
  }

  /**
   * The error a command stops with: a sentence on standard error, and under `--json` an object on
   * standard output. An interruption has no sentence, because the person who caused it knows.
   */
  failure(error: unknown): void {
    const { code, message, details } = toSealwireError(error);
    this.hideBars();
    // The error last: details, which a peer may have sent, must not take its place.
    const object = { ...details, error: { code, message } };
    if (this.json) writeLastOutput(printableJson(object) + "\n");
    if (message !== "interrupted") {
      this.writeError(this.paint("31", "error: ") + printable(message) + "\n");
    }
  }

  /** A bar with rate and time left, for work of `total` units. It draws on a terminal only. */
  progress(label: string, total: number, unit: ProgressUnit = "bytes"): Progress {
    const bar = new Progress(label, total, unit, this.lively && !this.quiet);
    this.bars.add(bar);
    return bar;
  }

  private writeError(text: string): void {
    this.hideBars();
    writeError(text);
  }

  private hideBars(): void {
    for (const bar of this.bars) bar.hide();
  }

  private paint(sgr: string, text: string): string {
    return this.lively ? `\x1b[${sgr}m${text}\x1b[0m` : text;
  }
}
