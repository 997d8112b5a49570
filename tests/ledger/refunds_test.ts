import assert from "node:assert/strict";
import { test } from "node:test";
import { parseAccountName } from "../../lib/keys/rsa.ts";
import type { Transfer } from "../../lib/ledger/entry.ts";
import type { Ledger } from "../../lib/ledger/ledger.ts";
import { refundKey, type RefundTotal } from "../../lib/ledger/submission.ts";
import { UNIT_DEFAULT } from "../../lib/protocol/money.ts";
import type { Order, PaymentReference } from "../../lib/protocol/order.ts";
import { TREASURY } from "../../lib/protocol/party.ts";
import { auditFolder } from "../support/audited_ledger.ts";
import {
  amount,
  openAccounts,
  orderOf,
  type Person,
  person,
  rsaPair,
  serverPair,
  signedBatch,
  signedOrder,
  temporaryLedger,
  uuid,
} from "../support/fixtures.ts";
import { appendForged, orderRow } from "../support/forged_entries.ts";
import {
  assertRefused,
  batch,
  cancel,
  grant,
  openClassic,
  order,
  referenceTo,
  rotate,
  type World,
  worldOf,
} from "../support/settle_world.ts";
import { tamper } from "../support/tamper.ts";

const alice = person("alice");
const bob = person("bob");
const carol = person("carol");

/** Alice pays bob 12.50. */
function paid() {
  const world = worldOf(alice, bob, carol);
  const payment = order(alice, bob);
  world.one(payment);
  return { world, refundOf: referenceTo(payment) };
}

/** Bob gives alice `text` back. */
function refund(refundOf: PaymentReference, text: string, changed: Partial<Order> = {}) {
  return order(bob, alice, { refundOf, amount: amount(text), ...changed });
}

test("refunds of a payment add up to it at most, across commits and within one", () => {
  const { world, refundOf } = paid();
  assert.equal(world.one(refund(refundOf, "5.00")).state, "settled");
  assertRefused(world, refund(refundOf, "7.51"), "refund_too_much");
  const { outcomes } = world.commit(
    refund(refundOf, "4.00"),
    refund(refundOf, "4.00"),
    refund(refundOf, "3.50"),
  );
  assert.deepEqual(outcomes.map(({ state }) => state), ["settled", "refused", "settled"]);
  assertRefused(world, refund(refundOf, "0.01"), "refund_too_much");
  assert.equal(world.refunds.get(refundKey(refundOf)), amount("12.50"));
  assert.equal(world.balance(alice.name), 1_000_000n);
});

test("the same refund again is the same", () => {
  const { world, refundOf } = paid();
  const whole = refund(refundOf, "12.50");
  const first = world.one(whole);
  assert.deepEqual(world.one(whole), { ...first, again: true });
});

test("only its payee gives a payment back, and to its payer alone", () => {
  const { world, refundOf } = paid();
  const byCarol = order(carol, alice, { refundOf, amount: amount("1.00") });
  assertRefused(world, byCarol, "refund_unknown");
  const toCarol = order(bob, carol, { refundOf, amount: amount("1.00") });
  assertRefused(world, toCarol, "refund_unknown");
  const byPayer = order(alice, bob, { refundOf, amount: amount("1.00") });
  assertRefused(world, byPayer, "refund_unknown");
});

test("a payment that is unknown, cancelled, or no batch's item is given back by nobody", () => {
  const { world, refundOf } = paid();
  const cancelled = uuid();
  world.one(cancel(alice, cancelled));
  const references: PaymentReference[] = [
    { ...refundOf, id: uuid() },
    { ...refundOf, id: cancelled },
    { ...refundOf, item: 0 },
    { ...refundOf, payer: carol.name },
  ];
  for (const reference of references) {
    assertRefused(world, refund(reference, "1.00"), "refund_unknown");
  }
});

