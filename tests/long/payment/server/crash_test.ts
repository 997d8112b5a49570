/** A server that is killed at random moments, under payers who never stop. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { isSealwireError } from "../../../../lib/base/errors.ts";
import { decodeBase64, type Sha256 } from "../../../../lib/base/parse.ts";
import { openLogKey } from "../../../../lib/keys/log_key.ts";
import { logOrigin } from "../../../../lib/ledger/checkpoint.ts";
import { openAnchor } from "../../../../lib/ledger/open_ledger.ts";
import { openSqlite } from "../../../../lib/ledger/sqlite.ts";
import { verifyConsistency } from "../../../../lib/protocol/merkle.ts";
import { formatAmount } from "../../../../lib/protocol/money.ts";
import type { HistoryAnswer } from "../../../../lib/protocol/wire.ts";
import type { Person } from "../../../support/fixtures.ts";
import { now_s } from "../../../support/fixtures.ts";
import { type Json, jsonLines, PaymentWorld } from "../../../support/payment_world.ts";
import { cheapPerson } from "../../../support/soak.ts";
import type { ToolProcess } from "../../../support/support.ts";
import { idOf, minorUnits, type SignedTexts, WireClient } from "../../../support/wire_client.ts";

const CRASHES = Number(process.env.SEALWIRE_CRASHES ?? 50);
const PAYERS = 32;
/**
 * One in five servers dies while the payers log in, the others while they pay, so long after half
 * of them have begun.
 */
const DIES_AT_LOGIN_SHARE = 0.2;
const LOGIN_MS_MAX = 300;
const PAYING_MS_MAX = 600;
/** Between two payments of one payer. */
const PAUSE_MS_MAX = 60;
/** Longer than the test, so that an order that never got through may still be settled. */
const ORDER_LIFE_S = 3_000;
const OPENED_WITH = 1_000_000n;
/** More than any account has. */
const TOO_MUCH = "1000000.00";
const TOO_MUCH_SHARE = 0.05;
const RECEIPTS_VERIFIED_SHARE = 0.05;
const CALLS_AT_ONCE = 32;

const people = Array.from({ length: PAYERS }, (_, index) => cheapPerson(`payer${index}`));

type End = "settled" | "cancelled";

/**
 * One order, and what its payer was told of it; null while no answer said that the id has ended.
 */
interface Attempt {
  readonly id: string;
  readonly payee: string;
  readonly amount: string;
  readonly signed: SignedTexts;
  told: End | null;
  /** The entry that settled it. */
  entry: string | null;
}

/** Every checkpoint that any client was sent, by its size: no size may have two. */
class SeenCheckpoints {
  readonly texts = new Map<number, string>();

  add({ checkpoints }: WireClient): void {
    for (const [size, text] of checkpoints) {
      assert.equal(this.texts.get(size) ?? text, text, `two checkpoints of size ${size}`);
      this.texts.set(size, text);
    }
  }

  get newest(): string | undefined {
    return this.texts.get(Math.max(...this.texts.keys()));
  }
}

class Payer {
  readonly attempts: Attempt[] = [];
  private client: WireClient | null = null;

  constructor(
    readonly world: PaymentWorld,
    readonly person: Person,
    private readonly seen: SeenCheckpoints,
  ) {}

  /** Logs in with the newest checkpoint that anyone was sent: the log must have grown out of it. */
  async enter(method: "session.login" | "account.register" = "session.login"): Promise<WireClient> {
    const client = await WireClient.connect(this.world);
    const delegation = client.delegate(this.person);
    const checkpoint = this.seen.newest;
    const answer = await client.call(method, { delegation, ...(checkpoint && { checkpoint }) });
    if (checkpoint !== undefined) assert.ok(answer.consistency !== null, "the log is not linked");
    client.delegation = delegation;
    return this.client = client;
  }

  /** Pays at random until the connection is lost. */
  async payUntilLost(onBegin: () => void): Promise<void> {
    try {
      const client = await this.enter();
      onBegin();
      await Promise.all([this.askAgain(client), this.payOn(client)]);
    } catch (error) {
      requireLost(error);
    } finally {
      if (this.client !== null) this.seen.add(this.client);
    }
  }

  private async payOn(client: WireClient): Promise<never> {
    while (true) {
      await delay(Math.random() * PAUSE_MS_MAX);
      const attempt = this.order(client);
      this.attempts.push(attempt);
      await this.settle(client, attempt);
    }
  }

