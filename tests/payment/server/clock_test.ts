/** A ledger whose last entry is in the future, as after a start with a wrong clock. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { loadServerPublicKey } from "../../../lib/keys/key_files.ts";
import { openLogKey } from "../../../lib/keys/log_key.ts";
import { watchedClock } from "../../../lib/ledger/clock.ts";
import { openLedger } from "../../../lib/ledger/open_ledger.ts";
import { openSqlite } from "../../../lib/ledger/sqlite.ts";
import { person } from "../../support/fixtures.ts";
import { jsonLines, PaymentWorld } from "../../support/payment_world.ts";
import { refusalOf } from "../../support/refusal.ts";
import { WireClient } from "../../support/wire_client.ts";

const OPTIONS = { timeout: 60_000 };
const AHEAD_S = 2 * 86_400;
const [alice, bob] = [person("alice"), person("bob")];

/** An entry two days from now, made by a process with such a clock. */
async function recordInTheFuture(world: PaymentWorld): Promise<void> {
  const { pair: logKey } = openLogKey(world.serverKeys, { makeMissing: false });
  const store = openSqlite(world.db, { create: false });
  const ledger = await openLedger({
    store,
    server: loadServerPublicKey(join(world.serverKeys, "server_public.pem")).thumbprint,
    logKey,
    keysFolder: world.serverKeys,
    clock: watchedClock(() => Date.now() + AHEAD_S * 1000),
    create: null,
    onTrouble: () => {},
  });
  const fact = { type: "ledger.settings", openingBalance: 500n, registration: "open" } as const;
  const { state } = await ledger.submit({ type: "operator", fact });
  assert.equal(state, "recorded");
  await ledger.close();
  await store.close();
}

test("payments pause until the operator says that the clock is right", OPTIONS, async () => {
  const world = await PaymentWorld.start();
  const before = await WireClient.enter(world, alice, "account.register");
  await WireClient.enter(world, bob, "account.register");
  await world.stop();
  await recordInTheFuture(world);

  await world.startServer();
  const alices = await WireClient.enter(world, alice);
  const signed = alices.order(alice, bob);
  for (let time = 0; time < 2; time++) {
    const refusal = await refusalOf(() => alices.settle(signed));
    assert.equal(refusal.code, "clock_unsteady");
    assert.match(refusal.message, /--accept-clock/);
  }
  const registration = await refusalOf(() =>
    WireClient.enter(world, person("carol"), "account.register")
  );
  assert.equal(registration.code, "clock_unsteady");
  assert.equal(await alices.balance(), "10000.00");
  const { stderr } = await world.stop();
  assert.equal(stderr.match(/in the future/g)?.length, 1, stderr);

  await world.startServer({ serverArgs: ["--accept-clock"] });
  const again = await WireClient.enter(world, alice);
  const receipt = await again.verifiedReceipt(signed, await again.settle(signed));
  assert.ok(Math.abs(receipt.time_s - Date.now() / 1000) < 60);
  const carol = await WireClient.enter(world, person("carol"), "account.register");
  assert.equal(await carol.balance(), "5.00");
  assert.equal(before.server, again.server);
  await world.stop();
  // Now the last entry is not in the future any more.
  await world.startServer({ serverArgs: [] });
  const last = await WireClient.enter(world, alice);
  await last.settle(last.order(alice, bob));
  await world.stop();
  const outcome = await world.operate("audit");
  assert.equal(jsonLines(outcome)[0]!.valid, true, outcome.stdout);
});
