/** What a server refuses to start with. */
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import net from "node:net";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, describe, test } from "node:test";
import { openSqlite } from "../../../lib/ledger/sqlite.ts";
import { makeCertificate, makeExpiredCertificate } from "../../support/certificates.ts";
import { assertRefused, type RefusedRun, testRefusals } from "../../support/refused_runs.ts";
import { runTool, spawnTool, temporaryFolder } from "../../support/support.ts";

const folder = temporaryFolder();
const good = join(folder, "good");
const made = await runTool("server.ts", ["keygen", "--keys", good, "--json"]);
assert.equal(made.status, 0, made.stderr);

const occupied = net.createServer();
occupied.listen(0, "127.0.0.1");
await once(occupied, "listening");
const { port: takenPort } = occupied.address() as AddressInfo;
after(() => occupied.close());

let folders = 0;

function newFolder(): string {
  const path = join(folder, `case_${folders++}`);
  mkdirSync(path);
  return path;
}

/** A copy of good keys: keys belong to one ledger, and most cases make one. */
function goodKeys(): string {
  const keys = join(newFolder(), "keys");
  cpSync(good, keys, { recursive: true });
  return keys;
}

/** Arguments of a server with good keys in which `spoil` changes something. */
function withKeys(spoil: (keys: string) => void, command: readonly string[] = ["0"]): string[] {
  const keys = goodKeys();
  spoil(keys);
  return [
    ...command,
    "--host",
    "127.0.0.1",
    "--keys",
    keys,
    "--db",
    join(newFolder(), "ledger.db"),
  ];
}

/** Arguments of a server whose ledger's path `make` has prepared. */
function withDb(
  make: (path: string) => string | void,
  command: readonly string[] = ["0", "--host", "127.0.0.1"],
): string[] {
  const path = join(newFolder(), "ledger.db");
  return [...command, "--keys", goodKeys(), "--db", make(path) ?? path];
}

/** Arguments that are wrong before any file is looked at. */
function bare(...args: string[]): () => string[] {
  return () => [...args, "--keys", goodKeys(), "--db", join(newFolder(), "ledger.db")];
}

/** Arguments of a server that has run once and is stopped, in whose keys or ledger `spoil` changes something. */
async function afterOneRun(
  spoil: (keys: string, db: string) => void,
  command: readonly string[] = ["0", "--host", "127.0.0.1"],
): Promise<string[]> {
  const files = ["--keys", goodKeys(), "--db", join(newFolder(), "ledger.db")];
  const server = spawnTool("server.ts", ["0", "--host", "127.0.0.1", "--json", ...files]);
  await server.nextJson(({ event }) => event === "listening");
  assert.equal((await server.stop()).status, 0);
  spoil(files[1]!, files[3]!);
  return [...command, ...files];
}

function rsaPem(modulusLength: number): string {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength });
  return privateKey.export({ type: "pkcs8", format: "pem" }) as string;
}

/** A path that no user can make anything under, be it root, whom permissions do not hold: a regular file is in the way. */
function underAFile(): string {
  const path = join(newFolder(), "file");
  writeFileSync(path, "");
  return join(path, "within");
}

const USAGE = { code: "usage", status: 2 };

