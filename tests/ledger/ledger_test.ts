import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { parseEntry } from "../../lib/ledger/entry.ts";
import type { Ledger } from "../../lib/ledger/ledger.ts";
import { verifyReceipt } from "../../lib/ledger/receipt.ts";
import type { LedgerStore } from "../../lib/ledger/store.ts";
import type { Outcome, Submission } from "../../lib/ledger/submission.ts";
import { hashLeaf, verifyConsistency, verifyInclusion } from "../../lib/protocol/merkle.ts";
import { TREASURY } from "../../lib/protocol/party.ts";
import { auditFolder } from "../support/audited_ledger.ts";
import { FailingStore, notingCommits } from "../support/failing_store.ts";
import {
  amount,
  cancelOf,
  delegate,
  keysFolder,
  openAccounts,
  orderOf,
  person,
  rsaPair,
  serverPair,
  signedBatch,
  signedCancel,
  signedOrder,
  temporaryLedger,
} from "../support/fixtures.ts";
import { receiptOf, settledIndex, statementOf } from "../support/receipts.ts";
import { batch, grant, order } from "../support/settle_world.ts";

const alice = person("alice");
const bob = person("bob");
const carol = person("carol");
const server = serverPair().publicKey;

async function balanceOf(store: LedgerStore, name: string): Promise<bigint> {
  return (await store.account(name as typeof alice.name))!.balance;
}

/** Submits all of them at once. */
function submitAll(ledger: Ledger, submissions: readonly Submission[]): Promise<Outcome[]> {
  return Promise.all(submissions.map((one) => ledger.submit(one)));
}

test("a new ledger says in entry 0 whose it is, in which unit it counts, and its settings", async () => {
  const { ledger, logKey, close } = await temporaryLedger();
  assert.equal(ledger.size, 1);
  const { time: _, salt: __, ...entry } = parseEntry((await ledger.proveOne(0)).text);
  assert.deepEqual(entry, {
    type: "ledger.open",
    index: 0,
    server: server.thumbprint,
    log: { crv: "Ed25519", kty: "OKP", x: logKey.publicKey.x },
    unit: "EUR",
    openingBalance: 1_000_000n,
    registration: "open",
  });
  await close();
});

test("a ledger carries its settings: what the next start says counts for a new ledger alone", async () => {
  const first = await temporaryLedger();
  await first.close();
  const create = { unit: "USD", openingBalance: 1n, registration: "closed" } as never;
  const { ledger, close } = await temporaryLedger(first.folder, { create });
  assert.equal(ledger.unit, "EUR");
  assert.deepEqual(ledger.settings, { openingBalance: 1_000_000n, registration: "open" });
  await close();
});

test("a ledger that must exist is not made", async () => {
  await assert.rejects(temporaryLedger(undefined, { create: null }), { code: "ledger_missing" });
});

test("each payment of a long row of them, one after the other, is answered", async () => {
  const { ledger, store, folder, close } = await temporaryLedger();
  await openAccounts(ledger, alice, bob);
  for (let count = 0; count < 20; count++) {
    settledIndex(await ledger.submit(orderOf(await signedOrder(alice, bob))));
  }
  assert.equal(ledger.size, 25);
  assert.equal(await balanceOf(store, "bob"), 1_025_000n);
  await close();
  await auditFolder(folder);
});

test("payments that come together share a commit, and each has its own receipt", async () => {
  const commits: number[] = [];
  const { ledger, folder, logKey, close } = await temporaryLedger(undefined, {
    wrap: (store) => notingCommits(store, commits),
  });
  await openAccounts(ledger, alice, bob);
  commits.length = 0;
  const orders = await Promise.all(Array.from({ length: 60 }, () => signedOrder(alice, bob)));
  const submissions = orders.map((signed) => orderOf(signed));
  const outcomes = await submitAll(ledger, submissions);
  assert.deepEqual(commits, [60]);
  const statement = await statementOf(logKey);
  for (const [at, outcome] of outcomes.entries()) {
    const index = settledIndex(outcome);
    const text = await receiptOf(ledger, statement, submissions[at]!, index);
    const { id, checkpoint } = await verifyReceipt(text, server);
    assert.equal(id, orders[at]!.order.claims.id);
    assert.equal(checkpoint.size, 65);
  }
  await close();
  await auditFolder(folder);
});

