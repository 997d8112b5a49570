/**
 * Receives messages, files and folders from one client until it closes its channel. Frames are
 * handled in order. Two things run beside them: the last step of a file, syncing and publishing it,
 * for many files at once; and the hashing of what is there of files, for one after the other.
 */
import type { ByteAccount } from "../../base/byte_budget.ts";
import { SealwireError, systemErrorCode, toSealwireError } from "../../base/errors.ts";
import type { Channel } from "../channel/channel.ts";
import {
  decodeChunk,
  decodeOffer,
  decodePosition,
  decodeSmallFile,
  encodeAnswer,
  encodeHashed,
  encodeItem,
  encodePosition,
  encodeRefusal,
  FRAME,
  type Frame,
  ITEMS_IN_FLIGHT_MAX,
  type Offer,
  type Position,
  protocolError,
  type SmallFile,
  WORKING_INTERVAL_MS,
} from "../channel/frames.ts";
import { parseFileName } from "./names.ts";
import { IncomingFile } from "./receive_file.ts";
import type { ReceiveFolder } from "./receive_folder.ts";
import { IncomingMessage } from "./receive_message.ts";

/** The most files of one connection whose content has begun and not ended. Each one is open. */
const STARTED_MAX = 8;

export interface ReceivedFile {
  readonly name: string;
  /** The path under `--out`, as that was given. */
  readonly path: string;
  readonly size_bytes: number;
}

export interface Receiver {
  readonly folder: ReceiveFolder;
  readonly bytes: ByteAccount;
  /** Called once for each complete message, before it is acknowledged. */
  onMessage(message: Uint8Array): void;
  /** Called once for each new file that is safely on the disk, before it is acknowledged. */
  onFile(file: ReceivedFile): void;
  /** Called for each file, folder or message that is refused. */
  onRefused?(name: string, reason: SealwireError): void;
}

interface ActiveFile {
  readonly offer: Offer;
  readonly incoming: IncomingFile;
}

/**
 * Serves one client until its `close`. Unfinished files stay, so that a later connection can go on.
 *
 * @throws {SealwireError} what ended the channel.
 */
export async function receiveItems(channel: Channel, receiver: Receiver): Promise<void> {
  const items = new ItemReceiver(channel, receiver);
  try {
    for (let frame = await channel.receive(); frame; frame = await channel.receive()) {
      await items.handle(frame);
      // A client that reads no answers may send no more.
      await channel.roomToSend();
    }
    await items.finished();
    await channel.close();
  } catch (error) {
    channel.destroy(toSealwireError(error));
    throw error;
  } finally {
    await items.release();
  }
}

class ItemReceiver {
  private message: IncomingMessage | null = null;
  private readonly files = new Map<number, ActiveFile>();
  /** The files whose content has begun and not ended. */
  private readonly started = new Set<number>();
  /** Files that are being synced and published, by item. */
  private readonly finishing = new Map<number, Promise<void>>();
  private readonly heartbeat: ReturnType<typeof setInterval>;
  /** Ends when all that was offered so far and was there is hashed. */
  private hashing: Promise<void> = Promise.resolve();
  /** Where the hashing is. */
  private hashed: Position | null = null;
  private item_max = -1;

  constructor(private readonly channel: Channel, private readonly receiver: Receiver) {
    this.heartbeat = setInterval(() => this.sendWorking(), WORKING_INTERVAL_MS);
  }

  async handle({ type, body }: Frame): Promise<void> {
    switch (type) {
      case FRAME.message:
        return this.startMessage(decodePosition(body));
      case FRAME.offer:
        return await this.takeOffer(decodeOffer(body));
      case FRAME.file:
        return await this.takeSmallFile(decodeSmallFile(body));
      case FRAME.start:
        return await this.startFile(decodePosition(body));
      case FRAME.chunk:
        return await this.takeChunk(decodeChunk(body));
      case FRAME.end:
        return await this.takeEnd(decodePosition(body));
      case FRAME.abort:
        return await this.abort(decodePosition(body));
      case FRAME.working:
        return void decodePosition(body);
      default:
        throw protocolError(`a frame of type ${type}`);
    }
  }

