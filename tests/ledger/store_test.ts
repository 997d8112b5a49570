/** What both stores promise, SQLite and PostgreSQL: each test runs against each. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { partialRecord } from "../../lib/ledger/commit_record.ts";
import { copyLedger } from "../../lib/ledger/copy_ledger.ts";
import { openPostgres } from "../../lib/ledger/postgres.ts";
import { openSqlite } from "../../lib/ledger/sqlite.ts";
import type { CommitRecord, LedgerReader, LedgerStore } from "../../lib/ledger/store.ts";
import { TREASURY } from "../../lib/protocol/party.ts";
import type { Sha256 } from "../../lib/base/parse.ts";
import { auditedLedger, SIZE } from "../support/audited_ledger.ts";
import { CERT, databasePath, NOW_S, person, serverPair, uuid } from "../support/fixtures.ts";
import { tryPostgres } from "../support/postgres.ts";
import { grant } from "../support/settle_world.ts";
import {
  auditStore,
  openSharedAccounts,
  orderNow,
  sharedLedger,
} from "../support/shared_ledgers.ts";
import { temporaryFolder } from "../support/support.ts";

const alice = person("alice");
const bob = person("bob");

const { server: database, skip } = await tryPostgres();
after(() => database?.stop());

/** A new place for a ledger, opened as often as one likes. */
type NewPlace = () => Promise<() => Promise<LedgerStore>>;

const newFile: NewPlace = () => {
  const path = join(temporaryFolder(), "ledger.db");
  return Promise.resolve(() => Promise.resolve(openSqlite(path, { create: true })));
};
const newDatabase: NewPlace = async () => {
  const url = await database!.newDatabase();
  return () => openPostgres(url, { create: true });
};

function testBoth(promise: string, body: (newPlace: NewPlace) => Promise<void>): void {
  test(`SQLite: ${promise}`, { timeout: 60_000 }, () => body(newFile));
  test(`PostgreSQL: ${promise}`, { timeout: 60_000, skip }, () => body(newDatabase));
}

async function closeAll(...stores: { close(): Promise<void> }[]): Promise<void> {
  for (const store of stores) await store.close();
}

testBoth("a new ledger is empty", async (newPlace) => {
  const store = await (await newPlace())();
  assert.equal(await store.head(), null);
  assert.equal(await store.confirmedHead(), null);
  assert.deepEqual(await store.entries(0, 10), []);
  assert.deepEqual(await store.tiles([{ level: 0, index: 0 }]), [null]);
  assert.deepEqual(await store.tileRoots(0, 0, 10), []);
  assert.equal(await store.account(alice.name), null);
  assert.equal(await store.payment(alice.name, uuid()), null);
  assert.equal(await store.delegation(CERT), null);
  assert.equal((await store.accounts([alice.name])).size, 0);
  assert.deepEqual(await store.endings([{ payer: alice.name, id: uuid() }]), []);
  assert.deepEqual(await store.endings([]), []);
  assert.deepEqual(await store.history(alice.name, -1, 10), []);
  assert.deepEqual(await store.historyBefore(alice.name, 10, 10), []);
  assert.deepEqual(await store.operatorIndexes(), []);
  assert.deepEqual(await store.balancesAfter([{ account: alice.name, index: 0 }]), [null]);
  assert.deepEqual(await store.counts(), {
    entries: 0,
    postings: 0,
    endings: 0,
    tiles: 0,
    paidRequests: 0,
    refunds: 0,
  });
  await store.transaction(async (transaction) => {
    assert.equal(await transaction.head(), null);
  });
  await store.close();
});

