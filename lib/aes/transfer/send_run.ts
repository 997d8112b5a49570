/**
 * Sends files and folders over one channel. Offers run ahead of the answers, and content runs ahead
 * of the acknowledgements, so that many small files cost no round trip each. How far ahead is
 * limited.
 */
import { Condition } from "../../base/condition.ts";
import { isSealwireError, peerError, SealwireError } from "../../base/errors.ts";
import type { Channel } from "../channel/channel.ts";
import {
  type Answer,
  decodeAnswer,
  decodeHashed,
  decodeItem,
  decodePosition,
  decodeRefusal,
  encodeItem,
  encodeOffer,
  encodePosition,
  encodeSmallFile,
  FRAME,
  type Frame,
  type Hashed,
  ITEMS_IN_FLIGHT_MAX,
  type Position,
  protocolError,
  type Refusal,
  SMALL_FILE_BYTES,
  WORKING_INTERVAL_MS,
} from "../channel/frames.ts";
import { ContentCheck } from "./content_check.ts";
import { OutgoingFile, readWhole } from "./send_file.ts";
import type { SendJob } from "./send_job.ts";
import { SendWindow } from "./send_window.ts";
import type { LocalFile } from "./walk_files.ts";

/** How often a file is offered while the receiver gets it over another connection. */
const BUSY_TRIES_MAX = 8;
/** How often what the receiver has is built on, where that was found to differ before. */
const DIFFERED_MAX = 2;
/** Everything may stay. */
const KEEP_ALL_BYTES = Number.MAX_SAFE_INTEGER;

export interface SentFile {
  readonly file: LocalFile;
  /** The bytes that were there before this sender came, and were not sent. */
  readonly resumed_from_bytes: number;
  /** The bytes that were sent in vain: a connection was lost, or the receiver had them. */
  readonly resent_bytes: number;
}

export interface SendEvents {
  /** The file is safely on the receiver's disk. */
  onSent(sent: SentFile): void;
  /** The file was not sent. The others go on. */
  onFailed(file: LocalFile, reason: SealwireError): void;
  /** More content was sent, or was found at the receiver. No byte is reported twice. */
  onProgress(bytes: { sent_bytes: number; skipped_bytes: number }): void;
  /** Waiting until what the receiver has is compared: so far so much. Null when that is over. */
  onChecking(file: LocalFile, done_bytes: number | null): void;
}

interface JobQueue {
  next(): SendJob | null;
  putBack(job: SendJob): void;
  /** Called whenever the receiver has more than before. */
  onWritten(): void;
}

