import assert from "node:assert/strict";
import { createHash, generateKeyPairSync } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { selfSignedCertificate } from "../../lib/keys/certificate.ts";
import { type AccountName, parseAccountName, rsaPublicKeyOf } from "../../lib/keys/rsa.ts";
import { KnownPayees, KnownServers } from "../../lib/keys/known_keys.ts";
import { refusalOf, unwritableFolder } from "../support/refusal.ts";
import { runTool, temporaryFolder } from "../support/support.ts";

const SERVERS_FILE = "known_servers.json";
const PAYEES_FILE = "known_payees.json";
const WORKER = "tests/support/keys_worker.ts";

const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
const SERVER_KEY = rsaPublicKeyOf(privateKey).jwk;
const LOG_KEY = thumbprint("log key");
const IDENTITY = { serverKey: SERVER_KEY, logKey: LOG_KEY, statementTime: 1_800_000_000 };
const CERTIFICATE = selfSignedCertificate(privateKey, { hosts: [], now: new Date() });
const OTHER_CERTIFICATE = selfSignedCertificate(privateKey, { hosts: [], now: new Date() });

function thumbprint(of: string): string {
  return createHash("sha256").update(of).digest("base64url");
}

const SERVER = thumbprint("server");
const BOB = parseAccountName("bob");
const BOBS_KEY = thumbprint("bob's key");
const OTHER_KEY = thumbprint("another key");

test("a server is unknown until it is recorded, and then known to every client of the folder", () => {
  const folder = join(temporaryFolder(), "keys");
  const servers = new KnownServers(folder);
  assert.equal(servers.get("localhost", 8080), null);
  assert.equal(existsSync(folder), false);
  const server = { certificatePem: CERTIFICATE, identity: IDENTITY };
  servers.record("localhost", 8080, server);
  assert.deepEqual(servers.get("localhost", 8080), server);
  assert.deepEqual(new KnownServers(folder).get("localhost", 8080), server);
  assert.equal(statSync(join(folder, SERVERS_FILE)).mode & 0o777, 0o600);
  assert.deepEqual(readdirSync(folder).sort(), [SERVERS_FILE, `${SERVERS_FILE}.lock`]);
});

test("a server is known by host and port together, whatever the host's letters", () => {
  const servers = new KnownServers(temporaryFolder());
  servers.record("Pay.Example", 8080, { certificatePem: CERTIFICATE, identity: null });
  servers.record("::1", 8080, { certificatePem: OTHER_CERTIFICATE, identity: null });
  assert.equal(servers.get("pay.example", 8080)?.certificatePem, CERTIFICATE);
  assert.equal(servers.get("PAY.EXAMPLE", 8080)?.certificatePem, CERTIFICATE);
  assert.equal(servers.get("::1", 8080)?.certificatePem, OTHER_CERTIFICATE);
  assert.equal(servers.get("pay.example", 8081), null);
  assert.equal(servers.get("example", 8080), null);
});

test("what is recorded of a server later replaces what was, and harms no other", () => {
  const servers = new KnownServers(temporaryFolder());
  servers.record("a", 1, { certificatePem: CERTIFICATE, identity: null });
  servers.record("b", 1, { certificatePem: CERTIFICATE, identity: null });
  const later = { certificatePem: OTHER_CERTIFICATE, identity: IDENTITY };
  servers.record("a", 1, later);
  assert.deepEqual(servers.get("a", 1), later);
  assert.deepEqual(servers.get("b", 1), { certificatePem: CERTIFICATE, identity: null });
});

test("a certificate with text around it is recorded without, and one that is none not at all", async () => {
  const servers = new KnownServers(temporaryFolder());
  servers.record("a", 1, { certificatePem: `my server\n${CERTIFICATE}`, identity: null });
  assert.equal(servers.get("a", 1)?.certificatePem, CERTIFICATE);
  const error = await refusalOf(() =>
    servers.record("b", 1, { certificatePem: "garbage", identity: null })
  );
  assert.equal(error.code, "bad_certificate");
  assert.equal(servers.get("b", 1), null);
});

