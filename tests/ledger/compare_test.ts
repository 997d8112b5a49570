/** Checkpoints that clients show: each carries this log's signature, whatever log it is of. */
import assert from "node:assert/strict";
import { copyFileSync } from "node:fs";
import { test } from "node:test";
import { type Checkpoint, signCheckpoint } from "../../lib/ledger/checkpoint.ts";
import { explains, parseEntry } from "../../lib/ledger/entry.ts";
import { signedCheckpoint } from "../../lib/ledger/ledger.ts";
import { emptyTree } from "../../lib/ledger/tiles.ts";
import { hashLeaf, verifyInclusion } from "../../lib/protocol/merkle.ts";
import { auditFolder } from "../support/audited_ledger.ts";
import {
  copyLedger,
  databasePath,
  openAccounts,
  person,
  serverPair,
  type TemporaryLedger,
  temporaryLedger,
} from "../support/fixtures.ts";
import { grant } from "../support/settle_world.ts";
import { tamper } from "../support/tamper.ts";

const bob = person("bob");

/** Two histories of one log: both share 3 entries, then `shown` entries were shown and `kept` entries are there. */
async function forkedLedger(
  sizes: { shown: number; kept: number },
): Promise<TemporaryLedger & { shown: Checkpoint }> {
  const first = await temporaryLedger();
  await openAccounts(first.ledger, bob);
  await first.close();
  const other = await temporaryLedger(copyLedger(first.folder));
  await extend(other, sizes.shown);
  await other.close();
  const opened = await temporaryLedger(first.folder);
  await extend(opened, sizes.kept);
  return { ...opened, shown: other.ledger.checkpoint };
}

async function extend({ ledger }: TemporaryLedger, size: number): Promise<void> {
  while (ledger.size < size) await ledger.submit(grant(bob, "1.00"));
}

test("every checkpoint that the log has had is linked, the empty one too", async () => {
  const opened = await temporaryLedger();
  const { ledger, logKey, troubles, close } = opened;
  const shown = [signedCheckpoint(logKey, serverPair().publicKey.thumbprint, emptyTree())];
  shown.push(ledger.checkpoint);
  await openAccounts(ledger, bob);
  for (const size of [4, 5, 8, 300]) {
    await extend(opened, size);
    shown.push(ledger.checkpoint);
  }
  for (const one of shown) assert.deepEqual(await ledger.compare(one), { kind: "linked" });
  assert.deepEqual(troubles, []);
  await close();
});

test("a checkpoint that another process has just signed is linked", async () => {
  const opened = await temporaryLedger();
  const other = await temporaryLedger(opened.folder);
  await openAccounts(other.ledger, bob);
  await extend(other, 6);
  assert.deepEqual(await opened.ledger.compare(other.ledger.checkpoint), { kind: "linked" });
  assert.equal(opened.ledger.size, 6);
  await other.close();
  await opened.close();
});

