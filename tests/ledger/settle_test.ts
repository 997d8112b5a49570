import assert from "node:assert/strict";
import { test } from "node:test";
import type { Delegation } from "../../lib/protocol/delegation.ts";
import { TREASURY } from "../../lib/ledger/entry.ts";
import type { Outcome, Submission } from "../../lib/ledger/submission.ts";
import { type Amount, AMOUNT_MAX } from "../../lib/protocol/money.ts";
import { sha256Text } from "../../lib/protocol/token.ts";
import { amount, NOW_S, person, uuid } from "../support/fixtures.ts";
import {
  batch,
  cancel,
  grant,
  open,
  order,
  type OrderSubmission,
  World,
  worldOf,
} from "../support/settle_world.ts";

const alice = person("alice");
const bob = person("bob");
const carol = person("carol");
const DAY_S = 86_400;

/** Settles `submission` and checks that nothing at all is recorded of it. */
function assertRejected(world: World, submission: Submission, reason: string): void {
  const { outcomes, ...recorded } = world.block(submission);
  assert.deepEqual(outcomes, [{ state: "rejected", reason }]);
  assert.deepEqual(recorded, { entries: [], newOutcomes: [], accounts: [], postings: [] });
}

/** Settles `submission` and checks that it is void, moves nothing, and is void for ever, money or not. */
function assertVoid(world: World, submission: OrderSubmission, reason: string): void {
  const { outcomes, newOutcomes, ...moved } = world.block(submission);
  assert.deepEqual(outcomes, [{ state: "void", reason, again: false }]);
  assert.deepEqual(moved, { entries: [], accounts: [], postings: [] });
  assert.equal(newOutcomes.length, 1);
  assert.deepEqual(world.one(submission), { state: "void", reason, again: true });
}

test("a payment moves money from payer to payee and names order, delegation and both keys", () => {
  const world = worldOf(alice, bob);
  const submission = order(alice, bob);
  const { outcomes, entries, postings } = world.block(submission);
  assert.deepEqual(outcomes, [{ state: "settled", entries: { seq: 5, count: 1 }, again: false }]);
  assert.deepEqual(entries, [{
    type: "transfer",
    seq: 5,
    id: submission.signed.order.claims.id,
    index: null,
    payer: alice.name,
    payee: bob.name,
    amount: 1_250n,
    payerKey: alice.pair.publicKey.thumbprint,
    payeeKey: bob.pair.publicKey.thumbprint,
    orderSha256: submission.signed.order.sha256,
    delegationSha256: submission.signed.delegation.sha256,
  }]);
  assert.deepEqual(postings, [
    { account: alice.name, seq: 5, balance: 998_750n },
    { account: bob.name, seq: 5, balance: 1_001_250n },
  ]);
  assert.equal(world.balance(TREASURY), -2_000_000n);
});

test("the same order twice settles once, in one block or in two, and again after it has expired", () => {
  const world = worldOf(alice, bob);
  const submission = order(alice, bob);
  const together = world.block(submission, submission);
  assert.deepEqual(
    together.outcomes.map((outcome) => outcome.state === "settled" && outcome.again),
    [false, true],
  );
  assert.equal(together.entries.length, 1);
  const [{ entries: first }] = together.outcomes as [Outcome & { state: "settled" }];
  for (const time_s of [NOW_S, NOW_S + 300, NOW_S + 30 * DAY_S]) {
    world.time_s = time_s;
    assert.deepEqual(world.one(submission), { state: "settled", entries: first, again: true });
  }
  assert.equal(world.balance(alice.name), 998_750n);
});

test("another order under a used id is order_conflict and records nothing", () => {
  const world = worldOf(alice, bob, carol);
  const id = uuid();
  world.one(order(alice, bob, { id }));
  assertRejected(world, order(alice, bob, { id, amount: amount("12.51") }), "order_conflict");
  assertRejected(world, order(alice, carol, { id }), "order_conflict");
  assertRejected(world, batch(alice, [[bob, 1n]], { id }), "order_conflict");

  const void_ = uuid();
  assertVoid(
    world,
    order(alice, bob, { id: void_, amount: amount("99999.00") }),
    "insufficient_funds",
  );
  assertRejected(world, order(alice, bob, { id: void_, amount: amount("1.00") }), "order_conflict");
});

