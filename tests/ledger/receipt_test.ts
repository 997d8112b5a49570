import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { before, test } from "node:test";
import fc from "fast-check";
import { isSealwireError } from "../../lib/base/errors.ts";
import { type Entry, formatEntry, type Transfer } from "../../lib/ledger/entry.ts";
import { signedCheckpoint } from "../../lib/ledger/ledger.ts";
import {
  formatReceipt,
  type Receipt,
  receiptServer,
  verifyReceipt,
} from "../../lib/ledger/receipt.ts";
import { emptyTree } from "../../lib/ledger/tiles.ts";
import { formatTlogProof, parseTlogProof, type TlogProof } from "../../lib/ledger/tlog_proof.ts";
import { makeSessionKey } from "../../lib/protocol/delegation.ts";
import { hashLeaf, merklePath, merkleTree } from "../../lib/protocol/merkle.ts";
import { UNIT_DEFAULT } from "../../lib/protocol/money.ts";
import {
  type BatchItem,
  type BatchOrder,
  formatBatchItem,
  isBatch,
  type Order,
  type SignedOrder,
} from "../../lib/protocol/order.ts";
import { TREASURY } from "../../lib/protocol/party.ts";
import { sealMemo } from "../../lib/protocol/sealing.ts";
import { signStatement } from "../../lib/protocol/statement.ts";
import { sha256Text } from "../../lib/protocol/token.ts";
import {
  amount,
  CERT,
  delegate,
  makeSalt,
  NOW_S,
  openAccounts,
  orderOf,
  person,
  rsaPair,
  serverPair,
  signedBatch,
  signedCancel,
  signedOrder,
  temporaryLedger,
  uuid,
} from "../support/fixtures.ts";
import { withNextCharacter } from "../support/raw_tokens.ts";
import { receiptOf, settledIndex, statementOf } from "../support/receipts.ts";
import { grant } from "../support/settle_world.ts";

const alice = person("alice");
const bob = person("bob");
const carol = person("carol");
const server = serverPair().publicKey;

/** Receipts of a ledger as it really makes them: two of five payments with a memo in one, and two of a batch's. */
let plain: string;
let another: string;
let batched: string;
let neighbour: string;
/** As `plain`, proven under a later checkpoint. */
let later: string;
let items: readonly BatchItem[];

before(async () => {
  const { ledger, logKey, close } = await temporaryLedger();
  const statement = await statementOf(logKey);
  await openAccounts(ledger, alice, bob, carol);
  const memo = await sealMemo("für die Suppe 🍲", bob.pair.publicKey, alice.pair.publicKey);
  const orders = await Promise.all(
    [{ memo }, {}, {}, {}, {}].map((changed) => signedOrder(alice, bob, changed)),
  );
  const submissions = orders.map((signed) => orderOf(signed));
  const outcomes = await Promise.all(submissions.map((one) => ledger.submit(one)));
  const receiptAt = (at: number) =>
    receiptOf(ledger, statement, submissions[at]!, settledIndex(outcomes[at]!));
  [plain, another] = await Promise.all([receiptAt(0), receiptAt(1)]);
  const batch = await signedBatch(alice, [[bob, "1.00"], [carol, "2.00"], [bob, "3.00"]]);
  items = batch.items;
  const submission = orderOf(batch.signed, batch.items);
  const index = settledIndex(await ledger.submit(submission));
  await Promise.all(Array.from({ length: 300 }, () => ledger.submit(grant(bob, "0.01"))));
  batched = await receiptOf(ledger, statement, submission, index, 1);
  neighbour = await receiptOf(ledger, statement, submission, index, 2);
  later = await receiptAt(0);
  await close();
});

async function verdict(text: unknown, key = server): Promise<string> {
  try {
    await verifyReceipt(text, key);
    return "accepted";
  } catch (error) {
    if (!isSealwireError(error)) throw error;
    return error.code;
  }
}

