/** A receipt is accepted by tools that share none of our code: openssl for the signatures, Python for the hashes. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { fileURLToPath } from "node:url";
import {
  openAccounts,
  orderOf,
  person,
  serverPair,
  signedBatch,
  signedOrder,
  temporaryLedger,
} from "../support/fixtures.ts";
import { openssl } from "../support/openssl.ts";
import { receiptOf, settledIndex, statementOf } from "../support/receipts.ts";
import { grant } from "../support/settle_world.ts";
import { temporaryFolder } from "../support/support.ts";

const SCRIPT = fileURLToPath(new URL("independent_receipt.py", import.meta.url));
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

interface Checked {
  readonly folder: string;
  readonly payer: string;
  readonly payee: string;
  readonly amount: string;
  readonly failed: readonly string[];
}

/** Lets the script check a receipt. In `folder` are then the inputs of all signatures. */
function check(receipt: string): Checked {
  const folder = temporaryFolder();
  const [receiptPath, keyPath] = [join(folder, "receipt.txt"), join(folder, "server.der")];
  writeFileSync(receiptPath, receipt);
  writeFileSync(keyPath, serverPair().publicKey.key.export({ type: "spki", format: "der" }));
  const args = [SCRIPT, receiptPath, keyPath, folder];
  const stdout = execFileSync("python3", args, { encoding: "utf8", stdio: "pipe" });
  return { ...JSON.parse(stdout), folder };
}

const PSS = ["rsa_padding_mode:pss", "rsa_pss_saltlen:32", "rsa_mgf1_md:sha256"]
  .flatMap((option) => ["-sigopt", option]);

/** The signature of a JWS, under an RSA key in DER. */
function verifyRsa(folder: string, name: string, key: string): string {
  const files = ["-signature", `${name}.signature`, `${name}.input`];
  return openssl(folder, "dgst", "-sha256", ...PSS, "-keyform", "DER", "-verify", key, ...files);
}

function verifyEd25519(folder: string, name: string): string {
  const key = ["-pubin", "-keyform", "DER", "-inkey", `${name}.der`];
  const files = ["-sigfile", `${name}.signature`, "-in", `${name}.input`];
  return openssl(folder, "pkeyutl", "-verify", "-rawin", ...key, ...files);
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
