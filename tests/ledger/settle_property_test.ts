import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  type Entry,
  formatEntry,
  parseEntry,
  type Party,
  TREASURY,
} from "../../lib/ledger/entry.ts";
import type { Outcome, Submission } from "../../lib/ledger/submission.ts";
import type { Amount } from "../../lib/protocol/money.ts";
import { NOW_S, type Person, person, uuid } from "../support/fixtures.ts";
import { batch, cancel, open, order, World } from "../support/settle_world.ts";

const alice = person("alice");
const bob = person("bob");
const carol = person("carol");

/** What the entries alone say that everyone has. */
function replay(entries: readonly Entry[]): Map<Party, bigint> {
  const balances = new Map<Party, bigint>();
  for (const [index, entry] of entries.entries()) {
    assert.equal(entry.seq, index + 1);
    assert.deepEqual(parseEntry(formatEntry(entry)), entry);
    if (entry.type === "account.open") balances.set(entry.account, 0n);
    else {
      balances.set(entry.payer, (balances.get(entry.payer) ?? 0n) - entry.amount);
      balances.set(entry.payee, balances.get(entry.payee)! + entry.amount);
    }
  }
  return balances;
}

/** Few people, few ids and small balances, so that refusals, conflicts and repeats are common. */
const PEOPLE = [alice, bob, carol, person("dave")];
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
  fc.tuple(anyone, fc.bigInt(0n, 500n), anyId).map(([by, minor, id]) => open(by, minor, {}, id)),
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
  fc.tuple(twoPeople, anyMinor, anyMinor, anyId).map(([[payer, payee], first, second, id]) => {
    const third = PEOPLE.find((other) => other !== payer && other !== payee)!;
    return batch(payer, [[payee, first], [third, second], [payee, 1n]], { id });
  }),
);

/** A submission, or the position of an earlier one that is submitted again. */
const anyBlocks = fc.array(
  fc.record({
    submissions: fc.array(fc.oneof({ weight: 3, arbitrary: anySubmission }, fc.nat(60)), {
      maxLength: 8,
    }),
    after_s: fc.constantFrom(0, 0, 1, 400),
  }),
  { maxLength: 12 },
);

function comparable(outcome: Outcome): string {
  if (outcome.state === "rejected") return `rejected ${outcome.reason}`;
  if (outcome.state === "opened") return "opened";
  return outcome.state === "void"
    ? `void ${outcome.reason}`
    : `settled ${JSON.stringify(outcome.entries)}`;
}

test(
  "whatever is submitted: no money is made or lost, nobody owes, an id ends once, entries tell all",
  { timeout: 60_000 },
  () => {
    const seen = new Set<string>();
    fc.assert(
      fc.property(anyBlocks, (blocks) => {
        const world = new World();
        const submitted: Submission[] = [];
        const ended = new Map<Submission, string>();
        for (const { submissions, after_s } of blocks) {
          world.time_s += after_s;
          const block = submissions.map((one) =>
            typeof one === "number" ? submitted[one % submitted.length] : one
          )
            .filter((one) => one !== undefined);
          submitted.push(...block);
          const { outcomes, accounts, postings } = world.block(...block);
          for (const [index, submission] of block.entries()) {
            const outcome = comparable(outcomes[index]!);
            seen.add(outcome.replace(/ \{.*/, ""));
            const before = ended.get(submission);
            if (before === undefined || before.startsWith("rejected")) {
              ended.set(submission, outcome);
            } else assert.equal(outcome, before, "a second answer differs from the first");
          }
          for (const { name, balance } of accounts) {
            assert.ok(name === TREASURY ? balance <= 0n : balance >= 0n, `${name} has ${balance}`);
            const last = postings.findLast(({ account }) => account === name);
            assert.equal(last?.balance ?? 0n, balance);
          }
          const balances = replay(world.entries);
          const total = [...balances.values()].reduce((sum, balance) => sum + balance, 0n);
          assert.equal(total, 0n);
          for (const [name, balance] of balances) {
            assert.equal(world.balance(name) ?? 0n, balance, name);
          }
        }
        const transfers = world.entries.filter((entry) => entry.type === "transfer");
        const places = transfers.map(({ payer, id, index }) => `${payer} ${id} ${index}`);
        assert.equal(new Set(places).size, places.length, "a payment is in the ledger twice");
      }),
      { numRuns: 400 },
    );
    // The run is worth something only if it came across these.
    for (
      const outcome of [
        "settled",
        "opened",
        "void insufficient_funds",
        "void cancelled",
        "void order_expired",
      ]
    ) {
      assert.ok(seen.has(outcome), outcome);
    }
    for (
      const outcome of ["rejected order_conflict", "void unknown_payee", "void order_from_future"]
    ) {
      assert.ok(seen.has(outcome), outcome);
    }
  },
);
