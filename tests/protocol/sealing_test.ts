import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import {
  constants,
  createCipheriv,
  createPrivateKey,
  publicEncrypt,
  randomBytes,
} from "node:crypto";
import { test } from "node:test";
import { CompactEncrypt } from "jose";
import { verifySignedOrder } from "../../lib/protocol/order.ts";
import {
  MEMO_BYTES_MAX,
  type Offer,
  openMemo,
  openOffer,
  parseSealedMemo,
  type SealedMemo,
  sealMemo,
  sealOffer,
} from "../../lib/protocol/sealing.ts";
import { delegate, type Person, person, signedOrder } from "../support/fixtures.ts";
import { otherLastCharacters, withNextCharacter } from "../support/raw_tokens.ts";
import { allTests, hex, vectorTest, type Wycheproof } from "../support/vectors.ts";

const alice = person("alice");
const bob = person("bob");
const carol = person("carol");
const BAD_OFFER = { code: "bad_offer" };
const OFFER: Offer = {
  order: "an order",
  delegation: "a delegation",
  checkpoint: "a checkpoint",
};

function seal(to: Person, offer = OFFER): Promise<string> {
  return sealOffer(offer, to.pair.publicKey);
}

test("an offer opens for the one it is sealed to, and for nobody else", async () => {
  const sealed = await seal(bob);
  assert.deepEqual(await openOffer(sealed, bob.pair.privateKey), OFFER);
  await assert.rejects(openOffer(sealed, carol.pair.privateKey), BAD_OFFER);
});

test("a payer who knows no checkpoint yet says so", async () => {
  const offer = { ...OFFER, checkpoint: null };
  assert.deepEqual(await openOffer(await seal(bob, offer), bob.pair.privateKey), offer);
});

test("a real order goes through an offer and verifies on the other side", async () => {
  const memo = await sealMemo("für die Suppe 🍲", bob.pair.publicKey, alice.pair.publicKey);
  const { order, delegation } = await signedOrder(alice, bob, { memo });
  const sealed = await seal(bob, { ...OFFER, order: order.text, delegation: delegation.text });
  const opened = await openOffer(sealed, bob.pair.privateKey);
  const verified = await verifySignedOrder(opened.order, opened.delegation);
  assert.deepEqual(verified.order.claims, order.claims);
});

test("an offer changed at any one place, cut, or respelt is bad_offer", async () => {
  const sealed = await seal(bob);
  const segments = sealed.split(".");
  // Every place of header, IV, ciphertext and tag; of the wrapped key each tenth, for RSA is slow.
  const places = [...sealed].flatMap((character, at) => {
    const inWrappedKey = at > segments[0]!.length && at < segments[0]!.length + segments[1]!.length;
    return character === "." || (inWrappedKey && at % 10 !== 0) ? [] : [at];
  });
  const changed = [
    ...places.map((at) => withNextCharacter(sealed, at)),
    ...segments.flatMap((segment, index) =>
      otherLastCharacters(segment).slice(0, 3).map((other) => segments.with(index, other).join("."))
    ),
    ...segments.map((_, index) => segments.with(index, "").join(".")),
    ...segments.map((segment, index) => segments.with(index, `${segment}=`).join(".")),
    ...segments.map((segment, index) => segments.with(index, `${segment} `).join(".")),
    sealed.slice(0, -1),
    sealed.slice(0, 100),
    `${sealed}.`,
    `${sealed}.AAAA`,
  ];
  for (const one of changed) {
    await assert.rejects(openOffer(one, bob.pair.privateKey), BAD_OFFER, one);
  }
});

test("what is no text, or longer than any offer, is bad_offer without being opened", async () => {
  for (const other of [undefined, null, 1, {}, [], "", "x", ".".repeat(4), "A".repeat(1_000_000)]) {
    await assert.rejects(openOffer(other, bob.pair.privateKey), BAD_OFFER);
  }
});

