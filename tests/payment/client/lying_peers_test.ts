import assert from "node:assert/strict";
import { test } from "node:test";
import { isSealwireError } from "../../../lib/base/errors.ts";
import { loadAccountKeys } from "../../../lib/keys/key_files.ts";
import type { AccountName } from "../../../lib/keys/rsa.ts";
import { parseAmount } from "../../../lib/protocol/money.ts";
import { Listening } from "../../../lib/payment/client/payee.ts";
import { type Answer, FakePayee, SILENT } from "../../support/fake_payee.ts";
import { clientOptions } from "../../support/payment_clients.ts";
import { errorCode, type Json, jsonLines, PaymentWorld } from "../../support/payment_world.ts";
import { type Outcome, runTool } from "../../support/support.ts";
import { Tap } from "../../support/tap.ts";

const SLOW = { timeout: 120_000 };
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

async function startWorld(): Promise<PaymentWorld> {
  const world = await PaymentWorld.start();
  await world.register("alice", "bob");
  return world;
}

/** Alice's client, through the tap where there is one. */
async function alice(world: PaymentWorld, tap: Tap | null, ...args: string[]): Promise<Outcome> {
  const command = world.clientArgs("alice", ...args);
  if (tap !== null) command[1] = String(tap.port);
  return await runTool("client.ts", command);
}

async function requireBalances(
  world: PaymentWorld,
  alice: string,
  bob: string,
): Promise<void> {
  assert.equal((await world.ask("alice", "balance")).balance, alice);
  assert.equal((await world.ask("bob", "balance")).balance, bob);
}

async function end(world: PaymentWorld): Promise<void> {
  await world.stop();
  assert.equal(jsonLines(await world.operate("audit"))[0]!.valid, true);
}

/** What a payee may do with an order. Only the last does have it settled. */
const LIES: Record<string, Answer> = {
  "says that it is settled": () => Promise.resolve({ state: "settled" }),
  "refuses it": () => Promise.reject(new Error("no")),
  "never answers": SILENT,
  "answers with nonsense": () => Promise.resolve(["settled", { receipt: "x" }]),
  "has it settled and refuses it": async (offer, payee) => {
    await payee.settle(offer);
    throw new Error("no");
  },
};

interface Deal {
  readonly lie: string;
  readonly payer: string;
  readonly payee: string;
  readonly liar: FakePayee;
  readonly outcome: Outcome;
}

/**
 * For each lie a payer pays 4.00 to a payee who tells it, all at the same time; what `judge` says
 * must hold then.
 */
async function payLiars(
  flags: string[],
  judge: (deal: Deal, world: PaymentWorld) => Promise<void>,
) {
  const world = await PaymentWorld.start();
  await Promise.all(
    Object.entries(LIES).map(async ([lie, answer], index) => {
      const [payer, payee] = [`payer${index}`, `payee${index}`];
      await world.register(payer, payee);
      const liar = await FakePayee.start(world, payee, answer);
      const outcome = await world.client(payer, "pay", payee, "4", ...flags);
      assert.equal(liar.offers.length, 1, `${lie}: ${outcome.stderr}`);
      await judge({ lie, payer, payee, liar, outcome }, world);
      await liar.close();
    }),
  );
  await end(world);
}

test(
  "a payee who lies about an order is not believed: the payer has the server settle it, once",
  SLOW,
  async () => {
    await payLiars([], async ({ lie, payer, payee, liar, outcome }, world) => {
      assert.equal(outcome.status, 0, `${lie}: ${outcome.stderr}`);
      assert.equal(jsonLines(outcome)[0]!.balance, "9996.00", lie);
      await liar.settle(liar.offers[0]!);
      assert.equal((await world.ask(payer, "balance")).balance, "9996.00", lie);
      assert.equal((await world.ask(payee, "balance")).balance, "10004.00", lie);
    });
  },
);

test(
  "a payee who lies about a --direct order: it is cancelled for good, unless it was settled, whatever was said",
  SLOW,
  async () => {
    await payLiars(["--direct"], async ({ lie, payer, payee, liar, outcome }, world) => {
      const settled = lie === "has it settled and refuses it";
      assert.equal(outcome.status, settled ? 0 : 1, `${lie}: ${outcome.stderr}`);
      if (settled) assert.equal(jsonLines(outcome)[0]!.path, "direct");
      else {
        assert.equal(errorCode(outcome), "payee_unreachable", lie);
        const tooLate = (error: unknown) => isSealwireError(error, "cancelled");
        await assert.rejects(liar.settle(liar.offers[0]!), tooLate, lie);
      }
      const balance = settled ? ["9996.00", "10004.00"] : ["10000.00", "10000.00"];
      assert.equal((await world.ask(payer, "balance")).balance, balance[0], lie);
      assert.equal((await world.ask(payee, "balance")).balance, balance[1], lie);
    });
  },
);

