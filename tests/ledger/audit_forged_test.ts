/**
 * Audit against an operator who has the server's keys, the log key and the seals, but not the
 * payers' keys.
 */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import type { AuditResult } from "../../lib/ledger/audit.ts";
import {
  type AccountOpen,
  type Batch,
  type Cancelled,
  type Entry,
  parseEntry,
  type Transfer,
} from "../../lib/ledger/entry.ts";
import { unsignedSha256 } from "../../lib/ledger/settle.ts";
import { openSqlite } from "../../lib/ledger/sqlite.ts";
import { parseAccountName } from "../../lib/keys/rsa.ts";
import type { Amount } from "../../lib/protocol/money.ts";
import type { Order } from "../../lib/protocol/order.ts";
import { type Party, TREASURY } from "../../lib/protocol/party.ts";
import { sha256Text } from "../../lib/protocol/token.ts";
import {
  type AuditedLedger,
  auditedLedger,
  auditFolder,
  BATCH,
  CANCEL,
  GRANT,
  PAYMENT,
  SIZE,
  UNSIGNED,
} from "../support/audited_ledger.ts";
import {
  amount,
  copyLedger,
  databasePath,
  delegate,
  makeSalt,
  NOW_S,
  person,
  rsaPair,
  serverPair,
  signedBatch,
  signedCancel,
  signedOrder,
  uuid,
} from "../support/fixtures.ts";
import {
  appendForged,
  cancelRow,
  type Forgery,
  orderRow,
  unsignedRow,
} from "../support/forged_entries.ts";

const alice = person("alice");
const bob = person("bob");
const carol = person("carol");
const mallory = person("mallory");
const keyOf = ({ pair }: typeof alice) => pair.publicKey.thumbprint;

let original: AuditedLedger;
let entries: Entry[];

before(async () => {
  original = await auditedLedger();
  const store = openSqlite(databasePath(original.folder), { create: false });
  entries = (await store.entries(0, SIZE)).map(parseEntry);
  await store.close();
});

async function auditForged(forgery: Forgery): Promise<AuditResult> {
  const folder = copyLedger(original.folder);
  await appendForged(folder, forgery);
  return await auditFolder(folder);
}

/** An entry of the ledger, to be copied: without its place and salt. */
function copyOf<E extends Transfer | Batch | Cancelled | AccountOpen>(index: number): E {
  const { index: _, salt: __, time: ___, ...fact } = entries[index]!;
  return fact as unknown as E;
}

/** A payment of alice's to bob that she ordered, `changed` in her order. */
async function ordered(
  changed: Partial<Order> = {},
  delegation?: Awaited<ReturnType<typeof delegate>>,
): Promise<{ entry: Transfer; forgery: Forgery }> {
  const signed = await signedOrder(alice, bob, changed, delegation);
  const { order: { claims, sha256 } } = signed;
  const entry: Transfer = {
    ...copyOf<Transfer>(PAYMENT),
    id: claims.id,
    payee: claims.payee,
    payeeKey: claims.payeeKey,
    amount: claims.amount,
    orderSha256: sha256,
    delegationSha256: signed.delegation.sha256,
  };
  return { entry, forgery: { entries: [entry], payments: [orderRow(signed)] } };
}

/** As {@linkcode ordered}, with the entry changed after. */
async function orderedBut(changed: Partial<Entry<Transfer>>, order: Partial<Order> = {}) {
  const { entry, forgery } = await ordered(order);
  return { ...forgery, entries: [{ ...entry, ...changed }] };
}

async function orderedBatch(changed: Partial<Batch> = {}): Promise<Forgery> {
  const { signed, items } = await signedBatch(alice, [[bob, "1.00"], [carol, "2.00"]]);
  const { order: { claims, sha256 }, delegation } = signed;
  const entry: Batch = {
    type: "batch",
    id: claims.id,
    payer: alice.name,
    count: claims.count,
    total: claims.total,
    unit: copyOf<Batch>(BATCH).unit,
    itemsRoot: claims.itemsRoot,
    payerKey: keyOf(alice),
    orderSha256: sha256,
    delegationSha256: delegation.sha256,
    ...changed,
  };
  return {
    entries: [entry],
    payments: [orderRow(signed, items)],
    items: new Map([[entry.orderSha256, items]]),
  };
}

async function cancelled(by = alice, changed: Partial<Cancelled> = {}): Promise<Forgery> {
  const signed = await signedCancel(by, uuid());
  const { cancel: { claims: { id, payer }, sha256: cancelSha256 }, delegation } = signed;
  const entry: Cancelled = {
    type: "cancel",
    id,
    payer,
    payerKey: keyOf(by),
    cancelSha256,
    delegationSha256: delegation.sha256,
    ...changed,
  };
  return { entries: [entry], payments: [cancelRow(signed)] };
}