test("another algorithm, type or compression is bad_offer, though it opens", async () => {
  const plaintext = new TextEncoder().encode(JSON.stringify(OFFER));
  const headers = [
    { alg: "RSA-OAEP-256", enc: "A256GCM" },
    { alg: "RSA-OAEP-256", enc: "A256GCM", typ: "sealwire-memo+jwe" },
    { alg: "RSA-OAEP-256", enc: "A256GCM", typ: "sealwire-offer+jwe", kid: "1" },
    { enc: "A256GCM", alg: "RSA-OAEP-256", typ: "sealwire-offer+jwe" },
    { alg: "RSA-OAEP", enc: "A256GCM", typ: "sealwire-offer+jwe" },
    { alg: "RSA-OAEP-256", enc: "A128GCM", typ: "sealwire-offer+jwe" },
    { alg: "RSA-OAEP-256", enc: "A256CBC-HS512", typ: "sealwire-offer+jwe" },
  ];
  for (const header of headers) {
    const sealed = await new CompactEncrypt(plaintext).setProtectedHeader(header)
      .encrypt(bob.pair.publicKey.key);
    await assert.rejects(openOffer(sealed, bob.pair.privateKey), BAD_OFFER, JSON.stringify(header));
  }
});

/** A compact JWE (RFC 7516, 7.1) made with node:crypto alone. */
function rawSeal(header: string, plaintext: Uint8Array, to: Person): string {
  const key = randomBytes(32);
  const iv = randomBytes(12);
  const protectedHeader = Buffer.from(header).toString("base64url");
  const cipher = createCipheriv("aes-256-gcm", key, iv).setAAD(Buffer.from(protectedHeader));
  const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()]);
  const wrapped = publicEncrypt({
    key: to.pair.publicKey.key,
    padding: constants.RSA_PKCS1_OAEP_PADDING,
    oaepHash: "sha256",
  }, key);
  const parts = [wrapped, iv, ciphertext, cipher.getAuthTag()];
  return [protectedHeader, ...parts.map((part) => part.toString("base64url"))].join(".");
}

const OFFER_HEADER = '{"alg":"RSA-OAEP-256","enc":"A256GCM","typ":"sealwire-offer+jwe"}';

test("an offer that node:crypto alone sealed opens", async () => {
  const sealed = rawSeal(OFFER_HEADER, Buffer.from(JSON.stringify(OFFER)), bob);
  assert.deepEqual(await openOffer(sealed, bob.pair.privateKey), OFFER);
});

test("sealed nonsense is bad_offer", async () => {
  const contents = [
    "",
    "{",
    "null",
    "[]",
    "1",
    '"x"',
    "{}",
    '{"order":1,"delegation":"x"}',
    '{"order":"x"}',
    '{"order":"x","delegation":"x"}',
    '{"order":"x","delegation":"x","checkpoint":1}',
  ];
  const plaintexts = [
    ...contents.map((text) => Buffer.from(text)),
    Buffer.from([0xff, 0xfe]),
    randomBytes(5_000),
  ];
  for (const plaintext of plaintexts) {
    await assert.rejects(
      openOffer(rawSeal(OFFER_HEADER, plaintext, bob), bob.pair.privateKey),
      BAD_OFFER,
    );
  }
});

test("the error says nothing of why an offer did not open", async () => {
  const messages = new Set<string>();
  for (const sealed of ["x", await seal(carol), rawSeal(OFFER_HEADER, Buffer.from("{"), bob)]) {
    await assert.rejects(openOffer(sealed, bob.pair.privateKey), (error: Error) => {
      messages.add(error.message);
      return true;
    });
  }
  assert.equal(messages.size, 1);
});

test("payee and payer read a memo, and nobody else does", async () => {
  for (
    const text of [
      "",
      "thanks",
      "für die Suppe 🍲",
      "x".repeat(MEMO_BYTES_MAX),
      "ü".repeat(MEMO_BYTES_MAX / 2),
    ]
  ) {
    const memo = await sealMemo(text, bob.pair.publicKey, alice.pair.publicKey);
    assert.equal(await openMemo(memo, bob.pair.privateKey), text);
    assert.equal(await openMemo(memo, alice.pair.privateKey), text);
    assert.equal(await openMemo(memo, carol.pair.privateKey), null);
    assert.deepEqual(parseSealedMemo(JSON.parse(JSON.stringify(memo))), memo);
  }
});

test("a memo of more than 140 bytes is memo_too_long, however few characters it has", async () => {
  for (const text of ["x".repeat(141), "ü".repeat(71), "🍲".repeat(36)]) {
    const sealed = sealMemo(text, bob.pair.publicKey, alice.pair.publicKey);
    await assert.rejects(sealed, { code: "memo_too_long" });
  }
});

