/**
 * Invites: codes that let one person each open an account where registration is by invite.
 *
 * A code is made and recognised with the server's keys alone, so nothing is stored until it is used:
 *
 *     code = base64url(nonce (10 bytes) ‖ opening balance (6 bytes, minor units) ‖ MAC (12 bytes))
 *
 * The MAC is HMAC-SHA-256 under the seal key, cut to 96 bits, over nonce and balance. The id of the
 * account's opening is made of the code, and an id is used once for ever. So is the code. The entry
 * `account.open` has the code as its member `invite`: used up, it is no secret any more. With it an
 * audit finds that every account was invited by this server, and that no code was used twice.
 *
 * A code cannot be taken back. Whoever gives out codes by mistake closes registration.
 */
import { Buffer } from "node:buffer";
import { createHash, randomBytes } from "node:crypto";
import { SealwireError } from "../base/errors.ts";
import { decodeBase64url, encodeBase64url, type Uuid } from "../base/parse.ts";

const NONCE_BYTES = 10;
const BALANCE_BYTES = 6;
const MAC_BYTES = 12;
const CODE_BYTES = NONCE_BYTES + BALANCE_BYTES + MAC_BYTES;
const INVITE_CHARACTERS = Math.ceil(CODE_BYTES * 4 / 3);
/** The highest opening balance that a code can carry, in minor units. */
export const INVITE_BALANCE_MAX = 2n ** BigInt(BALANCE_BYTES * 8) - 1n;

/** Makes the MAC of a code. `Seals` is one. */
export interface InviteSealer {
  /** HMAC-SHA-256 as base64url. */
  invite(content: string): string;
}

/** An invite that this server made. */
export interface Invite {
  readonly code: string;
  /** The id under which the account is opened. */
  readonly id: Uuid;
  /** What the account opens with, in minor units. */
  readonly balance: bigint;
}

/** `balance`: at most {@linkcode INVITE_BALANCE_MAX}. */
export function makeInvite(seals: InviteSealer, balance: bigint): Invite {
  const content = Buffer.alloc(NONCE_BYTES + BALANCE_BYTES);
  randomBytes(NONCE_BYTES).copy(content);
  content.writeUIntBE(Number(balance), NONCE_BYTES, BALANCE_BYTES);
  return invite(content, seals);
}

/** @throws {SealwireError} `bad_invite` for a code that this server did not make. */
export function openInvite(seals: InviteSealer, code: unknown): Invite {
  const bytes = typeof code === "string" && code.length === INVITE_CHARACTERS
    ? decodeBase64url(code)
    : null;
  if (bytes !== null) {
    const content = Buffer.from(bytes.subarray(0, NONCE_BYTES + BALANCE_BYTES));
    const expected = invite(content, seals);
    // Compared as hashes, so that timing tells nothing of the code.
    if (sha256(expected.code).equals(sha256(code as string))) return expected;
  }
  throw new SealwireError("bad_invite", "this is no invite of this server: check the code");
}

function invite(content: Buffer, seals: InviteSealer): Invite {
  const mac = Buffer.from(seals.invite(content.toString("hex")), "base64url");
  const code = encodeBase64url(Buffer.concat([content, mac.subarray(0, MAC_BYTES)]));
  const hash = sha256(code).toString("hex");
  const id = [[0, 8], [8, 12], [12, 16], [16, 20], [20, 32]]
    .map(([from, to]) => hash.slice(from, to)).join("-") as Uuid;
  return { code, id, balance: BigInt(content.readUIntBE(NONCE_BYTES, BALANCE_BYTES)) };
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text, "utf8").digest();
}
