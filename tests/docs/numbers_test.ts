/** The tables of limits in the documents: their numbers are those of the code. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { readDocument, sectionsOf, tableRows } from "../support/documents.ts";

/** Where a number of the code is: a file in lib/, and the name of a constant or a member in it. */
type Place = readonly [file: string, name: string];

const [ORDER, SEALING] = ["protocol/order.ts", "protocol/sealing.ts"];
const [LISTENER, PEER] = ["payment/client/offer_listener.ts", "rpc/peer.ts"];
const [FRAMES, NAMES] = ["aes/channel/frames.ts", "aes/transfer/names.ts"];
const CLASSIC = "payment/classic/server.ts";

/** By page, and by the first cell of a row: where its numbers are, in order. */
const LIMITS: Readonly<Record<string, Readonly<Record<string, readonly Place[]>>>> = {
  "docs/payments.md": {
    "decimals of an amount": [["protocol/money.ts", "DECIMALS"]],
    "a memo": [[SEALING, "MEMO_BYTES_MAX"]],
    "payments of a batch": [[ORDER, "BATCH_ITEMS_MAX"]],
    "life of an order": [[ORDER, "ORDER_LIFE_S_DEFAULT"], [ORDER, "ORDER_LIFE_S_MAX"]],
    "life of a login": [["protocol/delegation.ts", "DELEGATION_LIFE_S_MAX"]],
    "unfinished orders of an account in a keys folder": [
      ["payment/client/outbox.ts", "ORDERS_MAX"],
    ],
    "an RSA key": [["keys/rsa.ts", "RSA_BITS_MIN"], ["keys/rsa.ts", "RSA_BITS_MAX"]],
    "servers that a keys folder trusts": [["keys/known_keys.ts", "SERVERS_MAX"]],
    "payees that a keys folder remembers": [["keys/known_keys.ts", "PAYEES_MAX"]],
    "connections of a payee's listener": [
      [LISTENER, "CONNECTIONS_MAX"],
    ],
    "time for an offer to arrive at a listener": [[LISTENER, "OFFER_DEADLINE_MS"]],
    "time before a payer has the server settle": [
      ["payment/client/direct_path.ts", "DIRECT_DEADLINE_MS"],
    ],
  },
  "docs/aes.md": {
    "a message": [["aes/transfer/receive_message.ts", "MESSAGE_BYTES_MAX"]],
    "unfinished messages of all clients": [
      ["aes/server.ts", "MESSAGES_BYTES_MAX"],
    ],
    "clients at once": [["aes/server.ts", "CONNECTIONS_MAX"]],
    "handshake": [["aes/channel/handshake.ts", "HANDSHAKE_TIMEOUT_MS"]],
    "items under way in a connection": [[FRAMES, "ITEMS_IN_FLIGHT_MAX"]],
    "a file that travels in one frame": [[FRAMES, "SMALL_FILE_BYTES"]],
    "a name": [[FRAMES, "NAME_BYTES_MAX"]],
    "a part of a name": [[NAMES, "PART_BYTES_MAX"]],
    "parts of a name": [[NAMES, "PARTS_MAX"]],
    "life of a pairing code": [["aes/pairing/pairing_code.ts", "PAIRING_CODE_LIFETIME_MS"]],
    "life of an unfinished file": [["aes/transfer/receive_folder.ts", "PARTIAL_KEEP_MS"]],
    "silence on a connection": [["aes/channel/channel.ts", "STALL_MS"]],
  },
  "docs/classic.md": {
    "silence before a login": [[CLASSIC, "LOGIN_SILENCE_MS"]],
    "silence after a login": [[CLASSIC, "SESSION_SILENCE_MS"]],
    "messages of a connection": [[CLASSIC, "BURST_MESSAGES"], [CLASSIC, "MESSAGES_PER_S"]],
    "offers that a listener takes at once": [
      ["payment/classic/offer_listener.ts", "CONNECTIONS_MAX"],
    ],
  },
  "docs/protocol/payments.md": {
    "a request's line": [
      [PEER, "request_line_bytes_max"],
      ["protocol/wire.ts", "BATCH_LINE_BYTES_MAX"],
    ],
    "an answer's line": [[PEER, "answer_line_bytes_max"]],
    "a line, from its first byte to its last": [[PEER, "line_ms_max"]],
    "requests in flight in one direction": [[PEER, "requests_in_flight_max"]],
    "silence before a ping, and again after it": [[PEER, "silence_ms_max"]],
    "arrays and objects within each other": [[PEER, "nesting_max"]],
    "rows of a page": [["protocol/wire.ts", "PAGE_ROWS_MAX"]],
    "payments that wait to be committed": [["ledger/commit_queue.ts", "QUEUE_PAYMENTS_MAX"]],
    "connections of a server": [["net/connection.ts", "CONNECTIONS_MAX_DEFAULT"]],
    "TLS handshake": [["net/connection.ts", "HANDSHAKE_TIMEOUT_MS_DEFAULT"]],
    "sessions of one account": [["payment/server/presence.ts", "SESSIONS_PER_ACCOUNT_MAX"]],
  },
};

