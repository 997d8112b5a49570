/**
 * What was typed at the prompt, kept between runs: `prompt_history` in the keys folder, for the
 * user alone.
 */
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { PRIVATE_FILE_MODE, readTextFile, writeFileAtomic } from "../../base/files.ts";

const LINES_MAX = 1_000;
const FILE_BYTES_MAX = 4 * 1024 * 1024;

export class PromptHistory {
  /** Oldest first. */
  readonly lines: readonly string[];
  private readonly path: string;
  private last: string | undefined;

  constructor(keysFolder: string) {
    this.path = join(keysFolder, "prompt_history");
    this.lines = this.read();
    this.last = this.lines.at(-1);
  }

  /** A history that cannot be kept is no reason to stop. */
  add(line: string): void {
    if (line === "" || line === this.last) return;
    this.last = line;
    try {
      appendFileSync(this.path, `${line}\n`, { mode: PRIVATE_FILE_MODE });
    } catch {
      // The prompt works without.
    }
  }

  private read(): string[] {
    try {
      const options = { size_bytes_max: FILE_BYTES_MAX, code: "memory_unreadable" } as const;
      const lines = (readTextFile(this.path, options) ?? "").split("\n").filter(Boolean);
      if (lines.length <= 2 * LINES_MAX) return lines.slice(-LINES_MAX);
      const kept = lines.slice(-LINES_MAX);
      writeFileAtomic(this.path, kept.join("\n") + "\n", PRIVATE_FILE_MODE);
      return kept;
    } catch {
      return [];
    }
  }
}