test("two orders under one id in one block: the first wins", () => {
  const world = worldOf(alice, bob);
  const id = uuid();
  const { outcomes } = world.block(
    order(alice, bob, { id }),
    order(alice, bob, { id, amount: amount("1.00") }),
  );
  assert.equal(outcomes[0]!.state, "settled");
  assert.deepEqual(outcomes[1], { state: "rejected", reason: "order_conflict" });
});

test("an id is its payer's own: another payer's payment under it is independent", () => {
  const world = worldOf(alice, bob);
  const id = uuid();
  world.one(order(alice, bob, { id }));
  world.one(cancel(carol, id));
  assert.equal(world.one(order(bob, alice, { id })).state, "settled");
});

const REJECTED: [string, (world: World) => Submission, string][] = [
  ["of someone without an account", () => order(carol, bob), "unknown_account"],
  [
    "under a delegation by another key",
    () => order(alice, bob, {}, { key: carol.pair.publicKey }),
    "wrong_key",
  ],
  ["for another server", () => order(alice, bob, { server: sha256Text("other") }), "wrong_server"],
  [
    "under a delegation for another certificate",
    () => order(alice, bob, {}, { cert: sha256Text("other") }),
    "wrong_certificate",
  ],
  [
    "under a delegation from the future",
    () => order(alice, bob, {}, { iat: NOW_S + 61 }),
    "delegation_not_yet_valid",
  ],
];

for (const [what, make, reason] of REJECTED) {
  test(`an order ${what} is ${reason} and records nothing`, () => {
    const world = worldOf(alice, bob);
    assertRejected(world, make(world), reason);
  });
}

const VOID: [string, () => OrderSubmission, string][] = [
  ["that has expired", () => order(alice, bob, { iat: NOW_S - 300, exp: NOW_S }), "order_expired"],
  [
    "from the future",
    () => order(alice, bob, { iat: NOW_S + 61, exp: NOW_S + 361 }),
    "order_from_future",
  ],
  ["to an unknown payee", () => order(alice, carol), "unknown_payee"],
  [
    "to a payee under another key",
    () => order(alice, bob, { payeeKey: carol.pair.publicKey.thumbprint }),
    "payee_key_changed",
  ],
  [
    "of more than the balance",
    () => order(alice, bob, { amount: amount("10000.01") }),
    "insufficient_funds",
  ],
  [
    "of a batch whose total is more than the balance, though each item is not",
    () => batch(alice, [[bob, 600_000n], [bob, 600_000n]]),
    "insufficient_funds",
  ],
  [
    "of a batch with one unknown payee",
    () => batch(alice, [[bob, 1n], [carol, 1n]]),
    "unknown_payee",
  ],
];

for (const [what, make, reason] of VOID) {
  test(`an order ${what} is void as ${reason}, and stays so when the reason has gone`, () => {
    const world = worldOf(alice, bob);
    const submission = make();
    assertVoid(world, submission, reason);
    world.block(grant(alice, "50000.00"), open(carol));
    world.time_s = NOW_S + 120;
    assert.deepEqual(world.one(submission), { state: "void", reason, again: true });
    assert.equal(world.balance(bob.name), 1_000_000n);
  });
}

test("an order that has expired with its delegation is void, not merely rejected", () => {
  const world = worldOf(alice, bob);
  const late = order(alice, bob, { exp: NOW_S + 10 }, { exp: NOW_S + 10 });
  world.time_s = NOW_S + 10;
  assertVoid(world, late, "order_expired");
});

