import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { isSealwireError } from "../../lib/base/errors.ts";
import { type BlockHeader, signHeader } from "../../lib/ledger/block.ts";
import { formatEntry, type Transfer } from "../../lib/ledger/entry.ts";
import { orderTexts } from "../../lib/ledger/ledger.ts";
import { merklePath, merkleRoot, merkleTree } from "../../lib/protocol/merkle.ts";
import { formatReceipt, type Receipt, verifyReceipt } from "../../lib/ledger/receipt.ts";
import type { Outcome } from "../../lib/ledger/submission.ts";
import {
  type BatchItem,
  formatBatchItem,
  type Order,
  type SignedOrder,
} from "../../lib/protocol/order.ts";
import { sealMemo } from "../../lib/protocol/sealing.ts";
import { sha256Text } from "../../lib/protocol/token.ts";
import {
  amount,
  delegate,
  NOW_S,
  openAccounts,
  orderOf,
  person,
  rsaPair,
  serverPair,
  signedBatch,
  signedOrder,
  temporaryLedger,
  uuid,
} from "../support/fixtures.ts";
import { withNextCharacter } from "../support/raw_tokens.ts";
import { runTool, temporaryFolder } from "../support/support.ts";

const alice = person("alice");
const bob = person("bob");
const carol = person("carol");
const server = serverPair().publicKey;

/** Receipts of a ledger as it really makes them: one of five payments in a block, with a memo; and one of a batch's. */
let plain: string;
let batched: string;

before(async () => {
  const { ledger, store } = temporaryLedger();
  await openAccounts(ledger, alice, bob, carol);
  const memo = await sealMemo("für die Suppe 🍲", bob.pair.publicKey, alice.pair.publicKey);
  const orders = await Promise.all(
    [{ memo }, {}, {}, {}, {}].map((changed) => signedOrder(alice, bob, changed)),
  );
  const outcomes = await Promise.all(orders.map((signed) => ledger.submit(orderOf(signed))));
  plain = await ledger.receipt(orderTexts(orderOf(orders[0]!)), entriesOf(outcomes[0]!), null);
  const { signed, items } = await signedBatch(alice, [[bob, "1.00"], [carol, "2.00"], [
    bob,
    "3.00",
  ]]);
  const submission = orderOf(signed, items);
  batched = await ledger.receipt(
    orderTexts(submission),
    entriesOf(await ledger.submit(submission)),
    1,
  );
  await store.close();
});

function entriesOf(outcome: Outcome) {
  assert.equal(outcome.state, "settled");
  return (outcome as Outcome & { state: "settled" }).entries;
}

async function verdict(text: unknown, key = server): Promise<string> {
  try {
    await verifyReceipt(text, key);
    return "accepted";
  } catch (error) {
    if (!isSealwireError(error)) throw error;
    return error.code;
  }
}

test("the right receipt is accepted with the server's public key alone, and says what was paid", async () => {
  const { transfer, header } = await verifyReceipt(plain, server);
  assert.equal(transfer.payer, "alice");
  assert.equal(transfer.payee, "bob");
  assert.equal(transfer.amount, amount("12.50"));
  assert.equal(header.claims.time, NOW_S);
  const item = await verifyReceipt(batched, server);
  assert.equal(item.transfer.payee, "carol");
  assert.equal(item.transfer.index, 1);
});

/** Changes the character at `at` to the next of base64url, or to `x` where it is none of that. */
function changedAt(text: string, at: number): string {
  if (/[A-Za-z0-9_-]/.test(text.charAt(at))) return withNextCharacter(text, at);
  return `${text.slice(0, at)}x${text.slice(at + 1)}`;
}

for (
  const [what, receiptOf] of [["a payment", () => plain], [
    "one of a batch",
    () => batched,
  ]] as const
) {
  test(`the receipt of ${what} with any one character changed is refused, at every position`, {
    timeout: 60_000,
  }, async () => {
    const receipt = receiptOf();
    assert.ok(receipt.length > 2_500);
    for (let at = 0; at < receipt.length; at++) {
      assert.notEqual(await verdict(changedAt(receipt, at)), "accepted", `position ${at}`);
    }
  });

  test(
    `the receipt of ${what} with a character left out or put in is refused`,
    { timeout: 60_000 },
    async () => {
      const receipt = receiptOf();
      // Each seventh position: all of them would say no more, and take a while.
      for (let at = 0; at <= receipt.length; at += 7) {
        const changed = [
          receipt.slice(0, at) + receipt.slice(at + 1),
          `${receipt.slice(0, at)} ${receipt.slice(at)}`,
          `${receipt.slice(0, at)}A${receipt.slice(at)}`,
        ].filter((one) => one !== receipt);
        for (const one of changed) {
          assert.notEqual(await verdict(one), "accepted", `position ${at}`);
        }
      }
    },
  );
}

