import assert from "node:assert/strict";
import { test } from "node:test";
import { audit } from "../../lib/ledger/audit.ts";
import { parseHeader } from "../../lib/ledger/block.ts";
import { Ledger, orderTexts, storedOrderTexts } from "../../lib/ledger/ledger.ts";
import { verifyReceipt } from "../../lib/ledger/receipt.ts";
import type { Outcome, Submission } from "../../lib/ledger/submission.ts";
import type { LedgerStore } from "../../lib/ledger/store.ts";
import {
  amount,
  CERT,
  delegate,
  NOW_S,
  openAccounts,
  orderOf,
  person,
  rsaPair,
  serverPair,
  signedBatch,
  signedOrder,
  temporaryLedger,
  uuid,
} from "../support/fixtures.ts";
import { batch, grant, order } from "../support/settle_world.ts";

const alice = person("alice");
const bob = person("bob");
const carol = person("carol");

type Settled = Outcome & { state: "settled" };

function assertSettled(outcome: Outcome): asserts outcome is Settled {
  assert.equal(outcome.state, "settled", JSON.stringify(outcome));
}

async function balanceOf(store: LedgerStore, name: string): Promise<bigint> {
  return (await store.account(name))!.balance;
}

async function passesAudit(store: LedgerStore): Promise<void> {
  await audit(store, serverPair().publicKey);
}

test("each payment of a long row of them, one after the other, is answered", async () => {
  const { ledger, store } = temporaryLedger();
  await openAccounts(ledger, alice, bob);
  for (let count = 0; count < 20; count++) {
    assertSettled(await ledger.submit(orderOf(await signedOrder(alice, bob))));
  }
  assert.equal((await store.head()).height, 22);
  assert.equal(await balanceOf(store, "bob"), 1_025_000n);
  await passesAudit(store);
});

test("payments that come together share a block, and each has its own receipt in it", async () => {
  const { ledger, store } = temporaryLedger();
  await openAccounts(ledger, alice, bob);
  const orders = await Promise.all(Array.from({ length: 60 }, () => signedOrder(alice, bob)));
  const outcomes = await Promise.all(orders.map((signed) => ledger.submit(orderOf(signed))));
  const { height, nextSeq } = await store.head();
  assert.equal(height, 3);
  assert.equal(nextSeq, 65);
  for (const [index, outcome] of outcomes.entries()) {
    assertSettled(outcome);
    const text = await ledger.receipt(orderTexts(orderOf(orders[index]!)), outcome.entries, null);
    const { transfer, header } = await verifyReceipt(text, serverPair().publicKey);
    assert.equal(transfer.id, orders[index]!.order.claims.id);
    assert.equal(header.claims.height, 3);
  }
  await passesAudit(store);
});

test("more than a thousand payments at once become several blocks", async () => {
  const { ledger, store } = temporaryLedger();
  await openAccounts(ledger, alice, bob);
  const many = Array.from({ length: 2_500 }, () => grant(bob, "0.01"));
  for (const outcome of await Promise.all(many.map((one) => ledger.submit(one)))) {
    assertSettled(outcome);
  }
  const counts = (await store.headers(3, 10)).map((text) => parseHeader(text).claims.count);
  assert.deepEqual(counts, [1_000, 1_000, 500]);
});

test("a batch of a thousand and a payment beside it go into two blocks", async () => {
  const { ledger, store } = temporaryLedger();
  await openAccounts(ledger, alice, bob);
  const large = await signedBatch(
    alice,
    Array.from({ length: 1_000 }, () => [bob, "0.01"] as const),
  );
  const small = await signedOrder(alice, bob);
  const outcomes = await Promise.all([
    ledger.submit(orderOf(large.signed, large.items)),
    ledger.submit(orderOf(small)),
  ]);
  outcomes.forEach(assertSettled);
  assert.equal((await store.head()).height, 4);
  const texts = orderTexts(orderOf(large.signed, large.items));
  for (const index of [0, 1, 511, 999]) {
    const receipt = await ledger.receipt(texts, (outcomes[0] as Settled).entries, index);
    assert.equal((await verifyReceipt(receipt, serverPair().publicKey)).transfer.index, index);
  }
  await passesAudit(store);
});

