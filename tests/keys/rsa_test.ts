import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createPrivateKey, createPublicKey, generateKeyPairSync, sign, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { isSealwireError } from "../../lib/base/errors.ts";
import {
  parseAccountName,
  parseRsaPublicJwk,
  rsaPublicKeyFromPem,
  rsaPublicKeyOf,
} from "../../lib/keys/rsa.ts";
import { openssl, rsaPublicPem } from "../support/openssl.ts";
import { refusalOf } from "../support/refusal.ts";
import { temporaryFolder } from "../support/support.ts";

/** RFC 7638, section 3.1. */
const RFC7638_KEY = {
  e: "AQAB",
  kty: "RSA",
  n: "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZC" +
    "iFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnY" +
    "b9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0L" +
    "s1jF44-csFCur-kEgU8awapJzKnqDKgw",
} as const;
const RFC7638_THUMBPRINT = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";

/**
 * A number of exactly that many bits, ending in `last`; nobody knows its factors, which a public
 * key does not need.
 */
function modulusOf(bits: number, last = 0x01): Buffer {
  const modulus = Buffer.alloc(Math.ceil(bits / 8), 0x5a);
  modulus[0] = 1 << ((bits - 1) % 8);
  modulus[modulus.length - 1] = last;
  return modulus;
}

function jwkOf(modulus: Uint8Array): { e: string; kty: string; n: string } {
  return { e: "AQAB", kty: "RSA", n: Buffer.from(modulus).toString("base64url") };
}

test("the thumbprint of the key in RFC 7638 is the one given there", () => {
  const parsed = parseRsaPublicJwk(RFC7638_KEY);
  assert.equal(parsed.thumbprint, RFC7638_THUMBPRINT);
  assert.equal(parsed.key.asymmetricKeyType, "rsa");
});

test("a JWK's members come out in RFC 7638 order, whatever order they came in", () => {
  const { e, kty, n } = RFC7638_KEY;
  const parsed = parseRsaPublicJwk({ n, kty, e });
  assert.equal(JSON.stringify(parsed.jwk), JSON.stringify({ e, kty, n }));
  assert.equal(parsed.thumbprint, RFC7638_THUMBPRINT);
});

for (const bits of [2048, 2049, 3072, 4095, 4096]) {
  test(`a modulus of ${bits} bits is taken`, () => {
    const { key } = parseRsaPublicJwk(jwkOf(modulusOf(bits)));
    assert.equal(key.export({ format: "jwk" }).n, jwkOf(modulusOf(bits)).n);
  });
}

for (const bits of [8, 1024, 2040, 2047, 4097, 8192, 16384]) {
  test(`a modulus of ${bits} bits is refused, as JWK and as PEM`, async () => {
    const modulus = modulusOf(bits);
    const pem = rsaPublicPem(temporaryFolder(), modulus, 65537);
    const errors = [
      await refusalOf(() => parseRsaPublicJwk(jwkOf(modulus))),
      await refusalOf(() => rsaPublicKeyFromPem(pem)),
    ];
    for (const error of errors) {
      assert.equal(error.code, "bad_key");
      assert.match(error.message, /RSA key of 2048 to 4096 bits with the exponent 65537/);
    }
  });
}

for (const exponent of [1, 3, 17, 65535, 65539]) {
  test(`the exponent ${exponent} is refused, as JWK and as PEM`, async () => {
    const pem = rsaPublicPem(temporaryFolder(), modulusOf(2048), exponent);
    assert.equal((await refusalOf(() => rsaPublicKeyFromPem(pem))).code, "bad_key");
    const hex = exponent.toString(16);
    const e = Buffer.from(hex.length % 2 ? `0${hex}` : hex, "hex").toString("base64url");
    const error = await refusalOf(() => parseRsaPublicJwk({ ...RFC7638_KEY, e }));
    assert.equal(error.code, "bad_key");
  });
}

test("an even modulus is refused, as JWK and as PEM", async () => {
  const even = modulusOf(2048, 0x02);
  const pem = rsaPublicPem(temporaryFolder(), even, 65537);
  assert.equal((await refusalOf(() => parseRsaPublicJwk(jwkOf(even)))).code, "bad_key");
  assert.equal((await refusalOf(() => rsaPublicKeyFromPem(pem))).code, "bad_key");
});

const { n } = RFC7638_KEY;
const BAD_JWKS: Record<string, unknown> = {
  "a leading zero byte": jwkOf(Buffer.concat([Buffer.of(0), Buffer.from(n, "base64url")])),
  "padding": { ...RFC7638_KEY, n: `${n}==` },
  "plain base64": { ...RFC7638_KEY, n: n.replaceAll("-", "+").replaceAll("_", "/") },
  "bits beyond the last byte": { ...RFC7638_KEY, n: n.slice(0, -1) + "x" },
  "white space": { ...RFC7638_KEY, n: `${n} ` },
  "an exponent with a leading zero byte": { ...RFC7638_KEY, e: "AAEAAQ" },
  "an empty modulus": { ...RFC7638_KEY, n: "" },
  "a modulus that is a number": { ...RFC7638_KEY, n: 65537 },
  "a modulus of a megabyte": { ...RFC7638_KEY, n: "A".repeat(1_000_000) },
  "another kty": { ...RFC7638_KEY, kty: "rsa" },
  "an unknown member": { ...RFC7638_KEY, alg: "RS256" },
  "a private member": { ...RFC7638_KEY, d: "AQAB" },
  "no modulus": { e: "AQAB", kty: "RSA" },
  "an inherited modulus": Object.assign(Object.create({ n }), { e: "AQAB", kty: "RSA" }),
  "a list": ["AQAB", "RSA", n],
  "text": JSON.stringify(RFC7638_KEY),
  "null": null,
  "undefined": undefined,
};
for (const [what, jwk] of Object.entries(BAD_JWKS)) {
  test(`a JWK with ${what} is refused`, async () => {
    assert.equal((await refusalOf(() => parseRsaPublicJwk(jwk))).code, "bad_key");
  });
}

