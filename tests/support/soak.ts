/**
 * A crowd that is logged in and pays at random, each client one payment after the other. Every answer is one that the rules
 * give, and at the end every balance is what the answers add up to.
 */
import assert from "node:assert/strict";
import { isSealwireError } from "../../lib/base/errors.ts";
import { parseAccountName } from "../../lib/keys/rsa.ts";
import { formatAmount, parseAmount } from "../../lib/protocol/money.ts";
import { type Person, rsaPair } from "./fixtures.ts";
import { sessionKeyOf } from "./payment_clients.ts";
import type { PaymentWorld } from "./payment_world.ts";
import { WireClient } from "./wire_client.ts";

const OPENED_WITH = parseAmount("10000");
const AMOUNT_MAX = 5_000;
/** Share of payments that ask for more than anyone has, and of receipts that are verified. */
const TOO_MUCH_SHARE = 0.02;
const VERIFIED_SHARE = 0.02;
const TOO_MUCH = parseAmount("99999999");
/** Registering costs the server an RSA verification and a commit each. */
const LOGINS_AT_ONCE = 16;

export interface Soaked {
  settled: number;
  /** How many payments the rules refused, for want of money. */
  refused: number;
  verified: number;
}

interface Client {
  readonly person: Person;
  readonly wire: WireClient;
  /** Minor units that this client has by what was answered. */
  balance: bigint;
}

/** An account of this process that shares its RSA key with all others, for each costs 0.2 s to make. */
export function cheapPerson(name: string): Person {
  return { name: parseAccountName(name), pair: rsaPair("everyone"), session: sessionKeyOf(name) };
}

/** @throws {AssertionError} at the first answer that is no rule's, and when balances do not add up. */
export async function soak(
  world: PaymentWorld,
  { clients: count, duration_ms }: { clients: number; duration_ms: number },
): Promise<Soaked> {
  const clients: Client[] = [];
  for (let start = 0; start < count; start += LOGINS_AT_ONCE) {
    const length = Math.min(LOGINS_AT_ONCE, count - start);
    const names = Array.from({ length }, (_, index) => `soaker${start + index}`);
    clients.push(...await Promise.all(names.map((name) => enter(world, name))));
  }
  const soaked: Soaked = { settled: 0, refused: 0, verified: 0 };
  const until_ms = Date.now() + duration_ms;
  await Promise.all(clients.map(async (payer) => {
    while (Date.now() < until_ms) await payAtRandom(payer, clients, soaked);
  }));

  let total = 0n;
  for (const { person, wire, balance } of clients) {
    assert.equal(await wire.balance(), formatAmount(balance), `of ${person.name}`);
    total += balance;
    wire.close();
  }
  assert.equal(total, OPENED_WITH * BigInt(count));
  return soaked;
}

async function enter(world: PaymentWorld, name: string): Promise<Client> {
  const person = cheapPerson(name);
  const wire = await WireClient.enter(world, person, "account.register");
  return { person, wire, balance: OPENED_WITH };
}

async function payAtRandom(
  payer: Client,
  clients: readonly Client[],
  soaked: Soaked,
): Promise<void> {
  const payee = clients[Math.floor(Math.random() * clients.length)]!;
  if (payee === payer) return;
  const tooMuch = Math.random() < TOO_MUCH_SHARE;
  const amount = tooMuch ? TOO_MUCH : BigInt(1 + Math.floor(Math.random() * AMOUNT_MAX));
  const order = payer.wire.order(payer.person, payee.person, { amount: formatAmount(amount) });
  // What was pushed has been seen by other tests.
  payer.wire.notifications.length = 0;
  try {
    const answer = await payer.wire.settle(order);
    payer.balance -= amount;
    payee.balance += amount;
    soaked.settled++;
    if (Math.random() < VERIFIED_SHARE) {
      const receipt = await payer.wire.verifiedReceipt(order, answer);
      assert.deepEqual([receipt.payer, receipt.amount], [payer.person.name, amount]);
      soaked.verified++;
    }
  } catch (error) {
    if (!isSealwireError(error, "insufficient_funds")) throw error;
    soaked.refused++;
  }
}
