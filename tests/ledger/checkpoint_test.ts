import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import fc from "fast-check";
import type { Sha256 } from "../../lib/base/parse.ts";
import {
  type Log,
  logOrigin,
  signCheckpoint,
  verifyCheckpoint,
} from "../../lib/ledger/checkpoint.ts";
import { parseVerifierKey, signNote } from "../../lib/ledger/signed_note.ts";
import { EMPTY_ROOT } from "../../lib/protocol/merkle.ts";
import { ed25519PairOfSeed } from "../support/ed25519.ts";
import { refusalOf } from "../support/refusal.ts";
import { vectorTest } from "../support/vectors.ts";

const PAIR = ed25519PairOfSeed(new Uint8Array(32).fill(7));
const OTHER_PAIR = ed25519PairOfSeed(new Uint8Array(32).fill(8));
const ORIGIN = logOrigin("jbMZ3-9ZYl6vQnNO0kSe7pQv0dC4vJ1JcC3ZC7l9x3A" as Sha256);
const LOG: Log = { origin: ORIGIN, publicKey: PAIR.publicKey };
const ROOT = new Uint8Array(32).fill(9);
const ROOT_BASE64 = Buffer.from(ROOT).toString("base64");
const CHECKPOINT = signCheckpoint(PAIR, ORIGIN, 700, ROOT);

/** What `verifyCheckpoint` refuses with. */
async function refusal(text: unknown, log = LOG): Promise<string> {
  const error = await refusalOf(() => verifyCheckpoint(text, log));
  assert.equal(error.code, "bad_checkpoint");
  return error.message;
}

/** A note under our key, whatever it says. */
function signed(...lines: string[]): string {
  return signNote(lines.map((line) => `${line}\n`).join(""), ORIGIN, PAIR);
}

interface TlogVectors {
  roots: { size: number; root: string }[];
  notes: { what: string; vkey: string; note: string; valid: boolean }[];
}

vectorTest<TlogVectors>(
  "Go's notes are accepted or refused as Go does, and ours are the same byte for byte",
  "tlog.json",
  async ({ roots, notes }) => {
    assert.ok(notes.some((note) => note.valid) && notes.some((note) => !note.valid));
    for (const { what, vkey, note, valid } of notes) {
      const { name, publicKey } = parseVerifierKey(vkey);
      const log = { origin: name, publicKey };
      if (!valid) {
        await refusal(note, log);
        continue;
      }
      const checkpoint = verifyCheckpoint(note, log);
      const { root } = roots.find(({ size }) => size === checkpoint.size)!;
      assert.equal(Buffer.from(checkpoint.root).toString("base64"), root, what);
      assert.equal(publicKey.x, PAIR.publicKey.x, "the vectors' seed is 32 bytes of 7");
      const ours = signCheckpoint(PAIR, name, checkpoint.size, checkpoint.root);
      for (const line of ours.split("\n")) assert.ok(note.split("\n").includes(line), what);
    }
  },
);

test("a checkpoint says what was signed, for any size and root", () => {
  const root = fc.uint8Array({ minLength: 32, maxLength: 32 });
  fc.assert(fc.property(fc.maxSafeNat().map((size) => Math.max(size, 1)), root, (size, root) => {
    const text = signCheckpoint(PAIR, ORIGIN, size, root);
    const checkpoint = verifyCheckpoint(text, LOG);
    assert.deepEqual({ ...checkpoint, root: [...checkpoint.root] }, {
      origin: ORIGIN,
      size,
      root: [...root],
      text,
    });
  }));
});

test("a log without entries has the root of nothing, and no other", async () => {
  const empty = verifyCheckpoint(signCheckpoint(PAIR, ORIGIN, 0, EMPTY_ROOT), LOG);
  assert.equal(empty.size, 0);
  assert.match(await refusal(signCheckpoint(PAIR, ORIGIN, 0, ROOT)), /a root without entries/);
});

test("a checkpoint that is signed again is the same", () => {
  assert.equal(signCheckpoint(PAIR, ORIGIN, 700, ROOT), CHECKPOINT);
});

