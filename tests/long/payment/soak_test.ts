import assert from "node:assert/strict";
import { test } from "node:test";
import { jsonLines, PaymentWorld } from "../../support/payment_world.ts";
import { soak } from "../../support/soak.ts";

test(
  "fifty clients that pay at random for five seconds meet no refusal that is not a rule, and no money is lost",
  { timeout: 120_000 },
  async () => {
    const world = await PaymentWorld.start();
    const { settled, refused, verified } = await soak(world, { clients: 50, duration_ms: 5_000 });
    assert.ok(settled > 100 && refused > 0 && verified > 0, `${settled}, ${refused}, ${verified}`);
    assert.equal((await world.stop()).status, 0);
    const audit = jsonLines(await world.operate("audit"))[0]!;
    assert.equal(audit.valid, true, JSON.stringify(audit));
    // The ledger's opening is an entry, and each account's is two.
    assert.equal(audit.entries, 1 + 2 * 50 + settled);
  },
);