test("a server that is forgotten is unknown again, and the others stay", () => {
  const folder = join(temporaryFolder(), "keys");
  const servers = new KnownServers(folder);
  assert.equal(servers.forget("a", 1), false);
  assert.equal(existsSync(join(folder, SERVERS_FILE)), false);
  const server = { certificatePem: CERTIFICATE, identity: IDENTITY };
  servers.record("a", 1, server);
  servers.record("b", 1, server);
  assert.equal(servers.forget("A", 1), true);
  assert.equal(servers.get("a", 1), null);
  assert.deepEqual([...servers.all()], [["b:1", server]]);
  assert.equal(servers.forget("a", 1), false);
});

test("a server is found by its key at whatever address, as its latest statement showed it", () => {
  const servers = new KnownServers(temporaryFolder());
  const { thumbprint: server } = rsaPublicKeyOf(privateKey);
  assert.equal(servers.findIdentity(server), null);
  const at = (statementTime: number) => ({ ...IDENTITY, statementTime });
  servers.record("classic", 1, { certificatePem: CERTIFICATE, identity: null });
  servers.record("a", 1, { certificatePem: CERTIFICATE, identity: at(10) });
  servers.record("b", 1, { certificatePem: OTHER_CERTIFICATE, identity: at(30) });
  servers.record("c", 1, { certificatePem: CERTIFICATE, identity: at(20) });
  assert.deepEqual(servers.findIdentity(server), at(30));
  assert.equal(servers.findIdentity(thumbprint("another server")), null);
});

const keysOf = (payee: AccountName, key: string) => new Map([[payee, key]]);

test("a payee is new until pinned, then known, at that server alone", () => {
  const folder = join(temporaryFolder(), "keys");
  const payees = new KnownPayees(folder);
  assert.deepEqual(payees.pin(SERVER, keysOf(BOB, BOBS_KEY)), [BOB]);
  assert.deepEqual(payees.pin(SERVER, keysOf(BOB, BOBS_KEY)), []);
  assert.deepEqual(new KnownPayees(folder).pin(SERVER, keysOf(BOB, BOBS_KEY)), []);
  assert.deepEqual(payees.pin(thumbprint("another server"), keysOf(BOB, OTHER_KEY)), [BOB]);
  const bobby = parseAccountName("bobby");
  const both = new Map([[BOB, BOBS_KEY], [bobby, OTHER_KEY]]);
  assert.deepEqual(payees.pin(SERVER, both), [bobby]);
  assert.equal(statSync(join(folder, PAYEES_FILE)).mode & 0o777, 0o600);
});

test("a payee under another key is payee_key_changed, both keys named, and nothing of it is pinned", async () => {
  const folder = temporaryFolder();
  const payees = new KnownPayees(folder);
  const carol = parseAccountName("carol");
  payees.pin(SERVER, keysOf(BOB, BOBS_KEY));
  const changed = new Map([[carol, BOBS_KEY], [BOB, OTHER_KEY]]);
  const error = await refusalOf(() => payees.pin(SERVER, changed));
  assert.equal(error.code, "payee_key_changed");
  for (const part of ["bob", BOBS_KEY, OTHER_KEY, join(folder, PAYEES_FILE)]) {
    assert.ok(error.message.includes(part), part);
  }
  assert.deepEqual(payees.pin(SERVER, keysOf(BOB, BOBS_KEY)), []);
  assert.deepEqual(payees.pin(SERVER, keysOf(carol, OTHER_KEY)), [carol]);
});

test("accounts named like an object's own members are payees like others", () => {
  const payees = new KnownPayees(temporaryFolder());
  for (const name of ["constructor", "tostring", "0"]) {
    const payee = parseAccountName(name);
    assert.deepEqual(payees.pin(SERVER, keysOf(payee, BOBS_KEY)), [payee]);
    assert.deepEqual(payees.pin(SERVER, keysOf(payee, BOBS_KEY)), []);
  }
});

