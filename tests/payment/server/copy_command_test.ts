/** `server.ts copy` and `anchor`: moving a ledger to another database and back, and comparing servers. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { errorCode, jsonLines, PaymentWorld } from "../../support/payment_world.ts";
import { tryPostgres } from "../../support/postgres.ts";
import { runTool, temporaryFolder } from "../../support/support.ts";

const { server: database, skip } = await tryPostgres();
after(() => database?.stop());
const options = { skip, timeout: 180_000 };

test("a ledger moves to PostgreSQL and back, and clients notice nothing", options, async () => {
  const world = await PaymentWorld.start();
  await world.register("alice", "bob");
  const auditOf = async (db: string) => {
    const args = ["audit", "--json", "--keys", world.serverKeys, "--db", db];
    return jsonLines(await runTool("server.ts", args))[0]!;
  };
  let balance = 10_000;
  const databases = [world.db, await database!.newDatabase(), join(temporaryFolder(), "back.db")];
  for (
    const [from, to] of [[databases[0]!, databases[1]!], [databases[1]!, databases[2]!]] as const
  ) {
    assert.equal((await world.ask("alice", "pay", "bob", "1.00")).balance, `${--balance}.00`);
    await world.stop();
    const before = await auditOf(from);
    const args = ["copy", "--keys", world.serverKeys, "--from", from, "--to", to];
    const outcome = await runTool("server.ts", [...args, "--json"]);
    assert.equal(outcome.status, 0, outcome.stderr);
    const copied = jsonLines(outcome)[0]!;
    assert.equal(copied.copied, Number(before.entries) + 2);
    assert.ok(!JSON.stringify(outcome).includes(encodeURIComponent("with@odd")));
    assert.ok(!JSON.stringify(outcome).includes("with@odd"));
    const again = await runTool("server.ts", [...args, "--json"]);
    assert.equal(errorCode(again), "ledger_moved");

    const old = await runTool("server.ts", [
      ...["0", "--json", "--host", "127.0.0.1", "--keys", world.serverKeys, "--db", from],
    ]);
    assert.equal(old.status, 1);
    assert.equal(errorCode(old), "ledger_moved");
    await world.startServer({ more: ["--db", to] });
  }
  assert.equal((await world.ask("alice", "pay", "bob", "1.00")).balance, `${--balance}.00`);
  assert.equal((await world.stop()).status, 0);
  assert.equal((await auditOf(databases[2]!)).valid, true);
});

test(
  "a ledger is not moved over another one, to itself, or when it is not there",
  options,
  async () => {
    const [world, other] = [await PaymentWorld.start(), await PaymentWorld.start()];
    const copy = async (from: string, to: string) => {
      const args = ["copy", "--json", "--keys", world.serverKeys, "--from", from, "--to", to];
      const outcome = await runTool("server.ts", args);
      return [outcome.status, errorCode(outcome)];
    };
    assert.deepEqual(await copy(world.db, other.db), [1, "store_unusable"]);
    assert.deepEqual(await copy(world.db, world.db), [2, "usage"]);
    assert.deepEqual(await copy(world.db, "postgress://a@b/c"), [2, "usage"]);
    const missing = join(world.folder, "nowhere.db");
    assert.equal((await copy(missing, join(world.folder, "new.db")))[0], 1);
    // Nothing was ended.
    await world.register("alice");
    for (const one of [world, other]) assert.equal((await one.stop()).status, 0);
  },
);

test("anchor shows the newest checkpoint that a server knows", async () => {
  const world = await PaymentWorld.start();
  await world.register("alice");
  await world.stop();
  const anchor = async (keys: string) =>
    await runTool("server.ts", ["anchor", "--json", "--keys", keys]);
  const shown = jsonLines(await anchor(world.serverKeys))[0]!;
  const audited = jsonLines(await world.operate("audit"))[0]!;
  assert.deepEqual([shown.size, shown.root], [audited.size, audited.root]);
  assert.equal(shown.checkpoint, readFileSync(join(world.serverKeys, "server_anchor.txt"), "utf8"));
  const keys = join(temporaryFolder(), "keys");
  await runTool("server.ts", ["keygen", "--keys", keys]);
  const none = await anchor(keys);
  assert.equal(none.status, 1);
  assert.match(none.stderr, /has no anchor/);
});
