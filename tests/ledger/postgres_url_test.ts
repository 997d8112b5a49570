import assert from "node:assert/strict";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { isPostgresUrl, parsePostgresUrl } from "../../lib/ledger/postgres_url.ts";
import { temporaryFolder } from "../support/support.ts";

function fileOf(text: string, mode = 0o600): string {
  const path = join(temporaryFolder(), "file");
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

test("a URL names everything, percent-encoded where it must be", () => {
  const url = "postgres://pay%40er:p%3A%2F%40%20ss@db.example:6543/the%20ledger?sslmode=disable";
  assert.deepEqual(parsePostgresUrl(url, {}), {
    host: "db.example",
    port: 6543,
    socketPath: null,
    database: "the ledger",
    user: "pay@er",
    password: "p:/@ ss",
    tls: null,
  });
  assert.ok(isPostgresUrl("postgresql://a@b/c"));
  assert.ok(!isPostgresUrl("data/postgres.db"));
});

test("without a word about TLS, this machine is talked to plainly and every other with TLS", () => {
  const tlsOf = (host: string) => parsePostgresUrl(`postgres://u@${host}/d`, {}).tls;
  for (const host of ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", "%2Fvar%2Frun%2Fpg"]) {
    assert.equal(tlsOf(host), null, host);
  }
  for (const host of ["db.example", "10.0.0.1", "localhost.example", "127.0.0.1.example"]) {
    assert.deepEqual(tlsOf(host), { ca: undefined }, host);
  }
});

test("a Unix socket is named by its folder", () => {
  for (const url of ["postgres://u@%2Frun%2Fpg/d", "postgres://u@x/d?host=/run/pg"]) {
    assert.equal(parsePostgresUrl(url, {}).socketPath, "/run/pg/.s.PGSQL.5432");
  }
});

test("an IPv6 address has brackets", () => {
  assert.equal(parsePostgresUrl("postgres://u@[2001:db8::1]:5433/d", {}).host, "2001:db8::1");
});

test("the authority that vouches for the database is read from its file", () => {
  const path = fileOf("a certificate");
  const url = `postgres://u@db.example/d?sslmode=verify-full&sslrootcert=${
    encodeURIComponent(path)
  }`;
  assert.deepEqual(parsePostgresUrl(url, {}).tls, { ca: "a certificate" });
  const system = parsePostgresUrl("postgres://u@db.example/d?sslrootcert=system", {});
  assert.deepEqual(system.tls, { ca: undefined });
});

test("the password comes from the URL, else PGPASSWORD, else the file that PGPASSFILE names", () => {
  const PGPASSFILE = fileOf(
    "# a comment:with:colons:in:it\n" +
      "other:5432:d:u:not this\n" +
      "db\\.example:5432:d:u:nor this\r\n".replace("\\.", "") +
      "db.example:*:d:u:from\\:the\\\\file\n" +
      "*:*:*:*:any\n",
  );
  const url = "postgres://u@db.example/d";
  const both = { PGPASSWORD: "from the environment", PGPASSFILE };
  const withPassword = parsePostgresUrl("postgres://u:own@db.example/d", both);
  assert.equal(withPassword.password, "own");
  assert.equal(parsePostgresUrl(url, both).password, "from the environment");
  assert.equal(parsePostgresUrl(url, { PGPASSFILE }).password, "from:the\\file");
  assert.equal(parsePostgresUrl("postgres://v@db.example/d", { PGPASSFILE }).password, "any");
  assert.equal(parsePostgresUrl(url, {}).password, "");
});

test("a password file that others may read, or that is not there, is refused", () => {
  const url = "postgres://u@db.example/d";
  const open = { PGPASSFILE: fileOf("*:*:*:*:secret", 0o644) };
  assert.throws(() => parsePostgresUrl(url, open), /others may read.*chmod 600/);
  const missing = { PGPASSFILE: join(temporaryFolder(), "none") };
  assert.throws(() => parsePostgresUrl(url, missing), /cannot be read \(ENOENT\)/);
});

test("what is mistyped is named, and the password is never shown", () => {
  const cases: [string, RegExp][] = [
    ["postgre://u:s3cret@h/d", /does not start with postgres:\/\//],
    ["postgres://u:s3cret@h:54x2/d", /cannot be read/],
    ["postgres://u:s3cret@h:99999/d", /cannot be read/],
    ["postgres://u:s3cret@/d", /cannot be read|names no host/],
    ["postgres://h/d", /names no user/],
    ["postgres://u:s3cret@h", /names no database/],
    ["postgres://u:s3cret@h/", /names no database/],
    ["postgres://u:s3cret@h/a/b", /names no database/],
    ["postgres://u:s3cret@a,b/d", /several hosts|cannot be read/],
    ["postgres://u:s3cret%zz@h/d", /password has a %/],
    ["postgres://u:s3cret@h/d?sslmod=disable", /sslmod is none of its parameters/],
    ["postgres://u:s3cret@h/d?sslmode=require", /sslmode=require would trust/],
    ["postgres://u:s3cret@h/d?sslmode=prefer", /sslmode=prefer would trust/],
    ["postgres://u:s3cret@h/d?sslmode=disable&sslrootcert=x", /needs sslmode=verify-full/],
    ["postgres://u:s3cret@h/d?sslrootcert=/none", /sslrootcert \/none cannot be read \(ENOENT\)/],
    ["postgres://u:s3cret@%2Frun/d?sslmode=verify-full", /Unix socket has no TLS/],
    ["postgres://u:s3#cret@h/d", /cannot be read|#|names no/],
  ];
  for (const [url, sentence] of cases) {
    assert.throws(() => parsePostgresUrl(url, {}), (error: { code?: string; stack?: string }) => {
      assert.equal(error.code, "store_unusable", url);
      assert.match(error.stack!, sentence);
      assert.ok(!error.stack!.includes("s3"), url);
      return true;
    });
  }
});
