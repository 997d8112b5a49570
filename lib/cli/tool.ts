/** Runs a tool: reads its command line, runs it, and exits with its status. */
import process from "node:process";
import { parseArgs } from "node:util";
import type { ParseArgsConfig } from "node:util";
import { internalError, isSealwireError, SealwireError } from "../base/errors.ts";
import { usageError } from "./arguments.ts";
import { type EXIT_INTERRUPTED, exitStatus } from "./exit_status.ts";
import { Output } from "./output.ts";
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

/** Runs a tool to its end and exits the process with its status. */
export async function runTool<const O extends Options>(tool: Tool<O>): Promise<never> {
  const args = process.argv.slice(2);
  const terminal = Boolean(process.stderr.isTTY) && !process.env.NO_COLOR;
  const flagged = (flag: string) => args.includes(flag);
  const out = new Output({
    json: flagged("--json"),
    quiet: flagged("--quiet") || flagged("-q"),
    lively: terminal,
  });
  const interruption = new AbortController();
  const interrupt = () => interruption.abort(INTERRUPTED);
  process.on("SIGINT", interrupt);
  process.on("SIGTERM", interrupt);
  // The reader has left, as in `history | head`.
  process.stdout.on("error", () => process.exit(0));
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
