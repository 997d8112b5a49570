/** Self-signed certificates as `openssl` makes them. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openssl } from "./openssl.ts";

/** PEM. */
export interface Certificate {
  cert: string;
  key: string;
}

const EC_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

/**
 * `openssl ca` alone of all subcommands signs for a time that is past in every version of OpenSSL.
 */
const CA_CONFIG = `
[ca]
default_ca = this
[this]
database = index.txt
rand_serial = yes
new_certs_dir = .
default_md = sha256
policy = any
[any]
commonName = supplied
[v3]
basicConstraints = CA:TRUE
`;

/**
 * A P-256 key and a certificate over it, valid for 30 days: `<name>_key.pem` and `<name>_cert.pem`
 * in the folder.
 */
export function makeCertificate(folder: string, name: string): Certificate {
  const files = ["-keyout", `${name}_key.pem`, "-out", `${name}_cert.pem`];
  openssl(folder, "req", "-x509", ...EC_KEY, ...files, "-subj", `/CN=${name}`, "-days", "30");
  return readCertificate(folder, name);
}

/**
 * The same, but it was valid in January 2020 only; X.509 version 3, or 1, which has no extensions.
 */
export function makeExpiredCertificate(
  folder: string,
  name: string,
  version: 1 | 3 = 3,
): Certificate {
  writeFileSync(join(folder, "ca.cnf"), CA_CONFIG);
  writeFileSync(join(folder, "index.txt"), "");
  const files = ["-keyout", `${name}_key.pem`, "-out", `${name}.csr`];
  openssl(folder, "req", "-new", ...EC_KEY, ...files, "-subj", `/CN=${name}`);
  const signing = ["-config", "ca.cnf", "-selfsign", "-batch", "-notext"];
  const signed = ["-keyfile", `${name}_key.pem`, "-in", `${name}.csr`, "-out", `${name}_cert.pem`];
  const validity = ["-startdate", "20200101000000Z", "-enddate", "20200201000000Z"];
  const extensions = version === 3 ? ["-extensions", "v3"] : [];
  openssl(folder, "ca", ...signing, ...signed, ...validity, ...extensions);
  return readCertificate(folder, name);
}

/** One that the key of `<issuer>_cert.pem` has signed. */
export function makeIssuedCertificate(folder: string, name: string, issuer: string): Certificate {
  const files = ["-keyout", `${name}_key.pem`, "-out", `${name}.csr`];
  openssl(folder, "req", "-new", ...EC_KEY, ...files, "-subj", `/CN=${name}`);
  const signing = ["-CA", `${issuer}_cert.pem`, "-CAkey", `${issuer}_key.pem`, "-CAcreateserial"];
  const signed = ["-in", `${name}.csr`, "-out", `${name}_cert.pem`, "-days", "30"];
  openssl(folder, "x509", "-req", ...signing, ...signed);
  return readCertificate(folder, name);
}

function readCertificate(folder: string, name: string): Certificate {
  const read = (suffix: string) => readFileSync(join(folder, `${name}_${suffix}.pem`), "utf8");
  return { cert: read("cert"), key: read("key") };
}