test("a receipt is accepted with the server's public key alone, and says all that was paid", async () => {
  const { order, orderSha256, checkpoint, text, entry, ...payment } = await verifyReceipt(
    plain,
    server,
  );
  assert.ok(!isBatch(order));
  assert.deepEqual(payment, {
    id: order.id,
    item: null,
    payer: "alice",
    payee: "bob",
    amount: amount("12.50"),
    unit: UNIT_DEFAULT,
    payerKey: alice.pair.publicKey.thumbprint,
    payeeKey: bob.pair.publicKey.thumbprint,
    index: 7,
    time_s: NOW_S,
    server: server.thumbprint,
  });
  assert.equal(orderSha256.length, 43);
  assert.equal(text, plain);
  assert.equal(checkpoint.size, 12);
  const item = await verifyReceipt(batched, server);
  assert.deepEqual([item.payee, item.amount, item.item], ["carol", amount("2.00"), 1]);
});

test("a payment may be proven under any later checkpoint", async () => {
  assert.notEqual(later, plain);
  const { index, checkpoint } = await verifyReceipt(later, server);
  assert.deepEqual([index, checkpoint.size], [7, 313]);
});

test("a receipt says whose it says it is, before anything is verified", () => {
  assert.equal(receiptServer(plain).thumbprint, server.thumbprint);
  assert.throws(() => receiptServer("x"), { code: "bad_proof" });
});

test("what mail programs and editors do to a file does a receipt no harm", async () => {
  for (const receipt of [plain, batched]) {
    const harmless = [
      receipt.replaceAll("\n", "\r\n"),
      `\n\n \t${receipt}`,
      `${receipt}\n\r\n  \n`,
      receipt.trimEnd(),
      `\ufeff${receipt}`,
      `  ${receipt.replaceAll("\n", "\r\n")}\r\n\r\n`,
    ];
    for (const text of harmless) {
      assert.equal(await verdict(text), "accepted", JSON.stringify(text));
    }
  }
});

test("a witness's signature under the checkpoint is none of our business", async () => {
  const witness = `— witness.example ${Buffer.alloc(4 + 64, 1).toString("base64")}\n`;
  assert.equal(await verdict(plain + witness), "accepted");
  assert.equal(await verdict(plain + witness.repeat(15)), "accepted");
  assert.equal(await verdict(plain + witness.repeat(16)), "bad_checkpoint");
});

/** Changes the character at `at` to the next of base64url, or to `x` where it is none of that. */
function changedAt(text: string, at: number): string {
  if (/[A-Za-z0-9_-]/.test(text.charAt(at))) return withNextCharacter(text, at);
  return `${text.slice(0, at)}x${text.slice(at + 1)}`;
}

const RECEIPTS = [["a payment", () => plain], ["one of a batch", () => batched]] as const;

for (const [what, receiptOf] of RECEIPTS) {
  test(`the receipt of ${what} with any one character changed is refused, at every position`, {
    timeout: 120_000,
  }, async () => {
    // Its last character is the end of the last line, which may be left out.
    const receipt = receiptOf().trimEnd();
    assert.ok(receipt.length > 2_500);
    for (let at = 0; at < receipt.length; at++) {
      assert.notEqual(await verdict(changedAt(receipt, at)), "accepted", `position ${at}`);
    }
  });

  test(`the receipt of ${what} with any piece exchanged, left out or put in is refused`, {
    timeout: 120_000,
  }, async () => {
    const receipt = receiptOf();
    const plainText = (text: string) => text.trim().replaceAll("\r\n", "\n");
    const pieces = fc.oneof(
      fc.string({ maxLength: 8, unit: "binary" }),
      fc.constantFrom("\n", "\r\n", " ", "\n\n", "\0", "=", "A", "— ", "extra ", "index 7\n"),
    );
    await fc.assert(
      fc.asyncProperty(fc.nat(receipt.length), fc.nat(9), pieces, async (at, left, piece) => {
        const changed = receipt.slice(0, at) + piece + receipt.slice(at + left);
        fc.pre(plainText(changed) !== plainText(receipt));
        assert.notEqual(await verdict(changed), "accepted");
      }),
      { numRuns: 1_500 },
    );
  });
}

test("lines that the format does not have are refused, and so is text after the end", async () => {
  const lines = plain.trimEnd().split("\n");
  for (const extra of ["x", "index 7", "extra AAAA", lines[3]!, "", "# a remark"]) {
    for (let at = 1; at < lines.length; at++) {
      const changed = lines.toSpliced(at, 0, extra).join("\n");
      assert.notEqual(await verdict(changed), "accepted", `${extra} at ${at}`);
    }
  }
  for (const trailing of ["x", "\nx", "\n\nx\n", plain, "\n" + plain, "\n— x"]) {
    assert.notEqual(await verdict(plain + trailing), "accepted", trailing);
  }
  for (let at = 0; at < lines.length; at++) {
    assert.notEqual(await verdict(lines.toSpliced(at, 1).join("\n")), "accepted", `line ${at}`);
  }
});

