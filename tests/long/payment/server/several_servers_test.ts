/**
 * Three servers on one PostgreSQL, and many clients that pay at random, while servers are killed and restarted, backends
 * are ended, and the database is restarted. Nothing acknowledged is lost, nothing is paid twice, and there is one history.
 */
import assert from "node:assert/strict";
import { randomInt, randomUUID } from "node:crypto";
import process from "node:process";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { isSealwireError } from "../../../../lib/base/errors.ts";
import type { Uuid } from "../../../../lib/base/parse.ts";
import { parseAccountName } from "../../../../lib/keys/rsa.ts";
import { PaymentClient } from "../../../../lib/payment/client/payer.ts";
import { parseAmount } from "../../../../lib/protocol/money.ts";
import { clientOptions } from "../../../support/payment_clients.ts";
import { jsonLines, PaymentWorld } from "../../../support/payment_world.ts";
import { type PostgresServer, tryPostgres } from "../../../support/postgres.ts";
import type { ToolProcess } from "../../../support/support.ts";

const CLIENTS = 24;
const RUN_S = Number(process.env.SEALWIRE_CHAOS_S ?? 25);
const CHAOS_PAUSE_MS = 2_000;
/** The clients share this process, and the database and the servers the machine. */
const PAUSE_MS_MAX = 200;
const TIMEOUT_MS = 60_000;

/** Of one attempt to pay; `unknown`: the order waits in the outbox. */
type Known = "paid" | "not paid" | "unknown";

class Cluster {
  private readonly servers: { process: ToolProcess; port: number }[] = [];

  private constructor(readonly world: PaymentWorld, private readonly database: PostgresServer) {}

  static async start(database: PostgresServer): Promise<Cluster> {
    const world = await PaymentWorld.start({ db: await database.newDatabase() });
    const cluster = new Cluster(world, database);
    cluster.servers.push({ process: world.server, port: world.port });
    for (let more = 0; more < 2; more++) cluster.servers.push(await world.startAnother());
    return cluster;
  }

  /** The servers' addresses, beginning with the one whose turn it is. */
  addresses(first: number): { host: string; port: number }[] {
    return this.servers.map((_, at) => ({
      host: "127.0.0.1",
      port: this.servers[(first + at) % this.servers.length]!.port,
    }));
  }

  async disturb(round: number): Promise<void> {
    if (round % 4 === 1) {
      await this.database.run(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE application_name LIKE 'sealwire %' AND random() < 0.5`,
      );
    } else if (round % 4 === 3) {
      await this.database.stop(round % 8 === 3 ? "immediate" : "fast");
      await this.database.start();
    } else {
      await this.restart(randomInt(this.servers.length));
    }
  }

  private async restart(at: number): Promise<void> {
    const { process, port } = this.servers[at]!;
    await process.stop("SIGKILL");
    this.servers[at] = await this.world.startAnother(port);
  }

  async stop(): Promise<void> {
    for (const { process } of this.servers) assert.equal((await process.stop()).status, 0);
  }
}

const nameOf = (at: number) => `person${at}`;

function optionsOf(cluster: Cluster, at: number) {
  const [first, ...otherAddresses] = cluster.addresses(at);
  return clientOptions(cluster.world, nameOf(at), {
    ...first!,
    otherAddresses,
    timeout_ms: TIMEOUT_MS,
  });
}

/** Pays until `until_ms`, and gives what it knows of each attempt. */
async function payAtRandom(
  client: PaymentClient,
  at: number,
  until_ms: number,
): Promise<Map<Uuid, Known>> {
  const known = new Map<Uuid, Known>();
  while (performance.now() < until_ms) {
    const id = randomUUID() as Uuid;
    const payee = parseAccountName(nameOf((at + 1 + randomInt(CLIENTS - 1)) % CLIENTS));
    const amount = parseAmount(`0.0${1 + randomInt(9)}`);
    try {
      await client.pay({ payee, amount, memo: null, way: "via-server", id });
      known.set(id, "paid");
    } catch (error) {
      assert.ok(isSealwireError(error), String(error));
      known.set(id, client.outbox.get(id) === null ? "not paid" : "unknown");
      // The session is lost, or all servers were away at once.
      await client.replace(client.session).catch(() => {});
    }
    await sleep(randomInt(PAUSE_MS_MAX));
  }
  return known;
}

const { server: database, skip } = await tryPostgres();

test(
  `${CLIENTS} clients pay at three servers for ${RUN_S} s while all is killed in turn`,
  { skip, timeout: 600_000 },
  async () => {
    const cluster = await Cluster.start(database!);
    const clients = await Promise.all(
      Array.from(
        { length: CLIENTS },
        (_, at) => PaymentClient.open(optionsOf(cluster, at), { register: true }),
      ),
    );
    const until_ms = performance.now() + RUN_S * 1_000;
    const paying = Promise.all(clients.map((client, at) => payAtRandom(client, at, until_ms)));
    let disturbances = 0;
    while (performance.now() < until_ms - CHAOS_PAUSE_MS) {
      await sleep(CHAOS_PAUSE_MS);
      await cluster.disturb(disturbances++);
    }
    const known = await paying;
    // A session that has been cut off cannot say goodbye.
    await Promise.allSettled(clients.map((client) => client.end()));

    let paid = 0;
    let sent = 0n;
    let received = 0n;
    for (let at = 0; at < CLIENTS; at++) {
      // Login links what this client remembers to the server's log.
      const client = await PaymentClient.open(optionsOf(cluster, at));
      await client.resolveOutbox();
      assert.deepEqual([...client.outbox.all()], []);
      const ids: string[] = [];
      let balance = 0n;
      for await (const row of client.session.history(0)) {
        const amount = parseAmount(row.amount);
        const isPayer = row.payer === nameOf(at);
        balance += isPayer ? -amount : amount;
        if (isPayer) sent += amount;
        else if (row.payer !== "@treasury") received += amount;
        if (isPayer) ids.push(row.payment);
      }
      assert.equal(new Set(ids).size, ids.length, "nothing is paid twice");
      const attempts = known[at]!;
      for (const [id, what] of attempts) {
        if (what === "paid") assert.ok(ids.includes(id), `${id} was acknowledged and is missing`);
        if (what === "not paid") assert.ok(!ids.includes(id), `${id} was refused and is paid`);
      }
      for (const id of ids) assert.ok(attempts.has(id as Uuid), `${id} was never asked for`);
      assert.equal(parseAmount(await client.session.currentBalance()), balance);
      paid += ids.length;
      await client.end();
    }
    assert.equal(sent, received);
    await cluster.stop();
    const audited = jsonLines(await cluster.world.operate("audit"))[0]!;
    assert.equal(audited.valid, true, JSON.stringify(audited));
    assert.equal(audited.accounts, CLIENTS);
    await database!.stop();
    assert.ok(disturbances > 4 && paid > 100, `${paid} payments, ${disturbances} disturbances`);
    console.log(`${paid} payments over ${disturbances} disturbances`);
  },
);
