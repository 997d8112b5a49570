/** A renewed certificate: the server is its RSA key, and orders that are under way live on. */
import assert from "node:assert/strict";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { verifyStatement } from "../../../lib/protocol/statement.ts";
import { person } from "../../support/fixtures.ts";
import { PaymentWorld } from "../../support/payment_world.ts";
import { refusalOf } from "../../support/refusal.ts";
import { idOf, WireClient } from "../../support/wire_client.ts";

const OPTIONS = { timeout: 60_000 };
const [alice, bob] = [person("alice"), person("bob")];

async function statementOf(world: PaymentWorld) {
  return (await WireClient.connect(world)).statement;
}

test(
  "an order signed before the certificate was renewed is settled and cancelled after",
  OPTIONS,
  async () => {
    const world = await PaymentWorld.start();
    const before = await WireClient.enter(world, alice, "account.register");
    await WireClient.enter(world, bob, "account.register");
    const [settled, waiting, unwanted] = [
      before.order(alice, bob),
      before.order(alice, bob, { amount: "2.00" }),
      before.order(alice, bob, { amount: "3.00" }),
    ];
    const receipt = await before.verifiedReceipt(settled, await before.settle(settled));
    const cancel = before.cancel(alice, idOf(unwanted));
    const old = before.statement;
    await world.stop();

    rmSync(join(world.serverKeys, "server_cert.pem"));
    await world.startServer();
    const after = await WireClient.connect(world);
    const renewed = after.statement;
    assert.equal(renewed.claims.server.thumbprint, old.claims.server.thumbprint);
    assert.equal(renewed.claims.log.x, old.claims.log.x);
    assert.equal(renewed.claims.cert, after.cert);
    assert.notEqual(renewed.claims.cert, old.claims.cert);
    assert.ok(renewed.claims.iat > old.claims.iat);

    // The login itself is bound to the certificate of its connection.
    const stale = after.delegate(alice, { cert: old.claims.cert });
    const refusal = await refusalOf(() => after.call("session.login", { delegation: stale }));
    assert.equal(refusal.code, "wrong_certificate");
    const alices = await WireClient.enter(world, alice);
    const bobs = await WireClient.enter(world, bob);
    const { entry } = await bobs.settle(waiting);
    const paid = await alices.settle(waiting);
    assert.equal(paid.entry, entry);
    assert.equal((await alices.verifiedReceipt(waiting, paid)).amount, 200n);
    assert.deepEqual(await alices.call("payment.cancel", cancel), { state: "cancelled" });
    const again = await alices.verifiedReceipt(settled, await alices.settle(settled));
    assert.equal(again.index, receipt.index);
    await world.stop();
  },
);

test(
  "a statement is signed anew for another certificate alone, each later than the last",
  OPTIONS,
  async () => {
    const world = await PaymentWorld.start();
    const first = await statementOf(world);
    await world.stop();
    await world.startServer();
    assert.equal((await statementOf(world)).text, first.text);
    let last = first;
    for (let renewal = 0; renewal < 3; renewal++) {
      await world.stop();
      rmSync(join(world.serverKeys, "server_cert.pem"));
      await world.startServer();
      const next = await statementOf(world);
      // All within a second or two, so the clock alone would not tell them apart.
      assert.ok(next.claims.iat > last.claims.iat);
      last = next;
    }
    const stored = readFileSync(join(world.serverKeys, "server_statement.txt"), "utf8");
    assert.equal((await verifyStatement(stored.trim())).text, last.text);
    await world.stop();
  },
);
