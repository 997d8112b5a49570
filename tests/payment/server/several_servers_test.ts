/** Several servers on one PostgreSQL are one system: who asks which of them makes no difference. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { RENEW_INTERVAL_MS } from "../../../lib/ledger/shared_presence.ts";
import { person } from "../../support/fixtures.ts";
import { type Json, PaymentWorld } from "../../support/payment_world.ts";
import { tryPostgres } from "../../support/postgres.ts";
import { online, presence, threeServers } from "../../support/several_servers.ts";
import { until } from "../../support/support.ts";
import { WireClient } from "../../support/wire_client.ts";

const [alice, bob] = [person("alice"), person("bob")];

const { server: database, skip } = await tryPostgres();
after(() => database?.stop());
const options = { skip, timeout: 120_000 };

/** What `client` is told with the next `payment.settled`. */
async function nextSettled(client: WireClient): Promise<Json> {
  await until(() => client.notifications.some(({ method }) => method === "payment.settled"));
  const at = client.notifications.findIndex(({ method }) => method === "payment.settled");
  return client.notifications.splice(at, 1)[0]!.params;
}

test(
  "a payment settled at one server is announced to payee and payer at the others",
  options,
  async () => {
    const { world, second, third, alices, stop } = await threeServers(database!);
    const payee = await WireClient.enter(world, bob, "session.login", {}, second.port);
    const payer = await WireClient.enter(world, alice, "session.login", {}, third.port);
    const order = alices.order(alice, bob, { amount: "12.50" });
    await alices.settle(order);
    for (const [client, balance] of [[payee, "10012.50"], [payer, "9987.50"]] as const) {
      const told = await nextSettled(client);
      assert.equal(told.balance, balance);
      assert.equal(told.order, order.order);
      assert.equal((await client.receivedReceipt(told)).payee, "bob");
    }

    const batch = alices.batch(alice, [bob, bob]);
    await alices.settle(batch);
    for (const index of [0, 1]) {
      assert.equal((await payee.receivedReceipt(await nextSettled(payee))).item, index);
    }

    assert.equal((await world.operate("grant", "bob", "1.00")).status, 0);
    const granted = await nextSettled(payee);
    assert.equal(payee.provenEntry(granted).type, "transfer");
    assert.equal(granted.order, undefined);
    assert.deepEqual(await payee.balance(), granted.balance);
    await stop();
  },
);

test("what is settled while a server cannot hear is announced afterwards", options, async () => {
  const { world, url, second, alices, stop } = await threeServers(database!);
  const payee = await WireClient.enter(world, bob, "session.login", {}, second.port);
  const name = new URL(url).pathname.slice(1);
  const end = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = '${name}' AND application_name = 'sealwire listen'`;
  for (let round = 0; round < 3; round++) {
    // A server that starts, or was cut off, listens a little later.
    await until(async () => (await database!.run(end)).length > 0);
    await alices.settle(alices.order(alice, bob, { amount: "1.00" }));
    const told = await nextSettled(payee);
    assert.equal(told.balance, `${10_001 + round}.00`);
  }
  await stop();
});

test(
  "the directory of each server has the listeners of all, and payers find them",
  options,
  async () => {
    const { world, second, third, alices, stop } = await threeServers(database!);
    const at = (port: number, place: number) =>
      WireClient.enter(world, bob, "session.login", presence(place), port);
    const listener = await at(second.port, 4_000);
    const asker = await WireClient.enter(world, alice, "session.login", {}, third.port);
    for (const client of [alices, asker, listener]) {
      assert.deepEqual(await online(client), ["bob"]);
      const { presence } = await client.call("directory.lookup", { account: "bob" });
      assert.equal((presence as Json).port, 4_000);
    }
    const again = await at(third.port, 4_001);
    await until(() => listener.notifications.some(({ method }) => method === "session.displaced"));
    await listener.peer.closed;
    assert.deepEqual(await online(alices), ["bob"]);
    const { presence: found } = await alices.call("directory.lookup", { account: "bob" });
    assert.equal((found as Json).port, 4_001);
    again.close();
    await until(async () => (await online(alices)).length === 0);
    await stop();
  },
);

test("subscribers hear of listeners at other servers", options, async () => {
  const { world, second, stop } = await threeServers(database!);
  const watcher = await WireClient.enter(world, alice, "session.login", { watch: true });
  const listener = await WireClient.enter(
    world,
    bob,
    "session.login",
    presence(4_000),
    second.port,
  );
  const heard = (online: number) =>
    watcher.notifications.some(({ method, params }) =>
      method === "presence.changed" && params.online === online
    );
  await until(() => heard(1));
  listener.close();
  await until(() => heard(0));
  await stop();
});

test(
  "listeners stay online over a crash of the database, which empties the table",
  { ...options, timeout: 180_000 },
  async () => {
    const { server } = await tryPostgres();
    const world = await PaymentWorld.start({ db: await server!.newDatabase() });
    const second = await world.startAnother();
    const alices = await WireClient.enter(world, alice, "account.register");
    const bobs = await WireClient.enter(world, bob, "account.register");
    const listener = await WireClient.enter(
      world,
      bob,
      "session.login",
      presence(4_000),
      second.port,
    );
    await server!.stop("immediate");
    await server!.start();
    const isOnline = async () => (await online(alices)).length === 1;
    await until(() => isOnline().catch(() => false), 2 * RENEW_INTERVAL_MS + 5_000);
    assert.equal(listener.notifications.length, 0);
    bobs.close();
    for (const process of [world.server, second.process]) {
      assert.equal((await process.stop()).status, 0);
    }
    await server!.stop();
  },
);

test(
  "one order sent to three servers at once settles once, and all prove the same entry",
  options,
  async () => {
    const { world, second, third, alices, bobs, stop } = await threeServers(database!);
    const sessions = [
      alices,
      await WireClient.enter(world, alice, "session.login", {}, second.port),
      await WireClient.enter(world, bob, "session.login", {}, third.port),
    ];
    for (let round = 1; round <= 10; round++) {
      const order = alices.order(alice, bob, { amount: "1.00" });
      const answers = await Promise.all(
        sessions.map((session) => session.call("payment.settle", { ...order })),
      );
      const entries = sessions.map((session, at) => session.provenEntry(answers[at]!));
      assert.deepEqual(entries[1], entries[0]);
      assert.deepEqual(entries[2], entries[0]);
      assert.equal(await bobs.balance(), `${10_000 + round}.00`);
    }
    await stop();
  },
);
