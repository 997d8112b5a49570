/**
 * Synchronous replication whose standby is away. COMMIT waits for it; a backend that is ended or cancelled meanwhile has
 * committed on the primary alone, where everybody sees it. A failover would lose it, so nobody may be told.
 */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openPostgres } from "../../lib/ledger/postgres.ts";
import { person } from "../support/fixtures.ts";
import { tryPostgres } from "../support/postgres.ts";
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

async function setStandby(name: string): Promise<void> {
  await database!.run(`ALTER SYSTEM SET synchronous_standby_names = '${name}'`);
  await database!.run("SELECT pg_reload_conf()");
  await sleep(100);
}

/** Calls `how` for the session that waits for its standby. */
async function disturb(how: "pg_terminate_backend" | "pg_cancel_backend"): Promise<void> {
  while (true) {
    const disturbed = await database!.run(
      `SELECT ${how}(pid) FROM pg_stat_activity
       WHERE wait_event = 'SyncRep' AND application_name = 'sealwire write'`,
    );
    if (disturbed.length > 0) return;
    await sleep(10);
  }
}

for (const how of ["pg_terminate_backend", "pg_cancel_backend"] as const) {
  test(`a commit on the primary alone, after ${how}, is signed and told once the standby has it`, {
    skip,
    timeout: 60_000,
  }, async () => {
    const url = await database!.newDatabase();
    const folder = temporaryFolder();
    const stores = [
      await openPostgres(url, { create: true }),
      await openPostgres(url, { create: true }),
    ];
    const ledger = await sharedLedger(stores[0]!, folder);
    await openSharedAccounts(ledger, alice, bob);
    const other = await sharedLedger(stores[1]!, folder);
    const { checkpoint } = ledger;
    const submission = await orderNow(alice, bob);

    await setStandby("away");
    let isTold = false;
    const submitted = ledger.submit(submission).finally(() => isTold = true);
    await disturb(how);
    while ((await stores[1]!.head())!.size === checkpoint.size) await sleep(10);
    let isRefreshed = false;
    const refreshed = other.refresh().finally(() => isRefreshed = true);
    await sleep(1_000);
    assert.equal(isTold, false);
    assert.equal(isRefreshed, false);
    assert.deepEqual(ledger.checkpoint, checkpoint);
    assert.deepEqual(other.checkpoint, checkpoint);

    await setStandby("");
    assert.deepEqual(await submitted, { state: "settled", index: checkpoint.size, again: false });
    await refreshed;
    assert.deepEqual(other.checkpoint, ledger.checkpoint);
    assert.deepEqual(await other.submit(submission), {
      state: "settled",
      index: checkpoint.size,
      again: true,
    });
    await ledger.close();
    await other.close();
    await auditStore(stores[0]!, folder);
    for (const store of stores) await store.close();
  });
}
