import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { before, test } from "node:test";
import { encodeBase64url, type Sha256 } from "../../lib/base/parse.ts";
import type { AuditResult } from "../../lib/ledger/audit.ts";
import { type Checkpoint, logOrigin, signCheckpoint } from "../../lib/ledger/checkpoint.ts";
import { EMPTY_ROOT } from "../../lib/protocol/merkle.ts";
import { TREASURY } from "../../lib/protocol/party.ts";
import {
  type AuditedLedger,
  auditedLedger,
  auditFolder,
  BATCH,
  CANCEL,
  GRANT,
  PAYMENT,
  SIZE,
} from "../support/audited_ledger.ts";
import {
  amount,
  copyLedger,
  databasePath,
  logKeyOf,
  openAccounts,
  opening,
  orderOf,
  person,
  rsaPair,
  serverPair,
  signedOrder,
  temporaryLedger,
  uuid,
} from "../support/fixtures.ts";
import { grant } from "../support/settle_world.ts";

let original: AuditedLedger;

before(async () => {
  original = await auditedLedger();
});

/** Audits a copy of the ledger after `tamper` has had its way with it. */
function auditAfter(tamper: (database: DatabaseSync) => void): Promise<AuditResult> {
  const folder = copyLedger(original.folder);
  const database = new DatabaseSync(databasePath(folder));
  tamper(database);
  database.close();
  return auditFolder(folder);
}

async function assertFails(
  audited: Promise<unknown>,
  index: number,
  sentence: RegExp,
): Promise<void> {
  await assert.rejects(audited, (error: { code?: string; message?: string; details?: object }) => {
    assert.equal(error.code, "audit_failed", `${error.message}`);
    assert.match(error.message!, sentence);
    assert.deepEqual(error.details, { index }, error.message);
    return true;
  });
}

test("a sound ledger passes and the audit says what it holds", async () => {
  const { root, ...counts } = await auditFolder(original.folder);
  assert.deepEqual(counts, { entries: SIZE, accounts: 4, size: SIZE, explained: [] });
  assert.equal(root.length, 43);
});

test("a new ledger passes", async () => {
  const { folder, close } = await temporaryLedger();
  await close();
  assert.equal((await auditFolder(folder)).entries, 1);
});

test("a ledger whose treasury has got all of its money back passes", async () => {
  const alice = person("alice");
  const { ledger, folder, close } = await temporaryLedger();
  await openAccounts(ledger, alice);
  const payeeKey = serverPair().publicKey.thumbprint;
  const back = { payee: TREASURY, payeeKey, amount: amount("10000.00") } as const;
  const { state } = await ledger.submit(orderOf(await signedOrder(alice, alice, back)));
  assert.equal(state, "settled");
  await close();
  assert.equal((await auditFolder(folder)).entries, 4);
});

test("a database without a ledger fails", async () => {
  const { store, folder } = await temporaryLedger();
  await store.close();
  const database = new DatabaseSync(databasePath(folder));
  database.exec("DELETE FROM head; DELETE FROM entries; DELETE FROM operator_entries");
  database.close();
  await assertFails(auditFolder(folder), 0, /no head/);
});

test("another server's key passes nothing, and neither does another log key", async () => {
  const { folder } = original;
  const server = rsaPair("another server").publicKey.thumbprint;
  await assertFails(auditFolder(folder, { server }), 0, /another server/);
  const log = person("alice").session.publicKey;
  await assertFails(auditFolder(folder, { log }), 0, /another log key/);
});

const ALICES = `payer = 'alice' AND entry_index = ${PAYMENT}`;
const CAROLS = `payer = 'carol' AND entry_index = ${BATCH}`;

