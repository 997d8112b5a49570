import assert from "node:assert/strict";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { isSealwireError } from "../../../../lib/base/errors.ts";
import { loadServerPublicKey } from "../../../../lib/keys/key_files.ts";
import { type AccountName, parseAccountName } from "../../../../lib/keys/rsa.ts";
import { audit } from "../../../../lib/ledger/audit.ts";
import { openSqlite } from "../../../../lib/ledger/sqlite.ts";
import { type Amount, formatAmount } from "../../../../lib/protocol/money.ts";
import { ORDER_LIFE_S_MAX, signOrder } from "../../../../lib/protocol/order.ts";
import type { Uuid } from "../../../../lib/base/parse.ts";
import type { ClientSession } from "../../../../lib/payment/client/session.ts";
import { rsaPair, uuid } from "../../../support/fixtures.ts";
import { now_s, openSession, sessionKeyOf } from "../../../support/payment_clients.ts";
import { jsonLines, PaymentWorld } from "../../../support/payment_world.ts";
import type { ToolProcess } from "../../../support/support.ts";

const CRASHES = Number(process.env.SEALWIRE_CRASHES ?? 50);
const PAYERS = 32;
/** One in five servers dies while the payers log in, the others while they pay, so long after half of them have begun. */
const DIES_AT_LOGIN_SHARE = 0.2;
const LOGIN_MS_MAX = 300;
const PAYING_MS_MAX = 600;
/** Between two payments of one payer. */
const PAUSE_MS_MAX = 60;
const OPENED_WITH = 1_000_000n;
/** More than any account has: the rules refuse it, and its id is void. */
const TOO_MUCH = 100_000_000n;
const CALLS_AT_ONCE = 32;

const names = Array.from({ length: PAYERS }, (_, index) => parseAccountName(`payer${index}`));

/** One order, and what its payer was told of it; null when the answer never came. */
interface Attempt {
  readonly id: Uuid;
  readonly payee: AccountName;
  readonly amount: Amount;
  readonly order: string;
  readonly delegation: string;
  told: "settled" | "void" | null;
}

class Payer {
  readonly attempts: Attempt[] = [];
  session: ClientSession | null = null;

  constructor(readonly world: PaymentWorld, readonly name: AccountName) {}

  /** Pays at random until the connection is lost. */
  async payUntilLost(onBegin: () => void): Promise<void> {
    try {
      this.session = await openSession(this.world, this.name);
      onBegin();
      await Promise.all([this.askAgain(), this.payOn()]);
    } catch (error) {
      requireLost(error);
    }
  }

  private async payOn(): Promise<never> {
    while (true) {
      await delay(Math.random() * PAUSE_MS_MAX);
      const attempt = await this.order();
      this.attempts.push(attempt);
      await this.settle(attempt);
    }
  }

  /** What went unanswered is asked about, sent again, or cancelled. */
  private async askAgain(): Promise<void> {
    for (const attempt of this.attempts.filter(({ told }) => told === null)) {
      const way = Math.random();
      if (way < 0.3) await this.settle(attempt);
      else if (way < 0.6) await this.hear(attempt, this.session!.cancel(attempt.id));
      else if (way < 0.9) await this.hear(attempt, this.session!.status(attempt.id));
    }
  }

  async settle(attempt: Attempt): Promise<void> {
    const { order, delegation, id } = attempt;
    try {
      const settled = await this.session!.settle(order, delegation, []);
      assert.equal(settled!.receipt.transfer.id, id);
      this.tell(attempt, "settled");
    } catch (error) {
      const refused = isSealwireError(error) && "void" in error.details;
      if (!refused) throw error;
      this.tell(attempt, "void");
    }
  }

  private async hear(
    attempt: Attempt,
    answer: ReturnType<ClientSession["status"]>,
  ): Promise<void> {
    const { state } = await answer;
    if (state === "unknown") assert.equal(attempt.told, null, `${attempt.id} is gone`);
    else this.tell(attempt, state);
  }

  private tell(attempt: Attempt, told: "settled" | "void"): void {
    if (attempt.told !== null) assert.equal(attempt.told, told, `of ${attempt.id}`);
    attempt.told = told;
  }

