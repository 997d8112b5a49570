import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  type Amount,
  AMOUNT_MAX,
  formatAmount,
  parseAmount,
  parseWireAmount,
} from "../../lib/protocol/money.ts";

test("every amount survives the way to text and back", () => {
  fc.assert(fc.property(fc.bigInt(1n, AMOUNT_MAX), (minor) => {
    assert.equal(parseWireAmount(formatAmount(minor)), minor);
  }));
});

test("a person may leave out decimals, the wire may not", () => {
  assert.equal(parseAmount("12"), 1200n as Amount);
  assert.equal(parseAmount("12.5"), 1250n as Amount);
  assert.equal(parseAmount("0.01"), 1n as Amount);
  for (const text of ["12", "12.5"]) {
    assert.throws(() => parseWireAmount(text), { code: "bad_amount" });
  }
});

test("nothing but a plain positive decimal number is an amount", () => {
  const refused = [
    "",
    "0",
    "0.00",
    "-1",
    "+1",
    "1.001",
    "1.",
    ".5",
    "01",
    "1e9",
    "1,5",
    " 1",
    "1 ",
    "NaN",
    "Infinity",
    "0x10",
    "١٢",
    "90071992547409.92",
    "9007199254740992",
    "1".repeat(100),
    1,
    null,
    undefined,
    {},
    [],
  ];
  for (const text of refused) {
    assert.throws(() => parseAmount(text), { code: "bad_amount" }, String(text));
  }
  assert.equal(parseAmount("90071992547409.91"), AMOUNT_MAX);
});

test("no text parses to an amount that prints as another number", () => {
  fc.assert(fc.property(fc.string(), (text) => {
    let minor;
    try {
      minor = parseAmount(text);
    } catch (error) {
      assert.equal((error as { code?: string }).code, "bad_amount");
      return;
    }
    assert.equal(Number(formatAmount(minor)), Number(text));
  }));
});

test("a negative balance, the treasury's, keeps its sign", () => {
  assert.equal(formatAmount(-5n), "-0.05");
  assert.equal(formatAmount(-1234n), "-12.34");
  assert.equal(formatAmount(0n), "0.00");
});
