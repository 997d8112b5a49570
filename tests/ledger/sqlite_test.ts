import assert from "node:assert/strict";
import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openSqlite } from "../../lib/ledger/sqlite.ts";
import type { LedgerStore } from "../../lib/ledger/store.ts";
import { verifyConsistency } from "../../lib/protocol/merkle.ts";
import { auditFolder } from "../support/audited_ledger.ts";
import {
  anchorPath,
  CERT,
  copyLedger,
  databasePath,
  openAccounts,
  orderOf,
  person,
  serverPair,
  signedOrder,
  temporaryLedger,
} from "../support/fixtures.ts";
import { grant } from "../support/settle_world.ts";
import { spawnTool, temporaryFolder, type ToolProcess } from "../support/support.ts";

const alice = person("alice");
const bob = person("bob");

function newPath(): string {
  return join(temporaryFolder(), "ledger.db");
}

function mode(path: string): string {
  return (statSync(path).mode & 0o777).toString(8);
}

async function closedDatabase(): Promise<string> {
  const { folder, close } = await temporaryLedger();
  await close();
  return databasePath(folder);
}

test("a new ledger, its log and its folder are its owner's alone", async () => {
  const folder = join(temporaryFolder(), "data");
  const { ledger, close } = await temporaryLedger(folder);
  await openAccounts(ledger, alice);
  const path = databasePath(folder);
  assert.deepEqual([path, `${path}-wal`, `${path}-shm`].map(mode), ["600", "600", "600"]);
  assert.equal(mode(anchorPath(folder)), "600");
  await close();
  const nested = join(temporaryFolder(), "deeper", "ledger.db");
  await openSqlite(nested, { create: true }).close();
  assert.equal(mode(join(nested, "..")), "700");
});

test("an existing ledger that others could read is closed to them", async () => {
  const copy = newPath();
  writeFileSync(copy, readFileSync(await closedDatabase()), { mode: 0o644 });
  const opened = openSqlite(copy, { create: false });
  assert.equal(mode(copy), "600");
  await opened.close();
});

function assertUnusable(path: string, sentence: RegExp, create = true): void {
  assert.throws(
    () => openSqlite(path, { create }),
    (error: { code?: string; message?: string }) => {
      assert.equal(error.code, "store_unusable");
      assert.match(error.message!, sentence);
      assert.ok(error.message!.includes(path));
      return true;
    },
  );
}

test("another program's database is refused, and not one byte of it changed", () => {
  const path = newPath();
  const database = new DatabaseSync(path);
  database.exec("CREATE TABLE recipes (name TEXT); INSERT INTO recipes VALUES ('soup')");
  database.close();
  const before = readFileSync(path);
  assertUnusable(path, /not a Sealwire ledger/);
  assert.deepEqual(readFileSync(path), before);
});

for (const version of [2, 4]) {
  test(`a ledger of version ${version} is refused, and not one byte of it changed`, async () => {
    const path = await closedDatabase();
    const database = new DatabaseSync(path);
    database.exec(`PRAGMA user_version = ${version}`);
    database.close();
    const before = readFileSync(path);
    assertUnusable(path, new RegExp(`it has version ${version}, and this program reads version 3`));
    assert.deepEqual(readFileSync(path), before);
  });
}

test("what is no database, no file, or not there is refused with a sentence", () => {
  const text = newPath();
  writeFileSync(text, "Dear diary, this is no database, and longer than a header is.\n".repeat(20));
  assertUnusable(text, /not a database/);
  const folder = newPath();
  mkdirSync(folder);
  assertUnusable(folder, /cannot use the ledger/);
  assertUnusable(newPath(), /there is none/, false);
  assertUnusable(join(text, "ledger.db"), /cannot use the ledger/);
});

const isRoot = process.getuid?.() === 0;

test(
  "a ledger that may only be read is refused",
  { skip: isRoot && "root may write anything" },
  async () => {
    const copy = newPath();
    writeFileSync(copy, readFileSync(await closedDatabase()), { mode: 0o400 });
    assertUnusable(copy, /cannot use the ledger/);
  },
);

test("a transaction whose work throws leaves nothing, and the next one goes on", async () => {
  const { ledger, store, close } = await temporaryLedger();
  await openAccounts(ledger, alice);
  const before = await store.head();
  const counts = await store.counts();
  const work = store.transaction(async (transaction) => {
    await transaction.append({
      head: { ...before!, size: 99 },
      firstIndex: 98,
      entryTexts: ["an entry"],
      tiles: [],
      accounts: [],
      postings: [],
      payments: [],
      delegations: new Map([[CERT, "a delegation"]]),
      rotations: new Map(),
      requests: [],
      refunds: [],
      operatorIndexes: [98],
    });
    assert.equal((await transaction.head())!.size, 99);
    throw new Error("changed my mind");
  });
  await assert.rejects(work, /changed my mind/);
  assert.equal(await store.delegation(CERT), null);
  assert.deepEqual(await store.head(), before);
  assert.deepEqual(await store.counts(), counts);
  assert.equal((await ledger.submit(grant(alice, "1.00"))).state, "settled");
  await close();
});

