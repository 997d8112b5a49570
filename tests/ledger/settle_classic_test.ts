/**
 * Accounts that a classic client opened: they have no key, nobody signs for them, and nobody else
 * pays for that.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Uuid } from "../../lib/base/parse.ts";
import { type AccountName, parseAccountName } from "../../lib/keys/rsa.ts";
import {
  type AccountOpen,
  type Entry,
  formatEntry,
  parseEntry,
  type Transfer,
} from "../../lib/ledger/entry.ts";
import type { Submission } from "../../lib/ledger/submission.ts";
import type { Amount } from "../../lib/protocol/money.ts";
import { type Party, TREASURY } from "../../lib/protocol/party.ts";
import { NOW_S, person, serverPair, uuid } from "../support/fixtures.ts";
import {
  assertRefused,
  cancel,
  grant,
  open,
  openClassic,
  order,
  World,
} from "../support/settle_world.ts";

const alice = person("alice");
const bob = person("bob");
const carla = parseAccountName("carla");
const dora = parseAccountName("dora");

function unsigned(
  payer: string,
  payee: string,
  minor = 500n,
  id = uuid(),
): Submission & { type: "unsigned" } {
  const parties = { payer: payer as AccountName, payee: payee as AccountName };
  return { type: "unsigned", id, ...parties, amount: minor as Amount };
}

/** alice and bob have keys, carla and dora none. */
function mixedWorld(): World {
  const world = new World();
  for (const opening of [open(alice), open(bob), openClassic(carla), openClassic(dora)]) {
    assert.equal(world.one(opening).state, "opened");
  }
  return world;
}

test("a classic account is opened without a key, and its money comes from the treasury", () => {
  const world = new World();
  const { entries } = world.commit(openClassic(carla));
  const common = { v: 1, time: NOW_S, id: (entries[0] as Entry<AccountOpen>).id };
  assert.deepEqual(entries.map(formatEntry).map((text) => JSON.parse(text)), [
    {
      ...common,
      index: 0,
      type: "account.open",
      salt: entries[0]!.salt,
      account: "carla",
      key: null,
      delegation_sha256: null,
    },
    {
      ...common,
      index: 1,
      type: "transfer",
      salt: entries[1]!.salt,
      payer: TREASURY,
      payee: "carla",
      amount: "10000.00",
      unit: "EUR",
      payer_key: serverPair().publicKey.thumbprint,
      payee_key: null,
      order_sha256: null,
      delegation_sha256: null,
    },
  ]);
  assert.equal(world.balance(carla), 1_000_000n);
});

test("an unsigned payment moves money between classic accounts, and names no key and no order", () => {
  const world = mixedWorld();
  const { outcomes, entries } = world.commit(unsigned("carla", "dora"));
  assert.equal(outcomes[0]!.state, "settled");
  const [{ payerKey, payeeKey, orderSha256, delegationSha256 }] = entries as [Entry<Transfer>];
  assert.deepEqual([payerKey, payeeKey, orderSha256, delegationSha256], [null, null, null, null]);
  assert.equal(world.balance(carla), 999_500n);
  assert.equal(world.balance(dora), 1_000_500n);
});

test("an unsigned order cannot debit an account that has a key", () => {
  const world = mixedWorld();
  assertRefused(world, unsigned("alice", "carla"), "signature_required");
  assertRefused(world, unsigned("alice", "bob"), "signature_required");
});

test("an unsigned order cannot debit the treasury", () => {
  const world = mixedWorld();
  assertRefused(world, unsigned(TREASURY, "carla", 100_000_000n), "signature_required");
  // Not even before anything was ever issued, when the treasury is in no store.
  assertRefused(new World(), unsigned(TREASURY, "carla"), "signature_required");
});

test("an account opened with a key in the same commit is not debited by an unsigned order after it", () => {
  const world = new World();
  const { outcomes } = world.commit(open(alice), openClassic(carla), unsigned("alice", "carla"));
  assert.deepEqual(outcomes[2], { state: "refused", reason: "signature_required" });
});

test("no signed order debits a classic account, under any key", () => {
  const world = mixedWorld();
  const impostor = { ...alice, name: carla };
  assertRefused(world, order(impostor, bob), "wrong_key");
});

test("a classic account never gets a key, and nobody shows that it is theirs", () => {
  const world = mixedWorld();
  assertRefused(world, open({ ...alice, name: carla }), "name_taken");
  assertRefused(world, openClassic(carla), "name_taken");
  const fresh = new World();
  const { outcomes } = fresh.commit(openClassic(carla), open({ ...alice, name: carla }));
  assert.deepEqual(outcomes[1], { state: "refused", reason: "name_taken" });
});

test("a classic client cannot open a name that a key holds, and does not change its key", () => {
  const world = mixedWorld();
  assertRefused(world, openClassic(alice.name), "name_taken");
  assert.equal(world.accounts.get("alice")!.key, alice.pair.publicKey.thumbprint);
});

test("a key pays a classic account, when the order says that it has no key", () => {
  const world = mixedWorld();
  const to = { ...bob, name: carla };
  assert.equal(world.one(order(alice, to, { payeeKey: null })).state, "settled");
  assertRefused(world, order(alice, to), "payee_key_changed");
  assertRefused(world, order(alice, bob, { payeeKey: null }), "payee_key_changed");
});