const SOUND_SERVER = { certificatePem: CERTIFICATE, identity: IDENTITY };
const servers = (entries: unknown, v: unknown = 2) => JSON.stringify({ v, servers: entries });
const withIdentity = (identity: unknown) =>
  servers({ "a:1": { certificatePem: CERTIFICATE, identity } });
const payees = (entries: unknown) => JSON.stringify({ v: 2, payees: entries });
const DAMAGED_SERVERS: Record<string, string> = {
  "nothing": "",
  "no JSON": "{",
  "JSON cut short": servers({ "a:1": SOUND_SERVER }).slice(0, -10),
  "null": "null",
  "a list": "[]",
  "the other file": payees({}),
  "another version": servers({}, 1),
  "an unknown member": JSON.stringify({ v: 2, servers: {}, more: 1 }),
  "a list of entries": servers([]),
  "an address without port": servers({ a: SOUND_SERVER }),
  "an address in capitals": servers({ "A:1": SOUND_SERVER }),
  "an entry that is null": servers({ "a:1": null }),
  "an entry without identity": servers({ "a:1": { certificatePem: CERTIFICATE } }),
  "an entry with more": servers({ "a:1": { ...SOUND_SERVER, more: 1 } }),
  "a certificate that is none": servers({ "a:1": { ...SOUND_SERVER, certificatePem: "x" } }),
  "a certificate and more": servers({
    "a:1": { ...SOUND_SERVER, certificatePem: CERTIFICATE + CERTIFICATE },
  }),
  "an identity that is none": withIdentity({ serverKey: SERVER_KEY }),
  "an identity with more": withIdentity({ ...IDENTITY, more: 1 }),
  "a key that is none": withIdentity({ ...IDENTITY, serverKey: { kty: "RSA" } }),
  "a log key that is none": withIdentity({ ...IDENTITY, logKey: LOG_KEY.slice(1) }),
  "a log key that is a number": withIdentity({ ...IDENTITY, logKey: 7 }),
  "a statement before 1970": withIdentity({ ...IDENTITY, statementTime: -1 }),
  "a statement of half a second": withIdentity({ ...IDENTITY, statementTime: 1.5 }),
  "too many entries": servers(
    Object.fromEntries(Array.from({ length: 1001 }, (_, port) => [`a:${port + 1}`, null])),
  ),
  "too many bytes": " ".repeat(9_000_000),
};
for (const [what, text] of Object.entries(DAMAGED_SERVERS)) {
  test(`known servers with ${what} in the file are unreadable, and the file stays`, async () => {
    const path = join(temporaryFolder(), SERVERS_FILE);
    writeFileSync(path, text);
    const known = new KnownServers(join(path, ".."));
    for (const act of [() => known.get("b", 1), () => known.record("b", 1, SOUND_SERVER)]) {
      const error = await refusalOf(act);
      assert.equal(error.code, "trust_file_unreadable");
      assert.ok(error.message.includes(path));
    }
    assert.equal(readFileSync(path, "utf8"), text);
    assert.deepEqual(readdirSync(join(path, "..")).sort(), [SERVERS_FILE, `${SERVERS_FILE}.lock`]);
  });
}

const DAMAGED_PAYEES: Record<string, string> = {
  "a name that is none": payees({ [`${SERVER}/Bob`]: BOBS_KEY }),
  "no server": payees({ bob: BOBS_KEY }),
  "more than server and payee": payees({ [`${SERVER}/bob/x`]: BOBS_KEY }),
  "a server that is no thumbprint": payees({ "x/bob": BOBS_KEY }),
  "a key that is no thumbprint": payees({ [`${SERVER}/bob`]: BOBS_KEY.slice(1) }),
  "a key of other characters": payees({ [`${SERVER}/bob`]: BOBS_KEY.replace(/^./, "+") }),
  "a key with stray bits": payees({ [`${SERVER}/bob`]: BOBS_KEY.replace(/.$/, "B") }),
  "a key that is a number": payees({ [`${SERVER}/bob`]: 7 }),
};
for (const [what, text] of Object.entries(DAMAGED_PAYEES)) {
  test(`known payees with ${what} in the file are unreadable, and the file stays`, async () => {
    const path = join(temporaryFolder(), PAYEES_FILE);
    writeFileSync(path, text);
    const known = new KnownPayees(join(path, ".."));
    const error = await refusalOf(() => known.pin(SERVER, keysOf(BOB, BOBS_KEY)));
    assert.equal(error.code, "trust_file_unreadable");
    assert.match(error.message, /known_payees\.json is not as it was written \(.*\): put back/);
    assert.equal(readFileSync(path, "utf8"), text);
  });
}

