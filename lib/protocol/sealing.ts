/**
 * Seals offers and memos to their readers: JWE (RFC 7516) with RSA-OAEP-256 and A256GCM only, made
 * and opened by `jose`. Each kind has one constant protected header, which is checked before any
 * cryptography. So there is no `zip` to inflate and no other algorithm to choose.
 *
 * - An offer hands a signed order to the payee's own client: compact serialization, one recipient.
 * - A memo is text that payee and payer can read and the server cannot: general serialization, two
 *   recipients of one ciphertext, so that both read the same.
 */
import type { KeyObject } from "node:crypto";
import { compactDecrypt, CompactEncrypt, generalDecrypt, GeneralEncrypt } from "jose";
import { SealwireError } from "../base/errors.ts";
import type { RsaPublicKey } from "../keys/rsa.ts";
import { decodeBase64url, encodeBase64url, Members } from "../base/parse.ts";

/** The longest memo, as UTF-8. */
export const MEMO_BYTES_MAX = 140;
/** The longest sealed offer: an order with its memo and a delegation, once more in base64url. */
const OFFER_CHARACTERS_MAX = 24_576;

const ALGORITHMS = { alg: "RSA-OAEP-256", enc: "A256GCM" } as const;
const OPEN_OPTIONS = {
  keyManagementAlgorithms: [ALGORITHMS.alg],
  contentEncryptionAlgorithms: [ALGORITHMS.enc],
};
const OFFER_TYP = "sealwire-offer+jwe";
const MEMO_TYP = "sealwire-memo+jwe";
const OFFER_HEADER = headerSegment(OFFER_TYP);
const MEMO_HEADER = headerSegment(MEMO_TYP);
const COMPACT_SEGMENTS = 5;
const IV_BYTES = 12;
const TAG_BYTES = 16;
/** A wrapped key is as long as the RSA modulus: 256 to 512 bytes. */
const WRAPPED_KEY_CHARACTERS_MAX = 683;

/** A memo in transit. Payee first, payer second. */
export interface SealedMemo {
  readonly protected: string;
  readonly recipients: readonly [WrappedKey, WrappedKey];
  readonly iv: string;
  readonly ciphertext: string;
  readonly tag: string;
}

interface WrappedKey {
  readonly encrypted_key: string;
}

/** The content of an offer, as texts. */
export interface Offer {
  readonly order: string;
  readonly delegation: string;
  /** The newest checkpoint that the payer knows; null for none. */
  readonly checkpoint: string | null;
}

function headerSegment(typ: string): string {
  return encodeBase64url(new TextEncoder().encode(JSON.stringify({ ...ALGORITHMS, typ })));
}

export function sealOffer(offer: Offer, payee: RsaPublicKey): Promise<string> {
  const { order, delegation, checkpoint } = offer;
  const json = JSON.stringify({ order, delegation, checkpoint });
  return new CompactEncrypt(new TextEncoder().encode(json))
    .setProtectedHeader({ ...ALGORITHMS, typ: OFFER_TYP })
    .encrypt(payee.key);
}

/**
 * Opens an offer. Both tokens are still as untrusted as before.
 *
 * @throws {SealwireError} `bad_offer`, one sentence for every cause.
 */
export async function openOffer(sealed: unknown, privateKey: KeyObject): Promise<Offer> {
  const bad = (cause?: unknown) =>
    new SealwireError("bad_offer", "the offer is not sealed to this account, or is damaged", {
      cause,
    });
  if (typeof sealed !== "string" || sealed.length > OFFER_CHARACTERS_MAX) throw bad();
  const segments = sealed.split(".");
  if (segments.length !== COMPACT_SEGMENTS || segments[0] !== OFFER_HEADER) throw bad();
  if (segments.some((segment) => decodeBase64url(segment) === null)) throw bad();
  try {
    const { plaintext } = await compactDecrypt(sealed, privateKey, OPEN_OPTIONS);
    const members = new Members(JSON.parse(decodeUtf8(plaintext)), "offer", "bad_offer");
    return {
      order: members.text("order", OFFER_CHARACTERS_MAX),
      delegation: members.text("delegation", OFFER_CHARACTERS_MAX),
      checkpoint: members.raw("checkpoint") === null
        ? null
        : members.text("checkpoint", OFFER_CHARACTERS_MAX),
    };
  } catch (cause) {
    throw bad(cause);
  }
}

/** @throws {SealwireError} `memo_too_long` past {@linkcode MEMO_BYTES_MAX}. */
export async function sealMemo(
  text: string,
  payee: RsaPublicKey,
  payer: RsaPublicKey,
): Promise<SealedMemo> {
  const plaintext = new TextEncoder().encode(text);
  if (plaintext.length > MEMO_BYTES_MAX) {
    throw new SealwireError(
      "memo_too_long",
      `a memo has at most ${MEMO_BYTES_MAX} bytes, not ${plaintext.length}`,
    );
  }
  const jwe = await new GeneralEncrypt(plaintext)
    .setProtectedHeader({ ...ALGORITHMS, typ: MEMO_TYP })
    .addRecipient(payee.key)
    .addRecipient(payer.key)
    .encrypt();
  return parseSealedMemo(jwe);
}

/** @throws {SealwireError} `bad_token` when this is no sealed memo; nothing is opened. */
export function parseSealedMemo(value: unknown): SealedMemo {
  const members = new Members(value, "memo", "bad_token");
  const recipients = members.list("recipients", 2).map(parseWrappedKey);
  const [payee, payer] = recipients;
  if (payee === undefined || payer === undefined) {
    throw new SealwireError("bad_token", "memo: recipients must be payee and payer");
  }
  return {
    protected: members.constant("protected", MEMO_HEADER),
    recipients: [payee, payer],
    iv: members.bytes("iv", IV_BYTES),
    ciphertext: parseBase64url(
      members.text("ciphertext", MEMO_BYTES_MAX * 2),
      "ciphertext",
      MEMO_BYTES_MAX,
    ),
    tag: members.bytes("tag", TAG_BYTES),
  };
}

function parseWrappedKey(value: unknown): WrappedKey {
  const text = new Members(value, "memo recipient", "bad_token").text(
    "encrypted_key",
    WRAPPED_KEY_CHARACTERS_MAX,
  );
  return { encrypted_key: parseBase64url(text, "encrypted_key", WRAPPED_KEY_CHARACTERS_MAX) };
}

function parseBase64url(text: string, name: string, size_bytes_max: number): string {
  const bytes = decodeBase64url(text);
  if (bytes !== null && bytes.length <= size_bytes_max) return text;
  throw new SealwireError(
    "bad_token",
    `memo: ${name} is not base64url of at most ${size_bytes_max} bytes`,
  );
}

/**
 * Opens a memo. Returns null when it is not sealed to this key: a memo is a remark, and never a
 * reason to refuse money.
 */
export async function openMemo(memo: SealedMemo, privateKey: KeyObject): Promise<string | null> {
  const { protected: header, recipients, iv, ciphertext, tag } = memo;
  try {
    const jwe = {
      protected: header,
      recipients: recipients.map((key) => ({ ...key })),
      iv,
      ciphertext,
      tag,
    };
    return decodeUtf8((await generalDecrypt(jwe, privateKey, OPEN_OPTIONS)).plaintext);
  } catch {
    return null;
  }
}

/** @throws {TypeError} for anything but UTF-8. */
function decodeUtf8(bytes: Uint8Array): string {
  return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
}
