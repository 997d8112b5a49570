/** A payment is its payer's and its payee's business alone: over real connections to a real server. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, test } from "node:test";
import { person } from "../../support/fixtures.ts";
import type { Json } from "../../support/payment_world.ts";
import { idOf, type SignedTexts, WireClient } from "../../support/wire_client.ts";
import { WireWorld } from "../../support/wire_world.ts";

const OPTIONS = { timeout: 60_000 };
const UNKNOWN = { state: "unknown" };
const [alice, bob, mallory] = [person("alice"), person("bob"), person("mallory")];
const wire = await WireWorld.start("alice", "bob", "mallory");
const [alices, bobs, mallorys] = [wire.of(alice), wire.of(bob), wire.of(mallory)];

function order(changes: Json = {}): SignedTexts {
  return alices.order(alice, bob, changes);
}

/** A settled batch of alice's that pays bob and mallory. */
async function settledBatch(): Promise<SignedTexts> {
  const batch = alices.batch(alice, [bob, mallory]);
  await wire.assertSettles(alices, batch);
  return batch;
}

describe("payer and payee", () => {
  test("are answered with what they need for the receipt", OPTIONS, async () => {
    const signed = order();
    await wire.assertSettles(alices, signed);
    const named = { id: idOf(signed), payer: "alice" };
    for (const by of [alices, bobs]) {
      for (const method of ["payment.status", "payment.receipt"]) {
        const answer = await by.call(method, named);
        assert.equal(answer.state, "settled");
        assert.deepEqual([answer.order, answer.delegation], [signed.order, signed.delegation]);
        const receipt = await by.receivedReceipt(answer);
        assert.deepEqual([receipt.id, receipt.payer, receipt.payee], [named.id, "alice", "bob"]);
      }
    }
    assert.equal((await alices.call("payment.status", { id: named.id })).state, "settled");
  });

  test("are told their own balance after the payment, however long ago", OPTIONS, async () => {
    const signed = order();
    const answer = await alices.settle(signed);
    const bobsBalance = await bobs.balance();
    await wire.assertSettles(alices, order());
    const named = { id: idOf(signed), payer: "alice" };
    assert.equal((await alices.call("payment.status", named)).balance, answer.balance);
    assert.equal((await bobs.call("payment.status", named)).balance, bobsBalance);
    assert.notEqual(await bobs.balance(), bobsBalance);
  });

  test("hear of it once each, but for who had it settled", OPTIONS, async () => {
    const [alicesOther, bobsOther] = [
      await WireClient.enter(wire.world, alice),
      await WireClient.enter(wire.world, bob),
    ];
    for (const session of [alices, bobs, mallorys]) session.notifications.length = 0;
    const signed = order();
    await wire.assertSettles(bobs, signed);
    for (const by of [alices, alicesOther, bobsOther]) {
      const pushed = await by.heard("payment.settled");
      assert.equal((await by.receivedReceipt(pushed)).id, idOf(signed));
      assert.equal(pushed.balance, await by.balance());
    }
    await wire.assertSettles(bobs, signed);
    // Answers come after what was pushed before them.
    for (const by of [alices, bobs, mallorys, alicesOther, bobsOther]) {
      await by.balance();
      assert.deepEqual(by.notifications, []);
    }
    for (const by of [alicesOther, bobsOther]) by.close();
  });
});

describe("a third party", () => {
  test("learns nothing of a payment and has no say in it", OPTIONS, async () => {
    const signed = order();
    await wire.assertRefused("not_a_party", () => mallorys.settle(signed));
    assert.deepEqual(await alices.call("payment.status", { id: idOf(signed) }), UNKNOWN);
    await wire.assertSettles(alices, signed);
    await wire.assertRefused("not_a_party", () => mallorys.settle(signed));
    const id = idOf(signed);
    for (const named of [{ id }, { id, payer: "alice" }, { id, payer: "alice", index: 0 }]) {
      assert.deepEqual(await mallorys.call("payment.status", named), UNKNOWN);
      await wire.assertRefused("unknown_payment", () => mallorys.call("payment.receipt", named));
    }
    const rows = (await mallorys.call("payment.history")).rows as Json[];
    assert.ok(rows.every(({ payer, payee }) => [payer, payee].includes("mallory")));
  });

  test("is answered alike about what exists and what does not", OPTIONS, async () => {
    const signed = order();
    await wire.assertSettles(alices, signed);
    const refusals = await Promise.all(
      [idOf(signed), randomUUID()].map(async (id) => {
        const named = { id, payer: "alice" };
        const status = await mallorys.call("payment.status", named);
        const receipt = await mallorys.call("payment.receipt", named).catch((error: Error) =>
          error.message
        );
        return { status, receipt };
      }),
    );
    assert.deepEqual(refusals[0], refusals[1]);
  });
});

