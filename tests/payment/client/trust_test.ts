/** Which servers a client trusts: by their RSA key, on first use, and from then on. */
import assert from "node:assert/strict";
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { loadServerPublicKey } from "../../../lib/keys/key_files.ts";
import { type KnownIdentity, KnownServers } from "../../../lib/keys/known_keys.ts";
import { type Connection, connectTls, listenTls } from "../../../lib/net/net.ts";
import { ALPN } from "../../../lib/protocol/wire.ts";
import { sha256Text } from "../../../lib/protocol/token.ts";
import { makeCertificate, makeExpiredCertificate } from "../../support/certificates.ts";
import { type Json, jsonLines, PaymentWorld } from "../../support/payment_world.ts";
import { type Outcome, runTool, temporaryFolder } from "../../support/support.ts";
import { Tap } from "../../support/tap.ts";

const OPTIONS = { timeout: 120_000 };
const HOST = "127.0.0.1";
const ALARM = /THE SERVER IS NOT THE ONE THAT IT WAS/;
/** What makes the certificate that a server shows. */
const CERTIFICATE_FILES = ["server_cert.pem", "server_key.pem", "server_statement.txt"];

function fingerprintOf(world: PaymentWorld): string {
  return loadServerPublicKey(join(world.serverKeys, "server_public.pem")).thumbprint;
}

let folders = 0;

/** A keys folder that knows no server. */
function freshFolder(world: PaymentWorld): string {
  return join(world.folder, `fresh${folders++}`);
}

function register(port: number, keys: string, ...options: string[]): Promise<Outcome> {
  const account = ["register", "--as", "dora", "--keys", keys];
  return runTool("client.ts", [HOST, String(port), ...account, "--json", ...options]);
}

/** At another address of the world's server. */
function balanceElsewhere(
  world: PaymentWorld,
  keys: string,
  ...options: string[]
): Promise<Outcome> {
  const account = ["balance", "--as", "dora", "--keys", keys];
  return runTool("client.ts", ["localhost", String(world.port), ...account, ...options]);
}

function servers(keys: string, ...args: string[]): Promise<Outcome> {
  return runTool("client.ts", ["servers", ...args, "--keys", keys, "--json"]);
}

function assertDone(outcome: Outcome): void {
  assert.equal(outcome.status, 0, JSON.stringify(outcome));
}

function assertRefused(outcome: Outcome, code: string, status = 3): Json {
  assert.equal(outcome.status, status, JSON.stringify(outcome));
  const line = jsonLines(outcome).at(-1)!;
  assert.equal((line.error as Json).code, code, JSON.stringify(outcome));
  return line;
}

/** A folder that has come to trust the world's server by itself. */
async function trustingFolder(world: PaymentWorld): Promise<string> {
  const keys = freshFolder(world);
  assertDone(await register(world.port, keys, "--accept-new"));
  return keys;
}

/**
 * Ends the server; `change` is made to its keys folder before it starts again, at the same port.
 */
async function restart(world: PaymentWorld, change: () => void): Promise<void> {
  await world.stop();
  change();
  await world.startServer();
}

function renewCertificate(world: PaymentWorld): Promise<void> {
  return restart(world, () => {
    for (const name of ["server_cert.pem", "server_key.pem"]) rmSync(join(world.serverKeys, name));
  });
}

function copyCertificate(from: string, to: string): void {
  mkdirSync(to, { recursive: true });
  for (const name of CERTIFICATE_FILES) copyFileSync(join(from, name), join(to, name));
}

