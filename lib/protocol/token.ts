/**
 * Strict signed tokens: JWS compact serialization (RFC 7515, section 7.1), made and verified by
 * `jose`, with less freedom than the RFC gives. So one statement has exactly one text.
 *
 * - Each kind has one constant protected header. A token whose first segment is not exactly that is
 *   refused before any cryptography: no `alg` to choose, no `b64`, no `crit`, no `kid`.
 * - Every segment is canonical base64url. (`jose` accepts `QQ`, `QR` and `QQ==` alike.)
 * - The payload is the canonical JSON of the claims: the members in a fixed order, no white space,
 *   none unknown, none twice.
 */
import { createHash, type KeyObject } from "node:crypto";
import { CompactSign, compactVerify } from "jose";
import { SealwireError } from "../base/errors.ts";
import { decodeBase64url, encodeBase64url, Members, type Sha256 } from "../base/parse.ts";

/** The claim `v`, which comes first in every kind. */
const VERSION = 1;

/** One kind of token: its header, and its claims as a type and as JSON. */
export interface TokenKind<Claims> {
  /** Its name in error messages: `order`. */
  readonly name: string;
  readonly alg: "EdDSA" | "PS256";
  readonly typ: string;
  /** The constant first segment: base64url of `{"alg":…,"typ":…}`. */
  readonly header: string;
  readonly characters_max: number;
  /** Parses the claims after the version; throws when they are not of this kind. */
  parse(claims: Members): Claims;
  /** The claims as JSON, members in the canonical order after the version. */
  toJson(claims: Claims): object;
}

/** A token that has the form of its kind. Its signature is not yet verified. */
export interface Token<Claims> {
  readonly text: string;
  /** SHA-256 of the token's text. */
  readonly sha256: Sha256;
  readonly claims: Claims;
}

/** A key for `jose`: a node KeyObject or a WebCrypto key. */
export type SigningKey = KeyObject | CryptoKey;

export function sha256Text(text: string): Sha256 {
  return createHash("sha256").update(text, "utf8").digest("base64url") as Sha256;
}

export function defineToken<Claims>(kind: Omit<TokenKind<Claims>, "header">): TokenKind<Claims> {
  const header = JSON.stringify({ alg: kind.alg, typ: kind.typ });
  return { ...kind, header: encodeBase64url(new TextEncoder().encode(header)) };
}

export async function signToken<C>(
  kind: TokenKind<C>,
  claims: C,
  key: SigningKey,
): Promise<Token<C>> {
  const payload = payloadOf(kind, claims);
  const text = await new CompactSign(new TextEncoder().encode(payload))
    .setProtectedHeader({ alg: kind.alg, typ: kind.typ })
    .sign(key);
  return { text, sha256: sha256Text(text), claims };
}

/**
 * Parses a token without verifying its signature.
 *
 * @throws {SealwireError} `bad_token` when the text is not a strict token of this kind, or what the
 * claims' own parser throws.
 */
export function parseToken<C>(kind: TokenKind<C>, text: unknown): Token<C> {
  const bad = (why: string) => new SealwireError("bad_token", `${kind.name}: ${why}`);
  if (typeof text !== "string" || text.length > kind.characters_max) {
    throw bad(`must be text of at most ${kind.characters_max} characters`);
  }
  const [header, payload, signature, ...rest] = text.split(".");
  if (header !== kind.header) throw bad("has another header than this kind's");
  if (payload === undefined || signature === undefined || rest.length > 0) {
    throw bad("must have three segments");
  }
  const payloadBytes = decodeBase64url(payload);
  if (payloadBytes === null || decodeBase64url(signature) === null) {
    throw bad("is not canonical base64url");
  }
  const json = decodeUtf8(payloadBytes);
  if (json === null) throw bad("is not UTF-8");
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch (cause) {
    throw new SealwireError("bad_token", `${kind.name}: the payload is not JSON`, { cause });
  }
  const members = new Members(parsed, kind.name, "bad_token");
  members.constant("v", VERSION);
  const claims = kind.parse(members);
  if (payloadOf(kind, claims) !== json) throw bad("the payload is not canonical");
  return { text, sha256: sha256Text(text), claims };
}

function payloadOf<C>(kind: TokenKind<C>, claims: C): string {
  return JSON.stringify({ v: VERSION, ...kind.toJson(claims) });
}

/** @throws {SealwireError} `bad_signature`. */
export async function verifyToken<C>(
  kind: TokenKind<C>,
  token: Token<C>,
  key: SigningKey,
): Promise<void> {
  try {
    await compactVerify(token.text, key, { algorithms: [kind.alg] });
  } catch (cause) {
    throw new SealwireError(
      "bad_signature",
      `${kind.name}: the signature is not by the key it names`,
      { cause },
    );
  }
}

function decodeUtf8(bytes: Uint8Array): string | null {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}
