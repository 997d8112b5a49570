/** Tokens that are not in their one strict form, each sent over a real connection to a real server. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHmac } from "node:crypto";
import { describe, test } from "node:test";
import { person } from "../../support/fixtures.ts";
import type { Json } from "../../support/payment_world.ts";
import { otherLastCharacters, rawToken, withNextCharacter } from "../../support/raw_tokens.ts";
import {
  BATCH_HEADER,
  CANCEL_HEADER,
  DELEGATION_HEADER,
  idOf,
  ORDER_HEADER,
  type SignedTexts,
} from "../../support/wire_client.ts";
import { WireWorld } from "../../support/wire_world.ts";

const OPTIONS = { timeout: 60_000 };
const [alice, bob, mallory] = [person("alice"), person("bob"), person("mallory")];
const wire = await WireWorld.start("alice", "bob");
const [alices, bobs] = [wire.of(alice), wire.of(bob)];

/** An order of alice's to bob with `changes` made to its claims, and signed as it should be. */
function order(changes: Json = {}): SignedTexts {
  return alices.order(alice, bob, changes);
}

/** The same with any header and payload. */
function forged(header: string, payload: string | Uint8Array): SignedTexts {
  return { ...order(), order: rawToken(header, payload, alice.session.privateKey) };
}

function claims(): Json {
  return alices.orderClaims(alice, bob);
}

const MEMO = {
  protected: Buffer.from('{"alg":"RSA-OAEP-256","enc":"A256GCM","typ":"sealwire-memo+jwe"}')
    .toString("base64url"),
  recipients: [{ encrypted_key: "AAAA" }, { encrypted_key: "AAAA" }],
  iv: Buffer.alloc(12).toString("base64url"),
  ciphertext: "AAAA",
  tag: Buffer.alloc(16).toString("base64url"),
};

function withMemo(memo: unknown): string {
  return JSON.stringify({ ...claims(), memo });
}

/** A payload like the order's own, as text. */
const PAYLOADS: readonly { promise: string; payload: () => string | Uint8Array }[] = [
  { promise: "an extra claim", payload: () => JSON.stringify({ ...claims(), note: "x" }) },
  {
    promise: "a claim that every object has",
    payload: () => JSON.stringify(claims()).replace("{", '{"__proto__":{"v":1},'),
  },
  {
    promise: "reordered claims",
    payload: () => JSON.stringify(Object.fromEntries(Object.entries(claims()).reverse())),
  },
  {
    promise: "a claim twice",
    payload: () => JSON.stringify(claims()).replace("{", '{"amount":"0.01",'),
  },
  {
    promise: "a missing claim",
    payload: () => JSON.stringify({ ...claims(), payee_key: undefined }),
  },
  { promise: "white space", payload: () => JSON.stringify(claims(), null, 1) },
  { promise: "an escape that is not needed", payload: () => escaped("bob") },
  { promise: "a byte order mark", payload: () => "\uFEFF" + JSON.stringify(claims()) },
  { promise: "a number in another form", payload: () => escaped('"v":1', '"v":1.0') },
  { promise: "a list", payload: () => JSON.stringify([claims()]) },
  { promise: "null", payload: () => "null" },
  { promise: "no JSON", payload: () => "order" },
  { promise: "no UTF-8", payload: () => Buffer.from([0xff, ...Buffer.from("{}")]) },
  { promise: "a memo that anyone can read", payload: () => withMemo("for lunch") },
  { promise: "a memo of nothing", payload: () => withMemo({}) },
  { promise: "no memo, said so", payload: () => withMemo(null) },
  {
    promise: "a memo to one reader",
    payload: () => withMemo({ ...MEMO, recipients: [{ encrypted_key: "AAAA" }] }),
  },
  {
    promise: "a memo under another header",
    payload: () => withMemo({ ...MEMO, protected: Buffer.from("{}").toString("base64url") }),
  },
  {
    promise: "a memo as long as a book",
    payload: () => withMemo({ ...MEMO, ciphertext: "A".repeat(2_000) }),
  },
  { promise: "nested brackets", payload: () => "[".repeat(5_000) },
  {
    promise: "a claim of nested brackets",
    payload: () => escaped('"v":1', `"v":${"[".repeat(2_000)}${"]".repeat(2_000)}`),
  },
];

function escaped(part: string, other = "\\u0062ob"): string {
  const payload = JSON.stringify(claims());
  assert.ok(payload.includes(part));
  return payload.replace(part, other);
}

const HEADERS: readonly { promise: string; header: string }[] = [
  { promise: "alg none", header: '{"alg":"none","typ":"sealwire-order+jws"}' },
  { promise: "another alg", header: '{"alg":"ES256","typ":"sealwire-order+jws"}' },
  { promise: "the other name of EdDSA", header: '{"alg":"Ed25519","typ":"sealwire-order+jws"}' },
  { promise: "another typ", header: '{"alg":"EdDSA","typ":"JWT"}' },
  { promise: "a delegation's header", header: DELEGATION_HEADER },
  { promise: "a batch order's header", header: BATCH_HEADER },
  { promise: "a cancel's header", header: CANCEL_HEADER },
  {
    promise: "b64:false",
    header: '{"alg":"EdDSA","b64":false,"crit":["b64"],"typ":"sealwire-order+jws"}',
  },
  { promise: "a kid", header: '{"alg":"EdDSA","typ":"sealwire-order+jws","kid":"1"}' },
  {
    promise: "a key of its own",
    header: JSON.stringify({
      alg: "EdDSA",
      typ: "sealwire-order+jws",
      jwk: { crv: "Ed25519", kty: "OKP", x: mallory.session.publicKey.x },
    }),
  },
  { promise: "reordered", header: '{"typ":"sealwire-order+jws","alg":"EdDSA"}' },
  { promise: "white space", header: '{"alg":"EdDSA", "typ":"sealwire-order+jws"}' },
  { promise: "nothing", header: "{}" },
];

