import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import fc from "fast-check";
import { encodeBase64url } from "../../lib/base/parse.ts";
import { makeSessionKey } from "../../lib/protocol/delegation.ts";
import { hashLeaf, merklePath, merkleTree, rootFromPath } from "../../lib/protocol/merkle.ts";
import {
  type BatchItem,
  formatBatchItem,
  type Order,
  parseBatchItem,
  parseBatchItems,
  untimely,
  verifySignedOrder,
} from "../../lib/protocol/order.ts";
import { sha256Text } from "../../lib/protocol/token.ts";
import {
  amount,
  delegate,
  NOW_S,
  person,
  signedBatch,
  signedOrder,
  uuid,
} from "../support/fixtures.ts";
import { partsOf, rawToken } from "../support/raw_tokens.ts";

const alice = person("alice");
const bob = person("bob");
const carol = person("carol");
const DAY_S = 86_400;

/** Signs an order of alice's to bob with some claims replaced by anything at all. */
async function orderOf(changed: object): Promise<string> {
  const { header, payload } = partsOf((await signedOrder(alice, bob)).order.text);
  const claims = JSON.stringify({ ...JSON.parse(payload), ...changed });
  return rawToken(header, claims, alice.session.privateKey);
}

async function verifyChanged(changed: object): Promise<unknown> {
  return await verifySignedOrder(await orderOf(changed), (await delegate(alice)).text);
}

test("an order and its delegation come out of their texts as they went in", async () => {
  const { order, delegation } = await signedOrder(alice, bob);
  const verified = await verifySignedOrder(order.text, delegation.text);
  assert.deepEqual(verified.order, order);
  assert.equal(verified.delegation.sha256, delegation.sha256);
  assert.equal(verified.delegation.claims.key.thumbprint, alice.pair.publicKey.thumbprint);
});

test("every order that can be made is read back the same", async () => {
  const delegation = await delegate(alice);
  const orders = fc.record({
    amount: fc.bigInt(1n, 9_007_199_254_740_991n),
    life_s: fc.integer({ min: 1, max: DAY_S - 120 }),
    id: fc.uuid().map((text) => text.toLowerCase()),
    payee: fc.stringMatching(/^[a-z0-9][a-z0-9._-]{0,31}$/).filter((name) =>
      name !== "server" && name !== "alice"
    ),
  });
  await fc.assert(
    fc.asyncProperty(orders, async ({ life_s, ...claims }) => {
      const changed = { ...claims, exp: NOW_S + life_s } as unknown as Partial<Order>;
      const { order } = await signedOrder(alice, bob, changed, delegation);
      const verified = await verifySignedOrder(order.text, delegation.text);
      assert.deepEqual(verified.order.claims, order.claims);
    }),
    { numRuns: 50 },
  );
});

const AMOUNTS = [
  "0.00",
  "0",
  "-1.00",
  "1.001",
  "1",
  "1.5",
  "01.00",
  "90071992547409.92",
  "1e2",
  "",
  "٣.00",
  5,
];

for (const text of AMOUNTS) {
  test(`an order of ${JSON.stringify(text)} is bad_amount`, async () => {
    await assert.rejects(verifyChanged({ amount: text }), { code: "bad_amount" });
  });
}

test("an order of the largest amount there is passes, and of one more is bad_amount", async () => {
  await verifyChanged({ amount: "90071992547409.91" });
  await assert.rejects(verifyChanged({ amount: "90071992547409.92" }), { code: "bad_amount" });
});

test("the payer is not the payee", async () => {
  await assert.rejects(verifyChanged({ payee: "alice" }), { code: "payer_is_payee" });
});

test("the treasury may be paid, and never pays", async () => {
  const { order } = await verifySignedOrder(
    await orderOf({ payee: "@treasury" }),
    (await delegate(alice)).text,
  );
  assert.equal((order.claims as Order).payee, "@treasury");
  await assert.rejects(verifyChanged({ payer: "@treasury" }), { code: "bad_name" });
});

test("what is no account's name is party of no order", async () => {
  for (
    const name of [
      "@server",
      "server",
      "Alice",
      "alice ",
      "a".repeat(33),
      "",
      ".alice",
      "алиса",
      "a\0",
    ]
  ) {
    await assert.rejects(verifyChanged({ payee: name }), { code: "bad_name" }, name);
    await assert.rejects(verifyChanged({ payer: name }), { code: "bad_name" }, name);
  }
});

test("an id is a UUID in lower case and nothing else", async () => {
  const id = uuid();
  for (
    const other of [
      id.toUpperCase(),
      id.replaceAll("-", ""),
      `{${id}}`,
      `${id}0`,
      ` ${id}`,
      id.slice(1),
    ]
  ) {
    await assert.rejects(verifyChanged({ id: other }), { code: "bad_token" }, other);
  }
});

