/** Databases that a ledger must not be put on, and what the operator is told. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { openPostgres } from "../../lib/ledger/postgres.ts";
import { makeCertificate } from "../support/certificates.ts";
import { type PostgresOptions, PostgresServer, tryPostgres } from "../support/postgres.ts";
import { temporaryFolder } from "../support/support.ts";

const { server: database, skip } = await tryPostgres();
after(() => database?.stop());
const options = { skip, timeout: 60_000 };

type Code = "store_unusable" | "store_unavailable";

async function assertRefused(url: string, code: Code, sentence: RegExp, create = true) {
  await assert.rejects(
    openPostgres(url, { create }),
    (error: { code?: string; message?: string; stack?: string; cause?: unknown }) => {
      assert.match(error.message!, sentence);
      assert.equal(error.code, code);
      const { password } = new URL(url);
      const shown = `${error.stack} ${error.cause}`;
      for (const secret of [password, decodeURIComponent(password)]) {
        assert.ok(secret === "" || !shown.includes(secret), "the password is shown");
      }
      return true;
    },
  );
}

async function withServer(
  serverOptions: PostgresOptions,
  body: (server: PostgresServer) => Promise<void>,
): Promise<void> {
  const server = await PostgresServer.start(serverOptions);
  try {
    await body(server);
  } finally {
    await server.stop();
  }
}

const nameIn = (url: string) => new URL(url).pathname.slice(1);

test("a wrong password, and none", options, async () => {
  const url = await database!.newDatabase();
  const wrong = database!.url(nameIn(url), { password: "not%the@password" });
  await assertRefused(wrong, "store_unusable", /the password is wrong.*PGPASSWORD/);
  await assertRefused(
    url.replace(/:[^:@]+@/, "@"),
    "store_unusable",
    /it asks for a password.*PGPASSWORD/,
  );
});

test("a user and a database that are not there", options, async () => {
  const url = await database!.newDatabase();
  const stranger = database!.url(nameIn(url), { user: "stranger" });
  await assertRefused(stranger, "store_unusable", /the password is wrong/);
  await assertRefused(database!.url("nowhere"), "store_unusable", /no such database.*createdb/);
});

test("a host that has no database, and one that is none", options, async () => {
  const url = await database!.newDatabase();
  await assertRefused(
    url.replace(`:${database!.port}/`, ":1/"),
    "store_unavailable",
    /nothing listens there/,
  );
  await assertRefused(
    url.replace("127.0.0.1", "no-such-host.invalid") + "?sslmode=disable",
    "store_unavailable",
    /no host of that name. Check the URL/,
  );
});

test("a ledger that must exist and does not", options, async () => {
  const url = await database!.newDatabase();
  await assertRefused(url, "store_unusable", /holds no ledger yet/, false);
  const [row] = await database!.run("SELECT to_regnamespace('sealwire') AS made", nameIn(url));
  assert.equal(row!.made, null);
});

test("another encoding", options, async () => {
  const url = await database!.newDatabase("ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'");
  await assertRefused(url, "store_unusable", /its encoding is LATIN1/);
});

test("a database that is not ours, and not one table of it changed", options, async () => {
  const url = await database!.newDatabase();
  await database!.run(
    "CREATE SCHEMA sealwire; CREATE TABLE sealwire.recipes (name text)",
    nameIn(url),
  );
  await assertRefused(url, "store_unusable", /its schema sealwire is not a Sealwire ledger/);
  const tables = await database!.run(
    "SELECT relname FROM pg_class WHERE relnamespace = 'sealwire'::regnamespace",
    nameIn(url),
  );
  assert.deepEqual(tables.map(({ relname }) => relname), ["recipes"]);
});

test("a database with other tables is shared, and they are left alone", options, async () => {
  const url = await database!.newDatabase();
  await database!.run("CREATE TABLE head (n integer); INSERT INTO head VALUES (7)", nameIn(url));
  const store = await openPostgres(url, { create: true });
  assert.equal(await store.head(), null);
  await store.close();
  assert.equal((await database!.run("SELECT n FROM public.head", nameIn(url)))[0]!.n, 7);
});

test("a ledger of a newer version", options, async () => {
  const url = await database!.newDatabase();
  await (await openPostgres(url, { create: true })).close();
  await database!.run("UPDATE sealwire.schema_version SET version = 99", nameIn(url));
  await assertRefused(url, "store_unusable", /has version 99, and this program reads version \d+/);
});

test("a user without rights, until they are granted", options, async () => {
  const url = await database!.newDatabase();
  const name = nameIn(url);
  await database!.run("CREATE USER clerk PASSWORD 'clerk-secret'", name);
  const clerk = database!.url(name, { user: "clerk", password: "clerk-secret" });
  await assertRefused(clerk, "store_unusable", /lacks rights.*CREATE on the database/);
  await (await openPostgres(url, { create: true })).close();
  await assertRefused(clerk, "store_unusable", /lacks rights/);
  await database!.run(
    `GRANT USAGE ON SCHEMA sealwire TO clerk;
     GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA sealwire TO clerk`,
    name,
  );
  await assertRefused(clerk, "store_unusable", /SELECT, INSERT and UPDATE/);
  await database!.run("GRANT UPDATE ON ALL TABLES IN SCHEMA sealwire TO clerk", name);
  await assertRefused(clerk, "store_unusable", /DELETE on sealwire.listeners/);
  await database!.run("GRANT DELETE ON sealwire.listeners TO clerk", name);
  const store = await openPostgres(clerk, { create: true });
  assert.equal(await store.confirmedHead(), null);
  await store.close();
});

test("a database that only reads", options, async () => {
  const url = await database!.newDatabase();
  await database!.run(`ALTER DATABASE ${nameIn(url)} SET default_transaction_read_only = on`);
  await assertRefused(url, "store_unusable", /it is read-only/);
});

test("a database that loses what it has committed", options, async () => {
  const url = await database!.newDatabase();
  await database!.run(`ALTER DATABASE ${nameIn(url)} SET synchronous_commit = off`);
  await assertRefused(url, "store_unusable", /synchronous_commit is off there/);
  await withServer({ settings: { fsync: "off" } }, async (server) => {
    await assertRefused(await server.newDatabase(), "store_unusable", /fsync is off there/);
  });
});

test("a database that takes no more connections", options, async () => {
  await withServer(
    { settings: { max_connections: "4", superuser_reserved_connections: "1" } },
    async (server) => {
      await server.run("CREATE USER clerk PASSWORD 'clerk-secret'");
      const url = server.url("postgres", { user: "clerk", password: "clerk-secret" });
      const held = Array.from({ length: 3 }, () => server.admin());
      await Promise.all(held.map((admin) => admin.unsafe("SELECT 1")));
      await assertRefused(url, "store_unavailable", /cannot reach database.*connection/);
      await Promise.all(held.map((admin) => admin.end()));
    },
  );
});

test("TLS: the database's certificate is verified, and so is its name", options, async () => {
  const folder = temporaryFolder();
  const named = makeCertificate(folder, "localhost");
  const other = makeCertificate(folder, "elsewhere");
  const [own, wrong] = [named, other].map(({ cert }, at) => {
    const path = join(folder, `ca${at}.pem`);
    writeFileSync(path, cert);
    return encodeURIComponent(path);
  });
  await withServer({ tls: named }, async (server) => {
    const url = (await server.newDatabase()).replace("127.0.0.1", "localhost");
    const verified = `${url}?sslmode=verify-full`;
    const store = await openPostgres(`${verified}&sslrootcert=${own}`, { create: true });
    assert.equal(await store.confirmedHead(), null);
    const [row] = await server.run(
      `SELECT bool_and(ssl) AS all FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
       WHERE application_name LIKE 'sealwire%'`,
    );
    assert.equal(row!.all, true);
    await store.close();
    const untrusted = /certificate is not to be trusted.*sslrootcert/;
    await assertRefused(`${verified}&sslrootcert=${wrong}`, "store_unavailable", untrusted);
    await assertRefused(verified, "store_unavailable", untrusted);
    await assertRefused(
      `${verified.replace("localhost", "127.0.0.1")}&sslrootcert=${own}`,
      "store_unavailable",
      untrusted,
    );
  });
});

test("TLS that is asked for and not offered is not done without", options, async () => {
  const url = await database!.newDatabase();
  await assertRefused(`${url}?sslmode=verify-full`, "store_unusable", /does not offer TLS/);
});
