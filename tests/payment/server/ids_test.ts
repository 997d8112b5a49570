/**
 * One id is paid once, by whoever it is handed in and however often: over real connections to a
 * real server.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { now_s, person } from "../../support/fixtures.ts";
import type { Json } from "../../support/payment_world.ts";
import { codeOf } from "../../support/refusal.ts";
import { idOf, minorUnits, type SignedTexts, WireClient } from "../../support/wire_client.ts";
import { WireWorld } from "../../support/wire_world.ts";

const OPTIONS = { timeout: 60_000 };
const RACES = 60;
const [alice, bob, mallory] = [person("alice"), person("bob"), person("mallory")];
const wire = await WireWorld.start("alice", "bob", "mallory");
const [alices, bobs, mallorys] = [wire.of(alice), wire.of(bob), wire.of(mallory)];

function order(changes: Json = {}): SignedTexts {
  return alices.order(alice, bob, changes);
}

/** Minor units that `work` takes from alice. */
async function spent(work: () => Promise<unknown>): Promise<bigint> {
  const before = minorUnits(await alices.balance());
  await work();
  return before - minorUnits(await alices.balance());
}

describe("an id is settled once", () => {
  test("the answer proves the entry, and sends nobody what they sent", OPTIONS, async () => {
    for (const by of [alices, bobs]) {
      const signed = order();
      const before = await wire.size();
      const answer = await by.settle(signed);
      const members = ["state", "entry", "path", "size", "checkpoint", "balance"];
      assert.deepEqual(Object.keys(answer).sort(), members.sort());
      const receipt = await by.verifiedReceipt(signed, answer);
      assert.deepEqual(
        [receipt.id, receipt.payer, receipt.payee, receipt.amount, receipt.index],
        [idOf(signed), "alice", "bob", 100n, before],
      );
      assert.equal(receipt.payerKey, alice.pair.publicKey.thumbprint);
      assert.equal(answer.balance, await by.balance());
    }
  });

  test("a checkpoint is sent once a connection and commit", OPTIONS, async () => {
    const client = await WireClient.enter(wire.world, alice);
    const listener = await WireClient.enter(wire.world, bob);
    for (let commit = 0; commit < 2; commit++) {
      const answer = await client.settle(order());
      const pushed = await listener.heard("payment.settled");
      assert.ok(typeof answer.checkpoint === "string");
      assert.deepEqual([pushed.size, pushed.checkpoint], [answer.size, answer.checkpoint]);
      for (const by of [client, listener]) {
        for (const method of ["ledger.checkpoint", "ledger.open", "directory.lookup"]) {
          const { size, checkpoint } = await by.call(method, { account: "mallory" });
          assert.deepEqual([size, checkpoint], [answer.size, undefined], method);
        }
      }
    }
    for (const by of [client, listener]) by.close();
  });

  test("the same order twice gives the same entry, and the money moves once", OPTIONS, async () => {
    const signed = order();
    const moved = await spent(async () => {
      const entry = await wire.assertSettles(alices, signed);
      const size = await wire.size();
      assert.equal(await wire.assertSettles(alices, signed), entry);
      assert.equal(await wire.assertSettles(bobs, signed), entry);
      assert.equal(await wire.size(), size);
    });
    assert.equal(moved, 100n);
  });

  test("the same order from three connections at once", OPTIONS, async () => {
    const second = await WireClient.enter(wire.world, alice);
    for (let race = 0; race < RACES; race++) {
      const signed = order();
      const size = await wire.size();
      const moved = await spent(async () => {
        const entries = await Promise.all(
          [alices, bobs, second, alices].map((by) => wire.assertSettles(by, signed)),
        );
        assert.equal(new Set(entries).size, 1);
      });
      assert.equal(moved, 100n);
      assert.equal(await wire.size(), size + 1);
    }
    second.close();
  });

  test("the same order under another delegation of the payer's", OPTIONS, async () => {
    const signed = order();
    const entry = await wire.assertSettles(alices, signed);
    const other = { ...signed, delegation: alices.delegate(alice, { iat: now_s() - 30 }) };
    assert.equal((await alices.settle(other)).entry, entry);
  });

  test("again after it has expired", OPTIONS, async () => {
    const signed = order({ exp: now_s() + 2 });
    const entry = await wire.assertSettles(alices, signed);
    await delay(3_000);
    const moved = await spent(async () => {
      assert.equal(await wire.assertSettles(alices, signed), entry);
    });
    assert.equal(moved, 0n);
    const never = order({ exp: now_s() - 1, iat: now_s() - 10 });
    await wire.assertRefused("order_expired", () => alices.settle(never));
  });

  test("other content under its id is refused, and the first stands", OPTIONS, async () => {
    const id = randomUUID();
    const entry = await wire.assertSettles(alices, order({ id }));
    for (const changes of [{ amount: "2.00" }, { exp: now_s() + 299 }, { payee: "mallory" }]) {
      await wire.assertRefused("order_conflict", () => alices.settle(order({ id, ...changes })));
    }
    await wire.assertRefused(
      "order_conflict",
      () => alices.settle(alices.batchOf(alice, alices.batch(alice, [bob]).items!, { id })),
    );
    assert.equal((await alices.call("payment.receipt", { id })).entry, entry);
  });

  test("two orders with one id at once: one is settled, the other refused", OPTIONS, async () => {
    for (let race = 0; race < RACES; race++) {
      const id = randomUUID();
      const moved = await spent(async () => {
        const codes = await Promise.all([
          codeOf(alices.settle(order({ id, amount: "1.00" }))),
          codeOf(alices.settle(order({ id, amount: "1.00", exp: now_s() + 200 }))),
        ]);
        assert.deepEqual(codes.sort(), [null, "order_conflict"].sort());
      });
      assert.equal(moved, 100n);
    }
  });

  test("another payer's order under the same id is another payment", OPTIONS, async () => {
    const id = randomUUID();
    const [alicesEntry, mallorysEntry] = [
      await wire.assertSettles(alices, order({ id })),
      await wire.assertSettles(mallorys, mallorys.order(mallory, bob, { id })),
    ];
    assert.notEqual(alicesEntry, mallorysEntry);
    assert.equal((await alices.call("payment.receipt", { id })).entry, alicesEntry);
    const bobsView = { id, payer: "mallory" };
    assert.equal((await bobs.call("payment.receipt", bobsView)).entry, mallorysEntry);
  });

  test(
    "a hundred orders at once for one balance: the last unit is not spent twice",
    OPTIONS,
    async () => {
      const balance = await alices.balance();
      const amount = `${Math.floor(Number(balance) / 3)}.00`;
      const orders = Array.from({ length: 100 }, () => order({ amount }));
      const codes = await Promise.all(orders.map((signed) => codeOf(alices.settle(signed))));
      assert.equal(codes.filter((code) => code === null).length, 3);
      assert.equal(codes.filter((code) => code === "insufficient_funds").length, 97);
      for (let back = 0; back < 3; back++) {
        await wire.assertSettles(bobs, bobs.order(bob, alice, { amount }));
      }
      assert.equal(await alices.balance(), balance);
    },
  );
});

test("money is given back to the treasury, which nobody can pay from", OPTIONS, async () => {
  const back = { payee: "@treasury", payee_key: alices.server, amount: "3.00" };
  const signed = order(back);
  const entry = JSON.parse(await wire.assertSettles(alices, signed));
  assert.deepEqual([entry.payee, entry.amount], ["@treasury", "3.00"]);
  const grant = await wire.world.operate("grant", "alice", "3.00");
  assert.equal(grant.status, 0, grant.stderr);
});

test("after all of this the sum is zero and the audit passes", OPTIONS, async () => {
  await wire.assertAuditPasses();
});
