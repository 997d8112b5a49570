import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type Entry, formatEntry, parseEntry } from "../../lib/ledger/entry.ts";
import { creditsOf } from "../../lib/ledger/settle.ts";
import type { Outcome, Submission } from "../../lib/ledger/submission.ts";
import type { Amount } from "../../lib/protocol/money.ts";
import { isBatch } from "../../lib/protocol/order.ts";
import { type Party, TREASURY } from "../../lib/protocol/party.ts";
import { NOW_S, type Person, person, serverPair, uuid } from "../support/fixtures.ts";
import {
  batch,
  cancel,
  open,
  order,
  type OrderSubmission,
  World,
} from "../support/settle_world.ts";

/** Few people, few ids and small balances, so that refusals, conflicts and repeats are common. */
const PEOPLE = [person("alice"), person("bob"), person("carol")];
const IDS = Array.from({ length: 12 }, uuid);
const anyone = fc.constantFrom(...PEOPLE);
const anyId = fc.constantFrom(...IDS);
const anyMinor = fc.bigInt(1n, 400n);
const twoPeople = fc.shuffledSubarray(PEOPLE, { minLength: 2, maxLength: 2 }) as fc.Arbitrary<
  [Person, Person]
>;
const anyTiming = fc.constantFrom({}, {}, {}, { exp: NOW_S + 1 }, {
  iat: NOW_S + 61,
  exp: NOW_S + 70,
});

const anySubmission: fc.Arbitrary<Submission> = fc.oneof(
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
    }),
    after_s: fc.constantFrom(0, 0, 1, 400),
  }),
  { maxLength: 12 },
);
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
  return outcome.state === "refused"
    ? `refused ${outcome.reason}`
    : `${outcome.state} ${outcome.index}`;
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
      fc.property(anyCommits, anyOpeningBalance, (commits, openingBalance) => {
        const world = new World({ openingBalance });
        const submitted: Submission[] = [];
        const ended = new Map<Submission, string>();
        const batches = new Map<string, OrderSubmission>();
        for (const { submissions, after_s } of commits) {
          world.time_s += after_s;
          const group = submissions.map((one) =>
            typeof one === "number" ? submitted[one % submitted.length] : one
          )
            .filter((one) => one !== undefined);
          submitted.push(...group);
          for (const one of group) {
            if (one.type !== "order" || !isBatch(one.signed.order.claims)) continue;
            batches.set(one.signed.order.sha256, one);
          }
          const { outcomes, accounts, postings, entries } = world.commit(...group);
          if (outcomes.every((outcome) => outcome.state === "refused")) {
            assert.deepEqual([entries, accounts, postings], [[], [], []]);
          }
          for (const [at, submission] of group.entries()) {
            const outcome = lasting(outcomes[at]!);
            seen.add(outcome.replace(/ \d+$/, ""));
            const before = ended.get(submission);
            if (before === undefined || before.startsWith("refused")) {
              // A refusal may turn into something else, but for one that an ended id gives.
              if (before === "refused cancelled") assert.equal(outcome, before);
              ended.set(submission, outcome);
            } else assert.equal(outcome, before, "a second answer differs from the first");
          }
          for (const { name, balance } of accounts) {
            assert.ok(name === TREASURY ? balance <= 0n : balance >= 0n, `${name} has ${balance}`);
            const last = postings.findLast(({ account }) => account === name);
            assert.equal(last?.balance ?? 0n, balance);
          }
          const places = postings.map(({ account, index }) => `${account} ${index}`);
          assert.equal(new Set(places).size, places.length, "two postings of one account");
          const balances = replay(world, batches);
          const total = [...balances.values()].reduce((sum, balance) => sum + balance, 0n);
          assert.equal(total, 0n);
          for (const [name, balance] of balances) {
            assert.equal(world.balance(name) ?? 0n, balance, name);
          }
        }
        const ends = endsOf(world.entries);
        assert.equal(new Set(ends).size, ends.length, "an id has ended twice");
      }),
      { numRuns: 400 },
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
      "refused unknown_payee",
      "refused wrong_key",
    ];
    for (const outcome of expected) assert.ok(seen.has(outcome), outcome);
  },
);
