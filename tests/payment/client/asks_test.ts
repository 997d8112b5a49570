/**
 * What the client asks a person, and how loudly it stops: on terminals of 40 and 80 columns, and
 * without one.
 */
import assert from "node:assert/strict";
import { copyFileSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { jsonLines, PaymentWorld } from "../../support/payment_world.ts";
import { Screen, skipScreen } from "../../support/screen.ts";
import { runTool } from "../../support/support.ts";

const OPTIONS = { timeout: 180_000, skip: skipScreen };

for (const columns of [40, 80]) {
  test(
    `a new server is asked about in a block, at ${columns} columns; no means not trusted`,
    OPTIONS,
    async () => {
      const world = await PaymentWorld.start();
      const keys = join(world.folder, "fresh");
      const args = ["localhost", String(world.port), "register", "--as", "jim", "--keys", keys];
      const screen = new Screen("client.ts", args, { columns });
      await screen.see("Trust it (yes/no)?");
      const { lines } = screen;
      assert.ok(lines.every((line) => line.length <= columns));
      assert.match(lines.join(" "), /is not known here\. The fingerprint of its key is {2}/);
      assert.match(lines.at(-1)!, /^Trust it \(yes\/no\)\?/);
      screen.enter("no");
      assert.equal(await screen.ended(), 3);
      assert.match(screen.text, /Trust it \(yes\/no\)\? no\nerror: not trusted\n\[status 3\]$/);
      screen.close();
      await world.stop();
    },
  );
}

test("a payee whose key has changed is a loud stop, and nothing is asked", OPTIONS, async () => {
  const world = await PaymentWorld.start();
  await world.register("alice", "bob");
  await world.ask("alice", "pay", "bob", "1");
  const keys = world.keysOf("alice");
  const path = join(keys, "known_payees.json");
  const text = readFileSync(path, "utf8").replace(/(\/bob": ")[\w-]{43}"/, `$1${"A".repeat(43)}"`);
  writeFileSync(path, text);
  const args = ["127.0.0.1", String(world.port), "pay", "bob", "1", "--as", "alice"];
  const screen = new Screen("client.ts", [...args, "--keys", keys]);
  assert.equal(await screen.ended(), 1);
  assert.match(screen.text, /!{79}\nTHE PAYEE HAS ANOTHER KEY THAN BEFORE\n/);
  assert.doesNotMatch(screen.text, /yes\/no/);
  screen.close();
  assert.equal((await world.ask("alice", "balance")).balance, "9999.00");
  await world.stop();
});

test(
  "one-shot pay asks on a terminal, and without one pins the key with a remark",
  OPTIONS,
  async () => {
    const world = await PaymentWorld.start();
    await world.register("alice", "bob", "carol");
    const args = [
      "127.0.0.1",
      String(world.port),
      "--as",
      "alice",
      "--keys",
      world.keysOf("alice"),
    ];
    const screen = new Screen("client.ts", [...args, "pay", "bob", "9"]);
    await screen.see("Amount 9.00; balance 10000.00, and after it 9991.00.");
    screen.press("C-c");
    assert.equal(await screen.ended(), 130);
    screen.close();
    const quiet = await runTool("client.ts", [...args, "pay", "carol", "9"], { stdin: "" });
    assert.equal(quiet.status, 0);
    assert.match(quiet.stderr, /first payment to carol, whose key is /);
    assert.equal((await world.ask("alice", "balance")).balance, "9991.00");
    await world.stop();
  },
);

test("an account that an older ledger lacks is explained", OPTIONS, async () => {
  const world = await PaymentWorld.start();
  await world.register("bob");
  const backup = join(world.folder, "backup.db");
  await world.stop();
  copyFileSync(world.db, backup);
  await world.startServer();
  await world.register("alice");
  await world.stop();
  for (const end of ["-wal", "-shm"]) rmSync(world.db + end, { force: true });
  renameSync(backup, world.db);
  await world.startServer({ more: ["--accept-rollback"] });
  const outcome = await world.client("alice", "balance");
  assert.match(outcome.stderr, /has no account alice.*put back an older ledger/);
  await world.stop();
});

test(
  "a pipe that ends in the middle of a question ends the client, having paid nothing",
  OPTIONS,
  async () => {
    const world = await PaymentWorld.start();
    await world.register("alice", "bob");
    const args = world.clientArgs("alice");
    for (const stdin of ["Transaction\nbob\n", "Transaction", "pay bob 1 --memo", "\n\n", ""]) {
      const { status, stderr } = await runTool("client.ts", args, { stdin });
      assert.equal(status, 0, stderr);
      assert.ok(!stderr.includes("> ") && !stderr.includes("\u001b"), stderr);
    }
    assert.equal((await world.ask("alice", "balance")).balance, "10000.00");
    const whole = await runTool("client.ts", args, { stdin: "TRANSACTION\nbob\n2\n\nexit" });
    assert.equal(jsonLines(whole)[0]!.amount, "2.00");
    await world.stop();
  },
);
