/** A database that someone edits while the server runs: it is noticed before anything is signed. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { DatabaseSync } from "node:sqlite";
import { describe, test } from "node:test";
import { person } from "../../support/fixtures.ts";
import { jsonLines, PaymentWorld } from "../../support/payment_world.ts";
import { refusalOf } from "../../support/refusal.ts";
import { idOf, WireClient } from "../../support/wire_client.ts";

const OPTIONS = { timeout: 60_000 };
const [alice, bob] = [person("alice"), person("bob")];

/** What someone does who can write to the file, beside the server. */
function edit(world: PaymentWorld, ...statements: string[]): void {
  const database = new DatabaseSync(world.db);
  database.exec("PRAGMA busy_timeout = 5000");
  for (const statement of statements) {
    const { changes } = database.prepare(statement).run();
    assert.ok(changes > 0, `${statement} changes nothing`);
  }
  database.close();
}

async function worldOfTwo() {
  const world = await PaymentWorld.start();
  const alices = await WireClient.enter(world, alice, "account.register");
  const bobs = await WireClient.enter(world, bob, "account.register");
  return { world, alices, bobs };
}

describe("changed while the server runs, before the next payment that rests on it", () => {
  const cases: readonly { promise: string; statement: string }[] = [
    {
      promise: "the payer's balance",
      statement: "UPDATE accounts SET balance = balance + 100 WHERE name = 'alice'",
    },
    {
      promise: "the payee's balance",
      statement: "UPDATE accounts SET balance = 0 WHERE name = 'bob'",
    },
    {
      promise: "the payer's key",
      statement:
        "UPDATE accounts SET key = (SELECT key FROM accounts WHERE name = 'bob') WHERE name = 'alice'",
    },
    { promise: "the size of the log", statement: "UPDATE head SET size = size - 1" },
    {
      promise: "the root of the log",
      statement: "UPDATE head SET root = (SELECT server FROM head)",
    },
    { promise: "the registration rule", statement: "UPDATE head SET registration = 'closed'" },
    { promise: "the opening balance", statement: "UPDATE head SET opening_balance = 5" },
  ];
  for (const { promise, statement } of cases) {
    test(promise, OPTIONS, async () => {
      const { world, alices, bobs } = await worldOfTwo();
      const before = await alices.newestCheckpoint();
      edit(world, statement);
      const refusal = await refusalOf(() => alices.settle(alices.order(alice, bob)));
      assert.equal(refusal.code, "store_damaged", refusal.message);
      // Nothing more is committed for anyone, and nothing was signed.
      for (
        const work of [
          () => bobs.settle(bobs.order(bob, alice)),
          () => alices.call("payment.cancel", alices.cancel(alice, randomUUID())),
          () => WireClient.enter(world, person("carol"), "account.register"),
        ]
      ) {
        assert.equal((await refusalOf(work)).code, "store_damaged");
      }
      const lookup = await alices.call("directory.lookup", { account: "bob" }).catch(() => null);
      if (lookup !== null) assert.equal(lookup.size, before.size);
      assert.match(world.server.stderrText, /nothing more is signed/);
      assert.equal((await world.stop()).status, 0);
      const started = await world.operate("audit");
      assert.notEqual(started.status, 0);
    });
  }

  test("an id that has ended", OPTIONS, async () => {
    const { world, alices } = await worldOfTwo();
    const signed = alices.order(alice, bob);
    await alices.settle(signed);
    edit(world, "UPDATE payments SET state = 'cancelled' WHERE payer = 'alice'");
    const status = await refusalOf(() => alices.call("payment.status", { id: idOf(signed) }));
    assert.equal(status.code, "store_damaged");
    const again = await refusalOf(() => alices.settle(signed));
    assert.equal(again.code, "store_damaged");
    await world.stop();
  });
});

test("an entry that is changed is never proven", OPTIONS, async () => {
  const { world } = await worldOfTwo();
  // A restart, so that its text is not in memory.
  await world.stop();
  await world.startServer();
  edit(world, "UPDATE entries SET text = replace(text, 'alice', 'malice') WHERE entry_index = 1");
  const bobs = await WireClient.enter(world, bob);
  const refusal = await refusalOf(() => bobs.call("directory.lookup", { account: "alice" }));
  assert.equal(refusal.code, "store_damaged", refusal.message);
  await world.stop();
  const [line] = jsonLines(await world.operate("audit"));
  assert.equal((line!.error as { code: string }).code, "audit_failed");
});

describe("changed while the server is down", () => {
  const statements = {
    "the size of the log": "UPDATE head SET size = size - 1",
    "the root of the log": "UPDATE head SET root = (SELECT server FROM head)",
    "the settings": "UPDATE head SET opening_balance = 5",
    "an entry": "UPDATE entries SET text = replace(text, 'alice', 'malice') WHERE entry_index = 1",
  };
  for (const [promise, statement] of Object.entries(statements)) {
    test(`${promise}: it does not start`, OPTIONS, async () => {
      const { world } = await worldOfTwo();
      await world.stop();
      edit(world, statement);
      for (
        const command of [["0", "--host", "127.0.0.1"], [
          "0",
          "--host",
          "127.0.0.1",
          "--accept-rollback",
        ], ["grant", "alice", "1"]]
      ) {
        const [line] = jsonLines(await world.operate(...command));
        assert.equal((line!.error as { code: string }).code, "store_damaged", command.join(" "));
      }
    });
  }

  test("a balance: it starts, and refuses the payment that rests on it", OPTIONS, async () => {
    const { world } = await worldOfTwo();
    await world.stop();
    edit(world, "UPDATE accounts SET balance = balance * 2 WHERE name = 'alice'");
    await world.startServer();
    const bobs = await WireClient.enter(world, bob);
    const refusal = await refusalOf(() => bobs.settle(bobs.order(bob, alice)));
    assert.equal(refusal.code, "store_damaged");
    await world.stop();
  });
});
