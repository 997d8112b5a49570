import assert from "node:assert/strict";
import { copyFileSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { loadAccountKeys } from "../../../lib/keys/key_files.ts";
import type { AccountName } from "../../../lib/keys/rsa.ts";
import { parseAmount } from "../../../lib/protocol/money.ts";
import { PaymentClient } from "../../../lib/payment/client/payer.ts";
import { clientOptions } from "../../support/payment_clients.ts";
import { type Json, jsonLines, PaymentWorld } from "../../support/payment_world.ts";
import { type Outcome, runTool, type ToolProcess } from "../../support/support.ts";
import { Tap, type Verdict } from "../../support/tap.ts";

const SLOW = { timeout: 120_000 };
const POLL_MS = 10;

function errorCode(outcome: Outcome): unknown {
  return (jsonLines(outcome)[0]!.error as Json).code;
}

/** The ledger's files as they are while no server runs: what an operator would back up. */
function copyLedger(world: PaymentWorld, from: string, to: string): void {
  for (const suffix of ["", "-wal", "-shm"]) {
    const path = join(world.folder, to + suffix);
    rmSync(path, { force: true });
    const source = join(world.folder, from + suffix);
    if (existsSync(source)) copyFileSync(source, path);
  }
}

/** A world whose ledger was backed up before alice paid twice, and restored. Dave has been away all the time since. */
async function restoredWorld(): Promise<PaymentWorld> {
  const world = await PaymentWorld.start();
  await world.register("alice", "bob", "dave");
  await world.stop();
  copyLedger(world, "data/ledger.db", "backup.db");
  await world.startServer();
  await world.ask("alice", "pay", "bob", "1");
  await world.ask("alice", "pay", "bob", "2");
  await world.stop();
  copyLedger(world, "backup.db", "data/ledger.db");
  await world.startServer();
  return world;
}

async function requireForked(world: PaymentWorld, name: string, why: RegExp): Promise<void> {
  for (const command of [["balance"], ["pay", "dave", "1"], ["listen"]]) {
    const outcome = await world.client(name, ...command);
    assert.equal(outcome.status, 3, `${command}: ${outcome.stdout}${outcome.stderr}`);
    assert.equal(errorCode(outcome), "ledger_forked");
    assert.match(outcome.stderr, why);
  }
}

test(
  "a ledger replaced by an older backup: whoever saw more stops, whoever did not is served",
  SLOW,
  async () => {
    const world = await restoredWorld();
    await requireForked(world, "alice", /it ends at block 3, and block 5 was seen before/);
    assert.equal((await world.ask("dave", "balance")).balance, "10000.00");
    await world.register("newcomer");
    assert.equal((await world.ask("newcomer", "pay", "dave", "1")).balance, "9999.00");
    await world.stop();
  },
);

test(
  "a second history that has grown past what was seen: whoever saw the first stops, whoever did not is served",
  SLOW,
  async () => {
    const world = await restoredWorld();
    for (let block = 4; block <= 6; block++) await world.ask("dave", "pay", "bob", "1");
    await requireForked(world, "alice", /block 5 is not the one that was seen before/);
    await world.register("newcomer");
    await world.stop();
    assert.equal(jsonLines(await world.operate("audit"))[0]!.valid, true);
  },
);

test("a login is no alarm when a payment settles while it is answered", SLOW, async () => {
  const world = await PaymentWorld.start();
  await world.register("alice", "bob");
  const name = "alice" as AccountName;
  const pair = await loadAccountKeys(world.keysOf(name), name);
  const client = await PaymentClient.open(clientOptions(world, name, { pair }));
  const tap = await Tap.start(world);
  tap.judge = async ({ kind, method }): Promise<Verdict> => {
    if (kind !== "answer" || method !== "session.login") return "pass";
    // The other client of the account, in the same keys folder, now sees a higher block than this answer's.
    const payment = { payee: "bob" as AccountName, amount: parseAmount("1"), memo: null };
    await client.pay({ ...payment, way: "via-server", id: null });
    await client.end();
    return "pass";
  };
  const command = world.clientArgs(name, "balance");
  command[1] = String(tap.port);
  const outcome = await runTool("client.ts", command);
  assert.equal(outcome.status, 0, outcome.stderr);
  await tap.close();
  await world.stop();
});

test(
  "a memory that is damaged is an error that names the file, and not a fresh start",
  SLOW,
  async () => {
    const world = await PaymentWorld.start();
    await world.register("alice");
    const path = join(world.keysOf("alice"), "alice_head.json");
    writeFileSync(path, "{");
    const outcome = await world.client("alice", "balance");
    assert.equal(outcome.status, 1);
    assert.equal(errorCode(outcome), "memory_unreadable");
    assert.ok(outcome.stderr.includes(path));
    await world.stop();
  },
);

function paidEvent({ event }: Json): boolean {
  return event === "paid";
}

/** Waits until the account's client remembers that it has shown entry `seq`. */
async function shownTo(world: PaymentWorld, name: string, seq: number): Promise<void> {
  const path = join(world.keysOf(name), `${name}_shown.json`);
  while (true) {
    const shown = existsSync(path) ? Object.values(JSON.parse(readFileSync(path, "utf8"))) : [];
    if (shown.includes(seq)) return;
    await delay(POLL_MS);
  }
}

/** The payments that a listener has printed until it was stopped. */
async function shownBy(listener: ToolProcess): Promise<unknown[]> {
  const outcome = await listener.stop();
  return jsonLines(outcome).filter(paidEvent).map(({ payment }) => payment);
}

test(
  "a listener that is killed between payments loses none, and shows each once when it starts again",
  SLOW,
  async () => {
    const world = await PaymentWorld.start();
    await world.register("alice", "bob");
    const pay = async () => (await world.ask("alice", "pay", "bob", "1")).payment;
    const first = await world.listen("bob");
    const one = await pay();
    assert.equal((await first.nextJson(paidEvent)).payment, one);
    // A kill between the line and the memory of it would have it shown again: nothing may be missed.
    const opened = 4;
    await shownTo(world, "bob", opened + 1);
    await first.stop("SIGKILL");
    const meanwhile = [await pay(), await pay()];

    const second = await world.listen("bob");
    for (const payment of meanwhile) {
      assert.equal((await second.nextJson(paidEvent)).payment, payment);
    }
    const three = await pay();
    assert.equal((await second.nextJson(paidEvent)).payment, three);
    assert.deepEqual(await shownBy(second), [...meanwhile, three]);

    const third = await world.listen("bob");
    const four = await pay();
    assert.equal((await third.nextJson(paidEvent)).payment, four);
    assert.deepEqual(await shownBy(third), [four]);
    await world.stop();
  },
);

test(
  "a listener outlives the server: it comes back online and shows what came meanwhile, once",
  SLOW,
  async () => {
    const world = await PaymentWorld.start();
    await world.register("alice", "bob");
    const bob = await world.listen("bob");
    const paid: unknown[] = [];
    for (const signal of ["SIGKILL", "SIGTERM"] as const) {
      await world.server.stop(signal);
      await world.startServer();
      // Bob's client may be back before this or after it.
      paid.push((await world.ask("alice", "pay", "bob", "1")).payment);
      assert.equal((await bob.nextJson(paidEvent)).payment, paid.at(-1));
    }
    const direct = await world.ask("alice", "pay", "bob", "1");
    assert.equal(direct.path, "direct");
    assert.equal((await bob.nextJson(paidEvent)).payment, direct.payment);
    assert.deepEqual(await shownBy(bob), [...paid, direct.payment]);
    await world.stop();
  },
);
