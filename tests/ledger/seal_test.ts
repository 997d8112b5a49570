/** What is changed in the database is noticed before anything is signed that rests on it, or before it is sent. */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import type { Submission } from "../../lib/ledger/submission.ts";
import {
  type AuditedLedger,
  auditedLedger,
  BATCH,
  CANCEL,
  PAYMENT,
  SIZE,
} from "../support/audited_ledger.ts";
import {
  cancelOf,
  copyLedger,
  orderOf,
  person,
  signedBatch,
  signedCancel,
  signedOrder,
  temporaryLedger,
} from "../support/fixtures.ts";
import { grant, openClassic } from "../support/settle_world.ts";
import { tamper } from "../support/tamper.ts";

const alice = person("alice");
const bob = person("bob");
const carol = person("carol");

let original: AuditedLedger;

before(async () => {
  original = await auditedLedger();
});

const bobsOrder = async () => orderOf(await signedOrder(bob, carol));
const alicesOrder = async () => orderOf(await signedOrder(alice, bob));
const alicesBatch = async () => {
  const { signed, items } = await signedBatch(carol, [[bob, "1.00"], [alice, "1.00"]]);
  return orderOf(signed, items);
};

/** What is changed, and a submission whose outcome rests on it. */
const ROWS: [string, string, () => Promise<Submission> | Submission][] = [
  [
    "the balance of a payer",
    "UPDATE accounts SET balance = balance + 100000000 WHERE name = 'alice'",
    alicesOrder,
  ],
  ["the balance of a payee", "UPDATE accounts SET balance = 1 WHERE name = 'alice'", alicesBatch],
  [
    "the treasury's balance",
    "UPDATE accounts SET balance = balance - 1 WHERE name = '@treasury'",
    () => grant(bob, "1.00"),
  ],
  [
    "a payer's key",
    "UPDATE accounts SET key = (SELECT key FROM accounts WHERE name = 'carol') WHERE name = 'alice'",
    alicesOrder,
  ],
  ["a payer's key taken away", "UPDATE accounts SET key = NULL WHERE name = 'alice'", alicesOrder],
  [
    "a key given to an account that has none",
    "UPDATE accounts SET key = (SELECT key FROM accounts WHERE name = 'alice') WHERE name = 'dora'",
    () => openClassic("dora" as typeof alice.name),
  ],
  [
    "where an account was opened",
    "UPDATE accounts SET opened = 3 WHERE name = 'alice'",
    alicesOrder,
  ],
  [
    "where an account was changed",
    "UPDATE accounts SET changed = 3 WHERE name = 'alice'",
    alicesOrder,
  ],
  [
    "one account's row by another's",
    "UPDATE accounts SET (key, jwk, balance, opened, changed, seal) = (SELECT key, jwk, balance, opened, changed, seal FROM accounts WHERE name = 'bob') WHERE name = 'alice'",
    alicesOrder,
  ],
  [
    "an account put in",
    "INSERT INTO accounts SELECT 'mallory', key, jwk, balance, opened, keyed, changed, seal FROM accounts WHERE name = 'alice'",
    async () => orderOf(await signedOrder(alice, person("mallory"))),
  ],
  [
    "a settled id made a cancelled one",
    `UPDATE payments SET state = 'cancelled' WHERE entry_index = ${PAYMENT}`,
    () => original.payment,
  ],
  [
    "a settled id made another order's",
    `UPDATE payments SET content_sha256 = (SELECT content_sha256 FROM payments WHERE entry_index = ${BATCH}) WHERE entry_index = ${PAYMENT}`,
    () => original.payment,
  ],
  [
    "a settled id made another entry's",
    `UPDATE payments SET entry_index = 999 WHERE entry_index = ${PAYMENT}`,
    () => original.payment,
  ],
  [
    "a cancelled id made a settled one",
    `UPDATE payments SET state = 'settled' WHERE entry_index = ${CANCEL}`,
    async () => cancelOf(await signedCancel(alice, original.cancelledId)),
  ],
  [
    "an id moved to another payer",
    `UPDATE payments SET payer = 'bob' WHERE entry_index = ${CANCEL}`,
    async () => orderOf(await signedOrder(bob, carol, { id: original.cancelledId })),
  ],
];

