/**
 * Tokens that our own code would never make, signed as they should be, so that nothing but
 * strictness can refuse them. Made with node:crypto alone.
 */
import { Buffer } from "node:buffer";
import { constants, type KeyObject, sign } from "node:crypto";

const SALT_BYTES = 32;

/** A compact JWS over exactly these bytes: an Ed25519 key makes EdDSA of it, an RSA key PS256. */
export function rawToken(header: string, payload: string | Uint8Array, key: KeyObject): string {
  const input = `${Buffer.from(header).toString("base64url")}.${
    Buffer.from(payload).toString("base64url")
  }`;
  const signature = key.asymmetricKeyType === "ed25519"
    ? sign(null, Buffer.from(input), key)
    : sign("sha256", Buffer.from(input), {
      key,
      padding: constants.RSA_PKCS1_PSS_PADDING,
      saltLength: SALT_BYTES,
    });
  return `${input}.${signature.toString("base64url")}`;
}

/** The header and payload of a token, as text. */
export function partsOf(token: string): { header: string; payload: string } {
  const [header, payload] = token.split(".").map((part) =>
    Buffer.from(part, "base64url").toString()
  );
  return { header: header!, payload: payload! };
}

const BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/** `text` with another character of base64url at `position`, the next one of the alphabet. */
export function withNextCharacter(text: string, position: number): string {
  const at = (BASE64URL.indexOf(text.charAt(position)) + 1) % BASE64URL.length;
  return text.slice(0, position) + BASE64URL.charAt(at) + text.slice(position + 1);
}

/** `text` with each other character of base64url in its last place. */
export function otherLastCharacters(text: string): string[] {
  return [...BASE64URL].filter((character) => character !== text.at(-1)).map((character) =>
    text.slice(0, -1) + character
  );
}