test("expiry is judged against the block's time, to the second", () => {
  const world = worldOf(alice, bob);
  world.time_s = NOW_S + 299;
  assert.equal(world.one(order(alice, bob)).state, "settled");
  world.time_s = NOW_S + 300;
  assertVoid(world, order(alice, bob), "order_expired");
  assert.equal(
    world.one(order(alice, bob, { iat: NOW_S + 360, exp: NOW_S + 600 })).state,
    "settled",
  );
});

test("money that came in earlier in a block can be spent later in it, and not before", () => {
  const world = worldOf(alice);
  const fund = order(alice, bob, { amount: amount("100.00") });
  const spend = order(bob, alice, { amount: amount("60.00") });
  const more = order(bob, alice, { amount: amount("50.00") });
  const early = order(bob, alice, { amount: amount("1.00") });
  const { outcomes } = world.block(open(bob, 0n), early, fund, spend, more);
  assert.deepEqual(
    outcomes.map((outcome) => "reason" in outcome ? outcome.reason : outcome.state),
    [
      "opened",
      "insufficient_funds",
      "settled",
      "settled",
      "insufficient_funds",
    ],
  );
  assert.equal(world.balance(bob.name), 4_000n);
});

test("a batch pays each of its payees, one entry each, and one payee twice if it says so", () => {
  const world = worldOf(alice, bob, carol);
  const { outcomes, entries } = world.block(
    batch(alice, [[bob, 100n], [carol, 200n], [bob, 300n]]),
  );
  assert.deepEqual(outcomes, [{ state: "settled", entries: { seq: 7, count: 3 }, again: false }]);
  assert.deepEqual(entries.map((entry) => entry.type === "transfer" && entry.index), [0, 1, 2]);
  assert.equal(world.balance(bob.name), 1_000_400n);
  assert.equal(world.balance(carol.name), 1_000_200n);
  assert.equal(world.balance(alice.name), 999_400n);
});

test("a cancelled id is void for ever, whatever order comes later", () => {
  const world = worldOf(alice, bob);
  const submission = order(alice, bob);
  const { id } = submission.signed.order.claims;
  assert.deepEqual(world.one(cancel(alice, id)), {
    state: "void",
    reason: "cancelled",
    again: false,
  });
  assert.deepEqual(world.one(submission), { state: "void", reason: "cancelled", again: true });
  assert.deepEqual(world.one(order(alice, bob, { id })), {
    state: "void",
    reason: "cancelled",
    again: true,
  });
  assert.deepEqual(world.one(cancel(alice, id)), {
    state: "void",
    reason: "cancelled",
    again: true,
  });
  assert.equal(world.balance(bob.name), 1_000_000n);
});

test("cancelling what is settled answers with the settlement; of two in one block the first wins", () => {
  const world = worldOf(alice, bob);
  const settled = order(alice, bob);
  const { entries } = world.one(settled) as Outcome & { state: "settled" };
  const { id } = settled.signed.order.claims;
  assert.deepEqual(world.one(cancel(alice, id)), { state: "settled", entries, again: true });

  const racing = order(alice, bob);
  const both = world.block(cancel(alice, racing.signed.order.claims.id), racing);
  assert.deepEqual(both.outcomes.map(({ state }) => state), ["void", "void"]);
  const won = order(alice, bob);
  const other = world.block(won, cancel(alice, won.signed.order.claims.id));
  assert.deepEqual(other.outcomes.map(({ state }) => state), ["settled", "settled"]);
});

test("a name opens once: again under its key, name_taken under another", () => {
  const world = worldOf(alice);
  assert.deepEqual(world.one(open(alice)), { state: "opened", again: true });
  assertRejected(world, open(alice, 1n, { key: bob.pair.publicKey }), "name_taken");
  const { outcomes } = world.block(
    open(bob),
    open(bob, 1n, { key: carol.pair.publicKey }),
    open(bob),
  );
  assert.deepEqual(outcomes, [
    { state: "opened", again: false },
    { state: "rejected", reason: "name_taken" },
    { state: "opened", again: true },
  ]);
  assert.equal(world.balance(TREASURY), -2_000_000n);
});