test("a classic account pays one that has a key, and the entry names that key", () => {
  const world = mixedWorld();
  const { entries } = world.commit(unsigned("carla", "alice"));
  const [entry] = entries as [Entry<Transfer>];
  assert.equal(entry.payeeKey, alice.pair.publicKey.thumbprint);
});

test("an unsigned order that the rules refuse records nothing", () => {
  const world = mixedWorld();
  assertRefused(world, unsigned("carla", "dora", 1_000_001n), "insufficient_funds");
  assertRefused(world, unsigned("carla", "nobody"), "unknown_payee");
  assertRefused(world, unsigned("nobody", "carla"), "unknown_account");
  assertRefused(world, unsigned("carla", "carla"), "payer_is_payee");
});

test("no cancel touches an id of a classic account", () => {
  const world = mixedWorld();
  const submission = unsigned("carla", "dora");
  assertRefused(world, cancel({ ...alice, name: carla }, submission.id), "wrong_key");
  assert.equal(world.one(submission).state, "settled");
});

test("two unsigned orders of one commit cannot spend the same money", () => {
  const world = mixedWorld();
  const twice = [unsigned("carla", "dora", 600_000n), unsigned("carla", "alice", 600_000n)];
  const { outcomes } = world.commit(...twice);
  assert.equal(outcomes[0]!.state, "settled");
  assert.deepEqual(outcomes[1], { state: "refused", reason: "insufficient_funds" });
});

test("an id settles once for an unsigned order too, and pays nobody else", () => {
  const world = mixedWorld();
  const first = unsigned("carla", "dora");
  const settled = world.one(first);
  assert.deepEqual(world.one(first), { ...settled, again: true });
  assertRefused(world, { ...first, amount: 501n as Amount }, "order_conflict");
  assertRefused(world, { ...first, payee: alice.name }, "order_conflict");
  assert.equal(world.balance(carla), 999_500n);
});

const NAMES = ["alice", "bob", "carla", "dora"];
const IDS = Array.from({ length: 8 }, uuid);
const people = [alice, bob, { ...alice, name: carla }, { ...bob, name: dora }];
const anyName = fc.constantFrom(...NAMES);
const anyMinor = fc.bigInt(1n, 400n);
const anyId: fc.Arbitrary<Uuid> = fc.constantFrom(...IDS);
const anySubmission: fc.Arbitrary<Submission> = fc.oneof(
  fc.constantFrom(...people).map((by) => open(by)),
  anyName.map((name) => openClassic(name as AccountName)),
  fc.tuple(fc.constantFrom(...NAMES, TREASURY), anyName, anyMinor, anyId)
    .map(([payer, payee, minor, id]) => unsigned(payer, payee, minor, id)),
  fc.tuple(fc.shuffledSubarray(people, { minLength: 2, maxLength: 2 }), anyMinor, fc.boolean())
    .map(([[payer, payee], minor, keyless]) =>
      order(payer!, payee!, { amount: minor as Amount, ...(keyless ? { payeeKey: null } : {}) })
    ),
  fc.tuple(fc.constantFrom(...people), anyId).map(([payer, id]) => cancel(payer, id)),
  anyName.map((name) => grant({ ...alice, name: name as AccountName }, "1.00")),
);

test(
  "whatever is submitted: a key is for ever, and who has one is debited by that key alone",
  { timeout: 60_000 },
  () => {
    let unsignedSettled = 0;
    let signedSettled = 0;
    const commits = fc.array(fc.array(anySubmission, { maxLength: 8 }), { maxLength: 12 });
    fc.assert(
      fc.property(commits, (commits) => {
        const world = new World({ openingBalance: 300n });
        for (const submissions of commits) world.commit(...submissions);
        const keys = new Map<Party, unknown>([[TREASURY, serverPair().publicKey.thumbprint]]);
        let sum = 0n;
        for (const entry of world.entries) {
          assert.deepEqual(parseEntry(formatEntry(entry)), entry);
          if (entry.type === "account.open") {
            assert.ok(!keys.has(entry.account), "an account is opened twice");
            keys.set(entry.account, entry.key);
          }
          if (entry.type !== "transfer") continue;
          assert.equal(entry.payerKey, keys.get(entry.payer));
          assert.equal(entry.payeeKey, keys.get(entry.payee));
          assert.equal(entry.orderSha256 === null, entry.payer === TREASURY || !entry.payerKey);
          if (entry.payer === TREASURY) continue;
          if (entry.orderSha256 === null) unsignedSettled++;
          else signedSettled++;
        }
        for (const { name, key, balance } of world.accounts.values()) {
          assert.equal(key, keys.get(name), `the key of ${name} has changed`);
          assert.ok(name === TREASURY || balance >= 0n);
          sum += balance;
        }
        assert.equal(sum, 0n);
      }),
      { numRuns: 400 },
    );
    assert.ok(unsignedSettled > 20 && signedSettled > 20, `${unsignedSettled} ${signedSettled}`);
  },
);
