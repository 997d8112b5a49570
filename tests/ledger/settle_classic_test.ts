/** Accounts that a classic client opened: they have no key, nobody signs for them, and nobody else pays for that. */
import assert from "node:assert/strict";
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { before, test } from "node:test";
import fc from "fast-check";
import { audit } from "../../lib/ledger/audit.ts";
import {
  type Entry,
  formatEntry,
  parseEntry,
  type Party,
  TREASURY,
} from "../../lib/ledger/entry.ts";
import type { Submission } from "../../lib/ledger/submission.ts";
import { openSqlite } from "../../lib/ledger/sqlite.ts";
import { type AccountName, parseAccountName } from "../../lib/keys/rsa.ts";
import { type Amount, AMOUNT_MAX } from "../../lib/protocol/money.ts";
import type { Uuid } from "../../lib/base/parse.ts";
import {
  amount,
  NOW_S,
  openAccounts,
  orderOf,
  person,
  serverPair,
  signedOrder,
  temporaryLedger,
  uuid,
} from "../support/fixtures.ts";
import { appendForged } from "../support/forged_block.ts";
import { cancel, grant, open, order, World } from "../support/settle_world.ts";
import { temporaryFolder } from "../support/support.ts";

const alice = person("alice");
const bob = person("bob");
const carla = parseAccountName("carla");
const dora = parseAccountName("dora");

function openClassic(account: AccountName, openingBalance = 1_000_000n, id = uuid()): Submission {
  return { type: "open-classic", account, id, openingBalance };
}

function unsigned(
  payer: string,
  payee: string,
  minor = 500n,
  id = uuid(),
): Submission & { type: "unsigned" } {
  const parties = { payer: payer as AccountName, payee: payee as AccountName };
  return { type: "unsigned", id, ...parties, amount: minor as Amount };
}

/** alice and bob have keys, carla and dora none. */
function mixedWorld(): World {
  const world = new World();
  for (const opening of [open(alice), open(bob), openClassic(carla), openClassic(dora)]) {
    assert.deepEqual(world.one(opening), { state: "opened", again: false });
  }
  return world;
}

function assertRejected(world: World, submission: Submission, reason: string): void {
  const { outcomes, ...recorded } = world.block(submission);
  assert.deepEqual(outcomes, [{ state: "rejected", reason }]);
  assert.deepEqual(recorded, { entries: [], newOutcomes: [], accounts: [], postings: [] });
}

test("a classic account is opened without a key, and its money comes from the treasury", () => {
  const world = new World();
  const { entries } = world.block(openClassic(carla));
  assert.deepEqual(entries.map(formatEntry).map((text) => JSON.parse(text)), [
    {
      v: 1,
      seq: 1,
      type: "account.open",
      id: (entries[0] as Entry).id,
      account: "carla",
      key: null,
      delegation_sha256: null,
    },
    {
      v: 1,
      seq: 2,
      type: "transfer",
      id: (entries[0] as Entry).id,
      payer: TREASURY,
      payee: "carla",
      amount: "10000.00",
      payer_key: serverPair().publicKey.thumbprint,
      payee_key: null,
      order_sha256: null,
      delegation_sha256: null,
    },
  ]);
  assert.equal(world.balance(carla), 1_000_000n);
});

test("an unsigned payment moves money between classic accounts, and names no key and no order", () => {
  const world = mixedWorld();
  const { outcomes, entries } = world.block(unsigned("carla", "dora"));
  assert.equal(outcomes[0]!.state, "settled");
  const [{ payerKey, payeeKey, orderSha256, delegationSha256 }] = entries as [
    Entry & { type: "transfer" },
  ];
  assert.deepEqual([payerKey, payeeKey, orderSha256, delegationSha256], [null, null, null, null]);
  assert.equal(world.balance(carla), 999_500n);
  assert.equal(world.balance(dora), 1_000_500n);
});

test("an unsigned order cannot debit an account that has a key", () => {
  const world = mixedWorld();
  assertRejected(world, unsigned("alice", "carla"), "signature_required");
  assertRejected(world, unsigned("alice", "bob"), "signature_required");
});

test("an unsigned order cannot debit the treasury", () => {
  const world = mixedWorld();
  assertRejected(world, unsigned(TREASURY, "carla", 100_000_000n), "signature_required");
  // Not even before anything was ever issued, when the treasury is in no store.
  assertRejected(new World(), unsigned(TREASURY, "carla"), "signature_required");
});

