/**
 * How many payments a second the ledger settles, without a network: single orders of 64 streams,
 * and batches of 1,000 from 20 payers. Orders are signed beforehand; verifying them counts. Beside
 * it, on the same machine in the same run: Ed25519 verification alone, and durable SQLite commits
 * alone.
 *
 *     deno run -A bench/settle.ts [--entries N]        bun bench/settle.ts [--entries N]
 *
 * `--entries`: how many entries the ledger has before the measurement (0). The database is in the
 * system's temporary folder (TMPDIR), whose disk decides what a commit costs.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { compactVerify } from "jose";
import { encodeBase64url, type Uuid } from "../lib/base/parse.ts";
import { openLogKey } from "../lib/keys/log_key.ts";
import type { RsaKeyPair } from "../lib/keys/rsa.ts";
import { watchedClock } from "../lib/ledger/clock.ts";
import type { Ledger } from "../lib/ledger/ledger.ts";
import { openLedger } from "../lib/ledger/open_ledger.ts";
import { openSqlite } from "../lib/ledger/sqlite.ts";
import { merkleRoot } from "../lib/protocol/merkle.ts";
import { type Amount, parseAmount, UNIT_DEFAULT } from "../lib/protocol/money.ts";
import {
  formatBatchItem,
  parseBatchItems,
  SALT_BYTES,
  signBatchOrder,
  type SignedOrder,
  signOrder,
  verifySignedOrder,
} from "../lib/protocol/order.ts";
import { now_s, serverPair } from "../tests/support/fixtures.ts";
import { type Account, makeAccounts } from "./accounts.ts";
import { commitsPerSecond } from "./sqlite_alone.ts";

const STREAMS = 64;
const ORDERS_PER_STREAM = 250;
const PIPELINED = 16;
const BATCH_PAYERS = 20;
const BATCHES_PER_PAYER = 2;
const BATCH_ITEMS = 1_000;
const VERIFICATIONS_IN_FLIGHT = 128;
const CENT = parseAmount("0.01");

/** What one measurement found. */
interface Measured {
  readonly what: string;
  readonly per_s: number;
  readonly unit: string;
}

/** A batch that was signed, with its items. */
interface SignedBatch {
  readonly signed: SignedOrder;
  readonly items: readonly string[];
}

function common(server: RsaKeyPair, { account }: Account) {
  return {
    id: randomUUID() as Uuid,
    server: server.publicKey.thumbprint,
    payer: account,
    iat: now_s(),
    exp: now_s() + 3_600,
  };
}

/** The orders of each stream: each account pays its neighbour 0.01, again and again. */
function signOrders(accounts: readonly Account[], server: RsaKeyPair): Promise<SignedOrder[][]> {
  return Promise.all(accounts.map((payer, index) => {
    const payee = accounts[(index + 1) % accounts.length]!;
    return Promise.all(Array.from({ length: ORDERS_PER_STREAM }, async () => ({
      order: await signOrder({
        ...common(server, payer),
        payee: payee.account,
        payeeKey: payee.key,
        amount: CENT,
        memo: null,
        request: null,
        refundOf: null,
      }, payer.session),
      delegation: payer.delegation,
    })));
  }));
}

/** Batches that pay all the other accounts, again and again. */
function signBatches(accounts: readonly Account[], server: RsaKeyPair): Promise<SignedBatch[][]> {
  return Promise.all(
    accounts.slice(0, BATCH_PAYERS).map((payer) => {
      const payees = accounts.filter((account) => account !== payer);
      return Promise.all(Array.from({ length: BATCHES_PER_PAYER }, async () => {
        const items = Array.from({ length: BATCH_ITEMS }, (_, index) => {
          const { account, key } = payees[index % payees.length]!;
          const salt = encodeBase64url(randomBytes(SALT_BYTES));
          return formatBatchItem({ index, payee: account, payeeKey: key, amount: CENT, salt });
        });
        const total = CENT * BigInt(BATCH_ITEMS) as Amount;
        const claims = { count: BATCH_ITEMS, total, itemsRoot: merkleRoot(items) };
        const order = await signBatchOrder({ ...common(server, payer), ...claims }, payer.session);
        return { signed: { order, delegation: payer.delegation }, items };
      }));
    }),
  );
}

/** Runs `work` for each of `items`, at most `inFlight_max` at a time. */
async function forEach<T>(
  items: readonly T[],
  inFlight_max: number,
  work: (item: T) => Promise<unknown>,
) {
  let next = 0;
  const worker = async () => {
    while (next < items.length) await work(items[next++]!);
  };
  await Promise.all(Array.from({ length: inFlight_max }, worker));
}

async function timed_s(work: () => Promise<unknown> | void): Promise<number> {
  const began_ms = performance.now();
  await work();
  return (performance.now() - began_ms) / 1000;
}

