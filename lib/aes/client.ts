/** The AES client: sends messages, files and folders, and gets the key by a pairing code. */
import { closeSync, existsSync, openSync, writeSync } from "node:fs";
import { basename, join } from "node:path";
import process from "node:process";
import { isSealwireError, SealwireError, systemErrorCode } from "../base/errors.ts";
import { PRIVATE_FILE_MODE } from "../base/files.ts";
import { retry } from "../base/retry.ts";
import { formatBytes, printable } from "../base/text.ts";
import type { Output } from "../cli/output.ts";
import { connectTcp, formatAddress } from "../net/net.ts";
import { type KeyFile, loadKeyFile, requireKeyPath, writeKeyFile } from "../aes_utils.ts";
import { CLASSIC_MESSAGE_BYTES_MAX, sendClassicMessage } from "./classic.ts";
import { SendDisplay } from "./display.ts";
import { requestKey } from "./pairing/pairing.ts";
import { parsePairingCode } from "./pairing/pairing_code.ts";
import { makeTemporaryFolder } from "./temporary_folder.ts";
import { checkMessageSize } from "./transfer/receive_message.ts";
import { FileSender } from "./transfer/send_files.ts";
import { CONNECT_TIMEOUT_MS, sendAll } from "./transfer/transfer.ts";
import { checkPaths, walkFiles } from "./transfer/walk_files.ts";

const DEFAULT_MESSAGE = "Hello Server!";
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
  /** Files and folders; `-`, alone, for standard input. */
  readonly paths: readonly string[];
  /** The name of the file that standard input becomes. */
  readonly name: string | null;
  /** Texts name the SHA-256 of files. */
  readonly withHash: boolean;
  /** Asks a person a question; null where nobody is there. */
  readonly ask: ((question: string) => Promise<string | null>) | null;
  /** Gives up when nothing moves for so long. */
  readonly stall_ms: number;
}

/** Sends a message, files and folders over the channel, and shows each as it is acknowledged. */
export async function send(options: SendOptions): Promise<void> {
  const { paths, name } = options;
  if (!paths.includes("-")) {
    if (name !== null) throw new SealwireError("usage", "--name takes --file - beside it");
    return await sendPaths(await withMeantFile(options));
  }
  if (paths.length > 1 || options.words.includes("-")) {
    throw new SealwireError("usage", "standard input can be sent once: give --file - alone");
  }
  if (name === null) throw new SealwireError("usage", "--file - takes --name NAME beside it");
  // A file is offered with its size, and sent again from the middle after a cut.
  const spooled = await spoolInput(name, options.interrupted);
  try {
    await sendPaths({ ...options, paths: [spooled.path] });
  } finally {
    spooled.remove();
  }
}

/** `aes_client.ts holiday` where a file or folder `holiday` exists: was that meant? */
async function withMeantFile(options: SendOptions): Promise<SendOptions> {
  const { words, paths, out, ask } = options;
  const [word] = words;
  if (words.length !== 1 || paths.length > 0 || !isHere(word!)) return options;
  const shown = printable(word!);
  if (ask === null) {
    out.note(`sending the word "${shown}"; the file of that name is sent by --file ${shown}`);
    return options;
  }
  const answer = await ask(`"${shown}" is a file or folder here. Send that (yes/no)? `);
  return answer?.toLowerCase() === "yes" ? { ...options, words: [], paths: [word!] } : options;
}

/** Whether a word of a message names a file or folder here. */
function isHere(word: string): boolean {
  return word !== "" && word !== "-" && existsSync(word);
}

