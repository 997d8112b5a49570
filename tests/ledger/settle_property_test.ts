import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type Entry, formatEntry, parseEntry, type Transfer } from "../../lib/ledger/entry.ts";
import { creditsOf } from "../../lib/ledger/settle.ts";
import { type Outcome, refundKey, type Submission } from "../../lib/ledger/submission.ts";
import type { Amount } from "../../lib/protocol/money.ts";
import { isBatch, type Order } from "../../lib/protocol/order.ts";
import { type Party, TREASURY } from "../../lib/protocol/party.ts";
import { NOW_S, type Person, person, rsaPair, serverPair, uuid } from "../support/fixtures.ts";
import {
  batch,
  cancel,
  closeRequest,
  open,
  order,
  type OrderSubmission,
  request,
  rotate,
  World,
} from "../support/settle_world.ts";

/** Few people, few ids and small balances, so that refusals, conflicts and repeats are common. */
const PEOPLE = [person("alice"), person("bob"), person("carol")];
const IDS = Array.from({ length: 12 }, uuid);
const anyone = fc.constantFrom(...PEOPLE);
const anyId = fc.oneof(fc.constantFrom(...IDS), fc.constantFrom(...IDS.slice(0, 3)));
const anyMinor = fc.bigInt(1n, 400n);
const twoPeople = fc.shuffledSubarray(PEOPLE, { minLength: 2, maxLength: 2 }) as fc.Arbitrary<
  [Person, Person]
>;
const anyTiming = fc.constantFrom({}, {}, {}, { exp: NOW_S + 1 }, {
  iat: NOW_S + 61,
  exp: NOW_S + 70,
});

/** The same people with the key that a rotation gives them. */
const REKEYED = new Map(
  PEOPLE.map((one) => [one, { ...one, pair: rsaPair(`${one.name}'s next key`) }]),
);
const anyRequestId = fc.constantFrom(uuid(), uuid());
/** Few amounts, so that an order and a request often agree. */
const anyAmount = fc.constantFrom(40n, 90n) as fc.Arbitrary<Amount>;
const anyItem = fc.constantFrom(null, null, 0, 2);

/** What depends on what was committed before. */
type Planned = Submission | ((world: World) => Submission);

/** `one` with the key that the account has now. */
function currently(world: World, one: Person): Person {
  const rekeyed = REKEYED.get(one)!;
  return world.accounts.get(one.name)?.key === rekeyed.pair.publicKey.thumbprint ? rekeyed : one;
}

/** An order that is made now, by the keys of now. */
function orderNow(payer: Person, payee: Person, changed: Partial<Order>) {
  return (world: World): Submission => {
    const times = { iat: world.time_s, exp: world.time_s + 300 };
    return order(currently(world, payer), currently(world, payee), { ...times, ...changed });
  };
}

const anyPurpose: fc.Arbitrary<Planned> = fc.oneof(
  fc.tuple(twoPeople, fc.boolean(), anyRequestId, anyAmount).map(
    ([[payee, payer], isToAnyone, id, amount]) =>
      request(payee, isToAnyone ? null : payer, { id, amount }),
  ),
  fc.tuple(twoPeople, anyRequestId).map(([[by, other], id]) =>
    closeRequest(by, request(other, null, { id }))
  ),
  fc.tuple(anyone, anyRequestId).map(([by, id]) => closeRequest(by, request(by, null, { id }))),
  {
    weight: 3,
    arbitrary: fc.tuple(twoPeople, anyRequestId, anyAmount).map(([[payer, payee], id, amount]) =>
      orderNow(payer, payee, { request: id, amount })
    ),
  },
  fc.tuple(twoPeople, anyId, anyId, anyItem, anyAmount).map(
    ([[payer, payee], id, paid, item, amount]) =>
      orderNow(payer, payee, { id, refundOf: { payer: payee.name, id: paid, item }, amount }),
  ),
  // Gives back something that was paid, by a refund or not.
  {
    weight: 2,
    arbitrary: fc.tuple(fc.nat(20), anyAmount, twoPeople).map(
      ([at, amount, others]) => (world: World) => {
        const paid = world.entries.filter((entry) =>
          entry.type === "transfer" && entry.orderSha256
        );
        const { id, payer, payee } = (paid[at % paid.length] ?? {}) as Partial<Transfer>;
        const holders = [payee, payer].map((name) => PEOPLE.find((one) => one.name === name));
        const [from, to] = holders.includes(undefined) ? others : holders as typeof others;
        const refundOf = { payer: to.name, id: id ?? uuid(), item: null };
        return orderNow(from, to, { refundOf, amount })(world);
      },
    ),
  },
  anyone.map((by) => (world: World) => {
    const from = currently(world, by);
    const { pair } = from === by ? REKEYED.get(by)! : by;
    return rotate(from, pair, world.accounts.get(by.name)?.keyed || 1);
  }),
);

