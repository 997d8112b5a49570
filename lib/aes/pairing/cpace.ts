/**
 * CPace (draft-irtf-cfrg-cpace) with ristretto255 and SHA-512, in the initiator-responder setting.
 * It turns a short code that both ends know into a strong key. An attacker in the middle or at the
 * other end can try one code per run, and learns nothing that helps to try others.
 *
 *     g   = map to a point of SHA-512(generator string of the code)
 *     Ya  = g·ya, sent by the initiator; Yb = g·yb, sent by the responder
 *     K   = Yb·ya = Ya·yb
 *     ISK = SHA-512(lv("CPaceRistretto255_ISK") ‖ lv(sid) ‖ lv(K)
 *                   ‖ lv(Ya) ‖ lv(ADa) ‖ lv(Yb) ‖ lv(ADb))
 *
 * lv(x) is the length of x in LEB128, then x. The names in quotes below are the draft's.
 */
import { ristretto255, ristretto255_hasher } from "@noble/curves/ed25519.js";
import { sha512 } from "@noble/hashes/sha2.js";
import { bytesToHex, concatBytes, randomBytes, utf8ToBytes } from "@noble/hashes/utils.js";
import { SealwireError } from "../../base/errors.ts";

/** The size of an encoded point. */
export const POINT_BYTES = 32;

const DSI = utf8ToBytes("CPaceRistretto255");
const DSI_ISK = utf8ToBytes("CPaceRistretto255_ISK");
/**
 * The input block of SHA-512. Zeros fill the first block, so that hashing takes the same time for
 * every code.
 */
const HASH_BLOCK_BYTES = 128;
/** Twice the size of a scalar, so that reduction leaves no bias. */
const SCALAR_SEED_BYTES = 64;

/** What both ends must agree on beforehand. */
export interface CPaceContext {
  /** The code, PRS in the draft. */
  readonly code: Uint8Array;
  /** The channel identifier, CI. */
  readonly channel: Uint8Array;
  /** The session id, sid. Fresh for each run. */
  readonly sid: Uint8Array;
}

/** The two public shares, and the data that is bound to each. */
export interface CPaceTranscript {
  /** Ya, 32 bytes. */
  readonly initiatorShare: Uint8Array;
  readonly initiatorData: Uint8Array;
  /** Yb, 32 bytes. */
  readonly responderShare: Uint8Array;
  readonly responderData: Uint8Array;
}

/** This end's secret scalar, and the share that was made from it. */
export interface CPaceShare {
  readonly scalar: bigint;
  /** 32 bytes, to be sent. */
  readonly share: Uint8Array;
}

/** Joins the bytes that are hashed to the generator ("generator_string"). */
export function generatorString({ code, channel, sid }: CPaceContext): Uint8Array {
  const prefix = concatBytes(lengthAndValue(DSI), lengthAndValue(code));
  const zeros_bytes = Math.max(0, HASH_BLOCK_BYTES - 1 - prefix.length);
  const zeros = lengthAndValue(new Uint8Array(zeros_bytes));
  return concatBytes(prefix, zeros, lengthAndValue(channel), lengthAndValue(sid));
}

/** Computes the encoded generator of a run, 32 bytes ("calculate_generator"). */
export function generator(context: CPaceContext): Uint8Array {
  return ristretto255_hasher.deriveToCurve!(sha512(generatorString(context))).toBytes();
}

/** Makes a fresh secret, and the share to send ("sample_scalar", "scalar_mult"). */
export function makeShare(context: CPaceContext): CPaceShare {
  return shareOf(context, randomScalar());
}

/** Does the same as {@linkcode makeShare} with a given scalar. For test vectors only. */
export function shareOf(context: CPaceContext, scalar: bigint): CPaceShare {
  const point = ristretto255.Point.fromBytes(generator(context)).multiply(scalar);
  return { scalar, share: point.toBytes() };
}

/**
 * Computes K, 32 bytes ("scalar_mult_vfy").
 *
 * @throws {SealwireError} `handshake_failed` where the other end's share is not the canonical
 * encoding of a point, or is the neutral element, whose multiples do not depend on the secret.
 */
export function sharedPoint(scalar: bigint, remoteShare: Uint8Array): Uint8Array {
  let point;
  try {
    point = ristretto255.Point.fromBytes(remoteShare);
  } catch (cause) {
    throw invalidShare(cause);
  }
  if (point.is0()) throw invalidShare();
  return point.multiply(scalar).toBytes();
}

/** Computes ISK (64 bytes) of the initiator-responder setting from the shared point K. */
export function sessionKey(
  sid: Uint8Array,
  sharedPoint: Uint8Array,
  transcript: CPaceTranscript,
): Uint8Array {
  const { initiatorShare, initiatorData, responderShare, responderData } = transcript;
  const parts = [DSI_ISK, sid, sharedPoint];
  parts.push(initiatorShare, initiatorData, responderShare, responderData);
  return sha512(concatBytes(...parts.map(lengthAndValue)));
}

function lengthAndValue(bytes: Uint8Array): Uint8Array {
  const length = [];
  let rest = bytes.length;
  for (; rest >= 0x80; rest >>= 7) length.push(rest & 0x7f | 0x80);
  length.push(rest);
  return concatBytes(Uint8Array.from(length), bytes);
}

function randomScalar(): bigint {
  const { Fn } = ristretto255.Point;
  // Zero comes up once in 2^252 times. The draft asks for another number then.
  for (;;) {
    const scalar = Fn.create(BigInt(`0x${bytesToHex(randomBytes(SCALAR_SEED_BYTES))}`));
    if (scalar !== 0n) return scalar;
  }
}

function invalidShare(cause?: unknown): SealwireError {
  return new SealwireError("handshake_failed", "the other end sent an invalid share", { cause });
}