  /** Resolves when every file that has arrived is on the disk and acknowledged. */
  async finished(): Promise<void> {
    await Promise.all(this.finishing.values());
  }

  /** Gives up all unfinished items. */
  async release(): Promise<void> {
    this.message?.release();
    this.message = null;
    await Promise.allSettled(this.finishing.values());
    clearInterval(this.heartbeat);
    const files = [...this.files.values()];
    await Promise.allSettled(files.map(({ offer, incoming }) => this.close(offer, incoming)));
    this.files.clear();
    await this.hashing;
  }

  private startMessage(announced: Position): void {
    this.requireNewItem(announced.item);
    if (this.message) throw protocolError("two messages at once");
    try {
      this.message = new IncomingMessage(announced, this.receiver.bytes);
    } catch (error) {
      this.refuse(announced.item, "a message", error);
    }
  }

  private async takeOffer(offer: Offer): Promise<void> {
    this.admitFile(offer.item);
    try {
      const parts = parseFileName(offer.name);
      if (offer.kind === "folder") await this.takeFolder(offer, parts);
      else await this.answerOffer(offer, parts);
    } catch (error) {
      this.refuse(offer.item, offer.name, error);
    }
  }

  private async takeSmallFile({ offer, content }: SmallFile): Promise<void> {
    this.admitFile(offer.item);
    const { folder } = this.receiver;
    try {
      const parts = parseFileName(offer.name);
      // Where the name is taken, or about to be, the file is treated as an offer.
      if (!folder.claimVacant(offer.name, parts, this)) return await this.answerOffer(offer, parts);
      this.files.set(offer.item, { offer, incoming: new IncomingFile(folder, offer, parts) });
    } catch (error) {
      return this.refuse(offer.item, offer.name, error);
    }
    await this.withFile(offer.item, ({ incoming }) => incoming.writeWhole(content));
    await this.takeEnd({ item: offer.item, offset_bytes: content.length });
  }

  private admitFile(item: number): void {
    this.requireNewItem(item);
    if (this.files.size + this.finishing.size >= ITEMS_IN_FLIGHT_MAX) {
      throw protocolError("too many offers at once");
    }
  }

  private async answerOffer(offer: Offer, parts: readonly string[]): Promise<void> {
    const { folder } = this.receiver;
    await folder.claim(offer.name, this);
    try {
      const incoming = new IncomingFile(folder, offer, parts);
      const answer = incoming.answer();
      this.files.set(offer.item, { offer, incoming });
      this.channel.send(FRAME.answer, encodeAnswer(answer));
      if (answer.has === "nothing") return;
      this.hashing = this.hashing.then(() => this.hash(offer.item))
        .catch((error) => this.channel.destroy(toSealwireError(error)));
    } catch (error) {
      folder.release(offer.name, this);
      throw error;
    }
  }

  /** Sends the hashes of what is there of a file, so that the client can compare. */
  private async hash(item: number): Promise<void> {
    await this.withFile(item, async ({ incoming }) => {
      const onProgress = (offset_bytes: number) => this.hashed = { item, offset_bytes };
      for await (const prefix of incoming.hashes(onProgress)) {
        this.channel.send(FRAME.hashed, encodeHashed({ item, ...prefix }));
        await this.channel.roomToSend();
      }
    });
    this.hashed = null;
  }

  private async takeFolder(offer: Offer, parts: readonly string[]): Promise<void> {
    await this.receiver.folder.makeFolders(parts);
    this.acknowledge(offer.item);
  }

  private async startFile({ item, offset_bytes }: Position): Promise<void> {
    await this.withFile(item, ({ incoming }) => incoming.start(offset_bytes));
    if (!this.files.has(item)) return;
    this.started.add(item);
    if (this.started.size > STARTED_MAX) throw protocolError("too many files at once");
  }

  private async takeChunk({ item, bytes }: { item: number; bytes: Uint8Array }): Promise<void> {
    if (this.message?.item === item) return this.message.write(bytes);
    await this.withFile(item, async ({ incoming }) => {
      const offset_bytes = await incoming.write(bytes);
      if (offset_bytes > 0) {
        this.channel.send(FRAME.written, encodePosition({ item, offset_bytes }));
      }
    });
  }

