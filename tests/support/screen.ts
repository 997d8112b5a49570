/** A tool on a terminal of its own, whose screen is read as a person would: tmux draws it. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { RUNTIME, temporaryFolder } from "./support.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const WAIT_MS = 30_000;
const POLL_MS = 50;

/** Why tests on a screen are skipped, or false. */
export const skipScreen = spawnSync("tmux", ["-V"]).status === 0 ? false : "needs tmux";

export interface ScreenOptions {
  readonly columns?: number;
  readonly rows?: number;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

export class Screen {
  private readonly socket = join(temporaryFolder(), "tmux");

  /** Starts `tool` with `args`. The pane stays when the tool has ended. */
  constructor(tool: string, args: readonly string[], options: ScreenOptions = {}) {
    const { columns = 80, rows = 24, env = {}, cwd = ROOT } = options;
    const run = RUNTIME === "deno" ? ["run", "--quiet", "--no-check", "-A"] : [];
    const settings = Object.entries({ NO_COLOR: "1", ...env }).map(([name, value]) =>
      `${name}=${value}`
    );
    const command = ["env", ...settings, process.execPath, ...run, join(ROOT, tool), ...args]
      .map(quoted).join(" ");
    this.tmux(
      ...["-f", "/dev/null", "new-session", "-d", "-x", String(columns), "-y", String(rows)],
      ...["-c", cwd, `${command}; echo "[status $?]"; sleep 600`],
    );
  }

  /** Types text as it is. */
  type(text: string): void {
    this.tmux("send-keys", "-l", "--", text);
  }

  /** Presses keys by their tmux names: `Enter`, `Tab`, `C-c`. */
  press(...keys: string[]): void {
    for (const key of keys) this.tmux("send-keys", key);
  }

  enter(line: string): void {
    this.type(line);
    this.press("Enter");
  }

  resize(columns: number, rows = 24): void {
    this.tmux("resize-window", "-x", String(columns), "-y", String(rows));
  }

  /** The rows of the screen and what has scrolled off it, without what is blank at their ends. */
  get lines(): string[] {
    const text = this.tmux("capture-pane", "-p", "-S", "-2000").trimEnd();
    return text.split("\n").map((line) => line.trimEnd());
  }

  /** What is shown, with lines that the terminal has wrapped put together again. */
  get text(): string {
    return this.tmux("capture-pane", "-p", "-J", "-S", "-2000").trimEnd()
      .split("\n").map((line) => line.trimEnd()).join("\n");
  }

  /** Waits until the screen shows `expected`, wrapped or not, and returns its text. */
  async see(expected: string | RegExp): Promise<string> {
    const until_ms = Date.now() + WAIT_MS;
    while (true) {
      const { text } = this;
      if (typeof expected === "string" ? text.includes(expected) : expected.test(text)) return text;
      assert.ok(Date.now() < until_ms, `no ${expected} in\n${text}`);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  /** Waits for the end of the tool, and returns its exit status. */
  async ended(): Promise<number> {
    const text = await this.see(/\[status \d+\]/);
    return Number(/\[status (\d+)\]/.exec(text)![1]);
  }

  close(): void {
    spawnSync("tmux", ["-S", this.socket, "kill-server"]);
  }

  private tmux(...args: string[]): string {
    const env = { ...process.env, LC_ALL: "C.UTF-8" };
    return execFileSync("tmux", ["-u", "-S", this.socket, ...args], { encoding: "utf8", env });
  }
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
