import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import type { Entry, Transfer } from "../../lib/ledger/entry.ts";
import type { Ledger } from "../../lib/ledger/ledger.ts";
import {
  type Outcome,
  type PaymentRequest,
  REQUESTS_MAX,
  REQUESTS_TO_PAYER_MAX,
} from "../../lib/ledger/submission.ts";
import { UNIT_DEFAULT } from "../../lib/protocol/money.ts";
import { auditFolder } from "../support/audited_ledger.ts";
import {
  amount,
  databasePath,
  NOW_S,
  openAccounts,
  orderOf,
  person,
  signedOrder,
  temporaryLedger,
  uuid,
} from "../support/fixtures.ts";
import { appendForged, orderRow } from "../support/forged_entries.ts";
import {
  assertRefused,
  closeRequest,
  order,
  request,
  World,
  worldOf,
} from "../support/settle_world.ts";
import { tamper } from "../support/tamper.ts";

const alice = person("alice");
const bob = person("bob");
const carol = person("carol");

/** Bob asks alice for 12.50. */
function asked(world: World = worldOf(alice, bob, carol)) {
  const asks = request(bob, alice);
  assert.equal(world.one(asks).state, "request");
  const paying = { request: asks.request.id };
  return { world, asks, paying };
}

function stateOf(outcome: Outcome): string {
  return outcome.state === "request" ? outcome.request.state : outcome.state;
}

test("a request is stored, makes no entry, and is paid by the order that names it", () => {
  const { world, asks, paying } = asked();
  const entries = world.entries.length;
  const [stored] = world.requests.values();
  const { life_s: _, ...content } = asks.request;
  const times = { created_s: NOW_S, expires_s: NOW_S + 600 };
  assert.deepEqual(stored, { ...content, ...times, state: "pending", index: 0 });
  assert.deepEqual(world.one(order(alice, bob, paying)), {
    state: "settled",
    index: entries,
    again: false,
  });
  assert.deepEqual([...world.requests.values()], [{ ...stored, state: "paid", index: entries }]);
});

test("a request is paid once, across commits and within one", () => {
  const { world, paying } = asked();
  const [first, second] = [order(alice, bob, paying), order(alice, bob, paying)];
  assert.deepEqual(world.commit(first, second).outcomes.map((outcome) => outcome.state), [
    "settled",
    "refused",
  ]);
  assertRefused(world, second, "request_paid");
  assert.deepEqual(world.one(first), { state: "settled", index: 6, again: true });
});

test("anyone may pay a request to anyone, and only one does", () => {
  const world = worldOf(alice, bob, carol);
  const asks = request(bob, null);
  world.one(asks);
  const paying = { request: asks.request.id };
  const outcomes = world.commit(order(alice, bob, paying), order(carol, bob, paying)).outcomes;
  assert.deepEqual(outcomes[1], { state: "refused", reason: "request_paid" });
  assert.equal(world.balance(carol.name), 1_000_000n);
});

test("an order must match payer, payee and amount of its request", () => {
  const { world, paying } = asked();
  assertRefused(world, order(carol, bob, paying), "request_unknown");
  assertRefused(world, order(alice, carol, paying), "request_unknown");
  assertRefused(world, order(alice, bob, { request: uuid() }), "request_unknown");
  const other = { ...paying, amount: amount("12.51") };
  assertRefused(world, order(alice, bob, other), "request_differs");
});

test("the payer's own side is judged before the request", () => {
  const { world, paying } = asked();
  const dear = { request: paying.request, amount: amount("99999.00") };
  assertRefused(world, order(alice, bob, dear), "insufficient_funds");
});

test("a request ends at its expiry, to the second", () => {
  const { world, paying } = asked();
  world.time_s = NOW_S + 600;
  const late = { ...paying, iat: world.time_s, exp: world.time_s + 60 };
  assertRefused(world, order(alice, bob, late), "request_expired");
  world.time_s--;
  assert.equal(world.one(order(alice, bob, late)).state, "settled");
});

test("its payer declines it, its payee withdraws it, and it ends once", () => {
  for (const [closer, state] of [[alice, "declined"], [bob, "withdrawn"]] as const) {
    const { world, asks, paying } = asked();
    assertRefused(world, closeRequest(carol, asks), "request_unknown");
    assert.equal(stateOf(world.one(closeRequest(closer, asks))), state);
    assert.equal(stateOf(world.one(closeRequest(closer, asks))), state, "again");
    assertRefused(world, closeRequest(closer === alice ? bob : alice, asks), `request_${state}`);
    assertRefused(world, order(alice, bob, paying), `request_${state}`);
  }
});

test("a paid request is neither declined nor withdrawn", () => {
  const { world, asks, paying } = asked();
  world.one(order(alice, bob, paying));
  for (const closer of [alice, bob]) {
    assertRefused(world, closeRequest(closer, asks), "request_paid");
  }
});

