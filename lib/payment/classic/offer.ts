/**
 * The offer that a classic payer hands to a classic payee: `<payer>#<amount>#<payee>` under
 * RSA-OAEP with SHA-1 and MGF1-SHA-1 (RFC 8017, 7.1), 256 bytes under a key of 2048 bits. All
 * clients share one pair, `B_public.pem` and `B_private.pem`. Nothing in it is signed: anyone with
 * the public key can make an offer in anyone's name.
 */
import {
  constants,
  createHash,
  createPublicKey,
  type KeyObject,
  privateDecrypt,
  publicEncrypt,
} from "node:crypto";
import { join } from "node:path";
import { BoundedMap } from "../../base/bounded_map.ts";
import { SealwireError } from "../../base/errors.ts";
import { loadServerPublicKey, openPair } from "../../keys/key_files.ts";
import { RSA_BITS_MIN } from "../../keys/rsa.ts";

export const OFFER_BYTES = RSA_BITS_MIN / 8;
/** How many offers to remember, so that each counts once. The oldest is forgotten first. */
const REPLAYS_KEPT_MAX = 100_000;
const OWNER = "B";
const PADDING = { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: "sha1" };

/**
 * Loads the key that offers are sealed to: `B_public.pem` of the keys folder.
 *
 * @throws {SealwireError} `key_missing`, `key_unreadable`, `bad_key`.
 */
export function loadOfferPublicKey(folder: string): KeyObject {
  const path = join(folder, `${OWNER}_public.pem`);
  return requireSize(path, loadServerPublicKey(path).key);
}

/**
 * Loads the key that opens offers: `B_private.pem` of the keys folder. Makes it and `B_public.pem`
 * where both are missing.
 *
 * @throws {SealwireError} what `openPair` throws, and `bad_key`.
 */
export async function openOfferPrivateKey(
  folder: string,
): Promise<{ privateKey: KeyObject; made: string[]; warnings: string[] }> {
  const { pair, made, warnings } = await openPair(folder, OWNER, { makeMissing: true });
  const path = join(folder, `${OWNER}_private.pem`);
  return { privateKey: requireSize(path, pair.privateKey), made, warnings };
}

function requireSize(path: string, key: KeyObject): KeyObject {
  if (key.asymmetricKeyDetails?.modulusLength === RSA_BITS_MIN) return key;
  throw new SealwireError(
    "bad_key",
    `${path}: a classic offer takes an RSA key of ${RSA_BITS_MIN} bits`,
  );
}

/** `text`: at most 214 bytes. The result has {@linkcode OFFER_BYTES}. */
export function sealClassicOffer(text: string, publicKey: KeyObject): Uint8Array {
  return publicEncrypt({ key: publicKey, ...PADDING }, new TextEncoder().encode(text));
}

/**
 * @throws {SealwireError} `bad_offer`, with one sentence for all causes, so that nobody learns why
 * an offer does not open.
 */
export function openClassicOffer(ciphertext: Uint8Array, privateKey: KeyObject): Uint8Array {
  try {
    if (!isBelowModulus(ciphertext, privateKey)) throw new RangeError("out of range");
    return new Uint8Array(privateDecrypt({ key: privateKey, ...PADDING }, ciphertext));
  } catch (cause) {
    throw new SealwireError("bad_offer", "the offer does not open with B_private.pem", { cause });
  }
}

/**
 * RFC 8017, 5.1.2. Otherwise another ciphertext would open to the same text, and a replay would
 * look new.
 */
function isBelowModulus(ciphertext: Uint8Array, privateKey: KeyObject): boolean {
  const { n } = createPublicKey(privateKey).export({ format: "jwk" });
  const modulus = Uint8Array.fromBase64(n!, { alphabet: "base64url" });
  if (ciphertext.length !== modulus.length) return false;
  const differs = ciphertext.findIndex((byte, index) => byte !== modulus[index]);
  return differs >= 0 && ciphertext[differs]! < modulus[differs]!;
}

/** The offers that were seen. */
export class ReplayMemory {
  private readonly seen = new BoundedMap<string, true>(REPLAYS_KEPT_MAX);

  /** Returns whether `ciphertext` is new, and remembers it. */
  isNew(ciphertext: Uint8Array): boolean {
    const hash = createHash("sha256").update(ciphertext).digest("base64url");
    if (this.seen.has(hash)) return false;
    this.seen.set(hash, true);
    return true;
  }
}
