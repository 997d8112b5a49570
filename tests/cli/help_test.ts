/** The help of every tool and command, as the declarations give it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { AES_CLIENT, AES_SERVER } from "../../lib/aes/commands.ts";
import type { Options, Tool } from "../../lib/cli/command.ts";
import { readCall, splitCommandLine } from "../../lib/cli/command_line.ts";
import { HELP_COLUMNS_MAX, HELP_LINES_MAX, renderHelp } from "../../lib/cli/help.ts";
import { CLIENT } from "../../lib/payment/client/commands_table.ts";
import { SERVER } from "../../lib/payment/server/commands_table.ts";

/** The list of two dozen commands takes more than a screen. */
const OVERVIEW_LINES_MAX = 48;

const TOOLS: readonly Tool[] = [SERVER, CLIENT, AES_SERVER, AES_CLIENT];

for (const tool of TOOLS) {
  const commands = Object.entries(tool.commands);

  test(`every help of ${tool.file} fits a terminal of 80 columns, and that of a command 24 lines`, () => {
    for (const name of [null, ...Object.keys(tool.commands)]) {
      const lines = renderHelp(tool, tool.file, name).split("\n");
      const lines_max = name === null ? OVERVIEW_LINES_MAX : HELP_LINES_MAX;
      assert.ok(lines.length <= lines_max, `${name}: ${lines.length} lines`);
      for (const line of lines) assert.ok(line.length <= HELP_COLUMNS_MAX, line);
      assert.match(lines[2]!, /^Usage: /);
      assert.match(lines.at(-1)!, /^Example: /);
    }
  });

  test(`the help of ${tool.file} begins with what it is, and names every command`, () => {
    const help = renderHelp(tool, tool.file, null);
    assert.ok(help.startsWith(`${tool.summary}\n`));
    for (const [name] of commands.length > 1 ? commands : []) {
      if (name !== tool.main) assert.match(help, new RegExp(`^  .*(?<!-)\\b${name}\\b(?!-)`, "m"));
    }
  });

  test(`every example of ${tool.file} is a call of its command`, () => {
    for (const [name, { example }] of commands) {
      const call = readCall(tool, tool.file, splitCommandLine(tool, example.split(" ")));
      assert.equal(call.command, name);
    }
    const { example } = tool;
    if (example) readCall(tool, tool.file, splitCommandLine(tool, example.split(" ")));
  });

  test(`an option of ${tool.file} is of one kind in all of its commands, and excludes others`, () => {
    const kinds = new Map<string, string>();
    for (const [name, { options }] of commands) {
      for (const [option, declared] of Object.entries(options as Options)) {
        const kind = JSON.stringify([declared.value, declared.short, declared.multiple]);
        assert.equal(kinds.get(option) ?? kind, kind, `--${option}`);
        kinds.set(option, kind);
        for (const other of declared.excludes ?? []) {
          assert.ok(Object.hasOwn(options, other), `${name}: --${option} excludes --${other}`);
        }
      }
    }
  });
}
