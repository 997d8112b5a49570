/**
 * Loads the four key files of a server, and makes those that are missing: the RSA pair, which is the
 * server to its clients, and the TLS certificate with a key of its own. Files that `openssl req
 * -x509` made are used as they are. A certificate that exists is never made again.
 */
import { generateKeyPair, type KeyObject, type X509Certificate } from "node:crypto";
import { join } from "node:path";
import { promisify } from "node:util";
import {
  CERTIFICATE_HOSTS_MAX,
  certificatePem,
  certificateSha256,
  isCertificateHost,
  parseCertificate,
  selfSignedCertificate,
} from "./certificate.ts";
import { isSealwireError, SealwireError } from "../base/errors.ts";
import { PRIVATE_FILE_MODE, PUBLIC_FILE_MODE } from "../base/files.ts";
import {
  createKeyFile,
  loadPrivateKey,
  namingFile,
  openPair,
  privateKeyPem,
  readKeyFile,
  type Warnings,
} from "./key_files.ts";
import type { RsaKeyPair } from "./rsa.ts";
import type { Sha256 } from "../base/parse.ts";

const RENEWAL = "move server_cert.pem away and start again to have a new one made " +
  "(clients accept it, because the server's RSA key vouches for it)";

export interface ServerKeys {
  readonly pair: RsaKeyPair;
  readonly certificatePem: string;
  /** The SHA-256 of the certificate's DER. */
  readonly certificateSha256: Sha256;
  /** The private key that fits the certificate, PKCS #8. */
  readonly tlsKeyPem: string;
}

/**
 * Loads or makes the server's RSA pair, its certificate and the TLS key. `made` lists the paths of
 * new files. `hosts` are the DNS names and IP literals in the subjectAltName of a new certificate.
 *
 * @throws {SealwireError} `key_missing`, `key_unreadable`, `bad_key`, `key_mismatch`,
 * `bad_certificate`, `certificate_expired` (or not yet valid), `folder_unwritable`.
 */
export async function loadOrMakeServerKeys(
  folder: string,
  options: { hosts: string[]; now: Date },
): Promise<{ keys: ServerKeys; made: string[]; warnings: Warnings }> {
  const { pair, made, warnings } = await openPair(folder, "server", { makeMissing: true });
  const certificatePath = join(folder, "server_cert.pem");
  if (readKeyFile(certificatePath) === null) {
    await makeCertificate(folder, certificatePath, { ...options, made, warnings });
  }
  const certificate = loadCertificate(certificatePath);
  requireInDate(certificate, certificatePath, options.now);
  const tlsKey = findTlsKey(folder, certificate, warnings);
  const keys = {
    pair,
    certificatePem: certificatePem(certificate),
    certificateSha256: certificateSha256(certificate.raw),
    tlsKeyPem: privateKeyPem(tlsKey),
  };
  return { keys, made, warnings };
}

/**
 * Loads a certificate from a file. Does not check its dates.
 *
 * @throws {SealwireError} `key_missing`, `key_unreadable`, `bad_certificate`.
 */
export function loadCertificate(path: string): X509Certificate {
  const pem = readKeyFile(path);
  if (pem === null) throw new SealwireError("key_missing", `there is no ${path}`);
  return namingFile(path, () => parseCertificate(pem));
}

/** Makes a certificate for `server_key.pem`, a key of its own that cannot sign the ledger. */
async function makeCertificate(
  folder: string,
  path: string,
  options: { hosts: string[]; now: Date; made: string[]; warnings: Warnings },
): Promise<void> {
  const keyPath = join(folder, "server_key.pem");
  if (readKeyFile(keyPath) === null) {
    const { privateKey } = await promisify(generateKeyPair)("ec", { namedCurve: "P-256" });
    createKeyFile(keyPath, privateKeyPem(privateKey), PRIVATE_FILE_MODE, options.made);
  }
  const key = loadPrivateKey(keyPath, []);
  if (key === null) throw new SealwireError("key_missing", `${keyPath} has just disappeared`);
  const wanted = [...new Set(options.hosts.map((host) => host.toLowerCase()))];
  const hosts = wanted.filter(isCertificateHost).slice(0, CERTIFICATE_HOSTS_MAX);
  const leftOut = wanted.filter((host) => !hosts.includes(host));
  if (leftOut.length > 0) {
    options.warnings.push(`${path} does not name these hosts: ${leftOut.join(", ")}`);
  }
  const pem = namingFile(keyPath, () => selfSignedCertificate(key, { hosts, now: options.now }));
  createKeyFile(path, pem, PUBLIC_FILE_MODE, options.made);
}

/** Finds the key that fits the certificate. The other one may be unusable without an error. */
function findTlsKey(folder: string, certificate: X509Certificate, warnings: Warnings): KeyObject {
  const paths = ["server_key.pem", "server_private.pem"].map((name) => join(folder, name));
  let unusable: SealwireError | null = null;
  for (const path of paths) {
    try {
      const remarks: Warnings = [];
      const key = loadPrivateKey(path, remarks);
      if (key === null || !certificate.checkPrivateKey(key)) continue;
      // The file of the RSA pair was remarked upon already.
      warnings.push(...remarks.filter((remark) => !warnings.includes(remark)));
      if (unusable) warnings.push(`${unusable.message} (not needed: ${path} fits)`);
      return key;
    } catch (error) {
      if (!isSealwireError(error)) throw error;
      unusable = error;
    }
  }
  if (unusable) throw unusable;
  throw new SealwireError(
    "key_mismatch",
    `neither ${paths.join(" nor ")} is the private key of ${join(folder, "server_cert.pem")}: ` +
      `put the right key in server_key.pem, or ${RENEWAL}`,
  );
}

function requireInDate(certificate: X509Certificate, path: string, now: Date): void {
  const from = new Date(certificate.validFrom);
  const to = new Date(certificate.validTo);
  if (now >= from && now <= to) return;
  const shown = (moment: Date) => moment.toISOString().replace(/\.\d+Z$/, "Z");
  throw new SealwireError(
    "certificate_expired",
    `${path} is valid from ${shown(from)} to ${shown(to)}, and now it is ${shown(now)}: ` +
      `check the clock, or ${RENEWAL}`,
  );
}
