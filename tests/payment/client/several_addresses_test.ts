/** A client that is given several addresses goes on at the next when a server dies, in the middle of a payment too. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { after, describe, test } from "node:test";
import { parseAddresses } from "../../../lib/payment/client/commands_addresses.ts";
import { jsonLines, PaymentWorld } from "../../support/payment_world.ts";
import { tryPostgres } from "../../support/postgres.ts";
import { runTool } from "../../support/support.ts";

const { server: database, skip } = await tryPostgres();
after(() => database?.stop());
const options = { skip, timeout: 180_000 };

const HOST = "127.0.0.1";

describe("the addresses of <host> and <port>", () => {
  const taken: readonly [string, string, string][] = [
    ["localhost", "8080", "localhost 8080"],
    ["pay1.example,pay2.example:8081", "8080", "pay1.example 8080, pay2.example 8081"],
    ["::1", "8080", "::1 8080"],
    ["[::1]:8081,[fe80::2],127.0.0.1:1", "8080", "::1 8081, fe80::2 8080, 127.0.0.1 1"],
  ];
  for (const [hosts, port, expected] of taken) {
    test(`${hosts} ${port} are read`, () => {
      const addresses = parseAddresses(hosts, port).map(({ host, port }) => `${host} ${port}`);
      assert.equal(addresses.join(", "), expected);
    });
  }
  const refused = [
    "",
    "a,",
    ",a",
    "a:",
    "a:x",
    "a:70000",
    "a:0",
    "a b",
    "[::1",
    new Array(17).fill("a").join(),
  ];
  for (const hosts of refused) {
    test(`"${hosts}" is refused`, () => {
      assert.throws(() => parseAddresses(hosts, "8080"), { code: "usage" });
    });
  }
});

/** Stands before a server, and dies when a client has sent so many pieces. */
async function dyingProxy(target: number, pieces: number): Promise<number> {
  const sockets = new Set<Socket>();
  let seen = 0;
  const proxy = createServer((client) => {
    const server = connect(target, HOST);
    for (const socket of [client, server]) {
      sockets.add(socket);
      socket.on("error", () => {}).on("close", () => {
        client.destroy();
        server.destroy();
      });
    }
    server.pipe(client);
    client.on("data", (bytes) => {
      server.write(bytes);
      if (++seen < pieces) return;
      proxy.close();
      // The server has the last piece, and nobody hears what it answers.
      client.destroy();
      setTimeout(() => sockets.forEach((socket) => socket.destroy()), 50);
    });
  }).listen(0, HOST);
  await once(proxy, "listening");
  return (proxy.address() as AddressInfo).port;
}

test("a payment goes on at the next server, wherever the first one dies", options, async () => {
  const world = await PaymentWorld.start({ db: await database!.newDatabase() });
  const second = await world.startAnother();
  await world.register("alice", "bob");
  for (let pieces = 1; pieces <= 10; pieces++) {
    const port = await dyingProxy(world.port, pieces);
    world.address = [`${HOST},${HOST}:${second.port}`, String(port)];
    const paid = await world.ask("alice", "pay", "bob", "1.00", "--timeout", "20");
    assert.equal(paid.balance, `${10_000 - pieces}.00`, `after ${pieces} pieces`);
  }
  world.address = null;
  const history = jsonLines(await world.client("bob", "history"));
  assert.equal(history.filter(({ payer }) => payer === "alice").length, 10);
  assert.equal((await second.process.stop()).status, 0);
  assert.equal((await world.stop()).status, 0);
});

test("a listener comes back at the next server and is told what it was paid", options, async () => {
  const world = await PaymentWorld.start({ db: await database!.newDatabase() });
  const second = await world.startAnother();
  await world.register("alice", "bob");
  const both = `${HOST}:${second.port},${HOST}`;
  world.address = [both, String(world.port)];
  const listener = await world.listen("bob");
  await world.ask("alice", "pay", "bob", "1.00");
  await listener.nextJson(({ event, amount }) => event === "paid" && amount === "1.00");
  await second.process.stop("SIGKILL");
  await world.ask("alice", "pay", "bob", "2.00");
  const paid = await listener.nextJson(({ event }) => event === "paid");
  assert.deepEqual([paid.amount, paid.balance], ["2.00", "10003.00"]);
  assert.equal((await listener.stop("SIGINT")).status, 130);
  assert.equal((await world.stop()).status, 0);
});

test(
  "an address of another server is no way round, and no cancel is sent there",
  options,
  async () => {
    const [world, other] = await Promise.all([
      PaymentWorld.start({ db: await database!.newDatabase() }),
      PaymentWorld.start(),
    ]);
    await world.register("alice", "bob");
    const port = await dyingProxy(world.port, 6);
    world.address = [`${HOST},${HOST}:${other.port}`, String(port)];
    const outcome = await world.client("alice", "pay", "bob", "1.00", "--timeout", "6");
    assert.equal(outcome.status, 3, JSON.stringify(outcome));
    const files = ["--json", "--keys", other.serverKeys, "--db", other.db];
    assert.equal(jsonLines(await runTool("server.ts", ["audit", ...files]))[0]!.entries, 1);
    for (const one of [world, other]) assert.equal((await one.stop()).status, 0);
  },
);