test("transactions of one store never overlap", async () => {
  const { store, close } = await temporaryLedger();
  let inside = 0;
  const work = async () => {
    inside++;
    assert.equal(inside, 1);
    await sleep(2);
    inside--;
  };
  await Promise.all(Array.from({ length: 10 }, () => store.transaction(work)));
  await close();
});

/** The connection that writes, to bring about on purpose what only a broken machine would. */
function writerOf(store: LedgerStore): DatabaseSync {
  return (store as unknown as { writer: DatabaseSync }).writer;
}

test("on a full disk payments are store_unavailable, nothing is recorded, and it works again after", async () => {
  const { ledger, store, folder, close } = await temporaryLedger();
  await openAccounts(ledger, alice, bob);
  const writer = writerOf(store);
  const { page_count } = writer.prepare("PRAGMA page_count").get()!;
  writer.exec(`PRAGMA max_page_count = ${page_count}`);
  const submissions = await Promise.all(
    Array.from({ length: 100 }, async () => orderOf(await signedOrder(alice, bob))),
  );
  const before = ledger.checkpoint;
  const results = await Promise.allSettled(submissions.map((one) => ledger.submit(one)));
  for (const result of results) {
    assert.equal(result.status, "rejected");
    assert.equal((result as PromiseRejectedResult).reason.code, "store_unavailable");
  }
  assert.equal((await store.head())!.size, 5);
  assert.deepEqual(ledger.checkpoint, before);
  await auditFolder(folder);

  writer.exec("PRAGMA max_page_count = 1000000");
  for (const outcome of await Promise.all(submissions.map((one) => ledger.submit(one)))) {
    assert.equal(outcome.state, "settled");
  }
  assert.equal((await store.account(bob.name))!.balance, 1_125_000n);
  await close();
  await auditFolder(folder);
});

test("a COMMIT that SQLite refuses leaves nothing, and it works again after", async () => {
  const { ledger, store, folder, close } = await temporaryLedger();
  await openAccounts(ledger, alice);
  const writer = writerOf(store);
  // A constraint that is checked at COMMIT and not before.
  writer.exec(`
    PRAGMA foreign_keys = ON;
    CREATE TABLE faults (name TEXT REFERENCES accounts (name) DEFERRABLE INITIALLY DEFERRED);
    CREATE TRIGGER fault AFTER INSERT ON entries BEGIN INSERT INTO faults VALUES ('nobody'); END;
  `);
  const submission = grant(alice, "1.00");
  const before = ledger.checkpoint;
  await assert.rejects(ledger.submit(submission), { code: "store_unavailable" });
  assert.equal((await store.head())!.size, 3);
  assert.deepEqual(ledger.checkpoint, before);
  writer.exec("DROP TRIGGER fault");
  assert.equal((await ledger.submit(submission)).state, "settled");
  assert.equal((await store.account(alice.name))!.balance, 1_000_100n);
  await close();
  await auditFolder(folder);
});

test("while another process writes, payments wait for it and this process goes on", async () => {
  const { ledger, store, folder, close } = await temporaryLedger();
  await openAccounts(ledger, alice);
  const other = new DatabaseSync(databasePath(folder));
  other.exec("BEGIN IMMEDIATE");
  const submitted = ledger.submit(grant(alice, "1.00"));
  let ticks = 0;
  for (let waited = 0; waited < 20; waited++) {
    await sleep(10);
    ticks++;
  }
  assert.equal(ticks, 20);
  assert.equal((await store.account(alice.name))!.balance, 1_000_000n);
  other.exec("COMMIT");
  other.close();
  assert.equal((await submitted).state, "settled");
  await close();
});

test("a lock that is never let go of makes payments store_unavailable, after five seconds", {
  timeout: 60_000,
}, async () => {
  const { ledger, folder, close } = await temporaryLedger();
  await openAccounts(ledger, alice);
  const other = new DatabaseSync(databasePath(folder));
  other.exec("BEGIN IMMEDIATE");
  const began_ms = performance.now();
  await assert.rejects(ledger.submit(grant(alice, "1.00")), { code: "store_unavailable" });
  const took_ms = performance.now() - began_ms;
  assert.ok(took_ms > 4_900 && took_ms < 8_000, `${took_ms} ms`);
  other.exec("ROLLBACK");
  other.close();
  assert.equal((await ledger.submit(grant(alice, "1.00"))).state, "settled");
  await close();
});

