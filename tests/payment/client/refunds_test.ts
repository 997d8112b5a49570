import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { assertFails, jsonLines, PaymentWorld } from "../../support/payment_world.ts";
import { uuid } from "../../support/fixtures.ts";

let world: PaymentWorld;

before(async () => {
  world = await PaymentWorld.start();
  await world.register("alice", "bob", "carol");
});

after(() => world.stop());

async function pay(...args: string[]): Promise<string> {
  return String((await world.ask("alice", "pay", ...args)).payment);
}

test("a payment is given back in part, then whole, and history says what was", async () => {
  const payment = await pay("bob", "12.50", "tea");
  const part = await world.ask("bob", "refund", payment.slice(0, 20), "2.50");
  assert.deepEqual([part.payer, part.payee, part.amount], ["bob", "alice", "2.50"]);
  const tooMuch = await world.client("bob", "refund", payment, "10.01");
  assert.match(assertFails(tooMuch, "refund_too_much"), /10\.00 can still be given back/);
  const rest = await world.ask("bob", "refund", payment);
  assert.deepEqual([rest.amount, rest.balance], ["10.00", "10000.00"]);
  const done = await world.client("bob", "refund", payment);
  assert.match(assertFails(done, "refund_too_much"), /all of this payment/);
  for (const name of ["alice", "bob"]) {
    const rows = jsonLines(await world.client(name, "history")).slice(-3);
    assert.deepEqual(rows.map(({ refund_of }) => refund_of), [undefined, payment, payment]);
  }
  const back = await world.client("alice", "refund", String(part.payment));
  assertFails(back, "refund_of_refund");
});

test("two refunds at once give back no more than was paid", async () => {
  const payment = await pay("bob", "5.00");
  const outcomes = await Promise.all([1, 2].map(() => world.client("bob", "refund", payment)));
  assert.deepEqual(outcomes.map(({ status }) => status).sort(), [0, 1]);
  assertFails(outcomes.find(({ status }) => status === 1)!, "refund_too_much");
});

test("the items of a batch are given back one by one", async () => {
  const batch = join(world.folder, "batch.csv");
  writeFileSync(batch, "bob,1.00\ncarol,2.00\nbob,3.00\n");
  const [first] = jsonLines(await world.client("alice", "pay", "--batch", batch));
  const id = String(first!.payment).split("/")[0]!;
  const two = await world.client("bob", "refund", id);
  assert.match(assertFails(two, "usage", 2), /several payments to bob/);
  assertFails(await world.client("bob", "refund", `${id}/1`), "refund_unknown");
  assert.equal((await world.ask("bob", "refund", `${id}/2`)).amount, "3.00");
  assert.equal((await world.ask("carol", "refund", id)).amount, "2.00");
});

test("strangers, payers and grants: nobody gives back what was not paid to them", async () => {
  const payment = await pay("bob", "1.00");
  assertFails(await world.client("carol", "refund", payment), "refund_unknown");
  assertFails(await world.client("alice", "refund", payment), "refund_unknown");
  assertFails(await world.client("bob", "refund", uuid()), "refund_unknown");
  await world.operate("grant", "carol", "7.00");
  const grant = jsonLines(await world.client("carol", "history")).at(-1)!;
  const refused = await world.client("carol", "refund", String(grant.payment));
  assert.match(assertFails(refused, "refund_unknown"), /redeem/);
  for (const amount of ["12,50", "-5", "1e3", "0"]) {
    assertFails(await world.client("bob", "refund", payment, amount), "bad_amount", 2);
  }
});

test("money is redeemed, up to the balance", async () => {
  const { balance } = await world.ask("carol", "balance");
  const paid = await world.ask("carol", "redeem", "7.00");
  assert.deepEqual([paid.payee, paid.balance], ["@treasury", (Number(balance) - 7).toFixed(2)]);
  assertFails(await world.client("carol", "redeem", "99999.00"), "insufficient_funds");
  assertFails(await world.client("carol", "redeem", "0"), "bad_amount", 2);
});

test("a listener is told of a refund as one", async () => {
  const listener = await world.listen("alice");
  const payment = await pay("bob", "1.50");
  await world.ask("bob", "refund", payment);
  const paid = await listener.nextJson(({ event, refund_of }) =>
    event === "paid" && refund_of === payment
  );
  assert.deepEqual([paid.payer, paid.amount], ["bob", "1.50"]);
  await listener.stop();
  const { valid } = jsonLines(await world.operate("audit"))[0]!;
  assert.equal(valid, true);
});