  /** What went unanswered is asked about, sent again, or cancelled. */
  private async askAgain(client: WireClient): Promise<void> {
    for (const attempt of this.attempts.filter(({ told }) => told === null)) {
      const way = Math.random();
      if (way < 0.3) await this.settle(client, attempt);
      else if (way < 0.6) this.hear(attempt, await this.cancel(client, attempt));
      else if (way < 0.9) {
        this.hear(attempt, await client.call("payment.status", { id: attempt.id }));
      }
    }
  }

  private async cancel(client: WireClient, { id }: Attempt): Promise<Json> {
    return await client.call("payment.cancel", client.cancel(this.person, id));
  }

  private async settle(client: WireClient, attempt: Attempt): Promise<void> {
    try {
      const answer = await client.settle(attempt.signed);
      client.provenEntry(answer);
      if (Math.random() < RECEIPTS_VERIFIED_SHARE) {
        await client.verifiedReceipt(attempt.signed, answer);
      }
      this.hear(attempt, answer);
    } catch (error) {
      if (isSealwireError(error, "cancelled")) this.hear(attempt, { state: "cancelled" });
      else if (isSealwireError(error, "insufficient_funds")) assert.equal(attempt.told, null);
      else throw error;
    }
  }

  /** What has ended once has ended for ever, and a payment has one entry. */
  private hear(attempt: Attempt, { state, entry }: Json): void {
    if (state === "unknown") return assert.equal(attempt.told, null, `${attempt.id} is gone`);
    assert.ok(state === "settled" || state === "cancelled");
    assert.equal(attempt.told ?? state, state, `of ${attempt.id}`);
    attempt.told = state;
    if (state === "cancelled") return;
    assert.notEqual(attempt.amount, TOO_MUCH);
    assert.equal(attempt.entry ?? entry, entry, `of ${attempt.id}`);
    attempt.entry = String(entry);
  }

  private order(client: WireClient): Attempt {
    const others = people.filter((person) => person !== this.person);
    const payee = others[Math.floor(Math.random() * others.length)]!;
    const minor = BigInt(1 + Math.floor(Math.random() * 500));
    const amount = Math.random() < TOO_MUCH_SHARE ? TOO_MUCH : formatAmount(minor);
    const exp = now_s() + ORDER_LIFE_S;
    const signed = client.order(this.person, payee, { amount, exp });
    return { id: idOf(signed), payee: payee.name, amount, signed, told: null, entry: null };
  }

  /** What the server says of every attempt, at the end. */
  async states(client: WireClient): Promise<Map<string, unknown>> {
    const states = new Map<string, unknown>();
    for (let start = 0; start < this.attempts.length; start += CALLS_AT_ONCE) {
      const asked = this.attempts.slice(start, start + CALLS_AT_ONCE);
      await Promise.all(asked.map(async ({ id, entry }) => {
        const answer = await client.callInTime("payment.status", { id });
        if (entry !== null) assert.equal(answer.entry, entry, `of ${id}`);
        states.set(id, answer.state);
      }));
    }
    return states;
  }
}

/** The connection's end is what this test is about; anything else a payer meets is a fault. */
function requireLost(error: unknown): void {
  const codes = ["connection_lost", "no_connection"];
  if (!isSealwireError(error) || !codes.includes(error.code)) throw error;
}

async function killAtRandom(server: ToolProcess, halfHaveBegun: Promise<void>): Promise<void> {
  if (Math.random() < DIES_AT_LOGIN_SHARE) await delay(Math.random() * LOGIN_MS_MAX);
  else {
    await halfHaveBegun;
    await delay(Math.random() * PAYING_MS_MAX);
  }
  await server.stop("SIGKILL");
}

/** The anchor is of a log that the database has, right after a kill. */
async function requireAnchorBehind(world: PaymentWorld, server: Sha256): Promise<void> {
  const { pair: { publicKey } } = openLogKey(world.serverKeys, { makeMissing: false });
  const anchor = openAnchor(world.serverKeys, { origin: logOrigin(server), publicKey });
  const store = openSqlite(world.db, { create: false });
  try {
    const [anchored, head] = [anchor.read()!, (await store.head())!];
    assert.ok(anchored.size <= head.size, `${anchored.size} in the anchor, ${head.size} stored`);
  } finally {
    await store.close();
  }
}

