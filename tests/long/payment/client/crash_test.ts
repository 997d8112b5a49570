import assert from "node:assert/strict";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { jsonLines, PaymentWorld } from "../../../support/payment_world.ts";
import { type Outcome, spawnTool, type ToolProcess } from "../../../support/support.ts";
import { FakePayee, SILENT } from "../../../support/fake_payee.ts";
import { type Line, Tap } from "../../../support/tap.ts";

const SLOW = { timeout: 120_000 };
const RANDOM_KILLS = 6;
/** A payment takes about so long from the start of its process. */
const PAYMENT_MS = 600;

/** A server, alice behind a tap, and bob. */
class Scene {
  private constructor(readonly world: PaymentWorld, readonly tap: Tap) {}

  static async start(): Promise<Scene> {
    const world = await PaymentWorld.start();
    await world.register("alice", "bob");
    return new Scene(world, await Tap.start(world));
  }

  pay(...args: string[]): ToolProcess {
    const command = this.world.clientArgs("alice", "pay", ...args);
    command[1] = String(this.tap.port);
    return spawnTool("client.ts", command);
  }

  /**
   * Kills alice's client when the first line comes for which `at` holds; that line gets no further.
   */
  async payAndDieAt(at: (line: Line) => boolean, ...args: string[]): Promise<Line> {
    const held = this.tap.hold(at);
    const client = this.pay(...args);
    const line = await Promise.race([
      held,
      client.ended.then((outcome) => assert.fail(`it ended: ${JSON.stringify(outcome)}`)),
    ]);
    await client.stop("SIGKILL");
    return line;
  }

  outbox(): string[] {
    try {
      const names = readdirSync(join(this.world.keysOf("alice"), "alice_outbox"));
      return names.filter((name) => name.endsWith(".json"));
    } catch {
      return [];
    }
  }

  /** Alice's next command: nothing may be left open after it. */
  async startAgain(): Promise<{ balance: unknown; said: string }> {
    const outcome = await this.world.client("alice", "balance");
    assert.equal(outcome.status, 0, outcome.stderr);
    assert.deepEqual(this.outbox(), []);
    const again = await this.world.client("alice", "balance");
    const { balance } = jsonLines(outcome)[0]!;
    assert.equal(jsonLines(again)[0]!.balance, balance);
    assert.doesNotMatch(again.stderr, /left unfinished/);
    return { balance, said: outcome.stderr };
  }

  async balanceOf(name: string): Promise<unknown> {
    return (await this.world.ask(name, "balance")).balance;
  }

  async end(): Promise<void> {
    await this.tap.close();
    await this.world.stop();
    const audit = jsonLines(await this.world.operate("audit"))[0]!;
    assert.equal(audit.valid, true, JSON.stringify(audit));
  }
}

const is = (kind: Line["kind"], method: string) => (line: Line) =>
  line.kind === kind && line.method === method;
const SETTLED = /payment [0-9a-f-]{36} of 4\.00 to bob, left unfinished before, is settled\n/;
const CANCELLED = /payment [0-9a-f-]{36} of 4\.00 to bob, left unfinished before, is not paid: /;

test("a client killed before it has stored an order has ordered nothing", SLOW, async () => {
  const scene = await Scene.start();
  for (
    const at of [
      is("request", "session.login"),
      is("request", "directory.lookup"),
      is("answer", "directory.lookup"),
    ]
  ) {
    await scene.payAndDieAt(at, "bob", "4");
    assert.deepEqual(scene.outbox(), []);
  }
  const { balance, said } = await scene.startAgain();
  assert.equal(balance, "10000.00");
  assert.doesNotMatch(said, /left unfinished/);
  await scene.end();
});

for (
  const [moment, at] of [
    ["before its order reaches the server", is("request", "payment.settle")],
    ["before it hears that its order is settled", is("answer", "payment.settle")],
  ] as const
) {
  test(
    `a client killed ${moment} has paid once by its next command, which says so`,
    SLOW,
    async () => {
      const scene = await Scene.start();
      await scene.payAndDieAt(at, "bob", "4", "--via-server");
      assert.equal(scene.outbox().length, 1);
      const { balance, said } = await scene.startAgain();
      assert.equal(balance, "9996.00");
      assert.match(said, SETTLED);
      assert.equal(await scene.balanceOf("bob"), "10004.00");
      await scene.end();
    },
  );
}

test(
  "a client killed in the middle of a batch has paid all of it, or none, once",
  SLOW,
  async () => {
    const scene = await Scene.start();
    const file = join(scene.world.folder, "batch.csv");
    writeFileSync(file, "bob,1\nbob,3\n");
    await scene.payAndDieAt(is("answer", "payment.settle"), "--batch", file);
    const { balance, said } = await scene.startAgain();
    assert.equal(balance, "9996.00");
    assert.match(
      said,
      /batch payment [0-9a-f-]{36} of 4\.00, left unfinished before, is settled\n/,
    );
    await scene.end();
  },
);

