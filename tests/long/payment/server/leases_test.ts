/** A server that dies leaves listeners online until its leases end. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { LEASE_S, RENEW_INTERVAL_MS } from "../../../../lib/ledger/shared_presence.ts";
import { person } from "../../../support/fixtures.ts";
import { tryPostgres } from "../../../support/postgres.ts";
import { online, presence, threeServers } from "../../../support/several_servers.ts";
import { until } from "../../../support/support.ts";
import { WireClient } from "../../../support/wire_client.ts";

const bob = person("bob");

const { server: database, skip } = await tryPostgres();
after(() => database?.stop());
const options = { skip, timeout: 120_000 };

test("the listeners of a server that dies are offline when its leases end", options, async () => {
  const { world, second, alices, stop } = await threeServers(database!);
  await WireClient.enter(world, bob, "session.login", presence(4_000), second.port);
  await sleep(RENEW_INTERVAL_MS + 500);
  assert.deepEqual(await online(alices), ["bob"]);
  await second.process.stop("SIGKILL");
  assert.deepEqual(await online(alices), ["bob"]);
  await until(async () => (await online(alices)).length === 0, LEASE_S * 1_000 + 2_000);
  // A server that stops gives its places back at once.
  const fourth = await world.startAnother(second.port);
  await WireClient.enter(world, bob, "session.login", presence(4_000), fourth.port);
  assert.deepEqual(await online(alices), ["bob"]);
  assert.equal((await fourth.process.stop()).status, 0);
  assert.deepEqual(await online(alices), []);
  await stop().catch((error) => assert.match(String(error), /null !== 0|SIGKILL/));
});
