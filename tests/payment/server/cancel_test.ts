/**
 * A cancel ends an id unpaid, for ever, by its payer's signed word alone: over real connections to
 * a real server.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { CANCELS_MAX } from "../../../lib/payment/server/budgets.ts";
import { sha256Text } from "../../../lib/protocol/token.ts";
import { now_s, person } from "../../support/fixtures.ts";
import type { Json } from "../../support/payment_world.ts";
import { rawToken } from "../../support/raw_tokens.ts";
import { codeOf } from "../../support/refusal.ts";
import {
  CANCEL_HEADER,
  type CancelTexts,
  idOf,
  minorUnits,
  ORDER_HEADER,
  type SignedTexts,
} from "../../support/wire_client.ts";
import { WireWorld } from "../../support/wire_world.ts";

const OPTIONS = { timeout: 60_000 };
const RACES = 60;
const CANCELLED = { state: "cancelled" };
const UNKNOWN = { state: "unknown" };
const [alice, bob, mallory, carol] = [
  person("alice"),
  person("bob"),
  person("mallory"),
  person("carol"),
];
const wire = await WireWorld.start("alice", "bob", "mallory", "carol");
const [alices, bobs, mallorys, carols] = [
  wire.of(alice),
  wire.of(bob),
  wire.of(mallory),
  wire.of(carol),
];

function order(changes: Json = {}): SignedTexts {
  return alices.order(alice, bob, changes);
}

function cancel(id: string, changes: Json = {}): CancelTexts {
  return alices.cancel(alice, id, changes);
}

describe("a cancelled id", () => {
  test("is never paid", OPTIONS, async () => {
    const signed = order();
    const before = { size: await wire.size(), balances: await wire.balances() };
    assert.deepEqual(await alices.call("payment.cancel", cancel(idOf(signed))), CANCELLED);
    assert.equal(await wire.size(), before.size + 1);
    for (const by of [alices, bobs]) {
      assert.deepEqual(await wire.assertRefused("cancelled", () => by.settle(signed)), {});
    }
    const other = order({ id: idOf(signed), amount: "2.00" });
    await wire.assertRefused("cancelled", () => alices.settle(other));
    assert.deepEqual(await alices.call("payment.status", { id: idOf(signed) }), CANCELLED);
    await wire.assertRefused(
      "unknown_payment",
      () => alices.call("payment.receipt", { id: idOf(signed) }),
    );
    assert.deepEqual(await wire.balances(), before.balances);
  });

  test(
    "may be cancelled again, by the same bytes or others, and is one entry",
    OPTIONS,
    async () => {
      const id = randomUUID();
      const texts = cancel(id);
      assert.deepEqual(await alices.call("payment.cancel", texts), CANCELLED);
      await wire.unharmed(async () => {
        assert.deepEqual(await alices.call("payment.cancel", texts), CANCELLED);
        const later = cancel(id, { iat: now_s() + 1 });
        assert.deepEqual(await alices.call("payment.cancel", later), CANCELLED);
      });
    },
  );

  test("may be one of a batch, or of an order that never was", OPTIONS, async () => {
    const batch = alices.batch(alice, [bob, mallory]);
    assert.deepEqual(await alices.call("payment.cancel", cancel(idOf(batch))), CANCELLED);
    await wire.assertRefused("cancelled", () => alices.settle(batch));
    assert.deepEqual(await alices.call("payment.cancel", cancel(randomUUID())), CANCELLED);
  });

  test("is its payer's: the same id of another payer's is another payment", OPTIONS, async () => {
    const id = randomUUID();
    assert.deepEqual(
      await mallorys.call("payment.cancel", mallorys.cancel(mallory, id)),
      CANCELLED,
    );
    await wire.assertSettles(alices, order({ id }));
    await wire.assertSettles(bobs, bobs.order(bob, alice, { id }));
  });

  test("is told to nobody but its payer", OPTIONS, async () => {
    const signed = order();
    await alices.call("payment.cancel", cancel(idOf(signed)));
    const named = { id: idOf(signed), payer: "alice" };
    for (const by of [bobs, mallorys]) {
      assert.deepEqual(await by.call("payment.status", named), UNKNOWN);
      await wire.assertRefused("unknown_payment", () => by.call("payment.receipt", named));
    }
  });
});

describe("an id that is settled already stays settled", () => {
  test("and its cancel answers the payment with its proof", OPTIONS, async () => {
    const signed = order();
    const entry = await wire.assertSettles(alices, signed);
    await wire.unharmed(async () => {
      const answer = await alices.call("payment.cancel", cancel(idOf(signed)));
      assert.deepEqual([answer.state, answer.entry], ["settled", entry]);
      const receipt = await alices.receivedReceipt(answer);
      assert.equal(receipt.id, idOf(signed));
      assert.deepEqual([answer.order, answer.delegation], [signed.order, signed.delegation]);
    });
    await wire.assertSettles(bobs, bobs.order(bob, alice));
  });

  test("and a batch's cancel answers the batch with all of its items", OPTIONS, async () => {
    const batch = alices.batch(alice, [bob, bob]);
    const entry = await wire.assertSettles(alices, batch);
    const answer = await alices.call("payment.cancel", cancel(idOf(batch)));
    assert.deepEqual([answer.state, answer.entry, answer.items], ["settled", entry, batch.items]);
    assert.equal(alices.provenEntry(answer).type, "batch");
    await wire.assertSettles(bobs, bobs.order(bob, alice, { amount: "0.02" }));
  });

  test("or is cancelled, when both come at once: both say the same, and the money follows", {
    timeout: 120_000,
  }, async () => {
    const ends = new Set<string>();
    for (let race = 0; race < RACES; race++) {
      const signed = order();
      const by = race % 2 === 0 ? alices : bobs;
      const settle = () => codeOf(by.settle(signed));
      const end = () => alices.call("payment.cancel", cancel(idOf(signed)));
      const before = minorUnits(await alices.balance());
      const pause_ms = race % 8 === 0 ? 0 : 2 ** (race % 8 - 1) / 8;
      const [refused, { state }] = await Promise.all(
        race % 3 === 0
          ? [settle(), delay(pause_ms).then(end)]
          : [delay(pause_ms).then(settle), end()],
      );
      assert.equal(refused, state === "settled" ? null : "cancelled");
      const { state: known } = await alices.call("payment.status", { id: idOf(signed) });
      assert.equal(known, state);
      const moved = before - minorUnits(await alices.balance());
      assert.equal(moved, state === "settled" ? 100n : 0n);
      ends.add(String(state));
    }
    assert.deepEqual([...ends].sort(), ["cancelled", "settled"]);
  });
});

interface Case {
  readonly promise: string;
  readonly code: string;
  readonly by?: typeof alices;
  readonly texts: (id: string) => Json;
}

describe("a cancel that is not its payer's signed word ends nothing", () => {
  const signed = (header: string, claims: object, by = alice) =>
    rawToken(header, JSON.stringify(claims), by.session.privateKey);
  const claims = (id: string) => ({
    v: 1,
    id,
    server: alices.server,
    payer: "alice",
    iat: now_s(),
  });
  const cases: readonly Case[] = [
    { promise: "an id alone", code: "bad_token", texts: (id) => ({ id }) },
    {
      promise: "text that is no token",
      code: "bad_token",
      texts: (id) => ({ ...cancel(id), cancel: "x" }),
    },
    { promise: "a number", code: "bad_token", texts: (id) => ({ ...cancel(id), cancel: 1 }) },
    { promise: "no delegation", code: "bad_token", texts: (id) => ({ cancel: cancel(id).cancel }) },
    {
      promise: "the order itself",
      code: "bad_token",
      texts: (id) => ({ ...cancel(id), cancel: order({ id }).order }),
    },
    {
      promise: "an order's header",
      code: "bad_token",
      texts: (id) => ({ ...cancel(id), cancel: signed(ORDER_HEADER, claims(id)) }),
    },
    {
      promise: "an extra claim",
      code: "bad_token",
      texts: (id) => ({ ...cancel(id, { why: "x" }) }),
    },
    { promise: "another version", code: "bad_token", texts: (id) => ({ ...cancel(id, { v: 2 }) }) },
    {
      promise: "no time",
      code: "bad_token",
      texts: (id) => ({ ...cancel(id, { iat: undefined }) }),
    },
    {
      promise: "a payer that is no name",
      code: "bad_name",
      texts: (id) => ({ ...cancel(id, { payer: "@treasury" }) }),
    },
    {
      promise: "signed by another session key",
      code: "bad_signature",
      texts: (id) => ({ ...cancel(id), cancel: signed(CANCEL_HEADER, claims(id), mallory) }),
    },
    {
      promise: "the payee's",
      code: "not_a_party",
      by: bobs,
      texts: (id) => ({ ...cancel(id) }),
    },
    {
      promise: "signed by the payee in the payer's name",
      code: "wrong_delegation",
      by: bobs,
      texts: (id) => ({ ...bobs.cancel(bob, id, { payer: "alice" }) }),
    },
    {
      promise: "under a delegation in the payer's name by another's RSA key",
      code: "wrong_key",
      texts: (id) => {
        const { jwk: key } = mallory.pair.publicKey;
        const delegation = alices.delegate(alice, { key }, mallory.pair.privateKey);
        return { ...cancel(id), delegation };
      },
    },
    {
      promise: "for another server",
      code: "wrong_delegation",
      texts: (id) => ({ ...cancel(id, { server: sha256Text("another server") }) }),
    },
    {
      promise: "for another server, under a delegation for it",
      code: "wrong_server",
      texts: (id) => {
        const server = sha256Text("another server");
        return { ...cancel(id, { server }), delegation: alices.delegate(alice, { server }) };
      },
    },
    {
      promise: "under a delegation that has expired",
      code: "delegation_expired",
      texts: (id) => ({
        ...cancel(id),
        delegation: alices.delegate(alice, { iat: now_s() - 120, exp: now_s() - 1 }),
      }),
    },
    {
      promise: "made before its delegation",
      code: "wrong_delegation",
      texts: (id) => ({ ...cancel(id, { iat: now_s() - 120 }) }),
    },
  ];
  for (const { promise, code, by = alices, texts } of cases) {
    test(promise, OPTIONS, async () => {
      const signed = order();
      await wire.assertRefused(code, () => by.call("payment.cancel", texts(idOf(signed))));
      assert.deepEqual(await alices.call("payment.status", { id: idOf(signed) }), UNKNOWN);
      await wire.assertSettles(alices, signed);
      await wire.assertSettles(bobs, bobs.order(bob, alice));
    });
  }

  test("a settled id is told to nobody who cannot sign for its payer", OPTIONS, async () => {
    const signed = order();
    await wire.assertSettles(alices, signed);
    const { jwk: key } = mallory.pair.publicKey;
    const delegation = alices.delegate(alice, { key }, mallory.pair.privateKey);
    const texts = { ...cancel(idOf(signed)), delegation };
    await wire.assertRefused("wrong_key", () => alices.call("payment.cancel", texts));
    await wire.assertRefused(
      "not_a_party",
      () => mallorys.call("payment.cancel", cancel(idOf(signed))),
    );
    await wire.assertSettles(bobs, bobs.order(bob, alice));
  });
});

test(
  "cancels without end are stopped for who signs them, and for nobody else",
  OPTIONS,
  async () => {
    const settled = carols.order(carol, bob);
    await wire.assertSettles(carols, settled);
    const before = await wire.size();
    const ids = Array.from({ length: CANCELS_MAX + 200 }, () => randomUUID());
    const codes: (string | null)[] = [];
    for (let start = 0; start < ids.length; start += 200) {
      codes.push(
        ...await Promise.all(
          ids.slice(start, start + 200).map((id) =>
            codeOf(carols.call("payment.cancel", carols.cancel(carol, id)))
          ),
        ),
      );
    }
    assert.equal(codes.filter((code) => code === null).length, CANCELS_MAX);
    assert.equal(codes.filter((code) => code === "rate_limited").length, 200);
    assert.equal(await wire.size(), before + CANCELS_MAX);
    // What has ended is still told, because it records nothing.
    const answer = await carols.call("payment.cancel", carols.cancel(carol, idOf(settled)));
    assert.equal(answer.state, "settled");
    const again = await carols.call("payment.cancel", carols.cancel(carol, ids[0]!));
    assert.deepEqual(again, CANCELLED);
    await wire.assertSettles(carols, carols.order(carol, bob));
    assert.deepEqual(await bobs.call("payment.cancel", bobs.cancel(bob, randomUUID())), CANCELLED);
  },
);

test("after all of this the sum is zero and the audit passes", OPTIONS, async () => {
  await wire.assertAuditPasses();
});
