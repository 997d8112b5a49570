/**
 * Finds messages in a stream that does not say where one ends. A C++ peer sends one message as one
 * TLS record. But neither runtime promises that one read is one record (both hand over several
 * records that arrive together), and line ends are optional. So:
 *
 * - A line end ends a message. Several lines are several messages.
 * - A text without a line end is a message at once if it reads as a request. A line end that
 *   follows shortly belongs to it.
 * - Any other text waits a moment, because more of it may come in another record. Then it is taken
 *   as it is.
 * - `REGISTER#<name>#` with a PEM key, which has line ends of its own, goes to the end of that key.
 *
 * Two cases cannot be told apart by anyone: a message in two records whose first is a request by
 * itself (`REGISTER#al`, `ice`), and two messages without line ends that arrive together. Neither
 * endangers money: an order names its payee last, and that must be the whole name of the account
 * whose session sends it.
 */
import { Buffer } from "node:buffer";
import { MESSAGE_BYTES_MAX, parseRequest } from "./format.ts";

/** How long a line end may come after the message that it belongs to. */
const LINE_END_MS = 1_000;
const PEM_START = /^REGISTER#[^#\r\n]*#-----BEGIN /;
const PEM_WHOLE = /^(REGISTER#[^#\r\n]*#-----BEGIN [A-Z ]+-----[^#]*?-----END [A-Z ]+-----)/;

export class MessageReader {
  private text = "";
  /** When the last message came, if it had no line end. */
  private unended_at_ms: number | null = null;

  /** Whether it holds bytes that may be the beginning of a message. */
  get holding(): boolean {
    return this.text !== "";
  }

  /**
   * Returns the messages that these bytes complete, without their line ends. One byte is one
   * character.
   */
  push(bytes: Uint8Array, now_ms: number): string[] {
    this.text += Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
    const messages: string[] = [];
    for (let message; (message = this.next(now_ms)) !== null;) messages.push(message);
    // This is longer than any message, so the rest does not matter.
    this.text = this.text.slice(0, MESSAGE_BYTES_MAX + 1);
    return messages;
  }

  /** Returns what it holds as a message, because no more of it has come. */
  flush(now_ms: number): string[] {
    const message = this.text;
    this.text = "";
    if (message === "") return [];
    this.unended_at_ms = now_ms;
    return [message];
  }

  private next(now_ms: number): string | null {
    this.dropLineEnd(now_ms);
    if (this.text === "") return null;
    const pem = PEM_WHOLE.exec(this.text)?.[1];
    if (pem !== undefined) return this.take(pem.length, pem.length, now_ms);
    if (PEM_START.test(this.text) && this.text.length <= MESSAGE_BYTES_MAX) return null;
    const end = this.text.indexOf("\n");
    if (end >= 0) {
      const length = this.text[end - 1] === "\r" ? end - 1 : end;
      return this.take(length, end + 1, null);
    }
    const message = this.text.replace(/\r$/, "");
    return isWhole(message) ? this.take(message.length, this.text.length, now_ms) : null;
  }

  /**
   * The first `length` characters, which `consumed` stand for; `unended_at_ms`: now, when no line
   * end came.
   */
  private take(length: number, consumed: number, unended_at_ms: number | null): string {
    const message = this.text.slice(0, length);
    this.text = this.text.slice(consumed);
    this.unended_at_ms = unended_at_ms;
    return message;
  }

  private dropLineEnd(now_ms: number): void {
    if (this.unended_at_ms === null || this.text === "") return;
    if (now_ms - this.unended_at_ms <= LINE_END_MS) {
      const lineEnd = /^(\r?\n|\r$)/.exec(this.text)?.[0] ?? "";
      this.text = this.text.slice(lineEnd.length);
      // The second half of a line end may still come.
      if (lineEnd === "\r") return;
    }
    this.unended_at_ms = null;
  }
}

/**
 * Whether the text is a whole request. A port that is too small may be the beginning of a longer
 * one.
 */
function isWhole(text: string): boolean {
  const request = parseRequest(text);
  return request !== null && !(request.type === "login" && request.port === null);
}