/** Each column of each table that the ledger means something by: what is done to it, the index named, the sentence. */
const TAMPERINGS: [string, string, number, RegExp][] = [
  [
    "a balance raised",
    "UPDATE accounts SET balance = balance + 1 WHERE name = 'alice'",
    SIZE,
    /alice has/,
  ],
  [
    "money moved between balances, the sum unchanged",
    "UPDATE accounts SET balance = balance + 1 WHERE name = 'alice'; UPDATE accounts SET balance = balance - 1 WHERE name = 'bob'",
    SIZE,
    /alice has/,
  ],
  [
    "the treasury's balance",
    "UPDATE accounts SET balance = 0 WHERE name = '@treasury'",
    SIZE,
    /@treasury has/,
  ],
  [
    "an account with money put in",
    "INSERT INTO accounts VALUES ('mallory', 'k', NULL, 1000, 1, 1, 1, '')",
    SIZE,
    /mallory/,
  ],
  [
    "an account without money put in",
    "INSERT INTO accounts VALUES ('mallory', 'k', '{}', 0, 1, 1, 1, '')",
    SIZE,
    /mallory/,
  ],
  [
    "an account renamed",
    "UPDATE accounts SET name = 'mallory' WHERE name = 'carol'",
    SIZE,
    /mallory/,
  ],
  [
    "an account taken away",
    "DELETE FROM accounts WHERE name = 'carol'",
    SIZE,
    /accounts are missing/,
  ],
  [
    "the treasury taken away",
    "DELETE FROM accounts WHERE name = '@treasury'",
    SIZE,
    /accounts are missing/,
  ],
  [
    "an account's key thumbprint",
    "UPDATE accounts SET key = (SELECT key FROM accounts WHERE name = 'bob') WHERE name = 'alice'",
    SIZE,
    /alice is not what the entries say/,
  ],
  [
    "an account's key",
    "UPDATE accounts SET jwk = (SELECT jwk FROM accounts WHERE name = 'bob') WHERE name = 'alice'",
    SIZE,
    /alice is stored with another key/,
  ],
  [
    "an account's key made nonsense",
    "UPDATE accounts SET jwk = '{' WHERE name = 'alice'",
    SIZE,
    /no JSON/,
  ],
  [
    "an account's key taken away",
    "UPDATE accounts SET jwk = NULL WHERE name = 'alice'",
    SIZE,
    /alice is stored with another key/,
  ],
  [
    "a key for an account that has none",
    "UPDATE accounts SET jwk = (SELECT jwk FROM accounts WHERE name = 'alice') WHERE name = 'dora'",
    SIZE,
    /dora is stored with another key/,
  ],
  [
    "where an account was opened",
    "UPDATE accounts SET opened = 3 WHERE name = 'alice'",
    SIZE,
    /alice is not what/,
  ],
  [
    "where an account was last changed",
    "UPDATE accounts SET changed = 3 WHERE name = 'alice'",
    SIZE,
    /alice is not what/,
  ],
  [
    "an account's seal",
    "UPDATE accounts SET seal = (SELECT seal FROM accounts WHERE name = 'bob') WHERE name = 'alice'",
    SIZE,
    /alice was changed/,
  ],

  [
    "a posting's balance",
    `UPDATE postings SET balance = balance + 1 WHERE account = 'bob' AND entry_index = ${PAYMENT}`,
    PAYMENT,
    /balance of bob/,
  ],
  [
    "a posting's account",
    `UPDATE postings SET account = 'mallory' WHERE account = 'bob' AND entry_index = ${PAYMENT}`,
    PAYMENT,
    /balance of bob/,
  ],
  [
    "a posting's entry",
    `UPDATE postings SET entry_index = 999 WHERE account = 'alice' AND entry_index = ${GRANT}`,
    GRANT,
    /balance of alice/,
  ],
  [
    "a posting taken away",
    "DELETE FROM postings WHERE account = 'alice' AND entry_index = 2",
    2,
    /balance of alice/,
  ],
  [
    "a posting put in",
    `INSERT INTO postings VALUES ('bob', ${GRANT}, 5)`,
    SIZE,
    /balances that no entry explains/,
  ],

  [
    "an entry's amount",
    `UPDATE entries SET text = replace(text, '12.50', '92.50') WHERE entry_index = ${PAYMENT}`,
    PAYMENT,
    /pays something else/,
  ],
  [
    "an entry's payee",
    `UPDATE entries SET text = replace(text, '"payee":"bob"', '"payee":"carol"') WHERE entry_index = ${PAYMENT}`,
    PAYMENT,
    /payee has another key/,
  ],
  [
    "an entry's time",
    `UPDATE entries SET text = replace(text, '"time":18', '"time":17') WHERE entry_index = ${GRANT}`,
    255,
    /tile 0\/0/,
  ],
  [
    "the last entry's salt",
    `UPDATE entries SET text = substr(text, 1, instr(text, '"salt":"') + 7) || 'AAAAAAAAAAAAAAAAAAAAAA' || substr(text, instr(text, '"salt":"') + 30) WHERE entry_index = ${
      SIZE - 1
    }`,
    SIZE,
    /do not lead to the root/,
  ],
  [
    "an entry in the middle taken away",
    "DELETE FROM entries WHERE entry_index = 20",
    20,
    /entry 21/,
  ],
  [
    "the last entry taken away",
    `DELETE FROM entries WHERE entry_index = ${SIZE - 1}`,
    SIZE - 1,
    /it is missing/,
  ],
  [
    "an entry put in at the end",
    `INSERT INTO entries SELECT ${SIZE}, text FROM entries WHERE entry_index = 12`,
    SIZE,
    /entries beyond the end/,
  ],
  [
    "two entries swapped",
    "UPDATE entries SET entry_index = -entry_index WHERE entry_index IN (20, 21); UPDATE entries SET entry_index = 41 + entry_index WHERE entry_index < 0",
    20,
    /entry 21/,
  ],
  [
    "entry 0 of another server",
    `UPDATE entries SET text = replace(text, '${serverPair().publicKey.thumbprint}', '${
      rsaPair("another server").publicKey.thumbprint
    }') WHERE entry_index = 0`,
    0,
    /another server/,
  ],
  [
    "an operator's entry left off the list",
    "DELETE FROM operator_entries WHERE entry_index = 14",
    SIZE,
    /operator's entries/,
  ],
  [
    "an entry listed as the operator's",
    "INSERT INTO operator_entries VALUES (20)",
    SIZE,
    /operator's entries/,
  ],

  [
    "the head's size, lower",
    `UPDATE head SET size = ${SIZE - 1}`,
    0,
    /head of the ledger was changed/,
  ],
  [
    "the head's root",
    "UPDATE head SET root = 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'",
    0,
    /head of the ledger was changed/,
  ],
  ["the head's settings", "UPDATE head SET opening_balance = 1", 0, /head .* was changed/],
  ["the head's registration", "UPDATE head SET registration = 'x'", 0, /head .* was changed/],
  ["the head taken away", "DELETE FROM head", 0, /no head/],

  [
    "a tile's hashes",
    "UPDATE tiles SET hashes = zeroblob(8192)",
    255,
    /tile 0\/0 is not that of the entries/,
  ],
  [
    "a tile's root",
    "UPDATE tiles SET root = zeroblob(32)",
    255,
    /tile 0\/0 is not that of the entries/,
  ],
  ["a tile taken away", "DELETE FROM tiles", 255, /tile 0\/0 is missing/],
  [
    "a tile put in",
    "INSERT INTO tiles SELECT 0, 1, hashes, root FROM tiles",
    SIZE,
    /tiles that no entry explains/,
  ],

  [
    "a settled payment made a cancelled one",
    `UPDATE payments SET state = 'cancelled' WHERE ${ALICES}`,
    PAYMENT,
    /was changed/,
  ],
  [
    "a settled payment taken away",
    `DELETE FROM payments WHERE ${ALICES}`,
    PAYMENT,
    /is not recorded/,
  ],
  [
    "a cancel taken away",
    `DELETE FROM payments WHERE entry_index = ${CANCEL}`,
    CANCEL,
    /is not recorded/,
  ],
  [
    "a payment's id",
    `UPDATE payments SET id = '${uuid()}' WHERE ${ALICES}`,
    PAYMENT,
    /is not recorded/,
  ],
  [
    "a payment's payer",
    `UPDATE payments SET payer = 'bob' WHERE ${ALICES}`,
    PAYMENT,
    /is not recorded/,
  ],
  [
    "a payment's place",
    `UPDATE payments SET entry_index = 999 WHERE ${ALICES}`,
    PAYMENT,
    /was changed/,
  ],
  [
    "a payment's content hash",
    `UPDATE payments SET content_sha256 = 'x' WHERE ${ALICES}`,
    PAYMENT,
    /was changed/,
  ],
  [
    "a grant's content hash",
    `UPDATE payments SET content_sha256 = 'x' WHERE entry_index = ${GRANT}`,
    GRANT,
    /was changed/,
  ],
  [
    "a payment's order taken away",
    `UPDATE payments SET signed_text = NULL WHERE ${ALICES}`,
    PAYMENT,
    /order is missing/,
  ],
  [
    "a cancel's text taken away",
    `UPDATE payments SET signed_text = NULL WHERE entry_index = ${CANCEL}`,
    CANCEL,
    /cancel is missing/,
  ],
  [
    "a payment's order by another one",
    `UPDATE payments SET signed_text = (SELECT signed_text FROM payments WHERE payer = 'bob' AND signed_text IS NOT NULL) WHERE ${ALICES}`,
    PAYMENT,
    /another account/,
  ],
  [
    "a character of an order's signature",
    `UPDATE payments SET signed_text = substr(signed_text, 1, length(signed_text) - 3) || 'AAA' WHERE ${ALICES}`,
    PAYMENT,
    /order/,
  ],
  [
    "which delegation a payment rests on",
    `UPDATE payments SET delegation_sha256 = (SELECT delegation_sha256 FROM payments WHERE ${CAROLS}) WHERE ${ALICES}`,
    PAYMENT,
    /delegation/,
  ],
  [
    "a batch's items",
    `UPDATE payments SET items = replace(items, '1.00', '2.00') WHERE ${CAROLS}`,
    BATCH,
    /add up/,
  ],
  [
    "a batch's items made nonsense",
    `UPDATE payments SET items = '[' WHERE ${CAROLS}`,
    BATCH,
    /no JSON/,
  ],
  [
    "a batch's items taken away",
    `UPDATE payments SET items = NULL WHERE ${CAROLS}`,
    BATCH,
    /items/,
  ],
  [
    "a payment that was never made put in as settled",
    `INSERT INTO payments SELECT 'alice', '${uuid()}', state, content_sha256, 999, NULL, NULL, NULL, seal FROM payments WHERE ${ALICES}`,
    SIZE,
    /ended payments that no entry explains/,
  ],

  [
    "a delegation's text",
    "UPDATE delegations SET text = 'x' WHERE sha256 = (SELECT entries.text ->> 'delegation_sha256' FROM entries WHERE entry_index = 1)",
    1,
    /delegation/,
  ],
  [
    "a delegation's hash",
    "UPDATE delegations SET sha256 = 'x' WHERE sha256 = (SELECT entries.text ->> 'delegation_sha256' FROM entries WHERE entry_index = 1)",
    1,
    /delegation is missing/,
  ],
  ["all delegations taken away", "DELETE FROM delegations", 1, /delegation is missing/],
];

