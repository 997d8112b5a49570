import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHash, createPublicKey, generateKeyPairSync, randomBytes, verify } from "node:crypto";
import { test } from "node:test";
import { ed25519 } from "@noble/curves/ed25519.js";
import {
  delegationFlaw,
  requireValidFor,
  verifyDelegation,
} from "../../lib/protocol/delegation.ts";
import { parseRsaPublicJwk } from "../../lib/keys/rsa.ts";
import { sha256Text } from "../../lib/protocol/token.ts";
import { delegate, NOW_S, person, serverPair } from "../support/fixtures.ts";
import { partsOf, rawToken } from "../support/raw_tokens.ts";
import { allTests, hex, vectorTest, type Wycheproof } from "../support/vectors.ts";

const alice = person("alice");
const DAY_S = 86_400;

/** Signs alice's delegation with some claims replaced by anything at all. */
async function delegationOf(changed: object): Promise<string> {
  const { header, payload } = partsOf((await delegate(alice)).text);
  return rawToken(
    header,
    JSON.stringify({ ...JSON.parse(payload), ...changed }),
    alice.pair.privateKey,
  );
}

test("the account of a delegation is a name that can be registered", async () => {
  for (const account of ["@treasury", "server", "Alice", "a".repeat(33), "", "a\0"]) {
    const text = await delegationOf({ account });
    await assert.rejects(verifyDelegation(text), { code: "bad_name" }, account);
  }
});

test("a delegation lives for a day at most, and ends after it begins", async () => {
  const iat = NOW_S;
  await verifyDelegation(await delegationOf({ iat, exp: iat + DAY_S }));
  for (const exp of [iat + DAY_S + 1, iat, iat - 1]) {
    await assert.rejects(verifyDelegation(await delegationOf({ iat, exp })), {
      code: "bad_token",
    });
  }
});

test("a delegation holds for its server and its time, under any certificate", async () => {
  const { claims } = await delegate(alice, { cert: sha256Text("a renewed one") }, NOW_S);
  const context = { server: serverPair().publicKey.thumbprint, now_s: NOW_S };
  const flaws: [Partial<typeof context>, ReturnType<typeof delegationFlaw>][] = [
    [{}, undefined],
    [{ server: sha256Text("other") }, "wrong_server"],
    [{ now_s: NOW_S - 60 }, undefined],
    [{ now_s: NOW_S - 61 }, "delegation_not_yet_valid"],
    [{ now_s: NOW_S + DAY_S - 1 }, undefined],
    [{ now_s: NOW_S + DAY_S }, "delegation_expired"],
  ];
  for (const [changed, flaw] of flaws) {
    assert.equal(delegationFlaw(claims, { ...context, ...changed }), flaw);
    if (flaw !== undefined) {
      assert.throws(() => requireValidFor(claims, { ...context, ...changed }), { code: flaw });
    }
  }
});

test("a nonce has 32 bytes, and hashes have 32 bytes", async () => {
  for (const size_bytes of [0, 31, 33, 64]) {
    const other = randomBytes(size_bytes).toString("base64url");
    for (const claim of ["nonce", "server", "cert"]) {
      await assert.rejects(verifyDelegation(await delegationOf({ [claim]: other })), {
        code: "bad_token",
      });
    }
  }
});

/**
 * The encodings of points whose order divides 8 (RFC 8032, 5.1; order 1, 2, 4, 4, and 8 four
 * times).
 */
const SMALL_ORDER = [
  "0100000000000000000000000000000000000000000000000000000000000000",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "0000000000000000000000000000000000000000000000000000000000000000",
  "0000000000000000000000000000000000000000000000000000000000000080",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
];

/**
 * y of p and above, which is y - p once more, with either sign of x; and x = 0 with the sign of a
 * negative x.
 */
function nonCanonical(): string[] {
  const encodings = [`01${"00".repeat(30)}80`, `ec${"ff".repeat(30)}ff`];
  for (let low = 0xed; low <= 0xff; low++) {
    for (const last of ["7f", "ff"]) encodings.push(low.toString(16) + "ff".repeat(30) + last);
  }
  return encodings;
}

function sessionOf(encoding: string): object {
  return {
    session: { crv: "Ed25519", kty: "OKP", x: Buffer.from(encoding, "hex").toString("base64url") },
  };
}

test("the session keys of small order are those that we refuse: eight of them, by name", async () => {
  for (const encoding of SMALL_ORDER) {
    assert.ok(ed25519.Point.fromHex(encoding).isSmallOrder(), encoding);
    const text = await delegationOf(sessionOf(encoding));
    await assert.rejects(verifyDelegation(text), { code: "bad_key" }, encoding);
  }
});

test("a session key that is not the canonical encoding of a point is bad_key", async () => {
  assert.equal(nonCanonical().length, 40);
  // 2 is the y of no point.
  for (const encoding of [...nonCanonical(), "02" + "00".repeat(31)]) {
    const text = await delegationOf(sessionOf(encoding));
    await assert.rejects(verifyDelegation(text), { code: "bad_key" }, encoding);
  }
});

