import assert from "node:assert/strict";
import { test } from "node:test";
import { parseAccountName } from "../../lib/keys/rsa.ts";
import type { Settings } from "../../lib/ledger/entry.ts";
import type { Outcome, Submission } from "../../lib/ledger/submission.ts";
import type { Delegation } from "../../lib/protocol/delegation.ts";
import { type Amount, AMOUNT_MAX, UNIT_DEFAULT } from "../../lib/protocol/money.ts";
import { TREASURY } from "../../lib/protocol/party.ts";
import { sha256Text } from "../../lib/protocol/token.ts";
import { amount, NOW_S, orderClaims, person, serverPair, uuid } from "../support/fixtures.ts";
import {
  assertRefused,
  batch,
  cancel,
  grant,
  open,
  openClassic,
  order,
  type OrderSubmission,
  World,
  worldOf,
} from "../support/settle_world.ts";

const alice = person("alice");
const bob = person("bob");
const carol = person("carol");
const mallory = person("mallory");
const DAY_S = 86_400;
const SERVER_KEY = serverPair().publicKey.thumbprint;

function idOfOrder({ signed }: OrderSubmission) {
  return signed.order.claims.id;
}

test("a payment moves money from payer to payee and names order, delegation, unit and both keys", () => {
  const world = worldOf(alice, bob);
  const submission = order(alice, bob);
  const { outcomes, entries, postings } = world.commit(submission);
  assert.deepEqual(outcomes, [{ state: "settled", index: 4, again: false }]);
  assert.deepEqual(entries, [{
    type: "transfer",
    index: 4,
    time: NOW_S,
    salt: entries[0]!.salt,
    id: idOfOrder(submission),
    payer: alice.name,
    payee: bob.name,
    amount: 1_250n,
    unit: UNIT_DEFAULT,
    payerKey: alice.pair.publicKey.thumbprint,
    payeeKey: bob.pair.publicKey.thumbprint,
    orderSha256: submission.signed.order.sha256,
    delegationSha256: submission.signed.delegation.sha256,
  }]);
  assert.deepEqual(postings, [
    { account: alice.name, index: 4, balance: 998_750n },
    { account: bob.name, index: 4, balance: 1_001_250n },
  ]);
  assert.equal(world.balance(TREASURY), -2_000_000n);
});

test("every entry has a salt of its own", () => {
  const world = worldOf(alice, bob);
  world.commit(order(alice, bob), grant(alice, "1.00"), cancel(alice, uuid()));
  world.commit(batch(alice, [[bob, 1n]]), openClassic(parseAccountName("dora")));
  const salts = new Set(world.entries.map(({ salt }) => salt));
  assert.equal(salts.size, world.entries.length);
});

test("the same order twice settles once, in one commit or in two, and again after it has expired", () => {
  const world = worldOf(alice, bob);
  const submission = order(alice, bob);
  const together = world.commit(submission, submission);
  assert.deepEqual(
    together.outcomes.map((outcome) => outcome.state === "settled" && outcome.again),
    [false, true],
  );
  assert.equal(together.entries.length, 1);
  for (const time_s of [NOW_S, NOW_S + 300, NOW_S + 30 * DAY_S]) {
    world.time_s = time_s;
    assert.deepEqual(world.one(submission), { state: "settled", index: 4, again: true });
  }
  assert.equal(world.balance(alice.name), 998_750n);
});

test("the same order settles again the same under another delegation of its session, expired or not the payer's key", () => {
  const world = worldOf(alice, bob);
  const submission = order(alice, bob);
  world.one(submission);
  const keys: Partial<Delegation>[] = [{ exp: NOW_S }, { key: carol.pair.publicKey }];
  for (const changed of keys) {
    const delegation = order(alice, bob, {}, changed).signed.delegation;
    const respelt: Submission = { ...submission, signed: { ...submission.signed, delegation } };
    assert.deepEqual(world.one(respelt), { state: "settled", index: 4, again: true });
  }
});

test("another order under a used id is order_conflict and records nothing", () => {
  const world = worldOf(alice, bob, carol);
  const id = uuid();
  world.one(order(alice, bob, { id }));
  assertRefused(world, order(alice, bob, { id, amount: amount("12.51") }), "order_conflict");
  assertRefused(world, order(alice, carol, { id }), "order_conflict");
  assertRefused(world, batch(alice, [[bob, 1n]], { id }), "order_conflict");
  // An id that has ended answers before the rest: before expiry, and before the balance.
  const late = { id, iat: NOW_S - 300, exp: NOW_S };
  assertRefused(world, order(alice, bob, late), "order_conflict");
  assertRefused(world, order(alice, bob, { id, amount: amount("99999.00") }), "order_conflict");
});

