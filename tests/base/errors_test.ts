import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { isErrorCode, peerError } from "../../lib/base/errors.ts";

test("only our own codes are codes, whatever every object has", () => {
  assert.equal(isErrorCode("insufficient_funds"), true);
  for (const other of ["constructor", "__proto__", "toString", "has", "", "USAGE", null, 1, {}]) {
    assert.equal(isErrorCode(other), false, String(other));
  }
});

describe("what a peer reports", () => {
  test("keeps a code of ours, and what came with it", () => {
    const { code, message, details } = peerError("order_expired", "too late", { void: true });
    assert.deepEqual({ code, message, details }, {
      code: "order_expired",
      message: "too late",
      details: { void: true },
    });
  });

  for (const peerCode of ["constructor", "__proto__", "hasOwnProperty", "newer_than_this"]) {
    test(`keeps ${peerCode}, which is none of ours, apart`, () => {
      const reported = peerError(peerCode, "no", { more: 1 });
      assert.equal(reported.code, "peer_error");
      assert.deepEqual(reported.details, { more: 1, peer_code: peerCode });
      assert.equal(Object.getPrototypeOf(reported.details), Object.prototype);
    });
  }

  test("drops a code that is no word of at most 64 characters", () => {
    for (const peerCode of [undefined, null, 5, {}, "", "two words", "\u001b[2J", "x".repeat(65)]) {
      const { code, details } = peerError(peerCode, "no");
      assert.deepEqual({ code, details }, { code: "peer_error", details: {} });
    }
  });
});