test("a session key of another form is refused", async () => {
  const { x } = alice.session.publicKey;
  const sessions = [
    { crv: "Ed448", kty: "OKP", x },
    { crv: "X25519", kty: "OKP", x },
    { crv: "Ed25519", kty: "EC", x },
    { crv: "Ed25519", kty: "OKP", x: x.slice(0, -2) },
    { crv: "Ed25519", kty: "OKP", x: `${x}AA` },
    { crv: "Ed25519", kty: "OKP", x, d: x },
    { kty: "OKP", crv: "Ed25519", x },
    x,
    null,
  ];
  for (const session of sessions) {
    const text = await delegationOf({ session });
    await assert.rejects(verifyDelegation(text), { code: "bad_token" }, JSON.stringify(session));
  }
});

test("an account's RSA key of 1024 or 8192 bits, or with another exponent, is bad_key", async () => {
  const { jwk } = alice.pair.publicKey;
  const ofBits = (bits: number) => {
    const bytes = randomBytes(Math.ceil(bits / 8));
    bytes[0] = (bits % 8 === 0 ? 0x80 : 1 << (bits % 8 - 1)) | 0;
    bytes[bytes.length - 1]! |= 1;
    return bytes.toString("base64url");
  };
  const keys = [
    {
      ...jwk,
      n: generateKeyPairSync("rsa", { modulusLength: 1024 }).publicKey.export({ format: "jwk" }).n,
    },
    { ...jwk, n: ofBits(2047) },
    { ...jwk, n: ofBits(4097) },
    { ...jwk, n: ofBits(8192) },
    {
      ...jwk,
      n: Buffer.concat([Buffer.of(0), Buffer.from(jwk.n, "base64url")]).toString("base64url"),
    },
    { ...jwk, n: Buffer.from(Buffer.from(jwk.n, "base64url").with(255, 2)).toString("base64url") },
    { ...jwk, n: `${jwk.n}=` },
    { ...jwk, e: "Aw" },
    { ...jwk, e: "AAEAAQ" },
    { ...jwk, e: "AQ" },
    { ...jwk, kty: "rsa" },
    { ...jwk, d: jwk.n },
    { ...jwk, alg: "PS256" },
    { kty: "oct", k: "AA" },
  ];
  for (const key of keys) {
    const text = await delegationOf({ key });
    await assert.rejects(verifyDelegation(text), { code: "bad_key" }, JSON.stringify(key));
  }
  assert.equal(parseRsaPublicJwk(jwk).thumbprint, alice.pair.publicKey.thumbprint);
});

test("signatures under a session key with a part of small order get one verdict on every runtime", async () => {
  // Verification with the cofactor (RFC 8032, 5.1.7, which allows both) would take all of these,
  // without it about an eighth. A key like this is its maker's own trouble, as long as all who
  // verify a receipt agree.
  const { Point } = ed25519;
  const order = Point.Fn.ORDER;
  const torsion = Point.fromHex(SMALL_ORDER[4]!);
  const littleEndian = (bytes: Uint8Array) =>
    BigInt("0x" + Buffer.from(bytes).reverse().toString("hex"));
  const scalar = () => littleEndian(randomBytes(32)) % order;
  const secret = scalar();
  const publicKey = Point.BASE.multiply(secret).add(torsion).toBytes();
  const x = Buffer.from(publicKey).toString("base64url");
  const key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
  const webKey = await crypto.subtle.importKey("raw", Uint8Array.from(publicKey), "Ed25519", true, [
    "verify",
  ]);
  const taken = { without: 0, with: 0 };
  for (let index = 0; index < 40; index++) {
    const message = Buffer.from(`message ${index}`);
    const nonce = scalar();
    const r = Point.BASE.multiply(nonce).toBytes();
    const digest = createHash("sha512").update(r).update(publicKey).update(message).digest();
    const challenge = littleEndian(digest) % order;
    const s = Buffer.from(
      ((nonce + challenge * secret) % order).toString(16).padStart(64, "0"),
      "hex",
    ).reverse();
    const signature = Buffer.concat([r, s]);
    const expected = challenge % 8n === 0n;
    assert.equal(verify(null, message, key, signature), expected);
    assert.equal(await crypto.subtle.verify("Ed25519", webKey, signature, message), expected);
    taken[expected ? "without" : "with"]++;
  }
  assert.ok(taken.with > 0);
});

interface Ed25519Group {
  readonly publicKeyJwk: { readonly x: string };
}

vectorTest(
  "Wycheproof: Ed25519 signatures get the verdict they should, by WebCrypto and by node:crypto",
  "wycheproof_ed25519_test.json",
  async (vectors: Wycheproof<{ msg: string; sig: string }, Ed25519Group>) => {
    for (const { tcId, comment, msg, sig, result, group } of allTests(vectors)) {
      const { x } = group.publicKeyJwk;
      const jwk = { kty: "OKP", crv: "Ed25519", x };
      const [message, signature] = [hex(msg), hex(sig)].map((bytes) => Uint8Array.from(bytes)) as [
        Uint8Array<ArrayBuffer>,
        Uint8Array<ArrayBuffer>,
      ];
      const webKey = await crypto.subtle.importKey("jwk", jwk, "Ed25519", true, ["verify"]);
      const valid = await crypto.subtle.verify("Ed25519", webKey, signature, message);
      assert.equal(valid, result === "valid", `test ${tcId}: ${comment}`);
      const key = createPublicKey({ key: jwk, format: "jwk" });
      assert.equal(
        verify(null, message, key, signature),
        result === "valid",
        `test ${tcId}: ${comment}`,
      );
    }
  },
);
