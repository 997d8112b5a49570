/**
 * A delegation lends an account to an Ed25519 session key, for one server behind one certificate,
 * for a day at most. The account's RSA key signs it. The session key then signs the orders, which
 * is fifty times as fast.
 */
import { generateKeyPairSync } from "node:crypto";
import { SealwireError } from "../base/errors.ts";
import {
  ed25519Jwk,
  type Ed25519KeyPair,
  ed25519KeyPair,
  type Ed25519PublicKey,
  parseEd25519Jwk,
} from "../keys/ed25519.ts";
import {
  type AccountName,
  parseAccountName,
  parseRsaPublicJwk,
  type RsaKeyPair,
  type RsaPublicKey,
} from "../keys/rsa.ts";
import type { Sha256 } from "../base/parse.ts";
import { defineToken, parseToken, signToken, type Token, verifyToken } from "./token.ts";

/** The longest life of a delegation. */
export const DELEGATION_LIFE_S_MAX = 86_400;
/** How far a peer's clock may run ahead of ours. */
export const CLOCK_LEAD_S_MAX = 60;
export const NONCE_BYTES = 32;
/** Room for a 4096-bit key and its signature. */
const DELEGATION_CHARACTERS_MAX = 4096;

export type SessionKeyPair = Ed25519KeyPair;

export interface Delegation {
  readonly account: AccountName;
  /** The account's RSA key, which signs this. */
  readonly key: RsaPublicKey;
  /** The Ed25519 key that may sign the account's orders. */
  readonly session: Ed25519PublicKey;
  /** Thumbprint of the server's RSA key (RFC 7638). */
  readonly server: Sha256;
  /** SHA-256 of the server's TLS certificate, DER, as the client sees it. */
  readonly cert: Sha256;
  /** The server's nonce of the connection that logs in, 32 bytes. */
  readonly nonce: string;
  readonly iat: number;
  readonly exp: number;
}

const DELEGATION = defineToken<Delegation>({
  name: "delegation",
  alg: "PS256",
  typ: "sealwire-delegation+jws",
  characters_max: DELEGATION_CHARACTERS_MAX,
  parse(claims) {
    const delegation: Delegation = {
      account: parseAccountName(claims.raw("account")),
      key: parseRsaPublicJwk(claims.raw("key")),
      session: parseEd25519Jwk(claims.object("session"), "delegation: session"),
      server: claims.sha256("server"),
      cert: claims.sha256("cert"),
      nonce: claims.bytes("nonce", NONCE_BYTES),
      iat: claims.time_s("iat"),
      exp: claims.time_s("exp"),
    };
    const life_s = delegation.exp - delegation.iat;
    if (life_s <= 0 || life_s > DELEGATION_LIFE_S_MAX) {
      throw new SealwireError("bad_token", "delegation: exp must be after iat, by a day at most");
    }
    return delegation;
  },
  toJson: ({ account, key, session, server, cert, nonce, iat, exp }) => ({
    account,
    key: key.jwk,
    session: ed25519Jwk(session),
    server,
    cert,
    nonce,
    iat,
    exp,
  }),
});

export function makeSessionKey(): SessionKeyPair {
  return ed25519KeyPair(generateKeyPairSync("ed25519").privateKey);
}

/**
 * Signs a delegation of `account` to `session`, valid from `now_s` for {@linkcode
 * DELEGATION_LIFE_S_MAX}.
 */
export function signDelegation(
  pair: RsaKeyPair,
  claims: Pick<Delegation, "account" | "session" | "server" | "cert" | "nonce">,
  now_s: number,
): Promise<Token<Delegation>> {
  const delegation = {
    ...claims,
    key: pair.publicKey,
    iat: now_s,
    exp: now_s + DELEGATION_LIFE_S_MAX,
  };
  return signToken(DELEGATION, delegation, pair.privateKey);
}

/** Parses a delegation without verifying it. Throws `bad_token`, `bad_key`, `bad_name`. */
export function parseDelegation(text: unknown): Token<Delegation> {
  return parseToken(DELEGATION, text);
}

/**
 * Parses a delegation and verifies it under the key that it names. The caller checks that this is
 * the account's key, and that the delegation is for this server and still holds: {@linkcode
 * requireValidFor}, and the ledger.
 *
 * @throws {SealwireError} `bad_token`, `bad_key`, `bad_name`, `bad_signature`.
 */
export async function verifyDelegation(text: unknown): Promise<Token<Delegation>> {
  const token = parseDelegation(text);
  await verifyToken(DELEGATION, token, token.claims.key.key);
  return token;
}

/** Whether what a peer signed at `iat` is further ahead of our clock than {@linkcode CLOCK_LEAD_S_MAX}. */
export function isFromFuture(iat: number, now_s: number): boolean {
  return iat > now_s + CLOCK_LEAD_S_MAX;
}

/** The server and moment that a delegation must be valid for. */
export interface DelegationContext {
  readonly server: Sha256;
  readonly now_s: number;
}

/** Why a delegation does not hold, as error codes. */
export type DelegationFlaw = keyof typeof FLAWS;

const FLAWS = {
  wrong_server: "the delegation is for another server",
  delegation_expired: "the delegation has expired: log in again",
  delegation_not_yet_valid: "the delegation is from the future: check the clock",
} as const;

/**
 * Returns why `delegation` does not hold in `context`, or undefined when it holds. The certificate
 * is judged at login only: a renewed one must not end orders that are under way.
 */
export function delegationFlaw(
  delegation: Delegation,
  context: DelegationContext,
): DelegationFlaw | undefined {
  if (delegation.server !== context.server) return "wrong_server";
  if (context.now_s >= delegation.exp) return "delegation_expired";
  if (isFromFuture(delegation.iat, context.now_s)) return "delegation_not_yet_valid";
  return undefined;
}

/** @throws {SealwireError} with a {@linkcode DelegationFlaw} as its code. */
export function requireValidFor(delegation: Delegation, context: DelegationContext): void {
  const flaw = delegationFlaw(delegation, context);
  if (flaw !== undefined) throw new SealwireError(flaw, FLAWS[flaw]);
}
