/** Orders that must not be settled, each sent over a real connection to a real server. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { sha256Text } from "../../../lib/protocol/token.ts";
import { now_s, type Person, person } from "../../support/fixtures.ts";
import type { Json } from "../../support/payment_world.ts";
import { partsOf, rawToken } from "../../support/raw_tokens.ts";
import { formatItem, idOf, ORDER_HEADER, type SignedTexts } from "../../support/wire_client.ts";
import { WireWorld } from "../../support/wire_world.ts";

const OPTIONS = { timeout: 60_000 };
const [alice, bob, mallory] = [person("alice"), person("bob"), person("mallory")];
const wire = await WireWorld.start("alice", "bob", "mallory");
const [alices, bobs, mallorys] = [wire.of(alice), wire.of(bob), wire.of(mallory)];

/** An order of alice's to bob with `changes` made to its claims, and signed as it should be. */
function order(changes: Json = {}): SignedTexts {
  return alices.order(alice, bob, changes);
}

function claims(): Json {
  return alices.orderClaims(alice, bob);
}

interface Case {
  readonly promise: string;
  readonly code: string;
  readonly signed: () => SignedTexts;
}

describe("an order that is not the payer's valid order is refused, and nothing is recorded of it", () => {
  const FAR_FUTURE_S = 10 * 365 * 86_400;
  const cases: Case[] = [
    {
      promise: "signed by another key",
      code: "bad_signature",
      signed: () => {
        const payload = JSON.stringify(claims());
        return {
          ...order(),
          order: rawToken(ORDER_HEADER, payload, mallory.session.privateKey),
        };
      },
    },
    {
      promise: "signed by the account's RSA key rather than the session key",
      code: "bad_token",
      signed: () => ({
        ...order(),
        order: rawToken(
          ORDER_HEADER.replace("EdDSA", "PS256"),
          JSON.stringify(claims()),
          alice.pair.privateKey,
        ),
      }),
    },
    {
      promise: "for another server",
      code: "wrong_delegation",
      signed: () => order({ server: sha256Text("another server") }),
    },
    {
      promise: "for another server, under a delegation for it",
      code: "wrong_server",
      signed: () => {
        const server = sha256Text("another server");
        return { ...order({ server }), delegation: alices.delegate(alice, { server }) };
      },
    },
    { promise: "amount 0", code: "bad_amount", signed: () => order({ amount: "0.00" }) },
    { promise: "negative", code: "bad_amount", signed: () => order({ amount: "-1.00" }) },
    { promise: "three decimals", code: "bad_amount", signed: () => order({ amount: "1.001" }) },
    { promise: "one decimal", code: "bad_amount", signed: () => order({ amount: "1.0" }) },
    { promise: "an exponent", code: "bad_amount", signed: () => order({ amount: "1e2" }) },
    { promise: "other digits", code: "bad_amount", signed: () => order({ amount: "١.٠٠" }) },
    { promise: "a number for an amount", code: "bad_amount", signed: () => order({ amount: 1 }) },
    {
      promise: "2^53 minor units",
      code: "bad_amount",
      signed: () => order({ amount: "90071992547409.92" }),
    },
    {
      promise: "2^64 minor units",
      code: "bad_amount",
      signed: () => order({ amount: "184467440737095516.16" }),
    },
    {
      promise: "payer = payee",
      code: "payer_is_payee",
      signed: () => alices.order(alice, alice),
    },
    {
      promise: "@treasury as payer",
      code: "bad_name",
      signed: () => order({ payer: "@treasury" }),
    },
    { promise: "server as payee", code: "bad_name", signed: () => order({ payee: "server" }) },
    { promise: "a payee that is no name", code: "bad_name", signed: () => order({ payee: "Bob" }) },
    {
      promise: "another's money: bob as payer, signed by alice",
      code: "wrong_delegation",
      signed: () => order({ payer: "bob", payee: "mallory" }),
    },
    { promise: "exp before iat", code: "bad_token", signed: () => order({ exp: now_s() - 1 }) },
    {
      promise: "an order that lives for more than a day",
      code: "bad_token",
      signed: () => order({ exp: now_s() + 86_460 }),
    },
    {
      promise: "one that outlives its delegation",
      code: "wrong_delegation",
      signed: () => order({ exp: now_s() + 7_200 }),
    },
    {
      promise: "one made before its delegation",
      code: "wrong_delegation",
      signed: () => order({ iat: now_s() - 120 }),
    },
    {
      promise: "a time that no clock shows",
      code: "bad_token",
      signed: () => order({ iat: now_s() + FAR_FUTURE_S + 0.5, exp: now_s() + FAR_FUTURE_S + 9 }),
    },
    {
      promise: "an id in capitals",
      code: "bad_token",
      signed: () => order({ id: "A".repeat(36) }),
    },
    { promise: "another version", code: "bad_token", signed: () => order({ v: 2 }) },
    {
      promise: "a delegation by another account",
      code: "wrong_delegation",
      signed: () => ({ ...order(), delegation: mallorys.delegation }),
    },
    {
      promise: "a delegation in the payer's name by another's RSA key",
      code: "wrong_key",
      signed: () => {
        const { jwk: key } = mallory.pair.publicKey;
        return {
          ...order(),
          delegation: alices.delegate(alice, { key }, mallory.pair.privateKey),
        };
      },
    },
    {
      promise: "a delegation that names the payer's key and is signed by another",
      code: "bad_signature",
      signed: () => ({
        ...order(),
        delegation: alices.delegate(alice, {}, mallory.pair.privateKey),
      }),
    },
    {
      promise: "a delegation that has expired",
      code: "wrong_delegation",
      signed: () => ({
        ...order(),
        delegation: alices.delegate(alice, { iat: now_s() - 3_600, exp: now_s() - 1 }),
      }),
    },
    {
      promise: "a delegation for more than a day",
      code: "bad_token",
      signed: () => ({
        ...order(),
        delegation: alices.delegate(alice, { exp: now_s() + 86_460 }),
      }),
    },
    {
      promise: "a delegation in the place of the order",
      code: "bad_token",
      signed: () => ({ order: alices.delegation, delegation: alices.delegation }),
    },
    {
      promise: "an order in the place of the delegation",
      code: "bad_token",
      signed: () => ({ ...order(), delegation: order().order }),
    },
  ];
  for (const { promise, code, signed } of cases) {
    test(promise, OPTIONS, async () => {
      const texts = signed();
      await wire.assertRefused(code, () => alices.settle(texts));
      const parts = JSON.parse(partsOf(texts.order).payload) as Json;
      if (typeof parts.id === "string" && parts.id === parts.id.toLowerCase()) {
        assert.deepEqual(await alices.call("payment.status", { id: parts.id }), {
          state: "unknown",
        });
      }
    });
  }
});

