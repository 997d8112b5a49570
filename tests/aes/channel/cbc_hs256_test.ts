import assert from "node:assert/strict";
import { createCipheriv, createHmac, randomBytes } from "node:crypto";
import { test } from "node:test";
import {
  AES128CBCHS256,
  deriveIv,
  openWithIv,
  RecordCipher,
  sealedBytes,
  sealWithIv,
  TAG_BYTES,
} from "../../../lib/aes/channel/cbc_hs256.ts";
import { allTests, hex, vectorTest, type Wycheproof } from "../../support/vectors.ts";

interface AeadTest {
  key: string;
  iv: string;
  aad: string;
  msg: string;
  ct: string;
  tag: string;
}

const NONE = new Uint8Array(0);
const KEY = hex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
const DECRYPT_FAILED = { code: "decrypt_failed" };

/** Sizes on both sides of where WebCrypto takes over, and around whole blocks. */
const SIZES_BYTES = [0, 1, 15, 16, 17, 8175, 8191, 8192, 8193, 100_000, 1024 * 1024];

function random(size_bytes: number): Uint8Array {
  return new Uint8Array(randomBytes(size_bytes));
}

function changed(bytes: Uint8Array, index: number): Uint8Array {
  const copy = bytes.slice();
  copy[index]! ^= 1;
  return copy;
}

vectorTest<Wycheproof<AeadTest>>(
  "every Wycheproof A128CBC-HS256 text opens, or is refused where it was forged",
  "wycheproof_a128cbc_hs256_test.json",
  (vectors) => {
    for (const { tcId, key, iv, aad, msg, ct, tag, result } of allTests(vectors)) {
      const sealed = hex(ct + tag);
      const open = () => openWithIv(hex(key), hex(iv), hex(aad), sealed);
      if (result === "valid") {
        assert.deepEqual(open(), hex(msg), `test ${tcId}`);
        assert.deepEqual(sealWithIv(hex(key), hex(iv), hex(aad), hex(msg)), sealed, `test ${tcId}`);
      } else {
        assert.throws(open, DECRYPT_FAILED, `test ${tcId}`);
      }
    }
  },
);

test("the example of RFC 7518 appendix B.1 is sealed and opened byte for byte", () => {
  const iv = hex("1af38c2dc2b96ffdd86694092341bc04");
  const ad = new TextEncoder().encode("The second principle of Auguste Kerckhoffs");
  const plaintext = new TextEncoder().encode(
    "A cipher system must not be required to be secret, and it must be able to fall into the hands of the enemy " +
      "without inconvenience",
  );
  const sealed = hex(
    "c80edfa32ddf39d5ef00c0b468834279a2e46a1b8049f792f76bfe54b903a9c9" +
      "a94ac9b47ad2655c5f10f9aef71427e2fc6f9b3f399a221489f16362c7032336" +
      "09d45ac69864e3321cf82935ac4096c86e133314c54019e8ca7980dfa4b9cf1b" +
      "384c486f3a54c51078158ee5d79de59fbd34d848b3d69550a67646344427ade5" +
      "4b8851ffb598f7f80074b9473c82e2db" +
      "652c3fa36b0a7c5b3219fab3a30bc1c4",
  );
  assert.deepEqual(sealWithIv(KEY, iv, ad, plaintext), sealed);
  assert.deepEqual(openWithIv(KEY, iv, ad, sealed), plaintext);
});

test("the IV of text n is AES of 8 zero bytes and n", () => {
  // FIPS 197 appendix B's key and plaintext cannot be such a block, so this is `openssl enc
  // -aes-128-ecb -nopad`.
  assert.deepEqual(
    deriveIv(hex("00000000000000000000000000000000"), 0n),
    hex("66e94bd4ef8a2c3b884cfa59ca342b2e"),
  );
  assert.notDeepEqual(deriveIv(KEY.subarray(16), 1n), deriveIv(KEY.subarray(16), 1n << 32n));
});

test("texts of all sizes open again, and are what the handshake's cipher makes of them", async () => {
  const cipher = new RecordCipher(KEY);
  const ad = random(8);
  for (const [index, size_bytes] of SIZES_BYTES.entries()) {
    const n = BigInt(index);
    const plaintext = random(size_bytes);
    const sealed = await cipher.seal(n, ad, plaintext);
    assert.equal(sealed.length, sealedBytes(size_bytes));
    assert.deepEqual(sealed, AES128CBCHS256.encrypt(KEY, n, ad, plaintext));
    assert.deepEqual(AES128CBCHS256.decrypt(KEY, n, ad, sealed), plaintext);
    assert.deepEqual(await cipher.open(n, ad, sealed), plaintext);
  }
});