/** What is changed in the head: a submission of anyone's finds it. */
const HEADS: [string, string][] = [
  ["the log's size, higher", `UPDATE head SET size = ${SIZE + 1}`],
  ["the log's root", "UPDATE head SET root = 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'"],
  ["the last entry's time", "UPDATE head SET time_s = time_s - 1"],
  ["the server", "UPDATE head SET server = 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'"],
  ["the unit", "UPDATE head SET unit = 'USD'"],
  ["the opening balance", "UPDATE head SET opening_balance = 100000000"],
  ["the registration rule", "UPDATE head SET registration = 'closed'"],
  ["the registration rule made nonsense", "UPDATE head SET registration = 'x'"],
  ["the seal", "UPDATE head SET seal = ''"],
];

const DAMAGED = { code: "store_damaged" };

/** The ledger signs nothing more: not for what was changed, and not for anyone else. */
async function assertStopped(
  { ledger, store, troubles }: Awaited<ReturnType<typeof temporaryLedger>>,
  submission: Submission,
): Promise<void> {
  const { text } = ledger.checkpoint;
  const { entries } = await store.counts();
  await assert.rejects(ledger.submit(submission), DAMAGED);
  await assert.rejects(ledger.submit(await bobsOrder()), DAMAGED);
  assert.deepEqual(troubles, ["store_damaged"]);
  assert.equal(ledger.checkpoint.text, text);
  assert.equal((await store.counts()).entries, entries);
}

describe("changed while the server is down", () => {
  for (const [what, sql, make] of ROWS) {
    test(`${what} is noticed before anything is signed`, async () => {
      const folder = copyLedger(original.folder);
      tamper(folder, sql);
      const opened = await temporaryLedger(folder);
      await assertStopped(opened, await make());
      await opened.close();
    });
  }

  for (
    const [what, sql] of [...HEADS, ["the log's size, lower", `UPDATE head SET size = 300`]]
  ) {
    test(`${what} keeps the ledger shut`, async () => {
      const folder = copyLedger(original.folder);
      tamper(folder, sql!);
      await assert.rejects(temporaryLedger(folder), DAMAGED);
    });
  }

  const EDGES: [string, string][] = [
    ["one of the last entries", `UPDATE entries SET text = text || ' ' WHERE entry_index = 300`],
    ["the last entry taken away", `DELETE FROM entries WHERE entry_index = ${SIZE - 1}`],
    ["entry 0 made nonsense", "UPDATE entries SET text = 'x' WHERE entry_index = 0"],
    [
      "entry 0 by another one",
      "UPDATE entries SET text = (SELECT text FROM entries WHERE entry_index = 1) WHERE entry_index = 0",
    ],
    ["a tile's root", "UPDATE tiles SET root = zeroblob(32)"],
    ["a tile taken away", "DELETE FROM tiles"],
  ];
  for (const [what, sql] of EDGES) {
    test(`${what} keeps the ledger shut`, async () => {
      const folder = copyLedger(original.folder);
      tamper(folder, sql);
      await assert.rejects(temporaryLedger(folder), DAMAGED);
    });
  }

  const PROOFS: [string, string, number][] = [
    [
      "an old entry",
      `UPDATE entries SET text = replace(text, '12.50', '92.50') WHERE entry_index = ${PAYMENT}`,
      PAYMENT,
    ],
    ["an old entry taken away", `DELETE FROM entries WHERE entry_index = ${PAYMENT}`, PAYMENT],
    [
      "the unit in entry 0",
      "UPDATE entries SET text = replace(text, 'EUR', 'USD') WHERE entry_index = 0",
      0,
    ],
    ["a tile", "UPDATE tiles SET hashes = zeroblob(8192)", PAYMENT],
    ["a tile cut short", "UPDATE tiles SET hashes = zeroblob(32)", PAYMENT],
    [
      "a hash in a tile",
      "UPDATE tiles SET hashes = CAST(substr(hashes, 33, 32) || substr(hashes, 1, 32) || substr(hashes, 65) AS BLOB)",
      PAYMENT,
    ],
  ];
  for (const [what, sql, index] of PROOFS) {
    test(`${what} is noticed before a proof is sent`, async () => {
      const folder = copyLedger(original.folder);
      tamper(folder, sql);
      const { ledger, close } = await temporaryLedger(folder);
      await assert.rejects(ledger.prove([index]), DAMAGED);
      // What lies at the log's edge is proven from memory.
      await ledger.prove([SIZE - 1]);
      await close();
    });
  }

  test("a tile is noticed before a root or a consistency proof is given out", async () => {
    const folder = copyLedger(original.folder);
    tamper(folder, "UPDATE tiles SET hashes = zeroblob(8192)");
    const { ledger, close } = await temporaryLedger(folder);
    await assert.rejects(ledger.rootAt(100), DAMAGED);
    await assert.rejects(ledger.consistency(100, SIZE), DAMAGED);
    await assert.rejects(ledger.compare({ ...original.checkpoint, size: 100 }), DAMAGED);
    await close();
  });

  const ASKED: [string, string][] = [
    [
      "an account's public key",
      "UPDATE accounts SET jwk = (SELECT jwk FROM accounts WHERE name = 'bob') WHERE name = 'alice'",
    ],
    [
      "an account's public key made nonsense",
      "UPDATE accounts SET jwk = '{' WHERE name = 'alice'",
    ],
    [
      "an account's public key made no key",
      `UPDATE accounts SET jwk = '{"e":"AQAB","kty":"RSA","n":"AQ"}' WHERE name = 'alice'`,
    ],
    [
      "an account's public key taken away",
      "UPDATE accounts SET jwk = NULL WHERE name = 'alice'",
    ],
    ["a balance that is asked for", "UPDATE accounts SET balance = 5 WHERE name = 'alice'"],
  ];
  for (const [what, sql] of ASKED) {
    test(`${what} is noticed before it is told`, async () => {
      const folder = copyLedger(original.folder);
      tamper(folder, sql);
      const { ledger, close } = await temporaryLedger(folder);
      await assert.rejects(ledger.account(alice.name), DAMAGED);
      await ledger.account(bob.name);
      await close();
    });
  }

  test("an order that is asked for is noticed to be another one", async () => {
    const folder = copyLedger(original.folder);
    tamper(
      folder,
      `UPDATE payments SET signed_text = (SELECT signed_text FROM payments WHERE entry_index = ${BATCH}) WHERE entry_index = ${PAYMENT}`,
    );
    const { ledger, close } = await temporaryLedger(folder);
    const { id } = original.payment.signed.order.claims;
    await assert.rejects(ledger.payment(alice.name, id), DAMAGED);
    await close();
  });
});