describe("a command line that is wrong", () => {
  testRefusals("server.ts", [
    { promise: "no port", args: () => [], ...USAGE, names: /port/ },
    {
      promise: "a port out of range",
      args: bare("65536"),
      ...USAGE,
      names: /<port>.*65535.*"65536"/,
    },
    { promise: "an option that is a number", args: bare("-1"), ...USAGE, names: /-1/ },
    {
      promise: "a negative port",
      args: () => ["--keys", good, "--", "-1"],
      ...USAGE,
      names: /<port>.*"-1"/,
    },
    { promise: "a port that is no number", args: bare("http"), ...USAGE, names: /<port>.*"http"/ },
    { promise: "a port that is a fraction", args: bare("80.5"), ...USAGE, names: /<port>/ },
    { promise: "an empty port", args: bare(""), ...USAGE, names: /<port>/ },
    { promise: "two ports", args: bare("8080", "8081"), ...USAGE, names: /8080/ },
    {
      promise: "an unknown option",
      args: bare("0", "--frobnicate"),
      ...USAGE,
      names: /--frobnicate/,
    },
    { promise: "an option without its value", args: () => ["0", "--db"], ...USAGE, names: /--db/ },
    {
      promise: "an option that takes no value",
      args: bare("0", "--quiet=yes"),
      ...USAGE,
      names: /--quiet/,
    },
    {
      promise: "--opening-balance negative",
      args: bare("0", "--opening-balance=-5"),
      ...USAGE,
      names: /--opening-balance.*-5/,
    },
    {
      promise: "--opening-balance with three decimals",
      args: bare("0", "--opening-balance", "1.001"),
      ...USAGE,
      names: /--opening-balance.*1\.001/,
    },
    {
      promise: "--opening-balance in words",
      args: bare("0", "--opening-balance", "much"),
      ...USAGE,
      names: /--opening-balance.*much/,
    },
    {
      promise: "--opening-balance beyond what there can be",
      args: bare("0", "--opening-balance", "90071992547409.92"),
      ...USAGE,
      names: /--opening-balance.*90071992547409\.91/,
    },
    { promise: "--log xml", args: bare("0", "--log", "xml"), ...USAGE, names: /--log.*"xml"/ },
    { promise: "grant without an amount", args: bare("grant", "alice"), ...USAGE, names: /grant/ },
    {
      promise: "grant to a bad name",
      args: bare("grant", "Alice", "1"),
      code: "bad_name",
      status: 2,
      names: /Alice/,
    },
    {
      promise: "grant of nothing",
      args: bare("grant", "alice", "0"),
      code: "bad_amount",
      status: 2,
      names: /amount/,
    },
    {
      promise: "grant under a bad id",
      args: bare("grant", "alice", "1", "--id", "7"),
      ...USAGE,
      names: /--id.*"7"/,
    },
    { promise: "audit of something", args: bare("audit", "8080"), ...USAGE, names: /audit/ },
    {
      promise: "keygen of something",
      args: () => ["keygen", "8080", "--keys", good],
      ...USAGE,
      names: /"8080": keygen takes no arguments/,
    },
    {
      promise: "an option of another command",
      args: bare("audit", "--host", "127.0.0.1"),
      ...USAGE,
      names: /audit takes no --host: it belongs to server\.ts <port>/,
    },
  ]);
});

describe("an address that cannot be listened on", () => {
  testRefusals("server.ts", [
    {
      promise: "a port in use",
      args: bare(String(takenPort), "--host", "127.0.0.1"),
      code: "port_in_use",
      names: new RegExp(String(takenPort)),
    },
    {
      promise: "another machine's address",
      args: bare("0", "--host", "192.0.2.1"),
      code: "address_unavailable",
      names: /192\.0\.2\.1/,
    },
    {
      promise: "a name that there is not",
      args: bare("0", "--host", "nowhere.invalid"),
      code: "address_unavailable",
      names: /nowhere\.invalid/,
    },
  ]);
});