test("two orders under one id in one commit: the first wins", () => {
  const world = worldOf(alice, bob);
  const id = uuid();
  const { outcomes } = world.commit(
    order(alice, bob, { id }),
    order(alice, bob, { id, amount: amount("1.00") }),
  );
  assert.equal(outcomes[0]!.state, "settled");
  assert.deepEqual(outcomes[1], { state: "refused", reason: "order_conflict" });
});

test("an id is its payer's own: another payer's payment under it is independent", () => {
  const world = worldOf(alice, bob, carol);
  const id = uuid();
  world.one(order(alice, bob, { id }));
  world.one(cancel(carol, id));
  assert.equal(world.one(order(bob, alice, { id })).state, "settled");
});

const REFUSED: [string, () => Submission, string][] = [
  ["an order of someone without an account", () => order(carol, bob), "wrong_key"],
  [
    "an order under a delegation by another key",
    () => order(alice, bob, {}, { key: carol.pair.publicKey }),
    "wrong_key",
  ],
  [
    "an order under a delegation for another server",
    () => order(alice, bob, {}, { server: sha256Text("other") }),
    "wrong_server",
  ],
  [
    "an order under a delegation from the future",
    () => order(alice, bob, {}, { iat: NOW_S + 61 }),
    "delegation_not_yet_valid",
  ],
  [
    "an order under a delegation that has expired",
    () => order(alice, bob, {}, { exp: NOW_S }),
    "delegation_expired",
  ],
  [
    "an order that has expired",
    () => order(alice, bob, { iat: NOW_S - 300, exp: NOW_S }),
    "order_expired",
  ],
  [
    "an order from the future",
    () => order(alice, bob, { iat: NOW_S + 61, exp: NOW_S + 361 }),
    "order_from_future",
  ],
  ["an order to an unknown payee", () => order(alice, carol), "unknown_payee"],
  [
    "an order to a payee under another key",
    () => order(alice, bob, { payeeKey: carol.pair.publicKey.thumbprint }),
    "payee_key_changed",
  ],
  [
    "an order to a payee as if it had no key",
    () => order(alice, bob, { payeeKey: null }),
    "payee_key_changed",
  ],
  [
    "an order of more than the balance",
    () => order(alice, bob, { amount: amount("10000.01") }),
    "insufficient_funds",
  ],
  [
    "a batch whose total is more than the balance, though each item is not",
    () => batch(alice, [[bob, 600_000n], [bob, 600_000n]]),
    "insufficient_funds",
  ],
  [
    "a batch with one unknown payee",
    () => batch(alice, [[bob, 1n], [carol, 1n]]),
    "unknown_payee",
  ],
  [
    "a batch with one payee under another key",
    () => batch(alice, [[bob, 1n], [{ ...bob, pair: carol.pair }, 1n]]),
    "payee_key_changed",
  ],
  ["a grant to nobody", () => grant(carol, "1.00"), "unknown_account"],
  ["a cancel by someone without an account", () => cancel(carol, uuid()), "wrong_key"],
  [
    "a cancel under a delegation by another key",
    () => cancel(alice, uuid(), {}, { key: carol.pair.publicKey }),
    "wrong_key",
  ],
  [
    "a cancel under a delegation for another server",
    () => cancel(alice, uuid(), {}, { server: sha256Text("other") }),
    "wrong_server",
  ],
  [
    "a cancel under a delegation that has expired",
    () => cancel(alice, uuid(), {}, { exp: NOW_S }),
    "delegation_expired",
  ],
  [
    "a cancel under a delegation from the future",
    () => cancel(alice, uuid(), {}, { iat: NOW_S + 61 }),
    "delegation_not_yet_valid",
  ],
];

for (const [what, make, reason] of REFUSED) {
  test(`${what} is ${reason} and records nothing`, () => {
    assertRefused(worldOf(alice, bob), make(), reason);
  });
}

test("the payer's own side is judged first, so that a refusal tells a stranger nothing about the payee", () => {
  const world = worldOf(alice, bob);
  const poor = { amount: amount("10000.01") };
  const wrongPayeeKey = { payeeKey: carol.pair.publicKey.thumbprint };
  assertRefused(world, order(alice, carol, poor), "insufficient_funds");
  assertRefused(world, order(alice, bob, { ...poor, ...wrongPayeeKey }), "insufficient_funds");
  assertRefused(world, batch(alice, [[carol, 600_000n], [bob, 600_000n]]), "insufficient_funds");
  // Expiry is the payer's own side too, and comes before both.
  const late = { iat: NOW_S - 300, exp: NOW_S };
  assertRefused(world, order(alice, carol, { ...poor, ...late }), "order_expired");
});

