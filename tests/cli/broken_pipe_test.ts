/** Tools whose reader leaves before they have printed everything. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { PaymentWorld } from "../support/payment_world.ts";
import { RUNTIME } from "../support/support.ts";

const CLIENT = fileURLToPath(new URL("../../client.ts", import.meta.url));

/** Runs the client with a standard output that nobody reads. */
async function runUnread(args: readonly string[]): Promise<{ status: number; stderr: string }> {
  const run = RUNTIME === "deno" ? ["run", "-A", "--no-check"] : [];
  const child = spawn(process.execPath, [...run, CLIENT, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, NO_COLOR: "1" },
  });
  child.stdout.destroy();
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => stderr += text);
  const [status] = await once(child, "close");
  return { status, stderr };
}

test("a reader who leaves early ends the tool without an error", { timeout: 60_000 }, async () => {
  const world = await PaymentWorld.start();
  await world.register("alice");
  const outcome = await runUnread(world.clientArgs("alice", "history"));
  assert.deepEqual(outcome, { status: 0, stderr: "" });
  await world.stop();
});

test(
  "a command that fails says so even if nobody reads its results",
  { timeout: 60_000 },
  async () => {
    const world = await PaymentWorld.start();
    await world.register("alice");
    const { status, stderr } = await runUnread(world.clientArgs("alice", "receipt", randomUUID()));
    assert.equal(status, 1);
    assert.match(stderr, /^error: /);
    await world.stop();
  },
);
