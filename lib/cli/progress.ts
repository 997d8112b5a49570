/** A progress bar with rate and time left, on standard error. */
import { formatBytes, formatDuration } from "../base/text.ts";
import { writeError } from "./streams.ts";

const INTERVAL_MS = 100;
const BAR_COLUMNS = 24;

export type ProgressUnit = "bytes" | "entries";

/** `skip` counts what was there already, so that the rate shows only what is done now. */
export class Progress {
  private done = 0;
  private skipped = 0;
  private drawn_at_ms = 0;
  private readonly started_at_ms = performance.now();

  constructor(
    private readonly label: string,
    private readonly total: number,
    private readonly unit: ProgressUnit,
    private readonly visible: boolean,
  ) {}

  add(count: number): void {
    this.done += count;
    this.draw(false);
  }

  skip(count: number): void {
    this.skipped += count;
    this.draw(false);
  }

  /** Draws the last state and leaves the line, or wipes it when `wipe` is set. */
  finish(options: { wipe?: boolean } = {}): void {
    if (!this.visible) return;
    if (options.wipe) return writeError("\r\x1b[K");
    this.draw(true);
    writeError("\n");
  }

  private draw(force: boolean): void {
    const now_ms = performance.now();
    if (!this.visible || (!force && now_ms - this.drawn_at_ms < INTERVAL_MS)) return;
    this.drawn_at_ms = now_ms;
    const elapsed_s = Math.max((now_ms - this.started_at_ms) / 1000, 0.001);
    const at = this.done + this.skipped;
    const share = this.total > 0 ? Math.min(at / this.total, 1) : 1;
    const rate = this.done / elapsed_s;
    const left_s = rate > 0 ? (this.total - at) / rate : 0;
    const filled = Math.round(share * BAR_COLUMNS);
    const bar = "#".repeat(filled) + "-".repeat(BAR_COLUMNS - filled);
    const percent = String(Math.floor(share * 100)).padStart(3);
    const amount = this.unit === "bytes"
      ? `${formatBytes(rate)}/s`
      : `${Math.round(rate)} ${this.unit}/s`;
    writeError(
      `\r\x1b[K${this.label} [${bar}] ${percent}% ${amount} ${formatDuration(left_s)} left`,
    );
  }
}
