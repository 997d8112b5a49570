/** A receipt is accepted by tools that share none of our code: openssl for the signatures, Python for the hashes. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import {
  openAccounts,
  orderOf,
  person,
  serverPair,
  signedBatch,
  signedOrder,
  temporaryLedger,
} from "../support/fixtures.ts";
import {
  type CheckedReceipt,
  checkReceipt,
  verifyEd25519,
  verifyRsa,
} from "../support/receipt_tools.ts";
import { receiptOf, settledIndex, statementOf } from "../support/receipts.ts";
import { grant } from "../support/settle_world.ts";

const alice = person("alice");
const bob = person("bob");
const carol = person("carol");

let plain: string;
let batched: string;

before(async () => {
  const { ledger, logKey, close } = await temporaryLedger();
  const statement = await statementOf(logKey);
  await openAccounts(ledger, alice, bob, carol);
  const payment = orderOf(await signedOrder(alice, bob));
  const paid = settledIndex(await ledger.submit(payment));
  const batch = await signedBatch(alice, [[bob, "1.00"], [carol, "2.00"], [bob, "3.00"]]);
  const submission = orderOf(batch.signed, batch.items);
  const index = settledIndex(await ledger.submit(submission));
  await Promise.all(Array.from({ length: 500 }, () => ledger.submit(grant(bob, "0.01"))));
  plain = await receiptOf(ledger, statement, payment, paid);
  batched = await receiptOf(ledger, statement, submission, index, 1);
  await close();
});

function check(receipt: string): CheckedReceipt {
  return checkReceipt(receipt, serverPair().publicKey.key);
}

test("a script that shares none of our code finds every hash right", () => {
  const { folder: _, ...single } = check(plain);
  assert.deepEqual(single, { payer: "alice", payee: "bob", amount: "12.50", failed: [] });
  const { folder: __, ...item } = check(batched);
  assert.deepEqual(item, { payer: "alice", payee: "carol", amount: "2.00", failed: [] });
});

test("the script finds what is wrong", () => {
  const extra = /^extra (.*)$/m.exec(plain)![1]!;
  const json = Buffer.from(extra, "base64").toString();
  const raised = json.replace('\\"amount\\":\\"12.50\\"', '\\"amount\\":\\"92.50\\"');
  assert.notEqual(raised, json);
  const { failed } = check(plain.replace(extra, Buffer.from(raised).toString("base64")));
  assert.deepEqual(failed, ["path", "payee"]);
  const { failed: moved } = check(plain.replace("\nindex 7\n", "\nindex 6\n"));
  assert.deepEqual(moved, ["path", "index"]);
});

test("openssl verifies the server's statement, the delegation, the order and the checkpoint", () => {
  for (const receipt of [plain, batched]) {
    const { folder } = check(receipt);
    writeFileSync(
      join(folder, "payer.der"),
      alice.pair.publicKey.key.export({ type: "spki", format: "der" }),
    );
    const verifications: [string, () => string][] = [
      ["statement", () => verifyRsa(folder, "statement", "server.der")],
      ["delegation", () => verifyRsa(folder, "delegation", "payer.der")],
      ["order", () => verifyEd25519(folder, "order")],
      ["checkpoint", () => verifyEd25519(folder, "checkpoint")],
    ];
    for (const [name, verify] of verifications) {
      assert.match(verify(), /Verified OK|Verified Successfully/, name);
      writeFileSync(join(folder, `${name}.input`), "something else");
      assert.throws(verify, name);
    }
  }
});
