import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import {
  type BookRow,
  csvLine,
  ledgerHeader,
  ledgerTransaction,
} from "../../../lib/payment/client/books.ts";
import { makeStatement, monthBounds } from "../../../lib/payment/client/statement.ts";
import { statementHtml } from "../../../lib/payment/client/statement_html.ts";
import type { Unit } from "../../../lib/protocol/money.ts";
import { hledger, HLEDGER_MISSING } from "../../support/hledger.ts";
import { jsonLines, PaymentWorld } from "../../support/payment_world.ts";
import { RUNTIME, runTool } from "../../support/support.ts";

const UNIT = "EUR2" as Unit;
const ID = "00000000-0000-4000-8000-000000000001";
const EVIL_MEMOS = [
  '=HYPERLINK("http://evil.example")',
  "+1",
  "-1+1",
  "@SUM(A1)",
  "\t=1",
  "a, b",
  'she said "hi"',
  "two\nlines",
  "; date:1999-01-01",
  "x | y ; z [1999-01-01] (assets:sealwire:alice) 5 EUR",
  "<script>alert(1)</script>",
];

function row(changed: Partial<BookRow>): BookRow {
  return {
    index: 7,
    payment: ID,
    time: Date.UTC(2026, 10, 5, 12) / 1000,
    payer: "bob",
    payee: "alice",
    amount: "1.00",
    memo: null,
    balance: "1.00",
    ...changed,
  };
}

test("CSV: no cell is a formula, quotes are doubled, and every line has all columns", () => {
  const cellOf = (memo: string) =>
    /-?1\.00,1\.00,(.*),,,1\.00$/.exec(csvLine("alice", row({ memo })))![1];
  assert.deepEqual(
    EVIL_MEMOS.slice(0, 8).map(cellOf),
    [
      `"'=HYPERLINK(""http://evil.example"")"`,
      "'+1",
      "'-1+1",
      "'@SUM(A1)",
      "\\u{9}=1",
      '"a, b"',
      '"she said ""hi"""',
      "two\\u{a}lines",
    ],
  );
  assert.equal(
    csvLine("bob", row({ payee: "@treasury", refund_of: "x", request: "y" })),
    `7,${ID},2026-11-05T12:00:00Z,bob,'@treasury,1.00,-1.00,,y,x,1.00`,
  );
});

const NEEDS_HLEDGER = { skip: HLEDGER_MISSING };

test("hledger reads a journal whose memos try to be something else", NEEDS_HLEDGER, () => {
  let journal = ledgerHeader(UNIT) + "\n";
  for (const [at, memo] of EVIL_MEMOS.entries()) {
    journal += ledgerTransaction("alice", UNIT, row({ memo, balance: `${at + 1}.00` })) + "\n";
  }
  const balance = hledger(journal, "bal", "assets:sealwire:alice", "-N");
  assert.match(balance, new RegExp(`^${EVIL_MEMOS.length}\\.00 "EUR2"  assets:sealwire:alice$`));
  assert.equal(hledger(journal, "register", "date:1999"), "");
});

test("a statement adds up, and its HTML holds text of others as text", () => {
  const rows = [
    row({ time: Date.UTC(2026, 9, 31, 23, 59) / 1000, amount: "10.00", balance: "10.00" }),
    row({ payer: "alice", payee: "bob", amount: "4.00", balance: "6.00", memo: EVIL_MEMOS[10] }),
    row({ payer: "carol", amount: "1.50", balance: "7.50" }),
    row({ time: Date.UTC(2026, 11, 1) / 1000, amount: "1.00", balance: "8.50" }),
  ];
  const statement = makeStatement("alice", "EUR", "2026-11", monthBounds("2026-11")!, rows);
  const { opening, closing, paidIn, paidOut, movements, people } = statement;
  assert.deepEqual([opening, closing, paidIn, paidOut], [1000n, 750n, 150n, 400n]);
  assert.equal(opening + paidIn - paidOut, closing);
  assert.equal(movements.length, 2);
  assert.deepEqual(people, [
    { name: "bob", paidIn: 0n, paidOut: 400n },
    { name: "carol", paidIn: 150n, paidOut: 0n },
  ]);
  const html = statementHtml(statement);
  assert.match(html, /&lt;script&gt;/);
  assert.doesNotMatch(html, /<script|https?:/);
});

