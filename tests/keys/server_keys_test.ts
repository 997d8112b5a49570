import assert from "node:assert/strict";
import { createPrivateKey } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { certificateSha256, parseCertificate } from "../../lib/keys/certificate.ts";
import { loadCertificate, loadOrMakeServerKeys } from "../../lib/keys/server_keys.ts";
import { openssl } from "../support/openssl.ts";
import { refusalOf } from "../support/refusal.ts";
import { runTool, temporaryFolder } from "../support/support.ts";

/** Making RSA keys takes as long as luck has it. */
const SLOW = { timeout: 60_000 };
const ALL_FILES = ["server_cert.pem", "server_key.pem", "server_private.pem", "server_public.pem"];
const DAY_MS = 86_400_000;

function load(folder: string, options: { hosts?: string[]; now?: Date } = {}) {
  return loadOrMakeServerKeys(folder, { hosts: ["localhost"], now: new Date(), ...options });
}

/** The files of a folder and what is in them. */
function contentsOf(folder: string): Record<string, string> {
  const names = readdirSync(folder).sort();
  return Object.fromEntries(names.map((name) => [name, readFileSync(join(folder, name), "utf8")]));
}

/** `server_private.pem` and a certificate over it, by `openssl` commands alone. */
function opensslFolder(keyArgs = ["genpkey", "-algorithm", "RSA"]): string {
  const folder = temporaryFolder();
  openssl(folder, ...keyArgs, "-out", "server_private.pem");
  chmodSync(join(folder, "server_private.pem"), 0o600);
  certify(folder, "server_private.pem");
  return folder;
}

function certify(folder: string, key: string, ...more: string[]): void {
  openssl(
    folder,
    "req",
    "-x509",
    "-key",
    key,
    "-subj",
    "/CN=old",
    "-out",
    "server_cert.pem",
    ...more,
  );
}

function tlsKeyFits(
  { certificatePem, tlsKeyPem }: { certificatePem: string; tlsKeyPem: string },
): boolean {
  return parseCertificate(certificatePem).checkPrivateKey(createPrivateKey(tlsKeyPem));
}

test("on an empty folder all four files are made, and are the same ever after", SLOW, async () => {
  const folder = join(temporaryFolder(), "keys");
  const { keys, made, warnings } = await load(folder);
  assert.deepEqual(readdirSync(folder).sort(), ALL_FILES);
  assert.deepEqual([...made].sort(), ALL_FILES.map((name) => join(folder, name)));
  assert.deepEqual(warnings, []);
  for (const name of ["server_private.pem", "server_key.pem"]) {
    assert.equal(statSync(join(folder, name)).mode & 0o777, 0o600);
  }
  assert.ok(tlsKeyFits(keys));
  assert.equal(keys.certificatePem, readFileSync(join(folder, "server_cert.pem"), "utf8"));
  assert.equal(keys.certificateSha256, certificateSha256(keys.certificatePem));

  const before = contentsOf(folder);
  const again = await load(folder, { hosts: ["elsewhere.example"] });
  assert.deepEqual(again.made, []);
  assert.deepEqual(contentsOf(folder), before);
  assert.equal(again.keys.certificateSha256, keys.certificateSha256);
  assert.equal(again.keys.tlsKeyPem, keys.tlsKeyPem);
  assert.equal(again.keys.pair.publicKey.thumbprint, keys.pair.publicKey.thumbprint);
});

test("the TLS key that is made is an ECDSA P-256 key of its own", SLOW, async () => {
  const folder = temporaryFolder();
  const { keys } = await load(folder);
  assert.match(openssl(folder, "pkey", "-in", "server_key.pem", "-noout", "-text"), /P-256/);
  assert.match(openssl(folder, "pkey", "-in", "server_private.pem", "-noout", "-text"), /2048 bit/);
  assert.equal(createPrivateKey(keys.tlsKeyPem).asymmetricKeyType, "ec");
});

/** What openssl says of the hosts that the certificate in `folder` names. */
function namedHosts(folder: string): string {
  const args = ["-in", "server_cert.pem", "-noout", "-ext", "subjectAltName"];
  return openssl(folder, "x509", ...args);
}

test("the certificate names the hosts; what it cannot name is warned of", SLOW, async () => {
  const folder = temporaryFolder();
  const hosts = ["Pay.Example", "192.0.2.1", "(none)", "pay.example"];
  const { warnings } = await load(folder, { hosts });
  const text = namedHosts(folder);
  assert.match(text, /DNS:pay\.example, IP Address:192\.0\.2\.1\n/);
  const path = join(folder, "server_cert.pem");
  assert.deepEqual(warnings, [`${path} does not name these hosts: (none)`]);
});

