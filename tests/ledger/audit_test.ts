import assert from "node:assert/strict";
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { before, test } from "node:test";
import { audit, type AuditResult } from "../../lib/ledger/audit.ts";
import { openSqlite } from "../../lib/ledger/sqlite.ts";
import { auditedLedger } from "../support/audited_ledger.ts";
import { person, serverPair, temporaryLedger, uuid } from "../support/fixtures.ts";
import { temporaryFolder } from "../support/support.ts";

let original: string;
let sound: AuditResult;

before(async () => ({ path: original, sound } = await auditedLedger()));

/** Audits a copy of the ledger after `tamper` has had its way with it. */
async function auditAfter(tamper: (database: DatabaseSync) => void): Promise<AuditResult> {
  const path = join(temporaryFolder(), "ledger.db");
  copyFileSync(original, path);
  const database = new DatabaseSync(path);
  tamper(database);
  database.close();
  const store = openSqlite(path, { create: false });
  try {
    return await audit(store, serverPair().publicKey);
  } finally {
    await store.close();
  }
}

async function assertFails(sql: string, height: number, sentence: RegExp): Promise<void> {
  const audited = auditAfter((database) => {
    // Tampering that changes nothing would prove nothing.
    const changed = sql.split(";").map((one) => Number(database.prepare(one).run().changes));
    assert.ok(changed.every((rows) => rows > 0), `changed nothing: ${sql}`);
  });
  await assert.rejects(audited, (error: { code?: string; message?: string; details?: object }) => {
    assert.equal(error.code, "audit_failed", `${error.message}`);
    assert.deepEqual(error.details, { height }, error.message);
    assert.match(error.message!, sentence);
    return true;
  });
}

test("a sound ledger passes and the audit says what it holds", async () => {
  const { head, ...counts } = await auditAfter(() => {});
  assert.deepEqual(counts, { blocks: 6, entries: 12, accounts: 3 });
  assert.equal(head, sound.head);
});

test("an empty ledger passes", async () => {
  const { store } = temporaryLedger();
  assert.deepEqual(await audit(store, serverPair().publicKey), {
    blocks: 0,
    entries: 0,
    accounts: 0,
    head: null,
  });
});

test("another server's key passes nothing", async () => {
  const store = openSqlite(original, { create: false });
  await assert.rejects(audit(store, person("alice").pair.publicKey), { code: "audit_failed" });
  await store.close();
});

test("progress counts each entry once", async () => {
  const store = openSqlite(original, { create: false });
  const progress: number[] = [];
  await audit(store, serverPair().publicKey, (entries) => progress.push(entries));
  assert.deepEqual(progress, [2, 2, 2, 2, 3, 1]);
  await store.close();
});

const ALICES = "payer = 'alice' AND void IS NULL";
const CAROLS = "payer = 'carol' AND items IS NOT NULL";