/** Everything that a store tells, as plain values. */
async function contents(store: LedgerStore): Promise<unknown> {
  const accounts = await store.accountsAfter("", 1_000);
  const payments = await store.paymentsAfter(-1, 1_000);
  const postings = await store.postingsAfter({ account: accounts[0]!.name, index: -1 }, 1_000);
  const names = accounts.map(({ name }) => name);
  const full = [{ level: 0, index: 0 }, { level: 0, index: 1 }];
  return {
    head: await store.head(),
    confirmed: await store.confirmedHead(),
    entries: await store.entries(0, SIZE),
    some: await store.entries(250, 260),
    accounts,
    page: await store.accountsAfter("alice", 2),
    byName: [...(await store.accounts(names)).values()].sort((one, other) =>
      one.name < other.name ? -1 : 1
    ),
    account: await store.account(TREASURY),
    payments,
    payment: await store.payment(payments[3]!.payer, payments[3]!.id),
    endings: (await store.endings(payments)).sort((one, other) => one.index - other.index),
    delegations: await store.delegationsAfter("", 1_000),
    postings,
    balances: await store.balancesAfter([{ account: alice.name, index: SIZE }, ...postings]),
    history: await store.history(bob.name, 20, 7),
    historyBefore: await store.historyBefore(bob.name, 20, 7),
    operator: await store.operatorIndexes(),
    tiles: (await store.tiles(full)).map((tile) => tile && [...tile]),
    roots: (await store.tileRoots(0, 0, 10)).map((root) => [...root]),
    counts: await store.counts(),
  };
}

const everything = auditedLedger();

testBoth(
  "a copy of a ledger with everything in it tells the same, and passes audit",
  async (newPlace) => {
    const { folder, checkpoint } = await everything;
    const source = openSqlite(databasePath(folder), { create: false });
    const store = await (await newPlace())();
    const progress: number[] = [];
    await copyLedger(source, store, (done, total) => {
      assert.ok(done <= total);
      progress.push(done);
    });
    assert.ok(progress.length > 3);
    assert.deepEqual(await contents(store), await contents(source));
    const { size, root } = await auditStore(store, folder);
    assert.equal(size, checkpoint.size);
    assert.equal(root, (await source.head())!.root);
    // Running it again finds that nothing is left to do.
    await copyLedger(source, store, () => assert.fail("it copied again"));
    await closeAll(store, source);
  },
);

testBoth(
  "a copy back into SQLite is the same again, in a file that can be gone on with",
  async (newPlace) => {
    const { folder, checkpoint } = await everything;
    const source = openSqlite(databasePath(folder), { create: false });
    const store = await (await newPlace())();
    await copyLedger(source, store, () => {});
    const path = join(temporaryFolder(), "backup.db");
    await store.backup(path, (done, total) => assert.ok(done <= total));
    const restored = openSqlite(path, { create: false });
    assert.deepEqual(await contents(restored), await contents(source));
    const ledger = await sharedLedger(restored, folder, { acceptClock: true });
    assert.deepEqual(ledger.checkpoint, checkpoint);
    await closeAll(ledger, restored, store, source);
  },
);

testBoth(
  "a ledger is copied to an empty place only, and another's is left as it is",
  async (newPlace) => {
    const { folder } = await everything;
    const source = openSqlite(databasePath(folder), { create: false });
    const store = await (await newPlace())();
    const ledger = await sharedLedger(store, temporaryFolder());
    await assert.rejects(copyLedger(source, store, () => {}), { code: "store_unusable" });
    assert.equal((await store.head())!.size, 1);
    await closeAll(ledger, store, source);
  },
);

function record(changed: Partial<CommitRecord> = {}): CommitRecord {
  const head: CommitRecord["head"] = {
    size: 1,
    root: CERT,
    time_s: NOW_S,
    server: serverPair().publicKey.thumbprint,
    unit: "EUR" as CommitRecord["head"]["unit"],
    settings: { openingBalance: 2n ** 53n - 1n, registration: "closed" },
    seal: "a seal",
  };
  return partialRecord(head, changed);
}

testBoth("the largest numbers come back exactly", async (newPlace) => {
  const store = await (await newPlace())();
  const largest = 2n ** 53n - 1n;
  const index = Number.MAX_SAFE_INTEGER;
  const account = {
    name: TREASURY,
    key: CERT,
    opened: 0,
    keyed: 0,
    changed: index,
    seal: "s",
  } as const;
  const postings = [
    { account: TREASURY, index, balance: -largest },
    { account: alice.name, index, balance: largest },
  ] as const;
  const committed = record({
    firstIndex: index,
    entryTexts: ["the last"],
    accounts: [{ ...account, balance: -largest }],
    postings,
  });
  await store.transaction((transaction) => transaction.append(committed));
  assert.deepEqual(await store.head(), committed.head);
  assert.deepEqual(await store.account(TREASURY), { ...account, balance: -largest, jwk: null });
  assert.deepEqual(await store.balancesAfter(postings), [-largest, largest]);
  assert.deepEqual(await store.entries(index, index + 1), ["the last"]);
  await store.close();
});

