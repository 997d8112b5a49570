/**
 * Reports what may happen many times in a second: at once the first time, and then at most once an
 * interval, with how often it has happened since.
 */
import { clearTimeout, setTimeout } from "node:timers";

const INTERVAL_MS_DEFAULT = 60_000;

export class RepeatedNotice {
  private count = 0;
  private timer: ReturnType<typeof setTimeout> | null = null;

  /** `report` gets how often it has happened since the last report. */
  constructor(
    private readonly report: (count: number) => void,
    private readonly interval_ms = INTERVAL_MS_DEFAULT,
  ) {}

  happened(): void {
    this.count++;
    if (this.timer === null) this.flush();
  }

  /** Reports what has not been reported. */
  close(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    if (this.count > 0) this.report(this.count);
    this.count = 0;
  }

  private flush(): void {
    this.timer = null;
    if (this.count === 0) return;
    const { count } = this;
    this.count = 0;
    this.timer = setTimeout(() => this.flush(), this.interval_ms);
    this.timer.unref();
    this.report(count);
  }
}