async function opened(
  by: typeof alice,
  changed: Partial<AccountOpen> = {},
  delegation?: Awaited<ReturnType<typeof delegate>>,
): Promise<Forgery> {
  const token = delegation ?? await delegate(by);
  const entry: AccountOpen = {
    type: "account.open",
    id: uuid(),
    account: by.name,
    key: keyOf(by),
    delegationSha256: token.sha256,
    invite: null,
    ...changed,
  };
  return { entries: [entry], delegations: [token], jwk: by.pair.publicKey.jwk };
}

/** A payment that nobody signed. */
function unsigned(payer: Party, changed: Partial<Transfer> = {}): Forgery {
  const entry: Transfer = { ...copyOf<Transfer>(UNSIGNED), id: uuid(), payer, ...changed };
  const contentSha256 = unsignedSha256(entry.payee, entry.amount);
  return { entries: [entry], payments: [unsignedRow({ payer, id: entry.id, contentSha256 })] };
}

const dora = parseAccountName("dora");

const SOUND: [string, () => Forgery | Promise<Forgery>][] = [
  ["a payment that was ordered", async () => (await ordered()).forgery],
  ["a batch that was ordered", () => orderedBatch()],
  ["a cancel by its payer", () => cancelled()],
  ["an account opened by its key", () => opened(mallory)],
  ["a grant", () => unsigned(TREASURY, { payerKey: serverPair().publicKey.thumbprint })],
  ["an unsigned payment of an account without a key", () => unsigned(dora)],
];

for (const [what, forge] of SOUND) {
  test(`the tool that forges makes a ledger that passes when nothing is forged: ${what}`, async () => {
    assert.equal((await auditForged(await forge())).entries, SIZE + 1);
  });
}

