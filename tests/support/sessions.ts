/**
 * Replays the sessions that a document shows, with real processes.
 *
 * A block ```` ```console NAME ```` is a terminal. Lines that begin with `$ ` are commands; what
 * follows is what they print. All terminals of a document share one new folder. A command that
 * serves or listens goes on until its terminal gets another command, or until the end. A line `…`
 * stands for anything that follows. A line that begins with `sealwire> ` is typed at the prompt.
 *
 * Ids, fingerprints, ports and pairing codes differ from run to run. The n-th one that the document
 * shows is taken for the n-th one that is printed. The folder and this machine's own address have
 * fixed names in the documents. Times are not compared.
 */
import { spawn } from "node:child_process";
import { copyFileSync, mkdirSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { blocksOf, ROOT } from "./documents.ts";
import { freePort, RUNTIME, temporaryFolder } from "./support.ts";

const RUN = RUNTIME === "deno"
  ? `"${process.execPath}" run --quiet --no-check -A`
  : `"${process.execPath}"`;
const COMMAND = "$ ";
const PROMPT = "sealwire> ";
const ANYTHING = "…";
/** What a command prints when it is ready and goes on. */
const READY = /^(listening on |Listening on |\S+ is online)/m;
/** How long a command that goes on must be silent to be taken for ready. */
const SILENCE_MS = 400;
const TIMEOUT_MS = 30_000;

const TIME = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z/g;
/** What differs from run to run, by kind. */
const VARIABLE = [
  /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g,
  /(?<![\w-])[\w-]{43}(?![\w-])/g,
  /(?<=port |:)\d{4,5}(?![\d.])/g,
  /(?<!\w)\d{1,2}-[a-z]{3,}-[a-z]{3,}/g,
] as const;
const SHORT_ID_CHARACTERS = 8;
/** What the documents call the folder that the commands run in, and this machine's address. */
const FOLDER = "/opt/sealwire";
const ADDRESS = "192.0.2.7";

interface Step {
  readonly terminal: string;
  /** As the document shows it. */
  readonly command: string;
  readonly shown: readonly string[];
  /** Indexes of the first and after the last line of `shown` in the document. */
  readonly start: number;
  readonly end: number;
}

export interface Replayed extends Step {
  /** What was printed, with the document's ids, ports and so on in place of the real ones. */
  readonly printed: readonly string[];
}

/** The commands of a document, in order. */
export function stepsOf(text: string): Step[] {
  return blocksOf(text).filter(({ kind }) => kind.startsWith("console ")).flatMap((block) => {
    const terminal = block.kind.slice("console ".length);
    const starts = block.lines.flatMap((line, at) => line.startsWith(COMMAND) ? [at] : []);
    return starts.map((at, n) => {
      const end = starts[n + 1] ?? block.lines.length;
      return {
        terminal,
        command: block.lines[at]!.slice(COMMAND.length),
        shown: block.lines.slice(at + 1, end),
        start: block.start + at + 1,
        end: block.start + end,
      };
    });
  });
}

/** Runs all commands of a document. */
export async function replay(text: string): Promise<Replayed[]> {
  const folder = temporaryFolder();
  // A clone has this folder, with these files.
  mkdirSync(join(folder, "keys"));
  for (const name of ["README.md", ".gitignore"]) {
    copyFileSync(join(ROOT, "keys", name), join(folder, "keys", name));
  }
  const steps = stepsOf(text);
  const ports = await freePorts(steps);
  const runs: { step: Step; process: Running }[] = [];
  const printedSoFar = () =>
    runs.map(({ process }) => replaceAll(process.text, ports, { back: true })).join("\n");
  const shownSoFar = () => runs.map(({ step }) => step.shown.join("\n")).join("\n");
  try {
    for (const step of steps) {
      await runs.findLast((run) => run.step.terminal === step.terminal)?.process.stop();
      const names = pairUp(shownSoFar(), printedSoFar());
      const command = replaceAll(replaceAll(step.command, names), ports);
      const started = new Running(command, folder, step);
      runs.push({ step, process: started });
      await started.ready();
    }
    // Clients end before the servers that they are connected to.
    for (const { process } of runs.toReversed()) await process.stop();
  } finally {
    for (const { process } of runs) process.kill();
  }
  const names = pairUp(shownSoFar(), printedSoFar());
  return runs.map(({ step, process }) => {
    const text = replaceAll(replaceAll(process.text, ports, { back: true }), names, { back: true });
    const lines = withoutThisMachine(text, folder).split("\n");
    if (lines.at(-1) === "") lines.pop();
    return { ...step, printed: lines };
  });
}

function withoutThisMachine(text: string, folder: string): string {
  const own = Object.values(networkInterfaces()).flatMap((list) => list ?? [])
    .filter(({ internal }) => !internal).map(({ address }) => address);
  return own.reduce(
    (result, address) => result.replaceAll(`--host ${address} `, `--host ${ADDRESS} `),
    text.replaceAll(folder, FOLDER),
  );
}

/** A line as it is compared. */
export function withoutTimes(lines: readonly string[]): string[] {
  return lines.map((line) => line.replace(TIME, "<time>"));
}

/** What a document should show in place of `shown`. */
export function expectedLines({ shown, printed }: Replayed): readonly string[] {
  const open = shown.at(-1) === ANYTHING;
  return open ? [...printed.slice(0, shown.length - 1), ANYTHING] : printed;
}

/** A command that runs. Its standard output and standard error are one, as on a terminal. */
class Running {
  text = "";
  private readonly child;
  private readonly toType: string[];
  private readonly linesShown: number;
  private ended = false;
  private changed_ms = performance.now();

  constructor(command: string, folder: string, step: Step) {
    this.toType = step.shown.filter((line) => line.startsWith(PROMPT))
      .map((line) => line.slice(PROMPT.length));
    this.linesShown = step.shown.length;
    const line = command.replaceAll(
      /deno run -A (\w+\.ts)/g,
      (_, tool: string) => `${RUN} "${join(ROOT, tool)}"`,
    );
    const isSimple = !/[|]/.test(line) && line.startsWith(RUN);
    this.child = spawn("sh", ["-c", `exec 2>&1\n${isSimple ? "exec " : ""}${line}`], {
      cwd: folder,
      env: { ...process.env, NO_COLOR: "1", HOME: folder },
      stdio: [this.toType.length > 0 ? "pipe" : "ignore", "pipe", "ignore"],
    });
    this.child.stdout!.setEncoding("utf8").on("data", (text: string) => this.take(text));
    this.child.on("close", () => this.ended = true);
  }

  /** Resolves when the command has ended, or serves. */
  async ready(): Promise<void> {
    await until(() =>
      this.ended ||
      READY.test(this.text) && this.toType.length === 0 &&
        performance.now() - this.changed_ms > SILENCE_MS
    );
  }

  /** Waits for what the document shows, interrupts the command and waits for its end. */
  async stop(): Promise<void> {
    if (!this.ended) {
      const deadline_ms = performance.now() + TIMEOUT_MS / 3;
      await until(() =>
        this.text.split("\n").length > this.linesShown || performance.now() > deadline_ms
      );
      await sleep(SILENCE_MS);
    }
    this.kill();
    await until(() => this.ended);
  }

  kill(): void {
    if (!this.ended && this.child.pid !== undefined) process.kill(this.child.pid, "SIGINT");
  }

  private take(text: string): void {
    this.text += text;
    this.changed_ms = performance.now();
    if (!this.text.endsWith(PROMPT)) return;
    const typed = this.toType.shift();
    if (typed === undefined) return;
    // A terminal would echo it.
    this.text += `${typed}\n`;
    this.child.stdin!.write(`${typed}\n`);
  }
}

async function until(holds: () => boolean): Promise<void> {
  const deadline_ms = performance.now() + TIMEOUT_MS;
  while (!holds()) {
    if (performance.now() > deadline_ms) throw new Error("a command of the session hangs");
    await sleep(20);
  }
}

/** Document's text by real text. */
type Names = ReadonlyMap<string, string>;

/** Pairs the n-th name of each kind that is shown with the n-th that is printed. */
function pairUp(shown: string, printed: string): Names {
  const names = new Map<string, string>();
  for (const kind of VARIABLE) {
    const [left, right] = [shown, printed].map((text) => [
      ...new Set([...text.matchAll(kind)].map(([name]) => name)),
    ]);
    for (const [at, name] of left!.entries()) {
      const real = right![at];
      if (real === undefined) break;
      names.set(name, real);
      if (name.length === 36) {
        names.set(name.slice(0, SHORT_ID_CHARACTERS), real.slice(0, SHORT_ID_CHARACTERS));
      }
    }
  }
  return names;
}

function replaceAll(text: string, names: Names, { back = false } = {}): string {
  const pairs = [...names].map(([shown, real]) => back ? [real, shown] : [shown, real]);
  const wanted = new Map(pairs as [string, string][]);
  if (wanted.size === 0) return text;
  const words = [...wanted.keys()].sort((a, b) => b.length - a.length);
  const pattern = new RegExp(`(?<![\\w])(?:${words.join("|")})(?![\\w])`, "g");
  return text.replace(pattern, (word) => wanted.get(word)!);
}

/** A free port for each port that the commands name. */
async function freePorts(steps: readonly Step[]): Promise<Names> {
  const named = steps.flatMap(({ command }) =>
    [...command.matchAll(/(?:server\.ts|localhost|--port) (\d{4,5})\b/g)].map(([, port]) => port!)
  );
  const ports = new Map<string, string>();
  for (const port of new Set(named)) ports.set(port, String(await freePort()));
  return ports;
}
