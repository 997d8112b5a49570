/** Tools that share none of our code, and what they say of a receipt: Python for the hashes, openssl for the signatures. */
import { execFileSync } from "node:child_process";
import type { KeyObject } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openssl } from "./openssl.ts";
import { temporaryFolder } from "./support.ts";

const SCRIPT = fileURLToPath(new URL("../long/independent_receipt.py", import.meta.url));

export interface CheckedReceipt {
  readonly folder: string;
  readonly payer: string;
  readonly payee: string;
  readonly amount: string;
  readonly failed: readonly string[];
}

/** Lets the script check a receipt. In `folder` are then the inputs of all signatures. */
export function checkReceipt(receipt: string, serverKey: KeyObject): CheckedReceipt {
  const folder = temporaryFolder();
  const [receiptPath, keyPath] = [join(folder, "receipt.txt"), join(folder, "server.der")];
  writeFileSync(receiptPath, receipt);
  writeFileSync(keyPath, serverKey.export({ type: "spki", format: "der" }));
  const args = [SCRIPT, receiptPath, keyPath, folder];
  const stdout = execFileSync("python3", args, { encoding: "utf8", stdio: "pipe" });
  return { ...JSON.parse(stdout), folder };
}

const PSS = ["rsa_padding_mode:pss", "rsa_pss_saltlen:32", "rsa_mgf1_md:sha256"]
  .flatMap((option) => ["-sigopt", option]);

/** Verifies the signature of a JWS under an RSA key in DER. Throws what openssl says when it is wrong. */
export function verifyRsa(folder: string, name: string, key: string): string {
  const files = ["-signature", `${name}.signature`, `${name}.input`];
  return openssl(folder, "dgst", "-sha256", ...PSS, "-keyform", "DER", "-verify", key, ...files);
}

/** Verifies a signature of the order or the checkpoint, as {@linkcode verifyRsa} does. */
export function verifyEd25519(folder: string, name: string): string {
  const key = ["-pubin", "-keyform", "DER", "-inkey", `${name}.der`];
  const files = ["-sigfile", `${name}.signature`, "-in", `${name}.input`];
  return openssl(folder, "pkeyutl", "-verify", "-rawin", ...key, ...files);
}
