/** Counts what happens to one file, from its first offer until it is acknowledged or refused. */
import type { ContentCheck } from "./content_check.ts";
import type { LocalFile } from "./walk_files.ts";

export class SendJob {
  /** How often the receiver was busy with this file. */
  busy_count = 0;
  /** The number of the file on the present channel. */
  item = 0;
  /** How often the receiver had other bytes than this file has. */
  differed_count = 0;
  /** Whether all of the content was sent, or was found at the receiver, on the present channel. */
  complete = false;
  /** The comparison of what the receiver has. Null where it has nothing. */
  check: ContentCheck | null = null;
  /** Whether someone waits for the comparison, and nothing else. */
  shows_check = false;
  /** Where the content began at the first try. Null before that is known. */
  private first_offset_bytes: number | null = null;
  private sent_bytes = 0;
  /** The part of the file that was reported as sent or skipped. */
  private reported_bytes = 0;
  /** The end of the content that was sent on the present channel. */
  position_bytes = 0;
  /** How much of the file the receiver has written. */
  written_bytes = 0;

  constructor(readonly file: LocalFile) {}

  /** The bytes that were there before this sender came, and were not sent. */
  get resumed_from_bytes(): number {
    return this.first_offset_bytes ?? 0;
  }

  /** The bytes that were sent in vain: a connection was lost, or the receiver had them. */
  get resent_bytes(): number {
    const needed_bytes = this.file.size_bytes - this.resumed_from_bytes;
    return Math.max(this.sent_bytes - needed_bytes, 0);
  }

  /** The bytes that were sent on the present channel and that the receiver has not written. */
  get unwritten_bytes(): number {
    return this.position_bytes - this.written_bytes;
  }

  /** Starts over on a new channel, or with a new offer on the same one. */
  startOver(item: number): void {
    this.item = item;
    this.complete = false;
    this.check = null;
    if (this.sent_bytes > 0) this.first_offset_bytes ??= 0;
    this.position_bytes = 0;
    this.written_bytes = 0;
  }

  /** The content begins here. Returns how many bytes are skipped and were not reported before. */
  begin(offset_bytes: number): number {
    this.first_offset_bytes ??= offset_bytes;
    this.position_bytes = offset_bytes;
    this.written_bytes = offset_bytes;
    return this.report();
  }

  /** What the receiver had was other content, from `equal_bytes` on. */
  differ(equal_bytes: number): void {
    this.differed_count++;
    this.first_offset_bytes = Math.min(this.resumed_from_bytes, equal_bytes);
  }

  /** Content is sent. Returns how many of these bytes were not reported before. */
  send(size_bytes: number): number {
    this.sent_bytes += size_bytes;
    this.position_bytes += size_bytes;
    return this.report();
  }

  /** The receiver has written the file up to here. Returns false where that cannot be. */
  write(offset_bytes: number): boolean {
    if (offset_bytes < this.written_bytes || offset_bytes > this.position_bytes) return false;
    this.written_bytes = offset_bytes;
    return true;
  }

  private report(): number {
    const new_bytes = Math.max(this.position_bytes - this.reported_bytes, 0);
    this.reported_bytes += new_bytes;
    return new_bytes;
  }
}