const STRANGE_TEXTS = [
  "",
  "NULL",
  '"quoted" {braces}, commas',
  "back\\slash \\\\x41",
  "'; DROP TABLE entries; --",
  "line\nbreak\r\n\ttab",
  "Grüße, 世界 🙂 e\u0301 \u2028",
  "\u0001\u007f",
];

testBoth("texts come back as they were, whatever is in them", async (newPlace) => {
  const store = await (await newPlace())();
  const payments = STRANGE_TEXTS.map((text, index) => ({
    payer: alice.name,
    id: uuid(),
    state: "settled" as const,
    contentSha256: CERT,
    index,
    seal: text,
    signedText: text,
    delegationSha256: text as Sha256,
    itemTexts: STRANGE_TEXTS,
  }));
  const delegations = new Map(STRANGE_TEXTS.map((text) => [text as Sha256, text]));
  await store.transaction((transaction) =>
    transaction.append(record({ entryTexts: STRANGE_TEXTS, payments, delegations }))
  );
  assert.deepEqual(await store.entries(0, 100), STRANGE_TEXTS);
  assert.deepEqual(await store.paymentsAfter(-1, 100), payments);
  for (const { id, signedText } of payments) {
    const stored = await store.payment(alice.name, id);
    assert.equal(stored!.signedText, signedText);
    assert.equal(stored!.delegationText, signedText);
  }
  await store.close();
});

testBoth(
  "a transaction whose work throws leaves nothing, and the next one goes on",
  async (newPlace) => {
    const store = await (await newPlace())();
    const failed = store.transaction(async (transaction) => {
      await transaction.append(
        record({ entryTexts: ["one"], delegations: new Map([[CERT, "d"]]) }),
      );
      throw new Error("changed my mind");
    });
    await assert.rejects(failed, /changed my mind/);
    assert.equal(await store.head(), null);
    assert.equal(await store.delegation(CERT), null);
    await store.transaction((transaction) => transaction.append(record({ entryTexts: ["two"] })));
    assert.deepEqual(await store.entries(0, 9), ["two"]);
    await store.close();
  },
);

testBoth(
  "a broken constraint is no fault of the database, and leaves nothing",
  async (newPlace) => {
    const store = await (await newPlace())();
    const twice = [{ account: alice.name, index: 0, balance: 1n }];
    const broken = store.transaction((transaction) =>
      transaction.append(record({ entryTexts: ["one"], postings: [...twice, ...twice] }))
    );
    await assert.rejects(broken, (error: { code?: string }) => error.code !== "store_unavailable");
    assert.equal(await store.head(), null);
    await store.close();
  },
);

testBoth(
  "transactions of one store never overlap, nor do those of two on one database",
  async (newPlace) => {
    const open = await newPlace();
    const stores = [await open(), await open()];
    let inside = 0;
    const work = async (transaction: LedgerReader) => {
      await transaction.head();
      inside++;
      assert.equal(inside, 1);
      await sleep(2);
      inside--;
    };
    // Also while there is no entry yet.
    await Promise.all(Array.from({ length: 20 }, (_, at) => stores[at % 2]!.transaction(work)));
    await closeAll(...stores);
  },
);

testBoth("a transaction reads what the other store committed while it waited", async (newPlace) => {
  const open = await newPlace();
  const [one, other] = [await open(), await open()];
  let size = 0;
  let waiting: Promise<void> | undefined;
  await one.transaction(async (transaction) => {
    waiting = other.transaction(async (transaction) => {
      size = (await transaction.head())!.size;
      assert.deepEqual(await transaction.entries(0, 9), ["one"]);
    });
    await sleep(50);
    await transaction.append(record({ entryTexts: ["one"] }));
  });
  await waiting;
  assert.equal(size, 1);
  await closeAll(one, other);
});

