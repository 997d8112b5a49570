import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { ed25519PublicKey } from "../../lib/keys/ed25519.ts";
import {
  formatVerifierKey,
  NOTE_CHARACTERS_MAX,
  openNote,
  parseVerifierKey,
  signNote,
} from "../../lib/ledger/signed_note.ts";
import { ed25519PairOfSeed } from "../support/ed25519.ts";
import { openssl } from "../support/openssl.ts";
import { refusalOf } from "../support/refusal.ts";
import { temporaryFolder } from "../support/support.ts";

/** Of the documentation of Go's sumdb/note. */
const PETER = parseVerifierKey(
  "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
);
const ENOCH = parseVerifierKey(
  "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop",
);
const PETERS_LINE = "— PeterNeumann " +
  "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
const ENOCHS_LINE = "— EnochRoot " +
  "rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n";
const TEXT = "If you think cryptography is the answer to your problem,\n" +
  "then you don't know what your problem is.\n";
const NOTE = `${TEXT}\n${PETERS_LINE}`;
/** Of nobody's key. */
const STRANGERS_LINE = `— stranger.example/${"x".repeat(10)} ${"AAAA".repeat(25)}\n`;
/** Of the C2SP specification, which does not give the key. */
const QUASIMODO = `Ognuno sta solo sul cuor della terra
trafitto da un raggio di sole:

ed è subito sera.

— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=
`;

const PAIR = ed25519PairOfSeed(new Uint8Array(32).fill(7));
const OURS = { name: "sealwire/log", publicKey: PAIR.publicKey };

/** What `openNote` refuses `note` with. */
async function refusal(note: unknown, key = PETER): Promise<string> {
  const error = await refusalOf(() => openNote(note, key));
  assert.equal(error.code, "bad_checkpoint");
  return error.message;
}

test("the note in Go's documentation opens, with one signature and with two", () => {
  assert.equal(openNote(NOTE, PETER).text, TEXT);
  for (const lines of [PETERS_LINE + ENOCHS_LINE, ENOCHS_LINE + PETERS_LINE]) {
    assert.equal(openNote(`${TEXT}\n${lines}`, PETER).text, TEXT);
    assert.equal(openNote(`${TEXT}\n${lines}`, ENOCH).text, TEXT);
  }
});

test("the note in the C2SP specification is a note, by a key that we do not know", async () => {
  assert.match(await refusal(QUASIMODO), /carries no signature by PeterNeumann\+c74f20a3\+/);
});

test("signing what Go signed gives the same note, byte for byte", () => {
  // The private key of Go's example, PRIVATE+KEY+PeterNeumann+c74f20a3+AYEK…
  const seed = Buffer.from("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz", "base64").subarray(1);
  assert.equal(signNote(TEXT, "PeterNeumann", ed25519PairOfSeed(seed)), NOTE);
});

test("openssl verifies the signature of a note that we signed", () => {
  const folder = temporaryFolder();
  const note = signNote("some text\n", OURS.name, PAIR);
  const base64 = note.trim().split(" ").at(-1)!;
  writeFileSync(join(folder, "signature"), Buffer.from(base64, "base64").subarray(4));
  writeFileSync(join(folder, "text"), "some text\n");
  writeFileSync(
    join(folder, "key.pem"),
    PAIR.publicKey.key.export({ type: "spki", format: "pem" }),
  );
  const verify = (text: string) =>
    openssl(
      folder,
      ...["pkeyutl", "-verify", "-pubin", "-inkey", "key.pem"],
      ...["-rawin", "-in", text, "-sigfile", "signature"],
    );
  assert.match(verify("text"), /Verified Successfully/);
  writeFileSync(join(folder, "another"), "another text\n");
  assert.throws(() => verify("another"));
});

test("any text that a note can hold comes back as it was signed", () => {
  const line = fc.string({ unit: "grapheme" }).map((text) => text.replace(/\p{Cc}/gu, ""));
  fc.assert(fc.property(fc.array(line, { minLength: 1 }), (lines) => {
    const text = `${lines.join("\n")}\n`;
    assert.equal(openNote(signNote(text, OURS.name, PAIR), OURS).text, text);
  }));
});

test("a note with any one character changed or left out is refused", () => {
  const note = signNote("sealwire\n700\n", OURS.name, PAIR);
  for (const at of note.split("").keys()) {
    for (const character of ["x", "A", "\n", " ", "—", ""]) {
      const changed = note.slice(0, at) + character + note.slice(at + 1);
      if (changed === note) continue;
      assert.throws(() => openNote(changed, OURS), { code: "bad_checkpoint" }, `at ${at}`);
    }
  }
});

test("16 signature lines are accepted, wherever ours stands, and 17 are not", async () => {
  for (const before of [0, 7, 15]) {
    const lines = STRANGERS_LINE.repeat(before) + PETERS_LINE + STRANGERS_LINE.repeat(15 - before);
    assert.equal(openNote(`${TEXT}\n${lines}`, PETER).text, TEXT);
  }
  const seventeen = `${TEXT}\n${PETERS_LINE}${STRANGERS_LINE.repeat(16)}`;
  assert.match(await refusal(seventeen), /more than 16 signatures/);
});

test("signatures that share our name or our key ID but not both are ignored", () => {
  const [, name, base64] = PETERS_LINE.trimEnd().split(" ") as [string, string, string];
  const bytes = Buffer.from(base64, "base64");
  const otherId = Buffer.from(bytes);
  otherId[0]! ^= 1;
  const lines = `— ${name} ${otherId.toString("base64")}\n— SomeoneElse ${base64}\n`;
  assert.equal(openNote(`${TEXT}\n${lines}${PETERS_LINE}`, PETER).text, TEXT);
  assert.throws(() => openNote(`${TEXT}\n${lines}`, PETER), /carries no signature by/);
});

