/**
 * AEAD_AES_128_CBC_HMAC_SHA_256 (RFC 7518 section 5.2): encrypt, then MAC.
 *
 *     key = MAC key (16 bytes) ‖ AES key (16 bytes)
 *     E   = AES-128-CBC(AES key, IV, plaintext with PKCS #7 padding)
 *     T   = the first 16 bytes of HMAC-SHA-256(MAC key, AD ‖ IV ‖ E ‖ u64 BE length of AD in bits)
 *
 * A sealed text is E ‖ T. The IV is not sent. Both ends derive it from the number n of the text
 * under this key: AES(AES key, 8 zero bytes ‖ u64 BE n). The encryption of a nonce is an
 * unpredictable IV (NIST SP 800-38A, appendix C), as long as no n is used twice under one key.
 *
 * The MAC is always checked before anything is decrypted, so nobody can try out paddings.
 */
import { createCipheriv, createDecipheriv, createHmac, timingSafeEqual } from "node:crypto";
import { SealwireError } from "../../base/errors.ts";
import type { NoiseCipher } from "./noise.ts";

/** The size of a key: MAC key ‖ AES key. */
export const KEY_BYTES = 32;
export const IV_BYTES = 16;
export const TAG_BYTES = 16;

const MAC_KEY_BYTES = 16;
const BLOCK_BYTES = 16;
const LENGTH_BYTES = 8;

/**
 * The smallest text that goes through WebCrypto, which works on other threads but costs up to 0.1
 * ms per call. For smaller texts `node:crypto` on this thread is faster, on Deno and on Bun.
 */
const BULK_BYTES = 8 * 1024;

/** Returns the size of a sealed text. Padding takes 1 to 16 bytes, the tag 16. */
export function sealedBytes(plaintext_bytes: number): number {
  return (Math.floor(plaintext_bytes / BLOCK_BYTES) + 1) * BLOCK_BYTES + TAG_BYTES;
}

/** Derives the IV (16 bytes) of text number `n` under `aesKey` (16 bytes). */
export function deriveIv(aesKey: Uint8Array, n: bigint): Uint8Array {
  const block = new Uint8Array(BLOCK_BYTES);
  new DataView(block.buffer).setBigUint64(8, n);
  const cipher = createCipheriv("aes-128-ecb", aesKey, null).setAutoPadding(false);
  return new Uint8Array(cipher.update(block));
}

/**
 * Seals with an explicit IV (16 bytes), as in RFC 7518 section 5.2.2.1 and its test vectors. `key`:
 * 32 bytes. Returns E ‖ T, after `headroom_bytes` free bytes that the caller may fill.
 */
export function sealWithIv(
  key: Uint8Array,
  iv: Uint8Array,
  ad: Uint8Array,
  plaintext: Uint8Array,
  headroom_bytes = 0,
): Uint8Array {
  const { macKey, aesKey } = splitKey(key);
  const framed = new Uint8Array(headroom_bytes + sealedBytes(plaintext.length));
  const ciphertext = framed.subarray(headroom_bytes, -TAG_BYTES);
  const cipher = createCipheriv("aes-128-cbc", aesKey, iv);
  const head = cipher.update(plaintext);
  ciphertext.set(head);
  ciphertext.set(cipher.final(), head.length);
  framed.set(tagOf(macKey, iv, ad, ciphertext), framed.length - TAG_BYTES);
  return framed;
}

/**
 * Opens what {@linkcode sealWithIv} sealed.
 *
 * @throws {SealwireError} `decrypt_failed`, with the same sentence for every cause.
 */
