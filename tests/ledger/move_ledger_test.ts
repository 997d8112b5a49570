import assert from "node:assert/strict";
import { join } from "node:path";
import { after, test } from "node:test";
import type { Ledger } from "../../lib/ledger/ledger.ts";
import { moveLedger, type MoveOptions } from "../../lib/ledger/move_ledger.ts";
import { openPostgres } from "../../lib/ledger/postgres.ts";
import { openSqlite } from "../../lib/ledger/sqlite.ts";
import type { LedgerStore } from "../../lib/ledger/store.ts";
import { watchedClock } from "../../lib/ledger/clock.ts";
import { verifyConsistency } from "../../lib/protocol/merkle.ts";
import { keysFolder, logKeyOf, person, serverPair } from "../support/fixtures.ts";
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
const options = { skip, timeout: 60_000 };

const newFile = () => openSqlite(join(temporaryFolder(), "ledger.db"), { create: true });
const newDatabase = async () => openPostgres(await database!.newDatabase(), { create: true });

async function withLedger(store: LedgerStore, folder: string, work: (ledger: Ledger) => unknown) {
  const ledger = await sharedLedger(store, folder);
  await work(ledger);
  await ledger.close();
}

function move(
  from: LedgerStore,
  to: LedgerStore,
  folder: string,
  changed: Partial<MoveOptions> = {},
) {
  return moveLedger({
    from,
    to,
    toName: "the new one",
    onProgress: () => {},
    server: serverPair().publicKey.thumbprint,
    logKey: logKeyOf(folder),
    keysFolder: keysFolder(folder),
    clock: watchedClock(),
    ...changed,
  });
}

test(
  "from SQLite to PostgreSQL and back, checkpoints grow out of each other and nothing changes",
  options,
  async () => {
    const folder = temporaryFolder();
    const stores = [newFile(), await newDatabase(), newFile()];
    const order = await orderNow(alice, bob);
    let kept!: Ledger["checkpoint"];
    await withLedger(stores[0]!, folder, async (ledger) => {
      await openSharedAccounts(ledger, alice, bob);
      assert.equal((await ledger.submit(order)).state, "settled");
      kept = ledger.checkpoint;
    });
    for (const [from, to] of [[stores[0]!, stores[1]!], [stores[1]!, stores[2]!]] as const) {
      await move(from, to, folder);
      await auditStore(from, folder);
      await withLedger(to, folder, async (ledger) => {
        assert.equal(ledger.isMoved, false);
        verifyConsistency(
          kept,
          ledger.checkpoint,
          await ledger.consistency(kept.size, ledger.size),
        );
        assert.deepEqual(await ledger.submit(order), { state: "settled", index: 5, again: true });
        assert.equal((await ledger.submit(await orderNow(bob, alice))).state, "settled");
      });
      await auditStore(to, folder);
    }
    for (const store of stores) await store.close();
  },
);

test(
  "a moved ledger is read and never extended, also by a server that was running",
  options,
  async () => {
    const folder = temporaryFolder();
    const [from, to] = [newFile(), await newDatabase()];
    const running = await sharedLedger(from, folder);
    await openSharedAccounts(running, alice);
    await move(from, to, folder);
    const refused = { state: "refused", reason: "ledger_moved" };
    assert.deepEqual(await running.submit(grant(alice, "1.00")), refused);
    await running.refresh();
    assert.equal(running.isMoved, true);
    assert.equal((await running.account(alice.name))!.balance, 1_000_000n);
    // The new ledger has each of its entries, so what it signs is no fork.
    const { root, size } = running.checkpoint;
    await withLedger(to, folder, async (moved) => assert.deepEqual(await moved.rootAt(size), root));
    await running.close();
    // A server that is started with it is told where the ledger is now, whatever the operator accepts.
    for (const acceptRollback of [false, true]) {
      await assert.rejects(sharedLedger(from, folder, { acceptRollback }), {
        code: "ledger_moved",
        message: /was moved to the new one/,
      });
    }
    await from.close();
    await to.close();
  },
);

test(
  "a move that was cut off is finished by running it again, and goes to one place only",
  options,
  async () => {
    const folder = temporaryFolder();
    const [from, to, elsewhere] = [newFile(), await newDatabase(), newFile()];
    await withLedger(from, folder, (ledger) => openSharedAccounts(ledger, alice));
    const cut = () => {
      throw new Error("cut off");
    };
    await assert.rejects(move(from, to, folder, { onProgress: cut }), /cut off/);
    assert.equal(await to.head(), null);
    await assert.rejects(move(from, elsewhere, folder, { toName: "elsewhere" }), {
      code: "ledger_moved",
      message: /was moved to the new one/,
    });
    await move(from, to, folder);
    await withLedger(to, folder, async (ledger) => {
      assert.equal((await ledger.submit(grant(alice, "1.00"))).state, "settled");
    });
    await auditStore(to, folder);
    for (const store of [from, to, elsewhere]) await store.close();
  },
);

test("a ledger is not ended for a database that holds another", options, async () => {
  const folder = temporaryFolder();
  const [from, to] = [newFile(), await newDatabase()];
  await withLedger(from, folder, (ledger) => openSharedAccounts(ledger, alice));
  await withLedger(to, temporaryFolder(), () => {});
  await assert.rejects(move(from, to, folder), { code: "store_unusable" });
  await withLedger(from, folder, async (ledger) => {
    assert.equal((await ledger.submit(grant(alice, "1.00"))).state, "settled");
  });
  await from.close();
  await to.close();
});

test("what is committed together with the move is refused", async () => {
  const folder = temporaryFolder();
  const store = newFile();
  await withLedger(store, folder, async (ledger) => {
    await openSharedAccounts(ledger, alice);
    const outcomes = await Promise.all([
      ledger.submit(grant(alice, "1.00")),
      ledger.submit({ type: "operator", fact: { type: "ledger.moved", to: "elsewhere" } }),
      ledger.submit(grant(alice, "1.00")),
      ledger.submit(await orderNow(alice, bob)),
    ]);
    const states = outcomes.map((outcome) =>
      outcome.state === "refused" ? outcome.reason : outcome.state
    );
    assert.deepEqual(states, ["settled", "recorded", "ledger_moved", "ledger_moved"]);
    assert.equal((await ledger.account(alice.name))!.balance, 1_000_100n);
  });
  await auditStore(store, folder);
  await store.close();
});