test("more than a thousand payments at once become several commits", async () => {
  const commits: number[] = [];
  const { ledger, close } = await temporaryLedger(undefined, {
    wrap: (store) => notingCommits(store, commits),
  });
  await openAccounts(ledger, bob);
  commits.length = 0;
  const many = Array.from({ length: 2_500 }, () => grant(bob, "0.01"));
  (await submitAll(ledger, many)).forEach(settledIndex);
  assert.deepEqual(commits, [1_000, 1_000, 500]);
  await close();
});

test("a batch of a thousand is one entry, and takes a commit of its own", async () => {
  const commits: number[] = [];
  const { ledger, folder, logKey, close } = await temporaryLedger(undefined, {
    wrap: (store) => notingCommits(store, commits),
  });
  await openAccounts(ledger, alice, bob);
  commits.length = 0;
  const payees = Array.from({ length: 1_000 }, () => [bob, "0.01"] as const);
  const large = await signedBatch(alice, payees);
  const submission = orderOf(large.signed, large.items);
  const small = orderOf(await signedOrder(alice, bob));
  const outcomes = await submitAll(ledger, [submission, small]);
  outcomes.forEach(settledIndex);
  assert.deepEqual(commits, [1, 1]);
  const statement = await statementOf(logKey);
  for (const item of [0, 1, 511, 999]) {
    const index = settledIndex(outcomes[0]!);
    const receipt = await receiptOf(ledger, statement, submission, index, item);
    assert.equal((await verifyReceipt(receipt, server)).item, item);
  }
  await close();
  await auditFolder(folder);
});

test("a second settle of the same order names the same entry, also after a restart", async () => {
  const first = await temporaryLedger();
  await openAccounts(first.ledger, alice, bob);
  const submission = orderOf(await signedOrder(alice, bob));
  const { signed: { order: { claims } } } = submission;
  const settled = await first.ledger.submit(submission);
  const index = settledIndex(settled);
  assert.deepEqual(await first.ledger.submit(submission), { ...settled, again: true });
  await first.close();

  const second = await temporaryLedger(first.folder);
  second.clock.pass(1_000_000);
  assert.deepEqual(await second.ledger.submit(submission), { ...settled, again: true });
  const stored = (await second.ledger.payment(claims.payer, claims.id))!;
  assert.equal(stored.index, index);
  assert.equal(stored.signedText, submission.signed.order.text);
  assert.equal(stored.delegationText, submission.signed.delegation.text);
  const statement = await statementOf(second.logKey);
  await verifyReceipt(await receiptOf(second.ledger, statement, submission, index), server);
  assert.equal(await balanceOf(second.store, "bob"), 1_001_250n);
  await second.close();
  await auditFolder(first.folder);
});

test("the same order under another delegation of its session keeps the delegation that it settled under", async () => {
  const { ledger, close } = await temporaryLedger();
  await openAccounts(ledger, alice, bob);
  const signed = await signedOrder(alice, bob);
  const settled = await ledger.submit(orderOf(signed));
  const respelt = orderOf({ ...signed, delegation: await delegate(alice) });
  assert.notEqual(respelt.signed.delegation.text, signed.delegation.text);
  assert.deepEqual(await ledger.submit(respelt), { ...settled, again: true });
  const stored = (await ledger.payment(alice.name, signed.order.claims.id))!;
  assert.equal(stored.delegationText, signed.delegation.text);
  await close();
});

test("what was cancelled stays so after a restart, and what was refused may settle", async () => {
  const first = await temporaryLedger();
  await openAccounts(first.ledger, alice, bob);
  const poor = orderOf(await signedOrder(alice, bob, { amount: amount("10000.01") }));
  const cancelled = orderOf(await signedOrder(alice, bob));
  const { id } = cancelled.signed.order.claims;
  const outcomes = await submitAll(first.ledger, [
    poor,
    cancelOf(await signedCancel(alice, id)),
  ]);
  assert.deepEqual(outcomes.map(({ state }) => state), ["refused", "cancelled"]);
  await first.close();

  const { ledger, close, folder } = await temporaryLedger(first.folder);
  await ledger.submit(grant(alice, "50000.00"));
  const later = await submitAll(ledger, [poor, cancelled]);
  assert.equal(later[0]!.state, "settled");
  assert.deepEqual(later[1], { state: "refused", reason: "cancelled" });
  await close();
  await auditFolder(folder);
});

