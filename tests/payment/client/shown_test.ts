/** A payee is shown each payment once, however many there are and however the client ends. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { join } from "node:path";
import { writeFileSync } from "node:fs";
import { parseAccountName } from "../../../lib/keys/rsa.ts";
import { parseAmount } from "../../../lib/protocol/money.ts";
import { spawnTool, type ToolProcess } from "../../support/support.ts";
import { rsaPair } from "../../support/fixtures.ts";
import { HOST, logIn, payCent, startServer } from "../../support/siege.ts";

const OPTIONS = { timeout: 120_000 };
const PAYMENTS = 250;
const server = await startServer(["--orders-per-second", "1000"]);
const alice = await logIn(server, "alice");
await (await logIn(server, "bob")).end();
after(async () => {
  await alice.end();
  await server.tool.stop("SIGKILL");
});

const bobsKeys = join(server.folder, "bob_keys");
const pem = rsaPair("everyone").privateKey.export({ type: "pkcs8", format: "pem" }) as string;
writeFileSync(join(bobsKeys, "bob_private.pem"), pem, { mode: 0o600 });

function listen(): ToolProcess {
  const where = [HOST, String(server.port), "listen", "--as", "bob", "--keys", bobsKeys];
  return spawnTool("client.ts", [...where, "--json", "--quiet"], { timeout_ms: 60_000 });
}

/** The payments that a listener shows, up to `count` of them. */
async function shownBy(listener: ToolProcess, count: number): Promise<string[]> {
  const shown: string[] = [];
  while (shown.length < count) {
    const line = await listener.nextJson(({ event }) => event === "paid");
    shown.push(String(line.payment));
  }
  return shown;
}

async function payMany(): Promise<void> {
  for (let done = 0; done < PAYMENTS; done += 50) {
    await Promise.all(Array.from({ length: 50 }, () => payCent(alice, "bob")));
  }
}

test("each payment once, in order, over clean stops", OPTIONS, async () => {
  await payMany();
  const first = listen();
  const shown = await shownBy(first, PAYMENTS);
  await first.stop();
  const last = await payLast();
  const second = listen();
  shown.push(...await shownBy(second, 1));
  await second.stop();
  assert.equal(shown.at(-1), last);
  assert.equal(new Set(shown).size, PAYMENTS + 1);
});

test(
  "after a kill at most the one twice that was being shown, and none missed",
  OPTIONS,
  async () => {
    await payMany();
    const shown: string[] = [];
    for (const count of [1, 40, 120]) {
      const listener = listen();
      const before = await shownBy(listener, count);
      const outcome = await listener.stop("SIGKILL");
      const lines = outcome.stdout.split("\n").slice(0, -1).map((line) => JSON.parse(line));
      const all = lines.filter(({ event }) => event === "paid").map(({ payment }) => payment);
      assert.ok(all.length >= before.length);
      shown.push(...all);
    }
    const last = await payLast();
    const listener = listen();
    while (shown.at(-1) !== last) shown.push(...await shownBy(listener, 1));
    await listener.stop();
    const each = new Set(shown);
    assert.equal(each.size, PAYMENTS + 1);
    assert.ok(shown.length - each.size <= 3, `${shown.length - each.size} twice`);
  },
);

async function payLast(): Promise<string> {
  const { payment } = await alice.pay({
    payee: parseAccountName("bob"),
    amount: parseAmount("0.02"),
    memo: null,
    way: "via-server",
    id: null,
  });
  return payment;
}