test("a second signature under our key that is wrong spoils the note", async () => {
  const [, name, base64] = PETERS_LINE.trimEnd().split(" ") as [string, string, string];
  for (const change of [(b: Buffer) => (b[20]! ^= 1, b), (b: Buffer) => b.subarray(0, 5)]) {
    const wrong = `— ${name} ${change(Buffer.from(base64, "base64")).toString("base64")}\n`;
    for (const lines of [PETERS_LINE + wrong, wrong + PETERS_LINE, wrong]) {
      assert.match(await refusal(`${TEXT}\n${lines}`), /a wrong signature/);
    }
  }
});

test("what is no note is refused, saying why", async () => {
  const base64 = PETERS_LINE.trimEnd().split(" ")[2]!;
  const cases: [unknown, RegExp][] = [
    [undefined, /is not text/],
    [700, /is not text/],
    ["", /is not a signed note/],
    ["\n", /is not a signed note/],
    [TEXT, /is not a signed note/],
    [TEXT + PETERS_LINE, /is not a signed note/],
    [NOTE.trimEnd(), /is not a signed note/],
    [`${TEXT}\n`, /malformed signature line/],
    [`${NOTE}\n`, /malformed signature line/],
    [`${NOTE}trailing text`, /is not a signed note/],
    [`${NOTE}trailing text\n`, /malformed signature line/],
    [`${TEXT}\n-${PETERS_LINE.slice(1)}`, /malformed signature line/],
    [`${TEXT}\n—${PETERS_LINE.slice(2)}`, /malformed signature line/],
    [`${TEXT}\n— ${base64}\n`, /malformed signature line/],
    [`${TEXT}\n—  ${base64}\n`, /malformed signature line/],
    [`${TEXT}\n— PeterNeumann\n`, /malformed signature line/],
    [`${TEXT}\n— PeterNeumann \n`, /malformed signature line/],
    [`${TEXT}\n— Peter+Neumann ${base64}\n`, /malformed signature line/],
    [`${TEXT}\n— Peter\u{a0}Neumann ${base64}\n`, /malformed signature line/],
    [`${TEXT}\n— Peter Neumann ${base64}\n`, /malformed signature line/],
    [`${TEXT}\n— PeterNeumann  ${base64}\n`, /malformed signature line/],
    [`${TEXT}\n— PeterNeumann ${base64} \n`, /malformed signature line/],
    [`${TEXT}\n— PeterNeumann ${base64.slice(0, -1)}\n`, /malformed signature line/],
    [`${TEXT}\n— PeterNeumann ${base64.replace("M=", "N=")}\n`, /malformed signature line/],
    [`${TEXT}\n— PeterNeumann ${base64.replaceAll("/", "_")}\n`, /malformed signature line/],
    [`${TEXT}\n— PeterNeumann x08gow==\n`, /malformed signature line/],
    [NOTE.replaceAll("\n", "\r\n"), /control characters/],
    [`\u{0}${NOTE}`, /control characters/],
    [NOTE.replace("think", "thi\tnk"), /control characters/],
    [NOTE.replace("think", "thi\u{1f}nk"), /control characters/],
    [NOTE.replace("think", "thi\u{d800}nk"), /not Unicode/],
    ["x".repeat(NOTE_CHARACTERS_MAX) + NOTE, /is not text of at most/],
  ];
  for (const [note, why] of cases) assert.match(await refusal(note), why);
});

test("signing what no note can hold is a fault of the caller", () => {
  for (const text of ["", "no newline", "tab\t\n", "\r\n", "lone \u{dfff}\n"]) {
    assert.throws(() => signNote(text, "name", PAIR), RangeError);
  }
  for (const name of ["", "two words", "one+two", "line\n", "\u{2003}", "\u{d800}", "\u{1}"]) {
    assert.throws(() => signNote("text\n", name, PAIR), RangeError);
  }
});

test("a verifier key is read and written as Go does", () => {
  for (const key of [PETER, ENOCH, OURS]) {
    assert.deepEqual(parseVerifierKey(formatVerifierKey(key)).publicKey.x, key.publicKey.x);
  }
  assert.equal(
    formatVerifierKey(PETER),
    "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
  );
});

test("a verifier key with a wrong hash, of another kind, or unsound is bad_key", async () => {
  const good = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
  const bad = [
    "",
    "PeterNeumann",
    good.slice(0, -4),
    ` ${good}`,
    `${good}\n`,
    good.slice(1),
    good.toUpperCase(),
    good.replace("c74f20a3", "C74F20A3"),
    good.replace("c74f20a3", "c74f20a4"),
    good.replace("c74f20a3", "0c74f20a3"),
    good.replace("ARpc", "ARpd"),
    `+c74f20a3+${good.split("+")[2]}`,
    // Of Go's tests, with fitting hashes: a key that is too long, and one of no known kind.
    "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
    "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    // The neutral point: of small order.
    `x+00000000+${Buffer.concat([Buffer.of(1, 1), Buffer.alloc(31)]).toString("base64")}`,
  ];
  for (const text of bad) {
    assert.equal((await refusalOf(() => parseVerifierKey(text))).code, "bad_key", text);
  }
  const neutral = new Uint8Array(32).with(0, 1);
  assert.equal((await refusalOf(() => ed25519PublicKey(neutral, "the key"))).code, "bad_key");
});
