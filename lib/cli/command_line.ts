/** Reads a command line, or a line of a prompt, by the declaration of its commands. */
import { parseArgs } from "node:util";
import { usageError } from "./arguments.ts";
import {
  type Arguments,
  type ArgumentValues,
  type Command,
  commandNames,
  COMMON_OPTIONS,
  formatArguments,
  formatPrefix,
  type Option,
  type Options,
  type Tool,
} from "./command.ts";
import { usageOf } from "./help.ts";
import { didYouMean, nearest } from "./suggestion.ts";

/**
 * What begins with a dash and is never an option: `-5`, `-.5`, `-1,50`; and base64url of 38 or 43
 * characters, an invite or a fingerprint, of which one in 64 begins with a dash.
 */
const VALUE_WITH_DASH = /^-[.,]?\d|^-[\w-]{37}$|^-[\w-]{42}$/;
/** Put before such a value while `parseArgs` looks at it. No argument of a process holds it. */
const VALUE_MARK = "\0";

/** An option as it was given. */
interface GivenOption {
  readonly name: string;
  /** Null where it has none. */
  readonly value: string | null;
  /** The value was joined to the option by `=`. */
  readonly inline: boolean;
}

/** A command line taken apart: its words, and its options in the order in which they came. */
export interface CommandLine {
  readonly words: readonly string[];
  readonly options: readonly GivenOption[];
}

type Value = string | readonly string[] | boolean | undefined;

/** A call of a command, with what its declaration says that it has. */
export interface Call {
  readonly command: string;
  readonly args: Readonly<Record<string, Value>>;
  readonly values: Readonly<Record<string, Value>>;
}

