/** Backups of a running server, and what becomes of a ledger that is restored from one. */
import assert from "node:assert/strict";
import { copyFileSync, existsSync, mkdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { decodeBase64 } from "../../../lib/base/parse.ts";
import { verifyConsistency } from "../../../lib/protocol/merkle.ts";
import { person } from "../../support/fixtures.ts";
import { errorCode, jsonLines, PaymentWorld } from "../../support/payment_world.ts";
import { runTool } from "../../support/support.ts";
import { WireClient } from "../../support/wire_client.ts";

const OPTIONS = { timeout: 120_000 };
const START = ["0", "--host", "127.0.0.1"];
const [alice, bob] = [person("alice"), person("bob")];

async function worldOfTwo(): Promise<{ world: PaymentWorld; alices: WireClient }> {
  const world = await PaymentWorld.start();
  const alices = await WireClient.enter(world, alice, "account.register");
  (await WireClient.enter(world, bob, "account.register")).close();
  return { world, alices };
}

/** Makes a copy; what the command says about it. */
async function backup(
  world: PaymentWorld,
  name = "copy.db",
): Promise<{ path: string; size: number }> {
  const path = join(world.folder, name);
  const outcome = await world.operate("backup", path);
  assert.equal(outcome.status, 0, outcome.stderr);
  const line = jsonLines(outcome)[0]!;
  assert.equal(line.backup, path);
  return { path, size: Number(line.size) };
}

/** Puts a copy in the place of the ledger, as the operator's manual says. */
function restore(world: PaymentWorld, copy: string): void {
  for (const suffix of ["", "-wal", "-shm"]) rmSync(world.db + suffix, { force: true });
  copyFileSync(copy, world.db);
}

/** Settles payments one after the other until told to stop; how many were settled. */
function payOn(client: WireClient): { stop: () => Promise<number> } {
  let stopped = false;
  const paying = (async () => {
    let settled = 0;
    for (; !stopped; settled++) await client.settle(client.order(alice, bob, { amount: "0.01" }));
    return settled;
  })();
  return { stop: () => (stopped = true, paying) };
}

describe("a backup", () => {
  test("of a running server under load is a whole ledger of some moment", OPTIONS, async () => {
    const { world, alices } = await worldOfTwo();
    const before = await alices.size();
    const paying = payOn(alices);
    const copies = [await backup(world, "first.db"), await backup(world, "second.db")];
    const settled = await paying.stop();
    const after = await alices.size();
    assert.ok(settled > 0 && after === before + settled);
    assert.ok(
      before <= copies[0]!.size && copies[0]!.size <= copies[1]!.size && copies[1]!.size <= after,
    );
    await world.stop();
    for (const { path, size } of copies) {
      assert.equal(statSync(path).mode & 0o777, 0o600);
      // Audited without the anchor, which knows of what came later.
      const keys = join(world.folder, "auditor_keys");
      mkdirSync(keys, { recursive: true });
      for (const file of ["server_private.pem", "server_public.pem", "server_log_key.pem"]) {
        copyFileSync(join(world.serverKeys, file), join(keys, file));
      }
      const outcome = await runTool("server.ts", ["audit", "--json", "--db", path, "--keys", keys]);
      const [line] = jsonLines(outcome);
      assert.deepEqual([line!.valid, line!.size], [true, size], outcome.stderr);
    }
  });

  test("goes over no file that is there, and into no folder that is not", OPTIONS, async () => {
    const { world } = await worldOfTwo();
    const taken = join(world.folder, "taken");
    writeFileSync(taken, "mine");
    const codeOf = async (path: string) => errorCode(await world.operate("backup", path));
    assert.equal(await codeOf(taken), "target_exists");
    assert.equal(await codeOf(world.db), "target_exists");
    assert.equal(await codeOf(join(world.folder, "none", "copy.db")), "folder_unwritable");
    assert.ok(!existsSync(join(world.folder, "none")));
    await world.stop();
  });

  test("of a ledger that there is not makes no file", OPTIONS, async () => {
    const { world } = await worldOfTwo();
    await world.stop();
    rmSync(world.db);
    const path = join(world.folder, "copy.db");
    const [line] = jsonLines(await world.operate("backup", path));
    assert.equal((line!.error as { code: string }).code, "store_unusable");
    assert.ok(!existsSync(path) && !existsSync(world.db));
  });
});

test(
  "restored when nothing was lost: the server goes on, and so do its members",
  OPTIONS,
  async () => {
    const { world, alices } = await worldOfTwo();
    const settled = alices.order(alice, bob);
    const answer = await alices.settle(settled);
    const known = await alices.newestCheckpoint();
    await world.stop();
    const { path, size } = await backup(world);
    assert.equal(size, known.size);
    restore(world, path);
    await world.startServer();
    const client = await WireClient.connect(world);
    const params = { delegation: client.delegate(alice), checkpoint: known.text };
    assert.deepEqual((await client.call("session.login", params)).consistency, []);
    client.delegation = params.delegation;
    assert.equal((await client.settle(settled)).entry, answer.entry);
    assert.equal((await client.settle(client.order(alice, bob))).size, size + 1);
    const { path: steps } = await client.call("ledger.consistency", { from: size, to: size + 1 });
    const hashes = (steps as string[]).map((step) => decodeBase64(step)!);
    verifyConsistency(known, client.checkpointOf(size + 1), hashes);
    await world.stop();
  },
);

test(
  "restored when something was lost: nothing is extended until the operator accepts it",
  OPTIONS,
  async () => {
    const { world, alices } = await worldOfTwo();
    const kept = await alices.newestCheckpoint();
    const { path } = await backup(world);
    const lost = alices.order(alice, bob, { amount: "5.00" });
    const lostEntry = (await alices.settle(lost)).entry;
    const known = await alices.newestCheckpoint();
    await world.stop();
    restore(world, path);

    for (
      const command of [START, ["grant", "alice", "1"], ["settings", "--opening-balance", "1"]]
    ) {
      const outcome = await world.operate(...command);
      const { code, message } = jsonLines(outcome)[0]!.error as { code: string; message: string };
      assert.equal(code, "ledger_rolled_back", command.join(" "));
      assert.match(message, new RegExp(`signed with ${known.size} entries.*--accept-rollback`));
    }
    const audited = jsonLines(await world.operate("audit"))[0]!;
    assert.equal((audited.error as { code: string }).code, "audit_failed");

    await world.startServer({ serverArgs: ["--accept-rollback"] });
    const client = await WireClient.connect(world);
    const params = { delegation: client.delegate(alice), checkpoint: known.text };
    const login = await client.call("session.login", params);
    client.delegation = params.delegation;
    // This member knows of entries that are gone, and is shown the operator's word for it.
    assert.deepEqual([login.consistency, login.size, login.balance], [
      null,
      kept.size + 1,
      "10000.00",
    ]);
    const told = client.provenEntry(await client.call("ledger.rollback", { size: known.size }));
    assert.ok(told.type === "ledger.rollback");
    assert.deepEqual([told.keptSize, told.lostSize], [kept.size, known.size]);
    assert.deepEqual(await client.call("ledger.rollback", { size: kept.size }), { entry: null });
    // One whose memory ends before the loss goes on without any of that.
    const bobs = await WireClient.connect(world);
    const member = { delegation: bobs.delegate(bob), checkpoint: kept.text };
    assert.notEqual((await bobs.call("session.login", member)).consistency, null);
    // The lost order is an order that was never settled: the payer decides.
    const again = await client.settle(lost);
    assert.notEqual(again.entry, lostEntry);
    await world.stop();
    await world.startServer({ serverArgs: [] });
    await world.stop();
    const [line] = jsonLines(await world.operate("audit"));
    assert.equal(line!.valid, true);
  },
);

test(
  "a ledger without its anchor is taken for the newest one by the operator's word alone",
  OPTIONS,
  async () => {
    const { world } = await worldOfTwo();
    await world.stop();
    rmSync(join(world.serverKeys, "server_anchor.txt"));
    const [refused] = jsonLines(await world.operate(...START));
    assert.equal((refused!.error as { code: string }).code, "ledger_rolled_back");
    await world.startServer({ serverArgs: ["--accept-rollback"] });
    await world.stop();
    await world.startServer({ serverArgs: [] });
    await world.stop();
  },
);