test("a refusal makes no entry, and the checkpoint stays the same text", async () => {
  const { ledger, store, close } = await temporaryLedger();
  await openAccounts(ledger, alice, bob);
  const [before, head] = [ledger.checkpoint, await store.head()];
  const poor = orderOf(await signedOrder(alice, bob, { amount: amount("10000.01") }));
  assert.equal((await ledger.submit(poor)).state, "refused");
  assert.deepEqual(ledger.checkpoint, before);
  assert.deepEqual(await store.head(), head);
  await close();
});

test("nobody hears of a payment before another reader of the file can see it", async () => {
  const { ledger, folder, close } = await temporaryLedger();
  await openAccounts(ledger, alice, bob);
  const other = await temporaryLedger(folder);
  const signed = await signedOrder(alice, bob);
  settledIndex(await ledger.submit(orderOf(signed)));
  assert.ok(await other.ledger.payment(alice.name, signed.order.claims.id));
  await other.close();
  await close();
});

test("every entry is proven under the newest checkpoint, and each checkpoint grows out of those before", async () => {
  const { ledger, close } = await temporaryLedger();
  await openAccounts(ledger, bob);
  const checkpoints = [ledger.checkpoint];
  for (const count of [1, 200, 120, 3, 300]) {
    await submitAll(ledger, Array.from({ length: count }, () => grant(bob, "0.01")));
    checkpoints.push(ledger.checkpoint);
  }
  const newest = checkpoints.at(-1)!;
  for (const older of checkpoints) {
    verifyConsistency(older, newest, await ledger.consistency(older.size, newest.size));
    assert.deepEqual(await ledger.rootAt(older.size), older.root);
  }
  const indexes = [0, 1, 2, 3, 202, 203, 255, 256, 511, 512, newest.size - 1];
  for (const { index, text, path, checkpoint } of await ledger.prove(indexes)) {
    assert.equal(parseEntry(text).index, index);
    verifyInclusion(hashLeaf(text), index, checkpoint, path);
    assert.equal(checkpoint.size, newest.size);
  }
  for (const index of [-1, newest.size, 0.5, NaN]) {
    await assert.rejects(ledger.prove([0, index]), RangeError, String(index));
  }
  await close();
});

/** An order that passes every rule and then breaks the making of its commit. */
function poisoned(): Submission {
  const submission = order(alice, bob);
  Object.defineProperty(submission.signed.delegation, "text", {
    get() {
      throw new TypeError("poison");
    },
  });
  return submission;
}

test("a submission that breaks its commit fails alone: the others in it settle", async () => {
  const { ledger, store, folder, close } = await temporaryLedger();
  await openAccounts(ledger, alice, bob);
  const grants = Array.from({ length: 10 }, () => grant(bob, "1.00"));
  const submissions = [
    ...grants.slice(0, 3),
    poisoned(),
    ...grants.slice(3, 7),
    poisoned(),
    ...grants.slice(7),
  ];
  const results = await Promise.allSettled(submissions.map((one) => ledger.submit(one)));
  for (const [index, { status }] of results.entries()) {
    assert.equal(status, index === 3 || index === 8 ? "rejected" : "fulfilled", String(index));
  }
  assert.equal(await balanceOf(store, "bob"), 1_001_000n);
  assert.equal(await balanceOf(store, "alice"), 1_000_000n);
  await close();
  await auditFolder(folder);
});

async function failingLedger() {
  let failing!: FailingStore;
  const made = await temporaryLedger(undefined, {
    wrap: (store) => (failing = new FailingStore(store)).store,
  });
  await openAccounts(made.ledger, alice, bob);
  return { ...made, failing };
}

test("a commit that says it failed but happened is found out, and answered as what it is", async () => {
  const { ledger, failing, folder, close } = await failingLedger();
  failing.fail = "after COMMIT";
  const submission = orderOf(await signedOrder(alice, bob));
  assert.deepEqual(await ledger.submit(submission), { state: "settled", index: 5, again: false });
  failing.fail = "never";
  assert.deepEqual(await ledger.submit(submission), { state: "settled", index: 5, again: true });
  assert.equal(ledger.size, 6);
  await close();
  await auditFolder(folder);
});

