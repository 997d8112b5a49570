import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import type { KeyObject } from "node:crypto";
import { before, test } from "node:test";
import { verifySignedCancel } from "../../lib/protocol/cancel.ts";
import { makeSessionKey, verifyDelegation } from "../../lib/protocol/delegation.ts";
import { verifySignedOrder } from "../../lib/protocol/order.ts";
import { signStatement, verifyStatement, verifyStatementOf } from "../../lib/protocol/statement.ts";
import {
  CERT,
  delegate,
  NOW_S,
  person,
  serverPair,
  signedCancel,
  signedOrder,
  uuid,
} from "../support/fixtures.ts";
import { otherLastCharacters, partsOf, rawToken } from "../support/raw_tokens.ts";

const alice = person("alice");
const bob = person("bob");

/** One of our kinds of token: a sound one, the key that signs such, and how it is verified. */
interface Kind {
  readonly name: string;
  readonly sound: string;
  readonly key: KeyObject;
  readonly verify: (text: unknown) => Promise<unknown>;
}

let kinds: Kind[];

before(async () => {
  const { order, delegation } = await signedOrder(alice, bob);
  const { cancel } = await signedCancel(alice, uuid(), {}, delegation);
  const log = makeSessionKey().publicKey;
  const statement = await signStatement(serverPair(), { cert: CERT, log, iat: NOW_S });
  kinds = [
    {
      name: "order",
      sound: order.text,
      key: alice.session.privateKey,
      verify: (text) => verifySignedOrder(text, delegation.text),
    },
    {
      name: "delegation",
      sound: delegation.text,
      key: alice.pair.privateKey,
      verify: verifyDelegation,
    },
    {
      name: "cancel",
      sound: cancel.text,
      key: alice.session.privateKey,
      verify: (text) => verifySignedCancel(text, delegation.text),
    },
    {
      name: "server statement",
      sound: statement.text,
      key: serverPair().privateKey,
      verify: (text) => verifyStatementOf(text, serverPair().publicKey),
    },
    {
      name: "server statement on first use",
      sound: statement.text,
      key: serverPair().privateKey,
      verify: verifyStatement,
    },
  ];
});

/** Every kind refuses what `change` makes of its sound token, with one of `codes`. */
async function assertAllRefuse(
  change: (kind: Kind) => readonly unknown[],
  codes: readonly string[] = ["bad_token"],
): Promise<void> {
  for (const kind of kinds) {
    for (const changed of change(kind)) {
      assert.notEqual(changed, kind.sound, `${kind.name}: nothing was changed`);
      let verdict = "accepted";
      try {
        await kind.verify(changed);
      } catch (error) {
        verdict = (error as { code?: string }).code ?? String(error);
      }
      assert.ok(
        codes.includes(verdict),
        `${kind.name}: ${verdict}: ${String(changed).slice(0, 200)}`,
      );
    }
  }
}

/** Like {@linkcode assertAllRefuse}, of payloads that are then signed as they should be. */
function assertAllRefusePayloads(
  change: (payload: string) => readonly (string | Uint8Array)[],
  codes?: string[],
) {
  return assertAllRefuse(({ sound, key }) => {
    const { header, payload } = partsOf(sound);
    return change(payload).map((changed) => rawToken(header, changed, key));
  }, codes);
}

test("a token that the tests sign by themselves over the same bytes is accepted", async () => {
  for (const { sound, key, verify } of kinds) {
    const { header, payload } = partsOf(sound);
    await verify(sound);
    await verify(rawToken(header, payload, key));
  }
});

test("each other last character of each segment is refused", async () => {
  await assertAllRefuse(({ sound }) => {
    const segments = sound.split(".");
    return segments.flatMap((segment, index) =>
      otherLastCharacters(segment).map((other) => segments.with(index, other).join("."))
    );
  }, ["bad_token", "bad_signature"]);
});

test("another spelling of the same bytes is bad_token: the unused bits of a last character", async () => {
  let respelt = 0;
  await assertAllRefuse(({ sound }) => {
    const segments = sound.split(".");
    return segments.flatMap((segment, index) => {
      const same = otherLastCharacters(segment).filter((other) =>
        Buffer.from(other, "base64url").equals(Buffer.from(segment, "base64url"))
      );
      respelt += same.length;
      return same.map((other) => segments.with(index, other).join("."));
    });
  });
  assert.ok(respelt > 10, `only ${respelt} such spellings tried`);
});

