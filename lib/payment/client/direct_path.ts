/**
 * The direct path: the payer's client hands an order to the payee's client, which has the server
 * settle it. The server sends the receipt to the payer.
 */
import { connectTcp } from "../../net/net.ts";
import type { Sha256 } from "../../base/parse.ts";
import { RpcPeer } from "../../rpc/peer.ts";
import { sealOffer } from "../../protocol/sealing.ts";
import type { Pending } from "./outbox.ts";
import type { Payee, Settled } from "./session.ts";

/** If no verified receipt has come by then, the payer goes to the server. */
const DIRECT_DEADLINE_MS = 3_000;

export class DirectPath {
  /** The waits for receipts, by the SHA-256 of their orders. */
  private readonly waiting = new Map<Sha256, (settled: Settled) => void>();

  /** Takes every settled payment that the session hears of. A wait for one of them then ends. */
  take(settled: Settled): void {
    this.waiting.get(settled.payment.orderSha256)?.(settled);
  }

  /**
   * Hands the order to the payee's own client, with the newest checkpoint that the payer knows.
   * Returns the verified receipt, or null when none came in time. The payee's own answer does not
   * count.
   */
  async offer(
    { order, delegation }: Pending,
    payee: Payee,
    checkpoint: string | null,
    signal: AbortSignal,
  ): Promise<Settled | null> {
    if (payee.presence === null || payee.key === null) return null;
    const { host, port } = payee.presence;
    const { promise: gaveUp, resolve: giveUp } = Promise.withResolvers<null>();
    const { promise: receipt, resolve: received } = Promise.withResolvers<Settled>();
    const deadline = setTimeout(giveUp, DIRECT_DEADLINE_MS, null);
    this.waiting.set(order.sha256, received);
    const offer = await sealOffer({ order: order.text, delegation, checkpoint }, payee.key);
    sendOffer(host, port, offer, signal).catch(() => giveUp(null));
    try {
      return await Promise.race([receipt, gaveUp]);
    } finally {
      clearTimeout(deadline);
      this.waiting.delete(order.sha256);
    }
  }
}

async function sendOffer(
  host: string,
  port: number,
  offer: string,
  signal: AbortSignal,
): Promise<void> {
  const connection = await connectTcp({ host, port, timeout_ms: DIRECT_DEADLINE_MS, signal });
  const peer = new RpcPeer(connection, { role: "client" });
  try {
    await peer.call("payment.offer", { offer }, { timeout_ms: DIRECT_DEADLINE_MS, signal });
  } finally {
    peer.destroy();
  }
}
