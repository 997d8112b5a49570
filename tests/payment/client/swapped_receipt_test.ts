/** `client.ts verify` accepts two true receipts, and nothing that is put together from both. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Member, OwnServer } from "../../support/lying_server.ts";
import { jsonLines } from "../../support/payment_world.ts";
import { type Outcome, runTool } from "../../support/support.ts";

const OPTIONS = { timeout: 60_000 };

let server: OwnServer;
let alice: Member;
/** Two receipts of alice's, each as its lines. */
let [one, other]: [string[], string[]] = [[], []];

before(async () => {
  server = await OwnServer.start();
  alice = new Member(server, "alice");
  await alice.register();
  for (const name of ["bob", "carol"]) await new Member(server, name).register();
  for (const payee of ["bob", "carol"]) await alice.pay(payee);
  const folder = join(alice.folder, "alice_receipts");
  const texts = readdirSync(folder).sort().map((name) => readFileSync(join(folder, name), "utf8"));
  [one, other] = texts.map((text) => text.split("\n")) as [string[], string[]];
});

after(() => server.stop());

async function verify(lines: readonly string[]): Promise<Outcome> {
  const path = join(alice.folder, "judged.txt");
  writeFileSync(path, lines.join("\n"));
  const key = join(server.serverKeys, "server_public.pem");
  return await runTool("client.ts", ["verify", path, "--server-key", key, "--json"]);
}

async function requireRefused(lines: readonly string[], why: string): Promise<void> {
  const outcome = await verify(lines);
  assert.equal(outcome.status, 1, `${why}: ${outcome.stdout}`);
  const { error } = jsonLines(outcome)[0] as { error: { code: string } };
  assert.match(error.code, /^(bad_\w+|wrong_\w+)$/, why);
}

test("both are accepted as they are", OPTIONS, async () => {
  for (const [lines, payee] of [[one, "bob"], [other, "carol"]] as const) {
    const outcome = await verify(lines);
    assert.equal(outcome.status, 0, outcome.stderr);
    const { valid, payer, payee: paid } = jsonLines(outcome)[0]!;
    assert.deepEqual([valid, payer, paid], [true, "alice", payee]);
  }
});

describe("no line may be another's", () => {
  test("one by one", OPTIONS, async () => {
    for (const [at, line] of one.entries()) {
      if (line === other[at] || other[at] === undefined) continue;
      await requireRefused(one.with(at, other[at]!), `line ${at}`);
      const middle = Math.floor(line.length / 2);
      const changed = line[middle] === "A" ? "B" : "A";
      await requireRefused(
        one.with(at, line.slice(0, middle) + changed + line.slice(middle + 1)),
        `a character of line ${at}`,
      );
      await requireRefused(one.toSpliced(at, 1), `without line ${at}`);
    }
    const [proof, more] = [one.indexOf(""), other.indexOf("")];
    await requireRefused([...one.slice(0, proof), ...other.slice(more)], "the checkpoint");
    await requireRefused([...one.slice(0, 2), ...other.slice(2)], "all but the payment");
    await requireRefused([...one, "more"], "text after the end");
  });

  for (const part of ["order", "delegation", "entry", "statement"]) {
    test(`nor the ${part} in it`, OPTIONS, async () => {
      const read = (lines: string[]) => JSON.parse(atob(lines[1]!.slice("extra ".length)));
      const [mine, its] = [read(one), read(other)];
      const write = (extra: object) => one.with(1, `extra ${btoa(JSON.stringify(extra))}`);
      assert.deepEqual(write(mine), one);
      if (mine[part] !== its[part]) {
        await requireRefused(write({ ...mine, [part]: its[part] }), part);
      }
      const middle = Math.floor(mine[part].length / 2);
      const text: string = mine[part];
      const changed = text.slice(0, middle) + (text[middle] === "x" ? "y" : "x") +
        text.slice(middle + 1);
      await requireRefused(write({ ...mine, [part]: changed }), `a character of the ${part}`);
      await requireRefused(write({ ...mine, [part]: undefined }), `no ${part}`);
      await requireRefused(write({ ...mine, more: 1 }), "more than there is");
    });
  }
});
