/**
 * Sends files and folders. Offers run ahead of the answers, and content runs ahead of the
 * acknowledgements, so that many small files cost no round trip each. How far ahead is limited.
 *
 * A sender outlives the channel that it works on. What was not acknowledged is offered again over
 * the next channel.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { Condition } from "../../base/condition.ts";
import { isSealwireError, peerError, SealwireError } from "../../base/errors.ts";
import type { Channel } from "../channel/channel.ts";
import {
  type Acknowledgement,
  type Answer,
  decodeAcknowledgement,
  decodeAnswer,
  decodePosition,
  decodeRefusal,
  encodeEnd,
  encodeItem,
  encodeOffer,
  encodePosition,
  encodeSmallFile,
  FRAME,
  type Frame,
  ITEMS_IN_FLIGHT_MAX,
  type Position,
  protocolError,
  type Refusal,
  SHA256_BYTES,
  SMALL_FILE_BYTES,
  WORKING_INTERVAL_MS,
} from "../channel/frames.ts";
import { OutgoingFile, readWhole } from "./send_file.ts";
import { SendJob } from "./send_job.ts";
import type { LocalFile } from "./walk_files.ts";

/** The most content that was sent and that the receiver has not written. A crash can cost that. */
export const WINDOW_BYTES = 2 * 1024 * 1024;
/** How often a file is offered while the receiver gets it over another connection. */
const BUSY_TRIES_MAX = 8;
const NO_HASH = new Uint8Array(SHA256_BYTES);

export interface SentFile {
  readonly file: LocalFile;
  /** The bytes that were there before this sender came, and were not sent. */
  readonly resumed_from_bytes: number;
  /** The bytes that were sent in vain: a connection was lost, or the receiver had them. */
  readonly resent_bytes: number;
  /** All zero for a folder. */
  readonly sha256: Uint8Array;
}

export interface SendEvents {
  /** The file is safely on the receiver's disk. */
  onSent(sent: SentFile): void;
  /** The file was not sent. The others go on. */
  onFailed(file: LocalFile, reason: SealwireError): void;
  /** More content was sent, or was found at the receiver. No byte is reported twice. */
  onProgress(bytes: { sent_bytes: number; skipped_bytes: number }): void;
  /** One of the ends has hashed this much of what the receiver has. Null when that is over. */
  onChecking(file: LocalFile, done_bytes: number | null): void;
}

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

interface JobQueue {
  next(): SendJob | null;
  putBack(job: SendJob): void;
  /** Called whenever the receiver has more than before. */
  onWritten(): void;
}

/** Sends over one channel, in three loops: for offers, for content, and for what comes back. */
class SenderRun {
  private readonly jobs = new Map<number, SendJob>();
  private readonly answered: { job: SendJob; answer: Answer }[] = [];
  private readonly changed = new Condition();
  private unwritten_bytes = 0;
  /** Whether the receiver lacked the last file it was asked about. Null before its first answer. */
  private receiverLacksFiles: boolean | null = null;
  private ended = false;
  /** A buffer with room for one byte more, which shows that a file has grown. */
  private readonly smallFile = new Uint8Array(SMALL_FILE_BYTES + 1);

  constructor(
    private readonly channel: Channel,
    private readonly events: SendEvents,
    private readonly queue: JobQueue,
  ) {}

  async toEnd(): Promise<void> {
    const sent = Promise.all([this.offerAll(), this.transmitAll()]);
    const received = this.receiveAll();
    try {
      // When all is acknowledged, the receiving loop still waits for a frame. It ends with the
      // channel.
      await Promise.race([sent, received]);
    } catch (error) {
      const reason = isSealwireError(error) ? error : undefined;
      this.channel.destroy(reason ?? new SealwireError("connection_lost", "the sender failed"));
      this.changed.fail(error as Error);
      await Promise.allSettled([sent, received]);
      throw error;
    }
  }

