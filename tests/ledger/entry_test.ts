import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { before, test } from "node:test";
import { formatEntry, parseEntry } from "../../lib/ledger/entry.ts";
import { openSqlite } from "../../lib/ledger/sqlite.ts";
import { hashLeaf } from "../../lib/protocol/merkle.ts";
import { auditedLedger, PAYMENT } from "../support/audited_ledger.ts";
import { databasePath, serverPair } from "../support/fixtures.ts";

/** One entry of each type and shape that a ledger makes. */
let texts: string[];

const ROLLBACK = JSON.stringify({
  v: 1,
  index: 7,
  time: 1,
  type: "ledger.rollback",
  salt: "AAAAAAAAAAAAAAAAAAAAAA",
  kept_size: 0,
  kept_root: "A".repeat(43),
  lost_size: 5,
  lost_root: "A".repeat(43),
});

before(async () => {
  const { folder } = await auditedLedger();
  const store = openSqlite(databasePath(folder), { create: false });
  texts = [...await store.entries(0, 18), ROLLBACK];
  await store.close();
});

const BAD = (error: { code?: string }) =>
  ["bad_entry", "bad_name", "bad_amount", "bad_unit", "bad_key"].includes(error.code!);

test("entries of every type come out of their texts as they went in", () => {
  const types = new Set(texts.map((text) => parseEntry(text).type));
  assert.equal(types.size, 7);
  for (const text of texts) assert.equal(formatEntry(parseEntry(text)), text);
});

test("an entry has one spelling", () => {
  for (const text of texts) {
    const others = [
      ` ${text}`,
      `${text}\n`,
      text.replace(",", ", "),
      text.replace('"v":1', '"v":1.0'),
      text.replace('"v":1', '"v":2'),
      text.replace("}", ',"extra":1}'),
      text.replace("{", '{"v":1,'),
      text.replace('"type":"', '"type":"\\u00'),
      JSON.stringify(Object.fromEntries(Object.entries(JSON.parse(text)).reverse())),
      text.slice(0, -1),
      text.padEnd(2_000),
    ];
    for (const other of others) assert.throws(() => parseEntry(other), BAD, other);
  }
});

test("an entry lacks no member, and has none of another type", () => {
  for (const text of texts) {
    const members = JSON.parse(text) as Record<string, unknown>;
    for (const name of Object.keys(members)) {
      const { [name]: _, ...without } = members;
      assert.throws(() => parseEntry(JSON.stringify(without)), BAD, `without ${name}`);
      for (const value of [true, "X!", -1, 1.5, [], {}]) {
        const changed = JSON.stringify({ ...members, [name]: value });
        assert.throws(() => parseEntry(changed), BAD, changed);
      }
    }
  }
});

test("what is no entry is bad_entry", () => {
  for (const other of [undefined, null, 1, {}, "", "null", "[]", "{}", "[".repeat(1_000)]) {
    assert.throws(() => parseEntry(other), { code: "bad_entry" }, String(other));
  }
  for (const type of ["", "toString", "__proto__", "ledger.moved2", "block"]) {
    const text = ROLLBACK.replace("ledger.rollback", type);
    assert.throws(() => parseEntry(text), { code: "bad_entry" }, type);
  }
});

test("a salt has 16 bytes", () => {
  for (
    const salt of ["", "AA", "A".repeat(21), "A".repeat(23), "A".repeat(43), "A".repeat(21) + "B"]
  ) {
    const text = ROLLBACK.replace(/"salt":"[^"]*"/, `"salt":"${salt}"`);
    assert.throws(() => parseEntry(text), { code: "bad_entry" }, salt);
  }
});

test("a payment is not confirmed from its leaf's hash: without the entry's salt no guess is right", () => {
  const text = texts[PAYMENT]!;
  const { salt } = parseEntry(text);
  assert.equal(Buffer.from(salt, "base64url").length, 16);
  const leaf = Buffer.from(hashLeaf(text)).toString("hex");
  // Everything else of a grant or an opening is known or soon guessed.
  const guesses = [
    text.replace(`"salt":"${salt}",`, ""),
    text.replace(salt, ""),
    text.replace(salt, "A".repeat(22)),
    text.replace(salt, parseEntry(texts[0]!).salt),
  ];
  for (const guess of guesses) {
    assert.notEqual(Buffer.from(hashLeaf(guess)).toString("hex"), leaf);
  }
  const salts = texts.slice(0, -1).map((one) => parseEntry(one).salt);
  assert.equal(new Set(salts).size, salts.length);
});

test("a grant and an unsigned payment name no order, and a signed one always does", () => {
  const replace = (index: number, changed: object) =>
    JSON.stringify({ ...JSON.parse(texts[index]!), ...changed });
  const hash = "A".repeat(43);
  const wrong = [
    replace(2, { order_sha256: hash }),
    replace(2, { delegation_sha256: hash }),
    replace(2, { payer_key: null }),
    replace(15, { order_sha256: hash }),
    replace(15, { payer_key: serverPair().publicKey.thumbprint }),
    replace(PAYMENT, { order_sha256: null }),
    replace(PAYMENT, { delegation_sha256: null }),
    replace(PAYMENT, { payer_key: null }),
    replace(1, { delegation_sha256: null }),
    replace(1, { key: null }),
    replace(7, { delegation_sha256: hash }),
  ];
  for (const text of wrong) assert.throws(() => parseEntry(text), { code: "bad_entry" }, text);
});
