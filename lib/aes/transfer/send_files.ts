/**
 * Files and folders on their way out. Offers run ahead of the answers, and content ahead of the
 * acknowledgements, so that many small files cost no round trip each; how far ahead is bounded. A
 * sender outlives the channel it works on: what has not been acknowledged is offered again over the
 * next.
 */
import { createHash, timingSafeEqual } from "node:crypto";
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
import { Condition } from "../../base/condition.ts";
import type { LocalFile } from "./walk_files.ts";

/** Content under way that the receiver has not yet written: as much as a crash can cost. */
export const WINDOW_BYTES = 2 * 1024 * 1024;
/** So often a file is offered again that the receiver is getting over another connection. */
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
  /** The file was not sent; the others go on. */
  onFailed(file: LocalFile, reason: SealwireError): void;
  /** More of the content has been sent, or was found to be there already; no byte is told twice. */
  onProgress(bytes: { sent_bytes: number; skipped_bytes: number }): void;
  /** So many bytes of what the receiver has are hashed, there or here; null when that is over. */
  onChecking(file: LocalFile, done_bytes: number | null): void;
}

/** A file from its first offer until it is acknowledged or refused. */
interface Job {
  readonly file: LocalFile;
  tries: number;
  /** Where the content had to begin at the first try; null before that is known. */
  first_offset_bytes: number | null;
  sent_bytes: number;
  reported_bytes: number;
  /** On the present channel. */
  item: number;
  /**
   * The end of the content given to the present channel, and how much of it the receiver has
   * written.
   */
  position_bytes: number;
  written_bytes: number;
  sha256: Uint8Array | null;
}

export class FileSender {
  private readonly again: Job[] = [];
  private moved = 0;

  /** `next_item`: the number of the first file; those before it are used otherwise. */
  constructor(
    private readonly files: Iterator<LocalFile>,
    private readonly events: SendEvents,
    private next_item = 0,
  ) {}

  /** Rises whenever the receiver has more than before. */
  get progress(): number {
    return this.moved;
  }

  /**
   * Sends all that is left over `channel`, and resolves when everything has been acknowledged or
   * refused. After an error that a new connection can cure, `run` goes on over another channel.
   *
   * @throws {SealwireError} what ended the channel.
   */
  async run(channel: Channel): Promise<void> {
    const run = new SenderRun(channel, this.events, {
      next: () => this.nextJob(),
      again: (job) => this.again.push(job),
      moved: () => this.moved++,
    });
    try {
      await run.toEnd();
    } finally {
      this.again.push(...run.unfinished());
    }
  }

  private nextJob(): Job | null {
    const job = this.again.shift() ?? this.newJob();
    if (!job) return null;
    return Object.assign(job, {
      item: this.next_item++,
      first_offset_bytes: job.first_offset_bytes ?? (job.sent_bytes > 0 ? 0 : null),
      position_bytes: 0,
      written_bytes: 0,
      sha256: null,
    });
  }

  private newJob(): Job | null {
    const { value: file, done } = this.files.next();
    if (done) return null;
    return {
      file,
      tries: 0,
      first_offset_bytes: null,
      sent_bytes: 0,
      reported_bytes: 0,
      item: 0,
      position_bytes: 0,
      written_bytes: 0,
      sha256: null,
    };
  }
}

interface JobQueue {
  next(): Job | null;
  again(job: Job): void;
  moved(): void;
}

/** One channel's worth of sending: three loops, for offers, content, and what comes back. */
class SenderRun {
  private readonly jobs = new Map<number, Job>();
  private readonly answered: { job: Job; answer: Answer }[] = [];
  private readonly changed = new Condition();
  private unwritten_bytes = 0;
  /** Whether the receiver lacked the last file that it was asked about; null before the first answer. */
  private lacking: boolean | null = null;
  private ended = false;
  /** Room for a byte more, which would mean that the file has grown. */
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
      // When all is sent and acknowledged, the other loop still waits for a frame; it ends with the
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