describe("a server never seen before", () => {
  test("is shown by its key's fingerprint, and not trusted without a person", OPTIONS, async () => {
    const world = await PaymentWorld.start();
    const keys = freshFolder(world);
    const refused = await register(world.port, keys);
    assertRefused(refused, "server_untrusted");
    assert.ok(refused.stderr.includes(fingerprintOf(world)), refused.stderr);
    assert.match(refused.stderr, /--accept-new/);
    assert.equal(existsSync(join(keys, "known_servers.json")), false);

    const accepted = await register(world.port, keys, "--accept-new");
    assertDone(accepted);
    assert.match(accepted.stderr, new RegExp(`trusting .* key ${fingerprintOf(world)}`));
    const known = await register(world.port, keys);
    assertDone(known);
    assert.doesNotMatch(known.stderr, /trusting/);
    await world.stop();
  });

  test(
    "is trusted by its certificate from --server-cert, and known from then on",
    OPTIONS,
    async () => {
      const world = await PaymentWorld.start();
      const keys = freshFolder(world);
      const certificate = join(world.serverKeys, "server_cert.pem");
      assertDone(await register(world.port, keys, "--server-cert", certificate));
      assertDone(await register(world.port, keys));
      makeCertificate(world.folder, "stranger");
      const stranger = join(world.folder, "stranger_cert.pem");
      const refused = await register(world.port, freshFolder(world), "--server-cert", stranger);
      assertRefused(refused, "server_changed");
      assert.match(refused.stderr, ALARM);
      assert.match(refused.stderr, /--server-cert, in place of .*stranger_cert\.pem/);
      await world.stop();
    },
  );

  test("is trusted by server_public.pem in the keys folder, and no other is", OPTIONS, async () => {
    const [world, other] = [await PaymentWorld.start(), await PaymentWorld.start()];
    const keys = world.keysOf("dora");
    const trusted = await register(world.port, keys);
    assertDone(trusted);
    assert.doesNotMatch(trusted.stderr, /trust/);
    const refused = await register(other.port, keys, "--accept-new");
    const { trusted: pinned, shown } = assertRefused(refused, "server_changed");
    assert.deepEqual([pinned, shown], [fingerprintOf(world), fingerprintOf(other)]);
    assert.ok(
      refused.stderr.includes(`The trusted key is in\n  ${join(keys, "server_public.pem")}\n`),
    );
    await other.stop();
    await world.stop();
  });

  test(
    "is accepted with a remark at another address of a server that is trusted",
    OPTIONS,
    async () => {
      const world = await PaymentWorld.start();
      const keys = await trustingFolder(world);
      const outcome = await balanceElsewhere(world, keys);
      assertDone(outcome);
      assert.match(
        outcome.stderr,
        /localhost:\d+ is the server that is trusted here as 127\.0\.0\.1:\d+/,
      );
      const again = await balanceElsewhere(world, keys);
      assertDone(again);
      assert.equal(again.stderr, "");
      await world.stop();
    },
  );
});

describe("a renewed certificate", () => {
  test("is accepted with one remark, because the key vouches for it", OPTIONS, async () => {
    const world = await PaymentWorld.start();
    const keys = await trustingFolder(world);
    await renewCertificate(world);
    const outcome = await register(world.port, keys);
    assertDone(outcome);
    assert.match(outcome.stderr, /has a new certificate, and its key vouches for it\n/);
    const again = await register(world.port, keys);
    assertDone(again);
    assert.doesNotMatch(again.stderr, /certificate/);
    await world.stop();
  });

  test("is accepted when the old one has expired", OPTIONS, async () => {
    const world = await PaymentWorld.start();
    const keys = await trustingFolder(world);
    const known = new KnownServers(keys);
    const { identity } = known.get(HOST, world.port)!;
    for (const version of [1, 3] as const) {
      const expired = makeExpiredCertificate(world.folder, `expired${version}`, version);
      known.record(HOST, world.port, { certificatePem: expired.cert, identity });
      const outcome = await register(world.port, keys);
      assertDone(outcome);
      assert.match(outcome.stderr, /has a new certificate/);
    }
    await world.stop();
  });

  test("is no certificate given by --server-cert", OPTIONS, async () => {
    const world = await PaymentWorld.start();
    const keys = await trustingFolder(world);
    const old = join(world.folder, "old.pem");
    copyFileSync(join(world.serverKeys, "server_cert.pem"), old);
    await renewCertificate(world);
    assertRefused(await register(world.port, keys, "--server-cert", old), "server_changed");
    await world.stop();
  });

  test("harms no order that is under way", OPTIONS, async () => {
    const world = await PaymentWorld.start();
    await world.register("alice", "bob");
    const tap = await Tap.start(world);
    tap.judge = ({ kind, method }) => {
      if (kind !== "request" || method !== "payment.settle") return "pass";
      tap.bar();
      return "lose";
    };
    const pay = world.clientArgs("alice", "pay", "bob", "4", "--timeout", "2");
    pay[1] = String(tap.port);
    const { payment } = assertRefused(await runTool("client.ts", pay), "outcome_unknown");
    await tap.close();
    await renewCertificate(world);
    const next = await world.client("alice", "balance");
    assert.equal(jsonLines(next)[0]!.balance, "9996.00", next.stderr);
    assert.ok(next.stderr.includes(`payment ${payment} of 4.00 to bob`), next.stderr);
    await world.stop();
  });

  test("takes nobody back to a stolen old one", OPTIONS, async () => {
    const world = await PaymentWorld.start();
    const keys = await trustingFolder(world);
    const [stolen, current] = [join(world.folder, "stolen"), join(world.folder, "current")];
    copyCertificate(world.serverKeys, stolen);
    await renewCertificate(world);
    assertDone(await register(world.port, keys));
    copyCertificate(world.serverKeys, current);
    const before = readFileSync(join(keys, "known_servers.json"), "utf8");
    await restart(world, () => copyCertificate(stolen, world.serverKeys));
    const refused = await register(world.port, keys);
    assertRefused(refused, "server_untrusted");
    assert.match(refused.stderr, /older statement/);
    assert.equal(readFileSync(join(keys, "known_servers.json"), "utf8"), before);
    await restart(world, () => copyCertificate(current, world.serverKeys));
    assertDone(await register(world.port, keys));
    await world.stop();
  });
});

