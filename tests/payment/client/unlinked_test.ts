/** Every checkpoint that the log key signed is linked, whatever the server does to avoid it. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { SealwireError } from "../../../lib/base/errors.ts";
import { UNLINKED_MAX } from "../../../lib/payment/client/remembered.ts";
import { person } from "../../support/fixtures.ts";
import { LyingServer, Member, OtherHistory, OwnServer, payBy } from "../../support/lying_server.ts";
import type { Json } from "../../support/payment_world.ts";
import { refusalOf } from "../../support/refusal.ts";
import { grant } from "../../support/settle_world.ts";

const OPTIONS = { timeout: 60_000 };

let server: OwnServer;
let liar: LyingServer;
let founder: Member;

before(async () => {
  server = await OwnServer.start();
  liar = await LyingServer.start(server);
  founder = new Member(server, "alice");
  await founder.register();
  for (const name of ["bob", "carol"]) await new Member(server, name).register();
});

after(async () => {
  await liar.close();
  await server.stop();
});

async function returning(name = "alice"): Promise<Member> {
  liar.honest();
  const member = new Member(server, name);
  await member.visit();
  return member;
}

/** Puts each settled payment into a history of its own, `more` entries longer than the true one. */
function forgeReceipts(more: number): void {
  liar.lie("payment.settle", async (told) => {
    const { index } = JSON.parse(String(told.entry));
    return { ...told, ...await (await otherHistory(more)).included(index) };
  });
}

/** With another payment in the place of an old one. */
async function otherHistory(more: number): Promise<OtherHistory> {
  const texts = await server.entries();
  const changed = texts.map((text, at) => at === 1 ? text.replace("alice", "mallory") : text);
  const added = Array.from({ length: more }, (_, at) => `entry ${at}`);
  return new OtherHistory(server, [...changed, ...added]);
}

const cut = () => "cut" as const;
/** How a server may avoid to link what it has signed. */
const EVASIONS = {
  "closes the connection": () => liar.lie("ledger.consistency", cut),
  "closes it without waiting to be asked": () => {},
};

const LONGER = [[0, "ledger_forked"], [2, "ledger_not_linked"], [50, "ledger_not_linked"]] as const;

for (const [more, code] of LONGER) {
  describe(`a receipt in a forged history that is ${more} entries longer is ${code}`, () => {
    /** Its evidence is kept, and nothing else of it. */
    async function requireJudged(alice: Member): Promise<void> {
      const verdicts = (await alice.evidence()).map(({ proven }) => proven);
      assert.deepEqual(verdicts, [code === "ledger_forked"]);
      assert.deepEqual(alice.unlinked, []);
      liar.honest();
      await alice.visit(liar.port);
      assert.equal(alice.remembered!.text, server.ledger.checkpoint.text);
    }

    test("when the command ends", OPTIONS, async () => {
      const alice = await returning();
      forgeReceipts(more);
      assert.equal((await refusalOf(() => alice.pay("bob", liar.port))).code, code);
      await requireJudged(alice);
    });

    test("when a true checkpoint follows before it is linked", OPTIONS, async () => {
      const alice = await returning();
      const client = await alice.open(liar.port);
      forgeReceipts(more);
      await payBy(client, "bob");
      liar.honest();
      const paying = payBy(client, "bob").then(() => client.end());
      assert.equal((await refusalOf(() => paying)).code, code);
      await requireJudged(alice);
    });

    test("within a second, also by a client that goes on asking", OPTIONS, async () => {
      const alice = await returning();
      const client = await alice.open(liar.port);
      forgeReceipts(more);
      await payBy(client, "bob");
      assert.equal((await client.session.closed)?.code, code);
      // Every further call says why, and none is tried on a new connection.
      liar.honest();
      assert.equal((await refusalOf(() => payBy(client, "bob"))).code, code);
      assert.equal((await refusalOf(() => client.end())).code, code);
      await requireJudged(alice);
    });
  });
}

describe("a receipt in a forged history is found out", () => {
  for (const [how, evade] of Object.entries(EVASIONS)) {
    test(`by the next command, when the server ${how}`, OPTIONS, async () => {
      const alice = await returning();
      const client = await alice.open(liar.port);
      forgeReceipts(3);
      await payBy(client, "bob");
      evade();
      if (how.includes("without")) client.session.destroy();
      else await client.end();
      assert.equal(alice.unlinked.length, 1);
      // Hanging up again helps as little: nothing is done before it is linked.
      liar.lie("ledger.consistency", cut);
      const asked = liar.asked.length;
      const { code } = await refusalOf(() => alice.pay("bob", liar.port));
      assert.equal(code, "connection_lost");
      assert.ok(!liar.asked.slice(asked).includes("payment.settle"));
      liar.honest();
      await alice.requireDistrust("ledger_not_linked", false, () => alice.visit(liar.port));
      assert.deepEqual(alice.unlinked, []);
      await alice.visit(liar.port);
    });
  }

  test("by the next command, when a person ends this one", OPTIONS, async () => {
    const alice = await returning();
    const interruption = new AbortController();
    const client = await alice.open(liar.port, { signal: interruption.signal });
    forgeReceipts(3);
    await payBy(client, "bob");
    liar.lie("ledger.consistency", () => new Promise(() => {}));
    const ending = client.end();
    interruption.abort(new SealwireError("interrupted", "interrupted"));
    await ending;
    liar.honest();
    assert.equal((await refusalOf(() => alice.visit(liar.port))).code, "ledger_not_linked");
    assert.deepEqual((await alice.evidence()).map(({ proven }) => proven), [false]);
  });

  test("a true receipt is linked by the next command, and nobody is accused", OPTIONS, async () => {
    const alice = await returning();
    const client = await alice.open(liar.port);
    await payBy(client, "bob");
    client.session.destroy();
    assert.equal(alice.unlinked.length, 1);
    await founder.pay("bob");
    await alice.visit(liar.port);
    assert.deepEqual(alice.unlinked, []);
    assert.deepEqual(await alice.evidence(), []);
    assert.equal(alice.remembered!.size, server.ledger.size);
  });
});