interface Change {
  readonly promise: string;
  readonly change: (text: string) => string;
  /** Default: `bad_token`. */
  readonly code?: string;
}

/** What becomes of the text of a token that was good. */
const CHANGES: readonly Change[] = [
  { promise: "==", change: (text) => text + "==" },
  { promise: "=", change: (text) => text + "=" },
  { promise: "a space after it", change: (text) => text + " " },
  { promise: "a space before it", change: (text) => " " + text },
  { promise: "a line feed", change: (text) => text + "\n" },
  { promise: "a NUL", change: (text) => text + "\0" },
  { promise: "a fourth segment", change: (text) => text + ".e30" },
  { promise: "an empty fourth segment", change: (text) => text + "." },
  {
    promise: "no signature",
    change: (text) => text.slice(0, text.lastIndexOf(".") + 1),
    code: "bad_signature",
  },
  { promise: "no third segment", change: (text) => text.slice(0, text.lastIndexOf(".")) },
  { promise: "half of it", change: (text) => text.slice(0, text.length / 2) },
  { promise: "the other alphabet", change: (text) => text.slice(0, -2) + "+/" },
  { promise: "a longer signature", change: (text) => text + "AAAA", code: "bad_signature" },
  { promise: "20,000 characters", change: (text) => text + "A".repeat(20_000) },
  { promise: "nothing at all", change: () => "" },
];

describe("a token is taken in its one form only", () => {
  for (const { promise, payload } of PAYLOADS) {
    test(`an order's payload: ${promise}`, OPTIONS, async () => {
      await wire.assertRefused("bad_token", () => alices.settle(forged(ORDER_HEADER, payload())));
    });
  }

  for (const { promise, header } of HEADERS) {
    test(`an order's header: ${promise}`, OPTIONS, async () => {
      const signed = forged(header, JSON.stringify(claims()));
      await wire.assertRefused("bad_token", () => alices.settle(signed));
    });
  }

  test("an order's header: an HMAC under the session's public key", OPTIONS, async () => {
    const { order: text } = forged('{"alg":"HS256","typ":"sealwire-order+jws"}', escaped("v", "v"));
    const input = text.slice(0, text.lastIndexOf("."));
    const secret = Buffer.from(alice.session.publicKey.x, "base64url");
    const mac = createHmac("sha256", secret).update(input).digest("base64url");
    const signed = { ...order(), order: `${input}.${mac}` };
    await wire.assertRefused("bad_token", () => alices.settle(signed));
  });

  for (const { promise, change, code = "bad_token" } of CHANGES) {
    test(`a changed text: ${promise}`, OPTIONS, async () => {
      const { order: text, delegation } = order();
      await wire.assertRefused(code, () => alices.settle({ order: change(text), delegation }));
      await wire.assertRefused(
        code,
        () => alices.settle({ order: text, delegation: change(delegation) }),
      );
      // The order is as good as before: it was never taken.
      await wire.assertSettles(alices, { order: text, delegation });
      await wire.assertSettles(bobs, bobs.order(bob, alice));
    });
  }

  test("every other last character, and each character changed in turn", OPTIONS, async () => {
    const { order: text, delegation } = order();
    const changed = otherLastCharacters(text);
    for (let position = 0; position < text.length; position += 7) {
      changed.push(withNextCharacter(text, position));
    }
    await wire.unharmed(async () => {
      await Promise.all(changed.map(async (other) => {
        await assert.rejects(alices.settle({ order: other, delegation }), `taken: ${other}`);
      }));
    });
    assert.deepEqual(
      await alices.call("payment.status", { id: idOf({ order: text, delegation }) }),
      {
        state: "unknown",
      },
    );
  });

  test(
    "a memo that nobody can open is the payee's to shrug at: the money moves",
    OPTIONS,
    async () => {
      await wire.assertSettles(alices, forged(ORDER_HEADER, withMemo(MEMO)));
      await wire.assertSettles(bobs, bobs.order(bob, alice));
    },
  );

  test("no text at all", OPTIONS, async () => {
    for (const value of [undefined, null, 1, true, [], {}, [order().order], { order: "x" }]) {
      await wire.assertRefused(
        "bad_token",
        () => alices.call("payment.settle", { ...order(), order: value }),
      );
      await wire.assertRefused(
        "bad_token",
        () => alices.call("payment.settle", { ...order(), delegation: value }),
      );
    }
  });
});

test("after all of this the sum is zero and the audit passes", OPTIONS, async () => {
  await wire.assertAuditPasses();
});
