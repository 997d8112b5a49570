/**
 * A ledger carries its own settings: what a new one says, how they change, and what a start with
 * others gets.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { person } from "../../support/fixtures.ts";
import { jsonLines, PaymentWorld } from "../../support/payment_world.ts";
import { refusalOf } from "../../support/refusal.ts";
import { WireClient } from "../../support/wire_client.ts";

const OPTIONS = { timeout: 60_000 };
const START = ["0", "--host", "127.0.0.1"];

async function register(world: PaymentWorld, name: string): Promise<WireClient> {
  return await WireClient.enter(world, person(name), "account.register");
}

async function settings(world: PaymentWorld, ...options: string[]): Promise<unknown> {
  const outcome = await world.operate("settings", ...options);
  assert.equal(outcome.status, 0, outcome.stderr);
  return jsonLines(outcome)[0];
}

/** The error and the sentence of a run that must fail. */
async function refused(world: PaymentWorld, ...args: string[]) {
  const outcome = await world.operate(...args);
  const { error } = jsonLines(outcome)[0]! as { error: { code: string; message: string } };
  return { status: outcome.status, ...error };
}

test("a new ledger opens accounts with 10000.00 EUR for everyone", OPTIONS, async () => {
  const world = await PaymentWorld.start();
  assert.equal(await (await register(world, "alice")).balance(), "10000.00");
  assert.deepEqual(await settings(world), {
    unit: "EUR",
    opening_balance: "10000.00",
    registration: "open",
  });
  await world.stop();
});

test(
  "the options of the first start are the ledger's, and later starts need none",
  OPTIONS,
  async () => {
    const options = ["--opening-balance", "0", "--unit", "CHF", "--registration", "open"];
    const world = await PaymentWorld.start({ serverArgs: options });
    assert.equal(await (await register(world, "alice")).balance(), "0.00");
    await world.stop();
    // Without options, and then with the same ones.
    for (const [name, args] of [["bob", []], ["carol", options]] as const) {
      await world.startServer({ serverArgs: args });
      const client = await register(world, name);
      assert.equal(await client.balance(), "0.00");
      const opened = client.provenEntry(await client.call("ledger.open"));
      assert.ok(opened.type === "ledger.open");
      assert.deepEqual([opened.unit, opened.openingBalance], ["CHF", 0n]);
      await world.stop();
    }
    // The operator's tools read the ledger as well, whatever their own defaults may be.
    const { unit, opening_balance } = await settings(world) as Record<string, string>;
    assert.deepEqual([unit, opening_balance], ["CHF", "0.00"]);
  },
);

describe("a start with another option is refused with the command that changes it", () => {
  const cases = [
    ["--opening-balance", "5", /10000\.00.*server\.ts settings --opening-balance 5\.00/],
    ["--opening-balance", "0", /10000\.00.*server\.ts settings --opening-balance 0\.00/],
    ["--registration", "closed", /open.*server\.ts settings --registration closed/],
    ["--unit", "USD", /EUR.*USD.*cannot be changed/],
  ] as const;
  for (const [option, value, sentence] of cases) {
    test(`${option} ${value}`, OPTIONS, async () => {
      const world = await PaymentWorld.start();
      await world.stop();
      const { status, code, message } = await refused(world, ...START, option, value);
      assert.deepEqual([status, code], [1, "settings_differ"]);
      assert.match(message, sentence);
      assert.deepEqual(await settings(world), {
        unit: "EUR",
        opening_balance: "10000.00",
        registration: "open",
      });
    });
  }
});

test(
  "settings change beside a running server, by an entry that everyone can see",
  OPTIONS,
  async () => {
    const world = await PaymentWorld.start();
    const alice = await register(world, "alice");
    const size = await alice.size();
    const changed = { unit: "EUR", opening_balance: "2.50", registration: "open" };
    assert.deepEqual(await settings(world, "--opening-balance", "2.5"), changed);
    assert.equal(await alice.size(), size + 1);
    // Nothing to change is no entry.
    assert.deepEqual(await settings(world, "--opening-balance", "2.50"), changed);
    assert.equal(await alice.size(), size + 1);
    assert.equal(await (await register(world, "bob")).balance(), "2.50");
    await settings(world, "--registration", "closed");

    const registration = await refusalOf(() => register(world, "carol"));
    assert.equal(registration.code, "registration_closed");
    // Those who are there come in as before, and may say that they register.
    const again = await register(world, "bob");
    assert.equal(
      again.provenEntry(await again.call("directory.lookup", { account: "bob" })).type,
      "account.open",
    );
    await world.stop();

    await world.startServer({ serverArgs: ["--registration", "closed"] });
    assert.equal((await refusalOf(() => register(world, "carol"))).code, "registration_closed");
    await settings(world, "--registration", "open", "--opening-balance", "7");
    assert.equal(await (await register(world, "carol")).balance(), "7.00");
    await world.stop();
    assert.equal(jsonLines(await world.operate("audit"))[0]!.valid, true);
  },
);

test("settings that are none are wrong usage, and change nothing", OPTIONS, async () => {
  const world = await PaymentWorld.start();
  const before = await settings(world);
  const cases: readonly (readonly [string[], RegExp])[] = [
    [["settings", "--opening-balance", "1.001"], /--opening-balance.*1\.001/],
    [["settings", "--opening-balance", "-1"], /--opening-balance/],
    [["settings", "--registration", "members"], /--registration.*"members"/],
    [["settings", "--unit", "USD"], /--unit/],
    [[...START, "--unit", "US dollars"], /--unit.*letters/],
    [[...START, "--unit", ""], /--unit.*letters/],
  ];
  for (const [args, sentence] of cases) {
    const { status, code, message } = await refused(world, ...args);
    assert.deepEqual([status, code], [2, "usage"], message);
    assert.match(message, sentence);
  }
  assert.deepEqual(await settings(world), before);
  await world.stop();
});
