/**
 * What becomes of a payment's id: `pay --id` run again, orders that an earlier run left behind, and
 * cancels.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Uuid } from "../../../lib/base/parse.ts";
import type { AccountName } from "../../../lib/keys/rsa.ts";
import { signCancel } from "../../../lib/protocol/cancel.ts";
import { makeSessionKey } from "../../../lib/protocol/delegation.ts";
import { ClientSession } from "../../../lib/payment/client/session.ts";
import { loadAccountKeys } from "../../../lib/keys/key_files.ts";
import { now_s } from "../../support/fixtures.ts";
import { clientOptions } from "../../support/payment_clients.ts";
import { type Json, jsonLines, PaymentWorld } from "../../support/payment_world.ts";
import { type Outcome, runTool } from "../../support/support.ts";
import { Tap } from "../../support/tap.ts";

const OPTIONS = { timeout: 120_000 };
const ALICE = "alice" as AccountName;

let world: PaymentWorld;
let tap: Tap;
let batches = 0;

before(async () => {
  world = await PaymentWorld.start();
  await world.register("alice", "bob", "carol");
  tap = await Tap.start(world);
}, OPTIONS);

after(async () => {
  await tap.close();
  await world.stop();
  assert.equal(jsonLines(await world.operate("audit"))[0]!.valid, true);
}, OPTIONS);

function alice(...args: string[]): Promise<Outcome> {
  return world.client("alice", ...args);
}

function batchFile(...lines: string[]): string {
  const path = join(world.folder, `batch${batches++}.csv`);
  writeFileSync(path, lines.join("\n") + "\n");
  return path;
}

async function balance(): Promise<number> {
  return Number((await world.ask("alice", "balance")).balance);
}

function outbox(): string[] {
  return readdirSync(join(world.keysOf("alice"), "alice_outbox")).filter((name) =>
    name.endsWith(".json")
  );
}

function assertPaid(outcome: Outcome, ...payments: string[]): void {
  assert.equal(outcome.status, 0, JSON.stringify(outcome));
  assert.deepEqual(jsonLines(outcome).map(({ payment }) => payment), payments);
}

function assertRefused(outcome: Outcome, code: string, id: string, status = 1): void {
  assert.equal(outcome.status, status, JSON.stringify(outcome));
  const { error, payment } = jsonLines(outcome)[0]!;
  assert.deepEqual([(error as Json).code, payment], [code, id]);
}

/**
 * Runs alice's `pay` until its order is in the outbox and the server is out of reach; what the
 * server then knows.
 */
async function payAndLoseTheServer(
  reached: "settled" | "unheard",
  ...args: string[]
): Promise<void> {
  tap.judge = ({ kind, method }) => {
    const now = kind === (reached === "settled" ? "answer" : "request");
    if (!now || method !== "payment.settle") return "pass";
    tap.bar();
    return "lose";
  };
  const command = world.clientArgs("alice", "pay", ...args, "--timeout", "2");
  command[1] = String(tap.port);
  const outcome = await runTool("client.ts", command);
  tap.judge = () => "pass";
  tap.unbar();
  assertRefused(outcome, "outcome_unknown", args[args.indexOf("--id") + 1]!, 3);
  assert.equal(outbox().length, 1);
}

/** Cancels `id` by a session of alice's that has nothing to do with her client. */
async function cancel(id: string): Promise<string> {
  const pair = await loadAccountKeys(world.keysOf("alice"), ALICE);
  const sessionKey = makeSessionKey();
  const session = await ClientSession.open({
    ...clientOptions(world, "alice", { pair }),
    sessionKey,
  });
  const claims = {
    id: id as Uuid,
    server: session.server.thumbprint,
    payer: ALICE,
    iat: now_s(),
  };
  const { state } = await session.cancel(await signCancel(claims, sessionKey));
  await session.end();
  return state;
}