/** Starts a second process that issues 0.01 to bob again and again, saying so line by line. */
async function startGranting(folder: string): Promise<ToolProcess> {
  const server = serverPair().publicKey.thumbprint;
  const worker = spawnTool("tests/support/grants_worker.ts", [folder, server, "bob"]);
  assert.equal(await worker.nextLine(), "ready");
  return worker;
}

/** Each size that the other process signed, with the root it signed. */
function signedRoots(lines: readonly string[]): Map<number, string> {
  return new Map(lines.map((line) => {
    const [state, size, root] = line.split(" ") as [string, string, string];
    assert.equal(state, "settled");
    return [Number(size), root];
  }));
}

test("two processes that write at once make one history, and audit passes while they do", {
  timeout: 60_000,
}, async () => {
  const { ledger, store, folder, close } = await temporaryLedger();
  await openAccounts(ledger, alice, bob);
  const worker = await startGranting(folder);
  const rounds = 20;
  const checkpoints = [ledger.checkpoint];
  for (let round = 0; round < rounds; round++) {
    const [outcome] = await Promise.all([
      ledger.submit(grant(alice, "0.01")),
      auditFolder(folder),
    ]);
    assert.equal(outcome.state, "settled");
    checkpoints.push(ledger.checkpoint);
  }
  worker.endInput();
  const { status, stdout, stderr } = await worker.ended;
  assert.equal(status, 0, stderr);
  const [ready, ...answers] = stdout.trimEnd().split("\n");
  const grants = answers.length;
  assert.equal(ready, "ready");
  assert.ok(grants > 3, `the other process wrote ${grants} times: too few beside this one`);
  assert.equal((await store.account(bob.name))!.balance, 1_000_000n + BigInt(grants));
  assert.equal((await store.account(alice.name))!.balance, 1_000_000n + BigInt(rounds));
  await ledger.submit(grant(alice, "0.01"));
  // Everything that either process signed is of this one history.
  for (const older of checkpoints) {
    const proof = await ledger.consistency(older.size, ledger.size);
    verifyConsistency(older, ledger.checkpoint, proof);
  }
  for (const [size, root] of signedRoots(answers)) {
    assert.equal(Buffer.from(await ledger.rootAt(size)).toString("base64"), root);
  }
  await close();
  const { entries } = await auditFolder(folder, { expected: checkpoints });
  assert.equal(entries, 5 + grants + rounds + 1);
});

test("a process killed at any moment loses nothing that it answered, and leaves a sound ledger", {
  timeout: 60_000,
}, async () => {
  const first = await temporaryLedger();
  await openAccounts(first.ledger, bob);
  await first.close();
  const { folder } = first;
  const roots = new Map<number, string>();
  let answered = 0;
  for (let round = 0; round < 5; round++) {
    const worker = await startGranting(folder);
    await worker.nextLine();
    await sleep(Math.random() * 40);
    const { stdout } = await worker.stop("SIGKILL");
    // The last line may have been cut.
    const lines = stdout.split("\n").slice(1, -1);
    answered += lines.length;
    for (const [size, root] of signedRoots(lines)) {
      assert.ok(!roots.has(size), `two roots of size ${size}`);
      roots.set(size, root);
    }
    const { ledger, store, close } = await temporaryLedger(folder);
    const issued = (await store.account(bob.name))!.balance - 1_000_000n;
    // The one that it was at when it was killed may be there or not.
    assert.ok(issued >= answered && issued <= answered + round + 1, `${issued} for ${answered}`);
    for (const [size, root] of roots) {
      assert.equal(Buffer.from(await ledger.rootAt(size)).toString("base64"), root);
    }
    await close();
    await auditFolder(folder);
  }
});

test("a backup of a ledger in use is a sound ledger, its owner's alone, and no other file is overwritten", async () => {
  const { ledger, store, folder, close } = await temporaryLedger();
  await openAccounts(ledger, alice, bob);
  await Promise.all(Array.from({ length: 300 }, () => ledger.submit(grant(bob, "0.01"))));
  const backup = join(temporaryFolder(), "backup.db");
  const progress: [number, number][] = [];
  const [, outcome] = await Promise.all([
    store.backup(backup, (done, total) => progress.push([done, total])),
    ledger.submit(grant(bob, "0.01")),
  ]);
  assert.equal(outcome.state, "settled");
  assert.equal(mode(backup), "600");
  assert.ok(progress.every(([done, total]) => done <= total));
  await assert.rejects(store.backup(backup, () => {}), { code: "target_exists" });
  await close();
  const restored = copyLedger(folder);
  writeFileSync(databasePath(restored), readFileSync(backup));
  const { entries } = await auditFolder(restored);
  assert.ok(entries >= 305, `${entries} entries`);
});
