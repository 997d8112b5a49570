/** The AES client: sends messages, files and folders, and gets the key by a pairing code. */
import process from "node:process";
import { isSealwireError, type SealwireError } from "../base/errors.ts";
import { retry } from "../base/retry.ts";
import { formatBytes, printable } from "../base/text.ts";
import type { Output } from "../cli/output.ts";
import { connectTcp, formatAddress } from "../net/net.ts";
import { type KeyFile, loadKeyFile, requireKeyPath, writeKeyFile } from "../aes_utils.ts";
import { sendClassicMessage } from "./classic.ts";
import { SendDisplay } from "./display.ts";
import { requestKey } from "./pairing/pairing.ts";
import { parsePairingCode } from "./pairing/pairing_code.ts";
import { checkMessageSize } from "./transfer/receive_message.ts";
import { FileSender } from "./transfer/send_files.ts";
import { sendAll } from "./transfer/transfer.ts";
import { checkPaths, walkFiles } from "./transfer/walk_files.ts";

const DEFAULT_MESSAGE = "Hello Server!";
const CONNECT_TIMEOUT_MS = 10_000;
/** How often, and how long, to ask again while the server pairs with another client. */
const BUSY_PAUSE_MS = 500;
const BUSY_TIMEOUT_MS = 15_000;

/** Where the server is, and what every command of the client needs. */
export interface AesClientOptions {
  readonly host: string;
  readonly port: number;
  /** Path of the key file. */
  readonly key: string;
  readonly out: Output;
  readonly interrupted: AbortSignal;
}

/** A message: its words, `-` for standard input, or none. */
export interface MessageOptions extends AesClientOptions {
  readonly words: readonly string[];
}

export interface SendOptions extends MessageOptions {
  /** Files and folders. */
  readonly paths: readonly string[];
  /** Gives up when nothing moves for so long. */
  readonly stall_ms: number;
}

/** Sends a message, files and folders over the channel, and shows each as it is acknowledged. */
export async function send(
  { host, port, key, out, interrupted, words, paths, stall_ms }: SendOptions,
): Promise<void> {
  checkPaths(paths);
  const { bytes: psk } = openKey(key, out);
  const hasFiles = paths.length > 0;
  const message = hasFiles && words.length === 0 ? null : await readMessage(words);
  const display = new SendDisplay(out, out.lively ? totalSize(paths) : 0);
  const skipped = (path: string, reason: SealwireError) => display.fail(path, reason);
  const files = hasFiles ? new FileSender(walkFiles(paths, skipped), display, 1) : null;
  await sendAll({ host, port, psk, stall_ms, interrupted }, {
    message,
    files,
    onMessageSent: (sent) => showSent(out, sent),
    onReconnect: ({ message }) => out.note(`${printable(message)}; connecting again`),
  });
  display.finish();
}

/** Sends a message to an old server. Nobody says whether it arrived. */
export async function sendClassic(
  { host, port, key, out, interrupted: signal, words }: MessageOptions,
): Promise<void> {
  const { aesKey } = openKey(key, out);
  out.warn(
    "--classic: the message is hidden, not protected. Whoever is in between can change it or send it again, and " +
      "nobody says whether it arrived.",
  );
  const message = await readMessage(words);
  await sendClassicMessage({ host, port, aesKey, signal }, message);
  showSent(out, message);
}

/** Gets the key file from a server that offers it to whoever knows the code. */
export async function pair(
  { host, port, key: path, out, interrupted: signal }: AesClientOptions,
  askCode: () => Promise<string>,
): Promise<void> {
  requireKeyPath(path);
  const code = parsePairingCode(await askCode());
  const request = async () => {
    const connection = await connectTcp({ host, port, timeout_ms: CONNECT_TIMEOUT_MS, signal });
    await requestKey(connection, code, (key) => writeKeyFile(path, key));
  };
  await retry(request, {
    pause_ms_min: BUSY_PAUSE_MS,
    pause_ms_max: BUSY_PAUSE_MS,
    timeout_ms: BUSY_TIMEOUT_MS,
    signal,
    isPassing: (error) => isSealwireError(error, "pairing_busy"),
  });
  const address = formatAddress(host, port);
  out.result({ paired: address, key: path }, `Paired with ${address}: the key is in ${path}`);
}

function openKey(path: string, out: Output): KeyFile {
  const file = loadKeyFile(path);
  for (const warning of file.warnings) out.warn(printable(warning));
  return file;
}

function showSent(out: Output, { length }: Uint8Array): void {
  out.result({ sent: "message", size_bytes: length }, `Sent a message (${formatBytes(length)})`);
}

async function readMessage(words: readonly string[]): Promise<Uint8Array> {
  if (words.length === 1 && words[0] === "-") return await readInput();
  return new TextEncoder().encode(words.length === 0 ? DEFAULT_MESSAGE : words.join(" "));
}

async function readInput(): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let size_bytes = 0;
  for await (const piece of process.stdin as AsyncIterable<Uint8Array>) {
    size_bytes += piece.length;
    checkMessageSize(size_bytes);
    pieces.push(piece);
  }
  return new Uint8Array(await new Blob(pieces as Uint8Array<ArrayBuffer>[]).arrayBuffer());
}

/** What all files have together, for the bar. */
function totalSize(paths: readonly string[]): number {
  let total_bytes = 0;
  for (const { size_bytes } of walkFiles(paths, () => {})) total_bytes += size_bytes;
  return total_bytes;
}
