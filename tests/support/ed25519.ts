/** Ed25519 keys of known seeds. */
import { Buffer } from "node:buffer";
import { createPrivateKey } from "node:crypto";
import { type Ed25519KeyPair, ed25519KeyPair } from "../../lib/keys/ed25519.ts";

/** All that comes before the seed in PKCS #8 (RFC 8410, 7). */
const PKCS8_START = Buffer.from("302e020100300506032b657004220420", "hex");

/** The pair of a 32-byte seed. */
export function ed25519PairOfSeed(seed: Uint8Array): Ed25519KeyPair {
  const der = Buffer.concat([PKCS8_START, seed]);
  return ed25519KeyPair(createPrivateKey({ key: der, format: "der", type: "pkcs8" }));
}