test(
  "another key at a known address is an unmissable alarm, until the old one is forgotten",
  OPTIONS,
  async () => {
    const world = await PaymentWorld.start();
    const keys = await trustingFolder(world);
    const impostor = await PaymentWorld.start();
    await Promise.all([world.stop(), impostor.stop()]);
    impostor.port = world.port;
    await impostor.startServer();
    const before = readFileSync(join(keys, "known_servers.json"), "utf8");
    for (const options of [[], ["--accept-new"], ["--quiet"]]) {
      const refused = await register(world.port, keys, ...options);
      const { trusted, shown } = assertRefused(refused, "server_changed");
      assert.deepEqual([trusted, shown], [fingerprintOf(world), fingerprintOf(impostor)]);
      assert.match(refused.stderr, ALARM);
      assert.ok(refused.stderr.includes(`trusted: ${trusted}\n`), refused.stderr);
      assert.ok(refused.stderr.includes(`shown:   ${shown}\n`), refused.stderr);
      assert.match(
        refused.stderr,
        new RegExp(`client\\.ts servers forget ${HOST} ${world.port} --keys ${keys}\n`),
      );
    }
    const certificate = join(impostor.serverKeys, "server_cert.pem");
    assertRefused(await register(world.port, keys, "--server-cert", certificate), "server_changed");
    assert.equal(readFileSync(join(keys, "known_servers.json"), "utf8"), before);

    assertDone(await servers(keys, "forget", HOST, String(world.port)));
    assertRefused(await register(world.port, keys), "server_untrusted");
    assertDone(await register(world.port, keys, "--accept-new"));
    await impostor.stop();
  },
);

describe("a statement that cannot be", () => {
  const LIES: Record<
    string,
    [change: (seen: KnownIdentity) => Partial<KnownIdentity>, why: RegExp]
  > = {
    "older than one seen": [
      ({ statementTime }) => ({ statementTime: statementTime + 1 }),
      /older statement/,
    ],
    "with another log key": [() => ({ logKey: sha256Text("another log key") }), /another log key/],
  };
  for (const [what, [change, why]] of Object.entries(LIES)) {
    test(`${what} is server_untrusted, at every address of the server`, OPTIONS, async () => {
      const world = await PaymentWorld.start();
      const keys = await trustingFolder(world);
      const known = new KnownServers(keys);
      const server = known.get(HOST, world.port)!;
      const identity = { ...server.identity!, ...change(server.identity!) };
      known.record(HOST, world.port, { ...server, identity });
      const refused = await register(world.port, keys);
      assertRefused(refused, "server_untrusted");
      assert.match(refused.stderr, why);
      assertRefused(await balanceElsewhere(world, keys, "--json"), "server_untrusted");
      await world.stop();
    });
  }
});

test(
  "someone in between with a certificate of their own is found out, on first use too",
  OPTIONS,
  async () => {
    const world = await PaymentWorld.start();
    const keys = await trustingFolder(world);
    const own = makeCertificate(world.folder, "between");
    const certificate = readFileSync(join(world.serverKeys, "server_cert.pem"), "utf8");
    const target = { host: HOST, port: world.port, timeout_ms: 10_000, certificate, alpn: [ALPN] };
    const between = await listenTls(
      { host: HOST, port: 0, alpn: [ALPN], ...own },
      async (client) => {
        const server = await connectTls(target);
        void carry(client, server);
        void carry(server, client);
      },
    );
    after(() => between.close());
    const known = new KnownServers(keys);
    known.record(HOST, between.port, known.get(HOST, world.port)!);
    for (const folder of [keys, freshFolder(world)]) {
      const refused = await register(between.port, folder, "--accept-new");
      assertRefused(refused, "server_untrusted");
      assert.match(refused.stderr, /another certificate than its own statement names/);
    }
    await world.stop();
  },
);

