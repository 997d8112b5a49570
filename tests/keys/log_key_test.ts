import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { chmodSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { deriveSealKey, openLogKey } from "../../lib/keys/log_key.ts";
import { Members } from "../../lib/base/parse.ts";
import { ed25519Bytes, ed25519Jwk, parseEd25519Jwk } from "../../lib/keys/ed25519.ts";
import { openssl } from "../support/openssl.ts";
import { refusalOf, unwritableFolder } from "../support/refusal.ts";
import { temporaryFolder } from "../support/support.ts";

const FILE = "server_log_key.pem";
const MAKE = { makeMissing: true };
/** RFC 8032, 7.1, test 1. */
const RFC_SEED = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
const RFC_PUBLIC = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

/** A folder with the log key of RFC 8032. */
function folderWithRfcKey(): string {
  const folder = temporaryFolder();
  const der = Buffer.from(`302e020100300506032b657004220420${RFC_SEED}`, "hex").toString("base64");
  const pem = `-----BEGIN PRIVATE KEY-----\n${der}\n-----END PRIVATE KEY-----\n`;
  writeFileSync(join(folder, FILE), pem, { mode: 0o600 });
  return folder;
}

test("a missing log key is made once: Ed25519, PKCS #8, 0600, readable by openssl", () => {
  const folder = join(temporaryFolder(), "new", "keys");
  const path = join(folder, FILE);
  const first = openLogKey(folder, MAKE);
  assert.deepEqual([first.made, first.warnings], [[path], []]);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.match(readFileSync(path, "utf8"), /^-----BEGIN PRIVATE KEY-----\n/);
  const der = openssl(folder, "pkey", "-in", FILE, "-pubout").split("\n").slice(1, -2).join("");
  assert.deepEqual(
    Buffer.from(der, "base64").subarray(-32),
    Buffer.from(ed25519Bytes(first.pair.publicKey)),
  );
  const second = openLogKey(folder, MAKE);
  assert.deepEqual(second.made, []);
  assert.equal(second.pair.publicKey.x, first.pair.publicKey.x);
});

test("the key of a file is the one that RFC 8032 says", () => {
  const { pair } = openLogKey(folderWithRfcKey(), { makeMissing: false });
  assert.equal(Buffer.from(ed25519Bytes(pair.publicKey)).toString("hex"), RFC_PUBLIC);
});

test("a log key that openssl made is used as it is", () => {
  const folder = temporaryFolder();
  openssl(folder, "genpkey", "-algorithm", "ed25519", "-out", FILE);
  chmodSync(join(folder, FILE), 0o600);
  assert.deepEqual(openLogKey(folder, MAKE).made, []);
});

test("a log key that others can read is warned of", () => {
  const folder = folderWithRfcKey();
  chmodSync(join(folder, FILE), 0o644);
  const [warning, ...more] = openLogKey(folder, MAKE).warnings;
  assert.match(warning!, /other users can read .*server_log_key\.pem: chmod 600/);
  assert.deepEqual(more, []);
});

test("a log key that is missing, unreadable or of another kind is refused", async () => {
  const missing = await refusalOf(() => openLogKey(temporaryFolder(), { makeMissing: false }));
  assert.equal(missing.code, "key_missing");
  const folder = temporaryFolder();
  writeFileSync(join(folder, FILE), "no key");
  assert.equal((await refusalOf(() => openLogKey(folder, MAKE))).code, "key_unreadable");
  openssl(folder, "genpkey", "-algorithm", "RSA", "-out", FILE);
  const refusal = await refusalOf(() => openLogKey(folder, MAKE));
  assert.equal(refusal.code, "bad_key");
  assert.match(refusal.message, /server_log_key\.pem holds no Ed25519 key/);
  const unwritable = await refusalOf(() => openLogKey(join(unwritableFolder(), "keys"), MAKE));
  assert.equal(unwritable.code, "folder_unwritable");
});

test("the seal key is HKDF-SHA-256 of the seed, as openssl derives it", () => {
  const folder = folderWithRfcKey();
  const seal = deriveSealKey(openLogKey(folder, MAKE).pair.privateKey);
  const derived = openssl(
    folder,
    ...["kdf", "-keylen", "32", "-kdfopt", "digest:SHA2-256", "-kdfopt", `hexkey:${RFC_SEED}`],
    ...["-kdfopt", "info:sealwire/ledger-seal/v1", "HKDF"],
  );
  assert.equal(Buffer.from(seal).toString("hex"), derived.trim().replaceAll(":", "").toLowerCase());
});

test("a log key comes back from its JWK, and one that is not sound is bad_key", async () => {
  const { pair } = openLogKey(folderWithRfcKey(), MAKE);
  const parse = (jwk: object) =>
    parseEd25519Jwk(new Members(jwk, "log", "bad_token"), "statement: log");
  assert.equal(parse(ed25519Jwk(pair.publicKey)).x, pair.publicKey.x);
  const smallOrder = Buffer.from(new Uint8Array(32).with(0, 1)).toString("base64url");
  const refusal = await refusalOf(() => parse({ crv: "Ed25519", kty: "OKP", x: smallOrder }));
  assert.equal(refusal.code, "bad_key");
  assert.match(refusal.message, /statement: log is not a sound Ed25519 key/);
});
