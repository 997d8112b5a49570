/** The AES server: takes messages and files from clients that hold its key, and shows them. */
import { type ByteAccount, ByteBudget } from "../base/byte_budget.ts";
import { toSealwireError } from "../base/errors.ts";
import { printable } from "../base/text.ts";
import type { Output } from "../cli/output.ts";
import {
  type Connection,
  formatAddress,
  type Listener,
  listenTcp,
  type Place,
} from "../net/net.ts";
import type { KeyFile } from "../aes_utils.ts";
import { receiveClassicMessage } from "./classic.ts";
import type { ByteReader } from "./channel/byte_reader.ts";
import { HashDisplay, showMessage, showOffer, showReceivedFile } from "./display.ts";
import type { ReceivedPipe } from "./received_pipe.ts";
import type { ReceivedFile } from "./transfer/receive.ts";
import { servePairing } from "./pairing/pairing.ts";
import type { PairingOffer } from "./pairing/pairing_code.ts";
import type { ReceiveFolder } from "./transfer/receive_folder.ts";
import { serveConnection } from "./transfer/transfer.ts";

/** Clients at once. */
const CONNECTIONS_MAX = 256;

/** The size of all unfinished messages together. */
const MESSAGES_BYTES_MAX = 128 * 1024 * 1024;

/** What the operator must hear even under `--quiet`: a stranger may have the key, or guessed. */
const GRAVE_CODES: ReadonlySet<string> = new Set(["pairing_unconfirmed", "pairing_wrong_code"]);

export interface AesServerOptions {
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
  readonly key: KeyFile;
  readonly folder: ReceiveFolder;
  /** What one client may pair by; null where none may. */
  readonly offer: PairingOffer | null;
  /** Whether messages of classic clients are taken too. */
  readonly classic: boolean;
  /** A connection on which nothing moves for so long is ended. */
  readonly stall_ms: number;
  readonly out: Output;
  /** Each file is read once more, and its SHA-256 shown. */
  readonly withHash: boolean;
  /** How this program was called, for the command that is shown for the other end. */
  readonly called: string;
  /** Where messages and files go instead of being shown; null to show them. */
  readonly pipe: ReceivedPipe | null;
}

export class AesServer {
  /** Resolves when the first client has been served to its end. */
  readonly served: Promise<void>;
  private readonly budget = new ByteBudget(MESSAGES_BYTES_MAX);
  private offer: PairingOffer | null;
  private readonly firstServed = Promise.withResolvers<void>();
  private listener: Listener | null = null;
  private closing = false;
  private readonly hashes: HashDisplay;

  private constructor(private readonly options: AesServerOptions) {
    this.served = this.firstServed.promise;
    this.offer = options.offer;
    this.hashes = new HashDisplay(options.out, options.withHash);
    this.budget.onPressure((text) => options.out.warn(text));
  }

  /** @throws {SealwireError} `port_in_use`, `port_forbidden`, `address_unavailable`. */
  static async start(options: AesServerOptions): Promise<AesServer> {
    const { host, port, out } = options;
    const server = new AesServer(options);
    server.listener = await listenTcp(
      { host, port, connections_max: CONNECTIONS_MAX, onNotice: (text) => out.warn(text) },
      (connection, place) => server.serve(connection, place),
    );
    return server;
  }

  get address(): { readonly host: string; readonly port: number } {
    return { host: this.listener!.host, port: this.listener!.port };
  }

  /** Ends every connection, and takes no more. */
  async close(): Promise<void> {
    this.closing = true;
    await this.listener?.close();
    await this.hashes.finish();
  }

  private async serve(connection: Connection, place: Place): Promise<void> {
    const from = formatAddress(connection.remoteHost, connection.remotePort);
    const bytes = this.budget.open(() => connection.destroy());
    try {
      await this.receive(connection, place, bytes, from);
      this.firstServed.resolve();
    } catch (error) {
      if (!this.closing) this.explain(from, error);
    } finally {
      bytes.close();
    }
  }

  private async receive(
    connection: Connection,
    place: Place,
    bytes: ByteAccount,
    from: string,
  ): Promise<void> {
    const { key, folder, classic, stall_ms, out, pipe } = this.options;
    const arrived = classic
      ? await receiveClassicMessage(connection, { aesKey: key.aesKey, stall_ms, bytes })
      : connection;
    const onMessage = (message: Uint8Array) =>
      pipe === null ? showMessage(out, from, message) : pipe.write(message);
    if (arrived instanceof Uint8Array) return onMessage(arrived);
    await serveConnection(arrived, {
      psk: key.bytes,
      stall_ms,
      folder,
      bytes,
      onMessage,
      onFile: (file) => pipe === null ? this.showFile(from, file) : pipe.writeFile(file.path),
      onRefused: (name, reason) => this.explain(`${from}: refused ${printable(name)}`, reason),
      onProven: () => {
        place.prove(null);
        bytes.prove();
      },
      onPairing: async (connection, reader) => {
        await this.pair(connection, reader);
        out.result({ event: "paired", from }, `Paired with ${from}: it has the key now`);
      },
    });
  }

  private showFile(from: string, file: ReceivedFile): void {
    const { out } = this.options;
    this.hashes.show(file.path, (sha256) => showReceivedFile(out, from, file, sha256));
  }

  /** Gives the key to a client that knows the code. After a wrong code there is a new one. */
  private async pair(connection: Connection, reader: ByteReader): Promise<void> {
    const { offer } = this;
    try {
      await servePairing(connection, reader, offer, this.options.key.bytes);
    } finally {
      if (offer !== null && offer === this.offer && offer.state === "burnt") {
        this.offer = offer.renewed();
        const { out, called } = this.options;
        if (this.offer.state === "open") showOffer(out, this.offer, this.address, called);
      }
    }
  }

  /** Says why a client, or a thing of its, was not served to its end. That concerns it alone. */
  private explain(what: string, error: unknown): void {
    const { out } = this.options;
    const { code, message } = toSealwireError(error);
    const text = `${what}: ${printable(message)}`;
    if (GRAVE_CODES.has(code)) out.warn(text);
    else out.note(text);
  }
}