test("a machine of very many addresses gets a certificate that names a hundred", SLOW, async () => {
  const folder = temporaryFolder();
  const hosts = Array.from({ length: 150 }, (_, index) => `10.0.0.${index}`);
  const { warnings } = await load(folder, { hosts });
  const text = namedHosts(folder);
  assert.equal(text.match(/IP Address/g)?.length, 100);
  assert.match(warnings[0]!, /10\.0\.0\.149/);
});

const PRIVATE_KEYS: Record<string, string[]> = {
  "PKCS #8": ["genpkey", "-algorithm", "RSA"],
  "PKCS #1": ["genrsa", "-traditional"],
};
for (const [form, args] of Object.entries(PRIVATE_KEYS)) {
  test(
    `a server_private.pem (${form}) and its certificate from openssl are used as they are`,
    SLOW,
    async () => {
      const folder = opensslFolder(args);
      const before = contentsOf(folder);
      const { keys, made, warnings } = await load(folder);
      assert.deepEqual(made, [join(folder, "server_public.pem")]);
      assert.deepEqual(warnings, []);
      assert.ok(tlsKeyFits(keys));
      assert.deepEqual({ ...contentsOf(folder), ...before }, contentsOf(folder));
      assert.equal(existsSync(join(folder, "server_key.pem")), false);
    },
  );
}

test(
  "a server_key.pem that does not fit beside a server_private.pem that does is passed over",
  SLOW,
  async () => {
    const folder = opensslFolder();
    openssl(folder, "genpkey", "-algorithm", "RSA", "-out", "server_key.pem");
    const { keys, warnings } = await load(folder);
    assert.ok(tlsKeyFits(keys));
    assert.deepEqual(warnings, []);
  },
);

test(
  "a locked server_key.pem that is not needed is warned of, and one that is needed is refused",
  SLOW,
  async () => {
    const folder = opensslFolder();
    openssl(folder, "genrsa", "-aes128", "-passout", "pass:secret", "-out", "server_key.pem");
    const { keys, warnings } = await load(folder);
    assert.ok(tlsKeyFits(keys));
    assert.equal(warnings.length, 1);
    assert.match(warnings[0]!, /server_key\.pem is locked.*not needed: .*server_private\.pem fits/);

    certify(folder, "server_key.pem", "-passin", "pass:secret");
    const error = await refusalOf(() => load(folder));
    assert.equal(error.code, "key_unreadable");
    assert.match(error.message, /server_key\.pem is locked with a passphrase/);
  },
);

for (
  const [kind, args] of Object.entries({
    "EC": ["ecparam", "-name", "prime256v1", "-genkey"],
    "RSA": ["genrsa"],
    "Ed25519": ["genpkey", "-algorithm", "ed25519"],
  })
) {
  test(
    `a server_key.pem (${kind}) and its certificate from openssl are used as they are`,
    SLOW,
    async () => {
      const folder = temporaryFolder();
      openssl(folder, ...args, "-out", "server_key.pem");
      chmodSync(join(folder, "server_key.pem"), 0o600);
      certify(folder, "server_key.pem");
      const { keys, made } = await load(folder);
      assert.deepEqual(made.map((path) => path.slice(folder.length + 1)), [
        "server_private.pem",
        "server_public.pem",
      ]);
      assert.ok(tlsKeyFits(keys));
      assert.match(keys.tlsKeyPem, /^-----BEGIN PRIVATE KEY-----/);
    },
  );
}

test("a server_key.pem without certificate gets one made over it", SLOW, async () => {
  for (const args of [["genrsa"], ["ecparam", "-name", "prime256v1", "-genkey"]]) {
    const folder = temporaryFolder();
    openssl(folder, ...args, "-out", "server_key.pem");
    const before = readFileSync(join(folder, "server_key.pem"), "utf8");
    const { keys } = await load(folder);
    assert.ok(tlsKeyFits(keys));
    assert.equal(readFileSync(join(folder, "server_key.pem"), "utf8"), before);
  }
});

test("keys that others can read are warned of, each once", SLOW, async () => {
  const folder = opensslFolder();
  chmodSync(join(folder, "server_private.pem"), 0o644);
  const [one, ...none] = (await load(folder)).warnings;
  assert.match(one!, /other users can read .*server_private\.pem: chmod 600/);
  assert.deepEqual(none, []);
  const made = temporaryFolder();
  await load(made);
  chmodSync(join(made, "server_key.pem"), 0o640);
  const [two] = (await load(made)).warnings;
  assert.match(two!, /other users can read .*server_key\.pem: chmod 600/);
});