  /** Returns what must be offered again over the next channel. */
  unfinished(): SendJob[] {
    return [...this.jobs.values()];
  }

  private async offerAll(): Promise<void> {
    while (true) {
      while (this.jobs.size >= ITEMS_IN_FLIGHT_MAX) await this.changed.wait();
      const job = this.queue.next();
      if (job) {
        this.jobs.set(job.item, job);
        await this.offer(job);
      } else if (this.jobs.size > 0) {
        await this.changed.wait();
      } else {
        break;
      }
    }
    this.ended = true;
    this.changed.notifyAll();
  }

  /** Offers a file. A small one is sent at once, as long as the receiver lacks what it is asked. */
  private async offer(job: SendJob): Promise<void> {
    const { kind, size_bytes } = job.file;
    const small = kind === "file" && size_bytes <= SMALL_FILE_BYTES;
    if (small && this.receiverLacksFiles) return await this.sendWhole(job);
    await this.channel.send(FRAME.offer, encodeOffer({ ...job.file, item: job.item }));
    if (!small) return;
    while (this.receiverLacksFiles === null && this.jobs.has(job.item)) await this.changed.wait();
  }

  private async sendWhole(job: SendJob): Promise<void> {
    while (this.unwritten_bytes >= WINDOW_BYTES) await this.changed.wait();
    const { item, file } = job;
    try {
      const content = readWhole(file, this.smallFile);
      const sha256 = job.sha256 = createHash("sha256").update(content).digest();
      this.count(job, content.length);
      await this.channel.send(FRAME.file, encodeSmallFile({ ...file, item }, sha256), content);
    } catch (error) {
      if (!isFileError(error)) throw error;
      this.fail(job, error);
    }
  }

  private async transmitAll(): Promise<void> {
    while (true) {
      while (this.answered.length === 0 && !this.ended) await this.changed.wait();
      const next = this.answered.shift();
      if (!next) return;
      try {
        await this.transmit(next.job, next.answer);
      } catch (error) {
        if (!isFileError(error)) throw error;
        await this.channel.send(FRAME.abort, encodeItem(next.job.item));
        this.fail(next.job, error);
      }
    }
  }

  private async transmit(job: SendJob, answer: Answer): Promise<void> {
    const outgoing = OutgoingFile.open(job.file);
    const { item } = job;
    try {
      const offset_bytes = await this.findOffset(job, outgoing, answer);
      if (!this.jobs.has(item)) return;
      const complete = answer.has === "finished" && offset_bytes === answer.length_bytes;
      this.begin(job, offset_bytes);
      if (!complete) await this.channel.send(FRAME.start, encodePosition({ item, offset_bytes }));
      for await (const piece of outgoing.pieces()) {
        while (this.unwritten_bytes >= WINDOW_BYTES && this.jobs.has(item)) {
          await this.changed.wait();
        }
        if (!this.jobs.has(item)) return;
        this.count(job, piece.length);
        await this.channel.send(FRAME.chunk, encodeItem(item), piece);
      }
      job.sha256 = outgoing.finish();
      const end = { item, length_bytes: job.file.size_bytes, sha256: job.sha256 };
      await this.channel.send(FRAME.end, encodeEnd(end));
    } finally {
      outgoing.close();
    }
  }

  private async findOffset(job: SendJob, outgoing: OutgoingFile, answer: Answer): Promise<number> {
    let told_at_ms = performance.now();
    const offset_bytes = await outgoing.resumeFrom(answer, (offset_bytes) => {
      this.events.onChecking(job.file, offset_bytes);
      if (performance.now() - told_at_ms < WORKING_INTERVAL_MS) return;
      told_at_ms = performance.now();
      this.channel.send(FRAME.working, encodePosition({ item: job.item, offset_bytes }));
    });
    if (answer.has !== "nothing") this.events.onChecking(job.file, null);
    return offset_bytes;
  }

