/**
 * X25519 (RFC 7748): the "25519" functions of Noise.
 *
 * The runtime's own library is several times as fast as one in JavaScript. It takes keys only in
 * the DER of RFC 8410, in which the 32 bytes of a key come last.
 */
import { Buffer } from "node:buffer";
import {
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
} from "node:crypto";
import { SealwireError } from "../../base/errors.ts";

const KEY_BYTES = 32;
/** The bytes before a private key in PKCS #8. */
const PRIVATE_PREFIX = Buffer.from("302e020100300506032b656e04220420", "hex");
/** The bytes before a public key in SubjectPublicKeyInfo. */
const PUBLIC_PREFIX = Buffer.from("302a300506032b656e032100", "hex");

export interface X25519Pair {
  readonly privateKey: KeyObject;
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
}

/** Makes a random pair. */
export function generatePair(): X25519Pair {
  return describe(generateKeyPairSync("x25519").privateKey);
}

/** Makes the pair of a private key (32 bytes). */
export function importPair(privateKey: Uint8Array): X25519Pair {
  const key = der(PRIVATE_PREFIX, privateKey);
  return describe(createPrivateKey({ key, format: "der", type: "pkcs8" }));
}

/**
 * Computes the shared secret (32 bytes). `publicKey`: 32 bytes, from anybody.
 *
 * @throws {SealwireError} `handshake_failed` where `publicKey` is a point of small order, for which
 * the result would be all zero (RFC 7748, section 6.1).
 */
export function sharedSecret(privateKey: KeyObject, publicKey: Uint8Array): Uint8Array {
  const key = der(PUBLIC_PREFIX, publicKey);
  try {
    return Uint8Array.from(diffieHellman({
      privateKey,
      publicKey: createPublicKey({ key, format: "der", type: "spki" }),
    }));
  } catch (cause) {
    const message = "the handshake failed: the other end sent an unusable public key";
    throw new SealwireError("handshake_failed", message, { cause });
  }
}

/** Checks the length too, because Bun accepts a key that is too long and ignores its end. */
function der(prefix: Buffer, key: Uint8Array): Buffer {
  if (key.length !== KEY_BYTES) throw new RangeError(`a key has 32 bytes, not ${key.length}`);
  return Buffer.concat([prefix, key]);
}

function describe(privateKey: KeyObject): X25519Pair {
  const der = createPublicKey(privateKey).export({ format: "der", type: "spki" });
  return { privateKey, publicKey: Uint8Array.from(der.subarray(-KEY_BYTES)) };
}