test("a memo that has been changed is no reason to refuse money: it is just not read", async () => {
  const memo = await sealMemo("thanks", bob.pair.publicKey, alice.pair.publicKey);
  const changes: Partial<SealedMemo>[] = [
    { tag: withNextCharacter(memo.tag, 3) },
    { iv: withNextCharacter(memo.iv, 3) },
    { ciphertext: withNextCharacter(memo.ciphertext, 3) },
    { recipients: [{ encrypted_key: "AA" }, { encrypted_key: "AA" }] },
  ];
  for (const changed of changes) {
    assert.equal(await openMemo({ ...memo, ...changed }, bob.pair.privateKey), null);
  }
});

test("a memo of another form is bad_token before anything is opened", async () => {
  const memo = await sealMemo("thanks", bob.pair.publicKey, alice.pair.publicKey);
  const [payee, payer] = memo.recipients;
  const otherHeader = Buffer.from(OFFER_HEADER).toString("base64url");
  const refused: unknown[] = [
    null,
    "memo",
    [],
    { ...memo, protected: otherHeader },
    { ...memo, protected: undefined },
    { ...memo, recipients: [] },
    { ...memo, recipients: [payee] },
    { ...memo, recipients: [payee, payer, payer] },
    { ...memo, recipients: [payee, {}] },
    { ...memo, recipients: [payee, { encrypted_key: "A" }] },
    { ...memo, recipients: [payee, { encrypted_key: "A".repeat(684) }] },
    { ...memo, iv: "AAAA" },
    { ...memo, iv: `${memo.iv}=` },
    { ...memo, tag: memo.tag.slice(2) },
    { ...memo, ciphertext: "A".repeat(192) },
    { ...memo, ciphertext: 5 },
  ];
  for (const value of refused) {
    assert.throws(() => parseSealedMemo(value), { code: "bad_token" }, JSON.stringify(value));
  }
});

test("a longest memo between keys of 4096 bits fits into an order, and that into an offer", {
  timeout: 60_000,
}, async () => {
  // The wrapped keys of 4096-bit accounts have 512 bytes each; two of 2048 bits are swapped for such.
  const wide = { encrypted_key: randomBytes(512).toString("base64url") };
  const memo = await sealMemo("x".repeat(MEMO_BYTES_MAX), bob.pair.publicKey, alice.pair.publicKey);
  const { order } = await signedOrder(alice, bob, { memo: { ...memo, recipients: [wide, wide] } });
  const { text } = await delegate(alice);
  await verifySignedOrder(order.text, text);
  const sealed = await seal(bob, {
    order: order.text,
    delegation: text.padEnd(4_096, "x"),
    checkpoint: "x".repeat(512),
  });
  assert.equal((await openOffer(sealed, bob.pair.privateKey)).order, order.text);
});

interface OaepGroup {
  readonly privateKeyPem: string;
}

vectorTest(
  "Wycheproof: RSA-OAEP with SHA-256 opens what it should and nothing else",
  "wycheproof_rsa_oaep_2048_sha256_mgf1sha256_test.json",
  async (vectors: Wycheproof<{ msg: string; ct: string; label: string }, OaepGroup>) => {
    for (const { tcId, comment, msg, ct, label, result, group } of allTests(vectors)) {
      const der = createPrivateKey(group.privateKeyPem).export({ type: "pkcs8", format: "der" });
      const algorithm = { name: "RSA-OAEP", hash: "SHA-256" };
      const key = await crypto.subtle.importKey("pkcs8", Uint8Array.from(der), algorithm, false, [
        "decrypt",
      ]);
      const parameters = { name: "RSA-OAEP", label: Uint8Array.from(hex(label)) };
      let opened: string | null = null;
      try {
        const plaintext = await crypto.subtle.decrypt(parameters, key, Uint8Array.from(hex(ct)));
        opened = Buffer.from(plaintext).toString("hex");
      } catch (error) {
        assert.equal((error as Error).name, "OperationError", `test ${tcId}: ${comment}`);
      }
      assert.equal(opened, result === "valid" ? msg : null, `test ${tcId}: ${comment}`);
    }
  },
);

test("two seals of one offer have nothing in common but the header", async () => {
  const [first, second] = (await Promise.all([seal(bob), seal(bob)])).map((sealed) =>
    sealed.split(".")
  );
  assert.equal(first![0], second![0]);
  for (let index = 1; index < first!.length; index++) {
    assert.notEqual(first![index], second![index]);
  }
});