test("a refund, a grant and a classic payment are not given back", () => {
  const { world, refundOf } = paid();
  const first = refund(refundOf, "12.50");
  world.one(first);
  const back = order(alice, bob, { refundOf: referenceTo(first), amount: amount("1.00") });
  assertRefused(world, back, "refund_of_refund");
  const id = uuid();
  world.one(grant(alice, "5.00", id));
  // The treasury's name parses as no account's, so no order can name it; a rule says no all the same.
  const granted = { payer: TREASURY as unknown as typeof bob.name, id, item: null };
  const toTreasury = { payee: TREASURY, payeeKey: serverPair().publicKey.thumbprint } as const;
  const giveBack = order(alice, bob, { refundOf: granted, ...toTreasury });
  assertRefused(world, giveBack, "refund_unknown");
  const dora = parseAccountName("dora");
  world.one(openClassic(dora));
  const unsigned = { id: uuid(), payer: dora, payee: bob.name, amount: amount("1.00") };
  world.one({ type: "unsigned", ...unsigned });
  const toDora = {
    payee: dora,
    payeeKey: null,
    refundOf: { payer: dora, id: unsigned.id, item: null },
  };
  assertRefused(world, order(bob, alice, { ...toDora, amount: amount("1.00") }), "refund_unknown");
});

test("an item of a batch is given back by its index, each up to its own amount", () => {
  const world = worldOf(alice, bob, carol);
  const pays = batch(alice, [[bob, 100n], [carol, 200n], [bob, 300n]]);
  world.one(pays);
  assertRefused(world, refund(referenceTo(pays), "1.00"), "refund_unknown");
  assertRefused(world, refund(referenceTo(pays, 1), "1.00"), "refund_unknown");
  assertRefused(world, refund(referenceTo(pays, 3), "1.00"), "refund_unknown");
  assertRefused(world, refund(referenceTo(pays, 0), "1.01"), "refund_too_much");
  assert.equal(world.one(refund(referenceTo(pays, 0), "1.00")).state, "settled");
  assert.equal(world.one(refund(referenceTo(pays, 2), "3.00")).state, "settled");
});

test("the refunder's own side is judged first", () => {
  const { world, refundOf } = paid();
  assertRefused(world, refund(refundOf, "99999.00"), "insufficient_funds");
});

test("parties are names: a key that was replaced does not matter", () => {
  const { world, refundOf } = paid();
  const pair = rsaPair("bob's next key");
  const { keyed } = world.accounts.get(bob.name)!;
  assert.equal(world.one(rotate(bob, pair, keyed)).state, "rotated");
  const newBob: Person = { ...bob, pair };
  const back = order(newBob, alice, { refundOf, amount: amount("12.50") });
  assert.equal(world.one(back).state, "settled");
});

test("money goes back to the treasury by an order of the holder's", () => {
  const world: World = worldOf(alice);
  const payeeKey = serverPair().publicKey.thumbprint;
  const redeems = order(alice, alice, { payee: TREASURY, payeeKey });
  assert.equal(world.one(redeems).state, "settled");
  assert.equal(world.balance(TREASURY), -998_750n);
});

async function paidLedger() {
  const opened = await temporaryLedger();
  await openAccounts(opened.ledger, alice, bob, carol);
  const signed = await signedOrder(alice, bob);
  await opened.ledger.submit(orderOf(signed));
  const refundOf = { payer: alice.name, id: signed.order.claims.id, item: null };
  return { ...opened, refundOf };
}

async function giveBack(ledger: Ledger, refundOf: PaymentReference, text: string) {
  const changed = { refundOf, amount: amount(text) };
  return (await ledger.submit(orderOf(await signedOrder(bob, alice, changed)))).state;
}

test("a ledger keeps the total of a payment's refunds, whoever races, and passes its audit", async () => {
  const { ledger, folder, store, refundOf, close } = await paidLedger();
  const other = await temporaryLedger(folder);
  const states = await Promise.all(
    [ledger, other.ledger, ledger, other.ledger].map((one) => giveBack(one, refundOf, "5.00")),
  );
  assert.deepEqual(states.sort(), ["refused", "refused", "settled", "settled"]);
  const [total] = await store.refundTotals([refundOf]);
  assert.deepEqual([total!.total, total!.changed], [amount("10.00"), 9]);
  await other.close();
  await close();
  await auditFolder(folder);
});

test("items of a batch are given back on a real ledger", async () => {
  const { ledger, folder, close } = await paidLedger();
  const { signed, items } = await signedBatch(alice, [[bob, "1.00"], [carol, "2.00"]]);
  await ledger.submit(orderOf(signed, items));
  const reference = { payer: alice.name, id: signed.order.claims.id, item: 0 };
  assert.equal(await giveBack(ledger, { ...reference, item: 1 }, "1.00"), "refused");
  assert.equal(await giveBack(ledger, reference, "1.00"), "settled");
  assert.equal(await giveBack(ledger, reference, "0.01"), "refused");
  await close();
  await auditFolder(folder);
});