const FORGERIES: [string, () => Forgery | Promise<Forgery>, RegExp][] = [
  ["the same payment a second time", () => ({ entries: [copyOf(PAYMENT)] }), /recorded elsewhere/],
  [
    "a payment that nobody ordered, and no row of it",
    () => ({ entries: [{ ...copyOf<Transfer>(PAYMENT), id: uuid() }] }),
    /is not recorded/,
  ],
  [
    "a payment that nobody ordered, with another's order beside it",
    () => {
      const { signed } = original.payment;
      const id = uuid();
      return {
        entries: [{ ...copyOf<Transfer>(PAYMENT), id }],
        payments: [{ ...orderRow(signed), id }],
      };
    },
    /the order is another one's/,
  ],
  [
    "a payment signed by another key in the payer's name",
    async () => {
      const signed = await signedOrder({ ...mallory, name: alice.name }, bob);
      const { forgery } = await ordered();
      const entry = {
        ...forgery.entries[0] as Transfer,
        id: signed.order.claims.id,
        orderSha256: signed.order.sha256,
        delegationSha256: signed.delegation.sha256,
      };
      return { entries: [entry], payments: [orderRow(signed)] };
    },
    /not by the payer's key/,
  ],
  [
    "a payment under another key than the account's, consistently",
    async () => {
      const signed = await signedOrder({ ...mallory, name: alice.name }, bob);
      const entry = {
        ...copyOf<Transfer>(PAYMENT),
        id: signed.order.claims.id,
        payerKey: keyOf(mallory),
        orderSha256: signed.order.sha256,
        delegationSha256: signed.delegation.sha256,
      };
      return { entries: [entry], payments: [orderRow(signed)] };
    },
    /the payer has another key/,
  ],
  [
    "another order than the entry names beside it, of the same id and the same payer",
    async () => {
      const { forgery } = await ordered();
      const row = forgery.payments![0]!;
      const { order } = await signedOrder(alice, bob, { id: row.id, exp: NOW_S + 299 });
      return { ...forgery, payments: [{ ...row, signedText: order.text }] };
    },
    /the order is another one/,
  ],
  [
    "another delegation than the order rests on",
    () => orderedBut({ delegationSha256: sha256Text("other") }),
    /the delegation is another one/,
  ],
  [
    "an order for another server",
    async () => {
      const server = rsaPair("another server").publicKey.thumbprint;
      return (await ordered({ server }, await delegate(alice, { server }))).forgery;
    },
    /for another server/,
  ],
  ["the same grant a second time", () => ({ entries: [copyOf(GRANT)] }), /recorded elsewhere/],
  ["the same cancel a second time", () => ({ entries: [copyOf(CANCEL)] }), /recorded elsewhere/],
  [
    "a cancel that the payer did not sign",
    async () => {
      const { entries, payments } = await cancelled({ ...mallory, name: alice.name });
      return { entries: [{ ...entries[0]!, payerKey: keyOf(alice) } as Cancelled], payments };
    },
    /not by the payer's key/,
  ],
  [
    "a cancel under another key than the account's, consistently",
    () => cancelled({ ...mallory, name: alice.name }),
    /not by the payer's key/,
  ],
  [
    "another cancel than the entry names beside it",
    async () => {
      const { entries, payments } = await cancelled();
      const row = payments![0]!;
      const { cancel } = await signedCancel(alice, row.id, { iat: NOW_S + 1 });
      return { entries, payments: [{ ...row, signedText: cancel.text }] };
    },
    /the cancel is another one/,
  ],
  [
    "another delegation than the cancel rests on",
    () => cancelled(alice, { delegationSha256: sha256Text("other") }),
    /the delegation is another one/,
  ],
  [
    "a cancel that names another key than the one that signed it",
    () => cancelled(alice, { payerKey: keyOf(bob) }),
    /not by the payer's key/,
  ],
  [
    "a cancel of a payment that has settled",
    () => {
      const { id } = original.payment.signed.order.claims;
      return { entries: [{ ...copyOf<Cancelled>(CANCEL), id }] };
    },
    /recorded elsewhere/,
  ],
  [
    "a cancel for another id than the payer's",
    async () => {
      const { entries, payments } = await cancelled();
      const id = uuid();
      return {
        entries: [{ ...entries[0], id } as Cancelled],
        payments: [{ ...payments![0]!, id }],
      };
    },
    /the cancel is another one's/,
  ],
  [
    "an account opened again under another key",
    async () => ({ ...await opened({ ...mallory, name: alice.name }), jwk: undefined }),
    /alice exists already/,
  ],
  [
    "an account that no key asked for",
    async () => {
      const delegation = await delegate(alice);
      return await opened(mallory, { key: keyOf(alice) }, delegation);
    },
    /the delegation is by another account/,
  ],
  [
    "an account opened under another key than its holder's",
    () => opened(mallory, { key: keyOf(alice) }),
    /the delegation is by another key/,
  ],
  [
    "an account opened by a delegation that had expired",
    async () => await opened(mallory, {}, await delegate(mallory, {}, NOW_S - 86_400)),
    /expired/,
  ],
  [
    "an account opened by a delegation for another server",
    async () => {
      const server = rsaPair("another server").publicKey.thumbprint;
      return await opened(mallory, {}, await delegate(mallory, { server }));
    },
    /another server/,
  ],
  [
    "an account under a name that would mislead",
    () => opened({ ...mallory, name: parseAccountName("support") }),
    /nobody may be called support/,
  ],
  [
    "an account opened while registration is closed",
    async () => {
      const { entries, ...rest } = await opened(mallory);
      const closed = { type: "ledger.settings", openingBalance: 0n, registration: "closed" };
      return { ...rest, entries: [closed as Entry, ...entries] };
    },
    /registration is closed/,
  ],
  [
    "a key taken away by opening the account again",
    () => ({
      entries: [{
        ...copyOf<AccountOpen>(1),
        key: null,
        delegationSha256: null,
      }],
    }),
    /alice exists already/,
  ],
  ["more than the order says", () => orderedBut({ amount: 9_999n as Amount }), /something else/],
  [
    "another payee than the order says",
    () => orderedBut({ payee: carol.name, payeeKey: keyOf(carol) }),
    /something else/,
  ],
  [
    "a batch in another unit",
    () => orderedBatch({ unit: "USD" as Batch["unit"] }),
    /another unit/,
  ],
  ["money in another unit", () => orderedBut({ unit: "USD" as Transfer["unit"] }), /another unit/],
  [
    "a payee under another key than the account's, as the order says",
    async () => (await ordered({ payeeKey: keyOf(carol) })).forgery,
    /the payee has another key/,
  ],
  [
    "a payee that does not exist, as the order says",
    async () =>
      (await ordered({ payee: parseAccountName("nobody"), payeeKey: keyOf(carol) })).forgery,
    /the payee has another key/,
  ],
  [
    "money that the payer does not have",
    async () => (await ordered({ amount: amount("20000.00") })).forgery,
    /alice would have -/,
  ],
  [
    "an order that had expired",
    async () => (await ordered({ iat: NOW_S - 10, exp: NOW_S })).forgery,
    /order_expired/,
  ],
  [
    "an order from the future",
    async () => (await ordered({ iat: NOW_S + 61, exp: NOW_S + 70 })).forgery,
    /order_from_future/,
  ],
  [
    "an order made to look timely by an entry's wrong time",
    () => orderedBut({ time: NOW_S + 301 }),
    /order_expired/,
  ],
  [
    "another total than the batch order's",
    () => orderedBatch({ total: amount("2.00") }),
    /something else/,
  ],
  [
    "other items than the batch order's",
    () => orderedBatch({ itemsRoot: sha256Text("other") }),
    /something else/,
  ],
  ["fewer items than the batch order's", () => orderedBatch({ count: 1 }), /something else/],
  [
    "a batch with an item's payee exchanged",
    async () => {
      const { payments, ...rest } = await orderedBatch();
      const itemTexts = payments![0]!.itemTexts!.map((text) => text.replace("bob", "dora"));
      return { ...rest, payments: [{ ...payments![0]!, itemTexts }] };
    },
    /not those that were signed/,
  ],
  [
    "an entry in another place than it says",
    async () => (await orderedBut({ index: SIZE + 1 })),
    /it says that it is entry 318/,
  ],
  [
    "an entry that is no canonical text",
    async () => ({ ...(await ordered()).forgery, texts: ["{}"] }),
    /v must be 1/,
  ],
  [
    "a second opening of the ledger",
    () => ({ entries: [{ ...entries[0]!, index: SIZE, salt: makeSalt() }] }),
    /only entry 0 opens a ledger/,
  ],
  [
    "a rollback that keeps another history than there is",
    () => ({
      entries: [{
        type: "ledger.rollback",
        keptSize: 100,
        keptRoot: sha256Text("other"),
        lostSize: 200,
        lostRoot: sha256Text("lost"),
      }],
    }),
    /keeps another history/,
  ],
  [
    "a rollback that keeps more than there is",
    () => ({
      entries: [{
        type: "ledger.rollback",
        keptSize: SIZE + 1,
        keptRoot: sha256Text("other"),
        lostSize: SIZE + 2,
        lostRoot: sha256Text("lost"),
      }],
    }),
    /keeps more entries/,
  ],

  // Accounts without a key.
  [
    "an unsigned payment of an account that has a key",
    () => unsigned(alice.name),
    /payer has another key/,
  ],
  [
    "an unsigned payment that names the key and no order",
    () => unsigned(alice.name, { payerKey: keyOf(alice) }),
    /order_sha256/,
  ],
  [
    "an unsigned payment of the treasury without the server's key",
    () => unsigned(TREASURY),
    /payer_key/,
  ],
  [
    "a signed payment turned into an unsigned one",
    () => {
      const bare = { payerKey: null, orderSha256: null, delegationSha256: null };
      return { entries: [{ ...copyOf<Transfer>(PAYMENT), ...bare }] };
    },
    /payer has another key/,
  ],
  [
    "an unsigned payment that names an order",
    () => {
      const { orderSha256, delegationSha256 } = copyOf<Transfer>(PAYMENT);
      return unsigned(dora, { orderSha256, delegationSha256 });
    },
    /order_sha256 must be null/,
  ],
  [
    "an unsigned payment to oneself",
    () => unsigned(dora, { payee: dora, payeeKey: null }),
    /same account/,
  ],
  [
    "an unsigned payment to a payee's other key",
    () => unsigned(dora, { payeeKey: keyOf(alice) }),
    /payee has another key/,
  ],
  [
    "an unsigned payment recorded as another one",
    () => {
      const { entries, payments } = unsigned(dora);
      return { entries, payments: [{ ...payments![0]!, contentSha256: sha256Text("other") }] };
    },
    /another content/,
  ],
  [
    "more money than there can be",
    () =>
      unsigned(TREASURY, {
        payerKey: serverPair().publicKey.thumbprint,
        amount: 9_007_199_254_740_991n as Amount,
      }),
    /@treasury would have/,
  ],
];

for (const [what, forge, sentence] of FORGERIES) {
  test(`audit notices what the operator forges with all the server's keys: ${what}`, async () => {
    const forgery = await forge();
    await assert.rejects(
      auditForged(forgery),
      (error: { code?: string; message?: string; details?: { index: number } }) => {
        assert.equal(error.code, "audit_failed", error.message);
        assert.match(error.message!, sentence);
        assert.deepEqual(error.details, { index: SIZE + forgery.entries.length - 1 });
        return true;
      },
    );
  });
}