export function openWithIv(
  key: Uint8Array,
  iv: Uint8Array,
  ad: Uint8Array,
  sealed: Uint8Array,
): Uint8Array {
  const { macKey, aesKey } = splitKey(key);
  const { ciphertext, tag } = splitSealed(sealed);
  if (!timingSafeEqual(tag, tagOf(macKey, iv, ad, ciphertext))) throw decryptFailed();
  const decipher = createDecipheriv("aes-128-cbc", aesKey, iv);
  try {
    const head = decipher.update(ciphertext);
    const tail = decipher.final();
    const plaintext = new Uint8Array(head.length + tail.length);
    plaintext.set(head);
    plaintext.set(tail, head.length);
    return plaintext;
  } catch (cause) {
    throw decryptFailed(cause);
  }
}

/** The cipher of a Noise handshake: `Noise_…_AES128CBCHS256_SHA256`. */
export const AES128CBCHS256: NoiseCipher = {
  name: "AES128CBCHS256",
  sealedBytes,
  encrypt(key, n, ad, plaintext) {
    return sealWithIv(key, deriveIv(splitKey(key).aesKey, n), ad, plaintext);
  },
  decrypt(key, n, ad, sealed) {
    return openWithIv(key, deriveIv(splitKey(key).aesKey, n), ad, sealed);
  },
};

/**
 * The size of the IV. While the tag is computed, the IV stands before the ciphertext. After that,
 * its place is free.
 */
const HEADROOM_BYTES_MAX = IV_BYTES;

/**
 * Seals or opens the texts of one direction of a channel under one key. Calls for different `n` may
 * run at the same time. Large texts are then encrypted and checked on several cores.
 *
 * A text of s bytes, from 8 KiB on, takes about 2 s bytes of memory while it is sealed or opened,
 * beside the caller's own. Half of that is the result. The input must not change until the promise
 * settles.
 */
export class RecordCipher {
  private readonly key: Uint8Array;
  private bulkKeys: Promise<BulkKeys> | null = null;

  /** `key`: 32 bytes, MAC key ‖ AES key. It is copied. */
  constructor(key: Uint8Array) {
    this.key = Uint8Array.from(key);
  }

  /**
   * Seals text number `n`. Returns E ‖ T, of {@linkcode sealedBytes} bytes, after `headroom_bytes`
   * (at most 16) free bytes. The caller can write a length there without a copy.
   */
  async seal(
    n: bigint,
    ad: Uint8Array,
    plaintext: Uint8Array,
    headroom_bytes = 0,
  ): Promise<Uint8Array> {
    if (headroom_bytes > HEADROOM_BYTES_MAX) throw new RangeError("headroom_bytes is past 16");
    const iv = deriveIv(splitKey(this.key).aesKey, n);
    if (plaintext.length < BULK_BYTES) {
      return sealWithIv(this.key, iv, ad, plaintext, headroom_bytes);
    }
    const keys = await this.importedKeys();
    const algorithm = { name: "AES-CBC", iv: forWebCrypto(iv) };
    const ciphertext = await crypto.subtle.encrypt(algorithm, keys.aes, forWebCrypto(plaintext));
    const text = authenticatedText(iv, ad, new Uint8Array(ciphertext));
    text.set(await bulkTag(keys.mac, text), text.length - TAG_BYTES);
    return text.subarray(ad.length + IV_BYTES - headroom_bytes);
  }

  /**
   * Opens text number `n`. A text without the right tag is not decrypted.
   *
   * @throws {SealwireError} `decrypt_failed`, with the same sentence for every cause.
   */
  async open(n: bigint, ad: Uint8Array, sealed: Uint8Array): Promise<Uint8Array> {
    const iv = deriveIv(splitKey(this.key).aesKey, n);
    if (sealed.length < BULK_BYTES) return openWithIv(this.key, iv, ad, sealed);
    const { ciphertext, tag } = splitSealed(sealed);
    const keys = await this.importedKeys();
    const text = authenticatedText(iv, ad, ciphertext);
    if (!timingSafeEqual(tag, await bulkTag(keys.mac, text))) throw decryptFailed();
    const algorithm = { name: "AES-CBC", iv: forWebCrypto(iv) };
    try {
      return new Uint8Array(
        await crypto.subtle.decrypt(algorithm, keys.aes, forWebCrypto(ciphertext)),
      );
    } catch (cause) {
      throw decryptFailed(cause);
    }
  }