/** The payments that an account's history shows, by payer, id, payee and amount, and how often. */
async function paymentsOf(client: WireClient): Promise<Map<string, number>> {
  const seen = new Map<string, number>();
  for (let after: number | null = 0; after !== null;) {
    const page = await client.callInTime("payment.history", { after }) as unknown as HistoryAnswer;
    for (const { payer, payment, payee, amount } of page.rows) {
      const key = `${payer}/${payment}/${payee}/${amount}`;
      seen.set(key, (seen.get(key) ?? 0) + 1);
    }
    after = page.next;
  }
  return seen;
}

/** Every checkpoint that was ever sent is of the log as it is now. */
async function requireLinked(client: WireClient, { texts }: SeenCheckpoints): Promise<void> {
  const newest = await client.newestCheckpoint();
  for (const [size, text] of texts) client.checkpoints.set(size, text);
  const sizes = [...texts.keys()];
  for (let start = 0; start < sizes.length; start += CALLS_AT_ONCE) {
    await Promise.all(
      sizes.slice(start, start + CALLS_AT_ONCE).map(async (from) => {
        const { path } = await client.callInTime("ledger.consistency", { from, to: newest.size });
        const hashes = (path as string[]).map((step) => decodeBase64(step)!);
        verifyConsistency(client.checkpointOf(from), newest, hashes);
      }),
    );
  }
}

test(
  `a server killed ${CRASHES} times under ${PAYERS} payers keeps each payment it acknowledged, once, knows of all ` +
    "others, and has signed one log",
  { timeout: 60_000 + CRASHES * 6_000 },
  async () => {
    const world = await PaymentWorld.start();
    const seen = new SeenCheckpoints();
    const payers = people.map((person) => new Payer(world, person, seen));
    for (const payer of payers) {
      const client = await payer.enter("account.register");
      seen.add(client);
      client.close();
    }
    const { server } = await WireClient.connect(world);

    for (let crash = 1; crash <= CRASHES; crash++) {
      let begun = 0;
      const { promise: halfHaveBegun, resolve: onHalf } = Promise.withResolvers<void>();
      const onBegin = () => ++begun === PAYERS / 2 && onHalf();
      const paying = payers.map((payer) => payer.payUntilLost(onBegin));
      await Promise.all([killAtRandom(world.server, halfHaveBegun), ...paying]);
      // Whoever opens the database clears up after the kill; every other time that is the next
      // server.
      if (crash % 2 === 0) await requireAnchorBehind(world, server);
      if (crash % 10 === 0) {
        const audited = jsonLines(await world.operate("audit"))[0]!;
        assert.equal(audited.valid, true, JSON.stringify(audited));
      }
      await world.startServer();
    }

    let [unanswered, settled, cancelled, total] = [0, 0, 0, 0n];
    const clients: WireClient[] = [];
    for (const payer of payers) {
      const client = await payer.enter();
      clients.push(client);
      total += minorUnits(await client.balance());
    }
    assert.equal(total, OPENED_WITH * BigInt(PAYERS), "money was made or lost");
    for (const [index, payer] of payers.entries()) {
      const client = clients[index]!;
      const shown = await paymentsOf(client);
      const states = await payer.states(client);
      for (const { id, payee, amount, told } of payer.attempts) {
        const state = states.get(id);
        if (told !== null) assert.equal(state, told, `of ${id}`);
        else unanswered++;
        const times = shown.get(`${payer.person.name}/${id}/${payee}/${amount}`) ?? 0;
        assert.equal(times, state === "settled" ? 1 : 0, `of ${id}, which is ${state}`);
        settled += times;
        if (state === "cancelled") cancelled++;
      }
      seen.add(client);
    }
    await requireLinked(clients[0]!, seen);
    for (const client of clients) client.close();
    console.log(
      `${settled} payments settled, ${cancelled} cancelled, ${unanswered} never answered, ` +
        `${seen.texts.size} checkpoints seen`,
    );
    assert.ok(
      settled >= CRASHES && cancelled > 0 && seen.texts.size > CRASHES,
      `only ${settled} payments were settled: too few to prove anything`,
    );

    assert.equal((await world.stop()).status, 0);
    const expected = join(world.folder, "newest_checkpoint.txt");
    writeFileSync(expected, seen.newest!);
    const audited = jsonLines(await world.operate("audit", "--expect", expected))[0]!;
    assert.equal(audited.valid, true, JSON.stringify(audited));
    // The ledger's opening is an entry, an account's are two, and nothing else was recorded.
    assert.equal(audited.entries, 1 + 2 * PAYERS + settled + cancelled);
  },
);