  private begin(job: SendJob, offset_bytes: number): void {
    // The content of a small file was already sent once, if the receiver asks for it after all.
    this.unwritten_bytes -= job.unwritten_bytes;
    const skipped_bytes = job.begin(offset_bytes);
    if (skipped_bytes > 0) this.events.onProgress({ sent_bytes: 0, skipped_bytes });
  }

  private count(job: SendJob, size_bytes: number): void {
    this.unwritten_bytes += size_bytes;
    const sent_bytes = job.send(size_bytes);
    if (sent_bytes > 0) this.events.onProgress({ sent_bytes, skipped_bytes: 0 });
  }

  private async receiveAll(): Promise<void> {
    for (let frame = await this.channel.receive(); frame; frame = await this.channel.receive()) {
      this.take(frame);
      this.changed.notifyAll();
    }
    throw new SealwireError("connection_lost", "the server ended the connection too early");
  }

  private take({ type, body }: Frame): void {
    switch (type) {
      case FRAME.answer:
        return this.takeAnswer(decodeAnswer(body));
      case FRAME.working:
        return this.takeWorking(decodePosition(body));
      case FRAME.written:
        return this.takeWritten(decodePosition(body));
      case FRAME.acknowledged:
        return this.takeAcknowledgement(decodeAcknowledgement(body));
      case FRAME.refused:
        return this.takeRefusal(decodeRefusal(body));
      default:
        throw protocolError(`a frame of type ${type}`);
    }
  }

  private takeAnswer(answer: Answer): void {
    this.receiverLacksFiles = answer.has === "nothing";
    this.answered.push({ job: this.job(answer), answer });
  }

  private takeWorking({ item, offset_bytes }: Position): void {
    const job = this.jobs.get(item);
    // A receiver that has all of the content is syncing it. There is no progress to show then.
    if (job && !job.sha256) this.events.onChecking(job.file, offset_bytes);
  }

  private takeWritten({ item, offset_bytes }: Position): void {
    const job = this.jobs.get(item);
    // This end may have given the file up while the frame was on its way.
    if (!job) return;
    this.unwritten_bytes -= job.unwritten_bytes;
    if (!job.write(offset_bytes)) throw protocolError("more is written than was sent");
    this.unwritten_bytes += job.unwritten_bytes;
    this.queue.onWritten();
  }

  private takeAcknowledgement(acknowledgement: Acknowledgement): void {
    const job = this.job(acknowledgement);
    const { file, resumed_from_bytes, resent_bytes } = job;
    const sha256 = file.kind === "folder" ? NO_HASH : job.sha256;
    if (!sha256 || !timingSafeEqual(sha256, acknowledgement.sha256)) {
      throw protocolError("an acknowledgement of something else");
    }
    this.remove(job);
    this.queue.onWritten();
    this.events.onSent({ file, resumed_from_bytes, resent_bytes, sha256 });
  }

  private takeRefusal({ item, code, message }: Refusal): void {
    const job = this.jobs.get(item);
    if (!job) return;
    if (code === "file_busy" && ++job.busy_count < BUSY_TRIES_MAX) {
      this.remove(job);
      this.queue.putBack(job);
      return;
    }
    this.fail(job, peerError(code, message));
  }

  private fail(job: SendJob, reason: SealwireError): void {
    if (!this.jobs.has(job.item)) return;
    this.remove(job);
    this.events.onFailed(job.file, reason);
  }

  private remove(job: SendJob): void {
    if (!this.jobs.delete(job.item)) return;
    this.unwritten_bytes -= job.unwritten_bytes;
    this.changed.notifyAll();
  }

  private job({ item }: { item: number }): SendJob {
    const job = this.jobs.get(item);
    if (!job) throw protocolError("an answer to nothing that was offered");
    return job;
  }
}

/** Whether an error concerns this one file only. */
function isFileError(error: unknown): error is SealwireError {
  return isSealwireError(error, "file_changed") || isSealwireError(error, "file_unreadable");
}