test("a sealed text goes where it is wanted, and nothing beside it changes", async () => {
  const cipher = new RecordCipher(KEY);
  for (const size_bytes of SIZES_BYTES) {
    const plaintext = random(size_bytes);
    const buffer = new Uint8Array(4 + sealedBytes(size_bytes) + 4).fill(0xa5);
    await cipher.seal(5n, NONE, plaintext, buffer.subarray(4, -4));
    assert.deepEqual(buffer.subarray(4, -4), await cipher.seal(5n, NONE, plaintext));
    assert.deepEqual([...buffer.subarray(0, 4), ...buffer.subarray(-4)], Array(8).fill(0xa5));
  }
});

test("a text with the right tag and a wrong padding is refused", () => {
  const iv = random(16);
  const paddings = [[0], [17], [2, 3, 3], [...Array(15).fill(16), 17], [255]];
  for (const padding of paddings) {
    const padded = Uint8Array.from([...random(64 - padding.length), ...padding]);
    const cipher = createCipheriv("aes-128-cbc", KEY.subarray(16), iv).setAutoPadding(false);
    const ciphertext = cipher.update(padded);
    const mac = createHmac("sha256", KEY.subarray(0, 16));
    const tag = mac.update(iv).update(ciphertext).update(new Uint8Array(8)).digest();
    const sealed = Uint8Array.from([...ciphertext, ...tag.subarray(0, 16)]);
    assert.throws(() => openWithIv(KEY, iv, NONE, sealed), DECRYPT_FAILED, String(padding));
  }
});

test("texts under way at the same time do not mix", async () => {
  const cipher = new RecordCipher(KEY);
  const texts = Array.from({ length: 32 }, (_, i) => random(i * 4096));
  const sealed = await Promise.all(texts.map((text, i) => cipher.seal(BigInt(i), NONE, text)));
  const opened = await Promise.all(sealed.map((text, i) => cipher.open(BigInt(i), NONE, text)));
  assert.deepEqual(opened, texts);
});

test("a text with another number, other associated data, another key or a changed byte is refused", async () => {
  const cipher = new RecordCipher(KEY);
  const ad = hex("0102");
  for (const size_bytes of [0, 40, 100_000]) {
    const sealed = await cipher.seal(7n, ad, random(size_bytes));
    await assert.rejects(cipher.open(8n, ad, sealed), DECRYPT_FAILED);
    await assert.rejects(cipher.open(7n, hex("0103"), sealed), DECRYPT_FAILED);
    await assert.rejects(cipher.open(7n, NONE, sealed), DECRYPT_FAILED);
    for (const keyByte of [0, 31]) {
      const other = new RecordCipher(changed(KEY, keyByte));
      await assert.rejects(other.open(7n, ad, sealed), DECRYPT_FAILED);
    }
    const indexes = [0, 15, 16, sealed.length - TAG_BYTES, sealed.length - 1];
    for (const index of indexes) {
      await assert.rejects(cipher.open(7n, ad, changed(sealed, index)), DECRYPT_FAILED);
    }
  }
});

test("every length but the right one is refused", async () => {
  const cipher = new RecordCipher(KEY);
  const sealed = await cipher.seal(0n, NONE, random(40));
  for (let length = 0; length < sealed.length; length++) {
    await assert.rejects(cipher.open(0n, NONE, sealed.subarray(0, length)), DECRYPT_FAILED);
  }
  const longer = new Uint8Array([...sealed, ...random(16)]);
  await assert.rejects(cipher.open(0n, NONE, longer), DECRYPT_FAILED);
  const bulk = await cipher.seal(0n, NONE, random(20_000));
  await assert.rejects(cipher.open(0n, NONE, bulk.subarray(0, -1)), DECRYPT_FAILED);
  await assert.rejects(cipher.open(0n, NONE, bulk.subarray(0, -16)), DECRYPT_FAILED);
});

test("sealing and opening leave their input and the key as they are", async () => {
  const key = KEY.slice();
  const cipher = new RecordCipher(key);
  key.fill(0);
  for (const size_bytes of [100, 50_000]) {
    const plaintext = random(size_bytes);
    const before = plaintext.slice();
    const sealed = await cipher.seal(0n, NONE, plaintext);
    const sealedBefore = sealed.slice();
    assert.deepEqual(await cipher.open(0n, NONE, sealed), before);
    assert.deepEqual(plaintext, before);
    assert.deepEqual(sealed, sealedBefore);
    assert.deepEqual(sealed, await new RecordCipher(KEY).seal(0n, NONE, plaintext));
  }
});