describe("an id that names no payment of the asker's", () => {
  test(
    "may be of an order that was refused, of which the payee learns nothing",
    OPTIONS,
    async () => {
      const signed = order({ amount: "99999.00" });
      await wire.assertRefused("insufficient_funds", () => alices.settle(signed));
      const named = { id: idOf(signed), payer: "alice" };
      for (const by of [alices, bobs]) {
        assert.deepEqual(await by.call("payment.status", named), UNKNOWN);
        await wire.assertRefused("unknown_payment", () => by.call("payment.receipt", named));
      }
    },
  );

  test(
    "may be the opening balance's: the treasury is nobody's payer to ask about",
    OPTIONS,
    async () => {
      const rows = (await alices.call("payment.history")).rows as Json[];
      const opening = rows.find(({ payer }) => payer === "@treasury")!;
      const named = { id: String(opening.payment), payer: "@treasury" };
      await wire.assertRefused("bad_name", () => alices.call("payment.status", named));
      await wire.assertRefused("bad_name", () => alices.call("payment.receipt", named));
      const own = { id: String(opening.payment) };
      assert.deepEqual(await alices.call("payment.status", own), UNKNOWN);
    },
  );

  test("may have an index that the payment does not have", OPTIONS, async () => {
    const plain = order();
    await wire.assertSettles(alices, plain);
    // What comes right after it in the ledger is none of alice's.
    await wire.assertSettles(mallorys, mallorys.order(mallory, bob));
    const batch = idOf(await settledBatch());
    await wire.assertSettles(mallorys, mallorys.order(mallory, bob));
    const pairs = [[idOf(plain), 0], [idOf(plain), 1], [batch, 2], [batch, 3], [batch, 999]];
    for (const [id, index] of pairs) {
      for (const by of [alices, bobs]) {
        const named = { id, index, payer: "alice" };
        assert.deepEqual(await by.call("payment.status", named), UNKNOWN, `${index}`);
        await wire.assertRefused("unknown_payment", () => by.call("payment.receipt", named));
      }
    }
    for (const index of [-1, 1_000, 0.5, "0", null]) {
      const named = { id: batch, index };
      await wire.assertRefused("invalid_params", () => alices.call("payment.status", named));
    }
  });

  test("may be no id at all", OPTIONS, async () => {
    for (const id of [undefined, null, 1, "x", randomUUID().toUpperCase(), [randomUUID()]]) {
      for (const method of ["payment.status", "payment.receipt"]) {
        await wire.assertRefused("invalid_params", () => alices.call(method, { id }));
      }
    }
    for (const payer of [null, "Alice", 1]) {
      const named = { id: randomUUID(), payer };
      await wire.assertRefused("bad_name", () => alices.call("payment.status", named));
    }
  });
});

describe("a payee of a batch", () => {
  test("sees that payee's payment and no other", OPTIONS, async () => {
    const batch = await settledBatch();
    const named = { id: idOf(batch), payer: "alice" };
    for (const method of ["payment.status", "payment.receipt"]) {
      const answer = await bobs.call(method, { ...named, index: 0 });
      assert.deepEqual([answer.item, answer.items], [batch.items![0], undefined]);
      const receipt = await bobs.receivedReceipt(answer);
      assert.deepEqual([receipt.item, receipt.payee, receipt.amount], [0, "bob", 1n]);
      assert.ok(!JSON.stringify(answer).includes("mallory"));
    }
    for (const other of [{}, { index: 1 }]) {
      assert.deepEqual(await bobs.call("payment.status", { ...named, ...other }), UNKNOWN);
      await wire.assertRefused(
        "unknown_payment",
        () => bobs.call("payment.receipt", { ...named, ...other }),
      );
    }
  });

  test("hears of that payee's payments alone", OPTIONS, async () => {
    for (const session of [alices, bobs, mallorys]) session.notifications.length = 0;
    const batch = alices.batch(alice, [bob, mallory, bob]);
    await wire.assertSettles(alices, batch);
    for (const [by, items] of [[bobs, [0, 2]], [mallorys, [1]]] as const) {
      for (const item of items) {
        const pushed = await by.heard("payment.settled");
        assert.deepEqual([pushed.item, pushed.items], [batch.items![item], undefined]);
        assert.equal((await by.receivedReceipt(pushed)).item, item);
      }
      await by.balance();
      assert.deepEqual(by.notifications, []);
    }
  });
});

test("the payer of a batch gets all items at once, and a receipt for each", OPTIONS, async () => {
  const batch = await settledBatch();
  const id = idOf(batch);
  const answer = await alices.call("payment.status", { id });
  assert.deepEqual(answer.items, batch.items);
  await wire.assertRefused("index_required", () => alices.call("payment.receipt", { id }));
  for (const index of [0, 1]) {
    const one = await alices.call("payment.receipt", { id, index });
    assert.deepEqual([one.item, one.items], [batch.items![index], undefined]);
    assert.equal((await alices.receivedReceipt(one)).item, index);
  }
});

test("after all of this the sum is zero and the audit passes", OPTIONS, async () => {
  await wire.assertAuditPasses();
});
