/** The AES server: takes messages and files from clients that hold its key, and shows them. */
import { internalError, isSealwireError } from "../base/errors.ts";
import { printable } from "../base/text.ts";
import type { Output } from "../cli/output.ts";
import { type Connection, formatAddress, type Listener, listenTcp } from "../net/net.ts";
import type { KeyFile } from "../aes_utils.ts";
import { receiveClassicMessage } from "./classic.ts";
import { hashToShow, showMessage, showReceivedFile } from "./display.ts";
import type { ReceivedPipe } from "./received_pipe.ts";
import type { ReceivedFile } from "./transfer/receive.ts";
import { servePairing } from "./pairing/pairing.ts";
import type { PairingOffer } from "./pairing/pairing_code.ts";
import type { ReceiveFolder } from "./transfer/receive_folder.ts";
import { MessageBudget } from "./transfer/receive_message.ts";
import { serveConnection } from "./transfer/transfer.ts";
import { UnprovenConnections } from "./unproven.ts";

/** Clients at once; more are turned away as they come. */
const CONNECTIONS_MAX = 256;

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
  /** Where messages and files go instead of being shown; null to show them. */
  readonly pipe: ReceivedPipe | null;
}

export class AesServer {
  /** Resolves when the first client has been served to its end. */
  readonly served: Promise<void>;
  private readonly messageBudget = new MessageBudget();
  private readonly unproven = new UnprovenConnections();
  private readonly firstServed = Promise.withResolvers<void>();
  private listener: Listener | null = null;
  private closing = false;
  /** The files whose hashes are being computed, one after the other. */
  private hashing: Promise<void> = Promise.resolve();

  private constructor(private readonly options: AesServerOptions) {
    this.served = this.firstServed.promise;
  }

  /** @throws {SealwireError} `port_in_use`, `port_forbidden`, `address_unavailable`. */
  static async start(options: AesServerOptions): Promise<AesServer> {
    const { host, port } = options;
    const server = new AesServer(options);
    server.listener = await listenTcp(
      { host, port, connections_max: CONNECTIONS_MAX },
      (connection) => server.serve(connection),
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
    await this.hashing;
  }

  private async serve(connection: Connection): Promise<void> {
    const from = formatAddress(connection.remoteHost, connection.remotePort);
    this.unproven.add(connection);
    try {
      await this.receive(connection, from);
      this.firstServed.resolve();
    } catch (error) {
      if (!this.closing) this.explain(from, error);
    } finally {
      this.unproven.delete(connection);
    }
  }

  private async receive(connection: Connection, from: string): Promise<void> {
    const { key, folder, offer, classic, stall_ms, out, pipe } = this.options;
    const { messageBudget } = this;
    const arrived = classic
      ? await receiveClassicMessage(connection, { aesKey: key.aesKey, stall_ms, messageBudget })
      : connection;
    const onMessage = (message: Uint8Array) =>
      pipe === null ? showMessage(out, from, message) : pipe.write(message);
    if (arrived instanceof Uint8Array) return onMessage(arrived);
    await serveConnection(arrived, {
      psk: key.bytes,
      stall_ms,
      folder,
      messageBudget,
      onMessage,
      onFile: (file) => pipe === null ? this.showFile(from, file) : pipe.writeFile(file.path),
      onRefused: (name, reason) => this.explain(`${from}: refused ${printable(name)}`, reason),
      onProven: () => this.unproven.delete(connection),
      onPairing: async (connection, reader) => {
        await servePairing(connection, reader, offer, key.bytes);
        out.result({ event: "paired", from }, `Paired with ${from}: it has the key now`);
      },
    });
  }

  private showFile(from: string, file: ReceivedFile): void {
    const { out, withHash } = this.options;
    if (!withHash) return showReceivedFile(out, from, file, null);
    this.hashing = this.hashing.then(async () =>
      showReceivedFile(out, from, file, await hashToShow(out, file.path))
    );
  }

  /** Says why a client, or a thing of its, was not served to its end. That concerns it alone. */
  private explain(what: string, error: unknown): void {
    const { out } = this.options;
    const { code, message } = isSealwireError(error) ? error : internalError(error);
    const text = `${what}: ${printable(message)}`;
    if (GRAVE_CODES.has(code)) out.warn(text);
    else out.note(text);
  }
}
