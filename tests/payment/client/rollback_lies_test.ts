/**
 * A server that says that entries were lost must prove it; one that does is not accused of a fork.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { SealwireError } from "../../../lib/base/errors.ts";
import { encodeBase64, encodeBase64url, type Sha256 } from "../../../lib/base/parse.ts";
import { formatEntry, type LedgerRollback } from "../../../lib/ledger/entry.ts";
import { makeSalt, now_s, person } from "../../support/fixtures.ts";
import { LyingServer, Member, OtherHistory, OwnServer, payBy } from "../../support/lying_server.ts";
import type { Json } from "../../support/payment_world.ts";
import { refusalOf } from "../../support/refusal.ts";

const OPTIONS = { timeout: 60_000 };
const ROOT = new Uint8Array(32).fill(9);
/** Entries that the operator's backup held. */
const KEPT = 5;

let server: OwnServer;
let liar: LyingServer;
/** Before it was rolled back. */
let lostSize: number;
let lostRoot: Uint8Array;

before(async () => {
  server = await OwnServer.start();
  liar = await LyingServer.start(server);
  const alice = new Member(server, "alice");
  await alice.register();
  for (const name of ["bob", "carol"]) await new Member(server, name).register();
  for (let paid = 0; paid < 3; paid++) await alice.pay("bob");
  ({ size: lostSize, root: lostRoot } = server.ledger.checkpoint);
});

after(async () => {
  await liar.close();
  await server.stop();
});

function base64url(bytes: Uint8Array): Sha256 {
  return encodeBase64url(bytes) as Sha256;
}

/** The true log up to {@linkcode KEPT}, the operator's entry, and `more` entries after it. */
async function rolledBack(
  changed: Partial<LedgerRollback> = {},
  more = 0,
  index = KEPT,
): Promise<OtherHistory> {
  const texts = (await server.entries()).slice(0, KEPT);
  const rollback: LedgerRollback = {
    type: "ledger.rollback",
    keptSize: KEPT,
    keptRoot: base64url(await server.ledger.rootAt(KEPT)),
    lostSize,
    lostRoot: base64url(lostRoot),
    ...changed,
  };
  const entry = formatEntry({ ...rollback, index, time: now_s(), salt: makeSalt() });
  return new OtherHistory(server, [...texts, entry, ...new Array(more).fill("an entry")]);
}

/**
 * Answers as a server whose log is `history`, whose entry {@linkcode KEPT} is said to explain the
 * loss.
 */
function serve(history: OtherHistory, told: (answer: Json) => Json | Promise<Json> = (one) => one) {
  liar.honest();
  liar.lie("session.login", async (login, { checkpoint }) => {
    const size = Number(String(checkpoint).split("\n")[1]);
    const isLinked = size <= history.size && await history.checkpoint(size) === checkpoint;
    const consistency = isLinked ? await history.consistency(size) : null;
    return { ...login, ...await history.shown(), consistency };
  });
  liar.lie("ledger.open", () => history.included(0));
  liar.lie("ledger.checkpoint", () => history.shown());
  liar.lie("ledger.consistency", async (_told, { from, to = history.size }) => {
    if (Number(from) > history.size) return new SealwireError("unknown_size", "no");
    const path = await history.consistency(Number(from), Number(to));
    return to === history.size ? { ...await history.shown(), path } : { size: to, path };
  });
  liar.lie("ledger.rollback", async () => await told(await history.included(KEPT)));
}

async function returning(): Promise<Member> {
  liar.honest();
  const alice = new Member(server, "alice");
  await alice.visit();
  assert.equal(alice.remembered!.size, lostSize);
  return alice;
}

const ACCEPT = { acceptRollback: () => true };

for (const more of [0, 1, 3, 10]) {
  test(
    `a loss that is proven stops a client, until a person accepts it: a log of ${KEPT + 1 + more}`,
    OPTIONS,
    async () => {
      const alice = await returning();
      const history = await rolledBack({}, more);
      serve(history);
      const before = alice.remembered!.text;
      for (let tried = 0; tried < 2; tried++) {
        const error = await refusalOf(() => alice.visit(liar.port));
        assert.equal(error.code, "ledger_rolled_back");
        assert.deepEqual(error.details, { kept_size: KEPT, lost_size: lostSize });
        assert.equal(alice.remembered!.text, before);
      }
      await alice.visit(liar.port, ACCEPT);
      assert.equal(alice.remembered!.text, await history.checkpoint());
      // And then the new history is the one that she holds the server to.
      await alice.visit(liar.port);
      assert.deepEqual(await alice.evidence(), []);
    },
  );
}

