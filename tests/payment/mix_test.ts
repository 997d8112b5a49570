import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { whyNot } from "../support/other_runtime.ts";
import { jsonLines, PaymentWorld } from "../support/payment_world.ts";
import { RUNTIME, runTool } from "../support/support.ts";

const OTHER = RUNTIME === "deno" ? "bun" : "deno";
const skip = whyNot("bun") || whyNot(OTHER);

for (const [serverRuntime, clientRuntime] of [[RUNTIME, OTHER], [OTHER, RUNTIME]] as const) {
  test(
    `people with ${clientRuntime} pay each other through a server on ${serverRuntime}`,
    { timeout: 120_000, skip },
    async () => {
      const world = await PaymentWorld.start({ serverRuntime, clientRuntime });
      await world.register("alice", "bob");
      const bob = await world.listen("bob");
      const direct = await world.ask("alice", "pay", "bob", "12.50", "--memo", "for lunch ☕");
      assert.deepEqual([direct.path, direct.balance], ["direct", "9987.50"]);
      const heard = await bob.nextJson(({ event }) => event === "paid");
      assert.deepEqual([heard.payment, heard.memo, heard.balance], [
        direct.payment,
        "for lunch ☕",
        "10012.50",
      ]);
      const through = await world.ask("alice", "pay", "bob", "1", "--via-server");
      assert.deepEqual([through.path, through.balance], ["server", "9986.50"]);

      const [alices, bobs] = [
        await world.client("alice", "receipt", String(direct.payment)),
        await world.client("bob", "receipt", String(direct.payment)),
      ];
      assert.equal(alices.stdout, bobs.stdout);
      const file = join(world.folder, "receipt.json");
      writeFileSync(file, alices.stdout);
      const key = join(world.serverKeys, "server_public.pem");
      for (const runtime of [serverRuntime, clientRuntime]) {
        const args = ["verify", file, "--json", "--server-key", key];
        const verified = await runTool("client.ts", args, { runtime });
        assert.equal(jsonLines(verified)[0]!.amount, "12.50");
      }
      assert.equal(jsonLines(await world.client("bob", "history")).length, 3);
      await bob.stop();
      await world.stop();
      assert.equal(jsonLines(await world.operate("audit"))[0]!.valid, true);
    },
  );
}
