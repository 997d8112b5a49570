/**
 * The payee's listener: the door through which strangers hand in sealed orders. An offer is opened,
 * checked, and settled at the server; what the payer is answered is a hint, no more.
 */
import type { KeyObject } from "node:crypto";
import { setImmediate } from "node:timers";
import { SealwireError } from "../../base/errors.ts";
import type { AccountName } from "../../keys/rsa.ts";
import { type Connection, type Listener, listenTcp, type Place } from "../../net/net.ts";
import { isBatch, type Order, verifySignedOrder } from "../../protocol/order.ts";
import { Members, type Sha256 } from "../../base/parse.ts";
import type { Token } from "../../protocol/token.ts";
import { RpcPeer } from "../../rpc/peer.ts";
import { type Offer, openOffer } from "../../protocol/sealing.ts";

/** Connections at once. One address holds an eighth of them. */
const CONNECTIONS_MAX = 64;
/** From the first byte of the connection to the whole offer. */
const OFFER_DEADLINE_MS = 3_000;
/** RSA decryptions at a time. */
const DECRYPTIONS_MAX = 4;

export interface OfferListenerOptions {
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
  readonly account: AccountName;
  /** Thumbprint of the account's key. */
  readonly accountKey: Sha256;
  readonly privateKey: KeyObject;
  /** Thumbprint of the server's key. */
  readonly server: () => Sha256;
  readonly now_s: () => number;
  /** Has the order settled; resolves when it is, throws when it is refused. */
  readonly settle: (offer: Offer, order: Token<Order>) => Promise<void>;
}

export class OfferListener {
  private decrypting = 0;
  private readonly waiting: (() => void)[] = [];
  private listener: Listener | null = null;

  private constructor(private readonly options: OfferListenerOptions) {}

  /** @throws {SealwireError} `port_in_use` and the like. */
  static async start(options: OfferListenerOptions): Promise<OfferListener> {
    const door = new OfferListener(options);
    const { host, port } = options;
    door.listener = await listenTcp(
      { host, port, connections_max: CONNECTIONS_MAX },
      (connection, place) => door.accept(connection, place),
    );
    return door;
  }

  get port(): number {
    return this.listener!.port;
  }

  async close(): Promise<void> {
    await this.listener?.close();
  }

  private accept(connection: Connection, place: Place): void {
    let offered = false;
    let settling = false;
    // Also for one that was refused and does not leave.
    const deadline = setTimeout(() => {
      if (!settling) peer.destroy(new SealwireError("timeout", "no offer came"));
    }, OFFER_DEADLINE_MS);
    const peer = new RpcPeer(connection, {
      role: "server",
      methods: {
        "payment.offer": {
          handle: async (params) => {
            if (offered) throw new SealwireError("one_offer", "one connection carries one offer");
            offered = settling = true;
            try {
              const sealed = new Members(params, "params", "invalid_params").raw("offer");
              const payer = await this.offer(sealed);
              // Now the server has found that this is really the payer's order.
              place.prove(payer);
              return { state: "settled" };
            } finally {
              settling = false;
              // After the answer there is nothing to stay for.
              setImmediate(() => void peer.end());
            }
          },
        },
      },
    });
    void peer.closed.then(() => peer.end()).then(() => clearTimeout(deadline));
  }

  /** Has an offer settled. Returns who paid. */
  private async offer(sealed: unknown): Promise<AccountName> {
    const offer = await this.open(sealed);
    const { order: token } = await verifySignedOrder(offer.order, offer.delegation);
    const order = token.claims;
    const { account, accountKey, server, now_s } = this.options;
    const wrong = (why: string) => new SealwireError("bad_offer", `the offer ${why}`);
    if (isBatch(order)) throw wrong("is a batch, which goes through the server");
    if (order.server !== server()) throw wrong("is for another server");
    if (order.payee !== account || order.payeeKey !== accountKey) {
      throw wrong("is for another payee");
    }
    if (now_s() >= order.exp) throw wrong("has expired");
    await this.options.settle(offer, token as Token<Order>);
    return order.payer;
  }

  /**
   * Opens one offer, {@linkcode DECRYPTIONS_MAX} at a time; those that wait are bounded by the
   * connections.
   */
  private async open(sealed: unknown): Promise<Offer> {
    if (this.decrypting >= DECRYPTIONS_MAX) {
      await new Promise<void>((resolve) => this.waiting.push(resolve));
    }
    this.decrypting++;
    try {
      return await openOffer(sealed, this.options.privateKey);
    } finally {
      this.decrypting--;
      this.waiting.shift()?.();
    }
  }
}
