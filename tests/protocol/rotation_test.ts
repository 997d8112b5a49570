import assert from "node:assert/strict";
import { test } from "node:test";
import { verifyDelegation } from "../../lib/protocol/delegation.ts";
import { parseRotation, signRotation, verifyRotation } from "../../lib/protocol/rotation.ts";
import { delegate, NOW_S, person, rsaPair, serverPair } from "../support/fixtures.ts";
import { partsOf, rawToken } from "../support/raw_tokens.ts";

const alice = person("alice");
const nextPair = rsaPair("alice's next key");
const otherPair = rsaPair("someone else's key");
const oldKey = alice.pair.publicKey;
const CLAIMS = {
  account: alice.name,
  server: serverPair().publicKey.thumbprint,
  replaces: 7,
  iat: NOW_S,
};

/** The texts of a rotation. */
async function texts(from = alice.pair, to = nextPair, claims: Partial<typeof CLAIMS> = {}) {
  const signed = await signRotation(from, to, { ...CLAIMS, ...claims });
  return [signed.rotation.text, signed.countersignature.text] as const;
}

test("a rotation and its countersignature come out of their texts as they went in", async () => {
  const signed = await signRotation(alice.pair, nextPair, CLAIMS);
  const { rotation, countersignature } = signed;
  assert.deepEqual(await verifyRotation(rotation.text, countersignature.text, oldKey), signed);
  assert.equal(signed.oldKey, oldKey.thumbprint);
  assert.equal(parseRotation(rotation.text).claims.key.thumbprint, nextPair.publicKey.thumbprint);
});

test("a rotation that another key signed is bad_signature", async () => {
  const [rotation, countersignature] = await texts(otherPair);
  await assert.rejects(verifyRotation(rotation, countersignature, oldKey), {
    code: "bad_signature",
  });
});

test("the new key countersigns, and the same claims", async () => {
  const [rotation] = await texts();
  const { header } = partsOf((await texts())[1]);
  const forged = rawToken(header, partsOf(rotation).payload, otherPair.privateKey);
  await assert.rejects(verifyRotation(rotation, forged, oldKey), { code: "bad_signature" });
  const others = [
    await texts(alice.pair, otherPair),
    await texts(alice.pair, nextPair, { iat: 1 }),
  ];
  for (const [, countersignature] of others) {
    await assert.rejects(verifyRotation(rotation, countersignature, oldKey), { code: "bad_token" });
  }
});

test("a rotation is no countersignature, and neither is a delegation", async () => {
  const [rotation, countersignature] = await texts();
  const delegation = await delegate(alice);
  const swapped = [
    [countersignature, rotation],
    [rotation, rotation],
    [delegation.text, countersignature],
  ] as const;
  for (const [one, other] of swapped) {
    await assert.rejects(verifyRotation(one, other, oldKey), { code: "bad_token" });
  }
  await assert.rejects(verifyDelegation(rotation), { code: "bad_token" });
});

test("claims that are missing, unknown or none are refused", async () => {
  const [rotation, countersignature] = await texts();
  const { header, payload } = partsOf(rotation);
  const claims = JSON.parse(payload) as Record<string, unknown>;
  const { iat: _, ...noTime } = claims;
  const wrong: readonly [string, object][] = [
    ["bad_token", noTime],
    ["bad_token", { ...claims, more: 1 }],
    ["bad_token", { ...claims, replaces: 0 }],
    ["bad_token", { ...claims, v: 2 }],
    ["bad_name", { ...claims, account: "@treasury" }],
    ["bad_key", { ...claims, key: { ...(claims.key as object), e: "Aw" } }],
  ];
  for (const [code, changed] of wrong) {
    const forged = rawToken(header, JSON.stringify(changed), alice.pair.privateKey);
    await assert.rejects(verifyRotation(forged, countersignature, oldKey), { code });
  }
  for (const none of [undefined, null, 7, "", "a.b.c", `${rotation}x`]) {
    await assert.rejects(verifyRotation(none, countersignature, oldKey), { code: "bad_token" });
  }
});
