import assert from "node:assert/strict";
import { test } from "node:test";
import { verifySignedCancel } from "../../lib/protocol/cancel.ts";
import { makeSessionKey } from "../../lib/protocol/delegation.ts";
import { verifySignedOrder } from "../../lib/protocol/order.ts";
import { sha256Text } from "../../lib/protocol/token.ts";
import { delegate, NOW_S, person, signedCancel, signedOrder, uuid } from "../support/fixtures.ts";
import { partsOf, rawToken } from "../support/raw_tokens.ts";

const alice = person("alice");
const bob = person("bob");
const carol = person("carol");

test("a cancel and its delegation come out of their texts as they went in", async () => {
  const { cancel, delegation } = await signedCancel(alice, uuid());
  const verified = await verifySignedCancel(cancel.text, delegation.text);
  assert.deepEqual(verified.cancel, cancel);
  assert.equal(verified.delegation.sha256, delegation.sha256);
});

test("a cancel and a delegation that do not belong together are wrong_delegation", async () => {
  const { cancel } = await signedCancel(alice, uuid());
  const others = [
    await delegate(carol, { session: alice.session.publicKey }),
    await delegate(alice, { server: sha256Text("another server") }),
    await delegate(alice, {}, NOW_S + 61),
  ];
  for (const { text } of others) {
    await assert.rejects(verifySignedCancel(cancel.text, text), { code: "wrong_delegation" });
  }
  await verifySignedCancel(cancel.text, (await delegate(alice, {}, NOW_S + 60)).text);
});

test("a cancel signed by another session than the delegation's is bad_signature", async () => {
  const { cancel } = await signedCancel({ ...alice, session: makeSessionKey() }, uuid());
  const { text } = await delegate(alice);
  await assert.rejects(verifySignedCancel(cancel.text, text), { code: "bad_signature" });
});

test("an order is no cancel and a cancel no order, though one session signs both", async () => {
  const { order, delegation } = await signedOrder(alice, bob);
  const { cancel } = await signedCancel(alice, order.claims.id, {}, delegation);
  const [ordered, cancelled] = [partsOf(order.text), partsOf(cancel.text)];
  const key = alice.session.privateKey;
  for (const text of [order.text, rawToken(cancelled.header, ordered.payload, key)]) {
    await assert.rejects(verifySignedCancel(text, delegation.text), { code: "bad_token" });
  }
  for (const text of [cancel.text, rawToken(ordered.header, cancelled.payload, key)]) {
    await assert.rejects(verifySignedOrder(text, delegation.text), { code: "bad_token" });
  }
});

test("the treasury cancels nothing", async () => {
  const { cancel, delegation } = await signedCancel(alice, uuid());
  const { header, payload } = partsOf(cancel.text);
  const claims = JSON.stringify({ ...JSON.parse(payload), payer: "@treasury" });
  const text = rawToken(header, claims, alice.session.privateKey);
  await assert.rejects(verifySignedCancel(text, delegation.text), { code: "bad_name" });
});
