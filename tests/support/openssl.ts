/** The `openssl` command line: it makes what a person brings along, and judges what we make. */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

/** Runs `openssl` in `folder` and gives its standard output; throws when it fails. */
export function openssl(folder: string, ...args: string[]): string {
  return execFileSync("openssl", args, { cwd: folder, encoding: "utf8", stdio: "pipe" });
}

/** An RSA public key of any numbers, as PEM: also such as nobody would generate. */
export function rsaPublicPem(folder: string, modulus: Uint8Array, exponent: number): string {
  const modulusHex = [...modulus].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const lines = [
    "asn1=SEQUENCE:key",
    "[key]",
    `n=INTEGER:0x${modulusHex}`,
    `e=INTEGER:${exponent}`,
    "",
  ];
  writeFileSync(join(folder, "key.cnf"), lines.join("\n"));
  openssl(folder, "asn1parse", "-genconf", "key.cnf", "-noout", "-out", "key.der");
  return openssl(folder, "rsa", "-RSAPublicKey_in", "-inform", "DER", "-in", "key.der", "-pubout");
}