testBoth("a snapshot stays as it is while others write", async (newPlace) => {
  const open = await newPlace();
  const [reading, writing] = [await open(), await open()];
  const append = (index: number) =>
    writing.transaction((transaction) =>
      transaction.append(record({ firstIndex: index, entryTexts: [String(index)] }))
    );
  await append(0);
  await reading.snapshot(async () => {
    assert.deepEqual(await reading.entries(0, 9), ["0"]);
    await append(1);
    assert.deepEqual(await reading.entries(0, 9), ["0"]);
  });
  assert.deepEqual(await reading.entries(0, 9), ["0", "1"]);
  await closeAll(reading, writing);
});

testBoth("several who open a new ledger at once open the same one", async (newPlace) => {
  const open = await newPlace();
  const folder = temporaryFolder();
  const stores = await Promise.all(Array.from({ length: 4 }, () => open()));
  const ledgers = await Promise.all(stores.map((store) => sharedLedger(store, folder)));
  const [first] = await stores[0]!.entries(0, 9);
  for (const [at, ledger] of ledgers.entries()) {
    assert.equal(ledger.size, 1);
    assert.deepEqual(await stores[at]!.entries(0, 9), [first]);
  }
  await closeAll(...ledgers, ...stores);
});

testBoth(
  "one order submitted through two ledgers at once settles once, in one entry",
  async (newPlace) => {
    const open = await newPlace();
    const folder = temporaryFolder();
    const stores = [await open(), await open()];
    const ledgers = [
      await sharedLedger(stores[0]!, folder),
      await sharedLedger(stores[1]!, folder),
    ];
    await openSharedAccounts(ledgers[0]!, alice, bob);
    for (let round = 0; round < 5; round++) {
      const submission = await orderNow(alice, bob);
      const outcomes = await Promise.all(ledgers.map((ledger) => ledger.submit(submission)));
      assert.deepEqual(outcomes.map(({ state }) => state), ["settled", "settled"]);
      const [one, other] = outcomes as { index: number; again: boolean }[];
      assert.equal(one!.index, other!.index);
      assert.notEqual(one!.again, other!.again);
      const proofs = await Promise.all(ledgers.map((ledger) => ledger.proveOne(one!.index)));
      assert.equal(proofs[0]!.text, proofs[1]!.text);
    }
    assert.equal((await ledgers[1]!.account(bob.name))!.balance, 1_000_000n + 5n * 1_250n);
    await closeAll(...ledgers);
    await auditStore(stores[0]!, folder);
    await closeAll(...stores);
  },
);

testBoth(
  "two ledgers that commit at once keep one history, and each proves the other's entries",
  async (newPlace) => {
    const open = await newPlace();
    const folder = temporaryFolder();
    const stores = [await open(), await open()];
    const ledgers = [
      await sharedLedger(stores[0]!, folder),
      await sharedLedger(stores[1]!, folder),
    ];
    await openSharedAccounts(ledgers[0]!, alice, bob);
    const rounds = 30;
    const indexes = await Promise.all(ledgers.map(async (ledger) => {
      const found: number[] = [];
      for (let round = 0; round < rounds; round++) {
        const outcome = await ledger.submit(grant(alice, "0.01"));
        assert.equal(outcome.state, "settled");
        found.push((outcome as { index: number }).index);
      }
      return found;
    }));
    assert.equal(new Set(indexes.flat()).size, 2 * rounds);
    for (const [at, ledger] of ledgers.entries()) await ledger.prove(indexes[1 - at]!);
    assert.equal(
      (await ledgers[0]!.account(alice.name))!.balance,
      1_000_000n + 2n * BigInt(rounds),
    );
    await closeAll(...ledgers);
    await auditStore(stores[0]!, folder);
    await closeAll(...stores);
  },
);

testBoth("a thousand payments at once all settle", async (newPlace) => {
  const store = await (await newPlace())();
  const folder = temporaryFolder();
  const ledger = await sharedLedger(store, folder);
  await openSharedAccounts(ledger, alice, bob);
  const orders = await Promise.all(
    Array.from({ length: 1_000 }, () => orderNow(alice, bob, { amount: 1n as never })),
  );
  const outcomes = await Promise.all(orders.map((order) => ledger.submit(order)));
  assert.ok(outcomes.every(({ state }) => state === "settled"));
  assert.equal((await store.account(bob.name))!.balance, 1_001_000n);
  await ledger.close();
  await auditStore(store, folder);
  await store.close();
});