/** Takes a command line apart. It throws nothing: what is wrong with it shows later. */
export function splitCommandLine(tool: Tool, args: readonly string[]): CommandLine {
  const marked = args.map((arg) => VALUE_WITH_DASH.test(arg) ? VALUE_MARK + arg : arg);
  const options = Object.fromEntries(
    Object.entries(allOptions(tool)).map(([name, { value, short }]) => [
      name,
      { type: value === undefined ? "boolean" : "string", ...(short && { short }) } as const,
    ]),
  );
  const { tokens } = parseArgs({
    args: marked,
    options,
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const unmarked = (text: string) => text.replace(VALUE_MARK, "");
  return {
    words: tokens.flatMap((token) => token.kind === "positional" ? [unmarked(token.value)] : []),
    options: tokens.flatMap((token) =>
      token.kind !== "option" ? [] : [{
        name: token.name,
        value: token.value === undefined ? null : unmarked(token.value),
        inline: token.inlineValue === true,
      }]
    ),
  };
}

export function hasOption({ options }: CommandLine, name: keyof typeof COMMON_OPTIONS): boolean {
  return options.some((option) => option.name === name);
}

/** The command that the words name, wherever it may stand; null where they name none. */
export function namedCommand(tool: Tool, { words }: CommandLine): string | null {
  const places = [words[0], words[prefixLength(tool)]];
  return places.find((word) => word !== undefined && isNamed(tool, word)) ?? null;
}

/**
 * Whether `help` is called, as a command or as an option, and for which command. Throws `usage`.
 */
export function requestedHelp(
  tool: Tool,
  line: CommandLine,
): { readonly command: string | null } | null {
  const names = Object.keys(tool.commands);
  const place = names.length === 1
    ? -1
    : [0, prefixLength(tool)].find((index) => line.words[index] === "help") ?? -1;
  if (place < 0) return hasOption(line, "help") ? { command: namedCommand(tool, line) } : null;
  const topic = line.words[place + 1] ?? null;
  if (topic === null || Object.hasOwn(tool.commands, topic)) return { command: topic };
  throw usageError(`there is no command "${topic}"${didYouMean(topic, names)}`);
}

/**
 * The call that a command line makes.
 *
 * @throws {SealwireError} `usage`: an unknown command or option, with the nearest that there is;
 * too few or too many arguments; an option that the command does not take.
 */
export function readCall(tool: Tool, called: string, line: CommandLine): Call {
  const known = allOptions(tool);
  for (const { name } of line.options) {
    if (!Object.hasOwn(known, name)) throw unknownOption(name, Object.keys(known));
  }
  const { command, prefix, words } = findCommand(tool, called, line.words);
  const declared = tool.commands[command]!;
  const label = command === tool.main ? called : command;
  for (const { name } of line.options) {
    const isTaken = Object.hasOwn(declared.options, name) || Object.hasOwn(COMMON_OPTIONS, name);
    if (!isTaken) throw notTaken(tool, called, label, name);
  }
  const values = readOptions(declared.options, line.options);
  const replacing = Object.entries(declared.options).find(([name, { replacesArguments }]) =>
    replacesArguments && values[name] !== undefined
  );
  const left = Object.entries(declared.arguments).filter(([, { unless }]) =>
    unless === undefined || !values[unless]
  );
  const args = replacing === undefined
    ? matchArguments(label, Object.fromEntries(left), words)
    : matchArguments(`${label} --${replacing[0]}`, {}, words);
  return { command, args: { ...prefix, ...args }, values };
}

/**
 * Splits a line at spaces. A word that begins with a quotation mark goes to the next one, if there
 * is one; inside a word a quotation mark is a character like others, as in `bob's`.
 */
export function splitWords(line: string): string[] {
  const words: string[] = [];
  for (
    const [word, double, single] of line.matchAll(
      /"([^"]*)"(?!\S)|'([^']*)'(?!\S)|--[\w-]+=(?:"[^"]*"|'[^']*')(?!\S)|\S+/g,
    )
  ) {
    words.push(double ?? single ?? word.replace(/^(--[\w-]+=)(["'])(.*)\2$/, "$1$3"));
  }
  return words;
}

/** The options of every command that a prompt has no use for. */
const NOT_AT_A_PROMPT: ReadonlySet<string> = new Set(["json", "quiet", "version"]);

/**
 * Reads a line of a prompt by the declaration of its commands, whose names are in any case. Throws
 * `usage`.
 */
export function readPromptLine(tool: Tool, line: CommandLine): Call {
  const [verb = "", ...words] = line.words;
  const name = promptCommand(tool.commands, verb);
  const unused = line.options.find((option) => NOT_AT_A_PROMPT.has(option.name));
  if (unused !== undefined) throw usageError(`--${unused.name} is not for a prompt`);
  return readCall(tool, "", { ...line, words: [name, ...words] });
}

/** The arguments that a command needs and a line does not give, in order. */
export function missingArguments(tool: Tool, { words, options }: CommandLine): string[] {
  const command = tool.commands[words[0]?.toLowerCase() ?? ""];
  if (command === undefined) return [];
  const isReplaced = options.some(({ name }) => command.options[name]?.replacesArguments);
  if (isReplaced) return [];
  return Object.entries(command.arguments).slice(words.length - 1)
    .flatMap(([name, { arity }]) => arity === undefined ? name : []);
}

/** A call of one of the commands of a prompt. */
export type PromptCall<C extends PromptCommands> = {
  [Name in keyof C]: { name: Name; args: ArgumentValues<C[Name]["arguments"]> };
}[keyof C];

export type PromptCommands = Readonly<Record<string, Pick<Command, "summary" | "arguments">>>;

/** Reads a command of a prompt, in any case, and its words. It has no options. Throws `usage`. */
export function readPromptCall<const C extends PromptCommands>(
  commands: C,
  [verb = "", ...words]: readonly string[],
): PromptCall<C> {
  const name = promptCommand(commands, verb);
  const args = matchArguments(name, commands[name]!.arguments, words);
  return { name, args } as PromptCall<C>;
}

/** The name of the command that a word of a prompt calls, in any case. Throws `usage`. */
function promptCommand(commands: PromptCommands, verb: string): string {
  const name = verb.toLowerCase();
  if (Object.hasOwn(commands, name)) return name;
  const suggestion = didYouMean(name, Object.keys(commands)) || "; type help";
  throw usageError(`there is no command "${verb}"${suggestion}`);
}

/** Gives each declared argument its words. `label` is what takes them. Throws `usage`. */
function matchArguments(
  label: string,
  declared: Arguments,
  words: readonly string[],
): Record<string, Value> {
  const takes = `${label} takes ${formatArguments(declared) || "no arguments"}`;
  const args: Record<string, Value> = {};
  let taken = 0;
  for (const [name, { arity }] of Object.entries(declared)) {
    if (arity === "rest") {
      args[name] = words.slice(taken);
      taken = words.length;
    } else if (taken < words.length) {
      args[name] = words[taken++];
    } else if (arity !== "optional") {
      throw usageError(`<${name}> is missing: ${takes}`);
    }
  }
  if (taken === words.length) return args;
  const after = taken > 0 ? ` after "${words[taken - 1]}"` : "";
  throw usageError(`unexpected argument "${words[taken]}"${after}: ${takes}`);
}

/** The command that is called, the arguments before its name, and the words after it. */
function findCommand(tool: Tool, called: string, words: readonly string[]) {
  const count = prefixLength(tool);
  const index = words.findIndex((word, index) => index <= count && isNamed(tool, word));
  if (index >= 0) {
    const command = words[index]!;
    requirePlace(tool, called, command, index);
    const prefix = readPrefix(tool, words.slice(0, index));
    return { command, prefix, words: words.slice(index + 1) };
  }
  const names = commandNames(tool);
  const isLeftOut = words.length === 0 && tool.optionalPrefix === true;
  if (isLeftOut) return { command: tool.main, prefix: {}, words: [] };
  if (words.length < count) {
    const suggestion = nearest(words[0] ?? "", names);
    const usage = `say ${formatPrefix(tool)}: ${usageOf(tool, called, tool.main)}`;
    throw usageError(suggestion === null ? usage : `${usage}; or did you mean "${suggestion}"?`);
  }
  // A mistyped command without its prefix: no port is a word.
  const mistyped = tool.optionalPrefix && !/^\d+$/.test(words[count - 1]!)
    ? nearest(words[0]!, names)
    : null;
  if (mistyped !== null) {
    throw usageError(`there is no command "${words[0]}": did you mean "${mistyped}"?`);
  }
  const rest = words.slice(count);
  const takesWords = Object.keys(tool.commands[tool.main]!.arguments).length > 0;
  const [word] = rest;
  const isCommand = word !== undefined && names.length > 0 &&
    (!takesWords || nearest(word, names) !== null);
  if (isCommand) throw usageError(`there is no command "${word}"${didYouMean(word, names)}`);
  return { command: tool.main, prefix: readPrefix(tool, words.slice(0, count)), words: rest };
}

/** Throws `usage` when a command does not stand where it belongs: after the prefix, or alone. */
function requirePlace(tool: Tool, called: string, command: string, index: number): void {
  const isPrefixed = tool.commands[command]!.prefixed !== false;
  if (index === (isPrefixed ? prefixLength(tool) : 0)) return;
  if (index === 0 && tool.optionalPrefix) return;
  const prefix = formatArguments(tool.prefix);
  const needs = !isPrefixed
    ? "stands alone"
    : tool.optionalPrefix
    ? `takes ${prefix} before it, or neither`
    : `needs ${prefix} before it`;
  throw usageError(`${command} ${needs}: ${usageOf(tool, called, command)}`);
}

function readPrefix(tool: Tool, words: readonly string[]): Record<string, Value> {
  if (words.length === 0) return {};
  return Object.fromEntries(Object.keys(tool.prefix).map((name, index) => [name, words[index]]));
}

function readOptions(
  declared: Options,
  given: readonly GivenOption[],
): Record<string, Value> {
  const taken: Options = { ...declared, ...COMMON_OPTIONS };
  const texts = new Map<string, string[]>();
  for (const option of given) {
    const { name } = option;
    texts.set(name, [...texts.get(name) ?? [], readOption(name, taken[name]!, option)]);
  }
  for (const name of texts.keys()) {
    const other = taken[name]!.excludes?.find((other) => texts.has(other));
    if (other !== undefined) throw usageError(`--${name} and --${other} exclude each other`);
  }
  return Object.fromEntries(
    Object.entries(declared).map(([name, option]) => [name, valueOf(name, option, texts)]),
  );
}

/** The text of an option; of a flag, nothing. Throws `usage`. */
function readOption(name: string, { value }: Option, given: GivenOption): string {
  if (value === undefined) {
    if (given.value !== null) throw usageError(`--${name} takes no value`);
    return "";
  }
  if (given.value === null) throw usageError(`--${name} takes a value: --${name} ${value}`);
  const isOption = /^-./.test(given.value) && !VALUE_WITH_DASH.test(given.value);
  if (!isOption || given.inline) return given.value;
  throw usageError(
    `--${name} takes a value, and "${given.value}" looks like an option: ` +
      `write --${name}=${given.value} if it is none`,
  );
}

function valueOf(name: string, option: Option, texts: ReadonlyMap<string, string[]>): Value {
  const given = texts.get(name);
  if (option.multiple) return given ?? [];
  if (option.value === undefined) return given !== undefined;
  if (given === undefined && option.required) {
    throw usageError(`--${name} ${option.value} is missing: ${option.summary}`);
  }
  return given?.at(-1) ?? option.default;
}

function unknownOption(name: string, names: readonly string[]) {
  const dashes = name.length === 1 ? "-" : "--";
  const found = name.length === 1 ? null : nearest(name, names);
  const suggestion = found === null ? "" : `: did you mean --${found}?`;
  return usageError(`there is no option ${dashes}${name}${suggestion}`);
}

function notTaken(tool: Tool, called: string, label: string, option: string) {
  const takers = Object.entries(tool.commands).flatMap(([name, { options }]) =>
    !Object.hasOwn(options, option) ? [] : name === tool.main ? usageOf(tool, called, name) : name
  );
  return usageError(`${label} takes no --${option}: it belongs to ${takers.join(", ")}`);
}

/** A command that can be called by its name. */
function isNamed(tool: Tool, word: string): boolean {
  return Object.hasOwn(tool.commands, word) && word !== tool.main;
}

function prefixLength(tool: Tool): number {
  return Object.keys(tool.prefix).length;
}

/** The options of all commands. Those of one name are alike in all of them. */
function allOptions(tool: Tool): Options {
  const declared = Object.values(tool.commands).map(({ options }) => options);
  return Object.assign({}, ...declared, COMMON_OPTIONS);
}
