/**
 * Ed25519 keys (RFC 8032), as JWKs `{crv, kty, x}` (RFC 8037, 2). Session keys sign orders with
 * them, the log key signs checkpoints: 50 times as fast as RSA.
 */
import { ed25519 } from "@noble/curves/ed25519.js";
import { createPublicKey, type KeyObject } from "node:crypto";
import { SealwireError } from "../base/errors.ts";
import { decodeBase64url, encodeBase64url, type Members } from "../base/parse.ts";

export const ED25519_KEY_BYTES = 32;
export const ED25519_SIGNATURE_BYTES = 64;

/** `x`: 32 bytes, base64url. */
export interface Ed25519PublicKey {
  readonly x: string;
  readonly key: KeyObject;
}

export interface Ed25519KeyPair {
  readonly publicKey: Ed25519PublicKey;
  readonly privateKey: KeyObject;
}

/** A public key as it goes into a claim, its members in the order of RFC 7638. */
export interface Ed25519Jwk {
  readonly crv: "Ed25519";
  readonly kty: "OKP";
  readonly x: string;
}

export function ed25519Jwk({ x }: Ed25519PublicKey): Ed25519Jwk {
  return { crv: "Ed25519", kty: "OKP", x };
}

/**
 * Parses a public key from its JWK. `what` names it in errors.
 *
 * @throws {SealwireError} the code of `jwk` when it is no Ed25519 JWK; `bad_key` when the key is
 * not sound.
 */
export function parseEd25519Jwk(jwk: Members, what: string): Ed25519PublicKey {
  jwk.constant("crv", "Ed25519");
  jwk.constant("kty", "OKP");
  return ed25519PublicKey(decodeBase64url(jwk.bytes("x", ED25519_KEY_BYTES))!, what);
}

/**
 * Parses a public key from its 32 bytes: the canonical encoding of a point that is not of small
 * order.
 * With a point of small order one signature would fit many messages, and runtimes disagree on
 * encodings that are not canonical (RFC 8032, 5.1.3 and 8.4). `what` names it in errors.
 *
 * @throws {SealwireError} `bad_key`.
 */
export function ed25519PublicKey(bytes: Uint8Array, what: string): Ed25519PublicKey {
  try {
    const point = ed25519.Point.fromBytes(bytes, false);
    if (point.isSmallOrder()) throw new Error("small order");
  } catch (cause) {
    throw new SealwireError("bad_key", `${what} is not a sound Ed25519 key`, { cause });
  }
  const x = encodeBase64url(bytes);
  return { x, key: createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" }) };
}

/** Returns the 32 bytes of a public key (RFC 8032, 5.1.5). */
export function ed25519Bytes({ x }: Ed25519PublicKey): Uint8Array {
  return decodeBase64url(x)!;
}

/** Returns the pair of an Ed25519 private key. */
export function ed25519KeyPair(privateKey: KeyObject): Ed25519KeyPair {
  const key = createPublicKey(privateKey);
  return { publicKey: { x: key.export({ format: "jwk" }).x!, key }, privateKey };
}
