/** Runs a tool: reads its command line, runs the command, and exits with its status. */
import { basename } from "node:path";
import process from "node:process";
import { isSealwireError, SealwireError } from "../base/errors.ts";
import type { Given, Tool } from "./command.ts";
import {
  type Call,
  hasOption,
  namedCommand,
  readCall,
  requestedHelp,
  splitCommandLine,
} from "./command_line.ts";
import { exitStatus } from "./exit_status.ts";
import { renderHelp } from "./help.ts";
import { Output } from "./output.ts";
import packageJson from "../../package.json" with { type: "json" };

export const VERSION: string = packageJson.version;

/** Programs that run a tool from its source. Any other executable is the tool itself, compiled. */
const RUNTIME = /^(deno|bun|node)(-\w+)?(\.exe)?$/i;

/** Why the signal of an {@linkcode Invocation} is aborted. */
const INTERRUPTED = new SealwireError("interrupted", "interrupted");

/** Where the results of a command go, and the signal that a person wants it to stop. */
export interface Surroundings {
  readonly out: Output;
  /** The name that the tool goes by. */
  readonly called: string;
  /** Aborted at the first Ctrl-C or SIGTERM. */
  readonly interrupted: AbortSignal;
}

/** One run of a command. */
export type Invocation<T extends Tool, Name extends keyof T["commands"] = keyof T["commands"]> =
  & Given<T, Name>
  & Surroundings;

/** What each command of a tool does. */
export type Handlers<T extends Tool> = {
  readonly [Name in keyof T["commands"]]: (invocation: Invocation<T, Name>) => Promise<void>;
};

/** Runs a tool to its end and exits the process with its status. */
export async function runTool<const T extends Tool>(
  tool: T,
  handlers: Handlers<T>,
): Promise<never> {
  const called = toolName(tool);
  const line = splitCommandLine(tool, process.argv.slice(2));
  const out = new Output({
    json: hasOption(line, "json"),
    quiet: hasOption(line, "quiet"),
    lively: Boolean(process.stderr.isTTY) && !process.env.NO_COLOR,
  });
  const interruption = new AbortController();
  const interrupt = () => interruption.abort(INTERRUPTED);
  process.on("SIGINT", interrupt);
  process.on("SIGTERM", interrupt);
  // The reader has left, as in `history | head`.
  process.stdout.on("error", () => process.exit(0));
  try {
    const help = requestedHelp(tool, line);
    if (help !== null) {
      const text = renderHelp(tool, called, help.command);
      out.result({ help: text }, text);
    } else if (hasOption(line, "version")) {
      out.result({ version: VERSION }, `${called} ${VERSION}`);
    } else {
      const call = readCall(tool, called, line);
      await handlerOf(handlers, call)({ ...call, out, called, interrupted: interruption.signal });
    }
    return process.exit(interruption.signal.aborted ? tool.exitOnInterrupt : 0);
  } catch (error) {
    if (interruption.signal.aborted && tool.exitOnInterrupt === 0) return process.exit(0);
    if (isSealwireError(error, "usage")) {
      const command = namedCommand(tool, line);
      error.message += ` (see ${called} ${command === null ? "" : `${command} `}--help)`;
    }
    out.failure(error);
    return process.exit(exitStatus(error));
  }
}

/** The types of the handlers follow from the same declaration that the call was read by. */
export function handlerOf(handlers: object, { command }: Call) {
  return (handlers as Record<string, (invocation: Call & Surroundings) => Promise<void>>)[command]!;
}

/**
 * What the tool was started as: the name of its executable where it is compiled, else of its file.
 */
function toolName({ file }: Tool): string {
  const executable = basename(process.execPath);
  const started = RUNTIME.test(executable) ? basename(process.argv[1] ?? "") : executable;
  return started.replace(/\.exe$/i, "") || file;
}
