import assert from "node:assert/strict";
import { copyFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { loadAccountKeys } from "../../../lib/keys/key_files.ts";
import { adoptNextPair, openNextPair } from "../../../lib/keys/key_rotation.ts";
import { parseAccountName } from "../../../lib/keys/rsa.ts";
import { signRotation } from "../../../lib/protocol/rotation.ts";
import { now_s, rsaPair } from "../../support/fixtures.ts";
import { openSessionOf } from "../../support/payment_clients.ts";
import { assertFails, jsonLines, PaymentWorld } from "../../support/payment_world.ts";
import { temporaryFolder } from "../../support/support.ts";

let world: PaymentWorld;

before(async () => {
  world = await PaymentWorld.start();
  await world.register("alice", "bob", "carol", "dave");
});

after(async () => {
  const { valid } = jsonLines(await world.operate("audit"))[0]!;
  assert.equal(valid, true);
  await world.stop();
});

function pemFilesOf(name: string): string[] {
  return readdirSync(world.keysOf(name)).filter((file) => file.startsWith(`${name}_`)).filter(
    (file) => file.endsWith(".pem"),
  ).sort();
}

test("a replaced key: the account goes on, old memos stay readable, old sessions end", async () => {
  const payment = (await world.ask("alice", "pay", "bob", "1.00", "before")).payment;
  const old = await openSessionOf(world, "bob");
  const privatePem = readFileSync(join(world.keysOf("bob"), "bob_private.pem"), "utf8");
  const listener = await world.listen("bob");
  const rotated = await world.ask("bob", "rotate-key");
  assert.notEqual(rotated.key, rotated.replaced);
  await old.closed;
  const { status, stderr } = await listener.ended;
  assert.equal(status, 1, stderr);
  assert.match(stderr, /the account has another key/);
  assert.deepEqual(pemFilesOf("bob"), ["bob_private.pem", "bob_private_1.pem", "bob_public.pem"]);
  const kept = readFileSync(join(world.keysOf("bob"), "bob_private_1.pem"), "utf8");
  assert.equal(kept, privatePem);
  const row = jsonLines(await world.client("bob", "history")).at(-1)!;
  assert.deepEqual([row.payment, row.memo], [payment, "before"]);
  await world.ask("bob", "pay", "alice", "0.50", "under the new key");

  // Alice paid bob under the old key, which vouches for the new one.
  const outcome = await world.client("alice", "pay", "bob", "2.00", "after");
  assert.equal(outcome.status, 0, outcome.stdout);
  assert.match(outcome.stderr, new RegExp(`bob has replaced the key[^]*${rotated.key}`));
  const again = await world.client("alice", "pay", "bob", "2.00");
  assert.doesNotMatch(again.stderr, /replaced/, "asked once");
  const memos = jsonLines(await world.client("bob", "history")).map(({ memo }) => memo);
  assert.deepEqual(memos.slice(-4), ["before", "under the new key", "after", null]);
});

test("a key replaced twice leads payers of the first to the third", async () => {
  await world.ask("alice", "pay", "carol", "1.00", "first");
  await world.ask("carol", "rotate-key");
  await world.ask("bob", "pay", "carol", "1.00", "second");
  await world.ask("carol", "rotate-key");
  assert.equal((await world.client("alice", "pay", "carol", "1.00", "third")).status, 0);
  assert.equal((await world.client("bob", "pay", "carol", "1.00")).status, 0);
  const memos = jsonLines(await world.client("carol", "history")).map(({ memo }) => memo);
  assert.deepEqual(memos.slice(-4), ["first", "second", "third", null]);
  assert.deepEqual(pemFilesOf("carol").slice(1, 3), ["carol_private_1.pem", "carol_private_2.pem"]);
});

test("a key that no old one vouches for is refused, with or without a terminal", async () => {
  await world.ask("dave", "pay", "carol", "1.00");
  const path = join(world.keysOf("dave"), "known_payees.json");
  const key = rsaPair("another key").publicKey.thumbprint;
  writeFileSync(path, readFileSync(path, "utf8").replace(/": "[\w-]{43}"/, `": "${key}"`));
  assertFails(await world.client("dave", "pay", "carol", "1.00"), "payee_key_changed");
});

test("a crash before the server heard: the old key goes on, and the same new one is tried again", async () => {
  const name = parseAccountName("dave");
  const next = await openNextPair(world.keysOf("dave"), name);
  assert.equal((await world.client("dave", "balance")).status, 0);
  assert.ok(existsSync(join(world.keysOf("dave"), "dave_private_next.pem")));
  assert.equal((await world.ask("dave", "rotate-key")).key, next.publicKey.thumbprint);
  assert.ok(!existsSync(join(world.keysOf("dave"), "dave_private_next.pem")));
});

test("a crash after the server heard: the next command goes on with the new key", async () => {
  const folder = world.keysOf("dave");
  const name = parseAccountName("dave");
  const session = await openSessionOf(world, "dave");
  const next = await openNextPair(folder, name);
  await session.rotate(
    await signRotation(await loadAccountKeys(folder, name), next, {
      account: name,
      server: session.server.thumbprint,
      replaces: await session.keyedAt(),
      iat: now_s(),
    }),
  );
  await session.end();
  const outcome = await world.client("dave", "balance");
  assert.equal(outcome.status, 0, outcome.stdout);
  assert.match(outcome.stderr, /the key of dave had been replaced/);
  const { publicKey } = await loadAccountKeys(folder, name);
  assert.equal(publicKey.thumbprint, next.publicKey.thumbprint);
});

test("adopting a key may be cut short anywhere and run again", async () => {
  const name = parseAccountName("dave");
  const files = pemFilesOf("dave");
  const steps = [["dave_private.pem", "dave_private_9.pem"], null, ["dave_private.pem", "x.pem"]];
  for (const step of steps) {
    const folder = temporaryFolder();
    for (const file of files) copyFileSync(join(world.keysOf("dave"), file), join(folder, file));
    const next = await openNextPair(folder, name);
    if (step !== null) copyFileSync(join(folder, step[0]!), join(folder, step[1]!));
    adoptNextPair(folder, name);
    const { publicKey } = await loadAccountKeys(folder, name);
    assert.equal(publicKey.thumbprint, next.publicKey.thumbprint);
  }
});