describe("changed while the server runs", () => {
  for (const [what, sql, make] of ROWS) {
    test(`${what} is noticed before anything is signed`, async () => {
      const folder = copyLedger(original.folder);
      const opened = await temporaryLedger(folder);
      tamper(folder, sql);
      await assertStopped(opened, await make());
      await opened.close();
    });
  }

  for (const [what, sql] of [...HEADS, ["the head taken away", "DELETE FROM head"]]) {
    test(`${what} is noticed before anything is signed`, async () => {
      const folder = copyLedger(original.folder);
      const opened = await temporaryLedger(folder);
      tamper(folder, sql!);
      await assertStopped(opened, grant(bob, "1.00"));
      await opened.close();
    });
  }

  test("an old genuine head put back is noticed before anything is signed", async () => {
    const folder = copyLedger(original.folder);
    const { ledger, store, troubles, close } = await temporaryLedger(folder);
    const { size, root, time_s, seal } = (await store.head())!;
    await ledger.submit(grant(bob, "1.00"));
    tamper(
      folder,
      `UPDATE head SET size = ${size}, root = '${root}', time_s = ${time_s}, seal = '${seal}'`,
    );
    await assert.rejects(ledger.submit(grant(bob, "1.00")), { code: "ledger_rolled_back" });
    assert.deepEqual(troubles, ["ledger_rolled_back"]);
    await close();
  });

  test("what another process committed is noticed to have been changed since", async () => {
    const folder = copyLedger(original.folder);
    const opened = await temporaryLedger(folder);
    const other = await temporaryLedger(folder);
    await other.ledger.submit(grant(bob, "1.00"));
    await other.close();
    tamper(
      folder,
      `UPDATE entries SET text = replace(text, '1.00', '9.00') WHERE entry_index = ${SIZE}`,
    );
    await assertStopped(opened, grant(bob, "1.00"));
    await opened.close();
  });
});