test("padding, white space and characters outside base64url are bad_token in each segment", async () => {
  await assertAllRefuse(({ sound }) => {
    const segments = sound.split(".");
    return ["=", "==", " ", "\n", "\r\n", "\t", "+", "/", "\0", "é", "\u2028", "\ud800"].flatMap((
      extra,
    ) =>
      segments.flatMap((segment, index) => [
        segments.with(index, segment + extra).join("."),
        segments.with(index, extra + segment).join("."),
        segments.with(index, segment.slice(0, 5) + extra + segment.slice(5)).join("."),
      ])
    );
  });
});

test("more or fewer than three segments, or empty ones, are bad_token", async () => {
  await assertAllRefuse(({ sound }) => {
    const [header, payload, signature] = sound.split(".") as [string, string, string];
    return [
      "",
      ".",
      "..",
      "...",
      header,
      `${header}.${payload}`,
      `${header}.${payload}.${signature}.`,
      `${header}.${payload}.${signature}.${signature}`,
      `.${header}.${payload}.${signature}`,
      `${header}..${signature}`,
      `.${payload}.${signature}`,
      `${sound}.${"A".repeat(4)}.AAAA`,
      "a.".repeat(2_000),
    ];
  });
  await assertAllRefuse(({ sound }) => {
    const [header, payload] = sound.split(".") as [string, string];
    return [`${header}.${payload}.`, `${header}.${payload}.AAAA`];
  }, ["bad_signature"]);
});

test("what is no text, or too long, is bad_token", async () => {
  const others = [undefined, null, 1, true, {}, [], "x".repeat(1_000_000)];
  await assertAllRefuse(({ sound }) => [...others, [sound], { text: sound }]);
});

test("another header than the kind's own is bad_token, however it is signed", async () => {
  await assertAllRefuse(({ sound, key }) => {
    const { header, payload } = partsOf(sound);
    const { alg, typ } = JSON.parse(header) as { alg: string; typ: string };
    const other = alg === "EdDSA" ? "PS256" : "EdDSA";
    const headers = [
      { typ, alg },
      { alg },
      { typ },
      { alg: "none", typ },
      { alg: "HS256", typ },
      { alg: "RS256", typ },
      { alg: "Ed25519", typ },
      { alg: other, typ },
      { alg: alg.toLowerCase(), typ },
      { alg, typ: "JWT" },
      { alg, typ: typ.toUpperCase() },
      { alg, typ: `application/${typ}` },
      { alg, typ: "sealwire-other+jws" },
      { alg, typ, kid: "1" },
      { alg, typ, b64: false, crit: ["b64"] },
      { alg, typ, crit: [] },
      { alg, typ, jwk: {} },
      { alg, typ, zip: "DEF" },
    ].map((one) => JSON.stringify(one));
    headers.push(` ${header}`, header.replace(":", ": "), header.replace("{", '{"alg":"none",'));
    headers.push(header.replace("alg", "\\u0061lg"), "", "{}", "null", "[]");
    return headers.map((one) => rawToken(one, payload, key));
  });
});

test("no kind takes another kind's token", async () => {
  await assertAllRefuse(({ sound }) =>
    kinds.map((kind) => kind.sound).filter((text) => text !== sound)
  );
});

test("an unencoded payload (RFC 7797) is bad_token", async () => {
  await assertAllRefuse(({ sound }) => {
    const [header, , signature] = sound.split(".") as [string, string, string];
    return [`${header}.${partsOf(sound).payload}.${signature}`];
  });
});

test("an extra, a repeated or a reordered claim is bad_token", async () => {
  await assertAllRefusePayloads((payload) => {
    const claims = Object.entries(JSON.parse(payload) as object);
    const swapped = claims.slice(1).map((_, index) => {
      const order = [...claims];
      [order[index], order[index + 1]] = [claims[index + 1]!, claims[index]!];
      return JSON.stringify(Object.fromEntries(order));
    });
    const repeated = claims.map(([name, value]) =>
      payload.slice(0, -1) + `,${JSON.stringify(name)}:${JSON.stringify(value)}}`
    );
    const extra = [`"extra":1`, `"":""`, `"__proto__":{}`, `"constructor":1`, `"memo":null`];
    return [
      ...swapped,
      ...repeated,
      ...extra.map((member) => payload.slice(0, -1) + `,${member}}`),
      ...extra.map((member) => payload.replace("{", `{${member},`)),
    ];
  });
});