describe("a valid order that the rules refuse leaves its id as it was", () => {
  const cases: Case[] = [
    {
      promise: "expired",
      code: "order_expired",
      signed: () => ({
        ...order({ iat: now_s() - 90, exp: now_s() - 1 }),
        delegation: alices.delegate(alice, { iat: now_s() - 120, exp: now_s() + 60 }),
      }),
    },
    {
      promise: "expired, and its delegation with it",
      code: "delegation_expired",
      signed: () => ({
        ...order({ iat: now_s() - 90, exp: now_s() - 1 }),
        delegation: alices.delegate(alice, { iat: now_s() - 120, exp: now_s() - 1 }),
      }),
    },
    {
      promise: "from the future",
      code: "order_from_future",
      signed: () => order({ iat: now_s() + 90 }),
    },
    {
      promise: "to nobody",
      code: "unknown_payee",
      signed: () => order({ payee: "nobody" }),
    },
    {
      promise: "to a name that nobody may register",
      code: "unknown_payee",
      signed: () => order({ payee: "admin" }),
    },
    {
      promise: "with a payee key that is not the payee's",
      code: "payee_key_changed",
      signed: () => order({ payee_key: mallory.pair.publicKey.thumbprint }),
    },
    {
      promise: "without the payee's key",
      code: "payee_key_changed",
      signed: () => order({ payee_key: null }),
    },
    {
      promise: "to the treasury under another key than the server's",
      code: "payee_key_changed",
      signed: () => order({ payee: "@treasury" }),
    },
    {
      promise: "for more than the balance",
      code: "insufficient_funds",
      signed: () => order({ amount: "10000.01" }),
    },
    {
      promise: "for the most that an amount can be",
      code: "insufficient_funds",
      signed: () => order({ amount: "90071992547409.91" }),
    },
  ];
  for (const { promise, code, signed } of cases) {
    test(promise, OPTIONS, async () => {
      const texts = signed();
      for (let time = 0; time < 3; time++) {
        assert.deepEqual(await wire.assertRefused(code, () => alices.settle(texts)), {});
      }
      for (const by of [alices, bobs]) {
        const named = { id: idOf(texts), payer: "alice" };
        assert.deepEqual(await by.call("payment.status", named), { state: "unknown" });
      }
    });
  }

  test("so that the same bytes are settled once the money is there", OPTIONS, async () => {
    const texts = order({ amount: "10000.01" });
    await wire.assertRefused("insufficient_funds", () => alices.settle(texts));
    await wire.assertSettles(bobs, bobs.order(bob, alice, { amount: "5.00" }));
    await wire.assertSettles(alices, texts);
    await wire.assertSettles(bobs, bobs.order(bob, alice, { amount: "9995.01" }));
    assert.equal(await alices.balance(), "10000.00");
  });

  test("so that another order may be paid under it", OPTIONS, async () => {
    const refused = order({ amount: "10000.01" });
    await wire.assertRefused("insufficient_funds", () => alices.settle(refused));
    await wire.assertSettles(alices, order({ id: idOf(refused) }));
    await wire.assertSettles(bobs, bobs.order(bob, alice));
  });
});

