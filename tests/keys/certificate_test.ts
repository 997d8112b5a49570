import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { connect, createServer } from "node:tls";
import {
  certificateFingerprint,
  certificatePem,
  certificateSha256,
  isCertificateHost,
  parseCertificate,
  selfSignedCertificate,
} from "../../lib/keys/certificate.ts";
import { openssl } from "../support/openssl.ts";
import { refusalOf } from "../support/refusal.ts";
import { temporaryFolder } from "../support/support.ts";

const KEYS: Record<string, KeyObject> = {
  "EC P-256": generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey,
  "RSA": generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey,
};
const EC_KEY = KEYS["EC P-256"]!;
const HOSTS = [
  "localhost",
  "a_b.example.org",
  "127.0.0.1",
  "::1",
  "fe80::1:2%eth0",
  "::ffff:1.2.3.4",
];

/** Writes a certificate to `cert.pem` in a folder of its own. */
function certificateFile(key: KeyObject, hosts = HOSTS, now = new Date()) {
  const folder = temporaryFolder();
  const pem = selfSignedCertificate(key, { hosts, now });
  writeFileSync(join(folder, "cert.pem"), pem);
  return { folder, pem };
}

function x509(folder: string, ...args: string[]): string {
  return openssl(folder, "x509", "-in", "cert.pem", "-noout", ...args).trim();
}