describe("pay --id, run again", () => {
  for (const reached of ["settled", "unheard"] as const) {
    test(`pays once when the server was lost with the order ${reached}`, OPTIONS, async () => {
      const [id, had] = [randomUUID(), await balance()];
      const command = ["bob", "4", "--id", id];
      await payAndLoseTheServer(reached, ...command);
      for (let time = 0; time < 2; time++) assertPaid(await alice("pay", ...command), id);
      assert.equal(await balance(), had - 4);
      assert.deepEqual(outbox(), []);
    });
  }

  test(
    "refuses another payment under an id that is in the outbox, and pays the first",
    OPTIONS,
    async () => {
      const [id, had] = [randomUUID(), await balance()];
      await payAndLoseTheServer("unheard", "bob", "4", "--id", id);
      assertRefused(await alice("pay", "carol", "4", "--id", id), "order_conflict", id);
      assertRefused(await alice("pay", "bob", "5", "--id", id), "order_conflict", id);
      assertPaid(await alice("pay", "bob", "4.00", "--id", id), id);
      assert.equal(await balance(), had - 4);
    },
  );

  test(
    "says cancelled for ever once the payer has cancelled, and pays nothing",
    OPTIONS,
    async () => {
      const [id, had] = [randomUUID(), await balance()];
      assert.equal(await cancel(id), "cancelled");
      assert.equal(await cancel(id), "cancelled");
      for (let time = 0; time < 2; time++) {
        assertRefused(await alice("pay", "bob", "4", "--id", id), "cancelled", id);
      }
      const file = batchFile("bob,4");
      assertRefused(await alice("pay", "--batch", file, "--id", id), "cancelled", id);
      assert.equal(await balance(), had);
    },
  );

  test(
    "says cancelled for an order in the outbox that another session has cancelled",
    OPTIONS,
    async () => {
      const [id, had] = [randomUUID(), await balance()];
      await payAndLoseTheServer("unheard", "bob", "4", "--id", id);
      assert.equal(await cancel(id), "cancelled");
      const next = await alice("pay", "bob", "4", "--id", id);
      assertRefused(next, "cancelled", id);
      assert.match(
        next.stderr,
        new RegExp(`payment ${id} of 4\\.00 to bob, left unfinished before, is not paid`),
      );
      assert.deepEqual(outbox(), []);
      assert.equal(await balance(), had);
    },
  );

  test(
    "pays a batch once, and refuses another batch or a single payment under its id",
    OPTIONS,
    async () => {
      const [id, had] = [randomUUID(), await balance()];
      const file = batchFile("bob,1", "carol,2");
      for (let time = 0; time < 2; time++) {
        assertPaid(await alice("pay", "--batch", file, "--id", id), `${id}/0`, `${id}/1`);
      }
      assert.equal(await balance(), had - 3);
      for (const other of [["bob,1", "carol,3"], ["carol,2", "bob,1"], ["bob,1"], ["bob,3"]]) {
        const refused = await alice("pay", "--batch", batchFile(...other), "--id", id);
        assertRefused(refused, "order_conflict", id);
      }
      assertRefused(await alice("pay", "bob", "3", "--id", id), "order_conflict", id);
      const single = randomUUID();
      assertPaid(await alice("pay", "bob", "3", "--id", single), single);
      const refused = await alice("pay", "--batch", batchFile("bob,3"), "--id", single);
      assertRefused(refused, "order_conflict", single);
      assert.equal(await balance(), had - 6);
    },
  );

  test("pays a batch once when the server was lost", OPTIONS, async () => {
    const [id, had] = [randomUUID(), await balance()];
    const command = ["--batch", batchFile("bob,1", "carol,2"), "--id", id];
    await payAndLoseTheServer("settled", ...command);
    assertPaid(await alice("pay", ...command), `${id}/0`, `${id}/1`);
    assert.equal(await balance(), had - 3);
  });
});

describe("a payment that is refused", () => {
  test("is cancelled before its payer hears of it, so its id is used up", OPTIONS, async () => {
    const [id, had] = [randomUUID(), await balance()];
    assertRefused(await alice("pay", "bob", "99999", "--id", id), "insufficient_funds", id);
    assertRefused(await alice("pay", "bob", "1", "--id", id), "cancelled", id);
    assert.deepEqual(outbox(), []);
    assert.equal(await balance(), had);
  });

  test("leaves its id unused when no order had left", OPTIONS, async () => {
    const id = randomUUID();
    assertRefused(await alice("pay", "nobody", "1", "--id", id), "unknown_payee", id);
    assertRefused(await alice("pay", "alice", "1", "--id", id), "payer_is_payee", id);
    assertPaid(await alice("pay", "bob", "1", "--id", id), id);
  });
});

describe("a cancel", () => {
  test("ends a settled payment's id as settled, for every later question", OPTIONS, async () => {
    const [id, had] = [randomUUID(), await balance()];
    assertPaid(await alice("pay", "bob", "1", "--id", id), id);
    assert.equal(await cancel(id), "settled");
    const batch = randomUUID();
    assertPaid(await alice("pay", "--batch", batchFile("bob,1"), "--id", batch), `${batch}/0`);
    assert.equal(await cancel(batch), "batch");
    assert.equal(await balance(), had - 2);
  });

  test("ends --direct to someone who is offline, and says so", OPTIONS, async () => {
    const [id, had] = [randomUUID(), await balance()];
    const refused = await alice("pay", "carol", "1", "--direct", "--id", id);
    assertRefused(refused, "payee_unreachable", id);
    assert.match(refused.stderr, /the payment is cancelled and nothing was paid/);
    assertRefused(await alice("pay", "carol", "1", "--id", id), "cancelled", id);
    assert.deepEqual(outbox(), []);
    assert.equal(await balance(), had);
  });
});