test("a second settle of the same order returns the same receipt, also after a restart", async () => {
  const first = temporaryLedger();
  await openAccounts(first.ledger, alice, bob);
  const submission = orderOf(await signedOrder(alice, bob));
  const { signed: { order: { claims } } } = submission;
  const settled = await first.ledger.submit(submission);
  assertSettled(settled);
  const receipt = await first.ledger.receipt(orderTexts(submission), settled.entries, null);

  const again = await first.ledger.submit(submission);
  assert.deepEqual(again, { ...settled, again: true });
  assert.equal(await first.ledger.receipt(orderTexts(submission), settled.entries, null), receipt);
  await first.store.close();

  const second = temporaryLedger(first.path);
  second.now_s = NOW_S + 1_000_000;
  assert.deepEqual(await second.ledger.submit(submission), { ...settled, again: true });
  const stored = (await second.store.payment(claims.payer, claims.id))!;
  assert.deepEqual(stored.end, { settled: settled.entries });
  const texts = storedOrderTexts(stored)!;
  assert.equal(await second.ledger.receipt(texts, settled.entries, null), receipt);
  assert.equal(await balanceOf(second.store, "bob"), 1_001_250n);
  await passesAudit(second.store);
});

test("the same order under another delegation of its session gets the receipt it had", async () => {
  const { ledger, store } = temporaryLedger();
  await openAccounts(ledger, alice, bob);
  const signed = await signedOrder(alice, bob);
  const settled = await ledger.submit(orderOf(signed));
  assertSettled(settled);
  const receipt = await ledger.receipt(orderTexts(orderOf(signed)), settled.entries, null);

  const respelt = orderOf({ ...signed, delegation: await delegate(alice, {}, NOW_S - 59) });
  assert.notEqual(respelt.signed.delegation.text, signed.delegation.text);
  assert.deepEqual(await ledger.submit(respelt), { ...settled, again: true });
  assert.equal(await ledger.receipt(orderTexts(respelt), settled.entries, null), receipt);
  await store.close();
});

test("another server's key adds no block to a ledger", async () => {
  const { ledger, store } = temporaryLedger();
  await openAccounts(ledger, alice, bob);
  const serverKeys = rsaPair("another server");
  const stranger = new Ledger({ store, serverKeys, cert: CERT, now_s: () => NOW_S });
  await assert.rejects(stranger.submit(grant(bob, "1.00")), { code: "ledger_of_another_server" });
  assertSettled(await ledger.submit(grant(bob, "1.00")));
  await passesAudit(store);
});

test("what is void is void after a restart too, and so is what was cancelled", async () => {
  const first = temporaryLedger();
  await openAccounts(first.ledger, alice, bob);
  const poor = orderOf(await signedOrder(alice, bob, { amount: amount("10000.01") }));
  const cancelled = orderOf(await signedOrder(alice, bob));
  await first.ledger.submit(poor);
  const { id } = cancelled.signed.order.claims;
  await first.ledger.submit({ type: "cancel", payer: alice.name, id });
  await first.store.close();

  const { ledger, store } = temporaryLedger(first.path);
  await ledger.submit(grant(alice, "50000.00"));
  const outcomes = await Promise.all([poor, cancelled].map((one) => ledger.submit(one)));
  assert.deepEqual(outcomes, [
    { state: "void", reason: "insufficient_funds", again: true },
    { state: "void", reason: "cancelled", again: true },
  ]);
  assert.equal(await balanceOf(store, "bob"), 1_000_000n);
});

test("a void makes no block, and the head stays where it was", async () => {
  const { ledger, store } = temporaryLedger();
  await openAccounts(ledger, alice, bob);
  const before = await store.head();
  await ledger.submit({ type: "cancel", payer: alice.name, id: uuid() });
  assert.deepEqual(await store.head(), before);
  await passesAudit(store);
});

test("nobody hears of a payment before another reader of the file can see it", async () => {
  const { ledger, path, store } = temporaryLedger();
  await openAccounts(ledger, alice, bob);
  const other = temporaryLedger(path);
  const signed = await signedOrder(alice, bob);
  assertSettled(await ledger.submit(orderOf(signed)));
  assert.ok(await other.store.payment(alice.name, signed.order.claims.id));
  await other.store.close();
  await store.close();
});

test("time never runs backwards in the chain, whatever the clock does", async () => {
  const temporary = temporaryLedger();
  const { ledger, store } = temporary;
  await openAccounts(ledger, alice, bob);
  for (const time_s of [NOW_S + 100, NOW_S - 5_000, NOW_S + 50]) {
    temporary.now_s = time_s;
    assertSettled(await ledger.submit(grant(bob, "1.00")));
  }
  const times = (await store.headers(3, 10)).map((text) => parseHeader(text).claims.time);
  assert.deepEqual(times, [NOW_S + 100, NOW_S + 100, NOW_S + 100]);
  await passesAudit(store);
});