const anySubmission: fc.Arbitrary<Planned> = fc.oneof(
  { weight: 9, arbitrary: anyPurpose },
  fc.tuple(anyone, anyId).map(([by, id]) => open(by, {}, id)),
  fc.tuple(anyone, anyMinor, anyId).map(([payee, minor, id]): Submission => ({
    type: "grant",
    id,
    payee: payee.name,
    amount: minor as Amount,
  })),
  fc.tuple(anyone, anyId).map(([payer, id]) => cancel(payer, id)),
  fc.tuple(twoPeople, anyMinor, anyId, anyTiming).map(([[payer, payee], minor, id, timing]) =>
    order(payer, payee, { id, amount: minor as Amount, ...timing })
  ),
  fc.tuple(anyone, anyMinor, anyId).map(([payer, minor, id]) => {
    const payeeKey = serverPair().publicKey.thumbprint;
    return order(payer, payer, { id, payee: TREASURY, payeeKey, amount: minor as Amount });
  }),
  fc.tuple(twoPeople, anyMinor, anyMinor, anyId).map(([[payer, payee], first, second, id]) => {
    const third = PEOPLE.find((other) => other !== payer && other !== payee)!;
    return batch(payer, [[payee, first], [third, second], [payee, 1n]], { id });
  }),
);

/** Commits of submissions; a number is an earlier one that is submitted again. */
const anyCommits = fc.array(
  fc.record({
    submissions: fc.array(fc.oneof({ weight: 3, arbitrary: anySubmission }, fc.nat(60)), {
      maxLength: 8,
      size: "max",
    }),
    after_s: fc.constantFrom(0, 0, 1, 400),
  }),
  { maxLength: 12, size: "max" },
);
/** Whether all three have an account from the start. */
const anyStart = fc.constantFrom(true, true, false);
const anyOpeningBalance = fc.constantFrom(0n, 300n, 500n);

/** What the entries, and the items beside them, say that everyone has. */
function replay(world: World, batches: ReadonlyMap<string, OrderSubmission>): Map<Party, bigint> {
  const balances = new Map<Party, bigint>([[TREASURY, 0n]]);
  const move = (name: Party, change: bigint) => balances.set(name, balances.get(name)! + change);
  for (const [index, entry] of world.entries.entries()) {
    assert.equal(entry.index, index);
    assert.deepEqual(parseEntry(formatEntry(entry)), entry);
    if (entry.type === "account.open") balances.set(entry.account, 0n);
    if (entry.type === "transfer") {
      move(entry.payer, -entry.amount);
      move(entry.payee, entry.amount);
    }
    if (entry.type === "batch") {
      move(entry.payer, -entry.total);
      for (const [payee, amount] of creditsOf(batches.get(entry.orderSha256)!.items)) {
        move(payee, amount);
      }
    }
  }
  return balances;
}

/** An outcome as it must stay, whether it comes the first time or again. */
function lasting(outcome: Outcome): string {
  if (outcome.state === "refused") return `refused ${outcome.reason}`;
  if (outcome.state === "request") return `request ${outcome.request.state}`;
  return `${outcome.state} ${outcome.index}`;
}

/**
 * Whether what the entries pay was paid by the key of that moment, asked for once, and given back
 * in part at most.
 */
function assertPurposes(world: World, orders: ReadonlyMap<string, OrderSubmission>): void {
  const keys = new Map<string, string | null>();
  const paid = new Map<string, { payee: string; amount: bigint; isRefund: boolean }>();
  const requests = new Set<string>();
  const refunded = new Map<string, bigint>();
  for (const entry of world.entries) {
    if (entry.type === "account.open" || entry.type === "account.key") {
      keys.set(entry.account, entry.key);
    }
    if (entry.type !== "transfer" && entry.type !== "batch") continue;
    if (entry.orderSha256 === null) continue;
    assert.equal(entry.payerKey, keys.get(entry.payer));
    const { signed: { order: { claims } }, items } = orders.get(entry.orderSha256)!;
    const common = { payer: claims.payer, id: claims.id };
    if (isBatch(claims)) {
      for (const { index: item, payee, amount } of items) {
        paid.set(refundKey({ ...common, item }), { payee, amount, isRefund: false });
      }
      continue;
    }
    const { payee, amount, request, refundOf } = claims;
    paid.set(refundKey({ ...common, item: null }), { payee, amount, isRefund: refundOf !== null });
    if (request !== null) {
      const key = `${payee} ${request}`;
      assert.ok(!requests.has(key), "a request was paid twice");
      requests.add(key);
      const stored = world.requests.get(key)!;
      assert.deepEqual([stored.state, stored.index], ["paid", entry.index]);
      assert.equal(stored.amount, amount);
      assert.ok(stored.payer === null || stored.payer === claims.payer);
      assert.ok(entry.time < stored.expires_s);
    }
    if (refundOf !== null) {
      const target = paid.get(refundKey(refundOf))!;
      assert.deepEqual([target.payee, refundOf.payer], [claims.payer, payee]);
      assert.equal(target.isRefund, false);
      const total = (refunded.get(refundKey(refundOf)) ?? 0n) + amount;
      assert.ok(total <= target.amount, "more was given back than was paid");
      refunded.set(refundKey(refundOf), total);
    }
  }
  const states = [...world.requests.values()];
  assert.equal(states.filter(({ state }) => state === "paid").length, requests.size);
  assert.deepEqual(world.refunds, refunded);
}

