import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";
import fc from "fast-check";
import { MessageReader } from "../../../lib/payment/classic/message_reader.ts";
import {
  formatList,
  MESSAGE_BYTES_MAX,
  parseList,
  parseRequest,
} from "../../../lib/payment/classic/format.ts";

const bytes = (text: string) => Buffer.from(text, "latin1");
const anyRequest = fc.constantFrom(
  "List",
  "Exit",
  "REGISTER#bob",
  "bob#5000",
  "a#1#b",
  "Lis",
  "x#",
);

test("messages with line ends come out the same, in whatever pieces they come", () => {
  const lineEnd = fc.constantFrom("\r\n", "\n");
  // What reads as a request by itself (bob#5000 of bob#50001) is not to be told apart without its
  // line end.
  const lines = fc.array(fc.tuple(fc.constantFrom("Lis", "a#b#c#d", "nonsense", ""), lineEnd));
  fc.assert(fc.property(lines, fc.array(fc.nat(20)), (lines, cuts) => {
    const reader = new MessageReader();
    let rest = lines.flat().join("");
    const messages: string[] = [];
    for (const cut of cuts) {
      messages.push(...reader.push(bytes(rest.slice(0, cut)), 0));
      rest = rest.slice(cut);
    }
    messages.push(...reader.push(bytes(rest), 0));
    assert.deepEqual(messages, lines.map(([text]) => text));
    assert.equal(reader.holding, false);
  }));
});

test("several requests in one piece come out in their order, the last one with or without its line end", () => {
  fc.assert(fc.property(fc.array(anyRequest, { minLength: 1 }), fc.boolean(), (requests, ended) => {
    const reader = new MessageReader();
    const text = requests.join("\r\n") + (ended ? "\r\n" : "");
    const messages = [...reader.push(bytes(text), 0), ...reader.flush(0)];
    assert.deepEqual(messages, requests);
  }));
});

test("whatever comes, no more is kept than one message, and all of it is answered in the end", () => {
  fc.assert(fc.property(fc.array(fc.uint8Array({ minLength: 1, maxLength: 3_000 })), (pieces) => {
    const reader = new MessageReader();
    for (const piece of pieces) reader.push(piece, 0);
    for (const message of reader.flush(0)) assert.ok(message.length <= MESSAGE_BYTES_MAX + 1);
    assert.equal(reader.holding, false);
  }));
});

test("no text makes the parser throw, and none that is too long is a request", () => {
  fc.assert(fc.property(fc.string(), (text) => void parseRequest(text)));
  assert.equal(parseRequest(`REGISTER#bob#${"k".repeat(MESSAGE_BYTES_MAX)}`), null);
});

test("a list never exceeds 1,023 bytes, and its count is of the rows that it has", () => {
  fc.assert(fc.property(fc.nat(3_000), fc.constantFrom(392, 736), (count, keyLength) => {
    const rows = Array.from({ length: count }, (_, index) => (
      { name: `person-${index}`, host: "192.0.2.1", port: 65_535 }
    ));
    const list = { balance: "90071992547409.91", serverKey: "k".repeat(keyLength), rows };
    const { text, listed } = formatList(list);
    assert.ok(text.length <= MESSAGE_BYTES_MAX);
    assert.ok(listed > 0 || count === 0);
    const { complete, ...read } = parseList(text)!;
    assert.deepEqual(read, { ...list, rows: rows.slice(0, listed) });
    assert.ok(complete);
  }));
});