test(
  "an entry with one character changed proves no payment: the payer asks again",
  SLOW,
  async () => {
    const world = await startWorld();
    const tap = await Tap.start(world);
    const bob = await world.listen("bob");
    let changed = 0;
    tap.judge = ({ kind, method, message }) => {
      const body = (kind === "notification" ? message.params : message.result) as Json | undefined;
      if (body?.state !== "settled" || changed === 2) return "pass";
      changed++;
      const entry = String(body.entry).replace('"amount":"4.00"', '"amount":"3.00"');
      assert.notEqual(entry, body.entry, method);
      const member = kind === "notification" ? "params" : "result";
      return { ...message, [member]: { ...body, entry } };
    };
    const outcome = await alice(world, tap, "pay", "bob", "4");
    assert.equal(outcome.status, 0, outcome.stderr);
    assert.equal(changed, 2, "both the notification and the server's own answer were changed");
    assert.equal(jsonLines(outcome)[0]!.balance, "9996.00");
    await requireBalances(world, "9996.00", "10004.00");
    await bob.stop();
    await tap.close();
    await end(world);
  },
);

test(
  "a reply that is lost with its connection: the payer ends up knowing, and pays once",
  SLOW,
  async () => {
    const world = await startWorld();
    const tap = await Tap.start(world);
    let lost = 0;
    tap.judge = ({ kind, method, cut }) => {
      if (kind !== "answer" || method !== "payment.settle" || lost === 2) return "pass";
      lost++;
      cut();
      return "lose";
    };
    const outcome = await alice(world, tap, "pay", "bob", "4");
    assert.equal(outcome.status, 0, outcome.stderr);
    assert.equal(lost, 2);
    assert.equal(jsonLines(outcome)[0]!.balance, "9996.00");
    await requireBalances(world, "9996.00", "10004.00");
    await tap.close();
    await end(world);
  },
);

for (const reached of [true, false]) {
  const which = reached ? "settled all the same" : "never heard of";
  test(
    `a server out of reach after the order is stored: outcome_unknown, exit 3, and the next command finds it ${which} and settles it once`,
    SLOW,
    async () => {
      const world = await startWorld();
      const tap = await Tap.start(world);
      tap.judge = ({ kind, method }) => {
        const now = kind === (reached ? "answer" : "request") && method === "payment.settle";
        if (!now) return "pass";
        tap.bar();
        return "lose";
      };
      const outcome = await alice(world, tap, "pay", "bob", "4", "--timeout", "2");
      assert.equal(outcome.status, 3, outcome.stderr);
      const { error, payment } = jsonLines(outcome)[0]!;
      assert.equal((error as Json).code, "outcome_unknown");
      assert.match(String(payment), UUID);

      tap.judge = () => "pass";
      tap.unbar();
      const next = await alice(world, tap, "balance");
      assert.equal(next.status, 0, next.stderr);
      assert.ok(next.stderr.includes(`payment ${payment} of 4.00 to bob`), next.stderr);
      assert.match(next.stderr, /is settled\n/);
      assert.equal(jsonLines(next)[0]!.balance, "9996.00");
      await requireBalances(world, "9996.00", "10004.00");
      await tap.close();
      await end(world);
    },
  );
}

test(
  "a listener whose payment meets a busy server tries again, and does not take itself for another listener",
  SLOW,
  async () => {
    const world = await startWorld();
    const tap = await Tap.start(world);
    let turnedAway = 0;
    tap.judge = ({ kind, method, message: { id }, reply }) => {
      if (kind !== "request" || method !== "payment.settle" || turnedAway > 0) return "pass";
      turnedAway++;
      const error = { code: -32000, message: "too busy", data: { code: "overloaded" } };
      reply({ jsonrpc: "2.0", id, error });
      return "lose";
    };
    const name = "alice" as AccountName;
    const interruption = new AbortController();
    const listening = await Listening.start({
      reconnect_ms: 30_000,
      ...clientOptions(world, name, {
        pair: await loadAccountKeys(world.keysOf(name), name),
        port: tap.port,
        signal: interruption.signal,
      }),
      p2pHost: null,
      p2pPort: 0,
      onPaid: () => {},
      onRequest: () => {},
    });
    const stay = listening.stay().then(() => "left", (error) => error);
    const payment = { payee: "bob" as AccountName, amount: parseAmount("4"), memo: null };
    const paid = await listening.client.pay({ ...payment, way: "via-server", id: null });
    assert.deepEqual([paid.balance, turnedAway], ["9996.00", 1]);
    const { online } = await listening.client.session.list(null);
    assert.deepEqual(online.map((row) => row.name), ["alice"]);
    await listening.close();
    assert.equal(await stay, "left");
    await tap.close();
    await end(world);
  },
);