test("a missing claim, or one of another type, is refused", async () => {
  const codes = ["bad_token", "bad_name", "bad_amount", "bad_key"];
  await assertAllRefusePayloads((payload) => {
    const claims = JSON.parse(payload) as Record<string, unknown>;
    return Object.keys(claims).flatMap((name) => {
      const { [name]: _, ...without } = claims;
      // A payee who is a classic account has no key.
      const others = [true, "", "X!", -1, 1.5, 1e300, [], [claims[name]], {}];
      const nothing = name === "payee_key" ? [] : [null];
      return [without, ...[...others, ...nothing].map((value) => ({ ...claims, [name]: value }))]
        .map((changed) => JSON.stringify(changed));
    });
  }, codes);
});

test("white space in the payload's JSON is bad_token", async () => {
  await assertAllRefusePayloads((payload) => [
    ` ${payload}`,
    `${payload} `,
    `${payload}\n`,
    payload.replace(":", ": "),
    payload.replace(",", ", "),
    payload.replace("{", "{\t"),
    JSON.stringify(JSON.parse(payload), null, 1),
  ]);
});

test("another spelling of the same JSON values is bad_token", async () => {
  await assertAllRefusePayloads((payload) => {
    const escapedName = payload.replace('"server"', '"\\u0073erver"');
    const escapedValue = payload.replace(
      /"(server|cert)":"(.)/,
      (_, name: string, first: string) =>
        `"${name}":"\\u${first.charCodeAt(0).toString(16).padStart(4, "0")}`,
    );
    const numbers = ["1.0", "1e0", "1E0", "10e-1", "0.1e1", "1.00000000000000000001"];
    const version = numbers.map((number) => payload.replace('"v":1,', `"v":${number},`));
    const time = /"(iat|time)":(\d+)/.exec(payload)!;
    const times = [`${time[2]}.0`, `${Number(time[2]) / 1e5}e5`, `${time[2]}.00000000000001`].map((
      number,
    ) => payload.replace(time[0], `"${time[1]}":${number}`));
    return [escapedName, escapedValue, ...version, ...times];
  });
});

test("minus zero is no number of ours", async () => {
  await assertAllRefusePayloads((payload) => [
    payload.replace(/"(iat|time)":\d+/, '"$1":-0'),
    payload.replace('"v":1,', '"v":-1,'),
  ]);
});

test("a payload that is not UTF-8, or begins with a byte order mark, is bad_token", async () => {
  await assertAllRefusePayloads((payload) => {
    const bytes = Buffer.from(payload);
    const overlong = Buffer.concat([
      bytes.subarray(0, 2),
      Buffer.from([0xc1, 0xb6]),
      bytes.subarray(3),
    ]);
    return [
      Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), bytes]),
      Buffer.concat([bytes, Buffer.from([0xff])]),
      Buffer.from(payload, "utf16le"),
      overlong,
    ];
  });
});

test("a payload that is no JSON object is bad_token", async () => {
  await assertAllRefusePayloads((payload) => [
    "",
    "null",
    "1",
    '"text"',
    "[]",
    `[${payload}]`,
    payload.slice(0, -1),
    `${payload}}`,
    `${payload}${payload}`,
    "[".repeat(700),
    `{"v":${"[".repeat(600)}`,
  ]);
});

test("a signature by another key is bad_signature", async () => {
  await assertAllRefuse(({ sound, key }) => {
    const { header, payload } = partsOf(sound);
    const other = key.asymmetricKeyType === "ed25519"
      ? bob.session.privateKey
      : bob.pair.privateKey;
    return [rawToken(header, payload, other)];
  }, ["bad_signature"]);
});

test("a delegation's own key signs it: another's public key in its claims is bad_signature", async () => {
  // Someone who has bob's public key, but not his private one, registers in bob's name.
  const { header, payload } = partsOf((await delegate(alice)).text);
  const claims = { ...JSON.parse(payload), key: bob.pair.publicKey.jwk };
  const forged = rawToken(header, JSON.stringify(claims), alice.pair.privateKey);
  await assert.rejects(verifyDelegation(forged), { code: "bad_signature" });
});
