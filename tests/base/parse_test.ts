import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { isSha256, Members } from "../../lib/base/parse.ts";
import { refusalOf } from "../support/refusal.ts";

const membersOf = (value: unknown) => new Members(value, "the thing", "invalid_params");

test("what is no object is refused, with the caller's code and word for it", async () => {
  for (const value of [null, undefined, 7, "text", [], true]) {
    const error = await refusalOf(() => membersOf(value));
    assert.equal(error.code, "invalid_params");
    assert.equal(error.message, "the thing must be an object");
  }
});

test("an object must have exactly the members that are named", async () => {
  membersOf({ a: 1, b: 2 }).requireExactly("b", "a");
  membersOf({}).requireExactly();
  for (const value of [{ a: 1 }, { a: 1, b: 2, c: 3 }, { a: 1, c: 3 }, {}]) {
    const error = await refusalOf(() => membersOf(value).requireExactly("a", "b"));
    assert.equal(error.code, "invalid_params");
    assert.match(error.message, /must have the members a, b and no others/);
  }
});

test("members that every object inherits are not taken for its own", async () => {
  assert.equal(membersOf({}).has("constructor"), false);
  assert.equal(membersOf({}).raw("constructor"), undefined);
  await refusalOf(() => membersOf({ a: 1 }).requireExactly("constructor"));
});

test("the entries of an object come in order, up to the limit", async () => {
  assert.deepEqual(membersOf({ b: 1, a: 2 }).entries(2), [["b", 1], ["a", 2]]);
  const error = await refusalOf(() => membersOf({ b: 1, a: 2 }).entries(1));
  assert.match(error.message, /at most 1 members/);
});

test("a SHA-256 is 32 bytes of canonical base64url", () => {
  const sha256 = createHash("sha256").digest("base64url");
  assert.ok(isSha256(sha256));
  const wrong = [
    7,
    null,
    "",
    sha256.slice(1),
    `${sha256}A`,
    `${sha256}=`,
    sha256.replace(/^./, "+"),
    // The last character carries two bits that must be zero.
    sha256.replace(/.$/, "B"),
  ];
  for (const value of wrong) assert.equal(isSha256(value), false, String(value));
});