/** Each column of each table that the ledger means something by: what is done to it, the block named, the sentence. */
const TAMPERINGS: [string, string, number, RegExp][] = [
  [
    "a balance raised",
    "UPDATE accounts SET balance = balance + 1 WHERE name = 'alice'",
    6,
    /alice has/,
  ],
  [
    "money moved between balances, the sum unchanged",
    "UPDATE accounts SET balance = balance + 1 WHERE name = 'alice'; UPDATE accounts SET balance = balance - 1 WHERE name = 'bob'",
    6,
    /alice has/,
  ],
  [
    "the treasury's balance",
    "UPDATE accounts SET balance = 0 WHERE name = '@treasury'",
    6,
    /@treasury has/,
  ],
  [
    "an account with money put in",
    "INSERT INTO accounts VALUES ('mallory', 'k', NULL, NULL, 1000)",
    6,
    /mallory/,
  ],
  [
    "an account without money put in",
    "INSERT INTO accounts VALUES ('mallory', 'k', '{}', 1, 0)",
    6,
    /mallory/,
  ],
  ["an account renamed", "UPDATE accounts SET name = 'mallory' WHERE name = 'carol'", 6, /mallory/],
  ["an account taken away", "DELETE FROM accounts WHERE name = 'carol'", 6, /carol is missing/],
  [
    "the treasury taken away",
    "DELETE FROM accounts WHERE name = '@treasury'",
    6,
    /@treasury is missing/,
  ],
  [
    "an account's key thumbprint",
    "UPDATE accounts SET key = (SELECT key FROM accounts WHERE name = 'bob') WHERE name = 'alice'",
    6,
    /alice is not what the entries say/,
  ],
  [
    "an account's key",
    "UPDATE accounts SET jwk = (SELECT jwk FROM accounts WHERE name = 'bob') WHERE name = 'alice'",
    6,
    /alice is stored with another key/,
  ],
  [
    "an account's key made nonsense",
    "UPDATE accounts SET jwk = '{' WHERE name = 'alice'",
    6,
    /no JSON/,
  ],
  [
    "an account's key taken away",
    "UPDATE accounts SET jwk = NULL WHERE name = 'alice'",
    6,
    /alice is stored with another key/,
  ],
  [
    "where an account was opened",
    "UPDATE accounts SET opened_seq = 3 WHERE name = 'alice'",
    6,
    /alice is not what/,
  ],

  [
    "a posting's balance",
    "UPDATE postings SET balance = balance + 1 WHERE account = 'bob' AND seq = 7",
    4,
    /entry 7.*bob/,
  ],
  [
    "a posting's account",
    "UPDATE postings SET account = 'mallory' WHERE account = 'bob' AND seq = 7",
    4,
    /entry 7.*bob/,
  ],
  [
    "a posting's entry",
    "UPDATE postings SET seq = 99 WHERE account = 'alice' AND seq = 12",
    6,
    /entry 12.*alice/,
  ],
  [
    "a posting taken away",
    "DELETE FROM postings WHERE account = 'alice' AND seq = 2",
    1,
    /entry 2.*alice/,
  ],
  [
    "a posting put in",
    "INSERT INTO postings VALUES ('bob', 12, 5)",
    6,
    /balances that no entry explains/,
  ],

  [
    "an entry's amount",
    "UPDATE entries SET text = replace(text, '12.50', '92.50') WHERE seq = 7",
    4,
    /not those that the header signs/,
  ],
  [
    "an entry's payee",
    'UPDATE entries SET text = replace(text, \'"payee":"bob"\', \'"payee":"carol"\') WHERE seq = 7',
    4,
    /header signs/,
  ],
  ["an entry in the middle taken away", "DELETE FROM entries WHERE seq = 8", 4, /header signs/],
  ["the last entry taken away", "DELETE FROM entries WHERE seq = 12", 6, /entries are missing/],
  [
    "an entry put in at the end",
    "INSERT INTO entries SELECT 13, text FROM entries WHERE seq = 12",
    6,
    /entries that no block has/,
  ],
  [
    "two entries of a block swapped",
    "UPDATE entries SET seq = -seq WHERE seq IN (7, 8); UPDATE entries SET seq = 15 + seq WHERE seq < 0",
    4,
    /header signs/,
  ],
  [
    "two entries of two blocks swapped",
    "UPDATE entries SET seq = -seq WHERE seq IN (8, 9); UPDATE entries SET seq = 17 + seq WHERE seq < 0",
    4,
    /header signs/,
  ],

  [
    "a header's signature",
    "UPDATE blocks SET header = substr(header, 1, length(header) - 2) || 'AA' WHERE height = 4",
    4,
    /header/,
  ],
  [
    "a header by another block's",
    "UPDATE blocks SET header = (SELECT header FROM blocks WHERE height = 3) WHERE height = 4",
    4,
    /says height 3/,
  ],
  ["a header made nonsense", "UPDATE blocks SET header = 'x' WHERE height = 4", 4, /header/],
  [
    "a block's height",
    "UPDATE blocks SET height = 7 WHERE height = 6",
    7,
    /says height 6/,
  ],
  ["a block's first entry", "UPDATE blocks SET first = 8 WHERE height = 4", 4, /./],
  [
    "a block's count, lower",
    "UPDATE blocks SET count = 1 WHERE height = 4",
    4,
    /entries are missing/,
  ],
  [
    "a block's count, higher",
    "UPDATE blocks SET count = 3 WHERE height = 4",
    4,
    /entries are missing/,
  ],
  ["a block in the middle taken away", "DELETE FROM blocks WHERE height = 4", 4, /says height 5/],
  ["the first block taken away", "DELETE FROM blocks WHERE height = 1", 1, /says height 2/],
  ["the last block alone taken away", "DELETE FROM blocks WHERE height = 6", 5, /./],

  [
    "a settled payment made void",
    `UPDATE outcomes SET void = 'cancelled' WHERE ${ALICES}`,
    4,
    /recorded elsewhere/,
  ],
  ["a settled payment taken away", `DELETE FROM outcomes WHERE ${ALICES}`, 4, /recorded elsewhere/],
  [
    "a payment's id",
    `UPDATE outcomes SET id = '${uuid()}' WHERE ${ALICES}`,
    4,
    /recorded elsewhere/,
  ],
  [
    "a payment's payer",
    `UPDATE outcomes SET payer = 'bob' WHERE ${ALICES}`,
    4,
    /recorded elsewhere/,
  ],
  [
    "a payment's place",
    `UPDATE outcomes SET first_seq = 8 WHERE ${ALICES}`,
    4,
    /recorded elsewhere/,
  ],
  [
    "a payment's count",
    `UPDATE outcomes SET count = 2 WHERE ${ALICES}`,
    4,
    /counts other payments/,
  ],
  ["a batch's count", `UPDATE outcomes SET count = 2 WHERE ${CAROLS}`, 5, /counts other payments/],
  [
    "a grant's count",
    "UPDATE outcomes SET count = 2 WHERE payer = '@treasury' AND first_seq = 12",
    6,
    /counts other payments/,
  ],
  [
    "a payment's content hash",
    `UPDATE outcomes SET content_sha256 = NULL WHERE ${ALICES}`,
    4,
    /recorded as another order/,
  ],
  [
    "a grant's content hash",
    "UPDATE outcomes SET content_sha256 = NULL WHERE payer = '@treasury' AND first_seq = 12",
    6,
    /recorded as another order/,
  ],
  [
    "a payment's order taken away",
    `UPDATE outcomes SET order_text = NULL WHERE ${ALICES}`,
    4,
    /order is missing/,
  ],
  [
    "a payment's order by another one",
    `UPDATE outcomes SET order_text = (SELECT order_text FROM outcomes WHERE payer = 'bob' AND order_text IS NOT NULL) WHERE ${ALICES}`,
    4,
    /./,
  ],
  [
    "a character of an order's signature",
    `UPDATE outcomes SET order_text = substr(order_text, 1, length(order_text) - 3) || 'AAA' WHERE ${ALICES}`,
    4,
    /order/,
  ],
  [
    "which delegation a payment rests on",
    `UPDATE outcomes SET delegation_sha256 = (SELECT delegation_sha256 FROM outcomes WHERE ${CAROLS}) WHERE ${ALICES}`,
    4,
    /delegation/,
  ],
  [
    "a batch's items",
    `UPDATE outcomes SET items = replace(items, '1.00', '2.00') WHERE ${CAROLS}`,
    5,
    /./,
  ],
  [
    "a batch's items made nonsense",
    `UPDATE outcomes SET items = '[' WHERE ${CAROLS}`,
    5,
    /no JSON/,
  ],
  ["a batch's items taken away", `UPDATE outcomes SET items = NULL WHERE ${CAROLS}`, 5, /items/],
  [
    "a payment that was never made put in as settled",
    `INSERT INTO outcomes SELECT 'alice', '${uuid()}', NULL, NULL, 7, 1, NULL, NULL, NULL, 0`,
    6,
    /settled payments that no entry explains/,
  ],

  [
    "a delegation's text",
    "UPDATE delegations SET text = 'x' WHERE sha256 = (SELECT entries.text ->> 'delegation_sha256' FROM entries WHERE seq = 1)",
    1,
    /delegation/,
  ],
  [
    "a delegation's hash",
    "UPDATE delegations SET sha256 = 'x' WHERE sha256 = (SELECT entries.text ->> 'delegation_sha256' FROM entries WHERE seq = 1)",
    1,
    /delegation is missing/,
  ],
  ["all delegations taken away", "DELETE FROM delegations", 1, /delegation is missing/],
];

for (const [what, sql, height, sentence] of TAMPERINGS) {
  test(`audit notices ${what}`, () => assertFails(sql, height, sentence));
}

test("a ledger cut back whole to an earlier block passes: only clients who saw more can tell", async () => {
  // A restored backup is a sound ledger. Clients keep the highest header they have seen, and stop at login.
  const { blocks, head } = await auditAfter((database) => {
    database.exec(`
      DELETE FROM blocks WHERE height = 6;
      DELETE FROM entries WHERE seq = 12;
      DELETE FROM postings WHERE seq = 12;
      DELETE FROM outcomes WHERE first_seq = 12;
      UPDATE accounts SET balance = balance - 500 WHERE name = 'alice';
      UPDATE accounts SET balance = balance + 500 WHERE name = '@treasury';
    `);
  });
  assert.equal(blocks, 5);
  assert.notEqual(head, sound.head);
});