test("an unknown account and another's account are answered alike, whatever else is wrong", () => {
  const world = worldOf(alice, bob);
  const late = { iat: NOW_S - 300, exp: NOW_S };
  const impostor = { ...mallory, name: alice.name };
  const rich = { amount: amount("99999.00") };
  for (const changed of [{}, late, rich]) {
    assertRefused(world, order(impostor, bob, changed), "wrong_key");
    assertRefused(world, order(mallory, bob, changed), "wrong_key");
  }
  assertRefused(world, order(impostor, carol), "wrong_key");
  assertRefused(world, cancel(impostor, uuid()), "wrong_key");
  assertRefused(world, cancel(mallory, uuid()), "wrong_key");
});

test("a stranger learns nothing about an id that another has cancelled", () => {
  const world = worldOf(alice, bob);
  const id = uuid();
  world.one(cancel(alice, id));
  const impostor = { ...mallory, name: alice.name };
  assertRefused(world, order(impostor, bob, { id }), "wrong_key");
  assertRefused(world, cancel(impostor, id), "wrong_key");
});

test("a refused order records nothing: the same bytes settle once the reason has gone", () => {
  const world = worldOf(alice, bob);
  const poor = order(alice, bob, { amount: amount("10000.01") });
  const early = order(alice, bob, { iat: NOW_S + 61, exp: NOW_S + 361 });
  const stranger = order(alice, carol);
  const reasons = [poor, early, stranger].map((one) => world.one(one));
  assert.deepEqual(
    reasons.map((outcome) => "reason" in outcome && outcome.reason),
    ["insufficient_funds", "order_from_future", "unknown_payee"],
  );
  world.commit(grant(alice, "50000.00"), open(carol));
  world.time_s = NOW_S + 120;
  for (const one of [poor, early, stranger]) assert.equal(world.one(one).state, "settled");
});

test("the certificate of a delegation is not judged: a renewed one kills no order under way", () => {
  const world = worldOf(alice, bob);
  const renewed = order(alice, bob, {}, { cert: sha256Text("the certificate before") });
  assert.equal(world.one(renewed).state, "settled");
});

test("expiry is judged against the entry's time, to the second", () => {
  const world = worldOf(alice, bob);
  world.time_s = NOW_S + 299;
  assert.equal(world.one(order(alice, bob)).state, "settled");
  world.time_s = NOW_S + 300;
  assertRefused(world, order(alice, bob), "order_expired");
  const lead = order(alice, bob, { iat: NOW_S + 360, exp: NOW_S + 600 });
  assert.equal(world.one(lead).state, "settled");
});

test("money that came in earlier in a commit can be spent later in it, and not before", () => {
  const world = new World({ openingBalance: 0n });
  world.commit(open(alice), grant(alice, "10000.00"));
  const fund = order(alice, bob, { amount: amount("100.00") });
  const spend = order(bob, alice, { amount: amount("60.00") });
  const more = order(bob, alice, { amount: amount("50.00") });
  const early = order(bob, alice, { amount: amount("1.00") });
  const { outcomes } = world.commit(open(bob), early, fund, spend, more);
  assert.deepEqual(
    outcomes.map((outcome) => "reason" in outcome ? outcome.reason : outcome.state),
    ["opened", "insufficient_funds", "settled", "settled", "insufficient_funds"],
  );
  assert.equal(world.balance(bob.name), 4_000n);
});

test("a batch is one entry, with one posting for each account, though it pays one payee twice", () => {
  const world = worldOf(alice, bob, carol);
  const submission = batch(alice, [[bob, 100n], [carol, 200n], [bob, 300n]]);
  const { outcomes, entries, postings, newEndings } = world.commit(submission);
  assert.deepEqual(outcomes, [{ state: "settled", index: 6, again: false }]);
  assert.deepEqual(entries, [{
    type: "batch",
    index: 6,
    time: NOW_S,
    salt: entries[0]!.salt,
    id: idOfOrder(submission),
    payer: alice.name,
    count: 3,
    total: 600n,
    unit: UNIT_DEFAULT,
    itemsRoot: sha256Text("root"),
    payerKey: alice.pair.publicKey.thumbprint,
    orderSha256: submission.signed.order.sha256,
    delegationSha256: submission.signed.delegation.sha256,
  }]);
  assert.deepEqual(postings, [
    { account: alice.name, index: 6, balance: 999_400n },
    { account: bob.name, index: 6, balance: 1_000_400n },
    { account: carol.name, index: 6, balance: 1_000_200n },
  ]);
  assert.equal(newEndings.length, 1);
});

