/** Parses account names and RSA keys, once, into values that cannot be wrong. */
import { createHash, createPublicKey, type KeyObject } from "node:crypto";
import { isSealwireError, SealwireError } from "../base/errors.ts";
import { decodeBase64url, type Sha256 } from "../base/parse.ts";

export const RSA_BITS_MIN = 2048;
const RSA_BITS_MAX = 4096;
/** 65537, the only public exponent that is accepted. */
const RSA_EXPONENT = "AQAB";
const ACCOUNT_NAME = /^[a-z0-9][a-z0-9._-]{0,31}$/;
const QUOTED_CHARACTERS_MAX = 40;

export type AccountName = string & { readonly __brand: "AccountName" };

/** A public key as a JWK (RFC 7517) with exactly these members, in the order of RFC 7638. */
export interface RsaPublicJwk {
  readonly e: string;
  readonly kty: "RSA";
  readonly n: string;
}

export interface RsaPublicKey {
  readonly jwk: RsaPublicJwk;
  /** The thumbprint of RFC 7638, with SHA-256. */
  readonly thumbprint: Sha256;
  readonly key: KeyObject;
}

export interface RsaKeyPair {
  readonly publicKey: RsaPublicKey;
  readonly privateKey: KeyObject;
}

/**
 * Parses an account name: 1 to 32 of `a-z 0-9 . _ -`, starting with a letter or digit, and not
 * `server`.
 *
 * @throws {SealwireError} `bad_name`.
 */
export function parseAccountName(text: unknown): AccountName {
  if (typeof text === "string" && ACCOUNT_NAME.test(text) && text !== "server") {
    return text as AccountName;
  }
  const shown = typeof text === "string" ? `"${text.slice(0, QUOTED_CHARACTERS_MAX)}"` : "this";
  throw new SealwireError(
    "bad_name",
    `${shown} is no account name: it takes 1 to 32 of a-z 0-9 . _ -, ` +
      'starting with a letter or digit, and is not "server"',
  );
}

/**
 * Parses an untrusted JWK. Its members must be `e`, `kty` and `n` and no others, in canonical
 * base64url. The modulus must be odd, have no leading zero byte, and have 2048 to 4096 bits. The
 * runtimes disagree about other keys.
 *
 * @throws {SealwireError} `bad_key`.
 */
export function parseRsaPublicJwk(value: unknown): RsaPublicKey {
  if (!isSoundRsaJwk(value)) throw badKey();
  const jwk: RsaPublicJwk = { e: value.e, kty: value.kty, n: value.n };
  const thumbprint = createHash("sha256").update(JSON.stringify(jwk)).digest("base64url") as Sha256;
  try {
    return { jwk, thumbprint, key: createPublicKey({ key: { ...jwk }, format: "jwk" }) };
  } catch (cause) {
    throw badKey(cause);
  }
}

/** Parses a public key as `openssl rsa -pubout` writes it. Throws `bad_key`. */
export function rsaPublicKeyFromPem(pem: string): RsaPublicKey {
  // `createPublicKey` also accepts a private key or a certificate.
  if (!/^-----BEGIN (RSA )?PUBLIC KEY-----/m.test(pem)) throw badKey();
  return rsaPublicKey(() => createPublicKey(pem));
}

/** Returns the public half of a private or public key. Throws `bad_key`, also for other kinds. */
export function rsaPublicKeyOf(key: KeyObject): RsaPublicKey {
  return rsaPublicKey(() => key.type === "private" ? createPublicKey(key) : key);
}

/** Checks the key that `read` returns by the rules of {@linkcode parseRsaPublicJwk}. */
function rsaPublicKey(read: () => KeyObject): RsaPublicKey {
  try {
    const { e, kty, n } = read().export({ format: "jwk" });
    return parseRsaPublicJwk({ e, kty, n });
  } catch (cause) {
    throw isSealwireError(cause) ? cause : badKey(cause);
  }
}

function isSoundRsaJwk(value: unknown): value is RsaPublicJwk {
  if (typeof value !== "object" || value === null) return false;
  if (Object.keys(value).sort().join() !== "e,kty,n") return false;
  const { e, kty, n } = value as Record<string, unknown>;
  if (kty !== "RSA" || e !== RSA_EXPONENT || typeof n !== "string") return false;
  if (n.length > RSA_BITS_MAX / 8 * 2) return false;
  const modulus = decodeBase64url(n);
  const first = modulus?.[0];
  if (!modulus || !first || (modulus.at(-1)! & 1) === 0) return false;
  const leadingZeroBits = Math.clz32(first) - 24;
  const bits = modulus.length * 8 - leadingZeroBits;
  return bits >= RSA_BITS_MIN && bits <= RSA_BITS_MAX;
}

function badKey(cause?: unknown): SealwireError {
  const message =
    `this is not an RSA key of ${RSA_BITS_MIN} to ${RSA_BITS_MAX} bits with the exponent 65537`;
  return new SealwireError("bad_key", message, { cause });
}
