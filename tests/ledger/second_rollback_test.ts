import assert from "node:assert/strict";
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Checkpoint } from "../../lib/ledger/checkpoint.ts";
import { explains } from "../../lib/ledger/entry.ts";
import { databasePath, openAccounts, person, temporaryLedger } from "../support/fixtures.ts";
import { refusalOf } from "../support/refusal.ts";
import { grant } from "../support/settle_world.ts";
import { temporaryFolder } from "../support/support.ts";

const ALICE = person("alice");

/** A closed ledger in a folder of its own, with an account. */
async function closedLedger(): Promise<string> {
  const { ledger, folder, close } = await temporaryLedger();
  await openAccounts(ledger, ALICE);
  await close();
  return folder;
}

/** Commits `count` entries to the ledger in `folder`, and returns its checkpoint. */
async function extend(
  folder: string,
  count: number,
  options: { acceptRollback?: boolean } = {},
): Promise<Checkpoint> {
  const { ledger, close } = await temporaryLedger(folder, options);
  for (let made = 0; made < count; made++) await ledger.submit(grant(ALICE, "1.00"));
  const { checkpoint } = ledger;
  await close();
  return checkpoint;
}

test("a rollback that was accepted does not excuse the next one, though it covers its size", async () => {
  const folder = await closedLedger();
  const backup = join(temporaryFolder(), "backup.db");
  copyFileSync(databasePath(folder), backup);
  const first = await extend(folder, 20);
  copyFileSync(backup, databasePath(folder));
  await extend(folder, 1, { acceptRollback: true });

  copyFileSync(databasePath(folder), backup);
  const second = await extend(folder, 3);
  assert.ok(second.size < first.size, "the first loss covers the size of the second");
  copyFileSync(backup, databasePath(folder));
  const refusal = await refusalOf(() => temporaryLedger(folder));
  assert.equal(refusal.code, "ledger_rolled_back");

  const third = await extend(folder, 0, { acceptRollback: true });
  const again = await temporaryLedger(folder);
  assert.equal(again.ledger.checkpoint.text, third.text, "what was accepted is not asked again");
  const explained = await again.ledger.findRollback((rollback) =>
    rollback.lostSize === second.size && explains(rollback, second)
  );
  assert.ok(explained !== null);
  await again.close();
});

test("a rollback explains the tree that it names, and no other of that size", async () => {
  const folder = await closedLedger();
  const backup = join(temporaryFolder(), "backup.db");
  copyFileSync(databasePath(folder), backup);
  const lost = await extend(folder, 5);
  copyFileSync(backup, databasePath(folder));
  const { ledger, close } = await temporaryLedger(folder, { acceptRollback: true });
  const root = new Uint8Array(32).fill(1);
  assert.equal((await ledger.compare(lost)).kind, "rolled_back");
  assert.equal((await ledger.compare({ ...lost, root })).kind, "unlinked");
  await close();
});
