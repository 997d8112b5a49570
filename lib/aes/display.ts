/** Shows the work of the AES pair: results, progress bars, and harmless texts from others. */
import { Buffer } from "node:buffer";
import type { Output } from "../cli/output.ts";
import type { PairingOffer } from "./pairing/pairing_code.ts";
import type { Progress } from "../cli/progress.ts";
import { reachableHost } from "../net/own_addresses.ts";
import { formatBytes, printable } from "../base/text.ts";
import { SealwireError, systemErrorCode } from "../base/errors.ts";
import { hashFile } from "./transfer/file_hash.ts";
import type { ReceivedFile } from "./transfer/receive.ts";
import type { SendEvents, SentFile } from "./transfer/send_run.ts";
import type { LocalFile } from "./transfer/walk_files.ts";

/** How many lines of a message are printed at a time. */
const LINES_AT_ONCE_MAX = 4_096;
/** How many failures a final error names one by one under `--json`. */
const FAILURES_SHOWN_MAX = 100;

/**
 * Shows a message. Each of its lines begins with the sender's address and `> `, so that no text can
 * pass for a line of the server or of another sender.
 */
export function showMessage(out: Output, from: string, message: Uint8Array): void {
  const { text, base64 } = decodeText(message);
  if (!out.json) {
    if (message.length === 0) return out.result({}, `${from}> (an empty message)`);
    if (base64 !== null) {
      const size = formatBytes(message.length);
      return out.result({}, `${from}> (${size} that are no text; --json prints them)`);
    }
    for (const lines of inBatches(text)) {
      out.result({}, lines.map((line) => `${from}> ${printable(line)}`).join("\n"));
    }
    return;
  }
  const result = { event: "message", text, from, size_bytes: message.length };
  out.result(base64 === null ? result : { ...result, base64 }, "");
}

/**
 * Splits a text into batches of lines. A text of nothing but line ends then needs little memory.
 */
function* inBatches(text: string): Iterable<string[]> {
  let lines: string[] = [];
  let start = 0;
  while (start <= text.length) {
    const found = text.indexOf("\n", start);
    const end = found < 0 ? text.length : found;
    lines.push(text.slice(start, end));
    start = end + 1;
    if (lines.length === LINES_AT_ONCE_MAX) {
      yield lines;
      lines = [];
    }
  }
  if (lines.length > 0) yield lines;
}

/** `sha256`: the file's hash in hex, where it was asked for. */
export function showReceivedFile(
  out: Output,
  from: string,
  file: ReceivedFile,
  sha256: string | null,
): void {
  const { name, path, size_bytes } = file;
  out.result(
    { event: "file", name, path, size_bytes, from, ...(sha256 === null ? {} : { sha256 }) },
    `Received ${printable(path)} (${formatBytes(size_bytes)}) from ${from}${shownHash(sha256)}`,
  );
}

/**
 * Decodes a message. One that is not UTF-8 is given twice: as text with replacement characters, and
 * exactly, as base64.
 */
function decodeText(bytes: Uint8Array): { text: string; base64: string | null } {
  const decode = (fatal: boolean) => new TextDecoder("utf-8", { fatal, ignoreBOM: true });
  try {
    return { text: decode(true).decode(bytes), base64: null };
  } catch {
    return { text: decode(false).decode(bytes), base64: Buffer.from(bytes).toString("base64") };
  }
}

/** Shows files, each with its SHA-256 where that was asked for. */
export class HashDisplay {
  /** The files whose hashes are being computed, one after the other. */
  private hashing: Promise<void> = Promise.resolve();

  /** `withHash`: each file is read once more, and shown then. Otherwise it is shown at once. */
  constructor(private readonly out: Output, private readonly withHash: boolean) {}

  /** `show` gets the hash in hex; null where none was asked for, or the file cannot be read. */
  show(path: string, show: (sha256: string | null) => void): void {
    if (!this.withHash) return show(null);
    this.hashing = this.hashing.then(async () => show(await this.hash(path)));
  }

  /** Resolves when every file is shown. */
  async finish(): Promise<void> {
    await this.hashing;
  }

  private async hash(path: string): Promise<string | null> {
    try {
      return await hashFile(path);
    } catch (error) {
      this.out.warn(`no SHA-256 of ${printable(path)} (${systemErrorCode(error) ?? error})`);
      return null;
    }
  }
}