for (
  const [what, sizes] of [
    ["newer than the log", { shown: 6, kept: 4 }],
    ["of the log's size with another root", { shown: 5, kept: 5 }],
    ["smaller than the log with another root", { shown: 5, kept: 9 }],
  ] as const
) {
  test(`a checkpoint ${what} ends all commits, and the log is not extended after a restart`, async () => {
    const { ledger, folder, shown, troubles, close } = await forkedLedger(sizes);
    const { text } = ledger.checkpoint;
    assert.deepEqual(await ledger.compare(shown), { kind: "unlinked" });
    assert.deepEqual(troubles, ["ledger_rolled_back"]);
    await assert.rejects(ledger.submit(grant(bob, "1.00")), {
      code: "ledger_rolled_back",
      details: { signed_size: sizes.shown, size: sizes.kept },
    });
    assert.equal(ledger.checkpoint.text, text);
    await close();
    await assert.rejects(temporaryLedger(folder), {
      code: "ledger_rolled_back",
      details: { signed_size: sizes.shown, size: sizes.kept },
    });
  });

  test(`a checkpoint ${what} is explained once the operator has accepted the loss`, async () => {
    const first = await forkedLedger(sizes);
    const { folder, shown } = first;
    await first.ledger.compare(shown);
    await first.close();
    const { ledger, close, troubles } = await temporaryLedger(folder, { acceptRollback: true });
    assert.deepEqual(await ledger.compare(shown), { kind: "rolled_back" });
    const { text, index, path, checkpoint } = (await ledger.findRollback((one) =>
      explains(one, shown)
    ))!;
    verifyInclusion(hashLeaf(text), index, checkpoint, path);
    const entry = parseEntry(text);
    assert.ok(entry.type === "ledger.rollback");
    assert.equal(entry.lostSize, sizes.shown);
    assert.equal(entry.keptSize, sizes.shown > sizes.kept ? sizes.kept : 0);
    assert.deepEqual(troubles, []);
    assert.equal((await ledger.submit(grant(bob, "1.00"))).state, "settled");
    await close();

    const next = await temporaryLedger(folder);
    assert.equal((await next.ledger.compare(shown)).kind, "rolled_back");
    assert.equal((await next.ledger.submit(grant(bob, "1.00"))).state, "settled");
    await next.close();
    const { explained } = await auditFolder(folder, { expected: [shown] });
    assert.deepEqual(explained, [shown.size]);
  });
}

test("a loss beyond the one that was accepted is none that was accepted", async () => {
  const { ledger, folder, shown, close } = await forkedLedger({ shown: 6, kept: 4 });
  await ledger.compare(shown);
  await close();
  const other = await temporaryLedger(folder, { acceptRollback: true });
  const beyond = { ...shown, size: 7 };
  assert.deepEqual(await other.ledger.compare(beyond), { kind: "unlinked" });
  await assert.rejects(other.ledger.submit(grant(bob, "1.00")), { code: "ledger_rolled_back" });
  await other.close();
});

test("a smaller loss that is shown after a larger one was accepted stops the next start too", async () => {
  const { ledger, folder, shown, close } = await forkedLedger({ shown: 6, kept: 4 });
  await ledger.compare(shown);
  await close();
  const accepted = await temporaryLedger(folder, { acceptRollback: true });
  const { origin } = shown;
  const root = new Uint8Array(32);
  const text = signCheckpoint(accepted.logKey, origin, 2, root);
  const smaller = { origin, size: 2, root, text };
  assert.deepEqual(await accepted.ledger.compare(smaller), { kind: "unlinked" });
  await accepted.close();
  await assert.rejects(temporaryLedger(folder), {
    code: "ledger_rolled_back",
    details: { signed_size: 2, size: 5 },
  });
});

test("putting back the newest database settles what a client had shown", async () => {
  const first = await temporaryLedger();
  await openAccounts(first.ledger, bob);
  await first.close();
  const newest = copyLedger(first.folder);
  const later = await temporaryLedger(newest);
  await extend(later, 6);
  const shown = later.ledger.checkpoint;
  await later.close();

  const old = await temporaryLedger(first.folder);
  assert.deepEqual(await old.ledger.compare(shown), { kind: "unlinked" });
  await old.close();
  copyFileSync(databasePath(newest), databasePath(first.folder));
  const { ledger, close } = await temporaryLedger(first.folder);
  assert.deepEqual(await ledger.compare(shown), { kind: "linked" });
  assert.equal((await ledger.submit(grant(bob, "1.00"))).state, "settled");
  await close();
  // Nothing is left over that would stop a later start.
  await (await temporaryLedger(first.folder)).close();
});

test("a list of the operator's entries that was changed in the database is store_damaged", async () => {
  const { ledger, folder, shown, close } = await forkedLedger({ shown: 6, kept: 4 });
  tamper(folder, "INSERT INTO operator_entries VALUES (99)");
  await assert.rejects(ledger.compare(shown), { code: "store_damaged" });
  await close();
});
