/**
 * How many payments a second the ledger settles: orders signed beforehand, verified and submitted by 64 streams in this process.
 * Beside it, on the same machine in the same run, what its two parts reach alone: SQLite with the very rows that the first
 * measurement wrote, in blocks of the same size, and Ed25519 verification.
 *
 *     deno run -A bench/settle.ts        bun bench/settle.ts
 *
 * Takes less than a minute. The database is in the system's temporary folder (TMPDIR), whose disk decides what a commit costs.
 */
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { compactVerify } from "jose";
import { makeSessionKey, signDelegation } from "../lib/protocol/delegation.ts";
import { parseAccountName, type RsaKeyPair, rsaPublicKeyFromPem } from "../lib/keys/rsa.ts";
import { Ledger } from "../lib/ledger/ledger.ts";
import type { Submission } from "../lib/ledger/submission.ts";
import { openSqlite } from "../lib/ledger/sqlite.ts";
import type { BlockRecord, LedgerStore } from "../lib/ledger/store.ts";
import { parseAmount } from "../lib/protocol/money.ts";
import { type SignedOrder, signOrder, verifySignedOrder } from "../lib/protocol/order.ts";
import { encodeBase64url, type Uuid } from "../lib/base/parse.ts";
import { sha256Text } from "../lib/protocol/token.ts";

const STREAMS = 64;
const ORDERS_PER_STREAM = 250;
const PIPELINED = 16;
const VERIFICATIONS_IN_FLIGHT = 128;
const OPENING_BALANCE = 1_000_000n;

const CERT = sha256Text("certificate");
const now_s = () => Math.floor(Date.now() / 1000);

/** What one measurement found. */
interface Measured {
  readonly what: string;
  readonly per_s: number;
  readonly remark: string;
}

function rsaPair(): RsaKeyPair {
  const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const pem = publicKey.export({ type: "spki", format: "pem" }) as string;
  return { publicKey: rsaPublicKeyFromPem(pem), privateKey };
}

/** Sixty-four accounts that share one RSA key, for each costs 0.2 s to make and none of them is the other's secret here. */
async function makeAccounts(server: RsaKeyPair) {
  const pair = rsaPair();
  return await Promise.all(Array.from({ length: STREAMS }, async (_, index) => {
    const account = parseAccountName(`payer-${index}`);
    const session = makeSessionKey();
    const delegation = await signDelegation(pair, {
      account,
      session: session.publicKey,
      server: server.publicKey.thumbprint,
      cert: CERT,
      nonce: encodeBase64url(new Uint8Array(32)),
    }, now_s());
    return { account, pair, session, delegation };
  }));
}

type Account = Awaited<ReturnType<typeof makeAccounts>>[number];

/** The orders of each stream: each account pays its neighbour 0.01, again and again. */
function signOrders(accounts: readonly Account[], server: RsaKeyPair): Promise<SignedOrder[][]> {
  return Promise.all(accounts.map((payer, index) => {
    const payee = accounts[(index + 1) % accounts.length]!;
    return Promise.all(Array.from({ length: ORDERS_PER_STREAM }, async () => ({
      order: await signOrder({
        id: randomUUID() as Uuid,
        server: server.publicKey.thumbprint,
        payer: payer.account,
        payee: payee.account,
        payeeKey: payee.pair.publicKey.thumbprint,
        amount: parseAmount("0.01"),
        iat: now_s(),
        exp: now_s() + 3_600,
        memo: null,
      }, payer.session),
      delegation: payer.delegation,
    })));
  }));
}

/** A store that remembers what is appended to it. */
function recording(store: LedgerStore, records: BlockRecord[]): LedgerStore {
  return new Proxy(store, {
    get(target, name) {
      if (name === "transaction") {
        return (work: Parameters<LedgerStore["transaction"]>[0]) =>
          target.transaction((transaction) =>
            work({
              head: () => transaction.head(),
              accounts: (names) => transaction.accounts(names),
              outcomes: (ids) => transaction.outcomes(ids),
              append: (record) => {
                records.push(record);
                return transaction.append(record);
              },
            })
          );
      }
      const member: unknown = Reflect.get(target, name);
      return typeof member === "function" ? member.bind(target) : member;
    },
  });
}

/** Runs `work` for each of `items`, at most `inFlight_max` at a time. */
async function forEach<T>(
  items: readonly T[],
  inFlight_max: number,
  work: (item: T) => Promise<void>,
) {
  let next = 0;
  const worker = async () => {
    while (next < items.length) await work(items[next++]!);
  };
  await Promise.all(Array.from({ length: inFlight_max }, worker));
}

