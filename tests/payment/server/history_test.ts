/** Batches of a thousand, and the pages of a history that they are in: over real connections to a real server. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseEntry } from "../../../lib/ledger/entry.ts";
import { formatAmount } from "../../../lib/protocol/money.ts";
import { BATCH_ITEMS_MAX } from "../../../lib/protocol/order.ts";
import {
  HISTORY_ROWS_MAX,
  type HistoryAnswer,
  type HistoryAnswerRow,
} from "../../../lib/protocol/wire.ts";
import { person } from "../../support/fixtures.ts";
import { formatItem, idOf, minorUnits, WireClient } from "../../support/wire_client.ts";
import { WireWorld } from "../../support/wire_world.ts";

const OPTIONS = { timeout: 60_000 };
const [alice, bob, carol] = [person("alice"), person("bob"), person("carol")];
const wire = await WireWorld.start("alice", "bob", "carol");
const [alices, bobs, carols] = [wire.of(alice), wire.of(bob), wire.of(carol)];

async function page(client: WireClient, params: object = {}): Promise<HistoryAnswer> {
  return await client.call("payment.history", params) as unknown as HistoryAnswer;
}

/** All pages. No page is longer than it may be, none but the last is empty. */
async function pages(client: WireClient): Promise<HistoryAnswerRow[][]> {
  const all: HistoryAnswerRow[][] = [];
  for (let after: number | null = null;;) {
    const { rows, next }: HistoryAnswer = await page(client, { after });
    assert.ok(rows.length <= HISTORY_ROWS_MAX);
    all.push([...rows]);
    if (next === null) return all;
    assert.ok(rows.length > 0);
    after = next;
  }
}

/** Every row's balance follows from the one before, to the account's balance now. */
async function assertAddsUp(client: WireClient, account: string): Promise<HistoryAnswerRow[]> {
  const rows = (await pages(client)).flat();
  let balance = 0n;
  for (const { payer, payee, amount, ...row } of rows) {
    assert.ok(payer === account || payee === account);
    balance += payer === account ? -minorUnits(amount) : minorUnits(amount);
    assert.equal(row.balance, formatAmount(balance));
  }
  assert.equal(await client.balance(), formatAmount(balance));
  const places = rows.map(({ index }) => index);
  assert.deepEqual(places, places.toSorted((one, other) => one - other));
  return rows;
}

test("a batch of 1,000 payments is one entry, with a receipt for each", OPTIONS, async () => {
  const payees = [bob, carol];
  const items = Array.from(
    { length: BATCH_ITEMS_MAX },
    (_, index) => formatItem(index, payees[index % 2]!, "0.02"),
  );
  const batch = alices.batchOf(alice, items);
  const size = await wire.size();
  const answer = await alices.settle(batch);
  assert.equal(await wire.size(), size + 1);
  assert.deepEqual([answer.items, answer.order], [undefined, undefined]);
  assert.equal(answer.balance, "9980.00");
  const entry = parseEntry(String(answer.entry));
  assert.ok(entry.type === "batch");
  assert.deepEqual([entry.count, entry.total, entry.index], [BATCH_ITEMS_MAX, 2_000n, size]);
  assert.ok(!String(answer.entry).includes("bob"));
  for (const index of [0, 1, 511, BATCH_ITEMS_MAX - 1]) {
    const receipt = await alices.verifiedReceipt(batch, answer, index);
    assert.deepEqual([receipt.item, receipt.payee], [index, payees[index % 2]!.name]);
    const by = index % 2 === 0 ? bobs : carols;
    const received = await by.call("payment.receipt", { id: idOf(batch), payer: "alice", index });
    assert.equal((await by.receivedReceipt(received)).amount, 2n);
  }
  assert.equal(await bobs.balance(), "10010.00");
  const again = await alices.settle(batch);
  assert.deepEqual([again.entry, await wire.size()], [answer.entry, size + 1]);
});

test("a page is never cut within a batch, and rows name their payments", OPTIONS, async () => {
  const [whole] = await pages(alices);
  assert.equal(whole!.length, 1 + BATCH_ITEMS_MAX);
  const [opening, first] = whole!;
  assert.deepEqual(
    [opening!.payer, opening!.payee, opening!.amount, opening!.memo],
    ["@treasury", "alice", "10000.00", null],
  );
  assert.match(first!.payment, /^[0-9a-f-]{36}\/0$/);
  assert.deepEqual([first!.payer, first!.payee, first!.amount], ["alice", "bob", "0.02"]);
  const bobsRows = (await pages(bobs)).flat().slice(1);
  assert.equal(bobsRows.length, BATCH_ITEMS_MAX / 2);
  assert.ok(bobsRows.every(({ payee }) => payee === "bob"));
});

test(
  "pages of single payments and batches together miss nothing and repeat nothing",
  OPTIONS,
  async () => {
    const before = {
      alice: (await pages(alices)).flat().length,
      bob: (await pages(bobs)).flat().length,
    };
    for (let round = 0; round < 3; round++) {
      await Promise.all(
        Array.from(
          { length: 99 },
          () => alices.settle(alices.order(alice, bob, { amount: "0.01" })),
        ),
      );
      await wire.assertSettles(alices, alices.batch(alice, [bob, carol, bob]));
    }
    const rows = await assertAddsUp(alices, "alice");
    assert.equal(rows.length, before.alice + 3 * (99 + 3));
    assert.equal(
      new Set(rows.map(({ payment }) => payment)).size,
      rows.length,
    );
    assert.equal((await assertAddsUp(bobs, "bob")).length, before.bob + 3 * (99 + 2));
    await assertAddsUp(carols, "carol");
  },
);

test("a page that ends with the last entry says that it is the last", OPTIONS, async () => {
  const rows = (await pages(bobs)).flat();
  const last = rows.at(-1)!;
  assert.deepEqual(await page(bobs, { after: last.index }), { rows: [], next: null });
  const beforeLast = rows.filter(({ index }) => index < last.index).at(-1)!;
  const end = await page(bobs, { after: beforeLast.index });
  assert.ok(end.rows.every(({ index }) => index === last.index));
  assert.equal(end.next, null);
});

test("a history goes on after no place but a whole number", OPTIONS, async () => {
  const first = await page(alices);
  for (const start of [{ after: null }, { after: 0 }]) {
    assert.deepEqual(await page(alices, start), first);
  }
  for (const after of [-1, 0.5, "1", [], true, 2 ** 53]) {
    await wire.assertRefused("invalid_params", () => alices.call("payment.history", { after }));
  }
});

test("after all of this the sum is zero and the audit passes", OPTIONS, async () => {
  await wire.assertAuditPasses();
});
