/**
 * Payments end to end, with the real server as a process of its own:
 *
 * - latency: alice pays bob directly, both clients running and nobody else there; from `pay` to the
 *   verified receipt;
 * - throughput: 64 clients over TLS, orders signed beforehand, each with 16 under way at a time,
 *   payees connected and told.
 *
 * Beside it, on the same machine in the same run: round trips of lines as long over the same 64 TLS
 * connections, which cost the server nothing but to read and answer, and durable SQLite commits one
 * after the other.
 *
 *     deno run -A bench/payments.ts        bun bench/payments.ts
 *
 * Takes less than a minute. Everything is in the system's temporary folder (TMPDIR), whose disk
 * decides what a commit costs.
 */
import { availableParallelism } from "node:os";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { loadOrMakeAccountKeys } from "../lib/keys/key_files.ts";
import { parseAccountName } from "../lib/keys/rsa.ts";
import { formatAmount, parseAmount } from "../lib/protocol/money.ts";
import { PaymentClient } from "../lib/payment/client/payer.ts";
import { clientOptions } from "../tests/support/payment_clients.ts";
import { PaymentWorld } from "../tests/support/payment_world.ts";
import { cheapPerson } from "../tests/support/soak.ts";
import { type SignedTexts, WireClient } from "../tests/support/wire_client.ts";
import { commitsPerSecond } from "./sqlite_alone.ts";

const PAYMENTS_WARM_UP = 30;
const PAYMENTS_TIMED = 300;
/**
 * Between two payments, so that the payee's client is done with the first: it shows it, and
 * remembers that it did.
 */
const PAUSE_MS = 25;
const CLIENTS = 64;
const ORDERS_PER_CLIENT = 150;
const PIPELINED = 16;
const CENT = parseAmount("0.01");

const world = await PaymentWorld.start();
process.stdout.write(`${availableParallelism()} cores\n\n`);
reportLatency(await measureLatency());
await measureThroughput();
await world.stop();
process.stdout.write(
  `${"SQLite alone".padEnd(36)}${rate(commitsPerSecond(world.folder), 1)} commits/s\n`,
);
process.exit(0);

/** Milliseconds of each direct payment, bob's client being a process of its own. */
async function measureLatency(): Promise<number[]> {
  await world.register("bob");
  const bob = await world.listen("bob");
  const account = parseAccountName("alice");
  const { pair } = await loadOrMakeAccountKeys(world.keysOf(account), account);
  const client = await PaymentClient.open(clientOptions(world, account, { pair }), {
    register: true,
  });
  const payment = { payee: parseAccountName("bob"), amount: CENT, memo: null, id: null };
  const times_ms: number[] = [];
  for (let index = -PAYMENTS_WARM_UP; index < PAYMENTS_TIMED; index++) {
    const began_ms = performance.now();
    await client.pay({ ...payment, way: "direct" });
    if (index >= 0) times_ms.push(performance.now() - began_ms);
    await delay(PAUSE_MS);
  }
  await client.end();
  await bob.stop();
  return times_ms.sort((a, b) => a - b);
}

function reportLatency(sorted_ms: readonly number[]): void {
  const at = (share: number) =>
    sorted_ms[Math.min(sorted_ms.length - 1, Math.floor(sorted_ms.length * share))]!.toFixed(1);
  process.stdout.write(
    `${"a direct payment, nothing else".padEnd(36)}median ${at(0.5)} ms, 99th percentile ${
      at(0.99)
    } ms, of ${sorted_ms.length}\n`,
  );
}

/** A logged-in client with its orders, signed. */
interface Payer {
  readonly wire: WireClient;
  readonly orders: readonly SignedTexts[];
}

async function measureThroughput(): Promise<void> {
  const people = Array.from({ length: CLIENTS }, (_, index) => cheapPerson(`payer${index}`));
  const payers = await Promise.all(people.map(async (payer, index): Promise<Payer> => {
    const wire = await WireClient.enter(world, payer, "account.register");
    const payee = people[(index + 1) % CLIENTS]!;
    const orders = Array.from(
      { length: ORDERS_PER_CLIENT },
      () => wire.order(payer, payee, { amount: formatAmount(CENT) }),
    );
    return { wire, orders };
  }));
  const count = CLIENTS * ORDERS_PER_CLIENT;
  for (const method of ["rpc.ping", "payment.settle"]) {
    const began_ms = performance.now();
    await Promise.all(payers.map((payer) => callForEach(payer, method)));
    const took_s = (performance.now() - began_ms) / 1000;
    const what = method === "rpc.ping" ? "lines as long, answered with null" : "payments";
    process.stdout.write(
      `${`${CLIENTS} clients over TLS`.padEnd(36)}${rate(count, took_s)} ${what}/s\n`,
    );
  }
  for (const { wire } of payers) wire.close();
}

async function callForEach({ wire, orders }: Payer, method: string): Promise<void> {
  let next = 0;
  const stream = async () => {
    while (next < orders.length) await wire.peer.call(method, orders[next++]!);
  };
  await Promise.all(Array.from({ length: PIPELINED }, stream));
}

function rate(count: number, took_s: number): string {
  return Math.round(count / took_s).toLocaleString("en").padStart(8);
}