test("another server's key accepts nothing", async () => {
  assert.equal(await verdict(plain, rsaPair("another server").publicKey), "wrong_server");
});

type Extra = Record<string, unknown>;

function extraOf(receipt: string): Extra {
  return JSON.parse(new TextDecoder().decode(parseTlogProof(receipt).extra!)) as Extra;
}

/** The receipt with some parts replaced: of the proof, and of its extra data. */
function replaced(receipt: string, proof: Partial<TlogProof>, extra: Extra = {}): string {
  const json = JSON.stringify({ ...extraOf(receipt), ...extra });
  return formatTlogProof({
    ...parseTlogProof(receipt),
    extra: new TextEncoder().encode(json),
    ...proof,
  });
}

test("what is no receipt is refused with a code of its own", async () => {
  assert.equal(await verdict(replaced(plain, {})), "accepted");
  const others: [unknown, string][] = [
    [undefined, "bad_proof"],
    [null, "bad_proof"],
    [5, "bad_proof"],
    ["", "bad_proof"],
    ["{}", "bad_proof"],
    ["x".repeat(300_000), "bad_proof"],
    [replaced(plain, { extra: null }), "bad_receipt"],
    [replaced(plain, { extra: new Uint8Array([0xff, 0xfe]) }), "bad_receipt"],
    [replaced(plain, { extra: new Uint8Array() }), "bad_receipt"],
    [replaced(plain, { extra: new TextEncoder().encode("[".repeat(20_000)) }), "bad_receipt"],
    [replaced(plain, {}, { v: 2 }), "bad_receipt"],
    [replaced(plain, {}, { extra: 1 }), "bad_receipt"],
    [replaced(plain, {}, { item_path: [] }), "bad_receipt"],
    [replaced(plain, {}, { entry: 5 }), "bad_receipt"],
    [replaced(plain, {}, { entry: "x" }), "bad_proof"],
    [replaced(plain, {}, { statement: "x" }), "bad_token"],
    [replaced(plain, {}, { order: "x".repeat(30_000) }), "bad_receipt"],
    [replaced(batched, {}, { item_path: undefined }), "bad_receipt"],
    [replaced(batched, {}, { item_path: [5] }), "bad_receipt"],
    [replaced(batched, {}, { item_path: Array.from({ length: 64 }, () => "A") }), "bad_receipt"],
    [replaced(plain, { checkpoint: "x\n" }), "bad_checkpoint"],
  ];
  for (const [other, code] of others) {
    assert.equal(await verdict(other), code, String(other).slice(0, 80));
  }
  const spaced = JSON.stringify(extraOf(plain), null, 1);
  assert.equal(
    await verdict(replaced(plain, { extra: new TextEncoder().encode(spaced) })),
    "bad_receipt",
  );
});

test("any part swapped for that of another sound receipt makes none", async () => {
  const receipts = { plain, another, batched, neighbour, later };
  let swapped = 0;
  for (const [name, one] of Object.entries(receipts)) {
    for (const [otherName, other] of Object.entries(receipts)) {
      const [otherProof, otherExtra] = [parseTlogProof(other), extraOf(other)];
      const candidates = [
        ...(["index", "hashes", "checkpoint"] as const).map((part) =>
          [part, replaced(one, { [part]: otherProof[part] })] as const
        ),
        ...["order", "delegation", "item", "item_path", "entry", "statement"].map((part) =>
          [part, replaced(one, {}, { [part]: otherExtra[part] })] as const
        ),
        ["extra", replaced(one, { extra: otherProof.extra })] as const,
        [
          "item and item_path",
          replaced(one, {}, { item: otherExtra.item, item_path: otherExtra.item_path }),
        ] as const,
      ];
      for (const [part, text] of candidates) {
        // One order's two receipts share some parts, and all share the statement. Another item of the batch, with its path,
        // makes the receipt of that item.
        if ([one, other].includes(text)) continue;
        swapped++;
        assert.notEqual(await verdict(text), "accepted", `${part} of ${otherName} in ${name}`);
      }
    }
  }
  assert.ok(swapped > 60, `${swapped}`);
});