test("payment, decline and withdrawal in one commit: the first one counts", () => {
  const ways = ["pay", "decline", "withdraw"] as const;
  for (const first of ways) {
    for (const second of ways.filter((way) => way !== first)) {
      const { world, asks, paying } = asked();
      const make = {
        pay: () => order(alice, bob, paying),
        decline: () => closeRequest(alice, asks),
        withdraw: () => closeRequest(bob, asks),
      };
      const { outcomes } = world.commit(make[first](), make[second]());
      assert.notEqual(outcomes[0]!.state, "refused");
      const ended = { pay: "paid", decline: "declined", withdraw: "withdrawn" }[first];
      const refusal = { state: "refused", reason: `request_${ended}` };
      assert.deepEqual(outcomes[1], refusal, `${first}, ${second}`);
    }
  }
});

test("the same request again is the same; another one under its id is a conflict", () => {
  const { world, asks } = asked();
  world.time_s += 100;
  const [stored] = world.requests.values();
  assert.deepEqual(world.one(asks), { state: "request", request: stored });
  const { id } = asks.request;
  assertRefused(world, request(bob, alice, { id, amount: amount("1.00") }), "order_conflict");
  assertRefused(world, request(bob, carol, { id }), "order_conflict");
  assertRefused(world, request(bob, null, { id }), "order_conflict");
  assert.equal(
    world.one(request(carol, alice, { id })).state,
    "request",
    "an id is its payee's own",
  );
});

test("nobody asks themselves, or an account that does not exist", () => {
  const world = worldOf(alice, bob);
  assertRefused(world, request(bob, bob), "payer_is_payee");
  assertRefused(world, request(bob, carol), "unknown_account");
});

test("20 requests to one account and 100 in all are pending at once", () => {
  const others = Array.from({ length: 6 }, (_, at) => person(`payer${at}`));
  const world = worldOf(bob, ...others);
  const first = request(bob, others[0]!);
  const more = Array.from({ length: REQUESTS_TO_PAYER_MAX - 1 }, () => request(bob, others[0]!));
  world.commit(first, ...more);
  assertRefused(world, request(bob, others[0]!), "request_limit");
  for (const other of others.slice(1, 5)) {
    world.commit(...more.map(() => request(bob, other)), request(bob, other));
  }
  assert.equal(world.requests.size, REQUESTS_MAX);
  assertRefused(world, request(bob, others[5]!), "request_limit");
  assertRefused(world, request(bob, null), "request_limit");
  const { outcomes } = world.commit(
    request(bob, others[0]!),
    closeRequest(bob, first),
    request(bob, others[0]!),
    request(bob, others[0]!),
  );
  assert.deepEqual(outcomes.map(stateOf), ["refused", "withdrawn", "pending", "refused"]);
  world.time_s += 600;
  assert.equal(world.one(request(bob, others[0]!)).state, "request", "expired ones do not count");
});

async function requestLedger() {
  const opened = await temporaryLedger();
  await openAccounts(opened.ledger, alice, bob, carol);
  const asks = request(bob, alice);
  await opened.ledger.submit(asks);
  const pay = async (ledger: Ledger) => {
    const signed = await signedOrder(alice, bob, { request: asks.request.id });
    return await ledger.submit(orderOf(signed));
  };
  return { ...opened, asks, pay };
}

test("a ledger stores requests, lists them for both sides, and passes its audit", async () => {
  const { ledger, folder, asks, pay, close } = await requestLedger();
  const anyones = request(bob, null, { memo: JSON.stringify("for the club") });
  await ledger.submit(anyones);
  const outcomes = await Promise.all([pay(ledger), pay(ledger), pay(ledger)]);
  assert.deepEqual(outcomes.map(({ state }) => state).sort(), ["refused", "refused", "settled"]);
  const paid = await ledger.request(bob.name, asks.request.id);
  assert.deepEqual([paid?.state, paid?.index], ["paid", 7]);
  assert.equal((await ledger.requestsOf(bob.name, 10)).length, 2);
  assert.deepEqual(await ledger.requestsOf(alice.name, 10), [paid]);
  assert.deepEqual(await ledger.requestsOf(carol.name, 10), []);
  await close();
  await auditFolder(folder);
});

test("two processes on one database: a request is paid once", async () => {
  const { ledger, folder, asks, pay, close } = await requestLedger();
  const other = await temporaryLedger(folder);
  const outcomes = await Promise.all([pay(ledger), pay(other.ledger)]);
  assert.deepEqual(outcomes.map(({ state }) => state).sort(), ["refused", "settled"]);
  const late = await other.ledger.submit(closeRequest(bob, asks));
  assert.deepEqual(late, { state: "refused", reason: "request_paid" });
  await other.close();
  await close();
  await auditFolder(folder);
});

