/**
 * Blocks: entries that were settled together, under one header that the server signs with its RSA key. Each header names the
 * one before it, so that one header vouches for all of history.
 */
import type { KeyObject } from "node:crypto";
import { SealwireError } from "../base/errors.ts";
import type { RsaPublicKey } from "../keys/rsa.ts";
import { Members, type Sha256 } from "../base/parse.ts";
import { defineToken, parseToken, signToken, type Token, verifyToken } from "../protocol/token.ts";

/** The most transfers of a block. */
export const BLOCK_TRANSFERS_MAX = 1_000;
/** A block may open accounts too, each with a transfer from the treasury. */
export const BLOCK_ENTRIES_MAX = 2 * BLOCK_TRANSFERS_MAX;
/** A header signed with 4096 bits fits. */
const HEADER_CHARACTERS_MAX = 2048;

export interface BlockHeader {
  /** 1 for the first block. */
  readonly height: number;
  /** SHA-256 of the previous header's text; null at height 1. */
  readonly prev: Sha256 | null;
  /** `seq` of the block's first entry. */
  readonly first: number;
  /** How many entries the block has. */
  readonly count: number;
  /** Merkle root over the exact texts of the entries. */
  readonly root: Sha256;
  /** When the block was made, in seconds since 1970; never less than the previous block's. */
  readonly time: number;
  /** Thumbprint of the server's key. */
  readonly server: Sha256;
}

const HEADER = defineToken<BlockHeader>({
  name: "block header",
  alg: "PS256",
  typ: "sealwire-block+jws",
  characters_max: HEADER_CHARACTERS_MAX,
  parse(value) {
    const claims = new Members(value, "block header", "bad_token");
    claims.constant("v", 1);
    const height = claims.integer("height", 1, Number.MAX_SAFE_INTEGER);
    return {
      height,
      prev: height === 1 ? claims.constant("prev", null) : claims.sha256("prev"),
      first: claims.integer("first", 1, Number.MAX_SAFE_INTEGER),
      count: claims.integer("count", 1, BLOCK_ENTRIES_MAX),
      root: claims.sha256("root"),
      time: claims.time_s("time"),
      server: claims.sha256("server"),
    };
  },
  toJson: ({ height, prev, first, count, root, time, server }) => ({
    v: 1,
    height,
    prev,
    first,
    count,
    root,
    time,
    server,
  }),
});

export type SignedHeader = Token<BlockHeader>;

export function signHeader(header: BlockHeader, serverKey: KeyObject): Promise<SignedHeader> {
  return signToken(HEADER, header, serverKey);
}

/** Parses a header without verifying it: for one that this machine stored itself. Throws `bad_token`. */
export function parseHeader(text: unknown): SignedHeader {
  return parseToken(HEADER, text);
}

/** @throws {SealwireError} `bad_token`, `bad_signature`: not a header, or not by this server's key. */
export async function verifyHeader(text: unknown, server: RsaPublicKey): Promise<SignedHeader> {
  const header = parseHeader(text);
  await verifyToken(HEADER, header, server.key);
  if (header.claims.server !== server.thumbprint) throw wrongServer();
  return header;
}

function wrongServer(): SealwireError {
  return new SealwireError(
    "wrong_server",
    "the block header names another server than the one whose key signed it",
  );
}
