/**
 * Signed notes (C2SP signed-note): a text, an empty line, and a line for each signature over the
 * text.
 *
 *     sealwire/jbMZ3-9ZYl6vQnNO0kSe7pQv0dC4vJ1JcC3ZC7l9x3A
 *     700
 *     xw5zSZqcGcWQ2YSUvQUOs6ZGvzjJ96OX3OWj/t47JAc=
 *
 *     — sealwire/jbMZ3-9ZYl6vQnNO0kSe7pQv0dC4vJ1JcC3ZC7l9x3A pPmx1H/aLMPw31otKW7jgz3kJSZBg3rU…
 *
 * A signature line names its key, then base64 of 4 bytes of key ID and the signature. The key ID is
 * SHA-256(name ‖ 0x0A ‖ 0x01 ‖ public key)[:4] for Ed25519, type 0x01. Anyone may add signatures,
 * so a reader verifies those of the key it knows and ignores the rest. The only notes in Sealwire
 * are checkpoints, and their refusals have that code.
 */
import { Buffer } from "node:buffer";
import { createHash, sign, verify } from "node:crypto";
import { SealwireError } from "../base/errors.ts";
import { decodeBase64, encodeBase64 } from "../base/parse.ts";
import {
  ED25519_KEY_BYTES,
  ED25519_SIGNATURE_BYTES,
  ed25519Bytes,
  type Ed25519KeyPair,
  type Ed25519PublicKey,
  ed25519PublicKey,
} from "../keys/ed25519.ts";
import { sameHash } from "../protocol/merkle.ts";