test("a commit of requests alone leaves the log as it is", async () => {
  const { ledger, close } = await requestLedger();
  const { checkpoint } = ledger;
  await ledger.submit(request(bob, carol));
  assert.equal(ledger.checkpoint.text, checkpoint.text);
  await close();
});

test("a request that was changed in the database is no request, and stops the ledger", async () => {
  const changes = [
    "amount = 1",
    "payer = 'carol'",
    "state = 'withdrawn'",
    "expires_s = expires_s + 1",
    "memo = '\"x\"'",
  ];
  for (const change of changes) {
    const { folder, pay, close } = await requestLedger();
    await close();
    tamper(folder, `UPDATE requests SET ${change}`);
    const { ledger, close: closeAgain } = await temporaryLedger(folder);
    await assert.rejects(pay(ledger), { code: "store_damaged" }, change);
    await closeAgain();
  }
});

test("a paid request that is set back is paid no second time unseen", async () => {
  const { ledger, folder, pay, close } = await requestLedger();
  const pending = new DatabaseSync(databasePath(folder)).prepare("SELECT * FROM requests").get()!;
  await pay(ledger);
  await close();
  // An old genuine row verifies; only audit sees it.
  tamper(
    folder,
    `UPDATE requests SET state = 'pending', entry_index = 0, seal = '${pending.seal}'`,
  );
  const again = await temporaryLedger(folder);
  await pay(again.ledger);
  await again.close();
  await assert.rejects(auditFolder(folder), {
    code: "audit_failed",
    message: /entry 7: request .* is paid by another entry/,
  });
});

/** An operator's ledger in which alice pays bob's request in a way that the rules forbid. */
async function forgedPayment(
  changed: Partial<PaymentRequest> | null,
  orderChanged: { readonly amount?: ReturnType<typeof amount> } = {},
): Promise<string> {
  const { ledger, folder, asks, close } = await requestLedger();
  const pending = (await ledger.request(bob.name, asks.request.id))!;
  await close();
  const signed = await signedOrder(alice, bob, { request: asks.request.id, ...orderChanged });
  const { order: { claims, sha256 }, delegation } = signed;
  const entry: Transfer & Partial<Entry> = {
    type: "transfer",
    id: claims.id,
    payer: alice.name,
    payee: bob.name,
    amount: claims.amount,
    unit: UNIT_DEFAULT,
    payerKey: alice.pair.publicKey.thumbprint,
    payeeKey: bob.pair.publicKey.thumbprint,
    orderSha256: sha256,
    delegationSha256: delegation.sha256,
  };
  const paid: PaymentRequest = { ...pending, state: "paid", index: 7 };
  await appendForged(folder, {
    entries: [entry],
    payments: [orderRow(signed)],
    requests: changed === null ? [] : [{ ...paid, ...changed }],
  });
  return folder;
}

test("audit accepts what the rules would have made", async () => {
  await auditFolder(await forgedPayment({}));
});

const FORGED: readonly [string, Partial<PaymentRequest> | null, RegExp][] = [
  ["is still pending", null, /paid by another entry/],
  ["was declined", { state: "declined" }, /paid by another entry/],
  ["is paid by another entry", { index: 6 }, /paid by another entry/],
  ["asks for another amount", { amount: amount("12.51") }, /asks for something else/],
  ["is to someone else", { payer: carol.name }, /asks for something else/],
  ["had expired", { expires_s: NOW_S }, /had expired/],
  ["is another one's", { payee: carol.name }, /is missing/],
];
for (const [what, changed, sentence] of FORGED) {
  // The store keeps the amount, the parties and the times of a request that it has.
  test(`audit finds a paid request that ${what}`, async () => {
    const folder = await forgedPayment(changed);
    if (changed !== null && changed.state === undefined && changed.index === undefined) {
      await replaceRequest(folder, changed);
    }
    await assert.rejects(auditFolder(folder), { code: "audit_failed", message: sentence });
  });
}

/** Stores the paid request of entry 7 anew with `changed`, under the operator's seal. */
async function replaceRequest(folder: string, changed: Partial<PaymentRequest>): Promise<void> {
  const { store, close } = await temporaryLedger(folder, { create: undefined });
  const [request] = await store.requestsOf(bob.name, 1);
  await close();
  tamper(folder, "DELETE FROM requests");
  const { seal: _, ...row } = request!;
  await appendForged(folder, {
    entries: [],
    texts: [],
    requests: [{ ...row, state: "paid", index: 7, ...changed }],
  });
}

test("audit finds a paid request that no entry pays", async () => {
  const { ledger, folder, asks, close } = await requestLedger();
  const pending = (await ledger.request(bob.name, asks.request.id))!;
  await close();
  await appendForged(folder, {
    entries: [],
    requests: [{ ...pending, state: "paid", index: 5 }],
  });
  await assert.rejects(auditFolder(folder), {
    code: "audit_failed",
    message: /paid requests that no entry pays/,
  });
});