test("a refund's total that was changed in the database stops the ledger", async () => {
  const { ledger, folder, refundOf, close } = await paidLedger();
  await giveBack(ledger, refundOf, "5.00");
  await close();
  tamper(folder, "UPDATE refunds SET total = 1");
  const { ledger: again, close: closeAgain } = await temporaryLedger(folder);
  await assert.rejects(giveBack(again, refundOf, "5.00"), { code: "store_damaged" });
  await closeAgain();
  await assert.rejects(auditFolder(folder), {
    code: "audit_failed",
    message: /refunds of payment/,
  });
});

test("a batch's items that were changed in the database are given back by nobody", async () => {
  const { ledger, folder, close } = await paidLedger();
  const { signed, items } = await signedBatch(alice, [[bob, "1.00"], [carol, "2.00"]]);
  await ledger.submit(orderOf(signed, items));
  await close();
  tamper(folder, `UPDATE payments SET items = replace(items, '"1.00', '"9.00')`);
  const { ledger: again, close: closeAgain } = await temporaryLedger(folder);
  const reference = { payer: alice.name, id: signed.order.claims.id, item: 0 };
  await assert.rejects(giveBack(again, reference, "9.00"), { code: "store_damaged" });
  await closeAgain();
});

test("audit finds totals that were removed, set back, or made up", async () => {
  const changes = [
    ["DELETE FROM refunds", /refunds that no entry explains/],
    ["UPDATE refunds SET item = 5", /refunds of payment/],
    [
      "INSERT INTO refunds SELECT payer, id, 7, total, changed, seal FROM refunds",
      /no entry explains/,
    ],
  ] as const;
  for (const [sql, sentence] of changes) {
    const { ledger, folder, refundOf, close } = await paidLedger();
    await giveBack(ledger, refundOf, "5.00");
    await close();
    tamper(folder, sql);
    await assert.rejects(auditFolder(folder), { code: "audit_failed", message: sentence });
  }
});

/** An operator's ledger with a refund by `refunder`, to `payee`, that the rules forbid. */
async function forgedRefund(
  refunder: Person,
  payee: Person,
  text: string,
  change: (reference: PaymentReference) => PaymentReference = (reference) => reference,
): Promise<string> {
  const { ledger, folder, refundOf: original, close } = await paidLedger();
  await giveBack(ledger, original, "5.00");
  await close();
  const refundOf = change(original);
  const signed = await signedOrder(refunder, payee, { refundOf, amount: amount(text) });
  const { order: { claims, sha256 }, delegation } = signed;
  const entry: Transfer = {
    type: "transfer",
    id: claims.id,
    payer: refunder.name,
    payee: payee.name,
    amount: claims.amount,
    unit: UNIT_DEFAULT,
    payerKey: refunder.pair.publicKey.thumbprint,
    payeeKey: payee.pair.publicKey.thumbprint,
    orderSha256: sha256,
    delegationSha256: delegation.sha256,
  };
  const same = refundKey(refundOf) === refundKey(original);
  const total = claims.amount + (same ? amount("5.00") : 0n);
  const refunds: RefundTotal[] = [{ reference: refundOf, total, changed: 9 }];
  await appendForged(folder, { entries: [entry], payments: [orderRow(signed)], refunds });
  return folder;
}

test("audit accepts a refund that the rules would have made", async () => {
  await auditFolder(await forgedRefund(bob, alice, "7.50"));
});

test("audit finds refunds that the rules forbid", async () => {
  const found = async (folder: Promise<string>, sentence: RegExp) =>
    await assert.rejects(auditFolder(await folder), { code: "audit_failed", message: sentence });
  await found(forgedRefund(bob, alice, "7.51"), /entry 9: it gives back more than was paid/);
  await found(forgedRefund(carol, alice, "1.00"), /a payment between others/);
  await found(forgedRefund(bob, carol, "1.00"), /a payment between others/);
  const other = (reference: PaymentReference) => ({ ...reference, id: uuid() });
  await found(forgedRefund(bob, alice, "1.00", other), /was not paid before/);
  const item = (reference: PaymentReference) => ({ ...reference, item: 0 });
  await found(forgedRefund(bob, alice, "1.00", item), /gives back a refund, or a batch's item/);
});