test(
  "a client killed after the payee has its order has paid once by its next command, settled by either",
  SLOW,
  async () => {
    const scene = await Scene.start();
    const { promise: offered, resolve: onOffer } = Promise.withResolvers<void>();
    const bob = await FakePayee.start(scene.world, "bob", (...offer) => {
      onOffer();
      return SILENT(...offer);
    });
    const client = scene.pay("bob", "4");
    await offered;
    await client.stop("SIGKILL");
    const { balance, said } = await scene.startAgain();
    assert.equal(balance, "9996.00");
    assert.match(said, SETTLED);
    await bob.settle(bob.offers[0]!);
    assert.equal(await scene.balanceOf("bob"), "10004.00");
    await bob.close();
    await scene.end();
  },
);

test(
  "a client killed before it hears that its payee had the order settled has paid once",
  SLOW,
  async () => {
    const scene = await Scene.start();
    const bob = await scene.world.listen("bob");
    await scene.payAndDieAt(is("notification", "payment.settled"), "bob", "4");
    assert.equal(scene.outbox().length, 1);
    const { balance, said } = await scene.startAgain();
    assert.equal(balance, "9996.00");
    assert.match(said, SETTLED);
    assert.equal((await bob.nextJson(({ event }) => event === "paid")).balance, "10004.00");
    await bob.stop();
    await scene.end();
  },
);

/**
 * The ways in which a client that pays directly or not at all can die, and what must have become of
 * its payment.
 */
const DIRECT_DEATHS: Record<string, (scene: Scene) => Promise<"settled" | "cancelled">> = {
  "with the order at a payee who does nothing": async (scene) => {
    const { promise: offered, resolve: onOffer } = Promise.withResolvers<void>();
    const bob = await FakePayee.start(scene.world, "bob", (...offer) => {
      onOffer();
      return SILENT(...offer);
    });
    const client = scene.pay("bob", "4", "--direct");
    await offered;
    await client.stop("SIGKILL");
    await bob.close();
    return "cancelled";
  },
  "before it hears that its payee had the order settled": async (scene) => {
    const bob = await FakePayee.start(scene.world, "bob", async (offer, payee) => {
      await payee.settle(offer);
      return { state: "settled" };
    });
    await scene.payAndDieAt(is("notification", "payment.settled"), "bob", "4", "--direct");
    await bob.close();
    return "settled";
  },
  "before its cancellation reaches the server": async (scene) => {
    await scene.payAndDieAt(is("request", "payment.cancel"), "bob", "4", "--direct");
    return "cancelled";
  },
  "before it hears that it is cancelled": async (scene) => {
    await scene.payAndDieAt(is("answer", "payment.cancel"), "bob", "4", "--direct");
    return "cancelled";
  },
};

test(
  "a client killed while it pays directly or not at all has paid once or cancelled, as its next command says",
  SLOW,
  async () => {
    await Promise.all(
      Object.entries(DIRECT_DEATHS).map(async ([moment, die]) => {
        const scene = await Scene.start();
        const expected = await die(scene);
        assert.equal(scene.outbox().length, 1, moment);
        const { balance, said } = await scene.startAgain();
        assert.match(said, expected === "settled" ? SETTLED : CANCELLED, moment);
        assert.equal(balance, expected === "settled" ? "9996.00" : "10000.00", moment);
        assert.equal(
          await scene.balanceOf("bob"),
          expected === "settled" ? "10004.00" : "10000.00",
        );
        await scene.end();
      }),
    );
  },
);

test(
  "a client killed at random moments has paid each payment once or not at all, as its next commands say",
  SLOW,
  async () => {
    const scene = await Scene.start();
    const bob = await scene.world.listen("bob");
    let expected = 10_000;
    for (let kill = 0; kill < RANDOM_KILLS; kill++) {
      const client = scene.pay("bob", "4", kill % 2 === 0 ? "--via-server" : "--memo=lunch");
      await delay(Math.random() * PAYMENT_MS);
      const outcome: Outcome = await client.stop("SIGKILL");
      const left = scene.outbox().length;
      const { balance, said } = await scene.startAgain();
      const paid = outcome.status === 0 || left === 1;
      if (left === 1) assert.match(said, SETTLED);
      else assert.doesNotMatch(said, /left unfinished/);
      // Between the end of a payment and its line on standard output a client may die as well.
      if (paid || balance === `${expected - 4}.00`) expected -= 4;
      assert.equal(balance, `${expected}.00`);
    }
    assert.equal(await scene.balanceOf("bob"), `${20_000 - expected}.00`);
    await bob.stop();
    await scene.end();
  },
);
