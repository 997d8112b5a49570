import assert from "node:assert/strict";
import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { audit } from "../../lib/ledger/audit.ts";
import { openSqlite } from "../../lib/ledger/sqlite.ts";
import type { LedgerStore } from "../../lib/ledger/store.ts";
import {
  CERT,
  NOW_S,
  openAccounts,
  orderOf,
  person,
  serverPair,
  signedOrder,
  temporaryLedger,
  uuid,
} from "../support/fixtures.ts";
import { grant } from "../support/settle_world.ts";
import { spawnTool, temporaryFolder, type ToolProcess } from "../support/support.ts";

const alice = person("alice");
const bob = person("bob");
const DAY_S = 86_400;

function newPath(): string {
  return join(temporaryFolder(), "ledger.db");
}

function mode(path: string): string {
  return (statSync(path).mode & 0o777).toString(8);
}

test("a new ledger, its log and its folder are its owner's alone", async () => {
  const path = join(temporaryFolder(), "data", "ledger.db");
  const { ledger, store } = temporaryLedger(path);
  await openAccounts(ledger, alice);
  assert.equal(mode(join(path, "..")), "700");
  assert.deepEqual([path, `${path}-wal`, `${path}-shm`].map(mode), ["600", "600", "600"]);
  await store.close();
});

test("an existing ledger that others could read is closed to them", async () => {
  const { store, path } = temporaryLedger();
  await store.close();
  const copy = newPath();
  writeFileSync(copy, readFileSync(path), { mode: 0o644 });
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

test("a ledger from a newer version is refused, and not one byte of it changed", async () => {
  const { store, path } = temporaryLedger();
  await store.close();
  const database = new DatabaseSync(path);
  database.exec("PRAGMA user_version = 2");
  database.close();
  const before = readFileSync(path);
  assertUnusable(path, /it has version 2, and this program reads version 1/);
  assert.deepEqual(readFileSync(path), before);
});

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
    const { store, path } = temporaryLedger();
    await store.close();
    const copy = newPath();
    writeFileSync(copy, readFileSync(path), { mode: 0o400 });
    assertUnusable(copy, /cannot use the ledger/);
  },
);

test("a transaction whose work throws leaves nothing, and the next one goes on", async () => {
  const { ledger, store } = temporaryLedger();
  await openAccounts(ledger, alice);
  const before = await store.head();
  const work = store.transaction(async (transaction) => {
    await transaction.append({
      header: null,
      entryTexts: [],
      accounts: [],
      openedKeys: new Map(),
      postings: [],
      newOutcomes: [{
        payer: alice.name,
        id: uuid(),
        contentSha256: null,
        end: { void: "cancelled" },
        submission: { type: "cancel", payer: alice.name, id: uuid() },
      }],
      delegations: new Map([[CERT, "a delegation"]]),
      time_s: NOW_S,
    });
    throw new Error("changed my mind");
  });
  await assert.rejects(work, /changed my mind/);
  assert.equal(await store.delegation(CERT), null);
  assert.deepEqual(await store.head(), before);
  assert.equal((await ledger.submit(grant(alice, "1.00"))).state, "settled");
});

test("transactions of one store never overlap", async () => {
  const { store } = temporaryLedger();
  let inside = 0;
  const work = async () => {
    inside++;
    assert.equal(inside, 1);
    await sleep(2);
    inside--;
  };
  await Promise.all(Array.from({ length: 10 }, () => store.transaction(work)));
});

/** The connection that writes, to bring about on purpose what only a broken machine would. */
function writerOf(store: LedgerStore): DatabaseSync {
  return (store as unknown as { writer: DatabaseSync }).writer;
}

test("on a full disk payments are store_unavailable, nothing is recorded, and it works again after", async () => {
  const { ledger, store } = temporaryLedger();
  await openAccounts(ledger, alice, bob);
  const writer = writerOf(store);
  const { page_count } = writer.prepare("PRAGMA page_count").get()!;
  writer.exec(`PRAGMA max_page_count = ${page_count}`);
  const submissions = await Promise.all(
    Array.from({ length: 100 }, async () => orderOf(await signedOrder(alice, bob))),
  );
  const results = await Promise.allSettled(submissions.map((one) => ledger.submit(one)));
  for (const result of results) {
    assert.equal(result.status, "rejected");
    assert.equal((result as PromiseRejectedResult).reason.code, "store_unavailable");
  }
  assert.equal((await store.head()).height, 2);
  await audit(store, serverPair().publicKey);

  writer.exec("PRAGMA max_page_count = 1000000");
  for (const outcome of await Promise.all(submissions.map((one) => ledger.submit(one)))) {
    assert.equal(outcome.state, "settled");
  }
  assert.equal((await store.account("bob"))!.balance, 1_125_000n);
  await audit(store, serverPair().publicKey);
});

test("a COMMIT that SQLite refuses leaves nothing, and it works again after", async () => {
  const { ledger, store } = temporaryLedger();
  await openAccounts(ledger, alice);
  const writer = writerOf(store);
  // A constraint that is checked at COMMIT and not before.
  writer.exec(`
    PRAGMA foreign_keys = ON;
    CREATE TABLE faults (name TEXT REFERENCES accounts (name) DEFERRABLE INITIALLY DEFERRED);
    CREATE TRIGGER fault AFTER INSERT ON entries BEGIN INSERT INTO faults VALUES ('nobody'); END;
  `);
  const submission = grant(alice, "1.00");
  await assert.rejects(ledger.submit(submission), { code: "store_unavailable" });
  assert.equal((await store.head()).height, 1);
  assert.equal((await store.account("alice"))!.balance, 1_000_000n);
  writer.exec("DROP TRIGGER fault");
  assert.equal((await ledger.submit(submission)).state, "settled");
  assert.equal((await store.account("alice"))!.balance, 1_000_100n);
  await audit(store, serverPair().publicKey);
});