test("a batch whose items do not add up to its total makes no commit", () => {
  const world = worldOf(alice, bob);
  assert.throws(
    () => world.commit(batch(alice, [[bob, 100n]], { total: 99n as Amount })),
    /sum of all balances/,
  );
});

test("a cancelled id stays so, whatever order comes later, and moves nothing", () => {
  const world = worldOf(alice, bob);
  const submission = order(alice, bob);
  const id = idOfOrder(submission);
  const ended = cancel(alice, id);
  const { outcomes, entries, accounts, postings } = world.commit(ended);
  assert.deepEqual(outcomes, [{ state: "cancelled", index: 4, again: false }]);
  assert.equal(entries[0]!.type, "cancel");
  assert.deepEqual([accounts, postings], [[], []]);
  for (const time_s of [NOW_S, NOW_S + 300, NOW_S + 30 * DAY_S]) {
    world.time_s = time_s;
    assertRefused(world, submission, "cancelled");
    assertRefused(world, order(alice, bob, { id, iat: time_s, exp: time_s + 1 }), "cancelled");
    assertRefused(world, batch(alice, [[bob, 1n]], { id }), "cancelled");
    assert.deepEqual(world.one(ended), { state: "cancelled", index: 4, again: true });
    assert.deepEqual(world.one(cancel(alice, id)), { state: "cancelled", index: 4, again: true });
  }
});

test("only the payer's cancel ends an id unpaid: the payee's is about an id of the payee's own", () => {
  const world = worldOf(alice, bob);
  const submission = order(alice, bob);
  assert.equal(world.one(cancel(bob, idOfOrder(submission))).state, "cancelled");
  assert.equal(world.one(submission).state, "settled");
});

test("cancelling what is settled answers with the settlement; of two in one commit the first wins", () => {
  const world = worldOf(alice, bob);
  const settled = order(alice, bob);
  const { index } = world.one(settled) as Outcome & { state: "settled" };
  const late = cancel(alice, idOfOrder(settled));
  assert.deepEqual(world.one(late), { state: "settled", index, again: true });

  const racing = order(alice, bob);
  const both = world.commit(cancel(alice, idOfOrder(racing)), racing);
  assert.deepEqual(both.outcomes, [
    { state: "cancelled", index: index + 1, again: false },
    { state: "refused", reason: "cancelled" },
  ]);
  const won = order(alice, bob);
  const other = world.commit(won, cancel(alice, idOfOrder(won)));
  assert.deepEqual(other.outcomes.map(({ state }) => state), ["settled", "settled"]);
});

test("a name opens once: again under its key, name_taken under another", () => {
  const world = worldOf(alice);
  assert.deepEqual(world.one(open(alice)), { state: "opened", index: 0, again: true });
  assertRefused(world, open(alice, { key: bob.pair.publicKey }), "name_taken");
  const { outcomes } = world.commit(
    open(bob),
    open(bob, { key: carol.pair.publicKey }),
    open(bob),
  );
  assert.deepEqual(outcomes, [
    { state: "opened", index: 2, again: false },
    { state: "refused", reason: "name_taken" },
    { state: "opened", index: 2, again: true },
  ]);
  assert.equal(world.balance(TREASURY), -2_000_000n);
});

test("an account opens only under a delegation that holds for this server at this time", () => {
  const world = new World();
  const flaws: [Partial<Delegation>, string][] = [
    [{ server: sha256Text("other") }, "wrong_server"],
    [{ exp: NOW_S }, "delegation_expired"],
    [{ iat: NOW_S + 61 }, "delegation_not_yet_valid"],
  ];
  for (const [changed, reason] of flaws) assertRefused(world, open(alice, changed), reason);
});

for (const name of ["admin", "operator", "root", "support", "system", "treasury"]) {
  test(`nobody registers ${name}, which would mislead, with a key or without`, () => {
    const world = new World();
    assertRefused(world, open({ ...alice, name: parseAccountName(name) }), "name_reserved");
    assertRefused(world, openClassic(parseAccountName(name)), "name_reserved");
  });
}

