/**
 * Two PostgreSQL nodes with streaming replication: the primary is killed under load, and the standby promoted. Servers reach
 * the database by an address that moves, as a proxy or a virtual address does.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Person, person } from "../../support/fixtures.ts";
import { errorCode, jsonLines, PaymentWorld } from "../../support/payment_world.ts";
import { PostgresServer } from "../../support/postgres.ts";
import { runTool, until } from "../../support/support.ts";
import { WireClient } from "../../support/wire_client.ts";

const [alice, bob] = [person("alice"), person("bob")];

/** Debian's. The npm package has no pg_basebackup. */
const INSTALLED = "/usr/lib/postgresql";
const binaries = existsSync(INSTALLED)
  ? readdirSync(INSTALLED).map((version) => join(INSTALLED, version, "bin"))
    .find((folder) => existsSync(join(folder, "pg_basebackup")))
  : undefined;
const skip = binaries === undefined ? `no PostgreSQL in ${INSTALLED}` : false;
const options = { skip, timeout: 240_000 };
const WAIT_MS = 30_000;
const POLL_MS = 100;

/** An address of the database that can be moved to another machine. */
class MovingAddress {
  private readonly sockets = new Set<Socket>();

  private constructor(private readonly server: Server, public target: number) {}

  static async at(target: number): Promise<MovingAddress> {
    const server = createServer((client) => {
      const database = connect(address.target, "127.0.0.1");
      for (const socket of [client, database]) {
        address.sockets.add(socket);
        socket.on("error", () => {}).on("close", () => {
          address.sockets.delete(socket);
          client.destroy();
          database.destroy();
        });
      }
      client.pipe(database).pipe(client);
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = new MovingAddress(server, target);
    return address;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  moveTo(target: number): void {
    this.target = target;
    for (const socket of this.sockets) socket.destroy();
  }

  close(): void {
    this.server.close();
    this.moveTo(this.target);
  }
}

/** A primary with its standby, and two servers on them with accounts of alice and bob. */
async function pairOfNodes() {
  const primary = await PostgresServer.start({ binaries: binaries! });
  const url = await primary.newDatabase();
  const standby = await primary.startStandby();
  const address = await MovingAddress.at(primary.port);
  const world = await PaymentWorld.start({
    db: url.replace(`:${primary.port}/`, `:${address.port}/`),
  });
  const second = await world.startAnother();
  const payer = await WireClient.enter(world, alice, "account.register");
  (await WireClient.enter(world, bob, "account.register")).close();
  const isReplicated = async () => {
    const [row] = await primary.run(
      "SELECT count(*)::integer AS behind FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_lsn()",
    );
    return row!.behind === 1;
  };
  const failOver = async () => {
    await primary.stop("immediate");
    await standby.run("ALTER SYSTEM SET synchronous_standby_names = ''");
    await standby.run("SELECT pg_reload_conf()");
    await standby.promote();
    address.moveTo(standby.port);
  };
  const close = async () => {
    await world.server.stop("SIGKILL");
    await second.process.stop("SIGKILL");
    address.close();
    await standby.stop("immediate");
  };
  return { primary, standby, world, second, payer, isReplicated, failOver, close };
}

async function pay(payer: WireClient): Promise<void> {
  await payer.settle(payer.order(alice, bob, { amount: "1.00" }));
}

/** The code of the refusal, once it is not that the database is away; null when the payment is settled. */
async function codeOfPayment(
  by: WireClient,
  [payer, payee]: readonly [Person, Person] = [alice, bob],
): Promise<string | null> {
  const order = by.order(payer, payee, { amount: "1.00" });
  let code: string | null = "store_unavailable";
  await until(
    async () => {
      code = await by.settle(order).then(() => null, (error) => (error as { code: string }).code);
      return code !== "store_unavailable";
    },
    WAIT_MS,
    POLL_MS,
  );
  return code;
}

async function startCode(world: PaymentWorld, ...more: string[]): Promise<string> {
  const files = ["--keys", world.serverKeys, "--db", world.db];
  const outcome = await runTool("server.ts", [
    "0",
    "--host",
    "127.0.0.1",
    "--json",
    ...files,
    ...more,
  ]);
  return errorCode(outcome);
}

test(
  "synchronous: servers go on by themselves, and nothing acknowledged is missing",
  options,
  async () => {
    const { primary, world, second, payer, failOver, close } = await pairOfNodes();
    await primary.run("ALTER SYSTEM SET synchronous_standby_names = '*'");
    await primary.run("SELECT pg_reload_conf()");
    let [paid, unknown, isDone] = [0, 0, false];
    const paying = (async () => {
      while (!isDone) {
        await pay(payer).then(() => paid++, () => unknown++);
        await sleep(5);
      }
    })();
    await sleep(2_000);
    const before = paid;
    assert.ok(before > 10, `${before} payments before`);
    await failOver();
    await until(() => Promise.resolve(paid > before + 10), WAIT_MS, POLL_MS);
    isDone = true;
    await paying;
    // The other server goes on too.
    const other = await WireClient.enter(world, bob, "session.login", {}, second.port);
    await other.settle(other.order(bob, alice, { amount: "1.00" }));
    const received = Number(await other.balance()) - 10_000 + 1;
    assert.ok(
      received >= paid && received <= paid + unknown,
      `${received} of ${paid} + ${unknown}`,
    );
    assert.equal(jsonLines(await world.operate("audit"))[0]!.valid, true);
    await close();
  },
);

test(
  "asynchronous with nothing missing: payments pause until one server accepts",
  options,
  async () => {
    const { world, second, payer, isReplicated, failOver, close } = await pairOfNodes();
    await pay(payer);
    await until(isReplicated, WAIT_MS, POLL_MS);
    await failOver();
    assert.equal(await codeOfPayment(payer), "failover_pending");
    // Reading goes on.
    await until(
      () => payer.balance().then((balance) => balance === "9999.00", () => false),
      WAIT_MS,
      POLL_MS,
    );
    const other = await WireClient.enter(world, bob, "session.login", {}, second.port);
    assert.equal(await codeOfPayment(other, [bob, alice]), "failover_pending");
    await world.server.stop();
    const anchor = await runTool("server.ts", ["anchor", "--json", "--keys", world.serverKeys]);
    const audited = jsonLines(await world.operate("audit"))[0]!;
    assert.equal(jsonLines(anchor)[0]!.root, audited.root);
    await world.startServer({ more: ["--accept-failover"] });
    await other.settle(other.order(bob, alice, { amount: "1.00" }));
    await pay(await WireClient.enter(world, alice));
    await close();
  },
);

test(
  "asynchronous with missing commits: nothing is extended until the operator accepts the loss",
  options,
  async () => {
    const { standby, world, second, payer, isReplicated, failOver, close } = await pairOfNodes();
    await pay(payer);
    await until(isReplicated, WAIT_MS, POLL_MS);
    // The standby stops receiving.
    await standby.run("ALTER SYSTEM SET primary_conninfo = ''");
    await standby.run("SELECT pg_reload_conf()");
    await sleep(1_000);
    await pay(payer);
    await pay(payer);
    await sleep(1_500);
    await failOver();
    assert.equal(await codeOfPayment(payer), "ledger_rolled_back");
    await world.server.stop();
    await second.process.stop();
    assert.equal(await startCode(world), "ledger_rolled_back");
    assert.equal(await startCode(world, "--accept-failover"), "ledger_rolled_back");
    assert.equal(await startCode(world, "--accept-rollback"), "failover_pending");
    await world.startServer({ more: ["--accept-rollback", "--accept-failover"] });
    const again = await WireClient.enter(world, alice);
    assert.equal(await again.balance(), "9999.00");
    await pay(again);
    const audited = jsonLines(await world.operate("audit"))[0]!;
    assert.equal(audited.valid, true);
    await close();
  },
);