test(
  "a certificate that no key fits is key_mismatch: it names the files, says what to do, and nothing changes",
  SLOW,
  async () => {
    const folder = temporaryFolder();
    openssl(folder, "genrsa", "-out", "lost.pem");
    certify(folder, "lost.pem");
    await refusalOf(() => load(folder));
    const before = contentsOf(folder);
    const error = await refusalOf(() => load(folder));
    assert.equal(error.code, "key_mismatch");
    for (const name of ["server_key.pem", "server_private.pem", "server_cert.pem"]) {
      assert.ok(error.message.includes(join(folder, name)));
    }
    assert.match(error.message, /move server_cert\.pem away and start again/);
    assert.deepEqual(contentsOf(folder), before);
    assert.equal(existsSync(join(folder, "server_key.pem")), false);

    copyFileSync(join(folder, "lost.pem"), join(folder, "server_key.pem"));
    assert.ok(tlsKeyFits((await load(folder)).keys));
  },
);

test(
  "a certificate out of date is certificate_expired, with the dates, and is not replaced",
  SLOW,
  async () => {
    const folder = opensslFolder();
    await load(folder);
    const before = contentsOf(folder);
    for (const days of [-365, 365]) {
      const now = new Date(Date.now() + days * DAY_MS);
      const error = await refusalOf(() => load(folder, { now }));
      assert.equal(error.code, "certificate_expired");
      const { validFrom, validTo } = loadCertificate(join(folder, "server_cert.pem"));
      for (const date of [new Date(validFrom), new Date(validTo), now]) {
        assert.ok(error.message.includes(date.toISOString().slice(0, 19) + "Z"), error.message);
      }
      assert.match(error.message, /server_cert\.pem is valid from .*: check the clock, or move/);
    }
    assert.deepEqual(contentsOf(folder), before);
  },
);

test("a certificate is in date from its first second to its last", SLOW, async () => {
  const folder = temporaryFolder();
  await load(folder);
  const { validFrom, validTo } = loadCertificate(join(folder, "server_cert.pem"));
  const [from_ms, to_ms] = [Date.parse(validFrom), Date.parse(validTo)];
  for (const moment_ms of [from_ms, to_ms]) await load(folder, { now: new Date(moment_ms) });
  for (const moment_ms of [from_ms - 1, to_ms + 1]) {
    const error = await refusalOf(() => load(folder, { now: new Date(moment_ms) }));
    assert.equal(error.code, "certificate_expired");
  }
});

test("a certificate file that holds none is bad_certificate, named, and stays", SLOW, async () => {
  const folder = temporaryFolder();
  const path = join(folder, "server_cert.pem");
  for (
    const content of [
      "",
      "garbage",
      "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ]
  ) {
    writeFileSync(path, content);
    const error = await refusalOf(() => load(folder));
    assert.equal(error.code, "bad_certificate");
    assert.equal(error.message, `${path}: this is no X.509 certificate`);
    assert.equal(readFileSync(path, "utf8"), content);
  }
});

test("a weak TLS key is a bad_key, named", SLOW, async () => {
  const folder = temporaryFolder();
  openssl(folder, "genrsa", "-out", "server_key.pem", "1024");
  certify(folder, "server_key.pem");
  const error = await refusalOf(() => load(folder));
  assert.equal(error.code, "bad_key");
  assert.match(error.message, /server_key\.pem: this is not an RSA key of 2048/);
});

test(
  "a public file of another key, and a server key that is no RSA key, are refused",
  SLOW,
  async () => {
    const folder = opensslFolder();
    openssl(folder, "genrsa", "-out", "other.pem");
    openssl(folder, "rsa", "-in", "other.pem", "-pubout", "-out", "server_public.pem");
    assert.equal((await refusalOf(() => load(folder))).code, "key_mismatch");
    const ec = opensslFolder([
      "genpkey",
      "-algorithm",
      "EC",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
    ]);
    assert.equal((await refusalOf(() => load(ec))).code, "bad_key");
  },
);

test("a certificate that is not there is key_missing", SLOW, async () => {
  const path = join(temporaryFolder(), "server_cert.pem");
  const error = await refusalOf(() => loadCertificate(path));
  assert.equal(error.code, "key_missing");
  assert.equal(error.message, `there is no ${path}`);
});

test("eight processes that start on an empty folder end up with one server", SLOW, async () => {
  for (let round = 0; round < 2; round++) {
    const folder = join(temporaryFolder(), "keys");
    const runs = Array.from(
      { length: 8 },
      () => runTool("tests/support/keys_worker.ts", ["server", folder]),
    );
    const results = (await Promise.all(runs)).map(({ stdout }) => JSON.parse(stdout));
    for (const part of ["thumbprint", "certificate", "tlsKey"]) {
      const different = new Set(results.map((result) => result[part]));
      assert.equal(different.size, 1, `${part}: ${JSON.stringify(results)}`);
    }
    const made = results.flatMap((result) => result.made).sort();
    assert.deepEqual(made, ALL_FILES.map((name) => join(folder, name)));
    assert.deepEqual(readdirSync(folder).sort(), ALL_FILES);
  }
});