for (const [kind, key] of Object.entries(KEYS)) {
  test(`openssl verifies a self-made certificate over ${kind} strictly, by itself alone`, () => {
    const { folder } = certificateFile(key);
    const verify = ["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "cert.pem"];
    assert.match(openssl(folder, ...verify, "cert.pem"), /cert\.pem: OK/);
  });

  test(`a TLS client that pins a certificate over ${kind} connects`, async () => {
    const { pem } = certificateFile(key);
    const keyPem = key.export({ type: "pkcs8", format: "pem" });
    const server = createServer({ cert: pem, key: keyPem }, (socket) => socket.end("welcome"));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    for (const servername of ["localhost", "a_b.example.org"]) {
      const socket = connect({ port, host: "127.0.0.1", servername, ca: [pem] });
      socket.setEncoding("utf8");
      const [text] = await once(socket, "data");
      assert.equal(text, "welcome");
      assert.ok(socket.authorized);
      socket.end();
      await once(socket, "close");
    }
    server.close();
  });
}

test("a TLS client that pins another certificate does not connect", async () => {
  const { pem } = certificateFile(EC_KEY);
  const keyPem = EC_KEY.export({ type: "pkcs8", format: "pem" });
  const server = createServer({ cert: pem, key: keyPem });
  server.on("tlsClientError", (_error, socket) => socket.destroy());
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const other = certificateFile(generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey);
  const socket = connect({ port, host: "127.0.0.1", servername: "localhost", ca: [other.pem] });
  const error = await new Promise((resolve) => {
    socket.on("error", resolve);
    socket.on("secureConnect", () => resolve(null));
  });
  assert.ok(error instanceof Error);
  socket.destroy();
  server.close();
});

test("the names are in subjectAltName, addresses as addresses and without zone", () => {
  const { folder } = certificateFile(EC_KEY);
  const names = x509(folder, "-ext", "subjectAltName").split("\n")[1]!.trim().split(", ");
  assert.deepEqual(names, [
    "DNS:localhost",
    "DNS:a_b.example.org",
    "IP Address:127.0.0.1",
    "IP Address:0:0:0:0:0:0:0:1",
    "IP Address:FE80:0:0:0:0:0:1:2",
    "IP Address:0:0:0:0:0:FFFF:102:304",
  ]);
});

test("the key may sign as a TLS server and is no authority", () => {
  const { folder } = certificateFile(EC_KEY);
  const text = x509(folder, "-text");
  assert.match(text, /Version: 3/);
  assert.match(text, /Basic Constraints: critical\s+CA:FALSE/);
  assert.match(text, /Key Usage: critical\s+Digital Signature\n/);
  assert.match(text, /Extended Key Usage:\s+TLS Web Server Authentication\n/);
});

test("without hosts there is no subjectAltName, and the certificate is sound", () => {
  const { folder } = certificateFile(EC_KEY, []);
  assert.doesNotMatch(x509(folder, "-text"), /Alternative Name/);
  openssl(folder, "verify", "-x509_strict", "-CAfile", "cert.pem", "cert.pem");
});

test("serial numbers are positive, of 20 bytes, and never the same", () => {
  const serials = Array.from({ length: 100 }, () => {
    const pem = selfSignedCertificate(EC_KEY, { hosts: [], now: new Date() });
    return parseCertificate(pem).serialNumber;
  });
  for (const serial of serials) assert.match(serial, /^[4-7][0-9A-F]{39}$/i);
  assert.equal(new Set(serials).size, 100);
});

test("it is valid from a day before to ten years after, dates past 2049 included", () => {
  for (
    const [now, from, to] of [
      ["2026-03-01T12:34:56.789Z", "2026-02-28T12:34:56Z", "2036-02-27T12:34:56Z"],
      ["2039-12-31T23:59:59Z", "2039-12-30T23:59:59Z", "2049-12-28T23:59:59Z"],
      ["2049-06-01T00:00:00Z", "2049-05-31T00:00:00Z", "2059-05-30T00:00:00Z"],
    ]
  ) {
    const { folder } = certificateFile(EC_KEY, HOSTS, new Date(now!));
    const dates = x509(folder, "-dates", "-dateopt", "iso_8601");
    assert.equal(dates, `notBefore=${from}\nnotAfter=${to}`.replaceAll("T", " "));
  }
});

test("the fingerprint is the one that openssl prints, and is the SHA-256 in other letters", () => {
  const { folder, pem } = certificateFile(EC_KEY);
  const fingerprint = certificateFingerprint(pem);
  assert.equal(x509(folder, "-fingerprint", "-sha256"), `sha256 Fingerprint=${fingerprint}`);
  const { raw } = parseCertificate(pem);
  assert.equal(certificateFingerprint(raw), fingerprint);
  assert.equal(certificateSha256(raw), certificateSha256(pem));
  const hex = fingerprint.replaceAll(":", "");
  assert.equal(Buffer.from(certificateSha256(pem), "base64url").toString("hex").toUpperCase(), hex);
});

test("of a file with text above the certificate, the certificate alone is kept", () => {
  const folder = temporaryFolder();
  openssl(
    folder,
    "req",
    "-x509",
    "-newkey",
    "rsa:2048",
    "-noenc",
    "-subj",
    "/CN=old",
    "-text",
    "-out",
    "cert.pem",
  );
  const withText = readFileSync(join(folder, "cert.pem"), "utf8");
  assert.match(withText, /^Certificate:/);
  assert.equal(
    certificatePem(parseCertificate(withText)),
    openssl(folder, "x509", "-in", "cert.pem"),
  );
});

test("what is no certificate is refused", async () => {
  const { pem } = certificateFile(EC_KEY);
  const keyPem = EC_KEY.export({ type: "pkcs8", format: "pem" }) as string;
  const huge = new Uint8Array(1_000_000);
  for (const bad of ["", "garbage", keyPem, pem.slice(0, 300), Buffer.from("garbage"), huge]) {
    for (const read of [parseCertificate, certificateSha256, certificateFingerprint]) {
      assert.equal((await refusalOf(() => read(bad))).code, "bad_certificate");
    }
  }
});

test("a key that signs neither with ECDSA nor with RSA gets no certificate", async () => {
  const { privateKey } = generateKeyPairSync("ed25519");
  const make = () => selfSignedCertificate(privateKey, { hosts: [], now: new Date() });
  assert.equal((await refusalOf(make)).code, "bad_key");
});

test("a certificate can name DNS names and addresses, and nothing else", () => {
  for (const host of [...HOSTS, "a", "A.B", "xn--bcher-kva.example", "0.0.0.0", "::"]) {
    assert.equal(isCertificateHost(host), true, host);
  }
  for (
    const host of [
      "",
      "(none)",
      "a b",
      "a..b",
      ".a",
      "a.",
      "-a",
      "*.a",
      "bücher",
      "a,b",
      "a".repeat(254),
    ]
  ) {
    assert.equal(isCertificateHost(host), false, host);
  }
});