for (const [what, sql, index, sentence] of TAMPERINGS) {
  test(`audit notices ${what}`, async () => {
    const audited = auditAfter((database) => {
      // Tampering that changes nothing would prove nothing.
      const changed = sql.split(";").map((one) => Number(database.prepare(one).run().changes));
      assert.ok(changed.every((rows) => rows > 0), `changed nothing: ${sql}`);
    });
    await assertFails(audited, index, sentence);
  });
}

/** A copy of the ledger, a change, a submission to the running server, and the audit of it all. */
async function runningAfter(
  tamper: (database: DatabaseSync) => void,
  run: (ledger: Awaited<ReturnType<typeof temporaryLedger>>["ledger"]) => Promise<unknown>,
): Promise<string> {
  const folder = copyLedger(original.folder);
  const database = new DatabaseSync(databasePath(folder));
  tamper(database);
  database.close();
  const { ledger, close } = await temporaryLedger(folder);
  await run(ledger);
  await close();
  return folder;
}

test("audit finds an order that settled after the row of its cancel was deleted", async () => {
  const alice = person("alice");
  const id = original.cancelledId;
  const submission = orderOf(await signedOrder(alice, person("bob"), { id }));
  const folder = await runningAfter(
    (database) => database.exec(`DELETE FROM payments WHERE id = '${id}'`),
    async (ledger) => assert.equal((await ledger.submit(submission)).state, "settled"),
  );
  await assertFails(auditFolder(folder), CANCEL, /recorded elsewhere/);
});