  private async order(): Promise<Attempt> {
    const { server, delegation } = this.session!;
    const others = names.filter((name) => name !== this.name);
    const payee = others[Math.floor(Math.random() * others.length)]!;
    const minor = Math.random() < 0.05 ? TOO_MUCH : BigInt(1 + Math.floor(Math.random() * 500));
    const amount = minor as Amount;
    const [id, iat] = [uuid(), now_s()];
    const exp = Math.min(iat + ORDER_LIFE_S_MAX, delegation.claims.exp);
    const parties = { payer: this.name, payee, payeeKey: rsaPair("everyone").publicKey.thumbprint };
    const claims = { id, server: server.thumbprint, ...parties, amount, iat, exp, memo: null };
    const { text: order } = await signOrder(claims, sessionKeyOf(this.name));
    return { id, payee, amount, order, delegation: delegation.text, told: null };
  }

  /** What the server says of every attempt, at the end. */
  async states(): Promise<Map<Uuid, "unknown" | "void" | "settled">> {
    const states = new Map<Uuid, "unknown" | "void" | "settled">();
    for (let start = 0; start < this.attempts.length; start += CALLS_AT_ONCE) {
      const asked = this.attempts.slice(start, start + CALLS_AT_ONCE);
      await Promise.all(asked.map(async ({ id }) => {
        states.set(id, (await this.session!.status(id)).state);
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

async function auditInProcess(world: PaymentWorld): Promise<void> {
  const store = openSqlite(world.db, { create: false });
  try {
    await audit(store, loadServerPublicKey(join(world.serverKeys, "server_public.pem")));
  } finally {
    await store.close();
  }
}

/** The transfers that an account's history shows, by `<payer>/<id>`, and how often. */
async function transfersOf(session: ClientSession): Promise<Map<string, number>> {
  const seen = new Map<string, number>();
  for await (const { payer, payment, payee, amount } of session.history(0)) {
    const key = `${payer}/${payment}/${payee}/${amount}`;
    seen.set(key, (seen.get(key) ?? 0) + 1);
  }
  return seen;
}

test(
  `a server killed ${CRASHES} times under ${PAYERS} payers keeps each payment it acknowledged, once, and knows of all others`,
  { timeout: 60_000 + CRASHES * 6_000 },
  async () => {
    const world = await PaymentWorld.start({ serverArgs: ["--opening-balance", "10000.00"] });
    for (const name of names) await (await openSession(world, name, { register: true })).end();
    const payers = names.map((name) => new Payer(world, name));

    for (let crash = 1; crash <= CRASHES; crash++) {
      let begun = 0;
      const { promise: halfHaveBegun, resolve: onHalf } = Promise.withResolvers<void>();
      const onBegin = () => ++begun === PAYERS / 2 && onHalf();
      const paying = payers.map((payer) => payer.payUntilLost(onBegin));
      await Promise.all([killAtRandom(world.server, halfHaveBegun), ...paying]);
      if (crash % 10 === 0) await auditInProcess(world);
      await world.startServer();
    }

    let unanswered = 0;
    let settled = 0;
    let total = 0n;
    for (const payer of payers) {
      payer.session = await openSession(world, payer.name);
      total += BigInt(payer.session.balance.replace(".", ""));
    }
    assert.equal(total, OPENED_WITH * BigInt(PAYERS), "money was made or lost");
    for (const payer of payers) {
      const shown = await transfersOf(payer.session!);
      const states = await payer.states();
      for (const { id, payee, amount, told } of payer.attempts) {
        const state = states.get(id)!;
        if (told !== null) assert.equal(state, told, `of ${id}`);
        else unanswered++;
        const times = shown.get(`${payer.name}/${id}/${payee}/${formatAmount(amount)}`) ?? 0;
        assert.equal(times, state === "settled" ? 1 : 0, `of ${id}, which is ${state}`);
        settled += times;
      }
      await payer.session!.end();
    }
    console.log(`${settled} payments settled, ${unanswered} never answered`);
    assert.ok(
      settled >= CRASHES,
      `only ${settled} payments were settled: too few to prove anything`,
    );

    assert.equal((await world.stop()).status, 0);
    const audited = jsonLines(await world.operate("audit"))[0]!;
    assert.equal(audited.valid, true, JSON.stringify(audited));
    // An opening is two entries, and nothing else was settled.
    assert.equal(audited.entries, 2 * PAYERS + settled);
  },
);
