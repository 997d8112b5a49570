import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type CPaceContext,
  type CPaceTranscript,
  generator,
  generatorString,
  makeShare,
  sessionKey,
  sharedPoint,
  shareOf,
} from "../../../lib/aes/pairing/cpace.ts";
import { hex, vectorTest } from "../../support/vectors.ts";

type CPaceVector = Record<
  | (
    | "PRS"
    | "CI"
    | "sid"
    | "generator_string"
    | "g"
    | "ADa"
    | "ya"
    | "Ya"
    | "ADb"
    | "yb"
    | "Yb"
    | "K"
  )
  | ("transcript_ir" | "ISK_IR"),
  string
>;

function littleEndian(text: string): bigint {
  return BigInt(`0x${hex(text).toReversed().toHex()}`);
}

vectorTest<CPaceVector>(
  "the draft's CPace run comes out: generator, shares, shared point and session key",
  "cpace_ristretto255.json",
  (vector) => {
    const context = { code: hex(vector.PRS), channel: hex(vector.CI), sid: hex(vector.sid) };
    assert.deepEqual(generatorString(context), hex(vector.generator_string));
    assert.deepEqual(generator(context), hex(vector.g));
    const ya = littleEndian(vector.ya);
    const yb = littleEndian(vector.yb);
    assert.deepEqual(shareOf(context, ya).share, hex(vector.Ya));
    assert.deepEqual(shareOf(context, yb).share, hex(vector.Yb));
    assert.deepEqual(sharedPoint(ya, hex(vector.Yb)), hex(vector.K));
    assert.deepEqual(sharedPoint(yb, hex(vector.Ya)), hex(vector.K));
    const isk = sessionKey(context.sid, hex(vector.K), {
      initiatorShare: hex(vector.Ya),
      initiatorData: hex(vector.ADa),
      responderShare: hex(vector.Yb),
      responderData: hex(vector.ADb),
    });
    assert.deepEqual(isk, hex(vector.ISK_IR));
  },
);

test("a share that is no point, not canonical, or the neutral element is refused", () => {
  const { scalar } = makeShare(context("7-cobalt-harbor"));
  const invalid = [
    // RFC 9496 appendix A.3: not canonical, negative, no square, negative xy, and one that would
    // give y = 0.
    "00ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "f3ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ed57ffd8c914fb201471d1c3d245ce3c746fcbe63a3679d51b6a516ebebe0e20",
    "26948d35ca62e643e26a83177332e6b6afeb9d08e4268b650f1f5bbd8d81d371",
    "3eb858e78f5a7254d8c9731174a94f76755fd3941c0ac93735c07ba14579630e",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    // The draft's: the neutral element.
    "0000000000000000000000000000000000000000000000000000000000000000",
    // Of the wrong size.
    "",
    "00",
  ];
  for (const share of invalid) {
    assert.throws(() => sharedPoint(scalar, hex(share)), { code: "handshake_failed" }, share);
  }
});

function context(code: string, sidByte = 1): CPaceContext {
  const text = new TextEncoder();
  return {
    code: text.encode(code),
    channel: text.encode("sealwire-pair/1"),
    sid: new Uint8Array(16).fill(sidByte),
  };
}

/** Both ends' session keys of one run, each end with a context of its own. */
function run(initiator: CPaceContext, responder: CPaceContext): [Uint8Array, Uint8Array] {
  const a = makeShare(initiator);
  const b = makeShare(responder);
  const none = new Uint8Array(0);
  const transcript: CPaceTranscript = {
    initiatorShare: a.share,
    initiatorData: none,
    responderShare: b.share,
    responderData: none,
  };
  return [
    sessionKey(initiator.sid, sharedPoint(a.scalar, b.share), transcript),
    sessionKey(responder.sid, sharedPoint(b.scalar, a.share), transcript),
  ];
}

test("two ends agree on a key if and only if code, channel and session id are the same", () => {
  const mine = context("7-cobalt-harbor");
  const [first, second] = run(mine, context("7-cobalt-harbor"));
  assert.deepEqual(first, second);
  assert.equal(first.length, 64);
  const others = [
    context("8-cobalt-harbor"),
    context("7-cobalt-harbor", 2),
    { ...mine, channel: new Uint8Array(1) },
  ];
  for (const other of others) {
    const [ours, theirs] = run(mine, other);
    assert.notDeepEqual(ours, theirs);
  }
});

test("every run has fresh shares, so the same code never gives the same key twice", () => {
  const mine = context("7-cobalt-harbor");
  assert.notDeepEqual(run(mine, mine)[0], run(mine, mine)[0]);
});
