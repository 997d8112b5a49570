/**
 * The door of a classic payee: takes offers from payers on 127.0.0.1, has the server decide over
 * each, and passes its answer back. Only an order that pays this account is passed on: a stranger's
 * text must not become another command of this session.
 */
import type { KeyObject } from "node:crypto";
import { Buffer } from "node:buffer";
import { SealwireError, toSealwireError } from "../../base/errors.ts";
import { type Connection, type Listener, listenTcp } from "../../net/net.ts";
import { parseWrittenOrder, type WrittenName, type WrittenOrder } from "./format.ts";
import { OFFER_BYTES, openClassicOffer, ReplayMemory } from "./offer.ts";

/** Classic clients reach each other only on their own machine. */
export const OFFER_HOST = "127.0.0.1";
const CONNECTIONS_MAX = 64;
/** The time from the connection to the whole offer. */
const OFFER_DEADLINE_MS = 3_000;

export interface ClassicListenerOptions {
  /** 0 lets the system choose. */
  readonly port: number;
  readonly privateKey: KeyObject;
  /** Who is logged in. */
  readonly name: WrittenName;
  /** Sends an order to the server and returns the answer. */
  readonly relay: (text: string, order: WrittenOrder) => Promise<string>;
  /** Called when an offer was refused or could not be passed on. */
  readonly onRefused: (reason: SealwireError) => void;
}

export class ClassicListener {
  private readonly replays = new ReplayMemory();
  private listener!: Listener;

  private constructor(private readonly options: ClassicListenerOptions) {}

  /** @throws {SealwireError} `port_in_use` and the like. */
  static async start(options: ClassicListenerOptions): Promise<ClassicListener> {
    const door = new ClassicListener(options);
    door.listener = await listenTcp(
      { host: OFFER_HOST, port: options.port, connections_max: CONNECTIONS_MAX },
      (connection) => void door.serve(connection),
    );
    return door;
  }

  get port(): number {
    return this.listener.port;
  }

  async close(): Promise<void> {
    await this.listener.close();
  }

  /**
   * One offer a connection. What is refused gets no answer, as there is none in the protocol: the
   * connection ends.
   */
  private async serve(connection: Connection): Promise<void> {
    const deadline = setTimeout(() => connection.destroy(), OFFER_DEADLINE_MS);
    try {
      const ciphertext = await readOffer(connection);
      clearTimeout(deadline);
      const { text, order } = this.open(ciphertext);
      const answer = await this.options.relay(text, order);
      await connection.write(Buffer.from(answer, "latin1"));
      await connection.end();
    } catch (error) {
      connection.destroy();
      const reason = toSealwireError(error);
      if (reason.code !== "connection_lost") this.options.onRefused(reason);
    } finally {
      clearTimeout(deadline);
    }
  }

  private open(ciphertext: Uint8Array): { text: string; order: WrittenOrder } {
    const opened = openClassicOffer(ciphertext, this.options.privateKey);
    const text = decodeOffer(opened).replace(/\r?\n$/, "");
    if (!this.replays.isNew(ciphertext)) {
      throw new SealwireError("bad_offer", "the offer was seen before: a replay");
    }
    const order = parseWrittenOrder(text);
    if (order === null) throw new SealwireError("bad_offer", "the offer is no order");
    // Exactly: at a C++ server a name in other letters is somebody else.
    if (order.payee !== this.options.name) {
      throw new SealwireError("bad_offer", "the offer is for another payee");
    }
    return { text, order };
  }
}

/** Throws `bad_offer`. */
function decodeOffer(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new SealwireError("bad_offer", "the offer is no text", { cause });
  }
}

async function readOffer(connection: Connection): Promise<Uint8Array> {
  const offer = new Uint8Array(OFFER_BYTES);
  let size_bytes = 0;
  while (size_bytes < OFFER_BYTES) {
    const bytes = await connection.read();
    if (bytes === null || size_bytes + bytes.length > OFFER_BYTES) {
      throw new SealwireError("bad_offer", `an offer has ${OFFER_BYTES} bytes`);
    }
    offer.set(bytes, size_bytes);
    size_bytes += bytes.length;
  }
  return offer;
}