/** Rows whose numbers stand in a pattern or a type, which other tests hold to the page's words. */
const OTHERWISE: ReadonlySet<string> = new Set(["docs/payments.md: an amount"]);
/** Pages on which each row must be named here. */
const WHOLE = ["docs/payments.md", "docs/aes.md", "docs/classic.md"];

for (const [page, places] of Object.entries(LIMITS)) {
  test(`the limits in ${page} are those of the code`, () => {
    const rows = limitRows(page);
    for (const [what, expected] of Object.entries(places)) {
      const cell = rows.get(what);
      assert.ok(cell !== undefined, `${page} has no row "${what}"`);
      assert.deepEqual(quantities(cell), expected.map(valueInCode), `${page}: ${what}`);
    }
    if (!WHOLE.includes(page)) return;
    for (const what of rows.keys()) {
      const isKnown = Object.hasOwn(places, what) || OTHERWISE.has(`${page}: ${what}`) ||
        what === "a name" && page === "docs/payments.md";
      assert.ok(isKnown, `${page}: "${what}" is compared with nothing`);
    }
  });
}

test("the pages name the longest account name and the largest amount that the code takes", () => {
  const [, longest] = /ACCOUNT_NAME = .*\{0,(\d+)\}/.exec(sourceOf("keys/rsa.ts"))!;
  const rows = limitRows("docs/payments.md");
  assert.deepEqual(quantities(rows.get("a name")!), [Number(longest) + 1]);
  const [, largest] = /AMOUNT_MAX = ([\d_]+)n/.exec(sourceOf("protocol/money.ts"))!;
  const minor = largest!.replaceAll("_", "");
  assert.match(rows.get("an amount")!, new RegExp(`${minor.slice(0, -2)}\\.${minor.slice(-2)}$`));
});

/** The rows of the table under `Limits`: the first cell, and the second. */
function limitRows(page: string): Map<string, string> {
  const text = readDocument(page);
  const section = sectionsOf(text, 2).get("Limits") ?? sectionsOf(text, 3).get("Limits");
  assert.ok(section !== undefined, `${page} has no section Limits`);
  return new Map(tableRows(section.split(/^#/m)[0]!).map(([what, limit]) => [what!, limit!]));
}

const FACTORS: Readonly<Record<string, number>> = {
  KiB: 1024,
  MiB: 1024 * 1024,
  s: 1_000,
  minutes: 60_000,
  h: 3_600_000,
  days: 86_400_000,
};

/** The numbers of a cell. Times are in milliseconds, sizes in bytes. */
function quantities(cell: string): number[] {
  return [...cell.matchAll(/(\d[\d,]*)(?: (KiB|MiB|s|h|minutes|days)\b)?/g)]
    .map(([, digits, unit]) => Number(digits!.replaceAll(",", "")) * (FACTORS[unit ?? ""] ?? 1));
}

/** A number of the code. Times are in milliseconds. */
function valueInCode([file, name]: Place): number {
  const found = new RegExp(`\\b${name}\\b(?: =|:) ([\\d_* ]+)[;,]`).exec(sourceOf(file));
  assert.ok(found !== null, `lib/${file} has no number ${name}`);
  const factors = found[1]!.split("*").map((factor) => Number(factor.replaceAll("_", "")));
  const value = factors.reduce((product, factor) => product * factor);
  return /_S(_|$)/.test(name) && !name.endsWith("_PER_S") ? value * 1_000 : value;
}

function sourceOf(file: string): string {
  return readDocument(`lib/${file}`);
}