test("an order lives for a day at most, and ends after it begins", async () => {
  // Under a delegation that lives as long as one can, from the moment that the order does.
  const delegation = (await delegate(alice, {}, NOW_S)).text;
  const verdict = async (exp: number) =>
    await verifySignedOrder(await orderOf({ exp }), delegation);
  await verdict(NOW_S + DAY_S);
  await assert.rejects(verdict(NOW_S + DAY_S + 1), { code: "bad_token" });
  await assert.rejects(verdict(NOW_S), { code: "bad_token" });
  await assert.rejects(verdict(NOW_S - 1), { code: "bad_token" });
  await verdict(NOW_S + 1);
});

test("an order can be settled from a minute before it begins until it ends", async () => {
  const { order: { claims } } = await signedOrder(alice, bob, { iat: NOW_S, exp: NOW_S + 10 });
  assert.equal(untimely(claims, NOW_S - 61), "order_from_future");
  assert.equal(untimely(claims, NOW_S - 60), undefined);
  assert.equal(untimely(claims, NOW_S + 9), undefined);
  assert.equal(untimely(claims, NOW_S + 10), "order_expired");
});

test("an order and a delegation that do not belong together are wrong_delegation", async () => {
  const { order } = await signedOrder(alice, bob);
  const others = [
    await delegate(carol, { session: alice.session.publicKey }),
    await delegate(alice, { server: sha256Text("another server") }),
    await delegate(alice, {}, NOW_S - DAY_S + 299),
    await delegate(alice, {}, NOW_S + 61),
  ];
  for (const delegation of others) {
    await assert.rejects(verifySignedOrder(order.text, delegation.text), {
      code: "wrong_delegation",
    });
  }
  await verifySignedOrder(order.text, (await delegate(alice, {}, NOW_S - DAY_S + 300)).text);
});

test("an order signed by another session than the delegation's is bad_signature", async () => {
  const { order } = await signedOrder({ ...alice, session: makeSessionKey() }, bob);
  const { text } = await delegate(alice);
  await assert.rejects(verifySignedOrder(order.text, text), { code: "bad_signature" });
});

test("a batch and its items come out of their texts as they went in", async () => {
  const { signed, items } = await signedBatch(alice, [[bob, "1.00"], [carol, "2.50"], [
    bob,
    "0.01",
  ]]);
  const texts = items.map(formatBatchItem);
  const { order } = await verifySignedOrder(signed.order.text, signed.delegation.text);
  assert.deepEqual(order, signed.order);
  assert.deepEqual(parseBatchItems(signed.order.claims, texts), items);
  assert.deepEqual(texts.map(parseBatchItem), items);
});

test("an item has one spelling", async () => {
  const { items } = await signedBatch(alice, [[bob, "1.00"]]);
  const text = formatBatchItem(items[0]!);
  const others = [
    ` ${text}`,
    text.replace(",", ", "),
    text.replace('"index":0', '"index":0.0'),
    text.replace("bob", "\\u0062ob"),
    text.replace("}", ',"extra":1}'),
    text.replace("{", '{"index":0,'),
    JSON.stringify(Object.fromEntries(Object.entries(JSON.parse(text)).reverse())),
  ];
  for (const other of others) {
    assert.throws(() => parseBatchItem(other), { code: "bad_item" }, other);
  }
});

test("a neighbour's item is not confirmed from its hash: without its salt no guess is right", async () => {
  const { signed: { order: { claims } }, items } = await signedBatch(alice, [
    [bob, "1.00"],
    [carol, "2.00"],
  ]);
  const texts = items.map(formatBatchItem);
  // Bob's receipt shows the hash of carol's item; bob guesses who was paid, and how much.
  const [sibling] = merklePath(merkleTree(texts), 0);
  const guess = (salt?: string) => {
    const { salt: _, ...rest } = JSON.parse(texts[1]!) as { salt: string };
    return JSON.stringify(salt === undefined ? rest : { ...rest, salt });
  };
  const hash = (text: string) => encodeBase64url(hashLeaf(text));
  assert.equal(hash(guess(items[1]!.salt)), sibling);
  for (const salt of [undefined, "", items[0]!.salt, "A".repeat(22)]) {
    assert.notEqual(hash(guess(salt)), sibling);
  }
  assert.equal(Buffer.from(items[1]!.salt, "base64url").length, 16);
  assert.equal(rootFromPath(texts[0]!, 0, 2, [sibling!]), claims.itemsRoot);
});

