/** Renders the help of a tool and of its commands: each fits a terminal of 80 columns, 24 lines. */
import {
  type Arguments,
  type Command,
  COMMON_OPTIONS,
  formatArguments,
  formatOption,
  type Options,
  type Tool,
} from "./command.ts";

export const HELP_COLUMNS_MAX = 80;
export const HELP_LINES_MAX = 24;

/** Left text, and what it means. */
type Row = readonly [left: string, summary: string];

/** The help of one command, or of the whole tool. `called` is the name that the tool goes by. */
export function renderHelp(tool: Tool, called: string, command: string | null): string {
  const single = Object.keys(tool.commands).length === 1;
  if (command === null && !single) return renderTool(tool, called).join("\n");
  return renderCommand(tool, called, command ?? tool.main).join("\n");
}

/** One row for each command, as a prompt shows it. */
export function renderCommands(
  commands: Readonly<Record<string, Pick<Command, "summary" | "arguments">>>,
): string {
  return table(Object.entries(commands).map(([name, command]) => callRow(name, command)), "")
    .join("\n");
}

/** How a command is called: `client.ts <host> <port> pay <payee> <amount> [memo...]`. */
export function usageOf(tool: Tool, called: string, name: string): string {
  const command = tool.commands[name]!;
  const prefix = command.prefixed === false ? "" : formatArguments(tool.prefix);
  const word = name === tool.main ? "" : name;
  return joined(called, prefix, word, formatArguments(command.arguments));
}

function renderTool(tool: Tool, called: string): string[] {
  const main = tool.commands[tool.main]!;
  const word = Object.keys(main.arguments).length > 0
    ? `${formatArguments(main.arguments)} | <command>`
    : "[<command>]";
  const rows = Object.entries(tool.commands).map(([name, command]) => {
    const [left, summary] = callRow(name === tool.main ? "" : name, command);
    return { group: command.group!, row: [left || "(no command)", summary] as const };
  });
  const width = leftWidth(rows.map(({ row }) => row));
  const groups = [...new Set(rows.map(({ group }) => group))].map((group) => [
    group,
    ...table(rows.filter((entry) => entry.group === group).map(({ row }) => row), "  ", width),
  ]);
  const start = [
    tool.summary,
    "",
    `Usage: ${joined(called, formatArguments(tool.prefix), word)} [options]`,
    "",
  ];
  const roomy = [...start, ...groups.flatMap((group) => [...group, ""])];
  const compact = [...start, ...groups.flat(), ""];
  const options = [
    `Options of ${usageOf(tool, called, tool.main)}`,
    ...optionRows(main.options),
    "",
  ];
  const end = [
    "Options of every command",
    `  ${commonOptions()}`,
    `${called} help <command> shows its options and an example.`,
    `Example: ${called} ${tool.example ?? main.example}`,
  ];
  const forms = [[...roomy, ...options, ...end], [...roomy, ...end], [...compact, ...end]];
  return forms.find((lines) => lines.length <= HELP_LINES_MAX) ?? forms.at(-1)!;
}

function renderCommand(tool: Tool, called: string, name: string): string[] {
  const command = tool.commands[name]!;
  const single = Object.keys(tool.commands).length === 1;
  const required = Object.entries(command.options).flatMap(([name, option]) =>
    option.required ? [formatOption(name, option)] : []
  );
  const about = argumentRows(command.arguments);
  return [
    single ? tool.summary : sentence(command.summary),
    "",
    `Usage: ${joined(usageOf(tool, called, name), ...required)}`,
    "",
    ...about,
    ...(about.length > 0 ? [""] : []),
    ...optionRows(command.options),
    `  ${commonOptions()}`,
    "",
    `Example: ${called} ${command.example}`,
  ];
}

function argumentRows(declared: Arguments): string[] {
  return table(
    Object.entries(declared).map(([name, argument]) =>
      [formatArguments({ [name]: argument }), argument.summary] as const
    ),
    "  ",
  );
}

function optionRows(options: Options): string[] {
  return table(
    Object.entries(options).map(([name, option]) => {
      const byDefault = option.default === undefined ? "" : ` (${option.default})`;
      return [formatOption(name, option), option.summary + byDefault] as const;
    }),
    "  ",
  );
}

function commonOptions(): string {
  return Object.entries(COMMON_OPTIONS).map(([name, option]) =>
    formatOption(name, option) + (option.summary && ` (${option.summary})`)
  ).join("; ");
}

function callRow(name: string, command: Pick<Command, "summary" | "arguments">): Row {
  return [joined(name, formatArguments(command.arguments)), command.summary];
}

function table(rows: readonly Row[], indent: string, width = leftWidth(rows)): string[] {
  return rows.map(([left, summary]) => `${indent}${left.padEnd(width)}  ${summary}`);
}

function leftWidth(rows: readonly Row[]): number {
  return Math.max(0, ...rows.map(([left]) => left.length));
}

function sentence(text: string): string {
  return `${text[0]!.toUpperCase()}${text.slice(1)}.`;
}

function joined(...words: string[]): string {
  return words.filter((word) => word !== "").join(" ");
}