/** Signature lines that a reader accepts; the specification asks for no fewer. */
const NOTE_SIGNATURES_MAX = 16;
/** Sixteen post-quantum signatures fit, each up to 6.2 kB in base64, and a short text. */
export const NOTE_CHARACTERS_MAX = 131_072;
const SIGNATURE_START = "— ";
const KEY_ID_BYTES = 4;
/** The signature type of plain Ed25519. */
const ED25519 = 0x01;
/** Neither a newline nor anything from the space on: an ASCII control character. */
const CONTROL = /[^\n -\u{10ffff}]/u;
const KEY_NAME = /^[^\p{White_Space}+]+$/u;
const VERIFIER_KEY = /^([^\p{White_Space}+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)$/u;

/** The public key that a note's signature is verified with, and the name it signs under. */
export interface NoteKey {
  readonly name: string;
  readonly publicKey: Ed25519PublicKey;
}

interface NoteSignature {
  readonly name: string;
  /** 4 bytes. */
  readonly keyId: Uint8Array;
  readonly signature: Uint8Array;
}

/**
 * Signs a text as a note with one signature.
 *
 * @throws {RangeError} when the text does not end with a newline, or no note can hold it or the
 * name.
 */
export function signNote(text: string, name: string, pair: Ed25519KeyPair): string {
  if (!text.endsWith("\n") || !isNoteText(text)) throw new RangeError("no text for a note");
  if (!KEY_NAME.test(name) || !isNoteText(name)) throw new RangeError("no name for a note's key");
  const signature = sign(null, Buffer.from(text, "utf8"), pair.privateKey);
  const id = keyId({ name, publicKey: pair.publicKey });
  return `${text}\n${formatSignature({ name, keyId: id, signature })}`;
}

function formatSignature({ name, keyId, signature }: NoteSignature): string {
  return `${SIGNATURE_START}${name} ${encodeBase64(Buffer.concat([keyId, signature]))}\n`;
}

/** A note whose signature by one key is verified. */
export interface OpenedNote {
  /** The signed text, with its last newline. */
  readonly text: string;
  /**
   * The note with that signature and no other. Anyone may add signatures, 131,072 characters of
   * them, and files and requests have less room.
   */
  readonly alone: string;
}

/**
 * Verifies the signature by `key` and opens the note. If there are several by that key, all must
 * hold.
 *
 * @throws {SealwireError} `bad_checkpoint` when it is no note, carries more than 16 signatures,
 * none by `key`, or a wrong one.
 */
export function openNote(note: unknown, key: NoteKey): OpenedNote {
  const { text, signatures } = parseNote(note);
  const id = keyId(key);
  const known = signatures.filter((line) => line.name === key.name && sameHash(line.keyId, id));
  if (known.length === 0) throw badNote(`carries no signature by ${formatVerifierKey(key)}`);
  const signed = Buffer.from(text, "utf8");
  for (const { signature } of known) {
    const holds = signature.length === ED25519_SIGNATURE_BYTES &&
      verify(null, signed, key.publicKey.key, signature);
    if (!holds) throw badNote(`carries a wrong signature under the name ${key.name}`);
  }
  return { text, alone: `${text}\n${formatSignature(known[0]!)}` };
}

/** Splits a note into its text and signature lines. Verifies nothing. */
function parseNote(note: unknown): { text: string; signatures: NoteSignature[] } {
  if (typeof note !== "string" || note.length > NOTE_CHARACTERS_MAX) {
    throw badNote(`is not text of at most ${NOTE_CHARACTERS_MAX} characters`);
  }
  if (!isNoteText(note)) throw badNote("holds control characters or is not Unicode");
  // The text may hold empty lines of its own, the signatures cannot.
  const split = note.lastIndexOf("\n\n");
  if (split < 0 || !note.endsWith("\n")) throw badNote("is not a signed note");
  const lines = note.slice(split + 2, -1).split("\n");
  if (lines.length > NOTE_SIGNATURES_MAX) {
    throw badNote(`carries more than ${NOTE_SIGNATURES_MAX} signatures`);
  }
  return { text: note.slice(0, split + 1), signatures: lines.map(parseSignature) };
}

function parseSignature(line: string): NoteSignature {
  const [name, base64, ...rest] = line.slice(SIGNATURE_START.length).split(" ");
  const bytes = decodeBase64(base64 ?? "");
  if (
    !line.startsWith(SIGNATURE_START) || !KEY_NAME.test(name!) || rest.length > 0 ||
    bytes === null || bytes.length <= KEY_ID_BYTES
  ) {
    throw badNote("has a malformed signature line");
  }
  return {
    name: name!,
    keyId: bytes.subarray(0, KEY_ID_BYTES),
    signature: bytes.subarray(KEY_ID_BYTES),
  };
}

/**
 * The verifier key, for people and for other tools: name, key ID in hexadecimal, and base64 of 0x01
 * and the public key, joined by `+`.
 */
export function formatVerifierKey(key: NoteKey): string {
  const id = Buffer.from(keyId(key)).toString("hex");
  return `${key.name}+${id}+${encodeBase64(typedKey(key.publicKey))}`;
}

/** @throws {SealwireError} `bad_key` when it is not the verifier key of a sound Ed25519 key. */
export function parseVerifierKey(text: string): NoteKey {
  const bad = (why: string) => new SealwireError("bad_key", `the verifier key ${why}`);
  const [, name, id, base64] = text.isWellFormed() ? VERIFIER_KEY.exec(text) ?? [] : [];
  const bytes = decodeBase64(base64 ?? "");
  if (name === undefined || bytes === null) throw bad("is not name+hash+key");
  if (bytes.length !== 1 + ED25519_KEY_BYTES || bytes[0] !== ED25519) {
    throw bad("is of another kind than Ed25519");
  }
  const key = { name, publicKey: ed25519PublicKey(bytes.slice(1), "the verifier key") };
  if (Buffer.from(keyId(key)).toString("hex") !== id) throw bad("does not fit its hash");
  return key;
}

/** Returns 4 bytes that, with the name, say which key made a signature. */
function keyId({ name, publicKey }: NoteKey): Uint8Array {
  const hash = createHash("sha256").update(`${name}\n`, "utf8").update(typedKey(publicKey));
  return hash.digest().subarray(0, KEY_ID_BYTES);
}

/** The signature type, then the public key: 33 bytes. */
function typedKey(publicKey: Ed25519PublicKey): Uint8Array {
  return Uint8Array.of(ED25519, ...ed25519Bytes(publicKey));
}

/** Whether `text` has a UTF-8 form and no control characters but newlines. */
function isNoteText(text: string): boolean {
  return text.isWellFormed() && !CONTROL.test(text);
}

function badNote(why: string): SealwireError {
  return new SealwireError("bad_checkpoint", `the checkpoint ${why}`);
}