describe("keys that are not right", () => {
  const write = (name: string, text: string) => (keys: string) =>
    writeFileSync(join(keys, name), text);
  testRefusals("server.ts", [
    {
      promise: "a private key that is none",
      args: () => withKeys(write("server_private.pem", "x")),
      code: "key_unreadable",
      names: /server_private\.pem/,
    },
    {
      promise: "an empty private key",
      args: () => withKeys(write("server_private.pem", "")),
      code: "key_unreadable",
      names: /server_private\.pem/,
    },
    {
      promise: "a private key that is a folder",
      args: () =>
        withKeys((keys) => {
          rmSync(join(keys, "server_private.pem"));
          mkdirSync(join(keys, "server_private.pem"));
        }),
      code: "key_unreadable",
      names: /server_private\.pem/,
    },
    {
      promise: "a private key of 1024 bits",
      args: () => withKeys(write("server_private.pem", rsaPem(1024))),
      code: "bad_key",
      names: /server_private\.pem.*2048/,
    },
    {
      promise: "a private key that is gone while the public one is there",
      args: () => withKeys((keys) => rmSync(join(keys, "server_private.pem"))),
      code: "key_missing",
      names: /server_private\.pem/,
    },
    {
      promise: "a public key of another private key",
      args: () => withKeys(write("server_private.pem", rsaPem(2048))),
      code: "key_mismatch",
      names: /server_public\.pem.*server_private\.pem/,
    },
    {
      promise: "a TLS key of another certificate",
      args: () => withKeys((keys) => makeInto(keys, "other", "key")),
      code: "key_mismatch",
      names: /server_cert\.pem/,
    },
    {
      promise: "a certificate of another TLS key",
      args: () => withKeys((keys) => makeInto(keys, "other", "cert")),
      code: "key_mismatch",
      names: /server_cert\.pem/,
    },
    {
      promise: "a certificate that is none",
      args: () =>
        withKeys(
          write(
            "server_cert.pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
          ),
        ),
      code: "bad_certificate",
      names: /server_cert\.pem/,
    },
    {
      promise: "a certificate out of date",
      args: () => withKeys(makeExpiredInto),
      code: "certificate_expired",
      names: /server_cert\.pem.*2020-02-01/,
    },
    {
      promise: "a folder in which nothing can be made",
      args: () => ["0", "--keys", underAFile(), "--db", join(newFolder(), "x.db")],
      code: "folder_unwritable",
      names: /within/,
    },
    {
      promise: "keys in a folder in which nothing can be made",
      args: () => ["keygen", "--keys", underAFile()],
      code: "folder_unwritable",
      names: /within/,
    },
  ]);
});

function makeInto(keys: string, name: string, part: "key" | "cert"): void {
  const work = newFolder();
  makeCertificate(work, name);
  copyFileSync(join(work, `${name}_${part}.pem`), join(keys, `server_${part}.pem`));
}

function makeExpiredInto(keys: string): void {
  const work = newFolder();
  makeExpiredCertificate(work, "old");
  for (const part of ["key", "cert"]) {
    copyFileSync(join(work, `old_${part}.pem`), join(keys, `server_${part}.pem`));
  }
}

/** An empty ledger as this program makes it, with `statement` run on it. */
async function changedLedger(path: string, statement: string): Promise<string> {
  await openSqlite(path, { create: true }).close();
  const database = new DatabaseSync(path);
  database.exec(statement);
  database.close();
  return path;
}

const STORE = { code: "store_unusable", names: /ledger/ };

describe("a ledger that is not ours", () => {
  const runs: RefusedRun[] = [
    {
      promise: "a text file",
      args: () => withDb((path) => writeFileSync(path, "shopping list\n".repeat(100))),
      ...STORE,
    },
    {
      promise: "another program's database",
      args: () =>
        withDb((path) => {
          const other = new DatabaseSync(path);
          other.exec("CREATE TABLE songs (name TEXT)");
          other.close();
        }),
      ...STORE,
    },
    {
      promise: "a ledger of a newer version",
      args: async () => {
        const path = await changedLedger(
          join(newFolder(), "ledger.db"),
          "PRAGMA user_version = 99",
        );
        return withDb(() => path);
      },
      ...STORE,
      names: /ledger\.db.*99/,
    },
    {
      promise: "a folder",
      args: () =>
        withDb((path) => {
          mkdirSync(path);
        }),
      ...STORE,
    },
    {
      promise: "in a folder that cannot be made",
      args: () => withDb(() => join(underAFile(), "ledger.db")),
      ...STORE,
    },
    { promise: "none, at an audit", args: () => withDb(() => {}, ["audit"]), ...STORE },
    {
      promise: "none, at a grant",
      args: () => withDb(() => {}, ["grant", "alice", "5"]),
      ...STORE,
    },
    {
      promise: "a text file, at an audit",
      args: () => withDb((path) => writeFileSync(path, "x".repeat(5_000)), ["audit"]),
      ...STORE,
    },
  ];
  testRefusals("server.ts", runs);

  test("stays as it was", async () => {
    const path = join(newFolder(), "ledger.db");
    const text = "shopping list\n";
    writeFileSync(path, text);
    const outcome = await runTool("server.ts", [...withDb(() => path), "--json"]);
    assertRefused(runs[0]!, outcome);
    assert.equal(readFileSync(path, "utf8"), text);
  });

  test("is not made by an audit", async () => {
    const path = join(newFolder(), "ledger.db");
    await runTool("server.ts", withDb(() => path, ["audit"]));
    assert.ok(!existsSync(path));
  });

  testRefusals("server.ts", [
    {
      promise: "a grant in a database that no server has started with",
      args: async () => {
        const path = await changedLedger(join(newFolder(), "ledger.db"), "SELECT 1");
        return withDb(() => path, ["grant", "nobody", "5"]);
      },
      code: "ledger_missing",
      names: /start the server once/,
    },
    {
      promise: "a grant to an account that there is not",
      args: () => afterOneRun(() => {}, ["grant", "nobody", "5"]),
      code: "unknown_account",
      names: /account/,
    },
  ]);
});

