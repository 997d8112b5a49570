/**
 * A rotation replaces an account's RSA key. The old key signs it, and the new key countersigns the
 * same claims, so nobody can give an account a key that its holder does not have.
 */
import { SealwireError } from "../base/errors.ts";
import type { Sha256 } from "../base/parse.ts";
import {
  type AccountName,
  parseAccountName,
  parseRsaPublicJwk,
  type RsaKeyPair,
  type RsaPublicKey,
} from "../keys/rsa.ts";
import { defineToken, parseToken, signToken, type Token, verifyToken } from "./token.ts";

/** Two keys of 4096 bits and a signature fit. */
const ROTATION_CHARACTERS_MAX = 4096;

export interface Rotation {
  readonly account: AccountName;
  /** Thumbprint of the server whose ledger records it. */
  readonly server: Sha256;
  /** Index of the entry that made the old key the account's. */
  readonly replaces: number;
  /** The new key. */
  readonly key: RsaPublicKey;
  readonly iat: number;
}

/** Both signatures over one set of claims. */
export interface SignedRotation {
  /** Thumbprint of the key that signed the rotation. */
  readonly oldKey: Sha256;
  readonly rotation: Token<Rotation>;
  readonly countersignature: Token<Rotation>;
}

const ROTATION = rotationKind("rotation", "sealwire-rotation+jws");
const COUNTERSIGNATURE = rotationKind("rotation countersignature", "sealwire-countersign+jws");

function rotationKind(name: string, typ: string) {
  return defineToken<Rotation>({
    name,
    alg: "PS256",
    typ,
    characters_max: ROTATION_CHARACTERS_MAX,
    parse(claims) {
      return {
        account: parseAccountName(claims.raw("account")),
        server: claims.sha256("server"),
        replaces: claims.integer("replaces", 1, Number.MAX_SAFE_INTEGER),
        key: parseRsaPublicJwk(claims.raw("key")),
        iat: claims.time_s("iat"),
      };
    },
    toJson: ({ account, server, replaces, key, iat }) => ({
      account,
      server,
      replaces,
      key: key.jwk,
      iat,
    }),
  });
}

export async function signRotation(
  oldPair: RsaKeyPair,
  newPair: RsaKeyPair,
  claims: Omit<Rotation, "key">,
): Promise<SignedRotation> {
  const rotation = { ...claims, key: newPair.publicKey };
  return {
    oldKey: oldPair.publicKey.thumbprint,
    rotation: await signToken(ROTATION, rotation, oldPair.privateKey),
    countersignature: await signToken(COUNTERSIGNATURE, rotation, newPair.privateKey),
  };
}

/** Parses a rotation without verifying it. Throws `bad_token`, `bad_key`, `bad_name`. */
export function parseRotation(text: unknown): Token<Rotation> {
  return parseToken(ROTATION, text);
}

/**
 * Parses both tokens and verifies them: the rotation under `oldKey`, the countersignature under the
 * new key.
 *
 * @throws {SealwireError} `bad_token`, `bad_key`, `bad_name`, `bad_signature`.
 */
export async function verifyRotation(
  rotationText: unknown,
  countersignatureText: unknown,
  oldKey: RsaPublicKey,
): Promise<SignedRotation> {
  const rotation = parseRotation(rotationText);
  const countersignature = parseToken(COUNTERSIGNATURE, countersignatureText);
  const payloadOf = ({ text }: Token<Rotation>) => text.split(".")[1];
  if (payloadOf(rotation) !== payloadOf(countersignature)) {
    throw new SealwireError("bad_token", "the new key countersigned something else");
  }
  await verifyToken(ROTATION, rotation, oldKey.key);
  await verifyToken(COUNTERSIGNATURE, countersignature, rotation.claims.key.key);
  return { oldKey: oldKey.thumbprint, rotation, countersignature };
}