describe("what is refused tells a stranger nothing about the payee", () => {
  for (const changes of [{ payee: "nobody" }, { payee_key: null }]) {
    const what = JSON.stringify(changes);
    test(
      `one without the money learns of that alone, whatever is wrong: ${what}`,
      OPTIONS,
      async () => {
        const texts = order({ amount: "10000.01", ...changes });
        await wire.assertRefused("insufficient_funds", () => alices.settle(texts));
      },
    );

    test(
      `one with another key learns of that alone, whatever is wrong: ${what}`,
      OPTIONS,
      async () => {
        const { jwk: key } = mallory.pair.publicKey;
        const delegation = alices.delegate(alice, { key }, mallory.pair.privateKey);
        await wire.assertRefused(
          "wrong_key",
          () => alices.settle({ ...order(changes), delegation }),
        );
      },
    );
  }

  test("an order of nobody's is answered as one of somebody else's", OPTIONS, async () => {
    for (const payer of ["nobody", "bob"]) {
      const { jwk: key } = mallory.pair.publicKey;
      const session = mallorys.delegationClaims(mallory).session;
      const claims = { ...mallorys.orderClaims(mallory, mallory), payer };
      const texts = {
        order: rawToken(ORDER_HEADER, JSON.stringify(claims), mallory.session.privateKey),
        delegation: mallorys.delegate(mallory, { account: payer, key, session }),
      };
      await wire.assertRefused("wrong_key", () => mallorys.settle(texts));
    }
  });
});

test("an order under a delegation for another certificate is settled", OPTIONS, async () => {
  const delegation = alices.delegate(alice, { cert: sha256Text("an older certificate") });
  await wire.assertSettles(alices, { ...order(), delegation });
  await wire.assertSettles(bobs, bobs.order(bob, alice));
});

