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

/** The smallest text for which a call of WebCrypto, which costs up to 0.1 ms, can be worth it. */
const BULK_BYTES = 8 * 1024;
/**
 * From this rate on, AES of `node:crypto` on this thread is better than WebCrypto's on another:
 * that one copies each text, and costs up to twice the processor time.
 */
const FAST_BYTES_PER_MS = 700_000;
const MEASURED_BYTES = 64 * 1024;
const MEASUREMENTS = 4;

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
 * 32 bytes. Returns `sealed`, of {@linkcode sealedBytes} bytes: E ‖ T.
 */
export function sealWithIv(
  key: Uint8Array,
  iv: Uint8Array,
  ad: Uint8Array,
  plaintext: Uint8Array,
  sealed: Uint8Array = new Uint8Array(sealedBytes(plaintext.length)),
): Uint8Array {
  const { aesKey } = splitKey(key);
  const cipher = createCipheriv("aes-128-cbc", aesKey, iv);
  const head = cipher.update(plaintext);
  sealed.set(head);
  sealed.set(cipher.final(), head.length);
  return writeTag(key, iv, ad, sealed);
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
  const ciphertext = requireTag(key, iv, ad, sealed);
  // Without its own padding the decipher gives all blocks in one piece.
  const decipher = createDecipheriv("aes-128-cbc", splitKey(key).aesKey, iv).setAutoPadding(false);
  const padded = decipher.update(ciphertext);
  return withoutPadding(new Uint8Array(padded.buffer, padded.byteOffset, padded.length));
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
 * Seals or opens the texts of one direction of a channel under one key. Calls for different `n` may
 * run at the same time. Where the AES of this thread is slow, large texts are then encrypted and
 * decrypted on several cores.
 *
 * A text of s bytes takes up to 2 s bytes of memory while it is sealed or opened, beside the
 * caller's own. Half of that is the result. The input must not change until the promise settles.
 */
export class RecordCipher {
  private readonly key: Uint8Array;
  private bulkKey: Promise<CryptoKey> | null = null;

  /** `key`: 32 bytes, MAC key ‖ AES key. It is copied. */
  constructor(key: Uint8Array) {
    this.key = Uint8Array.from(key);
  }

  /** Seals text number `n`. Returns `sealed`, of {@linkcode sealedBytes} bytes: E ‖ T. */
  async seal(
    n: bigint,
    ad: Uint8Array,
    plaintext: Uint8Array,
    sealed: Uint8Array = new Uint8Array(sealedBytes(plaintext.length)),
  ): Promise<Uint8Array> {
    const iv = deriveIv(splitKey(this.key).aesKey, n);
    if (staysHere(plaintext)) return sealWithIv(this.key, iv, ad, plaintext, sealed);
    const algorithm = { name: "AES-CBC", iv: forWebCrypto(iv) };
    const key = await this.importedKey();
    const ciphertext = await crypto.subtle.encrypt(algorithm, key, forWebCrypto(plaintext));
    sealed.set(new Uint8Array(ciphertext));
    return writeTag(this.key, iv, ad, sealed);
  }

  /**
   * Opens text number `n`. A text without the right tag is not decrypted.
   *
   * @throws {SealwireError} `decrypt_failed`, with the same sentence for every cause.
   */
  async open(n: bigint, ad: Uint8Array, sealed: Uint8Array): Promise<Uint8Array> {
    const iv = deriveIv(splitKey(this.key).aesKey, n);
    if (staysHere(sealed)) return openWithIv(this.key, iv, ad, sealed);
    const ciphertext = forWebCrypto(requireTag(this.key, iv, ad, sealed));
    const algorithm = { name: "AES-CBC", iv: forWebCrypto(iv) };
    const key = await this.importedKey();
    try {
      return new Uint8Array(await crypto.subtle.decrypt(algorithm, key, ciphertext));
    } catch (cause) {
      throw decryptFailed(cause);
    }
  }

  private importedKey(): Promise<CryptoKey> {
    const aesKey = forWebCrypto(splitKey(this.key).aesKey);
    return this.bulkKey ??= crypto.subtle.importKey("raw", aesKey, "AES-CBC", false, [
      "encrypt",
      "decrypt",
    ]);
  }
}

let fastHere: boolean | null = null;

/** Whether AES of this text belongs on this thread. The first large text measures how fast it is. */
function staysHere(text: Uint8Array): boolean {
  return text.length < BULK_BYTES || (fastHere ??= isFastHere());
}

function isFastHere(): boolean {
  const zeros = new Uint8Array(MEASURED_BYTES);
  let shortest_ms = Infinity;
  for (let count = 0; count < MEASUREMENTS; count++) {
    const started_ms = performance.now();
    createCipheriv("aes-128-cbc", zeros.subarray(0, 16), zeros.subarray(0, IV_BYTES)).update(zeros);
    shortest_ms = Math.min(shortest_ms, performance.now() - started_ms);
  }
  return MEASURED_BYTES >= shortest_ms * FAST_BYTES_PER_MS;
}

/** Puts the tag behind the ciphertext that is in `sealed`. Returns `sealed`. */
function writeTag(
  key: Uint8Array,
  iv: Uint8Array,
  ad: Uint8Array,
  sealed: Uint8Array,
): Uint8Array {
  const tag_start = sealed.length - TAG_BYTES;
  sealed.set(tagOf(splitKey(key).macKey, iv, ad, sealed.subarray(0, tag_start)), tag_start);
  return sealed;
}

/** Returns the ciphertext of a sealed text whose tag is right. Throws `decrypt_failed`. */
function requireTag(
  key: Uint8Array,
  iv: Uint8Array,
  ad: Uint8Array,
  sealed: Uint8Array,
): Uint8Array {
  const { ciphertext, tag } = splitSealed(sealed);
  const expected = tagOf(splitKey(key).macKey, iv, ad, ciphertext);
  if (!timingSafeEqual(tag, expected)) throw decryptFailed();
  return ciphertext;
}

/**
 * Removes PKCS #7 padding (RFC 5652 section 6.3). The tag was right, so this need not take the same
 * time for every padding. Throws `decrypt_failed`.
 */
function withoutPadding(padded: Uint8Array): Uint8Array {
  const padding_bytes = padded.at(-1)!;
  const start = padded.length - padding_bytes;
  const right = padding_bytes >= 1 && padding_bytes <= BLOCK_BYTES &&
    padded.subarray(start).every((byte) => byte === padding_bytes);
  if (!right) throw decryptFailed();
  return padded.subarray(0, start);
}

/**
 * HMAC stays on this thread in every runtime: `node:crypto` is as fast as WebCrypto there, and takes
 * the parts as they lie, where WebCrypto wants them joined.
 */
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