async function carry(from: Connection, to: Connection): Promise<void> {
  try {
    for (let bytes = await from.read(); bytes !== null; bytes = await from.read()) {
      await to.write(bytes);
    }
  } catch {
    // One side has gone; the other follows.
  }
  to.destroy();
}

describe("servers", () => {
  test("lists address, fingerprint, verifier key and the newest checkpoint", OPTIONS, async () => {
    const world = await PaymentWorld.start();
    const keys = await trustingFolder(world);
    const keygen = ["keygen", "--keys", world.serverKeys, "--json"];
    const { verifier_key } = jsonLines(await runTool("server.ts", keygen))[0]!;
    const listed = jsonLines(await servers(keys));
    assert.equal(listed.length, 1);
    const [{ checkpoint, ...server }] = listed as [Json];
    assert.deepEqual(server, {
      address: `${HOST}:${world.port}`,
      fingerprint: fingerprintOf(world),
      verifier_key,
    });
    assert.match(String(verifier_key), /^sealwire\/[\w-]{43}\+[0-9a-f]{8}\+[A-Za-z0-9+/=]+$/);
    const { size, root } = checkpoint as Json;
    assert.equal(size, 3);
    const remembered = join(keys, `checkpoint_${fingerprintOf(world)}.txt`);
    assert.deepEqual(readFileSync(remembered, "utf8").split("\n").slice(0, 3), [
      `sealwire/${fingerprintOf(world)}`,
      "3",
      root,
    ]);
    const { stdout } = await runTool("client.ts", ["servers", "--keys", keys]);
    for (const part of [`${HOST}:${world.port}  ${fingerprintOf(world)}`, verifier_key, root]) {
      assert.ok(stdout.includes(String(part)), stdout);
    }
    await world.stop();
  });

  test(
    "lists a classic server by its certificate, and one at an IPv6 address",
    OPTIONS,
    async () => {
      const world = await PaymentWorld.start({ serverArgs: ["--classic"] });
      const keys = freshFolder(world);
      assertDone(await register(world.port, keys, "--classic", "--accept-new"));
      const known = new KnownServers(keys);
      known.record("::1", 8080, known.get(HOST, world.port)!);
      const listed = jsonLines(await servers(keys));
      assert.deepEqual(listed.map(({ address }) => address), [
        `${HOST}:${world.port}`,
        "[::1]:8080",
      ]);
      for (const { fingerprint, verifier_key, checkpoint } of listed) {
        assert.match(String(fingerprint), /^([0-9A-F]{2}:){31}[0-9A-F]{2}$/);
        assert.deepEqual([verifier_key, checkpoint], [null, null]);
      }
      await world.stop();
    },
  );

  test("lists nothing where nothing is trusted, and makes no folder", OPTIONS, async () => {
    const world = await PaymentWorld.start();
    const keys = freshFolder(world);
    const outcome = await servers(keys);
    assert.deepEqual([outcome.status, outcome.stdout], [0, ""]);
    assert.match(outcome.stderr, /trusts no server yet/);
    assert.equal(existsSync(keys), false);
    await world.stop();
  });

  test("forgets one address, and says when it knows none", OPTIONS, async () => {
    const world = await PaymentWorld.start();
    const keys = await trustingFolder(world);
    const address = [HOST, String(world.port)];
    const forgotten = await servers(keys, "forget", ...address);
    assert.deepEqual(jsonLines(forgotten), [{ forgotten: address.join(":") }]);
    assert.deepEqual(jsonLines(await servers(keys)), []);
    assertRefused(await servers(keys, "forget", ...address), "server_unknown", 1);
    // What was seen of its ledger is not forgotten: a server that comes back must go on from there.
    assert.ok(existsSync(join(keys, `checkpoint_${fingerprintOf(world)}.txt`)));
    await world.stop();
  });

  test("takes forget and accept-rollback, with what they need", OPTIONS, async () => {
    const keys = temporaryFolder();
    const wrong: [args: string[], names: RegExp][] = [
      [["forgot", HOST, "1"], /not "forgot": did you mean "forget"\?/],
      [["accept-rolback", HOST, "1"], /did you mean "accept-rollback"\?/],
      [["list"], /servers takes forget or accept-rollback, not "list"/],
      [["forget"], /servers forget takes <host> <port>/],
      [["forget", HOST], /servers forget takes <host> <port>/],
      [["forget", HOST, "0"], /<port>/],
      [["accept-rollback", HOST, "1"], /--as/],
    ];
    for (const [args, names] of wrong) {
      const refused = await servers(keys, ...args);
      assertRefused(refused, "usage", 2);
      assert.match(refused.stderr, names);
    }
  });
});
