/**
 * One server's ledger, for `postgres.ts`: says "ready", waits for a line, pays for some seconds,
 * and prints what it did.
 */
import { randomUUID } from "node:crypto";
import process from "node:process";
import { createInterface } from "node:readline";
import type { Uuid } from "../lib/base/parse.ts";
import { openLogKey } from "../lib/keys/log_key.ts";
import { watchedClock } from "../lib/ledger/clock.ts";
import { openLedger } from "../lib/ledger/open_ledger.ts";
import { openPostgres } from "../lib/ledger/postgres.ts";
import type { Submission } from "../lib/ledger/submission.ts";
import { parseAmount, UNIT_DEFAULT } from "../lib/protocol/money.ts";
import { signOrder } from "../lib/protocol/order.ts";
import { sha256Text } from "../lib/protocol/token.ts";
import { now_s } from "../tests/support/fixtures.ts";
import { type Account, makeAccounts } from "./accounts.ts";

const ACCOUNTS = 64;
const IN_FLIGHT_EACH = 16;
const ORDERS_EACH = 1_000;

const SERVER = sha256Text("the bench's server");

const [url, keysFolder, name, run_s] = process.argv.slice(2);

/** Each pays the next 0.01, again and again. */
async function makeOrders(
  accounts: readonly Account[],
): Promise<Submission[][]> {
  const streams: Submission[][] = [];
  for (const [index, { account, session, delegation }] of accounts.entries()) {
    const { account: payee, key: payeeKey } = accounts[(index + 1) % accounts.length]!;
    streams.push(
      await Promise.all(Array.from({ length: ORDERS_EACH }, async () => ({
        type: "order",
        items: [],
        signed: {
          delegation,
          order: await signOrder({
            id: randomUUID() as Uuid,
            server: SERVER,
            payer: account,
            payee,
            payeeKey,
            amount: parseAmount("0.01"),
            iat: now_s(),
            exp: now_s() + 3_600,
            memo: null,
            request: null,
            refundOf: null,
          }, session),
        },
      }))),
    );
  }
  return streams;
}

const store = await openPostgres(url!, { create: true });
const ledger = await openLedger({
  store,
  server: SERVER,
  logKey: openLogKey(keysFolder!, { makeMissing: true }).pair,
  keysFolder: keysFolder!,
  create: { unit: UNIT_DEFAULT, openingBalance: 1_000_000n, registration: "open" },
  clock: watchedClock(),
});
const accounts = await makeAccounts(name!, ACCOUNTS, SERVER);
await Promise.all(
  accounts.map(({ delegation }) =>
    ledger.submit({ type: "open", delegation, id: randomUUID() as Uuid })
  ),
);
const streams = await makeOrders(accounts);

console.log("ready");
const input = createInterface({ input: process.stdin });
for await (const _ of input) break;

const began_ms = performance.now();
const until_ms = began_ms + Number(run_s) * 1_000;
let payments = 0;
await Promise.all(streams.flatMap((orders) =>
  Array.from({ length: IN_FLIGHT_EACH }, async () => {
    while (performance.now() < until_ms) {
      const order = orders.pop();
      if (order === undefined) return;
      const { state } = await ledger.submit(order);
      if (state !== "settled") throw new Error(`a payment ended ${state}`);
      payments++;
    }
  })
));
console.log(JSON.stringify({ payments, took_s: (performance.now() - began_ms) / 1_000 }));
await ledger.close();
await store.close();
process.exit();
