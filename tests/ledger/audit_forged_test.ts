import assert from "node:assert/strict";
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { before, test } from "node:test";
import { audit, type AuditResult } from "../../lib/ledger/audit.ts";
import { type Entry, parseEntry, type Transfer } from "../../lib/ledger/entry.ts";
import { openSqlite } from "../../lib/ledger/sqlite.ts";
import { formatBatchItem, type Order, type SignedOrder } from "../../lib/protocol/order.ts";
import { auditedLedger } from "../support/audited_ledger.ts";
import {
  delegate,
  NOW_S,
  person,
  serverPair,
  signedBatch,
  signedOrder,
  uuid,
} from "../support/fixtures.ts";
import { appendForged } from "../support/forged_block.ts";
import { temporaryFolder } from "../support/support.ts";

const alice = person("alice");
const bob = person("bob");
const carol = person("carol");

let original: string;

before(async () => {
  original = (await auditedLedger()).path;
});

type Forge = (database: DatabaseSync) => readonly Entry[] | Promise<readonly Entry[]>;

/** Audits the ledger with a seventh block that the operator made with the server's own key. */
async function auditForged(forge: Forge, time_s = NOW_S): Promise<AuditResult> {
  const path = join(temporaryFolder(), "ledger.db");
  copyFileSync(original, path);
  const database = new DatabaseSync(path);
  await appendForged(database, await forge(database), time_s);
  database.close();
  const store = openSqlite(path, { create: false });
  try {
    return await audit(store, serverPair().publicKey);
  } finally {
    await store.close();
  }
}

function entryOf(database: DatabaseSync, seq: number): Transfer {
  const row = database.prepare("SELECT text FROM entries WHERE seq = ?").get(seq)!;
  return parseEntry(row.text) as Transfer;
}

function record(
  database: DatabaseSync,
  { order, delegation }: SignedOrder,
  itemTexts: readonly string[] | null,
): void {
  database.prepare("INSERT INTO delegations VALUES (?, ?)").run(delegation.sha256, delegation.text);
  database.prepare("INSERT INTO outcomes VALUES ('alice', ?, ?, NULL, 13, ?, ?, ?, ?, 0)").run(
    order.claims.id,
    order.sha256,
    itemTexts?.length ?? 1,
    order.text,
    delegation.sha256,
    itemTexts === null ? null : JSON.stringify(itemTexts),
  );
}

/** Records an order of alice's to bob and returns its one entry. */
async function ordered(database: DatabaseSync, changed: Partial<Order> = {}): Promise<Transfer> {
  const signed = await signedOrder(alice, bob, changed);
  record(database, signed, null);
  const { order, delegation } = signed;
  const { id, amount, payee, payeeKey } = order.claims;
  return {
    ...entryOf(database, 7),
    seq: 13,
    id,
    amount,
    payee,
    payeeKey,
    orderSha256: order.sha256,
    delegationSha256: delegation.sha256,
  };
}

/** Records a batch of alice's to bob and carol, 1.00 each, and returns its first entry. */
async function orderedBatch(database: DatabaseSync): Promise<Transfer> {
  const { signed, items } = await signedBatch(alice, [[bob, "1.00"], [carol, "1.00"]]);
  record(database, signed, items.map(formatBatchItem));
  const { order, delegation } = signed;
  return {
    ...entryOf(database, 7),
    seq: 13,
    id: order.claims.id,
    index: 0,
    amount: items[0]!.amount,
    orderSha256: order.sha256,
    delegationSha256: delegation.sha256,
  };
}

test("the operator's own tool makes a block that passes when nothing in it is forged", async () => {
  const { blocks } = await auditForged(async (database) => [await ordered(database)]);
  assert.equal(blocks, 7);
});