describe("a batch is settled whole or not at all", () => {
  const item = (index: number, payee: Person, amount: string, salt?: unknown) =>
    formatItem(index, payee, amount, salt);
  /** Bob's item with other members. */
  const other = (changes: Json) =>
    JSON.stringify({ ...JSON.parse(item(1, bob, "2.00")), ...changes });
  const good = [item(0, bob, "1.00"), item(1, mallory, "2.00")];
  const batch = (items: readonly string[], changes: Json = {}): SignedTexts =>
    alices.batchOf(alice, items, changes);
  const cases: { promise: string; code: string; signed: () => SignedTexts }[] = [
    {
      promise: "another root",
      code: "bad_item",
      signed: () => batch(good, { items_root: sha256Text("x") }),
    },
    { promise: "another total", code: "bad_item", signed: () => batch(good, { total: "2.00" }) },
    { promise: "another count", code: "bad_item", signed: () => batch(good, { count: 3 }) },
    {
      promise: "items in another order",
      code: "bad_item",
      signed: () => batch([...good].reverse()),
    },
    {
      promise: "an item left out",
      code: "bad_item",
      signed: () => ({ ...batch(good), items: [good[0]!] }),
    },
    {
      promise: "another item",
      code: "bad_item",
      signed: () => ({ ...batch(good), items: [good[0]!, item(1, bob, "2.00")] }),
    },
    {
      promise: "items that are no list",
      code: "invalid_params",
      signed: () => ({ ...batch(good), items: "x" as never }),
    },
    {
      promise: "more than 1,000 items",
      code: "invalid_params",
      signed: () => ({ ...batch(good), items: new Array(1_001).fill("") }),
    },
    { promise: "count 0", code: "bad_token", signed: () => batch(good, { count: 0 }) },
    {
      promise: "an item with an extra member",
      code: "bad_item",
      signed: () => batch([good[0]!, other({ x: 1 })]),
    },
    {
      promise: "an item of nothing",
      code: "bad_amount",
      signed: () => batch([good[0]!, item(1, mallory, "0.00")]),
    },
    {
      promise: "an item of less than nothing",
      code: "bad_amount",
      signed: () => batch([good[0]!, item(1, mallory, "-2.00")], { total: "1.00" }),
    },
    {
      promise: "the payer among the payees",
      code: "payer_is_payee",
      signed: () => batch([good[0]!, item(1, alice, "2.00")]),
    },
    {
      promise: "one payee of two unknown",
      code: "unknown_payee",
      signed: () => batch([good[0]!, other({ payee: "nobody" })]),
    },
    {
      promise: "one payee's key another's",
      code: "payee_key_changed",
      signed: () => batch([good[0]!, other({ payee: "mallory" })]),
    },
    {
      promise: "all together more than the balance, with a payee unknown besides",
      code: "insufficient_funds",
      signed: () => batch([item(0, bob, "9999.00"), other({ payee: "nobody" })]),
    },
    {
      promise: "an item without salt",
      code: "bad_item",
      signed: () => batch([good[0]!, other({ salt: undefined })]),
    },
    {
      promise: "a salt of 15 bytes",
      code: "bad_item",
      signed: () => batch([good[0]!, other({ salt: "A".repeat(20) })]),
    },
    {
      promise: "a salt that is not canonical",
      code: "bad_item",
      signed: () => batch([good[0]!, other({ salt: "A".repeat(21) + "B" })]),
    },
    {
      promise: "a salt that is a number",
      code: "bad_item",
      signed: () => batch([good[0]!, other({ salt: 1 })]),
    },
  ];
  for (const { promise, code, signed } of cases) {
    test(promise, OPTIONS, async () => {
      await wire.assertRefused(code, () => alices.settle(signed()));
    });
  }

  test("a payee may not have it settled: it is not theirs alone", OPTIONS, async () => {
    await wire.assertRefused("not_a_party", () => bobs.settle(batch(good)));
  });
});

test("after all of this the sum is zero and the audit passes", OPTIONS, async () => {
  await wire.assertAuditPasses();
});
