/** Reading a command line by its declaration, without a process. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Tool } from "../../lib/cli/command.ts";
import {
  readCall,
  readPromptCall,
  splitCommandLine,
  splitWords,
} from "../../lib/cli/command_line.ts";

const AS = { as: { value: "NAME", required: true, summary: "who" } } as const;

const TOOL = {
  file: "tool.ts",
  summary: "A tool.",
  prefix: { host: { summary: "where" } },
  main: "talk",
  exitOnInterrupt: 0,
  commands: {
    talk: { summary: "talk", arguments: {}, options: {}, example: "here" },
    pay: {
      summary: "pay",
      arguments: {
        payee: { summary: "whom" },
        amount: { summary: "how much" },
        memo: { arity: "rest", summary: "why" },
      },
      options: {
        ...AS,
        memo: { value: "TEXT", summary: "why" },
        tag: { value: "TAG", multiple: true, summary: "a tag" },
        way: { value: "WAY", default: "short", summary: "how" },
        fast: { summary: "fast", short: "f", excludes: ["slow"] },
        slow: { summary: "slow" },
        batch: { value: "FILE", replacesArguments: true, summary: "many" },
      },
      example: "here pay bob 5",
    },
    move: {
      summary: "move",
      arguments: { to: { arity: "optional", summary: "whereto" } },
      options: {},
      example: "here move",
    },
    check: {
      summary: "check",
      prefixed: false,
      arguments: { file: { summary: "what" } },
      options: {},
      example: "check file",
    },
  },
} as const satisfies Tool;

function read(...args: string[]) {
  return readCall(TOOL, "tool", splitCommandLine(TOOL, args));
}

function refused(args: string[], names: RegExp): void {
  assert.throws(() => read(...args), { code: "usage", message: names }, args.join(" "));
}

test("arguments and options are found wherever they stand, and what is left out has its default", () => {
  const { command, args, values } = read("-f", "here", "pay", "--as", "alice", "bob", "5");
  assert.equal(command, "pay");
  assert.deepEqual(args, { host: "here", payee: "bob", amount: "5", memo: [] });
  assert.deepEqual(values, {
    as: "alice",
    memo: undefined,
    tag: [],
    way: "short",
    fast: true,
    slow: false,
    batch: undefined,
  });
});

test("without a command the main one runs, and a command that stands alone needs no prefix", () => {
  assert.equal(read("here").command, "talk");
  assert.deepEqual(read("check", "file").args, { file: "file" });
  assert.deepEqual(read("here", "move").args, { host: "here" });
  assert.deepEqual(read("here", "move", "away").args, { host: "here", to: "away" });
});

test("a rest argument takes all words, and an option given several times all values", () => {
  const { args, values } = read(
    ...["here", "pay", "bob", "5", "for", "--tag=a", "two", "--tag", "b", "--as", "alice"],
  );
  assert.deepEqual(args.memo, ["for", "two"]);
  assert.deepEqual(values.tag, ["a", "b"]);
});

test("a negative number is a value, as an argument and as an option's", () => {
  for (const number of ["-5", "-0.50", "-.5", "-1,50"]) {
    const { args, values } = read("here", "pay", "bob", number, "--as", "a", "--way", number);
    assert.deepEqual([args.amount, values.way], [number, number]);
  }
  assert.deepEqual(read("here", "move", "--", "-x").args, { host: "here", to: "-x" });
});

test("an invite and a fingerprint are values, also when they begin with a dash", () => {
  const invite = "-htCif3ikUng6wAAAAAAAJbOZB5HZ4QasC4i_w";
  const fingerprint = `--${"_".repeat(41)}`;
  for (const value of [invite, fingerprint]) {
    const { args, values } = read("here", "pay", "bob", value, "--as", "a", "--way", value);
    assert.deepEqual([args.amount, values.way], [value, value]);
  }
});

test("what is missing or too much is named, with what the command takes", () => {
  refused(["here", "pay", "bob", "--as", "a"], /^<amount> is missing: pay takes <payee> <amount>/);
  refused(["here", "pay", "bob", "5"], /^--as NAME is missing/);
  refused(["here", "move", "a", "b"], /^unexpected argument "b" after "a": move takes \[to\]$/);
  refused(["check"], /^<file> is missing: check takes <file>$/);
  refused([], /<host>: tool <host>$/);
});

test("an option that replaces the arguments leaves room for none", () => {
  assert.deepEqual(read("here", "pay", "--batch", "-", "--as", "a").args, { host: "here" });
  refused(["here", "pay", "bob", "--batch", "x", "--as", "a"], /pay --batch takes no arguments/);
});

test("an option that the command does not take is refused, with the commands that do", () => {
  refused(["here", "move", "--fast"], /^move takes no --fast: it belongs to pay$/);
  refused(["here", "pay", "bob", "5", "--as", "a", "-f", "--slow"], /--fast and --slow exclude/);
});

test("a flag takes no value, and an option no other option for one", () => {
  const pay = ["here", "pay", "bob", "5", "--as"];
  refused([...pay, "a", "--slow=yes"], /^--slow takes no value$/);
  refused([...pay], /^--as takes a value: --as NAME$/);
  refused([...pay, "--slow"], /^--as takes a value, and "--slow" looks like an option/);
  assert.equal(read(...pay.slice(0, -1), "--as=--slow").values.as, "--slow");
});

test("an unknown command or option suggests the nearest", () => {
  refused(["here", "pya"], /^there is no command "pya": did you mean "pay"\?$/);
  refused(["here", "steal"], /^there is no command "steal"$/);
  refused(["here", "constructor"], /^there is no command "constructor"$/);
  refused(["here", "pay", "--memmo", "x"], /^there is no option --memmo: did you mean --memo\?$/);
  refused(["here", "-z"], /^there is no option -z$/);
});

test("a command in the wrong place is told where it belongs", () => {
  refused(["pay", "bob", "5"], /^pay needs <host> before it: tool <host> pay <payee> <amount>/);
  refused(["pay"], /^pay needs <host> before it/);
  refused(["here", "check", "file"], /^check stands alone: tool check <file>$/);
});

test("a prompt reads the same declarations, in any case, and options are words there", () => {
  const { pay, move } = TOOL.commands;
  const call = readPromptCall({ pay, move }, ["PAY", "bob", "-5", "--memo", "x"]);
  assert.deepEqual(call, {
    name: "pay",
    args: { payee: "bob", amount: "-5", memo: ["--memo", "x"] },
  });
  const wrong = (words: string[], message: RegExp) =>
    assert.throws(() => readPromptCall({ pay, move }, words), { code: "usage", message });
  wrong(["mvoe"], /^there is no command "mvoe": did you mean "move"\?$/);
  wrong(["dance"], /^there is no command "dance"; type help$/);
  wrong(["move", "a", "b"], /^unexpected argument "b" after "a"/);
});

test("a prefix that may be left out is left out as a whole", () => {
  const tool = { ...TOOL, optionalPrefix: true } as const;
  const readOptional = (...args: string[]) => readCall(tool, "tool", splitCommandLine(tool, args));
  assert.deepEqual(readOptional("move", "away").args, { to: "away" });
  assert.deepEqual(readOptional("here", "move", "away").args, { host: "here", to: "away" });
  assert.equal(readOptional().command, "talk");
  assert.deepEqual(readOptional().args, {});
});

test("words of a prompt may stand in quotes, and an apostrophe is a letter", () => {
  for (
    const [line, words] of [
      ['pay bob 5 "for  two"', ["pay", "bob", "5", "for  two"]],
      ["pay bob 5 bob's lunch", ["pay", "bob", "5", "bob's", "lunch"]],
      ["pay bob 5 'tis time", ["pay", "bob", "5", "'tis", "time"]],
      ['pay --memo="two words" bob 5', ["pay", "--memo=two words", "bob", "5"]],
      ['say "" end', ["say", "", "end"]],
      ['open "never closed', ["open", '"never', "closed"]],
      ["  ", []],
    ] as const
  ) assert.deepEqual(splitWords(line), words, line);
});