function shownHash(sha256: string | null): string {
  return sha256 === null ? "" : `\nSHA-256 ${sha256}`;
}

/**
 * Shows files that are being sent: a bar for all of them, another one while a file is checked, and
 * a result for each.
 */
export class SendDisplay implements SendEvents {
  private readonly failures: { name: string; error: SealwireError }[] = [];
  private failure_count = 0;
  private sent_count = 0;
  private checking: { bar: Progress; done_bytes: number } | null = null;
  private readonly bar: Progress;
  private readonly hashes: HashDisplay;

  /** `withHash`: each file is read once more, and its SHA-256 shown. */
  constructor(private readonly out: Output, total_bytes: number, withHash: boolean) {
    this.hashes = new HashDisplay(out, withHash);
    this.bar = out.progress("sending", total_bytes);
  }

  onSent(sent: SentFile): void {
    this.sent_count++;
    const { kind, path } = sent.file;
    if (kind === "folder") this.showSent(sent, null);
    else this.hashes.show(path, (sha256) => this.showSent(sent, sha256));
  }

  private showSent(
    { file: { name, kind, size_bytes }, resumed_from_bytes, resent_bytes }: SentFile,
    sha256: string | null,
  ): void {
    this.bar.finish({ wipe: true });
    const there = resumed_from_bytes > 0 ? `, of it ${formatBytes(resumed_from_bytes)} before` : "";
    const hash = sha256 === null ? {} : { sha256 };
    this.out.result(
      kind === "folder"
        ? { sent: kind, name }
        : { sent: kind, name, size_bytes, resumed_from_bytes, resent_bytes, ...hash },
      kind === "folder"
        ? `Sent the folder ${printable(name)}`
        : `Sent ${printable(name)} (${formatBytes(size_bytes)}${there})${shownHash(sha256)}`,
    );
  }

  onFailed(file: LocalFile, reason: SealwireError): void {
    this.fail(file.name, reason);
  }

  fail(name: string, error: SealwireError): void {
    this.bar.finish({ wipe: true });
    this.failure_count++;
    if (this.failures.length < FAILURES_SHOWN_MAX) this.failures.push({ name, error });
    this.out.warn(`not sent: ${printable(error.message)}`);
  }

  onProgress({ sent_bytes, skipped_bytes }: { sent_bytes: number; skipped_bytes: number }): void {
    if (skipped_bytes > 0) this.bar.skip(skipped_bytes);
    if (sent_bytes > 0) this.bar.add(sent_bytes);
  }

  onChecking(file: LocalFile, done_bytes: number | null): void {
    if (done_bytes === null) {
      this.checking?.bar.finish({ wipe: true });
      this.checking = null;
      return;
    }
    // The receiver has hashed its part. Now this end hashes its own.
    if (this.checking && done_bytes < this.checking.done_bytes) this.onChecking(file, null);
    const label = `checking ${printable(file.name)}`;
    this.checking ??= { bar: this.out.progress(label, file.size_bytes), done_bytes: 0 };
    this.checking.bar.add(done_bytes - this.checking.done_bytes);
    this.checking.done_bytes = done_bytes;
  }

  /** Removes the bar. Throws the first failure, if any, and says how many there were. */
  async finish(): Promise<void> {
    await this.hashes.finish();
    this.bar.finish({ wipe: true });
    const [first] = this.failures;
    if (!first) return;
    const { code, message } = first.error;
    const total = this.failure_count + this.sent_count;
    const text = total === 1 ? message : `${this.failure_count} of ${total} not sent; ${message}`;
    const failed = this.failures.map(({ name, error }) => ({ name, code: error.code }));
    throw new SealwireError(code, text, { cause: first.error, details: { failed } });
  }
}

/** Shows the code by which one client may get the key. */
export function showOffer(
  out: Output,
  { code }: PairingOffer,
  address: { readonly host: string; readonly port: number },
  called: string,
): void {
  const host = reachableHost(address.host);
  const client = called.replace("server", "client");
  const command = `${client} --host ${host} --port ${address.port} --pair ${code}`;
  out.result(
    { event: "pairing", code, host, port: address.port, command },
    `Pairing code, for one client within ten minutes: ${code}\nAt the other end:\n  ${command}`,
  );
}