test("a file that is full says so, and keeps what it has", { timeout: 60_000 }, async () => {
  const folder = temporaryFolder();
  const path = join(folder, PAYEES_FILE);
  const entries = Array.from(
    { length: 50_000 },
    (_, n) => [`${SERVER}/${`p${n}`.padEnd(32, "x")}`, BOBS_KEY],
  );
  writeFileSync(path, JSON.stringify({ v: 2, payees: Object.fromEntries(entries) }, null, 2));
  const before = readFileSync(path, "utf8");
  const known = new KnownPayees(folder);
  const error = await refusalOf(() => known.pin(SERVER, keysOf(BOB, BOBS_KEY)));
  assert.equal(error.code, "trust_file_full");
  assert.ok(error.message.startsWith(`${path} holds 50000 payees`));
  assert.equal(readFileSync(path, "utf8"), before);
  assert.deepEqual(known.pin(SERVER, keysOf(parseAccountName("p7".padEnd(32, "x")), BOBS_KEY)), []);
});

test("a folder that cannot be written in is named", async () => {
  const folder = unwritableFolder();
  const error = await refusalOf(() => new KnownPayees(folder).pin(SERVER, keysOf(BOB, BOBS_KEY)));
  assert.equal(error.code, "folder_unwritable");
  assert.ok(error.message.includes(folder));
});

test("six processes that pin payees at once lose none", { timeout: 60_000 }, async () => {
  const folder = temporaryFolder();
  const prefixes = ["a", "b", "c", "d", "e", "f"];
  const runs = prefixes.map((prefix) =>
    runTool(WORKER, ["payees", folder, SERVER, BOBS_KEY, prefix, "25"])
  );
  for (const { stdout } of await Promise.all(runs)) assert.equal(stdout, "{}\n");
  const known = new KnownPayees(folder);
  for (const prefix of prefixes) {
    for (let index = 0; index < 25; index++) {
      const payee = parseAccountName(`${prefix}${index}`);
      assert.deepEqual(known.pin(SERVER, keysOf(payee, BOBS_KEY)), []);
    }
  }
  assert.deepEqual(readdirSync(folder).sort(), [PAYEES_FILE, `${PAYEES_FILE}.lock`]);
});

test("four processes that record servers at once lose none", { timeout: 60_000 }, async () => {
  const folder = temporaryFolder();
  const path = join(temporaryFolder(), "cert.pem");
  writeFileSync(path, CERTIFICATE);
  const hosts = ["a", "b", "c", "d"];
  const runs = hosts.map((host) => runTool(WORKER, ["servers", folder, path, host, "10"]));
  for (const { stdout } of await Promise.all(runs)) assert.equal(stdout, "{}\n");
  const known = new KnownServers(folder);
  for (const host of hosts) {
    for (let port = 1; port <= 10; port++) {
      assert.equal(known.get(host, port)?.certificatePem, CERTIFICATE);
    }
  }
});

test("of two processes that record different keys of one payee, one is told so", {
  timeout: 60_000,
}, async () => {
  const folder = temporaryFolder();
  const runs = [BOBS_KEY, OTHER_KEY].map((key) =>
    runTool(WORKER, ["payees", folder, SERVER, key, "bob", "20"])
  );
  const results = (await Promise.all(runs)).map(({ stdout }) => JSON.parse(stdout).code);
  // Each payee is recorded first by one of them; whoever comes second to any stops there.
  assert.ok(results.includes("payee_key_changed"), JSON.stringify(results));
});
