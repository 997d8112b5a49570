/** One server's ledger, for `postgres.ts`: says "ready", waits for a line, pays for some seconds, and prints what it did. */
import { generateKeyPairSync, randomUUID } from "node:crypto";
import process from "node:process";
import { createInterface } from "node:readline";
import { encodeBase64url, type Uuid } from "../lib/base/parse.ts";
import { openLogKey } from "../lib/keys/log_key.ts";
import { parseAccountName, type RsaKeyPair, rsaPublicKeyFromPem } from "../lib/keys/rsa.ts";
import { watchedClock } from "../lib/ledger/clock.ts";
import { openLedger } from "../lib/ledger/open_ledger.ts";
import { openPostgres } from "../lib/ledger/postgres.ts";
import type { Submission } from "../lib/ledger/submission.ts";
import { makeSessionKey, signDelegation } from "../lib/protocol/delegation.ts";
import { parseAmount, UNIT_DEFAULT } from "../lib/protocol/money.ts";
import { signOrder } from "../lib/protocol/order.ts";
import { sha256Text } from "../lib/protocol/token.ts";

const ACCOUNTS = 64;
const IN_FLIGHT_EACH = 16;
const ORDERS_EACH = 1_000;

const SERVER = sha256Text("the bench's server");
const CERT = sha256Text("the bench's certificate");
const now_s = () => Math.floor(Date.now() / 1000);

const [url, keysFolder, name, run_s] = process.argv.slice(2);

/** Accounts share one RSA key, for each costs 0.2 s to make and none of them is the other's secret here. */
async function makeAccounts(pair: RsaKeyPair) {
  return await Promise.all(Array.from({ length: ACCOUNTS }, async (_, index) => {
    const account = parseAccountName(`${name}-${index}`);
    const session = makeSessionKey();
    const delegation = await signDelegation(pair, {
      account,
      session: session.publicKey,
      server: SERVER,
      cert: CERT,
      nonce: encodeBase64url(new Uint8Array(32)),
    }, now_s());
    return { account, session, delegation };
  }));
}

type Account = Awaited<ReturnType<typeof makeAccounts>>[number];

/** Each pays the next 0.01, again and again. */
async function makeOrders(
  accounts: readonly Account[],
  { publicKey }: RsaKeyPair,
): Promise<Submission[][]> {
  const streams: Submission[][] = [];
  for (const [index, { account, session, delegation }] of accounts.entries()) {
    const payee = accounts[(index + 1) % accounts.length]!.account;
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
            payeeKey: publicKey.thumbprint,
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

const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
const pem = publicKey.export({ type: "spki", format: "pem" }) as string;
const pair = { publicKey: rsaPublicKeyFromPem(pem), privateKey };

const store = await openPostgres(url!, { create: true });
const ledger = await openLedger({
  store,
  server: SERVER,
  logKey: openLogKey(keysFolder!, { makeMissing: true }).pair,
  keysFolder: keysFolder!,
  create: { unit: UNIT_DEFAULT, openingBalance: 1_000_000n, registration: "open" },
  clock: watchedClock(),
});
const accounts = await makeAccounts(pair);
await Promise.all(
  accounts.map(({ delegation }) =>
    ledger.submit({ type: "open", delegation, id: randomUUID() as Uuid })
  ),
);
const streams = await makeOrders(accounts, pair);

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
