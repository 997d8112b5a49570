/**
 * The declaration of a tool's commands. Parsing, arity, `--help` and suggestions all come from it,
 * and the types of a command's arguments and options too.
 */
import type { EXIT_INTERRUPTED } from "./exit_status.ts";

/** A word after the command's name. */
export interface Argument {
  readonly summary: string;
  /** `optional`: none or one. `rest`: any number of words. Exactly one by default. */
  readonly arity?: "optional" | "rest";
  /** An option of the command: where that is given, this argument is left out. */
  readonly unless?: string;
}

export interface Option {
  readonly summary: string;
  /** What its value is called in the help: `FILE`. An option without one is a flag. */
  readonly value?: string;
  /** One letter: `q` for `-q`. */
  readonly short?: string;
  readonly default?: string;
  readonly required?: true;
  /** It may be given several times. */
  readonly multiple?: true;
  /** Options of the same command that cannot be given beside it. */
  readonly excludes?: readonly string[];
  /** Where it is given, the command takes no arguments. */
  readonly replacesArguments?: true;
}

/** By name, in the order in which they are given. */
export type Arguments = Readonly<Record<string, Argument>>;
/** By name, without the dashes. */
export type Options = Readonly<Record<string, Option>>;

export interface Command {
  /** What it does, in one line. */
  readonly summary: string;
  /** The heading of the help under which it stands. */
  readonly group?: string;
  readonly arguments: Arguments;
  /** Without {@linkcode COMMON_OPTIONS}. */
  readonly options: Options;
  /** A call of it that makes sense, without the tool's name. */
  readonly example: string;
  /** False: it stands alone, without the tool's `prefix`. */
  readonly prefixed?: false;
}

export interface Tool {
  /** The tool's file: `client.ts`. */
  readonly file: string;
  /** What the tool is, in one line. */
  readonly summary: string;
  /** Arguments before the command's name. */
  readonly prefix: Arguments;
  /** The prefix may be left out as a whole: something else knows what it would say. */
  readonly optionalPrefix?: true;
  /** By name. `help` is not among them: every tool with several commands has it. */
  readonly commands: Readonly<Record<string, Command>>;
  /** The command that runs when none is named. Only `help` knows its name. */
  readonly main: string;
  /**
   * The call that the tool's help shows, without the tool's name; by default the main command's.
   */
  readonly example?: string;
  /**
   * Exit status after Ctrl-C or SIGTERM: 0 for a server, which ends so; 130 for what was cut short.
   */
  readonly exitOnInterrupt: 0 | typeof EXIT_INTERRUPTED;
}

/** Options of every command of every tool. */
export const COMMON_OPTIONS = {
  json: { summary: "JSON lines" },
  quiet: { summary: "no remarks", short: "q" },
  help: { summary: "", short: "h" },
  version: { summary: "" },
} as const satisfies Options;

export type ArgumentValues<A extends Arguments> = {
  readonly [Name in keyof A]: A[Name] extends { arity: "rest" } ? readonly string[]
    : A[Name] extends { arity: "optional" } | { unless: string } ? string | undefined
    : string;
};

export type OptionValues<O extends Options> = {
  readonly [Name in keyof O]: O[Name] extends { multiple: true } ? readonly string[]
    : O[Name] extends { value: string }
      ? O[Name] extends { default: string } | { required: true } ? string : string | undefined
    : boolean;
};

/** The arguments of a command. Each may be missing where an option can replace them. */
type OwnArguments<C extends Command> = true extends {
  [Name in keyof C["options"]]: C["options"][Name] extends { replacesArguments: true } ? true
    : false;
}[keyof C["options"]] ? Partial<ArgumentValues<C["arguments"]>>
  : ArgumentValues<C["arguments"]>;

type PrefixArguments<T extends Tool, C extends Command> = C extends { prefixed: false }
  ? Record<never, never>
  : T extends { optionalPrefix: true } ? Partial<ArgumentValues<T["prefix"]>>
  : ArgumentValues<T["prefix"]>;

/** What was given to one command of a tool. */
export interface Given<T extends Tool, Name extends keyof T["commands"]> {
  readonly args: PrefixArguments<T, T["commands"][Name]> & OwnArguments<T["commands"][Name]>;
  readonly values: OptionValues<T["commands"][Name]["options"]>;
}

/** Arguments as they are shown: `<payee> <amount> [memo...]`. */
export function formatArguments(declared: Arguments): string {
  return Object.entries(declared).map(([name, { arity }]) =>
    arity === "rest" ? `[${name}...]` : arity === "optional" ? `[${name}]` : `<${name}>`
  ).join(" ");
}

/** The arguments before a command's name, as they are shown: `[<host> <port>]`. */
export function formatPrefix({ prefix, optionalPrefix }: Tool): string {
  const text = formatArguments(prefix);
  return optionalPrefix ? `[${text}]` : text;
}

/** An option as it is shown: `--quiet, -q`, `--file PATH`. */
export function formatOption(name: string, { value, short }: Option): string {
  return `--${name}${short ? `, -${short}` : ""}${value ? ` ${value}` : ""}`;
}

/** The names that a command line may call. */
export function commandNames(tool: Tool): string[] {
  return Object.keys(tool.commands).filter((name) => name !== tool.main);
}