test("another server's key accepts nothing", async () => {
  assert.equal(await verdict(plain, rsaPair("another server").publicKey), "bad_signature");
});

test("what is no receipt is bad_receipt", async () => {
  const parts = JSON.parse(plain) as Record<string, unknown>;
  const { path, ...withoutPath } = parts;
  const others = [
    undefined,
    null,
    5,
    "",
    "{}",
    "[]",
    "null",
    `[${plain}]`,
    JSON.stringify(parts, null, 1),
    JSON.stringify({ ...parts, extra: 1 }),
    JSON.stringify({ ...parts, v: 2 }),
    JSON.stringify(withoutPath),
    JSON.stringify({ ...parts, path: (path as string[]).join() }),
    JSON.stringify({ ...parts, path: [path] }),
    JSON.stringify({ ...parts, path: Array.from({ length: 21 }, () => (path as string[])[0]) }),
    JSON.stringify({ ...parts, header: 5 }),
    "[".repeat(20_000),
    "x".repeat(100_000),
  ];
  for (const other of others) {
    assert.equal(await verdict(other), "bad_receipt", String(other).slice(0, 80));
  }
});

test("the parts of two sound receipts make none together", async () => {
  const [one, other] = [plain, batched].map((text) => JSON.parse(text) as Record<string, unknown>);
  for (const part of ["order", "delegation", "entry", "path", "header"]) {
    if (part === "delegation" && one![part] === other![part]) continue;
    assert.notEqual(
      await verdict(JSON.stringify({ ...one, [part]: other![part] })),
      "accepted",
      part,
    );
  }
  const { item, item_path } = other!;
  assert.notEqual(await verdict(JSON.stringify({ ...one, item, item_path })), "accepted");
});

/** What a dishonest server can make, which has its own key: a block of `transfer` alone, and a receipt of that. */
async function forge(
  { order, delegation }: SignedOrder,
  changed: Partial<Transfer>,
  { item = null, header = {} }: { item?: Receipt["item"]; header?: Partial<BlockHeader> } = {},
): Promise<string> {
  const claims = order.claims as Order;
  const entry = formatEntry({
    type: "transfer",
    seq: 5,
    id: claims.id,
    index: null,
    payer: claims.payer,
    payee: claims.payee,
    amount: claims.amount,
    payerKey: delegation.claims.key.thumbprint,
    payeeKey: claims.payeeKey,
    orderSha256: order.sha256,
    delegationSha256: delegation.sha256,
    ...changed,
  });
  const signed = await signHeader({
    height: 2,
    prev: sha256Text("before"),
    first: 5,
    count: 1,
    root: merkleRoot([entry]),
    time: NOW_S,
    server: server.thumbprint,
    ...header,
  }, serverPair().privateKey);
  return formatReceipt({
    order: order.text,
    delegation: delegation.text,
    item,
    entry,
    path: [],
    header: signed.text,
  });
}

test("a server cannot make a receipt of something else than was ordered", async () => {
  const signed = await signedOrder(alice, bob);
  assert.equal(await verdict(await forge(signed, {})), "accepted");
  const changes: Partial<Transfer>[] = [
    { amount: amount("12.51") },
    { payee: carol.name },
    { payeeKey: carol.pair.publicKey.thumbprint },
    { payer: carol.name },
    { payerKey: carol.pair.publicKey.thumbprint },
    { id: uuid() },
    { index: 0 },
    { orderSha256: sha256Text("other") },
    { delegationSha256: sha256Text("other") },
    { payer: "@treasury", orderSha256: null, delegationSha256: null },
  ];
  for (const changed of changes) {
    assert.equal(
      await verdict(await forge(signed, changed)),
      "bad_receipt",
      JSON.stringify(Object.keys(changed)),
    );
  }
});

test("a server cannot settle an order at a time when it did not hold", async () => {
  const signed = await signedOrder(alice, bob);
  const at = async (time: number) => await verdict(await forge(signed, {}, { header: { time } }));
  assert.equal(await at(NOW_S + 299), "accepted");
  assert.equal(await at(NOW_S + 300), "bad_receipt");
  assert.equal(await at(NOW_S - 60), "accepted");
  assert.equal(await at(NOW_S - 61), "bad_receipt");
});

