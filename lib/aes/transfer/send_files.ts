/**
 * Sends files and folders, over one channel after another where one is lost. What was not
 * acknowledged is offered again over the next channel.
 */
import type { Channel } from "../channel/channel.ts";
import { SenderRun, type SendEvents } from "./send_run.ts";
import { SendJob } from "./send_job.ts";
import type { LocalFile } from "./walk_files.ts";

export class FileSender {
  private readonly unfinished: SendJob[] = [];
  private written_count = 0;

  /** `next_item`: the number of the first file. */
  constructor(
    private readonly files: Iterator<LocalFile>,
    private readonly events: SendEvents,
    private next_item = 0,
  ) {}

  /** Rises whenever the receiver has more than before. */
  get progress(): number {
    return this.written_count;
  }

  /**
   * Sends all that is left over `channel`. Resolves when everything was acknowledged or refused.
   * After an error that a new connection can cure, call this again with another channel.
   *
   * @throws {SealwireError} what ended the channel.
   */
  async run(channel: Channel): Promise<void> {
    const run = new SenderRun(channel, this.events, {
      next: () => this.nextJob(),
      putBack: (job) => this.unfinished.push(job),
      onWritten: () => this.written_count++,
    });
    try {
      await run.toEnd();
    } finally {
      this.unfinished.push(...run.unfinished());
    }
  }

  private nextJob(): SendJob | null {
    const job = this.unfinished.shift() ?? this.newJob();
    job?.startOver(this.next_item++);
    return job;
  }

  private newJob(): SendJob | null {
    const { value: file, done } = this.files.next();
    return done ? null : new SendJob(file);
  }
}
