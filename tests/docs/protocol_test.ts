/**
 * The pages of docs/protocol: every worked example is verified, and tables agree with the code.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { ERROR_CODES } from "../../lib/base/errors.ts";
import { decodeBase64, type Sha256 } from "../../lib/base/parse.ts";
import { logOrigin, verifyCheckpoint } from "../../lib/ledger/checkpoint.ts";
import { parseEntry } from "../../lib/ledger/entry.ts";
import { verifyReceipt } from "../../lib/ledger/receipt.ts";
import { openNote, parseVerifierKey } from "../../lib/ledger/signed_note.ts";
import { verifySignedCancel } from "../../lib/protocol/cancel.ts";
import { verifyDelegation } from "../../lib/protocol/delegation.ts";
import { hashLeaf, verifyConsistency, verifyInclusion } from "../../lib/protocol/merkle.ts";
import { formatAmount } from "../../lib/protocol/money.ts";
import { isBatch, parseBatchItems, verifySignedOrder } from "../../lib/protocol/order.ts";
import { openMemo, openOffer } from "../../lib/protocol/sealing.ts";
import { verifyStatementOf } from "../../lib/protocol/statement.ts";
import {
  buildExamples,
  exampleKeys,
  MEMO,
  PAGES,
  readExamples,
  readPage,
  readRandomParts,
  withExamples,
} from "../support/protocol_examples.ts";

const examples = readExamples();
const keys = exampleKeys(examples);
const server = keys.server.publicKey;
const log = { origin: logOrigin(server.thumbprint), publicKey: keys.log.publicKey };

/** An example of several lines. */
function linesOf(name: string): string[] {
  return text(name).trimEnd().split("\n");
}

function text(name: string): string {
  const found = examples.get(name);
  assert.ok(found !== undefined, `no example is called ${name}`);
  return found;
}

/** An example of one line. */
function token(name: string): string {
  const lines = linesOf(name);
  assert.equal(lines.length, 1);
  return lines[0]!;
}

function hashes(name: string): Uint8Array[] {
  return linesOf(name).map((line) => decodeBase64(line)!);
}

test("everything in the examples that is not random follows from the rest", async () => {
  const built = await buildExamples(keys, readRandomParts(examples));
  const rsaKeys = ["alice", "alice_new", "bob", "server"].map((owner) => `${owner}_private.pem`);
  assert.deepEqual([...examples.keys()].sort(), [...built.keys(), ...rsaKeys].sort());
  for (const [name, expected] of built) assert.equal(text(name), expected, name);
});

test("the examples are folded at 100 columns, and nowhere else", () => {
  for (const page of PAGES) assert.equal(withExamples(readPage(page), examples), readPage(page));
});

test("the server statement verifies under the server's key", async () => {
  const { claims } = await verifyStatementOf(token("statement"), server);
  assert.equal(claims.log.x, keys.log.publicKey.x);
  assert.equal(claims.cert, sha256("the server's certificate"));
});

test("both delegations verify", async () => {
  for (const [name, owner] of [["delegation", "alice"], ["bob_delegation", "bob"]] as const) {
    const { claims } = await verifyDelegation(token(name));
    assert.equal(claims.account, owner);
    assert.equal(claims.key.thumbprint, keys[owner].publicKey.thumbprint);
    assert.equal(claims.session.x, keys[`${owner}Session`].publicKey.x);
  }
});

test("the order verifies, and payee and payer can read its memo", async () => {
  const { order } = await verifySignedOrder(token("order"), token("delegation"));
  assert.ok(!isBatch(order.claims) && order.claims.memo !== null);
  assert.equal(formatAmount(order.claims.amount), "12.50");
  for (const reader of [keys.bob, keys.alice]) {
    assert.equal(await openMemo(order.claims.memo, reader.privateKey), MEMO);
  }
  assert.equal(await openMemo(order.claims.memo, keys.server.privateKey), null);
});

test("the batch order verifies, and signs the items", async () => {
  const { order } = await verifySignedOrder(token("batch_order"), token("delegation"));
  assert.ok(isBatch(order.claims));
  const items = parseBatchItems(order.claims, linesOf("items"));
  assert.deepEqual(items.map(({ payee }) => payee as string), ["bob", "dave", "bob"]);
  assert.deepEqual(linesOf("item_hashes"), linesOf("items").map(leafHash));
});

test("the cancel verifies", async () => {
  const { cancel } = await verifySignedCancel(token("cancel"), token("delegation"));
  assert.equal(cancel.claims.payer as string, "alice");
});

