import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { didYouMean, editDistance, nearest } from "../../lib/cli/suggestion.ts";

const COMMANDS = ["register", "balance", "list", "listen", "pay", "history", "receipt", "verify"];

test("a mistyped word suggests the one that it was meant to be", () => {
  const meant = {
    balanc: "balance",
    ballance: "balance",
    histroy: "history",
    lsit: "list",
    hist: "history",
    paye: "pay",
    reciept: "receipt",
  };
  for (const [typed, word] of Object.entries(meant)) assert.equal(nearest(typed, COMMANDS), word);
  assert.equal(didYouMean("balanc", COMMANDS), ': did you mean "balance"?');
});

test("a word that is near to nothing suggests nothing", () => {
  for (const typed of ["", "p", "steal", "8080", "localhost", "constructor"]) {
    assert.equal(nearest(typed, COMMANDS), null, typed);
  }
  assert.equal(didYouMean("steal", COMMANDS), "");
});

test("the distance counts insertions, deletions, replacements and swaps", () => {
  assert.equal(editDistance("", "abc"), 3);
  assert.equal(editDistance("abc", "abc"), 0);
  assert.equal(editDistance("abc", "acb"), 1);
  assert.equal(editDistance("kitten", "sitting"), 3);
  assert.equal(editDistance("ca", "abc"), 3);
});

test("the distance is symmetric, and at most the length of the longer word", () => {
  fc.assert(fc.property(fc.string({ maxLength: 12 }), fc.string({ maxLength: 12 }), (a, b) => {
    const distance = editDistance(a, b);
    assert.equal(distance, editDistance(b, a));
    assert.ok(distance <= Math.max(a.length, b.length));
    assert.equal(distance === 0, a === b);
  }));
});
