/**
 * Reads certificates, and writes a self-signed one for the server (X.509 v3, RFC 5280).
 *
 * node:crypto reads certificates and signs, but writes no certificates. This file adds the DER
 * around one signature. The packages that could do it bring their own cryptography (node-forge), or
 * two dozen dependencies with global side effects (@peculiar/x509). The signature, the key and the
 * random serial come from node:crypto.
 */
import { Buffer } from "node:buffer";
import {
  createHash,
  createPublicKey,
  type KeyObject,
  randomBytes,
  sign,
  X509Certificate,
} from "node:crypto";
import { isIP } from "node:net";
import { SealwireError } from "../base/errors.ts";
import type { Sha256 } from "../base/parse.ts";

const CERTIFICATE_BYTES_MAX = 65_536;

/**
 * How long a certificate is valid. Clients pin it, so its end protects nobody: after a theft the
 * operator makes a new one. But its end makes every client report a changed server. Hence ten
 * years.
 */
const VALIDITY_DAYS = 3650;
/** A certificate is valid from a day ago, for clients whose clock is behind. */
const BACKDATED_DAYS = 1;
const DAY_MS = 86_400_000;
/** The longest serial number that conforms (RFC 5280, 4.1.2.2). */
const SERIAL_BYTES = 20;
const SUBJECT = "Sealwire server";
const DNS_NAME_CHARACTERS_MAX = 253;
/** The most names in a certificate. More would only make each handshake longer. */
export const CERTIFICATE_HOSTS_MAX = 100;

/**
 * Parses a certificate, PEM or DER. Where a PEM text has several, parses the first.
 *
 * @throws {SealwireError} `bad_certificate`.
 */
export function parseCertificate(pemOrDer: string | Uint8Array): X509Certificate {
  try {
    if (pemOrDer.length > CERTIFICATE_BYTES_MAX) throw new RangeError("too long");
    return new X509Certificate(pemOrDer);
  } catch (cause) {
    throw new SealwireError("bad_certificate", "this is no X.509 certificate", { cause });
  }
}

/** Formats a certificate as PEM, without the text that may have stood around it in a file. */
export function certificatePem(certificate: X509Certificate): string {
  return pemArmour("CERTIFICATE", certificate.raw);
}

/** Returns the SHA-256 of the DER, as base64url. Throws `bad_certificate`. */
export function certificateSha256(pemOrDer: string | Uint8Array): Sha256 {
  const { raw } = parseCertificate(pemOrDer);
  return createHash("sha256").update(raw).digest("base64url") as Sha256;
}

/**
 * Returns the fingerprint for people: the SHA-256 of the DER, `AB:CD:…`, as
 * `openssl x509 -fingerprint -sha256` prints it.
 *
 * @throws {SealwireError} `bad_certificate`.
 */
export function certificateFingerprint(pemOrDer: string | Uint8Array): string {
  return parseCertificate(pemOrDer).fingerprint256;
}

/** Whether a certificate can name this host. It must be a DNS name or an IP literal. */
export function isCertificateHost(host: string): boolean {
  if (isIP(host) !== 0) return true;
  return host.length <= DNS_NAME_CHARACTERS_MAX &&
    /^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*$/i.test(host);
}

/**
 * Makes a certificate for `key` (EC P-256 or RSA), signed by that key, as PEM. It names `hosts`: at
 * most {@linkcode CERTIFICATE_HOSTS_MAX}, and each must pass {@linkcode isCertificateHost}.
 *
 * It is an end entity's certificate (CA false), so that nobody can issue certificates with a stolen
 * TLS key that a client would accept.
 */
export function selfSignedCertificate(
  key: KeyObject,
  options: { hosts: readonly string[]; now: Date },
): string {
  const algorithm = signatureAlgorithm(key);
  const serial = randomBytes(SERIAL_BYTES);
  // Positive (the first bit is clear) and of full length (the second bit is set).
  serial[0] = (serial[0]! & 0x7f) | 0x40;
  const subject = sequence(
    der(TAG.set, sequence(oid(OID.commonName), der(TAG.utf8String, Buffer.from(SUBJECT)))),
  );
  const start_ms = options.now.getTime();
  const toBeSigned = sequence(
    der(TAG.version, der(TAG.integer, Buffer.of(2))), // v3
    der(TAG.integer, serial),
    algorithm,
    subject, // as the issuer
    sequence(
      time(new Date(start_ms - BACKDATED_DAYS * DAY_MS)),
      time(new Date(start_ms + VALIDITY_DAYS * DAY_MS)),
    ),
    subject,
    createPublicKey(key).export({ type: "spki", format: "der" }),
    der(TAG.extensions, sequence(...extensions(options.hosts))),
  );
  const signature = sign("sha256", toBeSigned, key);
  return pemArmour("CERTIFICATE", sequence(toBeSigned, algorithm, bitString(0, signature)));
}

const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  utf8String: 0x0c,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
  dnsName: 0x82, // GeneralName [2]
  ipAddress: 0x87, // GeneralName [7]
  version: 0xa0, // TBSCertificate [0]
  extensions: 0xa3, // TBSCertificate [3]
} as const;