  private async takeEnd({ item, offset_bytes }: Position): Promise<void> {
    if (this.message?.item === item) return this.finishMessage(this.message, offset_bytes);
    const file = this.activeFile(item);
    if (!file) return;
    await this.receiver.folder.enterFinishing();
    this.files.delete(item);
    this.started.delete(item);
    const finishing = this.finishFile(file, offset_bytes)
      .catch((error) => this.channel.destroy(toSealwireError(error)))
      .finally(() => {
        this.receiver.folder.leaveFinishing();
        this.finishing.delete(item);
      });
    this.finishing.set(item, finishing);
  }

  private finishMessage(message: IncomingMessage, size_bytes: number): void {
    const bytes = message.finish(size_bytes);
    message.release();
    this.message = null;
    this.receiver.onMessage(bytes);
    this.acknowledge(message.item);
  }

  private async finishFile({ offer, incoming }: ActiveFile, length_bytes: number): Promise<void> {
    try {
      if (await incoming.finish(length_bytes)) {
        const { name, size_bytes } = offer;
        this.receiver.onFile({ name, path: incoming.shownPath, size_bytes });
      }
      this.acknowledge(offer.item);
    } catch (error) {
      this.refuse(offer.item, offer.name, error);
    } finally {
      await this.close(offer, incoming);
    }
  }

  private async abort({ item, offset_bytes }: Position): Promise<void> {
    await this.withFile(item, ({ incoming }) => incoming.cut(offset_bytes));
    const file = this.activeFile(item);
    if (!file) return;
    this.files.delete(item);
    this.started.delete(item);
    await this.close(file.offer, file.incoming);
  }

  /** Runs a step of a file that is being received. A failure refuses this file and no other. */
  private async withFile(
    item: number,
    step: (file: ActiveFile) => void | Promise<void>,
  ): Promise<void> {
    const file = this.activeFile(item);
    if (!file) return;
    try {
      await step(file);
    } catch (error) {
      // The file may have been aborted during the step.
      if (this.files.get(item) !== file) return;
      this.files.delete(item);
      this.started.delete(item);
      await this.close(file.offer, file.incoming);
      this.refuse(item, file.offer.name, error);
    }
  }

  /** Returns null for a file that was refused or aborted. Its late frames are ignored. */
  private activeFile(item: number): ActiveFile | null {
    if (item > this.item_max) throw protocolError("content without an offer");
    return this.files.get(item) ?? null;
  }

  private requireNewItem(item: number): void {
    if (item <= this.item_max) throw protocolError("item numbers do not rise");
    this.item_max = item;
  }

  private acknowledge(item: number): void {
    this.channel.send(FRAME.acknowledged, encodeItem(item));
  }

  private refuse(item: number, name: string, error: unknown): void {
    const reason = refusalFor(error);
    const { code, message } = reason;
    this.channel.send(FRAME.refused, encodeRefusal({ item, code, message }));
    this.receiver.onRefused?.(name, reason);
  }

  /** Tells the client that a file is hashed or synced. That can take longer than it waits. */
  private sendWorking(): void {
    const [item] = this.finishing.keys();
    const working = this.hashed ?? (item === undefined ? null : { item, offset_bytes: 0 });
    if (working) this.channel.send(FRAME.working, encodePosition(working));
  }

  private async close(offer: Offer, incoming: IncomingFile): Promise<void> {
    try {
      await incoming.close();
    } finally {
      this.receiver.folder.release(offer.name, this);
    }
  }
}

const DISK_FULL_CODES: ReadonlySet<string> = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);

/** The error that the client is told. Rethrows an error that concerns more than one item. */
function refusalFor(error: unknown): SealwireError {
  if (error instanceof SealwireError && error.code !== "protocol_error") return error;
  const code = systemErrorCode(error);
  if (error instanceof SealwireError || code === undefined) throw error;
  if (DISK_FULL_CODES.has(code)) {
    const message = "the server's disk is full; what has arrived is kept to go on from";
    return new SealwireError("disk_full", message, { cause: error });
  }
  return new SealwireError("write_failed", `the server cannot store it (${code})`, {
    cause: error,
  });
}