test("while another process writes, payments wait for it and this process goes on", async () => {
  const { ledger, store, path } = temporaryLedger();
  await openAccounts(ledger, alice);
  const other = new DatabaseSync(path);
  other.exec("BEGIN IMMEDIATE");
  const submitted = ledger.submit(grant(alice, "1.00"));
  let ticks = 0;
  for (let waited = 0; waited < 20; waited++) {
    await sleep(10);
    ticks++;
  }
  assert.equal(ticks, 20);
  assert.equal((await store.account("alice"))!.balance, 1_000_000n);
  other.exec("COMMIT");
  other.close();
  assert.equal((await submitted).state, "settled");
});

test("a lock that is never let go of makes payments store_unavailable, after five seconds", {
  timeout: 60_000,
}, async () => {
  const { ledger, path } = temporaryLedger();
  await openAccounts(ledger, alice);
  const other = new DatabaseSync(path);
  other.exec("BEGIN IMMEDIATE");
  const began_ms = performance.now();
  await assert.rejects(ledger.submit(grant(alice, "1.00")), { code: "store_unavailable" });
  const took_ms = performance.now() - began_ms;
  assert.ok(took_ms > 4_900 && took_ms < 8_000, `${took_ms} ms`);
  other.exec("ROLLBACK");
  other.close();
  assert.equal((await ledger.submit(grant(alice, "1.00"))).state, "settled");
});

/** Starts a second process that issues 0.01 to bob again and again, saying so line by line. */
async function startGranting(path: string): Promise<ToolProcess> {
  const keyPath = join(temporaryFolder(), "server_private.pem");
  const pem = serverPair().privateKey.export({ type: "pkcs8", format: "pem" });
  writeFileSync(keyPath, pem, { mode: 0o600 });
  const worker = spawnTool("tests/support/grants_worker.ts", [path, keyPath, CERT, "bob"]);
  assert.equal(await worker.nextLine(), "ready");
  return worker;
}

test("two processes that write at once make one chain, and audit passes while they do", {
  timeout: 60_000,
}, async () => {
  const { ledger, store, path } = temporaryLedger();
  await openAccounts(ledger, alice, bob);
  const worker = await startGranting(path);
  const auditStore = openSqlite(path, { create: false });
  const rounds = 20;
  for (let round = 0; round < rounds; round++) {
    const [outcome] = await Promise.all([
      ledger.submit(grant(alice, "0.01")),
      audit(auditStore, serverPair().publicKey),
    ]);
    assert.equal(outcome.state, "settled");
  }
  worker.endInput();
  const { status, stdout, stderr } = await worker.ended;
  assert.equal(status, 0, stderr);
  const [ready, ...answers] = stdout.trimEnd().split("\n");
  const grants = answers.length;
  assert.equal(ready, "ready");
  assert.ok(answers.every((answer) => answer === "settled"));
  assert.ok(grants > 3, `the other process wrote ${grants} times: too few beside this one`);
  assert.equal((await store.account("bob"))!.balance, 1_000_000n + BigInt(grants));
  assert.equal((await store.account("alice"))!.balance, 1_000_000n + BigInt(rounds));
  const { blocks } = await audit(store, serverPair().publicKey);
  assert.equal(blocks, 2 + grants + rounds);
  await auditStore.close();
});

test("a process killed at any moment loses nothing that it answered, and leaves a sound ledger", {
  timeout: 60_000,
}, async () => {
  const { ledger, store, path } = temporaryLedger();
  await openAccounts(ledger, bob);
  let answered = 0;
  for (let round = 0; round < 5; round++) {
    const worker = await startGranting(path);
    await worker.nextLine();
    await sleep(Math.random() * 40);
    const { stdout } = await worker.stop("SIGKILL");
    answered += stdout.split("settled\n").length - 1;
    const issued = (await store.account("bob"))!.balance - 1_000_000n;
    // The one that it was at when it was killed may be there or not.
    assert.ok(issued >= answered && issued <= answered + round + 1, `${issued} for ${answered}`);
    await audit(store, serverPair().publicKey);
  }
  assert.equal((await ledger.submit(grant(bob, "1.00"))).state, "settled");
});

test("voids are kept for a week of the chain's time, and settled payments for ever", async () => {
  const temporary = temporaryLedger();
  const { ledger, store } = temporary;
  await openAccounts(ledger, alice, bob);
  const id = uuid();
  const settled = orderOf(await signedOrder(alice, bob));
  await ledger.submit(settled);
  await ledger.submit({ type: "cancel", payer: alice.name, id });
  temporary.now_s = NOW_S + 7 * DAY_S;
  await ledger.submit(grant(alice, "1.00"));
  assert.ok(await store.payment(alice.name, id));
  temporary.now_s = NOW_S + 7 * DAY_S + 1;
  await ledger.submit(grant(alice, "1.00"));
  assert.equal(await store.payment(alice.name, id), null);
  assert.equal((await ledger.submit(settled)).state, "settled");
});

test("a clock that runs ahead for a moment brings no void order back", async () => {
  const temporary = temporaryLedger();
  const { ledger } = temporary;
  await openAccounts(ledger, alice, bob);
  const submission = orderOf(await signedOrder(alice, bob));
  const { id } = submission.signed.order.claims;
  await ledger.submit({ type: "cancel", payer: alice.name, id });
  temporary.now_s = NOW_S + 30 * DAY_S;
  await ledger.submit({ type: "cancel", payer: bob.name, id: uuid() });
  temporary.now_s = NOW_S + 1;
  assert.deepEqual(await ledger.submit(submission), {
    state: "void",
    reason: "cancelled",
    again: true,
  });
});
