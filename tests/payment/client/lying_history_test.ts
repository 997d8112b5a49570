/** A server that lies about an account's history, or about who is online. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { sha256Text } from "../../../lib/protocol/token.ts";
import { LyingServer, Member, OwnServer } from "../../support/lying_server.ts";
import type { Json } from "../../support/payment_world.ts";
import { refusalOf } from "../../support/refusal.ts";
import { until } from "../../support/support.ts";

const OPTIONS = { timeout: 60_000 };

let server: OwnServer;
let liar: LyingServer;
let alice: Member;

before(async () => {
  server = await OwnServer.start();
  liar = await LyingServer.start(server);
  alice = new Member(server, "alice");
  await alice.register();
  await new Member(server, "bob").register();
  for (let paid = 0; paid < 3; paid++) await alice.pay("bob");
});

after(async () => {
  await liar.close();
  await server.stop();
});

/** Changes bob's last payment in what the server says of his history. */
function lieAboutLast(change: (row: Json) => Json): void {
  liar.lie("payment.history", (told) => {
    const rows = told.rows as Json[];
    return rows.length === 0
      ? told
      : { ...told, rows: [...rows.slice(0, -1), change(rows.at(-1)!)] };
  });
}

const LIES: Record<string, (row: Json) => Json> = {
  "that never happened": (row) => ({ ...row, payment: randomUUID() }),
  "of more than was paid": (row) => ({ ...row, amount: "1000.00" }),
  "of another index": (row) => ({ ...row, index: Number(row.index) + 1 }),
  "of someone else": (row) => ({ ...row, payer: "mallory" }),
  "at an index that the log has not": (row) => ({ ...row, index: Number.MAX_SAFE_INTEGER - 1 }),
  "in front of those before it": (row) => ({ ...row, index: 1 }),
};

describe("a listener does not show a payment", () => {
  for (const [lie, change] of Object.entries(LIES)) {
    test(`${lie}, and shows the next true one`, OPTIONS, async () => {
      liar.honest();
      const bob = new Member(server, "bob");
      lieAboutLast(change);
      const online = await bob.listen(liar.port);
      await until(() => bob.warnings.length > 0, OPTIONS.timeout);
      assert.match(bob.warnings[0]!, /cannot show what was paid/);
      const expected = (await paidTo("bob")).length;
      assert.ok(online.paid.length < expected);
      assert.ok(online.paid.every(({ amount, payer }) => amount === "1.00" && payer === "alice"));

      liar.honest();
      await alice.pay("bob");
      await until(() => online.paid.length === expected + 1, OPTIONS.timeout);
      assert.deepEqual(online.paid.map(({ payment }) => payment), await paidTo("bob"));
      assert.equal(await Promise.race([online.ended, null]), null);
      await online.listening.close();
    });
  }
});

/** What bob was truly paid by alice, by payment. */
async function paidTo(name: string): Promise<string[]> {
  const entries = (await server.entries()).map((text) => JSON.parse(text) as Json);
  return entries.filter(({ type, payee, payer }) =>
    type === "transfer" && payee === name && payer === "alice"
  ).map(({ id }) => String(id));
}

test("an index that the log has not is not remembered as shown", OPTIONS, async () => {
  liar.honest();
  const bob = new Member(server, "bob");
  lieAboutLast((row) => ({ ...row, index: Number.MAX_SAFE_INTEGER - 1 }));
  const online = await bob.listen(liar.port);
  await until(() => bob.warnings.length > 0, OPTIONS.timeout);
  await online.listening.close();
  const path = join(bob.folder, "bob_shown.json");
  const shown = () => JSON.parse(readFileSync(path, "utf8")).servers[server.thumbprint];
  assert.throws(shown, "nothing was shown yet");
});

const ROW: Json = {
  index: 4,
  payment: randomUUID(),
  time: 0,
  payer: "alice",
  payee: "bob",
  amount: "1.00",
  memo: null,
  balance: "1.00",
};
const ENDLESS: Record<string, (params: Json) => Json> = {
  "empty pages": ({ after }) => ({ rows: [], next: Number(after) + 1 }),
  "the same page": () => ({ rows: [ROW], next: 4 }),
  "a page that leads past its end": () => ({ rows: [ROW], next: 5 }),
  "a page that leads back": () => ({ rows: [ROW, { ...ROW, index: 5 }], next: 4 }),
};

describe("a history ends, though the server sends", () => {
  for (const [what, page] of Object.entries(ENDLESS)) {
    test(what, OPTIONS, async () => {
      liar.honest();
      liar.lie("payment.history", (_told, params) => page(params));
      const client = await alice.open(liar.port);
      const { code } = await refusalOf(() => Array.fromAsync(client.session.history(0)));
      assert.equal(code, "bad_answer");
      await client.end();
    });
  }
});

const person = (name: string) => ({
  name,
  host: "127.0.0.1",
  port: 4_000,
  fingerprint: sha256Text(name),
});
const CIRCLES: Record<string, Json> = {
  "empty pages": { online: [], next: "a" },
  "the same page": { online: [person("bob")], next: "bob" },
  "a page that leads back": { online: [person("bob"), person("alice")], next: "alice" },
  "a page that leads past its end": { online: [person("bob")], next: "carol" },
};

describe("the list of those online ends, though the server sends", () => {
  for (const [what, page] of Object.entries(CIRCLES)) {
    test(what, OPTIONS, async () => {
      liar.honest();
      liar.lie("directory.list", () => page);
      const client = await alice.open(liar.port);
      const all = async () => {
        let after: string | null = null;
        do ({ next: after } = await client.session.list(after)); while (after !== null);
      };
      assert.equal((await refusalOf(all)).code, "bad_answer");
      await client.end();
    });
  }
});