test("the statement may be any of this server's about this log key, and no other", async () => {
  const { ledger, logKey, close } = await temporaryLedger();
  await openAccounts(ledger, alice, bob);
  const submission = orderOf(await signedOrder(alice, bob));
  const index = settledIndex(await ledger.submit(submission));
  const stated = async (pair = serverPair(), log = logKey.publicKey, cert = CERT) => {
    const { text } = await signStatement(pair, { cert, log, iat: NOW_S });
    return await receiptOf(ledger, text, submission, index);
  };
  assert.equal(await verdict(await stated()), "accepted");
  const renewed = await stated(serverPair(), logKey.publicKey, sha256Text("a renewed certificate"));
  assert.equal(await verdict(renewed), "accepted");
  assert.equal(await verdict(await stated(rsaPair("another server"))), "wrong_server");
  const otherLog = await stated(serverPair(), makeSessionKey().publicKey);
  assert.equal(await verdict(otherLog), "bad_checkpoint");
  await close();
});

test("one of a batch shows that payee's item and nothing of the others", () => {
  const { item, item_path: path } = extraOf(batched);
  assert.equal(item, formatBatchItem(items[1]!));
  assert.equal((path as unknown[]).length, 2);
  const shown = new TextDecoder().decode(parseTlogProof(batched).extra!);
  for (const secret of [items[0]!.salt, items[2]!.salt, "bob", "1.00", "3.00"]) {
    assert.ok(!shown.includes(secret), secret);
  }
});

/** What a dishonest server can make, which has all its own keys: a log with any entry, and a receipt of that. */
async function forge(
  signed: SignedOrder,
  changed: Partial<Entry<Transfer>> | Entry,
  { item = null, index = 2 }: { item?: Receipt["item"]; index?: number } = {},
): Promise<string> {
  const { order: { claims, sha256, text }, delegation } = signed;
  const common = {
    index: 2,
    time: NOW_S,
    salt: makeSalt(),
    id: claims.id,
    payer: claims.payer,
    payerKey: delegation.claims.key.thumbprint,
    unit: UNIT_DEFAULT,
    orderSha256: sha256,
    delegationSha256: delegation.sha256,
  };
  const { payee, payeeKey, amount } = claims as Order;
  const { count, total, itemsRoot } = claims as BatchOrder;
  const made = isBatch(claims)
    ? { type: "batch", ...common, count, total, itemsRoot }
    : { type: "transfer", ...common, payee, payeeKey, amount };
  const entry = formatEntry({ ...made, ...changed } as Entry);
  const texts = ["one entry", "another", entry, "and one more"];
  const { tree } = emptyTree().appended(texts.map(hashLeaf));
  const logKey = makeSessionKey();
  const readTiles = () => Promise.reject(new Error("the tree is all edge"));
  return formatReceipt({
    order: text,
    delegation: delegation.text,
    item,
    entry,
    statement: await statementOf(logKey),
    index,
    hashes: await tree.inclusionProof(index, tree.size, readTiles),
    checkpoint: signedCheckpoint(logKey, server.thumbprint, tree).text,
  });
}

test("a server cannot make a receipt of something else than was ordered", async () => {
  const signed = await signedOrder(alice, bob);
  assert.equal(await verdict(await forge(signed, {})), "accepted");
  const changes: Partial<Entry<Transfer>>[] = [
    { amount: amount("12.51") },
    { payee: carol.name },
    { payee: TREASURY },
    { payeeKey: carol.pair.publicKey.thumbprint },
    { payeeKey: null },
    { payer: carol.name },
    { payerKey: carol.pair.publicKey.thumbprint },
    { id: uuid() },
    { index: 3 },
    { orderSha256: sha256Text("other") },
    { delegationSha256: sha256Text("other") },
    { payer: TREASURY, orderSha256: null, delegationSha256: null },
    { payerKey: null, orderSha256: null, delegationSha256: null },
  ];
  for (const changed of changes) {
    assert.equal(
      await verdict(await forge(signed, changed)),
      "bad_receipt",
      Object.keys(changed)[0],
    );
  }
});