test("an account opens only under a delegation that holds for this server in this block", () => {
  const world = new World();
  const flaws: [Partial<Delegation>, string][] = [
    [{ server: sha256Text("other") }, "wrong_server"],
    [{ cert: sha256Text("other") }, "wrong_certificate"],
    [{ exp: NOW_S }, "delegation_expired"],
    [{ iat: NOW_S + 61 }, "delegation_not_yet_valid"],
  ];
  for (const [changed, reason] of flaws) assertRejected(world, open(alice, 1n, changed), reason);
});

test("an opening under an id that the treasury has used is order_conflict, in one block or in two", () => {
  const id = uuid();
  const world = worldOf(alice);
  world.one(grant(alice, "1.00", id));
  assertRejected(world, open(bob, 1n, {}, id), "order_conflict");
  const other = uuid();
  const { outcomes } = world.block(open(bob, 1n, {}, other), open(carol, 1n, {}, other));
  assert.deepEqual(outcomes[1], { state: "rejected", reason: "order_conflict" });
});

test("an account may open without money, and then no transfer is made", () => {
  const world = new World();
  const { entries, newOutcomes } = world.block(open(alice, 0n));
  assert.deepEqual(entries.map((entry) => entry.type), ["account.open"]);
  assert.deepEqual(newOutcomes, []);
  assert.equal(world.balance(alice.name), 0n);
});

test("a grant issues once under its id", () => {
  const world = worldOf(alice);
  const id = uuid();
  const first = world.one(grant(alice, "5.00", id)) as Outcome & { state: "settled" };
  assert.equal(world.balance(alice.name), 1_000_500n);
  assert.deepEqual(world.one(grant(alice, "5.00", id)), { ...first, again: true });
  assertRejected(world, grant(alice, "6.00", id), "order_conflict");
  assertRejected(world, grant(bob, "5.00"), "unknown_account");
  assert.equal(world.balance(alice.name), 1_000_500n);
});

test("an account holds 2^53 - 1 minor units and not one more", () => {
  const world = new World();
  world.block(open(alice, AMOUNT_MAX - 1n), open(bob, 0n));
  assert.deepEqual(world.one(open(carol, 2n)), { state: "rejected", reason: "treasury_limit" });
  assert.equal(world.one(grant(alice, "0.01")).state, "settled");
  assert.equal(world.balance(alice.name), AMOUNT_MAX);
  assert.equal(world.balance(TREASURY), -AMOUNT_MAX);
  assert.deepEqual(world.one(grant(bob, "0.01")), {
    state: "void",
    reason: "balance_limit",
    again: false,
  });
  assert.equal(world.one(order(alice, bob, { amount: AMOUNT_MAX as Amount })).state, "settled");
  assert.equal(world.balance(bob.name), AMOUNT_MAX);
});

test("a credit past 2^53 - 1 is balance_limit, in one order and in a batch that reaches it together", () => {
  // No treasury could issue this much; the rule must hold by itself.
  const world = worldOf(alice, bob);
  world.accounts.set(bob.name, { ...world.accounts.get(bob.name)!, balance: AMOUNT_MAX - 150n });
  assertVoid(world, order(alice, bob, { amount: amount("1.51") }), "balance_limit");
  assertVoid(world, batch(alice, [[bob, 100n], [bob, 51n]]), "balance_limit");
  assert.equal(world.one(batch(alice, [[bob, 100n], [bob, 50n]])).state, "settled");
  assert.equal(world.balance(bob.name), AMOUNT_MAX);
});

test("a block that would leave an account in debt is refused whole, whatever rule was wrong", () => {
  const world = worldOf(alice, bob);
  const sound = batch(alice, [[bob, 1n]]);
  const forged = { ...sound, items: [{ ...sound.items[0]!, amount: -2_000_000n as Amount }] };
  assert.throws(() => world.one(forged), /the balance of bob would be/);
});