test("a checkpoint by another key, or under another name or origin, is refused", async () => {
  const other = "sealwire/another";
  const underOther = signCheckpoint(PAIR, other, 700, ROOT);
  const otherOriginOurName = signNote(`${other}\n700\n${ROOT_BASE64}\n`, ORIGIN, PAIR);
  const ourOriginOtherName = signNote(`${ORIGIN}\n700\n${ROOT_BASE64}\n`, other, PAIR);
  assert.match(await refusal(signCheckpoint(OTHER_PAIR, ORIGIN, 700, ROOT)), /no signature by/);
  assert.match(await refusal(underOther), /no signature by/);
  assert.match(await refusal(ourOriginOtherName), /no signature by/);
  assert.match(await refusal(otherOriginOurName), /is not of the log sealwire\/jbMZ3/);
});

test("a checkpoint whose size, root or signature was changed is refused", async () => {
  const other = signCheckpoint(PAIR, ORIGIN, 701, ROOT);
  assert.match(await refusal(CHECKPOINT.replace("700", "701")), /a wrong signature/);
  const swapped = CHECKPOINT.split("\n\n")[0] + "\n\n" + other.split("\n\n")[1];
  assert.match(await refusal(swapped), /a wrong signature/);
  for (const [at, character] of CHECKPOINT.split("").entries()) {
    const other = character === "x" ? "y" : "x";
    await refusal(CHECKPOINT.slice(0, at) + other + CHECKPOINT.slice(at + 1));
    await refusal(CHECKPOINT.slice(0, at) + CHECKPOINT.slice(at + 1));
  }
});

test("an extension line is refused though it is signed", async () => {
  assert.match(await refusal(signed(ORIGIN, "700", ROOT_BASE64, "more")), /an extension line/);
  assert.match(await refusal(signed(ORIGIN, "700", ROOT_BASE64, "")), /an extension line/);
  assert.match(await refusal(signed(ORIGIN, "700", ROOT_BASE64, "", "x")), /an extension line/);
});

test("what is signed but no checkpoint is refused, saying what is wrong", async () => {
  const sizes = [
    "",
    "-1",
    "+7",
    "07",
    "00",
    "7.0",
    "7e2",
    " 7",
    "7 ",
    "0x7",
    "٧",
    "9007199254740992",
  ];
  for (const size of sizes) {
    assert.match(await refusal(signed(ORIGIN, size, ROOT_BASE64)), /has no size from 0/, size);
  }
  const roots = [
    "",
    ROOT_BASE64.slice(0, -1),
    ROOT_BASE64.replace("=", "=="),
    `${ROOT_BASE64} `,
    // The same bytes by a decoder that lets bits that do not count be set.
    ROOT_BASE64.replace("k=", "l="),
    Buffer.alloc(32, 0xff).toString("base64url"),
    Buffer.alloc(31).toString("base64"),
    Buffer.alloc(33).toString("base64"),
  ];
  for (const root of roots) {
    assert.match(await refusal(signed(ORIGIN, "700", root)), /has no root of 32 bytes/, root);
  }
  for (const lines of [[], [ORIGIN], [ORIGIN, "700"], ["", ORIGIN, "700", ROOT_BASE64]]) {
    await refusal(signed(...lines, ""));
  }
});

test("what is no note, and one with 17 signatures, is refused", async () => {
  const line = CHECKPOINT.split("\n\n")[1]!;
  assert.equal(verifyCheckpoint(CHECKPOINT + line.repeat(15), LOG).size, 700);
  assert.match(await refusal(CHECKPOINT + line.repeat(16)), /more than 16 signatures/);
  assert.match(await refusal(undefined), /is not text/);
  assert.match(await refusal(CHECKPOINT.split("\n\n")[0]), /is not a signed note/);
});

test("a checkpoint is kept with the log key's signature alone, whatever others have added", () => {
  const others = `— witness.example ${"AAAA".repeat(2_000)}\n`.repeat(15);
  const { text, size } = verifyCheckpoint(CHECKPOINT + others, LOG);
  assert.equal(text, CHECKPOINT);
  assert.equal(size, 700);
});