/** Sends over one channel, in three loops: for offers, for content, and for what comes back. */
export class SenderRun {
  private readonly jobs = new Map<number, SendJob>();
  private readonly answered: { job: SendJob; answer: Answer }[] = [];
  private readonly changed = new Condition();
  private readonly window = new SendWindow();
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
    while (this.windowIsFull()) await this.changed.wait();
    const { item, file } = job;
    try {
      const content = readWhole(file, this.smallFile);
      job.complete = true;
      this.count(job, content.length);
      await this.channel.send(FRAME.file, encodeSmallFile({ ...file, item }), content);
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
        await this.abort(next.job, KEEP_ALL_BYTES);
        this.fail(next.job, error);
      }
    }
  }

  private async transmit(job: SendJob, answer: Answer): Promise<void> {
    const outgoing = OutgoingFile.open(job.file);
    const { check } = job;
    const finished = answer.has === "finished";
    const usable = check !== null && (finished || job.differed_count < DIFFERED_MAX);
    const comparing = usable ? this.compare(job, outgoing, check) : Promise.resolve(true);
    // A failure is reported when the result is used.
    comparing.catch(() => {});
    try {
      if (finished) await this.confirm(job, outgoing, comparing);
      else await this.sendContent(job, outgoing, usable ? check.length_bytes : 0, comparing);
    } finally {
      check?.stop();
      await Promise.allSettled([comparing]);
      outgoing.close();
    }
  }

  /** Ends a file that the receiver has, if it is the same. */
  private async confirm(
    job: SendJob,
    outgoing: OutgoingFile,
    comparing: Promise<boolean>,
  ): Promise<void> {
    const same = await this.compared(job, comparing);
    if (!this.jobs.has(job.item)) return;
    if (same) return await this.end(job, outgoing, job.file.size_bytes);
    // The receiver refuses this, because it replaces nothing.
    await this.channel.send(FRAME.start, encodePosition({ item: job.item, offset_bytes: 0 }));
  }

  /** Sends the content from `offset_bytes` on, while what is there before that is compared. */
  private async sendContent(
    job: SendJob,
    outgoing: OutgoingFile,
    offset_bytes: number,
    comparing: Promise<boolean>,
  ): Promise<void> {
    const { item } = job;
    const goesOn = () => this.jobs.has(item) && (job.check?.equal_bytes ?? null) === null;
    this.begin(job, offset_bytes);
    await this.channel.send(FRAME.start, encodePosition({ item, offset_bytes }));
    for await (const piece of outgoing.pieces(offset_bytes)) {
      while (this.windowIsFull() && goesOn()) await this.changed.wait();
      if (!goesOn()) break;
      this.count(job, piece.length);
      this.window.sent(item, job.position_bytes, performance.now());
      await this.channel.send(FRAME.chunk, encodeItem(item), piece);
    }
    const same = await this.compared(job, comparing);
    if (!this.jobs.has(item)) return;
    if (same) await this.end(job, outgoing, null);
    else await this.offerAgain(job, job.check?.equal_bytes ?? 0);
  }

  private async end(
    job: SendJob,
    outgoing: OutgoingFile,
    found_bytes: number | null,
  ): Promise<void> {
    outgoing.requireSame();
    if (found_bytes !== null) this.begin(job, found_bytes);
    job.complete = true;
    const length = { item: job.item, offset_bytes: job.file.size_bytes };
    await this.channel.send(FRAME.end, encodePosition(length));
  }

  /** Offers a file anew, where the receiver had other bytes from `equal_bytes` on. */
  private async offerAgain(job: SendJob, equal_bytes: number): Promise<void> {
    await this.abort(job, equal_bytes);
    job.differ(equal_bytes);
    this.remove(job);
    this.queue.putBack(job);
  }

  private abort({ item }: SendJob, keep_bytes: number): Promise<void> {
    return this.channel.send(FRAME.abort, encodePosition({ item, offset_bytes: keep_bytes }));
  }

  /** Compares what the receiver has. Tells it every second that this end is still working. */
  private async compare(
    job: SendJob,
    outgoing: OutgoingFile,
    check: ContentCheck,
  ): Promise<boolean> {
    let told_at_ms = performance.now();
    const own = outgoing.hashes(check.length_bytes, (offset_bytes) => {
      if (job.shows_check) this.events.onChecking(job.file, offset_bytes);
      if (performance.now() - told_at_ms < WORKING_INTERVAL_MS) return;
      told_at_ms = performance.now();
      this.channel.send(FRAME.working, encodePosition({ item: job.item, offset_bytes }));
    });
    const same = await check.run(own);
    // Whoever waits for room in the window is needed no more where the contents differ.
    this.changed.notifyAll();
    return same;
  }

  /** Waits for the comparison, and shows how it goes on. */
  private async compared(job: SendJob, comparing: Promise<boolean>): Promise<boolean> {
    job.shows_check = job.check !== null;
    try {
      return await comparing;
    } finally {
      if (job.shows_check) this.events.onChecking(job.file, null);
      job.shows_check = false;
    }
  }

  private windowIsFull(): boolean {
    return this.unwritten_bytes >= this.window.size_bytes;
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
        // It says that the receiver is alive, and nothing else.
        return;
      case FRAME.hashed:
        return this.takeHashed(decodeHashed(body));
      case FRAME.written:
        return this.takeWritten(decodePosition(body));
      case FRAME.acknowledged:
        return this.takeAcknowledgement(decodeItem(body));
      case FRAME.refused:
        return this.takeRefusal(decodeRefusal(body));
      default:
        throw protocolError(`a frame of type ${type}`);
    }
  }

  private takeAnswer(answer: Answer): void {
    const job = this.job(answer.item);
    const { has, length_bytes } = answer;
    if (length_bytes > job.file.size_bytes) throw protocolError("it has more than was offered");
    this.receiverLacksFiles = has === "nothing";
    job.check = has === "nothing" ? null : new ContentCheck(length_bytes, this.changed);
    this.answered.push({ job, answer });
  }

  private takeHashed(hashed: Hashed): void {
    const job = this.jobs.get(hashed.item);
    // This end may have given the file up while the frame was on its way.
    if (!job) return;
    if (!job.check) throw protocolError("a hash of nothing");
    job.check.take(hashed);
  }

  private takeWritten({ item, offset_bytes }: Position): void {
    const job = this.jobs.get(item);
    // This end may have given the file up while the frame was on its way.
    if (!job) return;
    const new_bytes = offset_bytes - job.written_bytes;
    if (!job.write(offset_bytes)) throw protocolError("more is written than was sent");
    this.unwritten_bytes -= new_bytes;
    this.window.written(item, offset_bytes, new_bytes, performance.now());
    this.queue.onWritten();
  }

  private takeAcknowledgement(item: number): void {
    const job = this.job(item);
    const { file, resumed_from_bytes, resent_bytes } = job;
    if (file.kind === "file" && !job.complete) {
      throw protocolError("an acknowledgement of what was not sent");
    }
    this.remove(job);
    this.queue.onWritten();
    this.events.onSent({ file, resumed_from_bytes, resent_bytes });
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
    job.check?.stop();
    this.changed.notifyAll();
  }

  private job(item: number): SendJob {
    const job = this.jobs.get(item);
    if (!job) throw protocolError("an answer to nothing that was offered");
    return job;
  }
}

/** Whether an error concerns this one file only. */
function isFileError(error: unknown): error is SealwireError {
  return isSealwireError(error, "file_changed") || isSealwireError(error, "file_unreadable");
}
