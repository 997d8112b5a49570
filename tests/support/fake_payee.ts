/** A payee whose listener answers offers as a test says, true or not. */
import { loadAccountKeys } from "../../lib/keys/key_files.ts";
import type { AccountName, RsaKeyPair } from "../../lib/keys/rsa.ts";
import { type Listener, listenTcp } from "../../lib/net/net.ts";
import type { ClientSession } from "../../lib/payment/client/session.ts";
import { RpcPeer } from "../../lib/rpc/peer.ts";
import { type Order, parseOrder } from "../../lib/protocol/order.ts";
import { type Offer, openOffer } from "../../lib/protocol/sealing.ts";
import type { Token } from "../../lib/protocol/token.ts";
import { openSessionOf } from "./payment_clients.ts";
import type { PaymentWorld } from "./payment_world.ts";

/** What an offer is answered with; what is thrown is an error to the payer. */
export type Answer = (offer: Offer, payee: FakePayee) => Promise<unknown>;

export class FakePayee {
  /** The offers that came, opened. */
  readonly offers: Offer[] = [];
  session!: ClientSession;
  private listener!: Listener;
  private readonly peers: RpcPeer[] = [];

  private constructor(private readonly pair: RsaKeyPair, private readonly answer: Answer) {}

  /** Takes the presence of `name`, whose keys a client process has made. */
  static async start(world: PaymentWorld, name: string, answer: Answer): Promise<FakePayee> {
    const pair = await loadAccountKeys(world.keysOf(name), name as AccountName);
    const payee = new FakePayee(pair, answer);
    payee.listener = await listenTcp({ host: "127.0.0.1", port: 0 }, (connection) => {
      const handle = (params: unknown) => payee.take((params as { offer: unknown }).offer);
      const methods = { "payment.offer": { handle } };
      payee.peers.push(new RpcPeer(connection, { role: "server", methods }));
    });
    const presence = { host: "127.0.0.1", port: payee.listener.port };
    payee.session = await openSessionOf(world, name, { presence });
    return payee;
  }

  /** Has the server settle an offer, as an honest payee would at once. */
  async settle({ order, delegation }: Offer): Promise<void> {
    await this.session.settle(parseOrder(order) as Token<Order>, delegation);
  }

  async close(): Promise<void> {
    for (const peer of this.peers) peer.destroy();
    await this.listener.close();
    await this.session.end();
  }

  private async take(sealed: unknown): Promise<unknown> {
    const offer = await openOffer(sealed, this.pair.privateKey);
    this.offers.push(offer);
    return await this.answer(offer, this);
  }
}

/** Never answers. */
export const SILENT: Answer = () => new Promise(() => {});