test("audit finds a payment made twice after its row was deleted", async () => {
  const folder = await runningAfter(
    (database) => database.exec(`DELETE FROM payments WHERE entry_index = ${PAYMENT}`),
    async (ledger) => assert.equal((await ledger.submit(original.payment)).state, "settled"),
  );
  await assertFails(auditFolder(folder), PAYMENT, /recorded elsewhere/);
});

test("audit finds an account that was deleted and opened anew by another key", async () => {
  const mallory = { ...person("mallory"), name: person("carol").name };
  const folder = await runningAfter(
    (database) => database.exec("DELETE FROM accounts WHERE name = 'carol'"),
    async (ledger) => assert.equal((await ledger.submit(await opening(mallory))).state, "opened"),
  );
  await assertFails(auditFolder(folder), SIZE, /carol exists already/);
});

test("audit finds an old genuine row put back, though the server went on from it", async () => {
  const alice = person("alice");
  const bob = person("bob");
  const folder = copyLedger(original.folder);
  const first = await temporaryLedger(folder);
  const database = new DatabaseSync(databasePath(folder));
  const before = database.prepare("SELECT * FROM accounts WHERE name = 'alice'").get()!;
  await first.ledger.submit(orderOf(await signedOrder(alice, bob)));
  database.prepare("UPDATE accounts SET balance = ?, changed = ?, seal = ? WHERE name = 'alice'")
    .run(before.balance!, before.changed!, before.seal!);
  database.close();
  const { state } = await first.ledger.submit(orderOf(await signedOrder(alice, bob)));
  assert.equal(state, "settled");
  await first.close();
  await assertFails(auditFolder(folder), SIZE + 1, /balance of alice/);
});