test("bob's key opens the offer", async () => {
  assert.deepEqual(await openOffer(token("offer"), keys.bob.privateKey), {
    order: token("order"),
    delegation: token("delegation"),
    checkpoint: text("checkpoint_7"),
  });
});

test("payloads are those of their tokens", () => {
  for (const name of ["statement", "delegation", "order", "cancel"]) {
    assert.equal(payloadOf(token(name)), token(`${name}_payload`));
  }
  assert.equal(payloadOf(token("batch_order")), token("batch_payload"));
});

test("entries are canonical, in their places, and hash to the leaves", () => {
  const entries = linesOf("entries");
  assert.deepEqual(entries.map((entry) => parseEntry(entry).index), [...entries.keys()]);
  assert.deepEqual(linesOf("leaf_hashes"), entries.map(leafHash));
});

test("checkpoints verify, by the verifier key too, and the proofs lead to their roots", () => {
  const older = verifyCheckpoint(text("checkpoint_7"), log);
  const newer = verifyCheckpoint(text("checkpoint_15"), log);
  assert.deepEqual([older.size, newer.size], [7, 15]);
  verifyConsistency(older, newer, hashes("consistency_7_15"));
  verifyInclusion(hashLeaf(linesOf("entries")[7]!), 7, newer, hashes("inclusion_7_15"));
  const verifierKey = /^verifier key +(.*)$/m.exec(text("values"))![1]!;
  openNote(text("checkpoint_15"), parseVerifierKey(verifierKey));
});

test("both receipts verify under the server's key", async () => {
  const single = await verifyReceipt(text("receipt"), server);
  assert.deepEqual(
    [single.index, single.item, single.payer as string, single.payee as string],
    [7, null, "alice", "bob"],
  );
  const batched = await verifyReceipt(text("batch_receipt"), server);
  assert.deepEqual(
    [batched.index, batched.item, batched.payee as string, formatAmount(batched.amount)],
    [8, 1, "dave", "2.50"],
  );
});

test("the claims that a page lists are those of its example, in order", () => {
  const page = readPage("payments.md");
  const kinds = [
    ["Server statement", "statement_payload"],
    ["Delegation", "delegation_payload"],
    ["Order", "order_payload"],
    ["Batch order", "batch_payload"],
    ["Cancel", "cancel_payload"],
    ["Rotation", "rotation_payload"],
  ] as const;
  for (const [title, name] of kinds) {
    const listed = new RegExp(`\n### ${title}\n\n\`\\{(.*)\\}\`\n`).exec(page)![1]!;
    const found = membersOf(token(name));
    // A claim that may be left out need not be in the example.
    const expected = listed.split(", ").filter((claim) =>
      !claim.endsWith("?") || found.split(", ").includes(claim.slice(0, -1))
    );
    assert.equal(expected.join(", ").replaceAll("?", ""), found, title);
  }
  const item = /canonical JSON text `\{(.*?)\}`/.exec(page)![1]!;
  assert.equal(item, membersOf(linesOf("items")[0]!));
});

test("the members that a page lists are those of every type of entry, in order", () => {
  const [, table] = /^Then come the members.*?$(.*?)^A reader refuses/ms.exec(
    readPage("ledger.md"),
  )!;
  const listed = table!.matchAll(/^\| `([a-z]+(?:\.[a-z]+)?)` +\| (?:`([a-z0-9_, ]+)`)? +\|$/gm)
    .map(([, type, members = ""]) => `${type}: ${members}`);
  const common = "v, index, time, type, salt";
  const found = linesOf("entries").map((entry) => {
    const members = membersOf(entry);
    assert.ok(members.startsWith(common));
    return `${parseEntry(entry).type}: ${members.slice(common.length).replace(/^, /, "")}`;
  });
  assert.deepEqual([...listed].sort(), [...new Set(found)].sort());
  const source = readSource("lib/ledger/entry.ts");
  const types = source.matchAll(/readonly type: "([a-z.]+)"/g).map(([, type]) => type);
  assert.deepEqual(
    new Set(found.map((line) => line.split(":")[0])),
    new Set(types),
    "an example of each type",
  );
});