test("whatever JSON comes as a key, it is refused as bad_key and nothing else is thrown", () => {
  const jwks = fc.oneof(
    fc.jsonValue(),
    fc.record({ e: fc.jsonValue(), kty: fc.constant("RSA"), n: fc.jsonValue() }),
    fc.record({ e: fc.constant("AQAB"), kty: fc.constant("RSA"), n: fc.base64String() }),
  );
  fc.assert(fc.property(jwks, (jwk) => {
    assert.throws(() => parseRsaPublicJwk(jwk), (error) => isSealwireError(error, "bad_key"));
  }));
});

test("public keys that openssl writes are read, in either form and with Windows line ends", () => {
  const folder = temporaryFolder();
  openssl(folder, "genpkey", "-algorithm", "RSA", "-out", "key.pem");
  const pem = openssl(folder, "rsa", "-in", "key.pem", "-pubout");
  const pkcs1 = openssl(folder, "rsa", "-in", "key.pem", "-RSAPublicKey_out");
  const { thumbprint, key } = rsaPublicKeyFromPem(pem);
  assert.equal(rsaPublicKeyFromPem(pkcs1).thumbprint, thumbprint);
  assert.equal(rsaPublicKeyFromPem(pem.replaceAll("\n", "\r\n")).thumbprint, thumbprint);
  const text = Buffer.from("signed by the private half");
  const privateKey = createPrivateKey(readFileSync(join(folder, "key.pem"), "utf8"));
  assert.ok(verify("sha256", text, key, sign("sha256", text, privateKey)));
  assert.equal(rsaPublicKeyOf(privateKey).thumbprint, thumbprint);
});

test("a private key, a certificate and another kind of key are no RSA public key", async () => {
  const folder = temporaryFolder();
  openssl(folder, "genpkey", "-algorithm", "RSA", "-out", "key.pem");
  const privatePem = readFileSync(join(folder, "key.pem"), "utf8");
  const certificate = openssl(folder, "req", "-x509", "-key", "key.pem", "-subj", "/CN=x");
  const { publicKey } = generateKeyPairSync("ed25519");
  const ed25519 = publicKey.export({ type: "spki", format: "pem" }) as string;
  const cut = rsaPublicPem(folder, modulusOf(2048), 65537).slice(0, 200);
  for (const pem of [privatePem, certificate, ed25519, cut, "", "garbage"]) {
    assert.equal((await refusalOf(() => rsaPublicKeyFromPem(pem))).code, "bad_key");
  }
  assert.equal((await refusalOf(() => rsaPublicKeyOf(publicKey))).code, "bad_key");
});

test("a parsed key is the one that node:crypto reads from the same PEM", () => {
  const pem = rsaPublicPem(temporaryFolder(), Buffer.from(RFC7638_KEY.n, "base64url"), 65537);
  const parsed = rsaPublicKeyFromPem(pem);
  assert.equal(parsed.thumbprint, RFC7638_THUMBPRINT);
  assert.ok(parsed.key.equals(createPublicKey(pem)));
});

test("account names of 1 to 32 permitted characters are taken as they are", () => {
  for (const name of ["a", "0", "alice", "a.b_c-d", "server2", "constructor", "x".repeat(32)]) {
    assert.equal(parseAccountName(name), name);
  }
});

test("what is no account name is refused with a sentence that says what one is", async () => {
  const names = [
    "",
    "server",
    "Alice",
    "@treasury",
    ".a",
    "_a",
    "-a",
    "a/b",
    "../a",
    "a b",
    "a\n",
    "é",
  ];
  for (const name of [...names, "x".repeat(33), "x".repeat(1_000_000), 7, null, undefined, ["a"]]) {
    const error = await refusalOf(() => parseAccountName(name));
    assert.equal(error.code, "bad_name");
    assert.match(error.message, /1 to 32 of a-z 0-9 \. _ -/);
    assert.ok(error.message.length < 200);
  }
});

test("a text is an account name exactly when it is a safe file name stem of the permitted kind", () => {
  fc.assert(fc.property(fc.string({ maxLength: 40 }), (text) => {
    const expected = text !== "server" && text.length >= 1 && text.length <= 32 &&
      [...text].every((character) =>
        "abcdefghijklmnopqrstuvwxyz0123456789._-".includes(character)
      ) &&
      !"._-".includes(text[0]!);
    let taken = true;
    try {
      parseAccountName(text);
    } catch {
      taken = false;
    }
    assert.equal(taken, expected);
  }));
});
