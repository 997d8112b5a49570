/** Two receipts that contradict each other prove that a server signed two histories, to anyone. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import {
  copyLedger,
  openAccounts,
  person,
  signedOrder,
  temporaryLedger,
} from "../../support/fixtures.ts";
import { receiptOf, settledIndex, statementOf } from "../../support/receipts.ts";
import { runTool, temporaryFolder } from "../../support/support.ts";

const [alice, bob] = [person("alice"), person("bob")];

/** The receipts of a payment in each of two copies of one ledger, as an operator with all keys can make them. */
async function forkedReceipts(): Promise<{ folder: string; paths: string[] }> {
  const { ledger, folder, close } = await temporaryLedger();
  await openAccounts(ledger, alice, bob);
  await close();
  const out = temporaryFolder();
  const paths: string[] = [];
  for (const copy of [folder, copyLedger(folder)]) {
    const opened = await temporaryLedger(copy);
    const signed = await signedOrder(alice, bob);
    const submission = { type: "order", signed, items: [] } as const;
    const index = settledIndex(await opened.ledger.submit(submission));
    const statement = await statementOf(opened.logKey);
    const path = join(out, `receipt${paths.length}.txt`);
    writeFileSync(path, await receiptOf(opened.ledger, statement, submission, index));
    paths.push(path);
    await opened.close();
  }
  return { folder: out, paths };
}

test("two receipts of one place of the log prove a fork, and one receipt with itself does not", async () => {
  const { paths: [one, other] } = await forkedReceipts();
  const proven = await runTool("client.ts", ["verify-fork", one!, other!, "--json"]);
  assert.equal(proven.status, 0, proven.stderr);
  assert.equal(JSON.parse(proven.stdout).proven, true);
  const same = await runTool("client.ts", ["verify-fork", one!, one!, "--json"]);
  assert.equal(same.status, 1);
  assert.equal(JSON.parse(same.stdout).error.code, "bad_evidence");
  assert.match(same.stderr, /do not contradict/);
});