test("an account opened with a key in the same block is not debited by an unsigned order after it", () => {
  const world = new World();
  const { outcomes } = world.block(open(alice), openClassic(carla), unsigned("alice", "carla"));
  assert.deepEqual(outcomes[2], { state: "rejected", reason: "signature_required" });
});

test("no order that someone signed debits a classic account, whoever's key it is", () => {
  const world = mixedWorld();
  const impostor = { ...alice, name: carla };
  assertRejected(world, order(impostor, bob), "wrong_key");
});

test("a classic account never gets a key, and nobody shows that it is theirs", () => {
  const world = mixedWorld();
  assertRejected(world, open({ ...alice, name: carla }), "name_taken");
  assertRejected(world, openClassic(carla), "name_taken");
  const fresh = new World();
  const { outcomes } = fresh.block(openClassic(carla), open({ ...alice, name: carla }));
  assert.deepEqual(outcomes[1], { state: "rejected", reason: "name_taken" });
});

test("a classic client cannot open a name that a key holds, and does not change its key", () => {
  const world = mixedWorld();
  assertRejected(world, openClassic(alice.name), "name_taken");
  assert.equal(world.accounts.get("alice")!.key, alice.pair.publicKey.thumbprint);
});

test("a key pays a classic account, when the order says that it has no key", () => {
  const world = mixedWorld();
  const to = { ...bob, name: carla };
  assert.equal(world.one(order(alice, to, { payeeKey: null })).state, "settled");
  const void_ = world.one(order(alice, to));
  assert.deepEqual(void_, { state: "void", reason: "payee_key_changed", again: false });
  const keyed = world.one(order(alice, bob, { payeeKey: null }));
  assert.deepEqual(keyed, { state: "void", reason: "payee_key_changed", again: false });
});

test("a classic account pays one that has a key, and the entry names that key", () => {
  const world = mixedWorld();
  const { entries } = world.block(unsigned("carla", "alice"));
  const [entry] = entries as [Entry & { type: "transfer" }];
  assert.equal(entry.payeeKey, alice.pair.publicKey.thumbprint);
});

test("an unsigned order that the rules refuse records nothing", () => {
  const world = mixedWorld();
  assertRejected(world, unsigned("carla", "dora", 1_000_001n), "insufficient_funds");
  assertRejected(world, unsigned("carla", "nobody"), "unknown_payee");
  assertRejected(world, unsigned("nobody", "carla"), "unknown_account");
  assertRejected(world, unsigned("carla", "carla"), "payer_is_payee");
  world.accounts.set("dora", { name: dora, key: null, balance: AMOUNT_MAX });
  assertRejected(world, unsigned("carla", "dora"), "balance_limit");
});

test("two unsigned orders of one block cannot spend the same money", () => {
  const world = mixedWorld();
  const twice = [unsigned("carla", "dora", 600_000n), unsigned("carla", "alice", 600_000n)];
  const { outcomes } = world.block(...twice);
  assert.equal(outcomes[0]!.state, "settled");
  assert.deepEqual(outcomes[1], { state: "rejected", reason: "insufficient_funds" });
});

test("an id settles once for an unsigned order too, and pays nobody else", () => {
  const world = mixedWorld();
  const first = unsigned("carla", "dora");
  const settled = world.one(first);
  assert.deepEqual(world.one(first), { ...settled, again: true });
  assertRejected(world, { ...first, amount: 501n as Amount }, "order_conflict");
  assertRejected(world, { ...first, payee: alice.name }, "order_conflict");
  assert.equal(world.balance(carla), 999_500n);
});

