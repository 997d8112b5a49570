/** One id, one end, whoever asks and however often: over real connections to a real server. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { isSealwireError } from "../../../lib/base/errors.ts";
import { person } from "../../support/fixtures.ts";
import type { Json } from "../../support/payment_world.ts";
import { idOf, now_s, type SignedTexts, WireClient } from "../../support/wire_client.ts";
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
  const balance = async () => BigInt((await alices.balance()).replace(".", ""));
  const before = await balance();
  await work();
  return before - await balance();
}

/** The code with which `work` was refused, or null. */
async function codeOf(work: Promise<unknown>): Promise<string | null> {
  try {
    await work;
    return null;
  } catch (error) {
    if (isSealwireError(error)) return error.code;
    throw error;
  }
}

describe("an id is settled once", () => {
  test(
    "the same order twice gives the same receipt, and the money moves once",
    OPTIONS,
    async () => {
      const signed = order();
      const moved = await spent(async () => {
        const receipt = await wire.assertSettles(alices, signed);
        assert.equal(await wire.assertSettles(alices, signed), receipt);
        assert.equal(await wire.assertSettles(bobs, signed), receipt);
      });
      assert.equal(moved, 100n);
    },
  );

  test("the same order from three connections at once", OPTIONS, async () => {
    const second = await WireClient.enter(wire.world, alice);
    for (let race = 0; race < RACES; race++) {
      const signed = order();
      const moved = await spent(async () => {
        const receipts = await Promise.all(
          [alices, bobs, second, alices].map((by) => wire.assertSettles(by, signed)),
        );
        assert.equal(new Set(receipts).size, 1);
      });
      assert.equal(moved, 100n);
    }
    second.close();
  });

  test("again after it has expired", OPTIONS, async () => {
    const signed = order({ exp: now_s() + 2 });
    const receipt = await wire.assertSettles(alices, signed);
    await delay(3_000);
    assert.equal(
      await spent(async () => {
        assert.equal(await wire.assertSettles(alices, signed), receipt);
      }),
      0n,
    );
    const never = order({ exp: now_s() - 1, iat: now_s() - 10 });
    await wire.assertRefused("order_expired", () => alices.settle(never));
  });

  test("other content under its id is refused, and the first stands", OPTIONS, async () => {
    const id = randomUUID();
    const receipt = await wire.assertSettles(alices, order({ id }));
    for (const changes of [{ amount: "2.00" }, { exp: now_s() + 299 }, { payee: "mallory" }]) {
      await wire.assertRefused("order_conflict", () => alices.settle(order({ id, ...changes })));
    }
    assert.equal((await alices.call("payment.receipt", { id })).receipt, receipt);
  });

  test("other content under a void id is refused as well", OPTIONS, async () => {
    const id = randomUUID();
    await wire.assertRefused(
      "insufficient_funds",
      () => alices.settle(order({ id, amount: "99999.00" })),
    );
    await wire.assertRefused("order_conflict", () => alices.settle(order({ id })));
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
    const [alicesReceipt, mallorysReceipt] = [
      await wire.assertSettles(alices, order({ id })),
      await wire.assertSettles(mallorys, mallorys.order(mallory, bob, { id })),
    ];
    assert.notEqual(alicesReceipt, mallorysReceipt);
    assert.equal((await alices.call("payment.receipt", { id })).receipt, alicesReceipt);
    const bobsView = { id, payer: "mallory" };
    assert.equal((await bobs.call("payment.receipt", bobsView)).receipt, mallorysReceipt);
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

describe("a cancelled id", () => {
  test("is void for the order that comes after", OPTIONS, async () => {
    const signed = order();
    const ended = { state: "void", reason: "cancelled" };
    assert.deepEqual(await alices.call("payment.cancel", { id: idOf(signed) }), ended);
    for (const by of [alices, bobs]) {
      const details = await wire.assertRefused("cancelled", () => by.settle(signed));
      assert.deepEqual(details, { void: true });
    }
    assert.deepEqual(await alices.call("payment.cancel", { id: idOf(signed) }), ended);
    assert.deepEqual(await alices.call("payment.status", { id: idOf(signed) }), ended);
  });

  test(
    "that is settled already stays settled, and the receipt is the answer",
    OPTIONS,
    async () => {
      const signed = order();
      const receipt = await wire.assertSettles(alices, signed);
      const answer = await alices.call("payment.cancel", { id: idOf(signed) });
      assert.deepEqual([answer.state, answer.receipt], ["settled", receipt]);
      assert.equal(await wire.assertSettles(alices, signed), receipt);
    },
  );

  test("racing its settle: both say the same, and the money follows", OPTIONS, async () => {
    const ends = new Set<string>();
    for (let race = 0; race < RACES; race++) {
      const signed = order();
      const [settle, cancel] = [
        () => codeOf((race % 2 ? bobs : alices).settle(signed)),
        () => alices.call("payment.cancel", { id: idOf(signed) }),
      ];
      const moved = await spent(async () => {
        const pause_ms = race % 8 === 0 ? 0 : 2 ** (race % 8 - 1);
        const [refused, { state }] = await Promise.all(
          race % 3 === 0
            ? [settle(), delay(pause_ms).then(cancel)]
            : [delay(pause_ms).then(settle), cancel()],
        );
        assert.equal(refused, state === "settled" ? null : "cancelled");
        const { state: known } = await alices.call("payment.status", { id: idOf(signed) });
        assert.equal(known, state);
        ends.add(String(state));
      });
      const { state } = await alices.call("payment.status", { id: idOf(signed) });
      assert.equal(moved, state === "settled" ? 100n : 0n);
    }
    assert.deepEqual([...ends].sort(), ["settled", "void"]);
  });

  test("of another's is one's own, and harms nobody", OPTIONS, async () => {
    const signed = order();
    for (const by of [bobs, mallorys]) await by.call("payment.cancel", { id: idOf(signed) });
    await wire.assertSettles(alices, signed);
    await mallorys.call("payment.cancel", { id: idOf(signed) });
    assert.equal((await alices.call("payment.status", { id: idOf(signed) })).state, "settled");
  });
});

describe("a payment is its payer's and payee's business alone", () => {
  test("a third party learns nothing of it and has no say in it", OPTIONS, async () => {
    const signed = order();
    await wire.assertRefused("not_a_party", () => mallorys.settle(signed));
    assert.deepEqual(await alices.call("payment.status", { id: idOf(signed) }), {
      state: "unknown",
    });
    await wire.assertSettles(alices, signed);
    await wire.assertRefused("not_a_party", () => mallorys.settle(signed));
    const id = idOf(signed);
    for (const named of [{ id }, { id, payer: "alice" }, { id, payer: "alice", index: 0 }]) {
      assert.deepEqual(await mallorys.call("payment.status", named), { state: "unknown" });
      await wire.assertRefused("unknown_payment", () => mallorys.call("payment.receipt", named));
    }
    const rows = (await mallorys.call("payment.history")).rows as Json[];
    assert.ok(rows.every(({ payer, payee }) => [payer, payee].includes("mallory")));
  });

  test("a payee learns nothing of what is void", OPTIONS, async () => {
    const signed = order({ amount: "99999.00" });
    await wire.assertRefused("insufficient_funds", () => alices.settle(signed));
    const named = { id: idOf(signed), payer: "alice" };
    assert.deepEqual(await bobs.call("payment.status", named), { state: "unknown" });
    await wire.assertRefused("unknown_payment", () => bobs.call("payment.receipt", named));
  });

  test("an opening balance is a payment without a receipt", OPTIONS, async () => {
    const rows = (await alices.call("payment.history")).rows as Json[];
    const opening = rows.find(({ payer }) => payer === "@treasury")!;
    const named = { id: String(opening.payment), payer: "@treasury" };
    await wire.assertRefused("bad_name", () => alices.call("payment.status", named));
    await wire.assertRefused("bad_name", () => alices.call("payment.receipt", named));
  });

  test("an index that a payment does not have names no payment", OPTIONS, async () => {
    const plain = order();
    await wire.assertSettles(alices, plain);
    // What comes right after it in the ledger is none of alice's.
    await wire.assertSettles(mallorys, mallorys.order(mallory, bob));
    const batch = await settledBatch();
    await wire.assertSettles(mallorys, mallorys.order(mallory, bob));
    for (
      const [id, index] of [[idOf(plain), 0], [idOf(plain), 1], [batch, 2], [batch, 3], [
        batch,
        999,
      ]]
    ) {
      for (const by of [alices, bobs]) {
        const named = { id, index, payer: "alice" };
        assert.deepEqual(await by.call("payment.status", named), { state: "unknown" }, `${index}`);
        await wire.assertRefused("unknown_payment", () => by.call("payment.receipt", named));
      }
    }
    for (const index of [-1, 1_000, 0.5, "0", null]) {
      const named = { id: batch, index };
      await wire.assertRefused("invalid_params", () => alices.call("payment.status", named));
    }
  });

  test("a payee of a batch sees that payee's payment and no other", OPTIONS, async () => {
    const id = await settledBatch();
    const named = { id, payer: "alice" };
    assert.equal((await bobs.call("payment.status", { ...named, index: 0 })).state, "settled");
    const { receipt } = await bobs.call("payment.receipt", { ...named, index: 0 });
    assert.ok(!String(receipt).includes("mallory"));
    for (const other of [{}, { index: 1 }]) {
      assert.deepEqual(await bobs.call("payment.status", { ...named, ...other }), {
        state: "unknown",
      });
    }
    await wire.assertRefused("index_required", () => alices.call("payment.receipt", { id }));
  });
});

test(
  "voids without end are stopped for who signs them, and not for the payee who hands them in",
  OPTIONS,
  async () => {
    const codes = new Set<string | null>();
    for (let round = 0; round < 11; round++) {
      const orders = Array.from(
        { length: 100 },
        () => mallorys.order(mallory, bob, { amount: "99999.00" }),
      );
      for (const code of await Promise.all(orders.map((signed) => codeOf(bobs.settle(signed))))) {
        codes.add(code);
      }
    }
    assert.deepEqual([...codes], ["insufficient_funds", "too_many_voids"]);
    await wire.assertRefused(
      "too_many_voids",
      () => mallorys.call("payment.cancel", { id: randomUUID() }),
    );
    await wire.assertSettles(bobs, order());
    await wire.assertSettles(bobs, bobs.order(bob, alice));
    const { state } = await bobs.call("payment.cancel", { id: randomUUID() });
    assert.equal(state, "void");
  },
);

/** A batch that pays bob and mallory; its id. */
async function settledBatch(): Promise<string> {
  const batch = alices.batch(alice, [bob, mallory]);
  await alices.settle(batch);
  return idOf(batch);
}

test("after all of this the sum is zero and the audit passes", OPTIONS, async () => {
  await wire.assertAuditPasses();
});