test("a month without movements, the last of a year, and what is no month", () => {
  assert.deepEqual(monthBounds("2026-12"), {
    from_s: Date.UTC(2026, 11) / 1000,
    to_s: Date.UTC(2027, 0) / 1000,
  });
  for (const wrong of ["2026-13", "2026-00", "26-01", "2026-1", "november", ""]) {
    assert.equal(monthBounds(wrong), null);
  }
  const empty = makeStatement("alice", "EUR", "2026-12", monthBounds("2026-12")!, [row({})]);
  assert.deepEqual([empty.opening, empty.closing], [100n, 100n]);
  assert.match(statementHtml(empty), /<path d="M0 [\d.]+H640"\/>/);
});

let world: PaymentWorld;

before(async () => {
  world = await PaymentWorld.start();
  await world.register("alice", "bob");
  const batch = join(world.folder, "batch.csv");
  writeFileSync(batch, "bob,1.00\nbob,2.00\n");
  await world.ask("alice", "pay", "bob", "12.50", "=1+1; lunch");
  await world.ask("alice", "pay", "--batch", batch);
  const [, { payment }] = jsonLines(await world.client("bob", "history")) as [
    object,
    { payment: string },
  ];
  await world.ask("bob", "refund", payment, "2.25");
  await world.operate("grant", "alice", "7.00");
  await world.ask("alice", "redeem", "3.00");
});

after(() => world.stop());

async function printed(name: string, ...args: string[]): Promise<string> {
  const all = world.clientArgs(name, ...args).filter((arg) => arg !== "--json");
  const { status, stdout, stderr } = await runTool("client.ts", all);
  assert.equal(status, 0, stderr);
  return stdout;
}

test(
  "`hledger bal` equals the balance: refunds, grants, batches and redeemed money included",
  NEEDS_HLEDGER,
  async () => {
    for (const name of ["alice", "bob"]) {
      const { balance } = await world.ask(name, "balance");
      const journal = await printed(name, "history", "--ledger");
      const args = ["bal", `assets:sealwire:${name}`, "-N"];
      assert.equal(hledger(journal, ...args), `${balance} EUR  assets:sealwire:${name}`);
      hledger(journal, "check");
    }
    const journal = await printed("alice", "history", "--ledger");
    assert.equal(hledger(journal, "bal", "expenses", "-N"), "13.25 EUR  expenses:bob");
    assert.equal(hledger(journal, "bal", "equity", "-N"), "-10004.00 EUR  equity:treasury");
  },
);

test("history --csv has a line for every row", async () => {
  const rows = jsonLines(await world.client("alice", "history"));
  const args = world.clientArgs("alice", "history", "--csv").filter((arg) => arg !== "--json");
  const tool = fileURLToPath(new URL("../../../client.ts", import.meta.url));
  const run = RUNTIME === "deno" ? ["run", "-A", "--no-check", "--quiet"] : [];
  const { stdout } = spawnSync(process.execPath, [...run, tool, ...args], { encoding: "utf8" });
  const lines = stdout.split("\r\n");
  assert.equal(lines.pop(), "");
  assert.equal(lines.length, rows.length + 1);
  assert.equal(
    lines[0],
    "index,payment,time,payer,payee,amount,change,memo,request,refund_of,balance",
  );
  assert.ok(lines[2]!.includes(",12.50,-12.50,'=1+1; lunch,"), lines[2]);
  const both = await world.client("alice", "history", "--csv");
  assert.equal(both.status, 2, both.stdout);
});

test("statement: on the terminal, as JSON, and as a new HTML file", async () => {
  const { balance } = await world.ask("alice", "balance");
  const json = await world.ask("alice", "statement");
  assert.deepEqual([json.opening, json.closing], ["0.00", balance]);
  const text = await printed("alice", "statement");
  assert.match(text, new RegExp(`^Closing balance +${balance}$`, "m"));
  const html = join(world.folder, "statement.html");
  assert.equal((await world.ask("alice", "statement", "--html", html)).html, html);
  const before = readFileSync(html, "utf8");
  assert.match(before, /gives back/);
  assert.equal((await world.client("alice", "statement", "--html", html)).status, 1);
  assert.equal(readFileSync(html, "utf8"), before);
  assert.equal((await world.client("alice", "statement", "--month", "soon")).status, 2);
  const old = await world.ask("alice", "statement", "--month", "2020-01");
  assert.deepEqual([old.opening, old.closing, old.movements], ["0.00", "0.00", []]);
});