test("the methods that the page lists are those of the server", () => {
  const served = readSource("lib/payment/server/server.ts")
    .matchAll(/^ {6}"([a-z.]+)": (?:anyone|holder|reader|writer|inTurn|\{)/gm).map(([, method]) =>
      method!
    );
  assert.deepEqual(firstCells("payments.md", "Methods", "Proofs in answers"), [...served]);
});

test("every code of the server, its rules and JSON-RPC is on the page, and every code has a place", () => {
  const wire = new Set(firstCells("payments.md", "Codes on the wire", "Codes of the tools"));
  const tools = firstCells("payments.md", "Codes of the tools", "Keys of the examples");
  const aes = firstCells("aes_channel.md", "Error codes", null);
  const classic = readPage("classic.md").matchAll(/^\| .* \| `([a-z_]+)` +\|$/gm)
    .map(([, code]) => code!);
  assert.deepEqual(tools.filter((code) => wire.has(code)), [], "in two tables");
  assert.deepEqual(new Set([...wire, ...tools, ...aes, ...classic]), new Set(ERROR_CODES));
  for (const code of codesOnTheWire()) assert.ok(wire.has(code), `${code} is not on the page`);
});

/** A server's session throws these, or the ledger and the tokens that it is given. */
function codesOnTheWire(): Set<string> {
  const folder = "lib/payment/server";
  const files = readdirSync(new URL(`../../${folder}`, import.meta.url))
    .filter((name) => !/^(commands\w*|identity|server|log)\.ts$/.test(name))
    .map((name) => `${folder}/${name}`);
  files.push("lib/rpc/message.ts", "lib/protocol/token.ts", "lib/protocol/delegation.ts");
  files.push("lib/protocol/cancel.ts", "lib/protocol/order.ts", "lib/protocol/money.ts");
  files.push("lib/ledger/ledger.ts", "lib/ledger/seal.ts", "lib/ledger/commit_queue.ts");
  files.push("lib/payment/client/offer_listener.ts");
  const thrown = files.flatMap((file) =>
    [...readSource(file).matchAll(/SealwireError\(\s*"([a-z_]+)"/g)].map(([, code]) => code!)
  );
  const refusals = readSource("lib/payment/server/refusals.ts").matchAll(/^ {2}([a-z_]+): "/gm)
    .map(([, reason]) => reason!);
  const codes = new Set([...thrown, ...refusals]);
  // A unit stands in entries alone; an unsigned order comes from a classic client alone; the others
  // are why a connection has ended already.
  for (const local of ["bad_unit", "signature_required", "connection_lost", "timeout"]) {
    codes.delete(local);
  }
  return codes;
}

test("the limits that the page names are those of a connection", () => {
  const named = readPage("payments.md").matchAll(/\| `limit_exceeded`, `([a-z_]+)` +\|/g)
    .map(([, limit]) => limit!);
  const source = readSource("lib/rpc/peer.ts");
  const refused = source.matchAll(/(?:refuse|limitExceeded)\("([a-z_]+)"\)/g)
    .map(([, limit]) => limit!);
  // A peer that does not read cannot be told.
  const told = new Set([...refused, "request_line_bytes_max", "unproven_line_bytes_max"]);
  told.delete("unsent_bytes_max");
  assert.deepEqual(new Set(named), told);
});

test("links between the pages lead somewhere", () => {
  for (const page of PAGES) {
    for (const [, target, anchor] of readPage(page).matchAll(/\]\((\w+\.md)?#([\w-]+)\)/g)) {
      const titles = readPage(target ?? page).matchAll(/^#+ (.*)$/gm)
        .map(([, title]) => title!.toLowerCase().replace(/[^\w\s-]/g, "").replaceAll(" ", "-"));
      assert.ok([...titles].includes(anchor!), `${page}: ${target ?? ""}#${anchor}`);
    }
  }
});

/** The words in backticks in the first cells of the tables between two titles. */
function firstCells(page: string, title: string, next: string | null): string[] {
  const [, after] = readPage(page).split(new RegExp(`^#+ ${title}$`, "m"));
  assert.ok(after !== undefined, `${page} has no section ${title}`);
  const section = next === null ? after : after.split(new RegExp(`^#+ ${next}$`, "m"))[0]!;
  return [...section.matchAll(/^\| (`[^|]*)\|/gm)].flatMap(([, cell]) =>
    [...cell!.matchAll(/`([a-z_.]+)`/g)].map(([, word]) => word!)
  );
}

function readSource(path: string): string {
  return readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");
}

function membersOf(json: string): string {
  return Object.keys(JSON.parse(json)).join(", ");
}

function payloadOf(jws: string): string {
  const bytes = Uint8Array.fromBase64(jws.split(".")[1]!, { alphabet: "base64url" });
  return new TextDecoder().decode(bytes);
}

function leafHash(entry: string): string {
  return createHash("sha256").update(Uint8Array.of(0)).update(entry, "utf8").digest("base64");
}

function sha256(value: string): Sha256 {
  return createHash("sha256").update(value, "utf8").digest("base64url") as Sha256;
}
