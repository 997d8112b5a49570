import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  type ErrorCode,
  isErrorCode,
  isRefusal,
  isServerUntrusted,
  isWorthResuming,
  isWorthRetrying,
  peerError,
  retryAfterMs,
  SealwireError,
} from "../../lib/base/errors.ts";
import { EXIT_FAILED, exitStatus } from "../../lib/cli/exit_status.ts";

const error = (code: ErrorCode) => new SealwireError(code, "a sentence");

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

describe("what an error means for what is done next", () => {
  const AWAY: ErrorCode[] = ["connection_lost", "no_connection", "overloaded", "timeout"];
  const UNTRUSTED: ErrorCode[] = ["ledger_forked", "server_changed", "server_untrusted"];
  const REFUSED: ErrorCode[] = ["insufficient_funds", "wrong_key", "invalid_params", "peer_error"];

  test("a server that is away for a moment is asked again, and has refused nothing", () => {
    for (const code of [...AWAY, "internal", "store_unavailable"] satisfies ErrorCode[]) {
      assert.equal(isWorthRetrying(error(code)), true, code);
      assert.equal(isWorthResuming(error(code)), true, code);
      assert.equal(isRefusal(error(code)), false, code);
    }
  });

  test("a server that is not the one it should be is not asked again, and has refused nothing", () => {
    for (const code of UNTRUSTED) {
      assert.equal(isServerUntrusted(error(code)), true, code);
      assert.equal(isWorthRetrying(error(code)), false, code);
      assert.equal(isRefusal(error(code)), false, code);
    }
  });

  test("a handshake that was cut off does not end a file transfer", () => {
    assert.equal(isWorthResuming(error("server_untrusted")), true);
    assert.equal(isWorthResuming(error("server_changed")), false);
  });

  test("a refusal is none of the others, and may have a code of a newer server", () => {
    for (const code of REFUSED) {
      assert.equal(isRefusal(error(code)), true, code);
      assert.equal(isWorthRetrying(error(code)), false, code);
      assert.equal(isServerUntrusted(error(code)), false, code);
    }
  });

  test("an answer that cannot be believed, or Ctrl-C, is no refusal and no reason to try again", () => {
    for (const code of ["bad_answer", "interrupted", "login_required"] satisfies ErrorCode[]) {
      assert.equal(isRefusal(error(code)), false, code);
      assert.equal(isWorthRetrying(error(code)), false, code);
    }
  });

  test("what is no error of ours is none of them", () => {
    for (const other of [new Error("connection_lost"), null, { code: "timeout" }]) {
      for (const judge of [isRefusal, isServerUntrusted, isWorthResuming, isWorthRetrying]) {
        assert.equal(judge(other), false);
      }
    }
  });
});

test("a peer cannot choose how this end goes on or exits", () => {
  for (const code of ["interrupted", "usage", "timeout", "outcome_unknown", "server_changed"]) {
    const error = peerError(code, "so says the peer");
    assert.equal(error.code, "peer_error");
    assert.equal(exitStatus(error), EXIT_FAILED);
    assert.deepEqual(error.details, { peer_code: code });
  }
  for (const code of ["constructor", "__proto__", "toString", 5, null, "x".repeat(65)]) {
    assert.equal(peerError(code, "so says the peer").code, "peer_error");
  }
});

test("a peer's wait is heeded within bounds", () => {
  const wait = (retry_after_ms: unknown) =>
    retryAfterMs(peerError("rate_limited", "wait", { retry_after_ms }));
  assert.equal(wait(1_500), 1_500);
  assert.equal(wait(1e12), 60_000);
  for (const bad of [0, -1, "5", null, NaN]) assert.equal(wait(bad), null);
  assert.equal(retryAfterMs(peerError("name_taken", "no", { retry_after_ms: 5 })), null);
});