test("a commit that happened is found out though another process has gone on from it", async () => {
  const { ledger, failing, folder, close } = await failingLedger();
  const other = await temporaryLedger(folder);
  failing.fail = "after COMMIT";
  failing.then = () => other.ledger.submit(grant(bob, "1.00"));
  const submission = orderOf(await signedOrder(alice, bob));
  assert.deepEqual(await ledger.submit(submission), { state: "settled", index: 5, again: false });
  await close();
  await other.close();
  await auditFolder(folder);
});

test("a commit that fails leaves nothing and no signed root; the same order settles later", async () => {
  const { ledger, store, failing, folder, close } = await failingLedger();
  failing.fail = "before COMMIT";
  const before = ledger.checkpoint;
  const submission = orderOf(await signedOrder(alice, bob));
  await assert.rejects(ledger.submit(submission), /COMMIT failed/);
  // The next commit makes another tree of that size: other salts, and another entry.
  assert.deepEqual(ledger.checkpoint, before);
  assert.equal((await store.head())!.size, 5);
  assert.equal(await ledger.payment(alice.name, submission.signed.order.claims.id), null);
  await assert.rejects(ledger.proveOne(5), RangeError);
  failing.fail = "never";
  await ledger.submit(grant(bob, "1.00"));
  verifyConsistency(before, ledger.checkpoint, await ledger.consistency(5, ledger.size));
  assert.deepEqual(await ledger.submit(submission), { state: "settled", index: 6, again: false });
  const { text, path, checkpoint } = await ledger.proveOne(6);
  verifyInclusion(hashLeaf(text), 6, checkpoint, path);
  await close();
  await auditFolder(folder);
});

test("past twenty thousand waiting payments it is overloaded, and takes more once they are done", async () => {
  const { ledger, close } = await temporaryLedger();
  await openAccounts(ledger, alice);
  // Unknown payees: each batch is refused and makes no entry, so that the test is quick.
  const items = Array.from({ length: 1_000 }, () => [bob, 1n] as const);
  const waiting = Array.from({ length: 20 }, () => ledger.submit(batch(alice, items)));
  const late = grant(alice, "1.00");
  await assert.rejects(ledger.submit(late), { code: "overloaded" });
  for (const outcome of await Promise.all(waiting)) assert.equal(outcome.state, "refused");
  settledIndex(await ledger.submit(late));
  await close();
});

test("registering the same name from two connections at once opens one account", async () => {
  const { ledger, store, folder, close } = await temporaryLedger();
  await Promise.all([openAccounts(ledger, carol), openAccounts(ledger, carol)]);
  assert.equal(await balanceOf(store, "carol"), 1_000_000n);
  assert.equal(await balanceOf(store, TREASURY), -1_000_000n);
  await close();
  await auditFolder(folder);
});

test("history tells each entry that touched an account, with the balance after it, page by page", async () => {
  const { ledger, store, close } = await temporaryLedger();
  await openAccounts(ledger, alice, bob);
  const signed = await signedOrder(alice, bob);
  await ledger.submit(orderOf(signed));
  const { signed: batched, items } = await signedBatch(alice, [[bob, "1.00"], [bob, "2.00"]]);
  await ledger.submit(orderOf(batched, items));
  const rows = await store.history(bob.name, 0, 10);
  assert.deepEqual(
    rows.map(({ entryText, balance, signedText }) => [
      parseEntry(entryText).index,
      balance,
      signedText,
    ]),
    [
      [4, 1_000_000n, null],
      [5, 1_001_250n, signed.order.text],
      [6, 1_001_550n, batched.order.text],
    ],
  );
  assert.equal(rows[2]!.itemTexts!.length, 2);
  const page = await store.history(bob.name, 4, 1);
  assert.deepEqual(page.map(({ balance }) => balance), [1_001_250n]);
  await close();
});

test("a ledger of another server, or under another log key, is not opened", async () => {
  const { folder, close } = await temporaryLedger();
  await close();
  const other = rsaPair("another server").publicKey.thumbprint;
  await assert.rejects(temporaryLedger(folder, { server: other }), {
    code: "ledger_of_another_server",
    message: /server_private\.pem/,
  });
  // As after the log key was lost and made anew.
  rmSync(join(keysFolder(folder), "server_log_key.pem"));
  await assert.rejects(temporaryLedger(folder), {
    code: "ledger_of_another_server",
    message: /server_log_key\.pem/,
  });
});
