/**
 * What a tool prints: results on standard output, everything else on standard error.
 *
 * Text from others must pass through {@linkcode printable} before it comes here.
 */
import { internalError, isSealwireError } from "../base/errors.ts";
import { printable, printableJson } from "../base/text.ts";
import { Progress, type ProgressUnit } from "./progress.ts";
import { writeError, writeLastOutput, writeOutput } from "./streams.ts";

export interface OutputOptions {
  /** Results are JSON, one object a line. */
  readonly json: boolean;
  /** Remarks and bars are left out. */
  readonly quiet: boolean;
  /** Standard error is a terminal and `NO_COLOR` is unset: colour and bars are welcome. */
  readonly lively: boolean;
}

export class Output {
  readonly json: boolean;
  readonly lively: boolean;
  readonly quiet: boolean;

  constructor(options: OutputOptions) {
    this.json = options.json;
    this.quiet = options.quiet;
    this.lively = options.lively;
  }

  /** One result on standard output: the object as a line of JSON under `--json`, else the text. */
  result(object: object, text: string): void {
    writeOutput((this.json ? printableJson(object) : text) + "\n");
  }

  /** A remark on standard error; silent under `--quiet`. */
  note(text: string): void {
    if (!this.quiet) writeError(text + "\n");
  }

  /** A warning on standard error, `--quiet` or not. */
  warn(text: string): void {
    writeError(this.paint("33", "warning: ") + text + "\n");
  }

  /**
   * The error a command stops with: a sentence on standard error, and under `--json` an object on
   * standard output. An interruption has no sentence, because the person who caused it knows.
   */
  failure(error: unknown): void {
    const { code, message, details } = isSealwireError(error) ? error : internalError(error);
    // The error last: details, which a peer may have sent, must not take its place.
    const object = { ...details, error: { code, message } };
    if (this.json) writeLastOutput(printableJson(object) + "\n");
    if (message !== "interrupted") {
      writeError(this.paint("31", "error: ") + printable(message) + "\n");
    }
  }

  /** A bar with rate and time left, for work of `total` units. It draws on a terminal only. */
  progress(label: string, total: number, unit: ProgressUnit = "bytes"): Progress {
    return new Progress(label, total, unit, this.lively && !this.quiet);
  }

  private paint(sgr: string, text: string): string {
    return this.lively ? `\x1b[${sgr}m${text}\x1b[0m` : text;
  }
}