const NAMES = ["alice", "bob", "carla", "dora"];
const IDS = Array.from({ length: 8 }, uuid);
const people = [alice, bob, { ...alice, name: carla }, { ...bob, name: dora }];
const anyName = fc.constantFrom(...NAMES);
const anyMinor = fc.bigInt(1n, 400n);
const anyId: fc.Arbitrary<Uuid> = fc.constantFrom(...IDS);
const anySubmission: fc.Arbitrary<Submission> = fc.oneof(
  fc.constantFrom(...people).map((by) => open(by, 300n)),
  anyName.map((name) => openClassic(name as AccountName, 300n)),
  fc.tuple(fc.constantFrom(...NAMES, TREASURY), anyName, anyMinor, anyId)
    .map(([payer, payee, minor, id]) => unsigned(payer, payee, minor, id)),
  fc.tuple(fc.shuffledSubarray(people, { minLength: 2, maxLength: 2 }), anyMinor, fc.boolean())
    .map(([[payer, payee], minor, keyless]) =>
      order(payer!, payee!, { amount: minor as Amount, ...(keyless ? { payeeKey: null } : {}) })
    ),
  fc.tuple(fc.constantFrom(...people), anyId).map(([payer, id]) => cancel(payer, id)),
  anyName.map((name) => grant({ ...alice, name: name as AccountName }, "1.00")),
);

test(
  "whatever is submitted: a key is for ever, and who has one is debited by that key alone",
  { timeout: 60_000 },
  () => {
    let unsignedSettled = 0;
    let signedSettled = 0;
    const blocks = fc.array(fc.array(anySubmission, { maxLength: 8 }), { maxLength: 12 });
    fc.assert(
      fc.property(blocks, (blocks) => {
        const world = new World();
        for (const block of blocks) world.block(...block);
        const keys = new Map<Party, unknown>([[TREASURY, serverPair().publicKey.thumbprint]]);
        let sum = 0n;
        for (const entry of world.entries) {
          assert.deepEqual(parseEntry(formatEntry(entry)), entry);
          if (entry.type === "account.open") {
            assert.ok(!keys.has(entry.account), "an account is opened twice");
            keys.set(entry.account, entry.key);
            continue;
          }
          assert.equal(entry.payerKey, keys.get(entry.payer));
          assert.equal(entry.payeeKey, keys.get(entry.payee));
          assert.equal(entry.orderSha256 === null, entry.payer === TREASURY || !entry.payerKey);
          if (entry.payer === TREASURY) continue;
          if (entry.orderSha256 === null) unsignedSettled++;
          else signedSettled++;
        }
        for (const { name, key, balance } of world.accounts.values()) {
          assert.equal(key, keys.get(name), `the key of ${name} has changed`);
          assert.ok(name === TREASURY || balance >= 0n);
          sum += balance;
        }
        assert.equal(sum, 0n);
      }),
      { numRuns: 400 },
    );
    assert.ok(unsignedSettled > 20 && signedSettled > 20, `${unsignedSettled} ${signedSettled}`);
  },
);

/** Blocks 1 and 2 open alice and bob (entries 1 to 4), 3 and 4 carla and dora (5 to 8), 5 pays alice to bob (9), 6 carla to dora (10). */
let original: string;

before(async () => {
  const { ledger, store, path } = temporaryLedger();
  await openAccounts(ledger, alice, bob);
  await ledger.submit(openClassic(carla));
  await ledger.submit(openClassic(dora));
  await ledger.submit(orderOf(await signedOrder(alice, bob)));
  await ledger.submit(unsigned("carla", "dora", 700n));
  await store.close();
  original = path;
});

type Tamper = (database: DatabaseSync) => void | Promise<void>;

async function auditAfter(tamper: Tamper) {
  const path = join(temporaryFolder(), "ledger.db");
  copyFileSync(original, path);
  const database = new DatabaseSync(path);
  await tamper(database);
  database.close();
  const store = openSqlite(path, { create: false });
  try {
    return await audit(store, serverPair().publicKey);
  } finally {
    await store.close();
  }
}

test("audit passes a ledger with classic accounts", async () => {
  const { blocks, entries, accounts } = await auditAfter(() => {});
  assert.deepEqual({ blocks, entries, accounts }, { blocks: 6, entries: 10, accounts: 4 });
});

test("a classic account is stored and read back without a key", async () => {
  const store = openSqlite(original, { create: false });
  const { key, jwk, openedSeq, balance } = (await store.account("carla"))!;
  assert.deepEqual({ key, jwk, openedSeq, balance }, {
    key: null,
    jwk: null,
    openedSeq: 5,
    balance: 999_300n,
  });
  const [, row] = await store.history(dora, 0, 10);
  assert.equal(row!.orderText, null);
  await store.close();
});

type TransferEntry = Entry & { type: "transfer" };