/** By what is wrong with a claim that entries were lost. */
const UNPROVEN: Record<string, () => Promise<void>> = {
  "no entry": async () => serve(await rolledBack(), () => ({ entry: null })),
  "an entry that is not in the log": async () => {
    const history = await rolledBack();
    const other = JSON.parse(String((await history.included(KEPT)).entry));
    serve(history, (told) => ({ ...told, entry: JSON.stringify({ ...other, lost_size: 99 }) }));
  },
  "an entry of another kind": async () => {
    const history = await rolledBack();
    serve(history, () => history.included(1));
  },
  "text that is no entry": async () =>
    serve(await rolledBack({}, 1), (told) => ({ ...told, entry: "{}" })),
  "an entry without a proof": async () => serve(await rolledBack(), ({ path: _, ...told }) => told),
  "a kept root that its log does not grow out of": async () =>
    serve(await rolledBack({ keptRoot: base64url(ROOT) })),
  "a kept size that its log does not grow out of": async () =>
    serve(await rolledBack({ keptSize: KEPT - 1 })),
  "a loss that ends before what was seen": async () =>
    serve(await rolledBack({ lostSize: lostSize - 1 })),
  "a loss that begins with what was seen": async () =>
    serve(await rolledBack({ keptSize: lostSize, lostSize: lostSize + 5 })),
  "the loss of another tree of that size": async () =>
    serve(await rolledBack({ lostRoot: base64url(ROOT) })),
  "an error": async () => {
    serve(await rolledBack());
    liar.lie("ledger.rollback", () => new SealwireError("internal", "no"));
  },
};

describe("a loss is not accepted by anyone on the strength of", () => {
  for (const [claim, make] of Object.entries(UNPROVEN)) {
    test(claim, OPTIONS, async () => {
      const alice = await returning();
      await make();
      await alice.requireDistrust("ledger_not_linked", false, () => alice.visit(liar.port, ACCEPT));
      await alice.requireDistrust("ledger_not_linked", false, () => alice.visit(liar.port));
    });
  }

  test("an entry in a log that is not the one that is shown", OPTIONS, async () => {
    const alice = await returning();
    const history = await rolledBack({}, 1);
    const other = await rolledBack({}, 4);
    serve(history);
    liar.lie("ledger.rollback", () => other.included(KEPT));
    const shown = liar.lies.get("ledger.consistency")!;
    liar.lie(
      "ledger.consistency",
      async (told, params, notify) =>
        params.to === other.size
          ? { size: other.size, path: await other.consistency(Number(params.from), other.size) }
          : await shown(told, params, notify),
    );
    await alice.requireDistrust("ledger_not_linked", false, () => alice.visit(liar.port, ACCEPT));
  });
});

test("a ledger of which nothing was kept must still be this server's own", OPTIONS, async () => {
  const alice = await returning();
  const rollback: LedgerRollback = {
    type: "ledger.rollback",
    keptSize: 0,
    keptRoot: "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU" as Sha256,
    lostSize,
    lostRoot: base64url(lostRoot),
  };
  const entry = formatEntry({ ...rollback, index: KEPT, time: now_s(), salt: makeSalt() });
  const texts = (await server.entries()).slice(0, KEPT);
  const opened = JSON.parse(texts[0]!);
  const foreign = JSON.stringify({ ...opened, server: base64url(ROOT) });
  serve(new OtherHistory(server, [foreign, ...texts.slice(1), entry]));
  const before = alice.remembered!.text;
  assert.equal((await refusalOf(() => alice.visit(liar.port, ACCEPT))).code, "bad_answer");
  assert.equal(alice.remembered!.text, before);
  serve(new OtherHistory(server, [texts[0]!, ...texts.slice(1), entry]));
  await alice.visit(liar.port, ACCEPT);
  assert.equal(alice.remembered!.size, KEPT + 1);
});

test(
  "a log that has grown to the size that was seen is explained, and no fork",
  OPTIONS,
  async () => {
    const alice = await returning();
    const client = await alice.open(liar.port);
    // The server is replaced while the client is connected, and her next answer is of the new log.
    const history = await rolledBack({}, lostSize - KEPT - 1);
    assert.equal(history.size, lostSize);
    serve(history);
    liar.lie("directory.lookup", async (told) => ({ ...told, ...await history.included(1) }));
    assert.equal((await refusalOf(() => payBy(client, "bob"))).code, "ledger_rolled_back");
    assert.deepEqual(await alice.evidence(), []);
  },
);

test(
  "a receipt that was lost with the connection stops its payer, whose memory is older",
  OPTIONS,
  async () => {
    const carol = new Member(server, "carol");
    liar.honest();
    // What she remembers is of the kept part; then her receipt comes, and the connection goes.
    const kept = new OtherHistory(server, (await server.entries()).slice(0, KEPT));
    serve(kept);
    await carol.visit(liar.port);
    assert.equal(carol.remembered!.size, KEPT);
    const client = await carol.open(liar.port);
    liar.lie("directory.lookup", async (told) => {
      const { index } = JSON.parse(String(told.entry));
      const { text, path, checkpoint } = await server.ledger.proveOne(index);
      const { size, text: signed } = checkpoint;
      return { ...told, entry: text, path: path.map(encodeBase64), size, checkpoint: signed };
    });
    await client.session.lookup(person("bob").name);
    client.session.destroy();
    assert.equal(carol.unlinked.length, 1);

    const history = await rolledBack({}, 1);
    serve(history);
    for (let tried = 0; tried < 2; tried++) {
      assert.equal((await refusalOf(() => carol.visit(liar.port))).code, "ledger_rolled_back");
    }
    await carol.visit(liar.port, ACCEPT);
    assert.deepEqual(carol.unlinked, []);
    assert.equal(carol.remembered!.text, await history.checkpoint());
    assert.deepEqual(await carol.evidence(), []);
  },
);