test("a batch takes the items that were signed and no others", async () => {
  const { signed: { order: { claims } }, items } = await signedBatch(alice, [[bob, "1.00"], [
    carol,
    "2.00",
  ]]);
  const texts = items.map(formatBatchItem);
  const [first, second] = texts as [string, string];
  const other = (changed: Partial<BatchItem>) => formatBatchItem({ ...items[1]!, ...changed });
  const refused: [unknown, string][] = [
    [[first], "bad_item"],
    [[first, second, second], "bad_item"],
    [[second, first], "bad_item"],
    [[first, first], "bad_item"],
    [[first, other({ payee: bob.name })], "bad_item"],
    [[first, other({ payeeKey: sha256Text("other") })], "bad_item"],
    [[first, other({ amount: amount("2.01") })], "bad_item"],
    [[other({ index: 0, amount: amount("1.00") }), other({ amount: amount("2.00") })], "bad_item"],
    [[first, other({ payee: alice.name })], "payer_is_payee"],
    [[first, second.replace(",", ", ")], "bad_item"],
    [[first, second.replace('"2.00"', '"2.0"')], "bad_amount"],
    [[first, second.replace("}", ',"extra":1}')], "bad_item"],
    [[first, second.replace("carol", "@treasury")], "bad_name"],
    [[first, second.replace('"index":1', '"index":1.0')], "bad_item"],
    [[first, other({ salt: items[0]!.salt })], "bad_item"],
    [[first, second.replace(/,"salt":"[^"]*"/, "")], "bad_item"],
    [[first, second.replace(/"salt":"[^"]*"/, '"salt":""')], "bad_item"],
    [[first, second.replace(/"salt":"[^"]*"/, '"salt":null')], "bad_item"],
    [[first, second.replace(/"salt":"/, '"salt":"AA')], "bad_item"],
    [[first, null], "bad_item"],
    [[first, "x".repeat(10_000)], "bad_item"],
    [[first, "["], "bad_item"],
    [first, "bad_item"],
    [undefined, "bad_item"],
    [{ length: 2, 0: first, 1: second }, "bad_item"],
  ];
  for (const [list, code] of refused) {
    assert.throws(() => parseBatchItems(claims, list), { code }, JSON.stringify(list));
  }
});

test("a batch has a thousand items at most, and a total that is theirs", async () => {
  const delegation = await delegate(alice);
  const many = (count: number) => Array.from({ length: count }, () => [bob, "0.01"] as const);
  const most = await signedBatch(alice, many(1_000), {}, delegation);
  await verifySignedOrder(most.signed.order.text, delegation.text);
  const over = await signedBatch(alice, many(1_001), {}, delegation);
  await assert.rejects(verifySignedOrder(over.signed.order.text, delegation.text), {
    code: "bad_token",
  });
  const none = await signedBatch(alice, many(1), { count: 0 }, delegation);
  await assert.rejects(verifySignedOrder(none.signed.order.text, delegation.text), {
    code: "bad_token",
  });

  const { signed, items } = await signedBatch(
    alice,
    many(2),
    { total: amount("0.03") },
    delegation,
  );
  const { order } = await verifySignedOrder(signed.order.text, delegation.text);
  assert.throws(
    () => parseBatchItems(order.claims as typeof signed.order.claims, items.map(formatBatchItem)),
    { code: "bad_item" },
  );
});

test("a batch order is no order and an order no batch, though one session signs both", async () => {
  const { signed } = await signedBatch(alice, [[bob, "1.00"]]);
  const single = await signedOrder(alice, bob);
  const batchParts = partsOf(signed.order.text);
  const singleParts = partsOf(single.order.text);
  const crossed = [
    rawToken(batchParts.header, singleParts.payload, alice.session.privateKey),
    rawToken(singleParts.header, batchParts.payload, alice.session.privateKey),
  ];
  for (const text of crossed) {
    await assert.rejects(
      verifySignedOrder(text, single.delegation.text),
      (error: { code?: string }) => ["bad_token", "bad_name", "bad_amount"].includes(error.code!),
    );
  }
});

test("an order's signature with any one bit changed is bad_signature", async () => {
  const { order, delegation } = await signedOrder(alice, bob);
  const segments = order.text.split(".");
  const signature = Buffer.from(segments[2]!, "base64url");
  for (let bit = 0; bit < signature.length * 8; bit++) {
    const changed = Buffer.from(signature);
    changed[bit >> 3]! ^= 1 << (bit & 7);
    const text = segments.with(2, changed.toString("base64url")).join(".");
    const verified = verifySignedOrder(text, delegation.text, () => Promise.resolve(delegation));
    await assert.rejects(verified, { code: "bad_signature" }, `bit ${bit}`);
  }
});
