import assert from "node:assert/strict";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { loadAccountKeys, loadServerPublicKey } from "../../../lib/keys/key_files.ts";
import type { AccountName } from "../../../lib/keys/rsa.ts";
import { parseAmount } from "../../../lib/protocol/money.ts";
import { PaymentClient } from "../../../lib/payment/client/payer.ts";
import { clientOptions } from "../../support/payment_clients.ts";
import { errorCode, type Json, jsonLines, PaymentWorld } from "../../support/payment_world.ts";
import { runTool, type ToolProcess } from "../../support/support.ts";
import { Tap, type Verdict } from "../../support/tap.ts";

const SLOW = { timeout: 120_000 };
const POLL_MS = 10;

function checkpointPath(world: PaymentWorld, name: string): string {
  const { thumbprint } = loadServerPublicKey(join(world.serverKeys, "server_public.pem"));
  return join(world.keysOf(name), `checkpoint_${thumbprint}.txt`);
}

/** Entries in the newest checkpoint that the account's keys folder remembers. */
function rememberedSize(world: PaymentWorld, name: string): number {
  return Number(readFileSync(checkpointPath(world, name), "utf8").split("\n")[1]);
}

const LEDGER_FILES = ["ledger.db", "ledger.db-wal", "ledger.db-shm"];

/** The ledger's files as they are while no server runs: what an operator would back up. */
function copyLedger(from: string, to: string): void {
  mkdirSync(to, { recursive: true });
  for (const name of LEDGER_FILES) {
    rmSync(join(to, name), { force: true });
    if (existsSync(join(from, name))) copyFileSync(join(from, name), join(to, name));
  }
}

/**
 * Alice, bob and dave have accounts: 7 entries. Then alice pays bob twice, and a copy from before
 * is put back.
 */
async function rolledBackWorld(): Promise<PaymentWorld> {
  const world = await PaymentWorld.start();
  await world.register("alice", "bob", "dave");
  const [data, backup] = [join(world.db, ".."), join(world.folder, "backup")];
  await world.stop();
  copyLedger(data, backup);
  copyFileSync(anchorPath(world), join(backup, "anchor.txt"));
  await world.startServer();
  await world.ask("alice", "pay", "bob", "1");
  await world.ask("alice", "pay", "bob", "2");
  await world.stop();
  copyLedger(backup, data);
  return world;
}

function anchorPath(world: PaymentWorld): string {
  return join(world.serverKeys, "server_anchor.txt");
}

/**
 * As {@linkcode rolledBackWorld}, by an operator who hides it: with a server that notices nothing.
 */
async function secretlyRolledBackWorld(): Promise<PaymentWorld> {
  const world = await rolledBackWorld();
  copyFileSync(join(world.folder, "backup", "anchor.txt"), anchorPath(world));
  await world.startServer();
  return world;
}

/**
 * Every command of someone who saw more than the server shows stops; what was seen stays
 * remembered.
 */
async function requireStopped(world: PaymentWorld, name: string, code: string): Promise<string[]> {
  const before = readFileSync(checkpointPath(world, name), "utf8");
  const outcomes = [];
  for (const command of [["balance"], ["pay", "dave", "1"], ["listen"]]) {
    outcomes.push(world.client(name, ...command));
  }
  const evidence = (await Promise.all(outcomes)).map((outcome) => {
    assert.equal(outcome.status, 3, JSON.stringify(outcome));
    assert.equal(errorCode(outcome), code);
    return String(jsonLines(outcome)[0]!.evidence);
  });
  assert.equal(readFileSync(checkpointPath(world, name), "utf8"), before);
  return evidence;
}

async function judge(evidence: string): Promise<Json> {
  const outcome = await runTool("client.ts", ["verify-fork", evidence, "--json"]);
  assert.equal(outcome.status, 0, outcome.stderr);
  return jsonLines(outcome)[0]!;
}

test(
  "a ledger replaced by an older one in secret: clients that saw more stop, the others are served",
  SLOW,
  async () => {
    const world = await secretlyRolledBackWorld();
    assert.equal((await world.ask("dave", "pay", "bob", "1")).balance, "9999.00");
    for (const evidence of await requireStopped(world, "alice", "ledger_not_linked")) {
      const { proven, from, to } = await judge(evidence);
      assert.deepEqual([proven, from, to], [false, 8, 9]);
    }
    assert.equal((await world.ask("dave", "balance")).balance, "9999.00");
    await world.stop();
  },
);

test(
  "a second history of the size that was seen is proven to be a fork, to anyone",
  SLOW,
  async () => {
    const world = await secretlyRolledBackWorld();
    for (let entry = 7; entry < 9; entry++) await world.ask("dave", "pay", "bob", "1");
    assert.equal(rememberedSize(world, "dave"), rememberedSize(world, "alice"));
    for (const evidence of await requireStopped(world, "alice", "ledger_forked")) {
      const { proven, size } = await judge(evidence);
      assert.deepEqual([proven, size], [true, 9]);
    }
    await world.stop();
  },
);

test(
  "a second history that has grown past what was seen: clients that saw the first stop",
  SLOW,
  async () => {
    const world = await secretlyRolledBackWorld();
    for (let entry = 7; entry < 10; entry++) await world.ask("dave", "pay", "bob", "1");
    for (const evidence of await requireStopped(world, "alice", "ledger_not_linked")) {
      const { proven, from, to } = await judge(evidence);
      assert.deepEqual([proven, from, to], [false, 9, 10]);
    }
    await world.stop();
  },
);

