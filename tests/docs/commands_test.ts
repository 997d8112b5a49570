/** The documents and the declarations of the commands: each says what the other says. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { AES_CLIENT, AES_SERVER } from "../../lib/aes/commands.ts";
import { COMMON_OPTIONS, formatOption, type Options, type Tool } from "../../lib/cli/command.ts";
import { readCall, splitCommandLine } from "../../lib/cli/command_line.ts";
import { CLIENT } from "../../lib/payment/client/commands_table.ts";
import { SERVER } from "../../lib/payment/server/commands_table.ts";
import {
  blocksOf,
  DOCUMENTS,
  proseOf,
  readDocument,
  sectionsOf,
  tableRows,
} from "../support/documents.ts";
import { stepsOf } from "../support/sessions.ts";

const TOOLS: readonly Tool[] = [SERVER, CLIENT, AES_SERVER, AES_CLIENT];

/** Where the commands of each tool are described: a page, and a section of it. */
const PLACES: readonly (readonly [tool: Tool, page: string, section: string])[] = [
  [SERVER, "docs/payments.md", "The server's commands"],
  [CLIENT, "docs/payments.md", "The client's commands"],
  [AES_SERVER, "docs/aes.md", "The server"],
  [AES_CLIENT, "docs/aes.md", "The client"],
];

/** A call as a document shows it: `client.ts localhost 8080 pay bob 5`, in a block or in a line. */
const CALL =
  /(?<!--compile )\b(server|client|aes_server|aes_client)\.ts((?: (?:"[^"]*"|'[^']*'|[^\s"'`|>#]+))*)/g;
/** What stands for something else in a call, which is then no call that could be made. */
const PLACEHOLDER = /[<>{}…[\]]|\.\.\.|\bFILE\b|\bNAME\b|\bUUID\b/;

interface Example {
  readonly tool: Tool;
  readonly command: string;
  readonly text: string;
  readonly options: readonly string[];
}

for (const [tool, page, place] of PLACES) {
  const text = sectionsOf(readDocument(page), 2).get(place)!;
  const [intro] = text.split(/^### /m);
  const sections = new Map(
    [...sectionsOf(text, 3)].map(([title, section]) => [title.replaceAll("`", ""), section]),
  );

  test(`${page} has a section for each command of ${tool.file}, and for no other`, () => {
    assert.deepEqual([...sections.keys()].sort(), Object.keys(tool.commands).sort());
  });

  test(`${page} names every option of ${tool.file}, under the commands that take it`, () => {
    for (const [name, { options }] of Object.entries(tool.commands)) {
      const documented = documentedOptions(sections, intro!, name);
      const declared = Object.entries(options as Options).map(([option, declaration]) =>
        formatOption(option, declaration)
      );
      assert.deepEqual([...documented].sort(), declared.sort(), `${page}: ${name}`);
    }
  });

  test(`${page} shows an example of each command and of each option of ${tool.file}`, () => {
    const shown = shellExamples(readDocument(page)).filter((example) => example.tool === tool);
    for (const [name, { options }] of Object.entries(tool.commands)) {
      const own = shown.filter(({ command }) => command === name);
      assert.ok(own.length > 0, `${page}: no example of ${name}`);
      for (const option of Object.keys(options)) {
        const isShown = shown.some((example) => example.options.includes(option));
        assert.ok(isShown, `${page}: no example of ${name} --${option}`);
      }
    }
    for (const [name, section] of sections) {
      const calls = shellExamples(section);
      assert.ok(calls.some(({ command }) => command === name), `${page}: ${name} shows another`);
    }
  });
}

/** Options in the section's own tables, and in those that it refers to. */
function documentedOptions(
  sections: ReadonlyMap<string, string>,
  intro: string,
  name: string,
  seen = new Set<string>(),
): Set<string> {
  seen.add(name);
  const section = sections.get(name)!;
  const found = new Set(optionCells(section));
  if (/the\s+options above/.test(section)) {
    for (const option of optionCells(intro)) found.add(option);
  }
  for (const [, other] of section.matchAll(/\bthose of\s+\[`([\w-]+)`\]/g)) {
    if (seen.has(other!)) continue;
    for (const option of documentedOptions(sections, intro, other!, seen)) found.add(option);
  }
  return found;
}

test("the options of every command are in a table of the payments' page", () => {
  const section = sectionsOf(readDocument("docs/payments.md"), 2).get("For scripts")!;
  const declared = Object.entries(COMMON_OPTIONS).map(([name, option]) =>
    formatOption(name, option)
  );
  assert.deepEqual(optionCells(section).sort(), declared.sort());
});

test("the table of --json lines has a row for each command that prints one", () => {
  const section = sectionsOf(readDocument("docs/payments.md"), 2).get("For scripts")!;
  const named = tableRows(section).map(([cell]) => cell!).join(" ");
  const silent = new Set(["interactive", "serve", "completions"]);
  for (const tool of [SERVER, CLIENT] as readonly Tool[]) {
    for (const name of Object.keys(tool.commands)) {
      if (silent.has(name)) continue;
      assert.match(named, new RegExp(`\`(server\\.ts )?${name}\\b`), `no --json line of ${name}`);
    }
  }
});

for (const page of DOCUMENTS) {
  test(`each call that ${page} shows is one that the tools take`, () => {
    const text = readDocument(page);
    const typed = stepsOf(text).flatMap(({ command }) => examplesIn(command));
    const shown = [...shellExamples(text), ...typed, ...inlineExamples(text)];
    for (const { text } of shown) assert.ok(text);
  });
}

/** The calls in the `sh` blocks of a text. */
function shellExamples(text: string): Example[] {
  return blocksOf(text).filter(({ kind }) => kind === "sh")
    .flatMap(({ lines }) => lines.flatMap(examplesIn));
}

/** The calls in backticks. `server.ts backup` alone is a command's name. */
function inlineExamples(text: string): Example[] {
  return [...proseOf(text).matchAll(/`([^`]+)`/g)].flatMap(([, code]) =>
    /^(deno run -A |bun )?\w+\.ts \S+ \S/.test(code!) ? examplesIn(code!) : []
  );
}

/** The calls in a line. Throws at one that its tool does not take. */
function examplesIn(line: string): Example[] {
  return [...line.matchAll(CALL)].flatMap(([whole, name, rest]) => {
    if (PLACEHOLDER.test(line) || /--(help|version)\b|^ help\b/.test(rest!)) return [];
    const tool = TOOLS.find(({ file }) => file === `${name}.ts`)!;
    const words = [...rest!.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)]
      .map(([, double, single, bare]) => double ?? single ?? bare!);
    const split = splitCommandLine(tool, words);
    try {
      const { command } = readCall(tool, tool.file, split);
      return [{ tool, command, text: whole, options: split.options.map(({ name }) => name) }];
    } catch (error) {
      throw new Error(`a document shows "${whole}": ${(error as Error).message}`);
    }
  });
}

/** The options in the first cells of the tables in `text`. */
function optionCells(text: string): string[] {
  return tableRows(text).flatMap(([cell]) => {
    const found = /^`(--.*)`$/.exec(cell!);
    return found === null ? [] : [found[1]!.replaceAll("\\|", "|")];
  });
}