test("an entry at another place of the log than the receipt says is bad_proof", async () => {
  const signed = await signedOrder(alice, bob);
  assert.equal(await verdict(await forge(signed, {}, { index: 1 })), "bad_proof");
  assert.equal(await verdict(await forge(signed, { index: 1 }, { index: 1 })), "bad_proof");
});

test("an order under another key than the entry names is no payment of that account", async () => {
  const signed = await signedOrder({ ...person("mallory"), name: alice.name }, bob);
  const payerKey = alice.pair.publicKey.thumbprint;
  assert.equal(await verdict(await forge(signed, { payerKey })), "bad_receipt");
  // Consistent, it is sound; `verify` names the key, and it is not alice's.
  const { payer, payerKey: named } = await verifyReceipt(await forge(signed, {}), server);
  assert.equal(payer, "alice");
  assert.notEqual(named, payerKey);
});

test("an entry that pays nobody makes no receipt", async () => {
  const signed = await signedOrder(alice, bob);
  const { cancel, delegation } = await signedCancel(alice, signed.order.claims.id);
  const cancelled: Entry = {
    type: "cancel",
    index: 2,
    time: NOW_S,
    salt: makeSalt(),
    id: cancel.claims.id,
    payer: alice.name,
    payerKey: alice.pair.publicKey.thumbprint,
    cancelSha256: cancel.sha256,
    delegationSha256: delegation.sha256,
  };
  assert.equal(await verdict(await forge(signed, cancelled)), "bad_receipt");
});

test("a server cannot settle an order at a time when it did not hold", async () => {
  const signed = await signedOrder(alice, bob);
  const at = async (time: number) => await verdict(await forge(signed, { time }));
  assert.equal(await at(NOW_S + 299), "accepted");
  assert.equal(await at(NOW_S + 300), "bad_receipt");
  assert.equal(await at(NOW_S - 60), "accepted");
  assert.equal(await at(NOW_S - 61), "bad_receipt");
  const late = { iat: NOW_S + 86_000, exp: NOW_S + 86_340 };
  const atTheEnd = await signedOrder(alice, bob, late);
  assert.equal(await verdict(await forge(atTheEnd, { time: NOW_S + 86_339 })), "accepted");
  assert.equal(
    await verdict(await forge(atTheEnd, { time: NOW_S + 86_340 })),
    "delegation_expired",
  );
});

test("an order for another server makes no receipt of this one", async () => {
  const other = sha256Text("another server");
  const delegation = await delegate(alice, { server: other });
  const signed = await signedOrder(alice, bob, { server: other }, delegation);
  assert.equal(await verdict(await forge(signed, {})), "bad_receipt");
});

test("one of a batch proves that payee's payment and no other's", async () => {
  const { signed, items } = await signedBatch(alice, [[bob, "1.00"], [carol, "2.00"]]);
  const texts = items.map(formatBatchItem);
  const tree = merkleTree(texts);
  const item = (index: number, text = texts[index]!) => ({ text, path: merklePath(tree, index) });
  assert.equal(await verdict(await forge(signed, {}, { item: item(0) })), "accepted");
  assert.equal(await verdict(await forge(signed, {}, { item: item(1) })), "accepted");
  assert.equal(await verdict(await forge(signed, {})), "bad_receipt");
  const wrong = [
    item(0, texts[1]),
    item(0, formatBatchItem({ ...items[0]!, amount: amount("9.00") })),
    item(0, formatBatchItem({ ...items[0]!, payee: carol.name })),
    item(0, formatBatchItem({ ...items[0]!, salt: makeSalt() })),
  ];
  for (const one of wrong) {
    assert.equal(await verdict(await forge(signed, {}, { item: one })), "bad_receipt", one.text);
  }
  const outside = formatBatchItem({ ...items[0]!, index: 2 });
  assert.equal(await verdict(await forge(signed, {}, { item: item(0, outside) })), "bad_path");
  const changes = [
    { total: amount("2.00") },
    { count: 3 },
    { itemsRoot: sha256Text("other") },
  ] as object[];
  for (const changed of changes) {
    assert.equal(await verdict(await forge(signed, changed, { item: item(0) })), "bad_receipt");
  }
  // A transfer's receipt takes no item.
  const single = await signedOrder(alice, bob);
  assert.equal(await verdict(await forge(single, {}, { item: item(0) })), "bad_receipt");
});
