/** What lets nobody in: delegations that are not sound, over real connections to a real server. */
import { Buffer } from "node:buffer";
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import { sha256Text } from "../../../lib/protocol/token.ts";
import { now_s, person } from "../../support/fixtures.ts";
import type { Json } from "../../support/payment_world.ts";
import { rawToken } from "../../support/raw_tokens.ts";
import { DELEGATION_HEADER, WireClient } from "../../support/wire_client.ts";
import { WireWorld } from "../../support/wire_world.ts";

const OPTIONS = { timeout: 60_000 };
const [alice, bob] = [person("alice"), person("bob")];
const wire = await WireWorld.start("alice", "bob");

/** The session key of a delegation, as JWK, with other bytes. */
function sessionOf(bytes: Uint8Array): Json {
  return { session: { crv: "Ed25519", kty: "OKP", x: Buffer.from(bytes).toString("base64url") } };
}

/** `value` as 32 bytes, lowest first, as Ed25519 writes its points (RFC 8032, 5.1.2). */
function littleEndian(value: bigint): Uint8Array {
  return Buffer.from(value.toString(16).padStart(64, "0"), "hex").reverse();
}

/** What signs a delegation with an RSA pair of any size. */
function rsaSigner(
  modulusLength: number,
  publicExponent = 65_537,
): (client: WireClient) => string {
  const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength, publicExponent });
  const { e, kty, n } = publicKey.export({ format: "jwk" });
  return (client) => client.delegate(alice, { key: { e, kty, n } }, privateKey);
}

/** A key of `bits` that nobody has: making a true one of this size takes half a minute. */
function rsaPublicOf(bits: number): Json {
  const modulus = randomBytes(bits / 8);
  modulus[0]! |= 0x80;
  modulus[modulus.length - 1]! |= 1;
  return { key: { e: "AQAB", kty: "RSA", n: modulus.toString("base64url") } };
}

interface Case {
  readonly promise: string;
  readonly code: string;
  readonly delegation: (client: WireClient) => unknown;
}

const FIELD = 2n ** 255n - 19n;
/**
 * The y of every point of small order, as it is written (https://cr.yp.to/ecdh.html); x may have
 * either sign.
 */
const SMALL_ORDER = [
  "00".repeat(32),
  "01" + "00".repeat(31),
  "ec" + "ff".repeat(30) + "7f",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
];
/**
 * Numbers past the field's size that still fit in 255 bits stand for smaller ones: 19 encodings too
 * many.
 */
const NOT_CANONICAL = Array.from({ length: 19 }, (_, above) => FIELD + BigInt(above));

/** Refused at a login and at a registration alike. */
const DELEGATIONS: readonly Case[] = [
  {
    promise: "for another nonce",
    code: "wrong_nonce",
    delegation: (client) =>
      client.delegate(alice, { nonce: randomBytes(32).toString("base64url") }),
  },
  {
    promise: "for another certificate",
    code: "wrong_certificate",
    delegation: (client) => client.delegate(alice, { cert: sha256Text("x") }),
  },
  {
    promise: "for another server",
    code: "wrong_server",
    delegation: (client) => client.delegate(alice, { server: sha256Text("x") }),
  },
  {
    promise: "expired",
    code: "delegation_expired",
    delegation: (client) => client.delegate(alice, { iat: now_s() - 60, exp: now_s() - 1 }),
  },
  {
    promise: "from the future",
    code: "delegation_not_yet_valid",
    delegation: (client) => client.delegate(alice, { iat: now_s() + 90 }),
  },
  {
    promise: "for more than a day",
    code: "bad_token",
    delegation: (client) => client.delegate(alice, { exp: now_s() + 86_460 }),
  },
  {
    promise: "signed by another key than it names",
    code: "bad_signature",
    delegation: (client) => client.delegate(alice, {}, bob.pair.privateKey),
  },
  {
    promise: "in the name of server",
    code: "bad_name",
    delegation: (client) => client.delegate(alice, { account: "server" }),
  },
  {
    promise: "in the name of @treasury",
    code: "bad_name",
    delegation: (client) => client.delegate(alice, { account: "@treasury" }),
  },
  {
    promise: "with an RSA key of 1024 bits",
    code: "bad_key",
    delegation: rsaSigner(1024),
  },
  {
    promise: "with an RSA key of 2040 bits",
    code: "bad_key",
    delegation: rsaSigner(2040),
  },
  {
    promise: "with an RSA key of 4104 bits",
    code: "bad_key",
    delegation: (client) => client.delegate(alice, rsaPublicOf(4104)),
  },
  {
    promise: "with an RSA key of 8192 bits",
    code: "bad_key",
    delegation: (client) => client.delegate(alice, rsaPublicOf(8192)),
  },
  {
    promise: "with the exponent 3",
    code: "bad_key",
    delegation: rsaSigner(2048, 3),
  },
  {
    promise: "with a private key in it",
    code: "bad_key",
    delegation: (client) =>
      client.delegate(alice, { key: { ...alice.pair.publicKey.jwk, d: "AQAB" } }),
  },
  {
    promise: "with no key",
    code: "bad_key",
    delegation: (client) => client.delegate(alice, { key: undefined }),
  },
  {
    promise: "with a session key of 31 bytes",
    code: "bad_token",
    delegation: (client) => client.delegate(alice, sessionOf(new Uint8Array(31))),
  },
  {
    promise: "with a session key that is no point",
    code: "bad_key",
    delegation: (client) => client.delegate(alice, sessionOf(littleEndian(2n))),
  },
  {
    promise: "with a session key of another curve",
    code: "bad_token",
    delegation: (client) =>
      client.delegate(alice, {
        session: { crv: "X25519", kty: "OKP", x: alice.session.publicKey.x },
      }),
  },
  {
    promise: "with another alg",
    code: "bad_token",
    delegation: (client) =>
      rawToken(
        DELEGATION_HEADER.replace("PS256", "RS256"),
        JSON.stringify(client.delegationClaims(alice)),
        alice.pair.privateKey,
      ),
  },
  {
    promise: "with an extra claim",
    code: "bad_token",
    delegation: (client) => client.delegate(alice, { admin: true }),
  },
  {
    promise: "that is an order",
    code: "bad_token",
    delegation: (client) => client.order(alice, bob).order,
  },
  { promise: "that is no text", code: "invalid_params", delegation: () => ({}) },
  { promise: "that is missing", code: "invalid_params", delegation: () => undefined },
];

describe("a delegation", () => {
  for (const { promise, code, delegation } of DELEGATIONS) {
    test(`${promise} lets nobody in`, OPTIONS, async () => {
      await wire.assertLetsNobodyIn(code, "session.login", delegation);
      await wire.assertLetsNobodyIn(code, "account.register", delegation);
    });
  }

  test("with a session key of small order lets nobody in", OPTIONS, async () => {
    for (const point of SMALL_ORDER) {
      for (const sign of [0, 0x80]) {
        const bytes = Buffer.from(point, "hex");
        bytes[31]! |= sign;
        const session = sessionOf(bytes);
        await wire.assertLetsNobodyIn(
          "bad_key",
          "session.login",
          (client) => client.delegate(alice, session),
        );
      }
    }
  });

  test("with a session key that is not canonical lets nobody in", OPTIONS, async () => {
    for (const point of NOT_CANONICAL) {
      const session = sessionOf(littleEndian(point));
      await wire.assertLetsNobodyIn(
        "bad_key",
        "session.login",
        (client) => client.delegate(alice, session),
      );
    }
  });
});

test("after all of this the sum is zero and the audit passes", OPTIONS, async () => {
  await wire.assertAuditPasses();
});