/** An order that passes every rule and then breaks the making of its block. */
function poisoned(): Submission {
  const submission = order(alice, bob);
  Object.defineProperty(submission.signed.delegation, "text", {
    get() {
      throw new TypeError("poison");
    },
  });
  return submission;
}

test("a submission that breaks its block fails alone: the others in it settle", async () => {
  const { ledger, store } = temporaryLedger();
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
  await passesAudit(store);
});

/** The real store, but what happens around a transaction's end is in the test's hand. */
function withTransaction(store: LedgerStore, transaction: LedgerStore["transaction"]): LedgerStore {
  return new Proxy(store, {
    get(target, name) {
      const member: unknown = name === "transaction" ? transaction : Reflect.get(target, name);
      return typeof member === "function" ? member.bind(target) : member;
    },
  });
}

function ledgerOn(store: LedgerStore): Ledger {
  return new Ledger({ store, serverKeys: serverPair(), cert: CERT, now_s: () => NOW_S });
}

test("a commit that says it failed but happened is found out, and answered as what it is", async () => {
  const { ledger, store } = temporaryLedger();
  await openAccounts(ledger, alice, bob);
  const broken = withTransaction(store, async (work) => {
    await store.transaction(work);
    throw new Error("the answer to COMMIT was lost");
  });
  const submission = orderOf(await signedOrder(alice, bob));
  const outcome = await ledgerOn(broken).submit(submission);
  assert.deepEqual(outcome, { state: "settled", entries: { seq: 5, count: 1 }, again: false });
  assert.deepEqual(await ledger.submit(submission), { ...outcome, again: true });
  await passesAudit(store);
});

test("a commit that fails leaves nothing, and the same order settles later", async () => {
  const { ledger, store } = temporaryLedger();
  await openAccounts(ledger, alice, bob);
  const broken = withTransaction(store, (work) =>
    store.transaction(async (transaction) => {
      await work(transaction);
      throw new Error("COMMIT failed");
    }));
  const submission = orderOf(await signedOrder(alice, bob));
  await assert.rejects(ledgerOn(broken).submit(submission), /COMMIT failed/);
  assert.equal((await store.head()).nextSeq, 5);
  assert.equal(await store.payment(alice.name, submission.signed.order.claims.id), null);
  assert.deepEqual(await ledger.submit(submission), {
    state: "settled",
    entries: { seq: 5, count: 1 },
    again: false,
  });
  await passesAudit(store);
});

test("past twenty thousand waiting transfers it is overloaded, and takes more once they are done", async () => {
  const { ledger } = temporaryLedger();
  await openAccounts(ledger, alice);
  // Unknown payees: each batch is void and makes no block, so that the test is quick.
  const items = Array.from({ length: 1_000 }, () => [bob, 1n] as const);
  const waiting = Array.from({ length: 20 }, () => ledger.submit(batch(alice, items)));
  const refused = grant(alice, "1.00");
  await assert.rejects(ledger.submit(refused), { code: "overloaded" });
  for (const outcome of await Promise.all(waiting)) assert.equal(outcome.state, "void");
  assertSettled(await ledger.submit(refused));
});

test("registering the same name from two connections at once opens one account", async () => {
  const { ledger, store } = temporaryLedger();
  await Promise.all([openAccounts(ledger, carol), openAccounts(ledger, carol)]);
  assert.equal(await balanceOf(store, "carol"), 1_000_000n);
  await passesAudit(store);
});

test("history tells each transfer with the balance after it and the block's time", async () => {
  const temporary = temporaryLedger();
  const { ledger, store } = temporary;
  await openAccounts(ledger, alice, bob);
  temporary.now_s = NOW_S + 7;
  const signed = await signedOrder(alice, bob);
  await ledger.submit(orderOf(signed));
  await ledger.submit(grant(bob, "1.00"));
  const rows = await store.history(bob.name, 0, 10);
  assert.deepEqual(
    rows.map(({ balance, time_s, orderText }) => ({ balance, time_s, orderText })),
    [
      { balance: 1_000_000n, time_s: NOW_S, orderText: null },
      { balance: 1_001_250n, time_s: NOW_S + 7, orderText: signed.order.text },
      { balance: 1_001_350n, time_s: NOW_S + 7, orderText: null },
    ],
  );
  assert.deepEqual((await store.history(bob.name, 4, 1)).map(({ balance }) => balance), [
    1_001_250n,
  ]);
});