async function sendPaths(
  { host, port, key, out, interrupted, words, paths, stall_ms, withHash }: SendOptions,
): Promise<void> {
  checkPaths(paths);
  const { bytes: psk } = openKey(key, out);
  const hasFiles = paths.length > 0;
  const message = hasFiles && words.length === 0 ? null : await readMessage(words, interrupted);
  const display = new SendDisplay(out, out.lively ? totalSize(paths) : 0, withHash);
  const skipped = (path: string, reason: SealwireError) => display.fail(path, reason);
  const files = hasFiles ? new FileSender(walkFiles(paths, skipped), display, 1) : null;
  try {
    await sendAll({ host, port, psk, stall_ms, interrupted }, {
      message,
      files,
      onMessageSent: (sent) => showSent(out, sent),
      onReconnect: ({ message }) => out.note(`${printable(message)}; connecting again`),
    });
  } catch (error) {
    if (hasFiles && isSealwireError(error, "interrupted")) {
      out.note("interrupted: the same command goes on from there");
    }
    throw error;
  }
  await display.finish();
}

/**
 * Standard input in a file of its own, under the name that it is sent by. Throws `usage`,
 * `write_failed`.
 */
async function spoolInput(
  name: string,
  interrupted: AbortSignal,
): Promise<{ path: string; remove: () => void }> {
  if (name !== basename(name) || name === "" || name === "." || name === "..") {
    throw new SealwireError("usage", `--name takes a file's name without folders, not "${name}"`);
  }
  const { path: folder, remove } = makeTemporaryFolder("sealwire-in-");
  const path = join(folder, name);
  try {
    const file = openSync(path, "wx", PRIVATE_FILE_MODE);
    try {
      for await (const piece of inputPieces(interrupted)) {
        for (let at = 0; at < piece.length;) at += writeSync(file, piece, at);
      }
    } finally {
      closeSync(file);
    }
    return { path, remove };
  } catch (cause) {
    remove();
    interrupted.throwIfAborted();
    const message = `cannot keep standard input in ${folder} (${systemErrorCode(cause) ?? cause})`;
    throw new SealwireError("write_failed", message, { cause });
  }
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
  const message = await readMessage(words, signal);
  if (message.length > CLASSIC_MESSAGE_BYTES_MAX) {
    out.warn(
      `the C++ server shows no more than ${CLASSIC_MESSAGE_BYTES_MAX} bytes of a message: of these ` +
        `${message.length} it may cut the end off, or show nothing`,
    );
  }
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
  const file = namingWays(path, () => loadKeyFile(path));
  for (const warning of file.warnings) out.warn(printable(warning));
  return file;
}

/** Says how a missing key file comes here. */
function namingWays(path: string, load: () => KeyFile): KeyFile {
  try {
    return load();
  } catch (error) {
    if (!isSealwireError(error, "key_missing")) throw error;
    const message = `there is no key file ${path}: copy it from the server's machine, ` +
      "or start aes_server.ts --pair there, and here the command that it prints";
    throw new SealwireError("key_missing", message, { cause: error });
  }
}

function showSent(out: Output, { length }: Uint8Array): void {
  out.result({ sent: "message", size_bytes: length }, `Sent a message (${formatBytes(length)})`);
}

async function readMessage(
  words: readonly string[],
  interrupted: AbortSignal,
): Promise<Uint8Array> {
  if (words.length === 1 && words[0] === "-") return await readInput(interrupted);
  return new TextEncoder().encode(words.length === 0 ? DEFAULT_MESSAGE : words.join(" "));
}

/** Standard input, until its end or the interruption. Throws the signal's reason. */
async function* inputPieces(interrupted: AbortSignal): AsyncIterable<Uint8Array> {
  const stop = () => process.stdin.destroy();
  interrupted.addEventListener("abort", stop, { once: true });
  try {
    yield* process.stdin as AsyncIterable<Uint8Array>;
  } catch (error) {
    interrupted.throwIfAborted();
    throw error;
  } finally {
    interrupted.removeEventListener("abort", stop);
  }
  interrupted.throwIfAborted();
}

async function readInput(interrupted: AbortSignal): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let size_bytes = 0;
  for await (const piece of inputPieces(interrupted)) {
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