async function timed(work: () => Promise<void>): Promise<number> {
  const began_ms = performance.now();
  await work();
  return (performance.now() - began_ms) / 1000;
}

async function measureSettle(
  folder: string,
  server: RsaKeyPair,
  inFlight: number,
): Promise<{ measured: Measured; records: BlockRecord[]; orders: SignedOrder[] }> {
  const store = openSqlite(join(folder, `settle-${inFlight}.db`), { create: true });
  const records: BlockRecord[] = [];
  const ledger = new Ledger({
    store: recording(store, records),
    serverKeys: server,
    cert: CERT,
    now_s,
  });
  const accounts = await makeAccounts(server);
  await Promise.all(accounts.map(({ delegation }): Promise<unknown> => {
    const opening: Submission = {
      type: "open",
      delegation,
      id: randomUUID() as Uuid,
      openingBalance: OPENING_BALANCE,
    };
    return ledger.submit(opening);
  }));
  const streams = await signOrders(accounts, server);
  const known = new Map(accounts.map(({ delegation }) => [delegation.text, delegation]));
  const verifyKnown = (text: unknown) => Promise.resolve(known.get(text as string)!);
  const opened = records.length;
  const took_s = await timed(async () => {
    await Promise.all(
      streams.map((orders) =>
        forEach(orders, inFlight, async ({ order, delegation }) => {
          const signed = await verifySignedOrder(order.text, delegation.text, verifyKnown);
          const { state } = await ledger.submit({ type: "order", signed, items: [] });
          if (state !== "settled") throw new Error(`a payment ended ${state}`);
        })
      ),
    );
  });
  await store.close();
  const payments = STREAMS * ORDERS_PER_STREAM;
  const blocks = records.length - opened;
  return {
    measured: {
      what: `settled, ${STREAMS} streams, ${inFlight} in flight each`,
      per_s: payments / took_s,
      remark: `${(payments / blocks).toFixed(0)} a block, ${(blocks / took_s).toFixed(0)} blocks/s`,
    },
    records,
    orders: streams.flat(),
  };
}

async function measureSqlite(
  folder: string,
  records: readonly BlockRecord[],
  inFlight: number,
): Promise<Measured> {
  const store = openSqlite(join(folder, `sqlite-${inFlight}.db`), { create: true });
  let transfers = 0;
  const took_s = await timed(async () => {
    for (const record of records) {
      await store.transaction((transaction) => transaction.append(record));
      transfers += record.newOutcomes.length;
    }
  });
  await store.close();
  const remark = `${(transfers / records.length).toFixed(0)} a commit, ${
    (records.length / took_s).toFixed(0)
  } commits/s`;
  return {
    what: `SQLite alone, the rows of ${inFlight} in flight`,
    per_s: transfers / took_s,
    remark,
  };
}

async function measureVerification(orders: readonly SignedOrder[]): Promise<Measured> {
  const took_s = await timed(() =>
    forEach(orders, VERIFICATIONS_IN_FLIGHT, async ({ order, delegation }) => {
      await compactVerify(order.text, delegation.claims.session.key, { algorithms: ["EdDSA"] });
    })
  );
  return {
    what: "Ed25519 verification alone",
    per_s: orders.length / took_s,
    remark: `${VERIFICATIONS_IN_FLIGHT} in flight`,
  };
}

function print(measurements: readonly Measured[]): void {
  const runtime = process.versions.bun
    ? `Bun ${process.versions.bun}`
    : `Deno ${process.versions.deno}`;
  console.log(`${runtime}, ${availableParallelism()} cores, database in ${tmpdir()}`);
  for (const { what, per_s, remark } of measurements) {
    console.log(`${what.padEnd(42)} ${per_s.toFixed(0).padStart(7)} payments/s   ${remark}`);
  }
}

const folder = mkdtempSync(join(tmpdir(), "sealwire-bench-"));
try {
  const server = rsaPair();
  const single = await measureSettle(folder, server, 1);
  const pipelined = await measureSettle(folder, server, PIPELINED);
  const smallCommits = await measureSqlite(folder, single.records, 1);
  const largeCommits = await measureSqlite(folder, pipelined.records, PIPELINED);
  const verification = await measureVerification(pipelined.orders);
  print([single.measured, pipelined.measured, smallCommits, largeCommits, verification]);
} finally {
  rmSync(folder, { recursive: true });
}
