/** What the server proves about its log: over real connections to a real server. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";
import { decodeBase64 } from "../../../lib/base/parse.ts";
import { verifyConsistency } from "../../../lib/protocol/merkle.ts";
import { person } from "../../support/fixtures.ts";
import type { Json } from "../../support/payment_world.ts";
import { ClassicPeer } from "../../support/classic_peer.ts";
import { WireClient } from "../../support/wire_client.ts";
import { WireWorld } from "../../support/wire_world.ts";

const OPTIONS = { timeout: 60_000 };
const [alice, bob, carol] = [person("alice"), person("bob"), person("carol")];
const wire = await WireWorld.startWith(
  { serverArgs: ["--classic", "--unit", "CHF"] },
  "alice",
  "bob",
  "carol",
);
const [alices, bobs] = [wire.of(alice), wire.of(bob)];

function hashes(path: unknown): Uint8Array[] {
  return (path as string[]).map((step) => decodeBase64(step)!);
}

test("entry 0 says whose ledger this is", OPTIONS, async () => {
  const entry = alices.provenEntry(await alices.call("ledger.open"));
  assert.ok(entry.type === "ledger.open");
  assert.deepEqual([entry.index, entry.server, entry.unit], [0, alices.server, "CHF"]);
  assert.deepEqual([entry.openingBalance, entry.registration], [1_000_000n, "open"]);
  assert.equal(entry.log.x, alices.log.publicKey.x);
});

test("a lookup proves the payee's key by the entry that opened the account", OPTIONS, async () => {
  for (const [by, holder] of [[alices, bob], [alices, alice], [bobs, alice]] as const) {
    const answer = await by.call("directory.lookup", { account: holder.name });
    const entry = by.provenEntry(answer);
    assert.ok(entry.type === "account.open");
    assert.deepEqual([entry.account, entry.key], [holder.name, holder.pair.publicKey.thumbprint]);
    assert.deepEqual(answer.key, holder.pair.publicKey.jwk);
    assert.equal(answer.presence, null);
  }
});

test("a lookup proves that a classic account has no key", OPTIONS, async () => {
  const peer = await ClassicPeer.connect(
    wire.world.port,
    join(wire.world.serverKeys, "server_cert.pem"),
  );
  await peer.register("old");
  peer.close();
  const answer = await alices.call("directory.lookup", { account: "old" });
  const entry = alices.provenEntry(answer);
  assert.ok(entry.type === "account.open");
  assert.deepEqual([entry.account, entry.key, answer.key], ["old", null, null]);
});

test("a lookup of nobody, and of what is no name", OPTIONS, async () => {
  for (const account of ["nobody", "admin"]) {
    await wire.assertRefused("unknown_payee", () => alices.call("directory.lookup", { account }));
  }
  for (const account of [undefined, null, "@treasury", "Bob", 1, ["bob"]]) {
    await wire.assertRefused("bad_name", () => alices.call("directory.lookup", { account }));
  }
});

describe("consistency", () => {
  test("is proven between any two sizes that the log has had", OPTIONS, async () => {
    const reader = await WireClient.enter(wire.world, alice);
    for (let count = 0; count < 12; count++) {
      await wire.assertSettles(alices, alices.order(alice, bob));
      await reader.newestCheckpoint();
    }
    const sizes = [...reader.checkpoints.keys()];
    assert.ok(sizes.length > 10);
    for (const from of sizes) {
      for (const to of sizes.filter((size) => size >= from)) {
        const answer = await reader.call("ledger.consistency", { from, to });
        assert.deepEqual([answer.size, answer.checkpoint], [to, undefined]);
        verifyConsistency(reader.checkpointOf(from), reader.checkpointOf(to), hashes(answer.path));
      }
    }
    reader.close();
  });

  test("is proven to the newest checkpoint when no size is named", OPTIONS, async () => {
    const reader = await WireClient.enter(wire.world, bob);
    const before = await reader.newestCheckpoint();
    await wire.assertSettles(alices, alices.order(alice, bob));
    reader.notifications.length = 0;
    const answer = await reader.call("ledger.consistency", { from: before.size });
    assert.equal(answer.size, before.size + 1);
    const newest = reader.checkpointOf(before.size + 1);
    verifyConsistency(before, newest, hashes(answer.path));
    reader.close();
  });

  test("from nothing, and from a size to itself, needs no proof", OPTIONS, async () => {
    const size = await alices.size();
    for (
      const params of [{ from: 0 }, { from: 0, to: 3 }, { from: size }, { from: 3, to: 3 }, {
        from: 0,
        to: 0,
      }]
    ) {
      assert.deepEqual((await alices.call("ledger.consistency", params)).path, []);
    }
  });

  test("is refused for sizes that the log never had", OPTIONS, async () => {
    const size = await alices.size();
    for (const params of [{ from: size + 1 }, { from: 1, to: size + 1 }, { from: 2 ** 53 - 1 }]) {
      await wire.assertRefused("unknown_size", () => alices.call("ledger.consistency", params));
    }
  });

  test("is refused for what is no size", OPTIONS, async () => {
    const bad: Json[] = [{}, { to: 1 }, { from: 2, to: 1 }, { from: 1, to: null }];
    for (const from of [-1, 0.5, "1", null, [1], 2 ** 53]) {
      bad.push({ from }, { from: 1, to: from });
    }
    for (const params of bad) {
      await wire.assertRefused("invalid_params", () => alices.call("ledger.consistency", params));
    }
  });
});

test("no rollback explains a size of a log that never lost anything", OPTIONS, async () => {
  for (const size of [0, 1, await alices.size(), 2 ** 53 - 1]) {
    assert.deepEqual(await alices.call("ledger.rollback", { size }), { entry: null });
  }
  for (const size of [undefined, null, -1, 0.5, "1", 2 ** 53]) {
    await wire.assertRefused("invalid_params", () => alices.call("ledger.rollback", { size }));
  }
});

test("what another process records is proven at once", OPTIONS, async () => {
  const before = await alices.newestCheckpoint();
  const granted = await wire.world.operate("grant", "alice", "1.00");
  assert.equal(granted.status, 0, granted.stderr);
  const after = await alices.newestCheckpoint();
  assert.equal(after.size, before.size + 1);
  const { path } = await alices.call("ledger.consistency", { from: before.size, to: after.size });
  verifyConsistency(before, after, hashes(path));
  const settings = await wire.world.operate("settings", "--registration", "closed");
  assert.equal(settings.status, 0, settings.stderr);
  const { size } = await alices.call("ledger.consistency", { from: after.size });
  assert.equal(size, after.size + 1);
});

test("one answer of many that are asked for together brings the checkpoint", OPTIONS, async () => {
  const client = await WireClient.enter(wire.world, carol);
  await wire.assertSettles(bobs, bobs.order(bob, alice));
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => client.call("directory.lookup", { account: "bob" })),
  );
  for (const answer of answers) assert.equal(client.provenEntry(answer).type, "account.open");
  assert.equal(answers.filter(({ checkpoint }) => checkpoint !== undefined).length, 1);
  client.close();
});

test("the log is public to members alone", OPTIONS, async () => {
  const client = await WireClient.connect(wire.world);
  for (
    const method of ["ledger.open", "ledger.checkpoint", "ledger.consistency", "ledger.rollback"]
  ) {
    await wire.assertRefused("login_required", () => client.call(method, { from: 1, size: 1 }));
  }
  client.close();
});

test("an audit finds this log in order", OPTIONS, async () => {
  const outcome = await wire.world.operate("audit");
  assert.equal(JSON.parse(outcome.stdout).valid, true, outcome.stderr);
});
