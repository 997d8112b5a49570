/**
 * Completes command lines in bash, zsh and fish. The script that a shell loads asks the tool itself
 * for candidates, so that they follow from the declaration of its commands.
 */
import {
  type Arguments,
  type Command,
  commandNames,
  COMMON_OPTIONS,
  type Options,
  type Tool,
} from "./command.ts";
import { usageError } from "./arguments.ts";

/** Candidates for the value of an argument or an option, by its name; null where there are none. */
export type ValuesOf = (
  name: string,
  taken: ReadonlyMap<string, string>,
) => Iterable<string> | null;

const SHELLS: Readonly<Record<string, (called: string, name: string) => string>> = {
  bash: (called, name) =>
    `_${name}() {
  local IFS=$'\\n'
  COMPREPLY=($("\${COMP_WORDS[0]}" completions words -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _${name} ${called}`,
  zsh: (called, name) =>
    `#compdef ${called}
_${name}() {
  local -a candidates
  candidates=("\${(@f)$("\${words[1]}" completions words -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ -n "$candidates" ]]; then compadd -a candidates; else _files; fi
}
compdef _${name} ${called}`,
  fish: (called, name) =>
    `function __${name}
  set -l words (commandline -opc) (commandline -ct)
  $words[1] completions words -- $words[2..-1] 2>/dev/null
end
complete -c ${called} -a '(__${name})'`,
};

export const SHELL_NAMES: readonly string[] = Object.keys(SHELLS);

/** The script for a shell to load. Throws `usage` for a shell that is not known. */
export function completionScript(shell: string, called: string): string {
  if (!Object.hasOwn(SHELLS, shell)) {
    throw usageError(`completions takes ${SHELL_NAMES.join(", ")}, not "${shell}"`);
  }
  return SHELLS[shell]!(called, called.replaceAll(/\W/g, "_"));
}

/**
 * Candidates for the last of `words`, which is being typed and may be empty. None where a file or a
 * free text belongs.
 */
export function completeWords(tool: Tool, words: readonly string[], valuesOf: ValuesOf): string[] {
  const typed = words.at(-1) ?? "";
  return candidates(tool, words.slice(0, -1), typed, valuesOf)
    .filter((candidate) => candidate.startsWith(typed)).sort();
}

function candidates(
  tool: Tool,
  before: readonly string[],
  typed: string,
  valuesOf: ValuesOf,
): string[] {
  const { command, taken, plain, pending } = readBefore(tool, before);
  if (pending !== null) return [...valuesOf(pending, taken) ?? []];
  if (typed.startsWith("-")) {
    const options = { ...command?.options ?? {}, ...COMMON_OPTIONS };
    return Object.keys(options).map((name) => `--${name}`);
  }
  if (command === null) {
    const names = plain.length === 1 ? [] : [...commandNames(tool), "help"];
    return plain.length > Object.keys(tool.prefix).length ? [] : names;
  }
  const name = argumentAt(command.arguments, plain.length);
  return name === null ? [] : [...valuesOf(name, taken) ?? []];
}

/** What stands before the word that is being typed. */
function readBefore(tool: Tool, before: readonly string[]) {
  const names = new Set(commandNames(tool));
  const taken = new Map<string, string>();
  let command: Command | null = null;
  let plain: string[] = [];
  let pending: string | null = null;
  for (const word of before) {
    if (pending !== null) {
      taken.set(pending, word);
      pending = null;
    } else if (word.startsWith("--")) {
      pending = valuedOption(tool, command, word);
    } else if (command === null && names.has(word)) {
      command = tool.commands[word]!;
      plain = [];
    } else {
      plain.push(word);
    }
  }
  return { command, taken, plain, pending };
}

/** The name of an option whose value is the next word. */
function valuedOption(tool: Tool, command: Command | null, word: string): string | null {
  const name = word.slice("--".length);
  const options: Options = (command ?? tool.commands[tool.main])?.options ?? {};
  return Object.hasOwn(options, name) && options[name]!.value !== undefined ? name : null;
}

/** The argument that the word at `index` is. */
function argumentAt(declared: Arguments, index: number): string | null {
  const entries = Object.entries(declared);
  const [name, { arity }] = entries[Math.min(index, entries.length - 1)] ?? [null, {}];
  return index < entries.length || arity === "rest" ? name : null;
}