/** Object identifiers, DER content in hexadecimal. */
const OID = {
  commonName: "550403", // 2.5.4.3
  keyUsage: "551d0f", // 2.5.29.15
  subjectAltName: "551d11", // 2.5.29.17
  basicConstraints: "551d13", // 2.5.29.19
  extendedKeyUsage: "551d25", // 2.5.29.37
  serverAuth: "2b06010505070301", // 1.3.6.1.5.5.7.3.1
  ecdsaWithSha256: "2a8648ce3d040302", // 1.2.840.10045.4.3.2
  sha256WithRsa: "2a864886f70d01010b", // 1.2.840.113549.1.1.11
} as const;

function signatureAlgorithm(key: KeyObject): Uint8Array {
  // RFC 5758, 3.2: no parameters with ECDSA; RFC 4055, 5: NULL with RSA.
  if (key.asymmetricKeyType === "ec") return sequence(oid(OID.ecdsaWithSha256));
  if (key.asymmetricKeyType === "rsa") return sequence(oid(OID.sha256WithRsa), der(TAG.null));
  throw new SealwireError("bad_key", "a certificate is made over an EC or an RSA key only");
}

/** The extensions: what the key may do, and whose it is (RFC 5280, 4.2.1). */
function extensions(hosts: readonly string[]): Uint8Array[] {
  const DIGITAL_SIGNATURE = Buffer.of(0x80);
  const list = [
    extension(OID.basicConstraints, true, sequence()),
    extension(OID.keyUsage, true, bitString(7, DIGITAL_SIGNATURE)),
    extension(OID.extendedKeyUsage, false, sequence(oid(OID.serverAuth))),
  ];
  if (hosts.length > 0) {
    list.push(extension(OID.subjectAltName, false, sequence(...hosts.map(generalName))));
  }
  return list;
}

function extension(id: string, critical: boolean, value: Uint8Array): Uint8Array {
  const flag = critical ? [der(TAG.boolean, Buffer.of(0xff))] : [];
  return sequence(oid(id), ...flag, der(TAG.octetString, value));
}

function generalName(host: string): Uint8Array {
  if (isIP(host) === 4) return der(TAG.ipAddress, Buffer.from(host.split(".").map(Number)));
  if (isIP(host) === 6) return der(TAG.ipAddress, ipv6Bytes(host));
  return der(TAG.dnsName, Buffer.from(host, "ascii"));
}

/** Returns the 16 bytes of an IPv6 literal. Leaves a zone (`%eth0`) out, which is local. */
function ipv6Bytes(literal: string): Uint8Array {
  // The host of a URL has the short form of RFC 5952, without dotted decimals.
  const short = new URL(`http://[${literal.split("%")[0]}]/`).hostname.slice(1, -1);
  const [head = "", tail] = short.split("::");
  const groups = (text: string) => text === "" ? [] : text.split(":");
  const before = groups(head);
  const after = groups(tail ?? "");
  const zeros = new Array<string>(8 - before.length - after.length).fill("0");
  const all = [...before, ...zeros, ...after].map((group) => group.padStart(4, "0"));
  return Buffer.from(all.join(""), "hex");
}

/** UTCTime through 2049, GeneralizedTime from 2050 on, in whole seconds (RFC 5280, 4.1.2.5). */
function time(moment: Date): Uint8Array {
  const digits = moment.toISOString().replace(/\.\d+Z$/, "Z").replace(/[-:T]/g, "");
  const year = moment.getUTCFullYear();
  return year < 2050
    ? der(TAG.utcTime, Buffer.from(digits.slice(2), "ascii"))
    : der(TAG.generalizedTime, Buffer.from(digits, "ascii"));
}

function sequence(...contents: Uint8Array[]): Uint8Array {
  return der(TAG.sequence, ...contents);
}

function oid(contentHex: string): Uint8Array {
  return der(TAG.oid, Buffer.from(contentHex, "hex"));
}

function bitString(unusedBits: number, bits: Uint8Array): Uint8Array {
  return der(TAG.bitString, Buffer.of(unusedBits), bits);
}

/** Encodes one DER value: tag, shortest length, contents (X.690, 8.1 and 10.1). */
function der(tag: number, ...contents: Uint8Array[]): Uint8Array {
  const content = Buffer.concat(contents);
  if (content.length < 0x80) return Buffer.concat([Buffer.of(tag, content.length), content]);
  const lengthHex = content.length.toString(16);
  const length = Buffer.from(lengthHex.length % 2 === 0 ? lengthHex : `0${lengthHex}`, "hex");
  return Buffer.concat([Buffer.of(tag, 0x80 | length.length), length, content]);
}

/** Formats bytes as PEM: base64 in lines of 64 characters (RFC 7468). */
function pemArmour(label: string, bytes: Uint8Array): string {
  const lines = Buffer.from(bytes).toString("base64").match(/.{1,64}/g) ?? [];
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ""].join("\n");
}