/** A further unsigned payment of `payer`, recorded as settled where `recorded`. */
function forged(payer: string, changed: Partial<TransferEntry> = {}): Tamper {
  return async (database) => {
    const row = database.prepare("SELECT text FROM entries WHERE seq = 10").get()!;
    const id = uuid();
    const entry = { ...parseEntry(row.text) as TransferEntry, id, seq: 11, payer, ...changed };
    const content = database.prepare("SELECT content_sha256 FROM outcomes WHERE first_seq = 10");
    database.prepare("INSERT INTO outcomes VALUES (?, ?, ?, NULL, 11, 1, NULL, NULL, NULL, 0)")
      .run(payer, id, content.get()!.content_sha256!);
    await appendForged(database, [entry as Entry], NOW_S);
  };
}

test("a further unsigned payment of a classic account passes: it has no key to protect it", async () => {
  assert.equal((await auditAfter(forged("carla"))).blocks, 7);
});

const keyOfAlice = alice.pair.publicKey.thumbprint;

const FORGERIES: [string, Tamper, RegExp][] = [
  ["an unsigned payment of an account that has a key", forged("alice"), /payer has another key/],
  [
    "an unsigned payment that names the key and no order",
    forged("alice", { payerKey: keyOfAlice }),
    /order_sha256/,
  ],
  [
    "an unsigned payment of the treasury",
    forged(TREASURY, { amount: amount("1000000.00") }),
    /payer_key/,
  ],
  [
    "a signed payment turned into an unsigned one",
    async (database) => {
      const row = database.prepare("SELECT text FROM entries WHERE seq = 9").get()!;
      const entry = parseEntry(row.text) as TransferEntry;
      const bare = { ...entry, seq: 11, payerKey: null, orderSha256: null, delegationSha256: null };
      await appendForged(database, [bare], NOW_S);
    },
    /payer has another key/,
  ],
  [
    "an unsigned payment that names an order",
    async (database) => {
      const row = database.prepare("SELECT text FROM entries WHERE seq = 9").get()!;
      const { orderSha256, delegationSha256 } = parseEntry(row.text) as TransferEntry;
      await forged("carla", { orderSha256, delegationSha256 })(database);
    },
    /order_sha256 must be null/,
  ],
  ["an unsigned payment to oneself", forged("carla", { payee: carla }), /same account/],
  ["an unsigned payment of a batch", forged("carla", { index: 0 }), /not canonical/],
  [
    "an unsigned payment to a payee's other key",
    forged("carla", { payeeKey: keyOfAlice }),
    /payee has another key/,
  ],
  [
    "a key for an account that has none",
    (database) =>
      appendForged(database, [{
        type: "account.open",
        seq: 11,
        id: uuid(),
        account: carla,
        key: null,
        delegationSha256: null,
      }], NOW_S),
    /carla exists already/,
  ],
  [
    "the key of an account taken away by opening it again",
    (database) =>
      appendForged(database, [{
        type: "account.open",
        seq: 11,
        id: uuid(),
        account: alice.name,
        key: null,
        delegationSha256: null,
      }], NOW_S),
    /alice exists already/,
  ],
  [
    "a key stored for an account that has none",
    (database) => {
      database.exec(
        "UPDATE accounts SET jwk = (SELECT jwk FROM accounts WHERE name = 'alice') WHERE name = 'carla'",
      );
    },
    /carla is stored with another key/,
  ],
  [
    "a key's thumbprint stored for an account that has none",
    (database) => {
      database.exec(
        "UPDATE accounts SET key = (SELECT key FROM accounts WHERE name = 'alice') WHERE name = 'carla'",
      );
    },
    /carla is not what the entries say/,
  ],
  [
    "an unsigned payment's outcome taken away",
    (database) => {
      database.exec("DELETE FROM outcomes WHERE first_seq = 10");
    },
    /recorded elsewhere/,
  ],
  [
    "an unsigned payment recorded as another one",
    (database) => {
      database.exec("UPDATE outcomes SET content_sha256 = NULL WHERE first_seq = 10");
    },
    /recorded as another order/,
  ],
];

for (const [what, tamper, sentence] of FORGERIES) {
  test(`audit notices ${what}`, async () => {
    await assert.rejects(auditAfter(tamper), (error: { code?: string; message?: string }) => {
      assert.equal(error.code, "audit_failed", error.message);
      assert.match(error.message!, sentence);
      return true;
    });
  });
}
