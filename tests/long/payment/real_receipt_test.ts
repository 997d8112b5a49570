/**
 * A payment made by the real tools, and its receipt as `client.ts receipt` prints it: openssl, Python
 * and Go's sumdb, which share no code with ours, accept it.
 */
import assert from "node:assert/strict";
import { createPublicKey } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { person } from "../../support/fixtures.ts";
import { buildVerifier, whyNoGo } from "../../support/go_sumdb.ts";
import { jsonLines, PaymentWorld } from "../../support/payment_world.ts";
import { checkReceipt, verifyEd25519, verifyRsa } from "../../support/receipt_tools.ts";
import { runTool } from "../../support/support.ts";
import { WireClient } from "../../support/wire_client.ts";

const LONG = { timeout: 300_000 };

let world: PaymentWorld;
/** The newest checkpoint that alice remembered before and after all payments. */
let [older, newer] = ["", ""];
let plain = "";
let batched = "";

function remembered(name: string): string {
  const folder = world.keysOf(name);
  const file = readdirSync(folder).find((one) => /^checkpoint_.*\.txt$/.test(one))!;
  return readFileSync(join(folder, file), "utf8");
}

before(async () => {
  world = await PaymentWorld.start();
  await world.register("alice", "bob", "carol");
  const { payment } = await world.ask("alice", "pay", "bob", "12.50", "--memo", "lunch for two");
  older = remembered("alice");
  const file = join(world.folder, "batch.csv");
  writeFileSync(file, "bob,1.00\ncarol,2.00\nbob,3.00\n");
  const batch = jsonLines(await world.client("alice", "pay", "--batch", file));
  for (let paid = 0; paid < 5; paid++) await world.ask("bob", "pay", "carol", "0.01");
  plain = String((await world.ask("bob", "receipt", String(payment))).receipt);
  batched = String((await world.ask("carol", "receipt", String(batch[1]!.payment))).receipt);
  await world.ask("alice", "balance");
  newer = remembered("alice");
}, LONG);

after(() => world.stop());

test("openssl accepts every signature of it, and Python every hash", LONG, () => {
  const pem = (keys: string, name: string) =>
    createPublicKey(readFileSync(join(keys, `${name}_public.pem`)));
  const payer = pem(world.keysOf("alice"), "alice").export({ type: "spki", format: "der" });
  const payments = [
    [plain, { payer: "alice", payee: "bob", amount: "12.50", failed: [] }],
    [batched, { payer: "alice", payee: "carol", amount: "2.00", failed: [] }],
  ] as const;
  for (const [receipt, expected] of payments) {
    const { folder, ...checked } = checkReceipt(receipt, pem(world.serverKeys, "server"));
    assert.deepEqual(checked, expected);
    writeFileSync(join(folder, "payer.der"), payer);
    const verified = [
      verifyRsa(folder, "statement", "server.der"),
      verifyRsa(folder, "delegation", "payer.der"),
      verifyEd25519(folder, "order"),
      verifyEd25519(folder, "checkpoint"),
    ];
    for (const said of verified) assert.match(said, /Verified OK|Verified Successfully/);
  }
});

/** A receipt's entry, its place, its proof and its checkpoint: a tlog-proof as its format says. */
function partsOf(receipt: string) {
  const [proof, checkpoint] = receipt.split("\n\n", 2) as [string, string];
  const [, extra, index, ...inclusion] = proof.split("\n");
  const { entry } = JSON.parse(atob(extra!.slice("extra ".length)));
  const note = receipt.slice(receipt.indexOf(checkpoint));
  return { entry, index: Number(index!.slice("index ".length)), inclusion, checkpoint: note };
}

test("Go's sumdb accepts it, and that the log of two checkpoints is one", {
  ...LONG,
  skip: whyNoGo(),
}, async () => {
  const verify = buildVerifier();
  const keygen = await runTool("server.ts", ["keygen", "--keys", world.serverKeys, "--json"]);
  const { verifier_key } = jsonLines(keygen)[0]!;
  const witness = await WireClient.enter(world, person("witness"), "account.register");
  const sizeOf = (checkpoint: string) => Number(checkpoint.split("\n")[1]);
  const claims = await Promise.all([plain, batched].map(async (receipt) => {
    const { entry, index, inclusion, checkpoint } = partsOf(receipt);
    const sizes = { from: sizeOf(older), to: sizeOf(checkpoint) };
    const { path } = await witness.call("ledger.consistency", sizes);
    return {
      VerifierKey: String(verifier_key),
      Checkpoint: checkpoint,
      Record: entry as string,
      Index: index,
      Inclusion: inclusion,
      Older: older,
      Consistency: path as string[],
    };
  }));
  assert.ok(sizeOf(older) < sizeOf(newer));
  assert.deepEqual(verify(claims), ["ok", "ok"]);
  witness.close();

  const [claim] = claims;
  const forged = [
    { ...claim!, Record: claim!.Record.replace("12.50", "92.50") },
    { ...claim!, Index: claim!.Index + 1 },
    { ...claim!, Older: newer },
    { ...claim!, Checkpoint: newer.replace(/\n\d+\n/, "\n5\n") },
  ];
  for (const said of verify(forged)) assert.notEqual(said, "ok");
});
