/** Three ledgers on one PostgreSQL that is restarted, crashed and cut off from them under load. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { isWorthRetrying } from "../../../lib/base/errors.ts";
import { openPostgres } from "../../../lib/ledger/postgres.ts";
import type { Submission } from "../../../lib/ledger/submission.ts";
import { verifyConsistency } from "../../../lib/protocol/merkle.ts";
import { person } from "../../support/fixtures.ts";
import { tryPostgres } from "../../support/postgres.ts";
import {
  auditStore,
  openSharedAccounts,
  orderNow,
  sharedLedger,
} from "../../support/shared_ledgers.ts";
import { temporaryFolder } from "../../support/support.ts";

const SERVERS = 3;
const STREAMS_EACH = 8;
const RUN_MS = 30_000;

const people = Array.from({ length: 6 }, (_, index) => person(`person-${index}`));

const { server: database, skip } = await tryPostgres();
after(() => database?.stop());

test("nothing that was acknowledged is lost or made twice while the database is disturbed", {
  skip,
  timeout: 180_000,
}, async () => {
  const url = await database!.newDatabase();
  const folder = temporaryFolder();
  const stores = await Promise.all(
    Array.from({ length: SERVERS }, () => openPostgres(url, { create: true })),
  );
  const ledgers = await Promise.all(stores.map((store) => sharedLedger(store, folder)));
  await openSharedAccounts(ledgers[0]!, ...people);
  const seen = [ledgers[0]!.checkpoint];
  const until_ms = performance.now() + RUN_MS;
  let disturbed = 0;
  let retried = 0;

  const disturbing = (async () => {
    while (performance.now() < until_ms) {
      await sleep(1_500);
      const step = disturbed++ % 4;
      if (step < 2) {
        await database!.run(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
           WHERE application_name LIKE 'sealwire%'`,
        );
      } else {
        await database!.stop(step === 2 ? "fast" : "immediate");
        await sleep(500);
        await database!.start();
      }
    }
  })();

  /** Submits until it is settled, each time to another server. Gives the entry. */
  const settle = async (submission: Submission, at: number): Promise<number> => {
    while (true) {
      try {
        const outcome = await ledgers[at++ % SERVERS]!.submit(submission);
        assert.equal(outcome.state, "settled");
        return (outcome as { index: number }).index;
      } catch (error) {
        if (!isWorthRetrying(error)) throw error;
        retried++;
        await sleep(50);
      }
    }
  };
  const acknowledged = new Map<string, number>();
  await Promise.all(Array.from({ length: SERVERS * STREAMS_EACH }, async (_, stream) => {
    for (let paid = 0; performance.now() < until_ms; paid++) {
      const payer = people[(stream + paid) % people.length]!;
      const payee = people[(stream + paid + 1) % people.length]!;
      const submission = await orderNow(payer, payee, { amount: 1n as never });
      const { id } = submission.signed.order.claims;
      acknowledged.set(`${payer.name} ${id}`, await settle(submission, stream));
      if (paid % 20 === 0) seen.push(ledgers[stream % SERVERS]!.checkpoint);
    }
  }));
  await disturbing;

  assert.ok(disturbed > 10 && retried > 10, `${disturbed} disturbances, ${retried} retries`);
  assert.equal(new Set(acknowledged.values()).size, acknowledged.size);
  const payments = await allPayments();
  for (const [key, index] of acknowledged) assert.equal(payments.get(key), index);
  // Each order was submitted until it was settled: beside them there are the opening balances.
  assert.equal(payments.size, acknowledged.size + people.length);
  for (const ledger of ledgers) await ledger.refresh();
  const { checkpoint } = ledgers[0]!;
  for (const ledger of ledgers) assert.deepEqual(ledger.checkpoint, checkpoint);
  for (const older of seen) {
    const path = await ledgers[0]!.consistency(older.size, checkpoint.size);
    verifyConsistency(older, checkpoint, path);
  }
  for (const ledger of ledgers) await ledger.close();
  await auditStore(stores[0]!, folder);
  for (const store of stores) await store.close();

  async function allPayments(): Promise<Map<string, number>> {
    const found = new Map<string, number>();
    let after = -1;
    while (true) {
      const page = await stores[0]!.paymentsAfter(after, 1_000);
      if (page.length === 0) return found;
      for (const { payer, id, index } of page) found.set(`${payer} ${id}`, index);
      after = page.at(-1)!.index;
    }
  }
});