  /** What must be offered again over the next channel. */
  unfinished(): Job[] {
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

  /**
   * Small files are not offered but sent at once, as long as the receiver has nothing of what it is
   * asked about.
   */
  private async offer(job: Job): Promise<void> {
    const { kind, size_bytes } = job.file;
    const small = kind === "file" && size_bytes <= SMALL_FILE_BYTES;
    if (small && this.lacking) return await this.sendWhole(job);
    await this.channel.send(FRAME.offer, encodeOffer({ ...job.file, item: job.item }));
    while (small && this.lacking === null && this.jobs.has(job.item)) await this.changed.wait();
  }

  private async sendWhole(job: Job): Promise<void> {
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

  private async transmit(job: Job, answer: Answer): Promise<void> {
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

  private async findOffset(job: Job, outgoing: OutgoingFile, answer: Answer): Promise<number> {
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

  private begin(job: Job, offset_bytes: number): void {
    // Of a small file that was there already, the content was passed over.
    this.unwritten_bytes -= job.position_bytes - job.written_bytes;
    job.position_bytes = offset_bytes;
    job.written_bytes = offset_bytes;
    job.first_offset_bytes ??= offset_bytes;
    const skipped_bytes = Math.max(offset_bytes - job.reported_bytes, 0);
    job.reported_bytes += skipped_bytes;
    if (skipped_bytes > 0) this.events.onProgress({ sent_bytes: 0, skipped_bytes });
  }

  private count(job: Job, size_bytes: number): void {
    job.position_bytes += size_bytes;
    job.sent_bytes += size_bytes;
    this.unwritten_bytes += size_bytes;
    const sent_bytes = Math.max(job.position_bytes - job.reported_bytes, 0);
    job.reported_bytes += sent_bytes;
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
      case FRAME.answer: {
        const answer = decodeAnswer(body);
        this.lacking = answer.has === "nothing";
        return void this.answered.push({ job: this.job(answer), answer });
      }
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

  private takeWorking({ item, offset_bytes }: Position): void {
    const job = this.jobs.get(item);
    // With all of the content it makes the file last, of which there is nothing to show.
    if (job && !job.sha256) this.events.onChecking(job.file, offset_bytes);
  }

  private takeWritten(position: Position): void {
    const job = this.jobs.get(position.item);
    // It may have been given up here while this was under way.
    if (!job) return;
    const { offset_bytes } = position;
    if (offset_bytes < job.written_bytes || offset_bytes > job.position_bytes) {
      throw protocolError("more is written than was sent");
    }
    this.unwritten_bytes -= offset_bytes - job.written_bytes;
    job.written_bytes = offset_bytes;
    this.queue.moved();
  }

  private takeAcknowledgement(acknowledgement: Acknowledgement): void {
    const job = this.job(acknowledgement);
    const sha256 = job.file.kind === "folder" ? NO_HASH : job.sha256;
    if (!sha256 || !timingSafeEqual(sha256, acknowledgement.sha256)) {
      throw protocolError("an acknowledgement of something else");
    }
    this.leave(job);
    this.queue.moved();
    const resumed_from_bytes = job.first_offset_bytes ?? 0;
    const needed_bytes = job.file.size_bytes - resumed_from_bytes;
    const resent_bytes = Math.max(job.sent_bytes - needed_bytes, 0);
    this.events.onSent({ file: job.file, resumed_from_bytes, resent_bytes, sha256 });
  }

  private takeRefusal(refusal: Refusal): void {
    const job = this.jobs.get(refusal.item);
    if (!job) return;
    if (refusal.code === "file_busy" && ++job.tries < BUSY_TRIES_MAX) {
      this.leave(job);
      this.queue.again(job);
      return;
    }
    this.fail(job, peerError(refusal.code, refusal.message));
  }

  private fail(job: Job, reason: SealwireError): void {
    if (!this.jobs.has(job.item)) return;
    this.leave(job);
    this.events.onFailed(job.file, reason);
  }

  private leave(job: Job): void {
    if (!this.jobs.delete(job.item)) return;
    this.unwritten_bytes -= job.position_bytes - job.written_bytes;
    job.written_bytes = job.position_bytes;
    this.changed.notifyAll();
  }

  private job({ item }: { item: number }): Job {
    const job = this.jobs.get(item);
    if (!job) throw protocolError("an answer to nothing that was offered");
    return job;
  }
}

/** What concerns the one file only. */
function isFileError(error: unknown): error is SealwireError {
  return isSealwireError(error, "file_changed") || isSealwireError(error, "file_unreadable");
}