const FORGERIES: [string, Forge, RegExp][] = [
  [
    "the same payment a second time",
    (database) => [{ ...entryOf(database, 7), seq: 13 }],
    /recorded elsewhere/,
  ],
  [
    "a payment that nobody ordered",
    (database) => [{ ...entryOf(database, 7), seq: 13, id: uuid() }],
    /recorded elsewhere/,
  ],
  [
    "the same grant a second time",
    (database) => [{ ...entryOf(database, 12), seq: 13 }],
    /recorded elsewhere/,
  ],
  [
    "an account opened again under another key",
    (database) => {
      const { id, delegationSha256 } = entryOf(database, 8);
      const key = bob.pair.publicKey.thumbprint;
      return [{
        type: "account.open",
        seq: 13,
        id,
        account: alice.name,
        key,
        delegationSha256: delegationSha256!,
      }];
    },
    /alice exists already/,
  ],
  [
    "an account that no key asked for",
    (database) => {
      const { id, delegationSha256, payerKey: key } = entryOf(database, 7);
      const account = person("dave").name;
      return [{
        type: "account.open",
        seq: 13,
        id,
        account,
        key,
        delegationSha256: delegationSha256!,
      }];
    },
    /the delegation is by another account/,
  ],
  [
    "an account opened under another key than its holder's",
    async (database) => {
      const dave = person("dave");
      const { text, sha256 } = await delegate(dave);
      database.prepare("INSERT INTO delegations VALUES (?, ?)").run(sha256, text);
      const key = alice.pair.publicKey.thumbprint;
      const { id } = entryOf(database, 7);
      return [{
        type: "account.open",
        seq: 13,
        id,
        account: dave.name,
        key,
        delegationSha256: sha256,
      }];
    },
    /the delegation is by another key/,
  ],
  [
    "more than the order says",
    async (database) => {
      const entry = await ordered(database);
      return [{ ...entry, amount: (entry.amount + 1n) as Transfer["amount"] }];
    },
    /the order pays something else/,
  ],
  [
    "another payee than the order says",
    async (database) => {
      const payeeKey = carol.pair.publicKey.thumbprint;
      return [{ ...await ordered(database), payee: carol.name, payeeKey }];
    },
    /the order pays something else/,
  ],
  [
    "another payer than the order says",
    async (database) => {
      const entry = await ordered(database);
      database.exec("UPDATE outcomes SET payer = 'carol' WHERE first_seq = 13");
      return [{ ...entry, payer: carol.name, payerKey: carol.pair.publicKey.thumbprint }];
    },
    /the order is not by the payer's key/,
  ],
  [
    "a payee under another key than the account's, as the order says",
    async (database) => [await ordered(database, { payeeKey: carol.pair.publicKey.thumbprint })],
    /entry 13: the payee has another key/,
  ],
  [
    "money that the payer does not have",
    async (database) => [await ordered(database, { amount: 2_000_000n as Transfer["amount"] })],
    /alice would have -/,
  ],
  [
    "one item of a batch twice, in the place of another",
    async (database) => {
      const first = await orderedBatch(database);
      return [first, { ...first, seq: 14 }];
    },
    /entry 14: the order pays something else/,
  ],
  [
    "half a batch",
    async (database) => [await orderedBatch(database)],
    /the block ends within a batch/,
  ],
  [
    "an order that had expired",
    async (database) => [await ordered(database, { iat: NOW_S - 10, exp: NOW_S })],
    /order_expired/,
  ],
  [
    "an order from the future",
    async (database) => [await ordered(database, { iat: NOW_S + 61, exp: NOW_S + 70 })],
    /order_from_future/,
  ],
];

for (const [what, forge, sentence] of FORGERIES) {
  test(`audit notices what the operator forges with the server's own key: ${what}`, async () => {
    await assert.rejects(
      auditForged(forge),
      (error: { code?: string; message?: string; details?: object }) => {
        assert.equal(error.code, "audit_failed", error.message);
        assert.deepEqual(error.details, { height: 7 });
        assert.match(error.message!, sentence);
        return true;
      },
    );
  });
}

test("audit notices a block whose time is before the last one's", async () => {
  const forge: Forge = (database) => [{ ...entryOf(database, 12), seq: 13 }];
  await assert.rejects(auditForged(forge, NOW_S - 1), /time runs backwards/);
});
