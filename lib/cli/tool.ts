/**
 * What the four tools share: arguments, `--help` and `--version`, results on standard output, everything else on
 * standard error, exit statuses, Ctrl-C, and the progress bar.
 */
import { readFileSync, writeSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import type { ParseArgsConfig } from "node:util";
import {
  EXIT_FAILED,
  EXIT_INTERRUPTED,
  exitStatus,
  internalError,
  isSealwireError,
  SealwireError,
  systemErrorCode,
} from "../base/errors.ts";
import { formatBytes, formatDuration, printable, printableJson } from "../base/text.ts";
import packageJson from "../../package.json" with { type: "json" };

export const VERSION: string = packageJson.version;

type Options = NonNullable<ParseArgsConfig["options"]>;
type ParsedValue<Config> = Config extends { multiple: true } ? string[]
  : Config extends { type: "boolean" } ? boolean
  : string;
type ParsedValues<O extends Options> = { [Name in keyof O]?: ParsedValue<O[Name]> };

/** Why the signal of an {@linkcode Invocation} is aborted. */
const INTERRUPTED = new SealwireError("interrupted", "interrupted");

/** Options that every tool takes. */
const COMMON_OPTIONS = {
  help: { type: "boolean", short: "h" },
  version: { type: "boolean" },
  json: { type: "boolean" },
  quiet: { type: "boolean", short: "q" },
} as const satisfies Options;

/** One run of a tool: its parsed command line, where results go, and the signal that a person wants it to stop. */
export interface Invocation<O extends Options> {
  positionals: string[];
  values: ParsedValues<O & typeof COMMON_OPTIONS>;
  out: Output;
  /** Aborted at the first Ctrl-C or SIGTERM. */
  interrupted: AbortSignal;
}

export interface Tool<O extends Options> {
  /** As it is called: `server.ts`. */
  name: string;
  /** The whole text that `--help` prints. */
  help: string;
  options: O;
  /** Exit status after Ctrl-C or SIGTERM: 0 for a server, whose end that is; 130 for what was cut short. */
  exitOnInterrupt: 0 | typeof EXIT_INTERRUPTED;
  run(invocation: Invocation<O>): Promise<void>;
}

/** Results of one run. Text from others must pass through {@linkcode printable} before it comes here. */
export class Output {
  constructor(
    readonly json: boolean,
    private readonly quiet: boolean,
    /** Standard error is a terminal and `NO_COLOR` is unset: colour and bars are welcome. */
    readonly lively: boolean,
  ) {}

  /** One result on standard output: the object as a line of JSON under `--json`, else the text. */
  result(object: object, text: string): void {
    write(1, (this.json ? printableJson(object) : text) + "\n");
  }

  /** A remark on standard error; silent under `--quiet`. */
  note(text: string): void {
    if (!this.quiet) write(2, text + "\n");
  }

  /** A warning on standard error, `--quiet` or not. */
  warn(text: string): void {
    write(2, this.paint("33", "warning: ") + text + "\n");
  }

  /** The error a tool stops with: a sentence on standard error, and under `--json` an object on standard output. */
  failure(error: unknown): void {
    const { code, message, details } = isSealwireError(error) ? error : internalError(error);
    if (this.json) write(1, printableJson({ error: { code, message }, ...details }) + "\n");
    // Whoever pressed Ctrl-C knows it.
    if (message === INTERRUPTED.message) return;
    write(2, this.paint("31", "error: ") + printable(message) + "\n");
  }

  /** A bar with rate and time left, for work of `totalBytes`; draws on a terminal only. */
  progress(label: string, totalBytes: number, unit: "bytes" | "entries" = "bytes"): Progress {
    return new Progress(label, totalBytes, unit, this.lively && !this.quiet);
  }

  private paint(sgr: string, text: string): string {
    return this.lively ? `\x1b[${sgr}m${text}\x1b[0m` : text;
  }
}

const PROGRESS_INTERVAL_MS = 100;
const PROGRESS_BAR_COLUMNS = 24;

/** A progress bar. `skip` counts what was there already, so that the rate tells what is done now. */
export class Progress {
  private done = 0;
  private skipped = 0;
  private drawn_at_ms = 0;
  private readonly started_at_ms = performance.now();

  constructor(
    private readonly label: string,
    private total: number,
    private readonly unit: "bytes" | "entries",
    private readonly visible: boolean,
  ) {}

  add(count: number): void {
    this.done += count;
    this.draw(false);
  }

  skip(count: number): void {
    this.skipped += count;
    this.draw(false);
  }

  /** Draws the last state and leaves the line, or wipes it when `wipe` is set. */
  finish(options: { wipe?: boolean } = {}): void {
    if (!this.visible) return;
    if (options.wipe) return write(2, "\r\x1b[K");
    this.draw(true);
    write(2, "\n");
  }

  private draw(force: boolean): void {
    const now_ms = performance.now();
    if (!this.visible || (!force && now_ms - this.drawn_at_ms < PROGRESS_INTERVAL_MS)) return;
    this.drawn_at_ms = now_ms;
    const elapsed_s = Math.max((now_ms - this.started_at_ms) / 1000, 0.001);
    const at = this.done + this.skipped;
    const share = this.total > 0 ? Math.min(at / this.total, 1) : 1;
    const rate = this.done / elapsed_s;
    const left_s = rate > 0 ? (this.total - at) / rate : 0;
    const filled = Math.round(share * PROGRESS_BAR_COLUMNS);
    const bar = "#".repeat(filled) + "-".repeat(PROGRESS_BAR_COLUMNS - filled);
    const percent = String(Math.floor(share * 100)).padStart(3);
    const amount = this.unit === "bytes"
      ? `${formatBytes(rate)}/s`
      : `${Math.round(rate)} ${this.unit}/s`;
    write(2, `\r\x1b[K${this.label} [${bar}] ${percent}% ${amount} ${formatDuration(left_s)} left`);
  }
}

/** A whole number from `min` to `max`, or a `usage` error that names the argument. */
export function parseInteger(argument: string, text: string, min: number, max: number): number {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : NaN;
  if (value >= min && value <= max) return value;
  throw usageError(`${argument} takes a whole number from ${min} to ${max}, not "${text}"`);
}

/** A TCP port to listen on; 0 lets the system choose. */
export function parsePort(argument: string, text: string, min = 0): number {
  return parseInteger(argument, text, min, 65535);
}

const TIMEOUT_S_MAX = 86_400;

/** `--timeout SECONDS` in milliseconds, or the default. */
export function parseTimeoutMs(text: string | undefined, default_ms: number): number {
  return text === undefined ? default_ms : parseInteger("--timeout", text, 1, TIMEOUT_S_MAX) * 1000;
}

export function usageError(message: string): SealwireError {
  return new SealwireError("usage", message);
}

/**
 * Asks one question and takes a line of standard input as the answer; null when it ends before. A terminal keeps its own
 * line editing, so that Ctrl-C interrupts.
 *
 * @throws the signal's reason when it is aborted meanwhile.
 */
export async function askLine(question: string, interrupted: AbortSignal): Promise<string | null> {
  write(2, question);
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

/** Runs a tool to its end and exits the process with its status. */
export async function runTool<const O extends Options>(tool: Tool<O>): Promise<never> {
  const args = process.argv.slice(2);
  const terminal = Boolean(process.stderr.isTTY) && !process.env.NO_COLOR;
  const flagged = (flag: string) => args.includes(flag);
  const out = new Output(flagged("--json"), flagged("--quiet") || flagged("-q"), terminal);
  const interruption = new AbortController();
  const interrupt = () => interruption.abort(INTERRUPTED);
  process.on("SIGINT", interrupt);
  process.on("SIGTERM", interrupt);
  // A reader that has gone (`| head`) is no fault of ours.
  process.stdout.on("error", () => process.exit(EXIT_FAILED));
  try {
    const { positionals, values } = parseCommandLine(tool, args);
    if (values.help) out.result({ help: tool.help }, tool.help.trim());
    else if (values.version) out.result({ version: VERSION }, `${tool.name} ${VERSION}`);
    else await tool.run({ positionals, values, out, interrupted: interruption.signal });
    return process.exit(interruption.signal.aborted ? tool.exitOnInterrupt : 0);
  } catch (error) {
    if (interruption.signal.aborted && tool.exitOnInterrupt === 0) return process.exit(0);
    if (isSealwireError(error, "usage")) error.message += ` (see ${tool.name} --help)`;
    out.failure(error);
    return process.exit(exitStatus(error));
  }
}

function parseCommandLine<O extends Options>(tool: Tool<O>, args: string[]) {
  try {
    const options = { ...tool.options, ...COMMON_OPTIONS };
    const { positionals, values } = parseArgs({ args, options, allowPositionals: true });
    return { positionals, values: values as ParsedValues<O & typeof COMMON_OPTIONS> };
  } catch (error) {
    throw usageError(internalError(error).message.split(". To specify")[0]!);
  }
}

/** Writes all of `text`, synchronously, so that nothing is lost when the process exits right after. */
function write(fd: 1 | 2, text: string): void {
  let bytes: Uint8Array = new TextEncoder().encode(text);
  while (bytes.length > 0) {
    try {
      bytes = bytes.subarray(writeSync(fd, bytes));
    } catch (error) {
      const code = systemErrorCode(error);
      if (code === "EAGAIN") continue;
      if (code === "EPIPE" || code === "EBADF") return process.exit(EXIT_FAILED);
      throw error;
    }
  }
}

/** Reads a text file that an argument names, or a `usage` error that says why not. */
export function readArgumentFile(argument: string, path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new SealwireError("file_unreadable", `${argument}: cannot read ${path}`, {
      cause: error,
    });
  }
}
