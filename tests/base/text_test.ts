import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { printable, printableJson, quoted } from "../../lib/base/text.ts";

/** Characters that show nothing, or change how others are shown. */
const INVISIBLE = [
  0x00,
  0x1b,
  0x7f,
  0x9b,
  0xad,
  0x34f,
  0x61c,
  0x115f,
  0x1160,
  0x17b4,
  0x180e,
  0x200b,
  0x200d,
  0x200e,
  0x2028,
  0x2029,
  0x202e,
  0x2060,
  0x2066,
  0x2800,
  0x3164,
  0xfe00,
  0xfe0f,
  0xfeff,
  0xffa0,
  0xfff9,
  0xe0001,
  0xe0041,
  0xe0100,
];

describe("text from others", () => {
  test("shows invisible characters as escapes", () => {
    for (const code of INVISIBLE) {
      const text = printable(`a${String.fromCodePoint(code)}b`);
      assert.equal(text, `a\\u{${code.toString(16)}}b`);
    }
    assert.equal(printable("\ud800"), "\\u{d800}");
  });

  test("keeps what people write, in any script", () => {
    for (
      const text of [
        "für Brot & Käse",
        "ありがとう",
        "שלום",
        "नमस्ते",
        "❤\ufe0f ☕\ufe0f 🎉",
        "e\u0301",
      ]
    ) {
      assert.equal(printable(text), text);
    }
  });

  test("cannot pass for words of the tool", () => {
    const memo = 'x"; balance 99999.00 (payment 1)';
    assert.equal(quoted(memo), '"x\\"; balance 99999.00 (payment 1)"');
    assert.equal(quoted("a\nb\u3164"), '"a\\nb\\u3164"');
  });

  test("is one JSON string of visible characters, whatever it is", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        const line = quoted(text);
        assert.equal(printable(line), line);
        assert.equal(JSON.parse(line), text);
        assert.deepEqual(JSON.parse(printableJson({ text })), { text });
      }),
    );
  });
});
