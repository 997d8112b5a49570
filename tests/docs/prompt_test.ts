/** The session at the prompt in docs/payments.md, replayed: it looks as it is written there. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { readDocument } from "../support/documents.ts";
import { PaymentWorld } from "../support/payment_world.ts";
import { Screen, skipScreen } from "../support/screen.ts";

const PAGE = readDocument("docs/payments.md");
const PROMPT = /^alice \d+\.\d\d> /;

/** The session's lines, without the command that starts it. */
function session(): string[] {
  const blocks = PAGE.split("```console\n").slice(1).map((block) => block.split("```")[0]!);
  const block = blocks.find((text) => /^alice \d+\.\d\d> /m.test(text));
  assert.ok(block, "the page shows no session at the prompt");
  return block.trimEnd().split("\n").slice(1);
}

/** A line without what differs each time: ports, payment ids and times. */
function constant(line: string): string {
  return line.replace(/port \d+/, "port N")
    .replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/, "ID")
    .replace(/\b[0-9a-f]{8}\b(?= ")/, "ID")
    .replace(/\d{4}-\d\d-\d\d \d\d:\d\d/, "TIME");
}

test("the session at the prompt looks as it is written there", {
  timeout: 120_000,
  skip: skipScreen,
}, async () => {
  const world = await PaymentWorld.start();
  await world.register("alice", "bob");
  const bob = await world.listen("bob");
  await world.ask("alice", "pay", "bob", "12.50", "lunch");
  const keys = world.keysOf("alice");
  const screen = new Screen(
    "client.ts",
    ["127.0.0.1", String(world.port), "--keys", keys],
    { columns: 100 },
  );
  const expected = session();
  for (const [index, line] of expected.entries()) {
    const prompt = PROMPT.exec(line)?.[0];
    if (prompt === undefined) {
      const paid = /^bob paid you (\S+) "(.*?)";/.exec(line);
      if (paid !== null) await world.ask("bob", "pay", "alice", paid[1]!, paid[2]!);
      continue;
    }
    await screen.see(new RegExp(`${prompt.trim().replace(".", "\\.")}$`));
    screen.enter(line.slice(prompt.length));
    await screen.see(line);
    if (/^paid/.test(expected[index + 1] ?? "")) {
      await screen.see(expected[index + 1]!.split(";")[0]!);
    }
  }
  assert.equal(await screen.ended(), 0);
  const shown = screen.text.split("\n").slice(0, expected.length);
  assert.deepEqual(shown.map(constant), expected.map(constant));
  screen.close();
  await bob.stop();
  await world.stop();
});
