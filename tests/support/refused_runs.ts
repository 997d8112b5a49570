/**
 * Runs of a tool that must be refused: with a sentence, the right exit status, and no stack trace.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { jsonLines } from "./payment_world.ts";
import { type Outcome, runTool } from "./support.ts";

export interface RefusedRun {
  readonly promise: string;
  /** Called when its turn has come, to prepare what the arguments name. */
  readonly args: () => readonly string[] | Promise<readonly string[]>;
  readonly code: string;
  /** Exit status; 1 by default. */
  readonly status?: number;
  /** What the sentence on standard error must name. */
  readonly names: RegExp;
  readonly stdin?: string;
}

const AT_A_TIME = 4;
const OPTIONS = { timeout: 240_000 };
const SENTENCE_CHARACTERS_MAX = 600;

/** The runs that are under way, each followed by those that wait for its end. */
const turns: Promise<unknown>[] = new Array(AT_A_TIME).fill(Promise.resolve());

/**
 * One test for each run. All begin at once, a few at a time, for each costs the start of a process.
 */
export function testRefusals(tool: string, runs: readonly RefusedRun[]): void {
  for (const [index, run] of runs.entries()) {
    const outcome = turns[index % AT_A_TIME]!.then(async () =>
      await runTool(tool, ["--json", ...await run.args()], { stdin: run.stdin })
    );
    turns[index % AT_A_TIME] = outcome.catch(() => {});
    test(run.promise, OPTIONS, async () => assertRefused(run, await outcome));
  }
}

export function assertRefused({ code, status = 1, names }: RefusedRun, outcome: Outcome): void {
  const { stdout, stderr } = outcome;
  assert.equal(outcome.status, status, JSON.stringify(outcome));
  assert.doesNotMatch(stderr, /^\s+at |Uncaught|panicked|[a-z]\.ts:\d+/m);
  const sentence = stderr.trimEnd().split("\n").at(-1)!;
  assert.match(sentence, /^error: /);
  assert.match(sentence, names);
  assert.ok(sentence.length < SENTENCE_CHARACTERS_MAX, sentence);
  const lines = jsonLines(outcome);
  assert.equal(lines.length, 1, stdout);
  const { error } = lines[0]! as { error: { code: string; message: string } };
  assert.equal(error.code, code, stdout);
  assert.match(error.message, names);
}