/** Brings the ledger to `entries` with grants, which nobody has to sign. */
async function fill(ledger: Ledger, accounts: readonly Account[], entries: number): Promise<void> {
  const missing = Array.from({ length: Math.max(entries - ledger.size, 0) }, (_, index) => index);
  await forEach(missing, 4_000, (index) => {
    const payee = accounts[index % accounts.length]!.account;
    return ledger.submit({ type: "grant", id: randomUUID() as Uuid, payee, amount: CENT });
  });
}

async function measureSingles(
  ledger: Ledger,
  streams: readonly SignedOrder[][],
  verify: Parameters<typeof verifySignedOrder>[2],
): Promise<Measured> {
  const took_s = await timed_s(() =>
    Promise.all(
      streams.map((orders) =>
        forEach(orders, PIPELINED, async ({ order, delegation }) => {
          const signed = await verifySignedOrder(order.text, delegation.text, verify);
          const outcome = await ledger.submit({ type: "order", signed, items: [] });
          if (outcome.state !== "settled") throw new Error(`a payment ended ${outcome.state}`);
          await ledger.proveOne(outcome.index);
        })
      ),
    )
  );
  const what = `single orders, ${STREAMS} streams, ${PIPELINED} in flight each, proven`;
  return { what, per_s: STREAMS * ORDERS_PER_STREAM / took_s, unit: "payments" };
}

async function measureBatches(
  ledger: Ledger,
  payers: readonly SignedBatch[][],
  verify: Parameters<typeof verifySignedOrder>[2],
): Promise<Measured> {
  const took_s = await timed_s(() =>
    Promise.all(
      payers.map((batches) =>
        forEach(batches, 1, async ({ signed: { order, delegation }, items: texts }) => {
          const signed = await verifySignedOrder(order.text, delegation.text, verify);
          const { claims } = signed.order;
          if (!("itemsRoot" in claims)) throw new TypeError("a batch is expected");
          const items = parseBatchItems(claims, texts);
          const outcome = await ledger.submit({ type: "order", signed, items });
          if (outcome.state !== "settled") throw new Error(`a batch ended ${outcome.state}`);
        })
      ),
    )
  );
  const payments = BATCH_PAYERS * BATCHES_PER_PAYER * BATCH_ITEMS;
  const what = `batches of ${BATCH_ITEMS} from ${BATCH_PAYERS} payers`;
  return { what, per_s: payments / took_s, unit: "payments" };
}

async function measureVerification(orders: readonly SignedOrder[]): Promise<Measured> {
  const took_s = await timed_s(() =>
    forEach(
      orders,
      VERIFICATIONS_IN_FLIGHT,
      ({ order, delegation }) =>
        compactVerify(order.text, delegation.claims.session.key, { algorithms: ["EdDSA"] }),
    )
  );
  const what = `Ed25519 verification alone, ${VERIFICATIONS_IN_FLIGHT} in flight`;
  return { what, per_s: orders.length / took_s, unit: "signatures" };
}

const { values } = parseArgs({ options: { entries: { type: "string", default: "0" } } });
const folder = mkdtempSync(join(tmpdir(), "sealwire-bench-"));
try {
  const server = serverPair();
  const store = openSqlite(join(folder, "ledger.db"), { create: true });
  const ledger = await openLedger({
    store,
    server: server.publicKey.thumbprint,
    logKey: openLogKey(folder, { makeMissing: true }).pair,
    keysFolder: folder,
    clock: watchedClock(),
    create: { unit: UNIT_DEFAULT, openingBalance: 100_000_000n, registration: "open" },
  });
  const accounts = await makeAccounts("payer", STREAMS, server.publicKey.thumbprint);
  await Promise.all(
    accounts.map(({ delegation }) =>
      ledger.submit({ type: "open", delegation, id: randomUUID() as Uuid })
    ),
  );
  const known = new Map(accounts.map(({ delegation }) => [delegation.text, delegation]));
  const verify = (text: unknown) => Promise.resolve(known.get(text as string)!);
  const [orders, batches] = [
    await signOrders(accounts, server),
    await signBatches(accounts, server),
  ];
  await fill(ledger, accounts, Number(values.entries));
  const runtime = process.versions.bun
    ? `Bun ${process.versions.bun}`
    : `Deno ${process.versions.deno}`;
  console.log(`${runtime}, ${availableParallelism()} cores, ${ledger.size} entries before`);
  const measurements = [
    await measureSingles(ledger, orders, verify),
    await measureBatches(ledger, batches, verify),
    await measureVerification(orders.flat()),
    {
      what: "SQLite alone, one small row a commit",
      per_s: commitsPerSecond(folder),
      unit: "commits",
    },
  ];
  for (const { what, per_s, unit } of measurements) {
    console.log(`${what.padEnd(60)} ${per_s.toFixed(0).padStart(7)} ${unit}/s`);
  }
  await ledger.close();
  await store.close();
} finally {
  rmSync(folder, { recursive: true });
}