test("a header that names another server is wrong_server, though this one's key signed it", async () => {
  const receipt = await forge(await signedOrder(alice, bob), {}, {
    header: { server: sha256Text("other") },
  });
  assert.equal(await verdict(receipt), "wrong_server");
});

test("an order for another server makes no receipt of this one", async () => {
  const other = sha256Text("another server");
  const signed = await signedOrder(
    alice,
    bob,
    { server: other },
    await delegate(alice, { server: other }),
  );
  assert.equal(await verdict(await forge(signed, {})), "wrong_server");
});

test("an entry in another place of the block than its number says is refused", async () => {
  const signed = await signedOrder(alice, bob);
  assert.equal(await verdict(await forge(signed, {}, { header: { first: 6 } })), "bad_path");
  assert.equal(await verdict(await forge(signed, {}, { header: { first: 4 } })), "bad_path");
  assert.equal(await verdict(await forge(signed, {}, { header: { count: 2 } })), "bad_path");
});

test("one of a batch proves that payee's payment and no other's", async () => {
  const { signed, items } = await signedBatch(alice, [[bob, "1.00"], [carol, "2.00"]]);
  const tree = merkleTree(items.map(formatBatchItem));
  const receiptOf = (index: number, { payee, payeeKey, amount }: BatchItem, itemIndex = index) =>
    forge(signed, { index, payee, payeeKey, amount }, {
      item: { text: formatBatchItem(items[itemIndex]!), path: merklePath(tree, itemIndex) },
    });
  const [first, second] = items as [BatchItem, BatchItem];
  assert.equal(await verdict(await receiptOf(0, first)), "accepted");
  assert.equal(await verdict(await receiptOf(1, second)), "accepted");
  assert.equal(await verdict(await receiptOf(0, second)), "bad_receipt");
  assert.equal(await verdict(await receiptOf(0, first, 1)), "bad_receipt");
  const withoutItem = await forge(signed, {
    index: 0,
    payee: bob.name,
    payeeKey: first.payeeKey,
    amount: first.amount,
  });
  assert.equal(await verdict(withoutItem), "bad_receipt");
});

/** The receipt and the server's public key, as files. */
function written(receipt: string): { folder: string; receiptPath: string; keyPath: string } {
  const folder = temporaryFolder();
  const [receiptPath, keyPath] = [join(folder, "receipt.json"), join(folder, "server_public.pem")];
  writeFileSync(receiptPath, receipt);
  writeFileSync(keyPath, server.key.export({ type: "spki", format: "pem" }));
  return { folder, receiptPath, keyPath };
}

test("openssl verifies the signature of the block header", () => {
  for (const receipt of [plain, batched]) {
    const { folder, keyPath } = written(receipt);
    const [header, payload, signature] = (JSON.parse(receipt).header as string).split(".");
    const [signaturePath, inputPath] = [join(folder, "signature"), join(folder, "input")];
    writeFileSync(signaturePath, Buffer.from(signature!, "base64url"));
    const options = [
      "-sigopt",
      "rsa_padding_mode:pss",
      "-sigopt",
      "rsa_pss_saltlen:32",
      "-sigopt",
      "rsa_mgf1_md:sha256",
    ];
    const openssl = () =>
      execFileSync(
        "openssl",
        ["dgst", "-sha256", ...options, "-verify", keyPath, "-signature", signaturePath, inputPath],
        { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] },
      );
    writeFileSync(inputPath, `${header}.${payload}`);
    assert.match(openssl(), /Verified OK/);
    writeFileSync(inputPath, `${header}.${payload}A`);
    assert.throws(openssl);
  }
});

test("a script that shares none of our code finds path and hashes right, and finds what is wrong", async () => {
  const check = async (receipt: string) => {
    const { receiptPath, keyPath } = written(receipt);
    const { stdout, stderr } = await runTool("tests/independent_receipt.mjs", [
      receiptPath,
      keyPath,
    ]);
    assert.notEqual(stdout, "", stderr);
    return JSON.parse(stdout) as unknown;
  };
  assert.deepEqual(await check(plain), {
    payer: "alice",
    payee: "bob",
    amount: "12.50",
    wrong: [],
  });
  assert.deepEqual(await check(batched), {
    payer: "alice",
    payee: "carol",
    amount: "2.00",
    wrong: [],
  });
  const parts = JSON.parse(plain) as Receipt;
  const raised = { ...parts, entry: parts.entry.replace("12.50", "92.50") };
  assert.deepEqual(await check(JSON.stringify(raised)), {
    payer: "alice",
    payee: "bob",
    amount: "92.50",
    wrong: ["path", "payee"],
  });
});