test(
  "two roots of one size in two answers of one connection are a proven fork",
  OPTIONS,
  async () => {
    const alice = await returning();
    const client = await alice.open(liar.port);
    let answers = 0;
    liar.lie("directory.lookup", async (told) => {
      const { index } = JSON.parse(String(told.entry));
      const other = await otherHistory(50);
      const texts = [...await server.entries(), ...new Array(50).fill("another entry")];
      const history = ++answers === 1 ? other : new OtherHistory(server, texts);
      return { ...told, ...await history.included(index) };
    });
    const { name: bob } = await client.session.lookup(person("bob").name);
    assert.equal(bob, "bob");
    const { code } = await refusalOf(() => client.session.lookup(person("bob").name));
    assert.equal(code, "ledger_forked");
    assert.deepEqual((await alice.evidence()).map(({ proven }) => proven), [true]);
  },
);

describe("a listener stops, and says why", () => {
  async function listening(): Promise<
    { bob: Member; online: Awaited<ReturnType<Member["listen"]>> }
  > {
    const bob = await returning("bob");
    return { bob, online: await bob.listen(liar.port) };
  }

  async function requireEnded(
    { listening, ended }: Awaited<ReturnType<Member["listen"]>>,
    code: string,
  ): Promise<void> {
    assert.equal((await ended)?.code, code);
    // It says so once more, where it was still connected.
    await listening.close().catch((error) => assert.equal(error.code, code));
  }

  test("when a notification proves a fork", OPTIONS, async () => {
    const { bob, online } = await listening();
    const told: Json[] = [];
    liar.lie("payment.settled", async (settled) => {
      told.push(settled);
      if (told.length === 1) return settled;
      const { index } = JSON.parse(String(told[0]!.entry));
      const texts = (await server.entries()).slice(0, Number(told[0]!.size));
      const other = new OtherHistory(server, texts.map((text, at) => at === 1 ? "another" : text));
      return { ...told[0], ...await other.included(index) };
    });
    for (let paid = 0; paid < 2; paid++) await founder.pay("bob");
    await requireEnded(online, "ledger_forked");
    assert.deepEqual((await bob.evidence()).map(({ proven }) => proven), [true]);
  });

  test("when a notification is of a history that does not link", OPTIONS, async () => {
    const { bob, online } = await listening();
    liar.lie("payment.settled", async (told) => {
      const { index } = JSON.parse(String(told.entry));
      return { ...told, ...await (await otherHistory(3)).included(index) };
    });
    await founder.pay("bob");
    await requireEnded(online, "ledger_not_linked");
    assert.deepEqual((await bob.evidence()).map(({ proven }) => proven), [false]);
  });

  test("also when the server hangs up rather than link it", OPTIONS, async () => {
    const { bob, online } = await listening();
    liar.lie("payment.settled", async (told) => {
      const { index } = JSON.parse(String(told.entry));
      return { ...told, ...await (await otherHistory(3)).included(index) };
    });
    liar.lie("ledger.consistency", () => {
      setTimeout(() => liar.honest(), 100);
      return "cut";
    });
    await founder.pay("bob");
    await requireEnded(online, "ledger_not_linked");
    assert.deepEqual(await bob.evidence().then((all) => all.length), 1);
  });
});

test(
  "a notification may bring the checkpoint that the login's answer refers to",
  OPTIONS,
  async () => {
    const alice = await returning();
    await founder.pay("bob");
    liar.lie("session.login", ({ checkpoint, ...told }, _params, notify) => {
      notify("payment.settled", { state: "settled", size: told.size, checkpoint });
      return told;
    });
    await alice.visit(liar.port);
    assert.equal(alice.remembered!.size, server.ledger.size);
  },
);

test(
  "a server that shows hundreds of checkpoints and links none is not believed",
  OPTIONS,
  async () => {
    const alice = await returning();
    const client = await alice.open(liar.port, { linkTimeout_ms: 60_000 });
    liar.lie("ledger.consistency", () => new SealwireError("internal", "later"));
    const asked = liar.asked.length;
    let shown = 0;
    const grow = async () => {
      await server.ledger.submit(grant(person("bob"), "0.01"));
      await client.session.lookup(person("bob").name);
      shown++;
    };
    const { code } = await refusalOf(async () => {
      while (shown < UNLINKED_MAX + 44) await grow();
    });
    assert.equal(code, "bad_answer");
    assert.equal(shown, UNLINKED_MAX);
    assert.ok(liar.asked.slice(asked).includes("ledger.consistency"));
    client.session.destroy();
    assert.equal(alice.unlinked.length, UNLINKED_MAX);
    // An honest server links them all.
    liar.honest();
    await alice.visit(liar.port);
    assert.deepEqual(alice.unlinked, []);
    assert.deepEqual(await alice.evidence(), []);
  },
);