test(
  "an operator who says that entries were lost: their payers stop, hear which payments, and go on when they say so",
  SLOW,
  async () => {
    const world = await rolledBackWorld();
    // Alice's receipts are in her keys folder; bob saw nothing of what was lost.
    const receipts = join(world.keysOf("alice"), "alice_receipts");
    const lost = readdirSync(receipts).sort().map((name) => join(receipts, name));
    assert.equal(lost.length, 2);
    await world.startServer({ more: ["--accept-rollback"] });
    await requireStopped(world, "alice", "ledger_rolled_back");
    assert.equal((await world.ask("bob", "balance")).balance, "10000.00");

    const accept = ["servers", "accept-rollback", "127.0.0.1", String(world.port), "--as", "alice"];
    const keys = ["--json", "--keys", world.keysOf("alice")];
    const accepted = await runTool("client.ts", [...accept, ...keys]);
    assert.equal(accepted.status, 0, accepted.stderr);
    assert.deepEqual(jsonLines(accepted), [
      { accepted: true, kept_size: 7, lost_size: 9, lost_receipts: lost },
    ]);
    const again = await runTool("client.ts", [...accept, ...keys]);
    assert.deepEqual(jsonLines(again), [{ accepted: false }]);
    assert.equal((await world.ask("alice", "pay", "bob", "3")).balance, "9997.00");
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
    // The other client of the account, in the same keys folder, now sees a longer ledger than this
    // answer's.
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
  "several processes of one keys folder remember one checkpoint, which never goes back",
  SLOW,
  async () => {
    const world = await PaymentWorld.start();
    const folder = world.keysOf("alice");
    const as = (name: string, ...args: string[]) =>
      runTool("client.ts", [
        ...["127.0.0.1", String(world.port), ...args, "--as", name, "--json", "--keys", folder],
      ]);
    const people = ["alice", "bob", "carol", "dave"];
    for (const name of people) assert.equal((await as(name, "register")).status, 0);
    let size = rememberedSize(world, "alice");
    let done = false;
    const watching = (async () => {
      while (!done) {
        const now = rememberedSize(world, "alice");
        assert.ok(now >= size, `${now} after ${size}`);
        size = now;
        await delay(1);
      }
    })();
    const runs = people.flatMap((payer, index) => {
      const payee = people[(index + 1) % people.length]!;
      return [as(payer, "pay", payee, "1"), as(payer, "pay", payee, "2", "--via-server")];
    });
    const outcomes = await Promise.all(runs);
    done = true;
    await watching;
    for (const outcome of outcomes) assert.equal(outcome.status, 0, JSON.stringify(outcome));
    // One of them at least ended when all had paid, or linked after it.
    assert.equal((await as("alice", "balance")).status, 0);
    assert.equal(rememberedSize(world, "alice"), 1 + 2 * people.length + runs.length);
    const files = readdirSync(folder).filter((name) => name.startsWith("checkpoint_"));
    const [path] = [checkpointPath(world, "alice").split("/").at(-1)!];
    assert.deepEqual(files.sort(), [path, `${path}.lock`]);
    await world.stop();
  },
);

test(
  "a memory that is damaged is an error that names the file, and not a fresh start",
  SLOW,
  async () => {
    const world = await PaymentWorld.start();
    await world.register("alice");
    const path = checkpointPath(world, "alice");
    const sound = readFileSync(path, "utf8");
    for (const text of ["", "{", sound.replace("\n3\n", "\n2\n"), sound.slice(0, -10)]) {
      writeFileSync(path, text);
      const outcome = await world.client("alice", "balance");
      assert.equal(outcome.status, 1);
      assert.equal(errorCode(outcome), "memory_unreadable");
      assert.ok(outcome.stderr.includes(path));
      assert.equal(readFileSync(path, "utf8"), text);
    }
    await world.stop();
  },
);

function paidEvent({ event }: Json): boolean {
  return event === "paid";
}

/** Waits until the account's client remembers that it has shown entry `index`. */
async function shownTo(world: PaymentWorld, name: string, index: number): Promise<void> {
  const path = join(world.keysOf(name), `${name}_shown.json`);
  while (true) {
    const shown = existsSync(path) ? JSON.parse(readFileSync(path, "utf8")).servers : {};
    if (Object.values(shown).includes(index)) return;
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
    // A kill between the line and the memory of it would have it shown again: nothing may be
    // missed.
    await shownTo(world, "bob", 5);
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
  "a listener that is killed amid the payments of one batch shows all of them when it starts again",
  SLOW,
  async () => {
    const world = await PaymentWorld.start();
    await world.register("alice", "bob");
    const file = join(world.folder, "batch.csv");
    const items = 200;
    writeFileSync(file, "bob,0.01\n".repeat(items));
    const batch = jsonLines(await world.client("alice", "pay", "--batch", file));
    const payments = batch.map(({ payment }) => payment);
    assert.equal(payments.length, items);
    const killed = await world.listen("bob");
    assert.equal((await killed.nextJson(paidEvent)).payment, payments[0]);
    await killed.stop("SIGKILL");
    const path = join(world.keysOf("bob"), "bob_shown.json");
    const remembered = existsSync(path) ? readFileSync(path, "utf8") : "";
    const listener = await world.listen("bob");
    if (remembered.includes(": 5")) {
      // It was faster than the kill.
      await world.ask("alice", "pay", "bob", "1");
      await listener.nextJson(paidEvent);
      assert.equal((await shownBy(listener)).length, 1);
    } else {
      await shownTo(world, "bob", 5);
      assert.deepEqual(await shownBy(listener), payments);
    }
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