  private importedKeys(): Promise<BulkKeys> {
    return this.bulkKeys ??= importBulkKeys(this.key);
  }
}

interface BulkKeys {
  mac: CryptoKey;
  aes: CryptoKey;
}

async function importBulkKeys(key: Uint8Array): Promise<BulkKeys> {
  const { macKey, aesKey } = splitKey(key);
  const hmac = { name: "HMAC", hash: "SHA-256" };
  const usages: KeyUsage[] = ["encrypt", "decrypt"];
  const [mac, aes] = await Promise.all([
    crypto.subtle.importKey("raw", forWebCrypto(macKey), hmac, false, ["sign"]),
    crypto.subtle.importKey("raw", forWebCrypto(aesKey), "AES-CBC", false, usages),
  ]);
  return { mac, aes };
}

const SPARE_BYTES = TAG_BYTES - LENGTH_BYTES;

/**
 * Joins AD ‖ IV ‖ E ‖ u64 length of AD, because WebCrypto wants one piece, and adds 8 spare bytes.
 * The tag can later take the place of the length, and the sealed text needs no copy.
 */
function authenticatedText(iv: Uint8Array, ad: Uint8Array, ciphertext: Uint8Array): Uint8Array {
  const text = new Uint8Array(ad.length + IV_BYTES + ciphertext.length + TAG_BYTES);
  text.set(ad);
  text.set(iv, ad.length);
  text.set(ciphertext, ad.length + IV_BYTES);
  text.set(lengthInBits(ad), text.length - TAG_BYTES);
  return text;
}

async function bulkTag(macKey: CryptoKey, text: Uint8Array): Promise<Uint8Array> {
  const authenticated = forWebCrypto(text.subarray(0, -SPARE_BYTES));
  const mac = await crypto.subtle.sign("HMAC", macKey, authenticated);
  return new Uint8Array(mac, 0, TAG_BYTES);
}

function tagOf(
  macKey: Uint8Array,
  iv: Uint8Array,
  ad: Uint8Array,
  ciphertext: Uint8Array,
): Uint8Array {
  const mac = createHmac("sha256", macKey);
  mac.update(ad).update(iv).update(ciphertext).update(lengthInBits(ad));
  return mac.digest().subarray(0, TAG_BYTES);
}

/** AL in RFC 7518: the length of AD in bits, u64 BE. */
function lengthInBits(ad: Uint8Array): Uint8Array {
  const length = new Uint8Array(LENGTH_BYTES);
  new DataView(length.buffer).setBigUint64(0, BigInt(ad.length) * 8n);
  return length;
}

function splitKey(key: Uint8Array): { macKey: Uint8Array; aesKey: Uint8Array } {
  if (key.length !== KEY_BYTES) throw new RangeError(`a key has 32 bytes, not ${key.length}`);
  return { macKey: key.subarray(0, MAC_KEY_BYTES), aesKey: key.subarray(MAC_KEY_BYTES) };
}

function splitSealed(sealed: Uint8Array): { ciphertext: Uint8Array; tag: Uint8Array } {
  const ciphertext_bytes = sealed.length - TAG_BYTES;
  if (ciphertext_bytes < BLOCK_BYTES || ciphertext_bytes % BLOCK_BYTES !== 0) throw decryptFailed();
  return {
    ciphertext: sealed.subarray(0, ciphertext_bytes),
    tag: sealed.subarray(ciphertext_bytes),
  };
}

function decryptFailed(cause?: unknown): SealwireError {
  return new SealwireError(
    "decrypt_failed",
    "the ciphertext was changed, or sealed under another key",
    { cause },
  );
}

/** WebCrypto's types exclude shared memory, which is not used here. */
function forWebCrypto(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return bytes as Uint8Array<ArrayBuffer>;
}