/** Each (payer, id) that the entries end. */
function endsOf(entries: readonly Entry[]): string[] {
  return entries.flatMap((entry) => {
    const ends = entry.type === "transfer" || entry.type === "batch" || entry.type === "cancel";
    return ends ? `${entry.payer} ${entry.id}` : [];
  });
}

test(
  "whatever is submitted: no money is made or lost, nobody owes, an id ends once, refusals record nothing",
  { timeout: 60_000 },
  () => {
    const seen = new Set<string>();
    fc.assert(
      fc.property(anyCommits, anyOpeningBalance, anyStart, (commits, openingBalance, areOpen) => {
        const world = new World({ openingBalance });
        if (areOpen) world.commit(...PEOPLE.map((one) => open(one)));
        const submitted: Submission[] = [];
        const ended = new Map<Submission, string>();
        const orders = new Map<string, OrderSubmission>();
        for (const { submissions, after_s } of commits) {
          world.time_s += after_s;
          const group = submissions.map((one) =>
            typeof one === "number"
              ? submitted[one % submitted.length]
              : typeof one === "function"
              ? one(world)
              : one
          )
            .filter((one) => one !== undefined);
          submitted.push(...group);
          for (const one of group) {
            if (one.type === "order") orders.set(one.signed.order.sha256, one);
          }
          const accountsBefore = new Map(world.accounts);
          const { outcomes, accounts, postings, entries } = world.commit(...group);
          if (outcomes.every((outcome) => outcome.state === "refused")) {
            assert.deepEqual([entries, accounts, postings], [[], [], []]);
          }
          for (const [at, submission] of group.entries()) {
            const outcome = lasting(outcomes[at]!);
            seen.add(outcome.replace(/ \d+$/, ""));
            const before = ended.get(submission);
            // A key that was replaced is answered nothing but that a payment of its own is settled.
            const isReplaced = outcome === "refused wrong_key" && before !== undefined;
            const isPaid = submission.type === "order" && before?.startsWith("settled");
            if (isReplaced && !isPaid) continue;
            if (before === undefined || before.startsWith("refused")) {
              // A refusal may turn into something else, but for one that an ended id gives.
              if (before === "refused cancelled") assert.equal(outcome, before);
              ended.set(submission, outcome);
            } else if (/^(request|rotated|opened)/.test(before)) {
              // A request goes on to its end, and a rotation makes the account another key's.
              ended.set(submission, outcome);
            } else assert.equal(outcome, before, "a second answer differs from the first");
          }
          for (const { name, balance } of accounts) {
            assert.ok(name === TREASURY ? balance <= 0n : balance >= 0n, `${name} has ${balance}`);
            const last = postings.findLast(({ account }) => account === name);
            assert.equal(last?.balance ?? accountsBefore.get(name)?.balance ?? 0n, balance);
          }
          const places = postings.map(({ account, index }) => `${account} ${index}`);
          assert.equal(new Set(places).size, places.length, "two postings of one account");
          const balances = replay(world, orders);
          const total = [...balances.values()].reduce((sum, balance) => sum + balance, 0n);
          assert.equal(total, 0n);
          for (const [name, balance] of balances) {
            assert.equal(world.balance(name) ?? 0n, balance, name);
          }
        }
        assertPurposes(world, orders);
        const ends = endsOf(world.entries);
        assert.equal(new Set(ends).size, ends.length, "an id has ended twice");
      }),
      { numRuns: 3_000 },
    );
    // The run is worth something only if it came across these.
    const expected = [
      "cancelled",
      "opened",
      "settled",
      "refused cancelled",
      "refused insufficient_funds",
      "refused order_conflict",
      "refused order_expired",
      "refused order_from_future",
      "refused unknown_account",
      "refused payee_key_changed",
      "refused refund_of_refund",
      "refused refund_too_much",
      "refused refund_unknown",
      "refused request_declined",
      "refused request_differs",
      "refused request_expired",
      "refused request_paid",
      "refused request_unknown",
      "refused request_withdrawn",
      "refused unknown_payee",
      "request declined",
      "request paid",
      "request pending",
      "request withdrawn",
      "rotated",
      "refused wrong_key",
    ];
    for (const outcome of expected) assert.ok(seen.has(outcome), outcome);
  },
);
