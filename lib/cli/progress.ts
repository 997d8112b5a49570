/**
 * A progress bar with rate and time left, on standard error, within the columns of the terminal.
 */
import { formatBytes, formatDuration } from "../base/text.ts";
import { columnsOf, displayWidth, truncated } from "./columns.ts";
import { writeError } from "./streams.ts";

const INTERVAL_MS = 100;
const BAR_COLUMNS_MAX = 24;
/** A shorter bar says nothing. */
const BAR_COLUMNS_MIN = 5;

export type ProgressUnit = "bytes" | "entries";

/** `skip` counts what was there already, so that the rate shows only what is done now. */
export class Progress {
  private done = 0;
  private skipped = 0;
  private drawn_at_ms = 0;
  /** The columns that the line on the screen takes; 0 where there is none. */
  private drawn_columns = 0;
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
    if (options.wipe) return this.hide();
    this.draw(true);
    writeError("\n");
    this.drawn_columns = 0;
  }

  /** Takes the bar off the screen, so that something else can be printed there. */
  hide(): void {
    if (this.drawn_columns === 0) return;
    writeError(this.wiping());
    this.drawn_columns = 0;
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
    const amount = this.unit === "bytes"
      ? `${formatBytes(rate)}/s`
      : `${Math.round(rate)} ${this.unit}/s`;
    const line = barLine(this.label, share, `${amount} ${formatDuration(left_s)} left`);
    writeError(this.wiping() + line);
    this.drawn_columns = displayWidth(line);
  }

  /** Also wipes the rows into which a terminal that became narrower has broken the line. */
  private wiping(): string {
    const rows = Math.max(0, Math.ceil(this.drawn_columns / columnsOf()) - 1);
    return "\r\x1b[K" + "\x1b[A\x1b[K".repeat(rows);
  }
}

/** The line, one column less than the terminal has. A narrow one has no bar, or a shorter label. */
function barLine(label: string, share: number, rest: string): string {
  const columns = columnsOf() - 1;
  const numbers = `${String(Math.floor(share * 100)).padStart(3)}% ${rest}`;
  const free = columns - displayWidth(label) - numbers.length - " [] ".length;
  const width = Math.min(BAR_COLUMNS_MAX, free);
  if (width < BAR_COLUMNS_MIN) {
    const room = columns - numbers.length - 1;
    return room < 1 ? truncated(numbers, columns) : `${truncated(label, room)} ${numbers}`;
  }
  const filled = Math.round(share * width);
  return `${label} [${"#".repeat(filled)}${"-".repeat(width - filled)}] ${numbers}`;
}
