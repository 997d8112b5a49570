/**
 * The server statement vouches for the TLS certificate and for the Ed25519 key that signs the
 * ledger's checkpoints. The server's RSA key signs nothing else, and clients pin only that key.
 */
import { SealwireError } from "../base/errors.ts";
import type { Sha256 } from "../base/parse.ts";
import { ed25519Jwk, type Ed25519PublicKey, parseEd25519Jwk } from "../keys/ed25519.ts";
import { parseRsaPublicJwk, type RsaKeyPair, type RsaPublicKey } from "../keys/rsa.ts";
import { defineToken, parseToken, signToken, type Token, verifyToken } from "./token.ts";

/** Room for a 4096-bit key and its signature. */
export const STATEMENT_CHARACTERS_MAX = 4096;

export interface ServerStatement {
  /** The server's RSA key, which signs this. */
  readonly server: RsaPublicKey;
  /** SHA-256 of the server's TLS certificate, DER. */
  readonly cert: Sha256;
  /** The key that signs checkpoints. It never changes. */
  readonly log: Ed25519PublicKey;
  /** Later for each new certificate, so that a stolen old certificate is no way back. */
  readonly iat: number;
}

const STATEMENT = defineToken<ServerStatement>({
  name: "server statement",
  alg: "PS256",
  typ: "sealwire-server+jws",
  characters_max: STATEMENT_CHARACTERS_MAX,
  parse(claims) {
    return {
      server: parseRsaPublicJwk(claims.raw("server")),
      cert: claims.sha256("cert"),
      log: parseEd25519Jwk(claims.object("log"), "the log key"),
      iat: claims.time_s("iat"),
    };
  },
  toJson: ({ server, cert, log, iat }) => ({
    server: server.jwk,
    cert,
    log: ed25519Jwk(log),
    iat,
  }),
});

export type SignedStatement = Token<ServerStatement>;

export function signStatement(
  pair: RsaKeyPair,
  claims: Omit<ServerStatement, "server">,
): Promise<SignedStatement> {
  return signToken(STATEMENT, { ...claims, server: pair.publicKey }, pair.privateKey);
}

/**
 * Parses a statement and verifies it under the key that it names. The caller checks that this is
 * the pinned key.
 *
 * @throws {SealwireError} `bad_token`, `bad_key`, `bad_signature`.
 */
export async function verifyStatement(text: unknown): Promise<SignedStatement> {
  const token = parseToken(STATEMENT, text);
  await verifyToken(STATEMENT, token, token.claims.server.key);
  return token;
}

/**
 * @throws {SealwireError} `wrong_server` when another RSA key than `server` signed the statement.
 */
export async function verifyStatementOf(
  text: unknown,
  server: RsaPublicKey,
): Promise<SignedStatement> {
  const token = parseToken(STATEMENT, text);
  if (token.claims.server.thumbprint !== server.thumbprint) {
    throw new SealwireError("wrong_server", "the statement is by another server's key");
  }
  await verifyToken(STATEMENT, token, server.key);
  return token;
}

/**
 * Parses a statement without verifying it, to find out which server it claims to be from. Throws
 * `bad_token`, `bad_key`.
 */
export function parseStatement(text: unknown): SignedStatement {
  return parseToken(STATEMENT, text);
}
