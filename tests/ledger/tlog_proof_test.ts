import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import fc from "fast-check";
import {
  EXTRA_BYTES_MAX,
  formatTlogProof,
  parseTlogProof,
  TLOG_PROOF_CHARACTERS_MAX,
  type TlogProof,
} from "../../lib/ledger/tlog_proof.ts";
import { refusalOf } from "../support/refusal.ts";

const CHECKPOINT = "sealwire/log\n700\nroot\n\n— sealwire/log signature\n";
const HASH = Buffer.alloc(32, 1).toString("base64");
const PROOF = `c2sp.org/tlog-proof@v1\nextra ZXh0cmE=\nindex 5\n${HASH}\n${HASH}\n\n${CHECKPOINT}`;
/** The example of the C2SP specification, without its extra line, which is no base64. */
const PUBLISHED = `c2sp.org/tlog-proof@v1
index 73894
gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=
B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=
EKNzoDWG8LGC0Yp9o+sv3qllpMP9uHQ9B20KNL+Q1zs=
RoopEkOdqkYqMB4MJXrbt/hMjOxsVn0IrWjpz1ZMMes=
AHCioX9nLjsrse6YhjRRmk1WUEirVOLLRoOQ6vfO5vk=

example.com/fancylog
109482
sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=

— example.com/fancylog hI2DJw[...]1roloI=
— witness1.example mJirIklj[...]qY9v2B/5bg==
`;

async function refusal(text: unknown): Promise<string> {
  const error = await refusalOf(() => parseTlogProof(text));
  assert.equal(error.code, "bad_proof");
  return error.message;
}

/** With its arrays as plain ones, to compare. */
function plain({ extra, hashes, ...rest }: TlogProof): object {
  return { ...rest, extra: extra && [...extra], hashes: hashes.map((hash) => [...hash]) };
}

test("the example of the specification is read, and written as it was", () => {
  const { extra, index, hashes, checkpoint } = parseTlogProof(PUBLISHED);
  assert.equal(extra, null);
  assert.equal(index, 73_894);
  assert.equal(hashes.length, 5);
  assert.equal(Buffer.from(hashes[0]!).toString("hex").slice(0, 8), "8122b25e");
  assert.equal(checkpoint, PUBLISHED.slice(PUBLISHED.indexOf("example.com")));
  assert.equal(formatTlogProof(parseTlogProof(PUBLISHED)), PUBLISHED);
});

test("any proof is read as it was written", () => {
  const proof = fc.record({
    extra: fc.option(fc.uint8Array({ maxLength: 300 })),
    index: fc.maxSafeNat(),
    hashes: fc.array(fc.uint8Array({ minLength: 32, maxLength: 32 }), { maxLength: 63 }),
    checkpoint: fc.constant(CHECKPOINT),
  });
  fc.assert(fc.property(proof, (proof) => {
    const read = parseTlogProof(formatTlogProof(proof));
    assert.deepEqual(plain(read), plain(proof));
  }));
});

test("white space around it and CRLF line ends make no difference", () => {
  const expected = plain(parseTlogProof(PROOF));
  const variants = [
    PROOF.trimEnd(),
    `\n\n  ${PROOF}\n \t\n`,
    PROOF.replaceAll("\n", "\r\n"),
    `\r\n${PROOF.replaceAll("\n", "\r\n")}\r\n\r\n`,
    `\u{feff}${PROOF}`,
  ];
  for (const text of variants) assert.deepEqual(plain(parseTlogProof(text)), expected);
});

test("a proof of the only entry of a log has no hashes", () => {
  const text = `c2sp.org/tlog-proof@v1\nindex 0\n\n${CHECKPOINT}`;
  assert.deepEqual(parseTlogProof(text).hashes, []);
});

test("anything else is refused, saying what is wrong", async () => {
  const body = PROOF.slice(PROOF.indexOf("\n") + 1);
  const cases: [unknown, RegExp][] = [
    [undefined, /is not text/],
    ["", /no checkpoint/],
    [PROOF.split("\n\n")[0], /no checkpoint/],
    [body, /does not start with c2sp.org\/tlog-proof@v1/],
    [PROOF.replace("@v1", "@v2"), /does not start with/],
    [PROOF.replace("c2sp", "C2SP"), /does not start with/],
    [PROOF.replace("@v1", "@v1 "), /does not start with/],
    [`text\n${PROOF}`, /does not start with/],
    [PROOF.replace("extra ", "extra"), /no index/],
    [PROOF.replace("extra ", "Extra "), /no index/],
    [PROOF.replace("ZXh0cmE=", "ZXh0cmE"), /is not base64/],
    [PROOF.replace("ZXh0cmE=", "ZXh0cmF="), /is not base64/],
    [PROOF.replace("ZXh0cmE=", " ZXh0cmE="), /is not base64/],
    [PROOF.replace("index 5\n", "index 5\nextra ZXh0cmE=\n"), /a hash that is not 32 bytes/],
    [PROOF.replace("extra ZXh0cmE=\n", "extra ZXh0cmE=\nextra ZXh0cmE=\n"), /no index/],
    [PROOF.replace("index 5\n", ""), /no index/],
    [PROOF.replace("index 5", "index 05"), /no index/],
    [PROOF.replace("index 5", "index -5"), /no index/],
    [PROOF.replace("index 5", "index  5"), /no index/],
    [PROOF.replace("index 5", "index 5 "), /no index/],
    [PROOF.replace("index 5", "index 9007199254740992"), /no index/],
    [PROOF.replace(HASH, HASH.slice(0, -1)), /a hash that is not 32 bytes/],
    [PROOF.replace(HASH, `${HASH} `), /a hash that is not 32 bytes/],
    [PROOF.replace(HASH, Buffer.alloc(33).toString("base64")), /a hash that is not 32 bytes/],
    [PROOF.replace(`${HASH}\n`, `${HASH}\r`), /a hash that is not 32 bytes/],
    [PROOF.replace("index 5\n", `index 5\n${`${HASH}\n`.repeat(62)}`), /more than 63 hashes/],
    [PROOF.replace("\n\n", "\n"), /a hash that is not 32 bytes/],
    [PROOF + "x".repeat(131_072), /a checkpoint that is too long/],
    [" ".repeat(TLOG_PROOF_CHARACTERS_MAX) + PROOF, /is not text of at most/],
  ];
  for (const [text, why] of cases) assert.match(await refusal(text), why);
});

test("extra data is 64 KiB at most, and may be empty", async () => {
  const withExtra = (size: number) =>
    formatTlogProof({ ...parseTlogProof(PROOF), extra: new Uint8Array(size) });
  assert.equal(parseTlogProof(withExtra(0)).extra?.length, 0);
  assert.equal(parseTlogProof(withExtra(EXTRA_BYTES_MAX)).extra?.length, EXTRA_BYTES_MAX);
  assert.match(await refusal(withExtra(EXTRA_BYTES_MAX + 1)), /over 65536 bytes/);
});

test("63 hashes are accepted", () => {
  const hashes = Array.from({ length: 63 }, () => new Uint8Array(32));
  const text = formatTlogProof({ ...parseTlogProof(PROOF), hashes });
  assert.equal(parseTlogProof(text).hashes.length, 63);
});
