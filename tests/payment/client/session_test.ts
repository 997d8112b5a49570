/** A client's session, beside others at a real server. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { AccountName } from "../../../lib/keys/rsa.ts";
import { signOrder } from "../../../lib/protocol/order.ts";
import type { ClientSession } from "../../../lib/payment/client/session.ts";
import { amount, now_s, uuid } from "../../support/fixtures.ts";
import { openSession, sessionKeyOf } from "../../support/payment_clients.ts";
import { PaymentWorld } from "../../support/payment_world.ts";

const OPTIONS = { timeout: 120_000 };
const PAYMENTS = 20;
const LOOKUPS_EACH = 3;

async function pay(session: ClientSession, payer: string, payee: string): Promise<void> {
  const { key } = await session.lookup(payee as AccountName);
  const order = {
    id: uuid(),
    server: session.server.thumbprint,
    payer: payer as AccountName,
    payee: payee as AccountName,
    payeeKey: key!.thumbprint,
    amount: amount("1"),
    iat: now_s(),
    exp: now_s() + 300,
    memo: null,
    request: null,
    refundOf: null,
  };
  const signed = await signOrder(order, sessionKeyOf(payer));
  await session.settle(signed, session.delegation.text);
}

test(
  "every answer proves itself, whichever message brought its checkpoint, and whether anyone read that",
  OPTIONS,
  async () => {
    const world = await PaymentWorld.start();
    const [alice, bob] = [
      await openSession(world, "alice", { register: true }),
      await openSession(world, "bob", { register: true }),
    ];
    // Alice asks for nobody's notifications, and is sent a checkpoint with each. Her answers come
    // between them.
    for (let payment = 0; payment < PAYMENTS; payment++) {
      const lookups = Array.from(
        { length: LOOKUPS_EACH },
        () => alice.lookup("bob" as AccountName),
      );
      await Promise.all([pay(bob, "bob", "alice"), ...lookups]);
      await pay(alice, "alice", "bob");
    }
    assert.equal(await alice.currentBalance(), "10000.00");
    for (const session of [alice, bob]) await session.end();
    await world.stop();
  },
);