test("a checkpoint of any size that was kept elsewhere is found to be part of the log", async () => {
  const { ledger, folder, close } = await temporaryLedger();
  const kept = [ledger.checkpoint];
  for (const name of ["alice", "bob", "carol"]) {
    await openAccounts(ledger, person(name));
    kept.push(ledger.checkpoint);
  }
  await close();
  const { explained } = await auditFolder(folder, { expected: kept.reverse() });
  assert.deepEqual(explained, []);
});

function signed(folder: string, size: number, root: Uint8Array): Checkpoint {
  const origin = logOrigin(serverPair().publicKey.thumbprint);
  return { origin, size, root, text: signCheckpoint(logKeyOf(folder), origin, size, root) };
}

test("a kept checkpoint of another history fails, and so does one of a longer log", async () => {
  const { folder, checkpoint } = original;
  const { root } = checkpoint;
  const other = [
    signed(folder, 3, root),
    signed(folder, SIZE, new Uint8Array(32)),
    signed(folder, SIZE + 1, root),
  ];
  for (const one of other) {
    const audited = auditFolder(folder, { expected: [checkpoint, one] });
    await assertFails(audited, SIZE, new RegExp(`checkpoint of ${one.size} entries`));
  }
});

for (const [what, keptSize] of [["cut back", 3], ["replaced", 0]] as const) {
  test(`a checkpoint of a ledger that was ${what} is shown as explained by the rollback, no other is`, async () => {
    const { ledger, folder, close } = await temporaryLedger();
    await openAccounts(ledger, person("alice"));
    const { size, root } = ledger.checkpoint;
    await ledger.submit({
      type: "operator",
      fact: {
        type: "ledger.rollback",
        keptSize,
        keptRoot: encodeBase64url(keptSize === 0 ? EMPTY_ROOT : root) as Sha256,
        lostSize: 5,
        lostRoot: encodeBase64url(root) as Sha256,
      },
    });
    assert.equal(size, 3);
    await ledger.submit(grant(person("alice"), "1.00"));
    await close();
    const lost = [signed(folder, 4, new Uint8Array(32)), signed(folder, 5, root)];
    const { explained } = await auditFolder(folder, { expected: lost });
    assert.deepEqual(explained, [4, 5]);
    const beyond = signed(folder, 6, new Uint8Array(32));
    await assertFails(auditFolder(folder, { expected: [beyond] }), 5, /checkpoint of 6 entries/);
    const another = signed(folder, 5, new Uint8Array(32));
    await assertFails(auditFolder(folder, { expected: [another] }), 5, /checkpoint of 5 entries/);
  });
}

test("a long ledger is read in chunks, and progress counts each entry once", async () => {
  const { ledger, folder, close } = await temporaryLedger();
  await openAccounts(ledger, person("bob"));
  await Promise.all(
    Array.from({ length: 1_200 }, () => ledger.submit(grant(person("bob"), "0.01"))),
  );
  await close();
  const progress: number[] = [];
  await auditFolder(folder, { onProgress: (entries) => progress.push(entries) });
  assert.deepEqual(progress, [500, 500, 203]);
});

test("an audit beside a running writer ends, and covers what was committed meanwhile", async () => {
  const bob = person("bob");
  const { ledger, folder, close } = await temporaryLedger();
  await openAccounts(ledger, bob);
  await Promise.all(Array.from({ length: 1_200 }, () => ledger.submit(grant(bob, "0.01"))));
  const sizeBefore = ledger.size;
  const submitted: Promise<unknown>[] = [];
  const { entries, size } = await auditFolder(folder, {
    onProgress: () => submitted.push(ledger.submit(grant(bob, "0.01"))),
  });
  assert.ok(entries > sizeBefore, `${entries} of ${sizeBefore}: nothing was written meanwhile`);
  await Promise.all(submitted);
  assert.ok(size <= ledger.size);
  await close();
  assert.equal((await auditFolder(folder)).size, ledger.size);
});
