/** Text within the columns of a terminal. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { displayWidth, padded, truncated, wrapped } from "../../lib/cli/columns.ts";

test("wide characters take two columns, and what is drawn over another none", () => {
  for (
    const [text, columns] of [
      ["abc", 3],
      ["王小明", 6],
      ["e\u0301", 1],
      ["한글", 4],
      ["🎉", 2],
      ["👩‍👩‍👧", 2],
      ["ｱ", 1],
      ["Ａ", 2],
      ["", 0],
    ] as const
  ) assert.equal(displayWidth(text), columns, text);
});

test("a text is cut between characters, and says so", () => {
  assert.equal(truncated("lunch", 5), "lunch");
  assert.equal(truncated("lunches", 5), "lunc…");
  assert.equal(truncated("王小明白", 6), "王小…");
  assert.equal(truncated("lunch", 0), "");
  assert.equal(padded("王", 4), "王  ");
});

test("a text is wrapped between words; lines that fit, and long words, stay whole", () => {
  assert.equal(wrapped("one two  three", 20), "one two  three");
  assert.equal(wrapped("one two three", 8), "one two\nthree");
  assert.equal(wrapped("a verylongword b", 6), "a\nverylongword\nb");
  assert.equal(wrapped("first\nsecond line", 8), "first\nsecond\nline");
});