describe("a server that has run before", () => {
  const replace = (name: string, text: string) => (keys: string) =>
    writeFileSync(join(keys, name), text);
  const remove = (...names: string[]) => (keys: string) => {
    for (const name of names) rmSync(join(keys, name));
  };
  testRefusals("server.ts", [
    {
      promise: "and whose RSA key is another one now",
      args: () =>
        afterOneRun((keys) => {
          remove("server_public.pem", "server_anchor.txt")(keys);
          replace("server_private.pem", rsaPem(2048))(keys);
        }),
      code: "ledger_of_another_server",
      names: /server_private\.pem/,
    },
    {
      promise: "and whose log key is gone",
      args: () => afterOneRun(remove("server_log_key.pem", "server_anchor.txt")),
      code: "ledger_of_another_server",
      names: /server_log_key\.pem/,
    },
    {
      promise: "and whose log key is none",
      args: () => afterOneRun(replace("server_log_key.pem", "x")),
      code: "key_unreadable",
      names: /server_log_key\.pem/,
    },
    {
      promise: "and whose log key is an RSA key",
      args: () => afterOneRun(replace("server_log_key.pem", rsaPem(2048))),
      code: "bad_key",
      names: /server_log_key\.pem/,
    },
    {
      promise: "and whose anchor is rubbish",
      args: () => afterOneRun(replace("server_anchor.txt", "x")),
      code: "bad_checkpoint",
      names: /anchor/,
    },
    {
      promise: "and whose database is gone",
      args: () => afterOneRun((_, db) => rmSync(db)),
      code: "ledger_rolled_back",
      status: 3,
      names: /--db/,
    },
    {
      promise: "and whose log key is gone, at a grant",
      args: () => afterOneRun(remove("server_log_key.pem"), ["grant", "alice", "1"]),
      code: "key_missing",
      names: /server_log_key\.pem/,
    },
    {
      promise: "and whose keys are gone, at an audit",
      args: () => afterOneRun(remove("server_private.pem", "server_public.pem"), ["audit"]),
      code: "key_missing",
      names: /server_private\.pem/,
    },
  ]);

  test("and whose statement is rubbish signs a new one", async () => {
    const args = await afterOneRun(replace("server_statement.txt", "x"));
    const server = spawnTool("server.ts", [...args, "--json"]);
    await server.nextJson(({ event }) => event === "listening");
    assert.equal((await server.stop()).status, 0);
  });
});

test("without --json an error is one sentence, and standard output stays empty", async () => {
  const outcome = await runTool("server.ts", ["65536"]);
  assert.deepEqual([outcome.status, outcome.stdout], [2, ""]);
  assert.match(outcome.stderr, /^error: [^\n]*65536[^\n]*--help\)\n$/);
});