test("when registration is closed nobody new is let in, and who is in stays", () => {
  const world = worldOf(alice);
  const settings: Settings = { openingBalance: 5n, registration: "closed" };
  const closing = world.one({ type: "operator", fact: { type: "ledger.settings", ...settings } });
  assert.deepEqual(closing, { state: "recorded", index: 2 });
  assertRefused(world, open(bob), "registration_closed");
  assertRefused(world, openClassic(bob.name), "registration_closed");
  assert.deepEqual(world.one(open(alice)), { state: "opened", index: 0, again: true });
});

test("settings hold from their entry on, for what follows in the same commit too", () => {
  const world = new World();
  const raise: Submission = {
    type: "operator",
    fact: { type: "ledger.settings", openingBalance: 7n, registration: "open" },
  };
  world.commit(open(alice), raise, open(bob));
  assert.equal(world.balance(alice.name), 1_000_000n);
  assert.equal(world.balance(bob.name), 7n);
});

test("entry 0 is made once: a ledger that is open is not opened again", () => {
  const { openingBalance, registration } = new World().settings;
  const opening: Submission = {
    type: "operator",
    fact: {
      type: "ledger.open",
      server: SERVER_KEY,
      log: { crv: "Ed25519", kty: "OKP", x: alice.session.publicKey.x },
      unit: UNIT_DEFAULT,
      openingBalance: 1n,
      registration: "closed",
    },
  };
  const world = worldOf(alice);
  const { outcomes, entries } = world.commit(opening);
  assert.deepEqual(outcomes, [{ state: "recorded", index: 0 }]);
  assert.deepEqual(entries, []);
  assert.deepEqual(world.settings, { openingBalance, registration });
});

test("an opening under an id that the treasury has used is order_conflict, in one commit or in two", () => {
  const id = uuid();
  const world = worldOf(alice);
  world.one(grant(alice, "1.00", id));
  assertRefused(world, open(bob, {}, id), "order_conflict");
  const other = uuid();
  const { outcomes } = world.commit(open(bob, {}, other), open(carol, {}, other));
  assert.deepEqual(outcomes[1], { state: "refused", reason: "order_conflict" });
});

test("an account may open without money, and then no transfer is made", () => {
  const world = new World({ openingBalance: 0n });
  const { entries, newEndings } = world.commit(open(alice));
  assert.deepEqual(entries.map((entry) => entry.type), ["account.open"]);
  assert.deepEqual(newEndings, []);
  assert.equal(world.balance(alice.name), 0n);
});

test("a grant issues once under its id", () => {
  const world = worldOf(alice);
  const id = uuid();
  const first = world.one(grant(alice, "5.00", id)) as Outcome & { state: "settled" };
  assert.equal(world.balance(alice.name), 1_000_500n);
  assert.deepEqual(world.one(grant(alice, "5.00", id)), { ...first, again: true });
  assertRefused(world, grant(alice, "6.00", id), "order_conflict");
  assertRefused(world, grant(bob, "5.00", id), "order_conflict");
  assert.equal(world.balance(alice.name), 1_000_500n);
});

test("money can be given back to the treasury, under the server's key", () => {
  const world = worldOf(alice);
  const back = order(alice, alice, {
    payee: TREASURY,
    payeeKey: SERVER_KEY,
    amount: amount("10000.00"),
  });
  assert.equal(world.one(back).state, "settled");
  assert.equal(world.balance(alice.name), 0n);
  assert.equal(world.balance(TREASURY), 0n);
  const { payeeKey } = orderClaims(alice, bob);
  assertRefused(world, grant(bob, "1.00"), "unknown_account");
  world.one(grant(alice, "1.00"));
  const wrong = { payee: TREASURY, payeeKey, amount: amount("1.00") } as const;
  assertRefused(world, order(alice, bob, wrong), "payee_key_changed");
});

test("no order debits the treasury, under any key", () => {
  const world = worldOf(alice);
  const impostor = { ...alice, name: TREASURY as typeof alice.name };
  assertRefused(world, order(impostor, alice), "wrong_key");
});

test("the treasury issues 2^53 - 1 minor units and not one more", () => {
  const world = new World({ openingBalance: AMOUNT_MAX - 1n });
  world.commit(open(alice));
  assertRefused(world, open(bob), "treasury_limit");
  assert.equal(world.one(grant(alice, "0.01")).state, "settled");
  assertRefused(world, grant(alice, "0.01"), "treasury_limit");
  assert.equal(world.balance(TREASURY), -AMOUNT_MAX);
  assert.equal(world.balance(alice.name), AMOUNT_MAX);
});
