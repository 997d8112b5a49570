/** `server.ts audit`: beside a running server, and against what was kept elsewhere. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { openLogKey } from "../../../lib/keys/log_key.ts";
import { signCheckpoint } from "../../../lib/ledger/checkpoint.ts";
import { person } from "../../support/fixtures.ts";
import { type Json, jsonLines } from "../../support/payment_world.ts";
import { WireClient } from "../../support/wire_client.ts";
import { WireWorld } from "../../support/wire_world.ts";

const OPTIONS = { timeout: 60_000 };
const [alice, bob] = [person("alice"), person("bob")];
const wire = await WireWorld.start("alice", "bob");
const { world } = wire;
const [alices, bobs] = [wire.of(alice), wire.of(bob)];
after(() => world.stop());

let files = 0;

function file(text: string): string {
  const path = join(world.folder, `expected_${files++}.txt`);
  writeFileSync(path, text);
  return path;
}

async function audit(...expected: string[]): Promise<Json> {
  const args = expected.flatMap((path) => ["--expect", path]);
  return jsonLines(await world.operate("audit", ...args))[0]!;
}

test("an audit beside a running server that is being used is valid", OPTIONS, async () => {
  let stopped = false;
  const paying = (async () => {
    while (!stopped) await alices.settle(alices.order(alice, bob, { amount: "0.01" }));
  })();
  for (let round = 0; round < 3; round++) {
    const before = await bobs.size();
    const line = await audit();
    const { valid, entries, size, accounts, explained } = line;
    assert.deepEqual([valid, accounts, explained], [true, 3, []], JSON.stringify(line));
    assert.equal(entries, size);
    assert.ok(before <= Number(size) && Number(size) <= await bobs.size());
  }
  stopped = true;
  await paying;
});

test("a checkpoint and a receipt that members kept are part of the log", OPTIONS, async () => {
  const old = await alices.newestCheckpoint();
  const signed = alices.order(alice, bob);
  const receipt = await alices.verifiedReceipt(signed, await alices.settle(signed));
  await wire.assertSettles(bobs, bobs.order(bob, alice));
  const texts = [old.text, receipt.text, `\n\n${receipt.text.replaceAll("\n", "\r\n")}\n`];
  const paths = texts.map(file);
  for (const path of paths) assert.equal((await audit(path)).valid, true);
  assert.equal((await audit(...paths)).valid, true);
});

test("a checkpoint that the log lacks fails the audit, whatever its size", OPTIONS, async () => {
  const { pair } = openLogKey(world.serverKeys, { makeMissing: false });
  const size = await alices.size();
  const root = new Uint8Array(32).fill(7);
  for (const other of [1, size - 1, size, size + 10]) {
    const text = signCheckpoint(pair, alices.log.origin, other, root);
    const { error } = await audit(file(text)) as { error: { code: string; message: string } };
    assert.equal(error.code, "audit_failed");
    assert.match(error.message, new RegExp(`\\b${other}\\b`));
  }
});

test("what is no checkpoint or receipt of this ledger is named", OPTIONS, async () => {
  const checkpoint = (await alices.newestCheckpoint()).text;
  const { pair } = openLogKey(world.serverKeys, { makeMissing: false });
  const foreign = signCheckpoint(pair, `sealwire/${"A".repeat(43)}`, 1, new Uint8Array(32));
  const changed = checkpoint.replace("\n", "\n1");
  for (
    const text of ["", "shopping list\n", foreign, changed, "c2sp.org/tlog-proof@v1\nindex x\n\n"]
  ) {
    const path = file(text);
    const { error } = await audit(path) as { error: { code: string; message: string } };
    assert.equal(error.code, "bad_checkpoint");
    assert.ok(error.message.includes(path));
  }
  const missing = join(world.folder, "none");
  const { error } = await audit(missing) as { error: { code: string; message: string } };
  assert.equal(error.code, "file_unreadable");
  assert.ok(error.message.includes(missing));
});

test("a client's checkpoint that stopped the commits fails the audit too", OPTIONS, async () => {
  const { pair } = openLogKey(world.serverKeys, { makeMissing: false });
  const size = await alices.size();
  const client = await WireClient.connect(world);
  const checkpoint = signCheckpoint(pair, alices.log.origin, size, new Uint8Array(32).fill(9));
  await client.call("session.login", { delegation: client.delegate(alice), checkpoint });
  const { error } = await audit() as { error: { code: string; message: string } };
  assert.equal(error.code, "audit_failed");
  client.close();
});
