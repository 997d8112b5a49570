/** `--db postgres://…` from the command line: the server, what its operator runs, and what each bad input gets. */
import assert from "node:assert/strict";
import { cpSync, existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { jsonLines, PaymentWorld } from "../../support/payment_world.ts";
import { tryPostgres } from "../../support/postgres.ts";
import { runTool, temporaryFolder } from "../../support/support.ts";

const { server: database, skip } = await tryPostgres();
after(() => database?.stop());
const options = { skip, timeout: 120_000 };

const SECRET = "hunter2#in the/URL";

/** Runs the server, which must refuse to start. Gives the error; what was printed must not hold the secret. */
async function refused(
  db: string,
  { env = {}, keys = join(temporaryFolder(), "keys"), status = 1 }: {
    env?: Record<string, string>;
    keys?: string;
    status?: number;
  } = {},
): Promise<{ code: string; message: string }> {
  const args = ["0", "--host", "127.0.0.1", "--json", "--keys", keys, "--db", db];
  const outcome = await runTool("server.ts", args, { env });
  const printed = outcome.stdout + outcome.stderr;
  for (const secret of [SECRET, encodeURIComponent(SECRET), "hunter2"]) {
    assert.ok(!printed.includes(secret), printed);
  }
  assert.equal(outcome.status, status, printed);
  assert.doesNotMatch(printed, /^\s+at /m);
  return jsonLines(outcome)[0]!.error as { code: string; message: string };
}

test(
  "a server on PostgreSQL takes payments, and its operator's commands work",
  options,
  async () => {
    const world = await PaymentWorld.start({ db: await database!.newDatabase() });
    await world.register("alice", "bob");
    const paid = await world.ask("alice", "pay", "bob", "12.50");
    assert.equal(paid.balance, "9987.50");
    const grant = await world.operate("grant", "bob", "1.00");
    assert.deepEqual(jsonLines(grant), [{ account: "bob", amount: "1.00", balance: "10013.50" }]);
    const settings = await world.operate("settings", "--registration", "closed");
    assert.equal(jsonLines(settings)[0]!.registration, "closed");
    const audited = jsonLines(await world.operate("audit"))[0]!;
    assert.equal(audited.valid, true);

    const copy = join(world.folder, "copy.db");
    const backup = await world.operate("backup", copy);
    assert.deepEqual(jsonLines(backup), [{ backup: copy, size: audited.entries }]);
    const files = ["--keys", world.serverKeys, "--db", copy];
    const ofCopy = await runTool("server.ts", ["audit", "--json", ...files]);
    assert.equal(jsonLines(ofCopy)[0]!.root, audited.root);

    assert.equal((await world.stop()).status, 0);
    await world.startServer();
    assert.equal((await world.ask("bob", "balance")).balance, "10013.50");
    assert.equal((await world.stop()).status, 0);
  },
);

test(
  "the password may come from PGPASSWORD or from a file, and is in no message",
  options,
  async () => {
    const url = new URL(await database!.newDatabase());
    const password = decodeURIComponent(url.password);
    url.password = "";
    const world = await PaymentWorld.start({ db: url.href, env: { PGPASSWORD: password } });
    const outcome = await world.stop();
    assert.equal(outcome.status, 0);
    assert.ok(!(outcome.stdout + outcome.stderr).includes(password));
    const wrong = await refused(url.href, { env: { PGPASSWORD: SECRET } });
    assert.deepEqual([wrong.code, /the password is wrong/.test(wrong.message)], [
      "store_unusable",
      true,
    ]);
  },
);

test("a mistyped URL is wrong usage, and makes no file", options, async () => {
  const secret = encodeURIComponent(SECRET);
  const urls = [
    `postgre://admin:${secret}@127.0.0.1:5432/ledger`,
    `postgres:/admin:${secret}@127.0.0.1:5432/ledger`,
    `postgres://admin:${secret}@127.0.0.1:5432/`,
    `postgres://admin:${secret}@127.0.0.1:54x32/ledger`,
    `postgres://:${secret}@127.0.0.1:5432/ledger`,
    `postgres://admin:${secret}@127.0.0.1:5432/ledger?sslmod=disable`,
    `postgres://admin:${secret}@db.example:5432/ledger?sslmode=prefer`,
    `mysql://admin:${secret}@127.0.0.1:5432/ledger`,
    // Two mistakes that put the password out of its place.
    `postgres://admin:hunter2#in/URL@127.0.0.1:5432/ledger`,
  ];
  for (const url of urls) {
    const { code, message } = await refused(url, { status: 2 });
    assert.equal(code, "usage", url);
    assert.match(message, /^--db: /);
  }
  assert.ok(!existsSync("postgres:") && !existsSync("postgre:"));
});

test("a database that is not there, and one that refuses, are told apart", options, async () => {
  const secret = encodeURIComponent(SECRET);
  const away = await refused(`postgres://admin:${secret}@127.0.0.1:1/ledger`, { status: 3 });
  assert.equal(away.code, "store_unavailable");
  assert.match(away.message, /nothing listens there. Is PostgreSQL running\?/);
  const wrong = await refused(`postgres://admin:${secret}@127.0.0.1:${database!.port}/postgres`);
  assert.equal(wrong.code, "store_unusable");
  assert.match(wrong.message, /the password is wrong/);
  const missing = await refused(database!.url("nowhere"));
  assert.match(missing.message, /no such database/);
});

test("a server with another RSA key or another log key is refused", options, async () => {
  const url = await database!.newDatabase();
  const world = await PaymentWorld.start({ db: url });
  const { code, message } = await refused(url);
  assert.equal(code, "ledger_of_another_server");
  assert.match(message, /server_private\.pem/);

  const keys = join(temporaryFolder(), "keys");
  cpSync(world.serverKeys, keys, { recursive: true });
  for (const file of ["server_log_key.pem", "server_anchor.txt"]) rmSync(join(keys, file));
  const otherLog = await refused(url, { keys });
  assert.equal(otherLog.code, "ledger_of_another_server");
  assert.match(otherLog.message, /server_log_key\.pem/);
  assert.equal((await world.stop()).status, 0);
});
