/**
 * The checkpoint that a payer's client sends along: it can accuse a server that lies, and no other.
 */
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { type SealwireError } from "../../../lib/base/errors.ts";
import { encodeBase64, encodeBase64url, type Sha256 } from "../../../lib/base/parse.ts";
import { signCheckpoint } from "../../../lib/ledger/checkpoint.ts";
import { ed25519PairOfSeed } from "../../support/ed25519.ts";
import {
  LyingServer,
  Member,
  OtherHistory,
  OwnServer,
  payBy,
  type TakingMember,
} from "../../support/lying_server.ts";

const OPTIONS = { timeout: 60_000 };
const ROOT = new Uint8Array(32).fill(9);
const OTHER_KEY = ed25519PairOfSeed(new Uint8Array(32).fill(3));

let server: OwnServer;
let liar: LyingServer;
let alice: Member;
let bob: Member;
let online: TakingMember;

before(async () => {
  server = await OwnServer.start();
  liar = await LyingServer.start(server);
  alice = new Member(server, "alice");
  await alice.register();
  for (const name of ["bob", "carol"]) await new Member(server, name).register();
});

after(async () => {
  await liar.close();
  await server.stop();
});

beforeEach(async () => {
  liar.honest();
  bob = new Member(server, "bob");
  online = await bob.listen(liar.port);
});

afterEach(async () => {
  await online.listening.close().catch(() => {});
});

/** Alice pays bob directly, and says that `checkpoint` is the newest that she knows. */
async function payWith(checkpoint: unknown): Promise<string> {
  const client = await alice.open();
  Object.defineProperty(client.session, "checkpoint", { value: checkpoint });
  const path = await payBy(client, "bob", "either");
  await client.end();
  return path;
}

/** Time for bob's client to ask the server about a checkpoint, and to give up. */
async function settled(): Promise<SealwireError | null | "online"> {
  const waited = new Promise<"online">((resolve) => setTimeout(resolve, 1_500, "online"));
  return await Promise.race([online.ended, waited]);
}

const ATTACKS: Record<string, () => Promise<unknown> | unknown> = {
  "nothing": () => null,
  "no text": () => "",
  "rubbish": () => "x",
  "rubbish as long as an offer can carry": () => "x\n".repeat(3_000),
  "control characters": () => "\u001b[2J\u0000",
  "half a checkpoint": () => server.ledger.checkpoint.text.slice(0, -20),
  "a checkpoint by another key": () =>
    signCheckpoint(OTHER_KEY, server.log.origin, server.ledger.size + 1, ROOT),
  "a checkpoint of another log by the right key": () =>
    signCheckpoint(server.identity.logKey, `${server.log.origin}x`, 1, ROOT),
  "a checkpoint whose size was changed": () =>
    server.ledger.checkpoint.text.replace(/\n\d+\n/, "\n1\n"),
  "a checkpoint of another server": async () => {
    const other = await OwnServer.start();
    await other.stop();
    return other.ledger.checkpoint.text;
  },
};

describe("no server is accused, and the payment is direct, when a payer sends", () => {
  for (const [what, make] of Object.entries(ATTACKS)) {
    test(what, OPTIONS, async () => {
      assert.equal(await payWith(await make()), "direct");
      await new Promise((resolve) => setTimeout(resolve, 100));
      assert.equal(await Promise.race([online.ended, null]), null);
      assert.deepEqual(await bob.evidence(), []);
      assert.deepEqual(bob.unlinked, []);
    });
  }

  test("a number, which is no offer and goes through the server", OPTIONS, async () => {
    assert.equal(await payWith(7), "server");
    assert.equal(await settled(), "online");
  });

  test("old ones, and all with a witness's signatures", OPTIONS, async () => {
    const witness = `— witness.example ${"AAAA".repeat(100)}\n`;
    for (const size of [1, 2, server.ledger.size - 1, server.ledger.size]) {
      const text = server.sign(size, await server.ledger.rootAt(size));
      assert.equal(await payWith(text + witness.repeat(3)), "direct");
    }
    assert.equal(await settled(), "online");
    assert.deepEqual(await bob.evidence(), []);
    assert.deepEqual(bob.unlinked, []);
  });

  test("one that is newer than the payee has seen", OPTIONS, async () => {
    assert.equal(await payWith(server.ledger.checkpoint.text), "direct");
    assert.equal(await settled(), "online");
    assert.equal(bob.remembered!.size, server.ledger.size);
  });
});

/**
 * The history that an operator shows to alice alone: another payment stands in the place of a true
 * one.
 */
async function shownToAlice(size = server.ledger.size): Promise<string> {
  const texts = await server.entries();
  const changed = texts.map((text, at) => at === 4 ? text.replace("bob", "eve") : text);
  const more = new Array(Math.max(0, size - texts.length)).fill("an entry");
  return await new OtherHistory(server, [...changed, ...more]).checkpoint(size);
}

describe("a server that showed the payer another history is found out by the payee", () => {
  test("at once, with proof, when both have the same size", OPTIONS, async () => {
    assert.equal(await payWith(await shownToAlice(bob.remembered!.size)), "direct");
    assert.equal((await online.ended)?.code, "ledger_forked");
    assert.deepEqual((await bob.evidence()).map(({ proven }) => proven), [true]);
  });

  for (const more of [-2, 5]) {
    test(`when the payer's has ${more} entries more: it cannot link it`, OPTIONS, async () => {
      const before = bob.remembered!.size;
      assert.equal(await payWith(await shownToAlice(before + more)), "direct");
      assert.equal((await online.ended)?.code, "ledger_not_linked");
      const [verdict] = await bob.evidence();
      assert.equal(verdict!.proven, false);
      assert.ok(bob.remembered!.size <= server.ledger.size);
    });
  }

  test(
    "also when it hangs up rather than answer: the payee's client comes back to it",
    OPTIONS,
    async () => {
      liar.lie("ledger.consistency", () => {
        liar.honest();
        return "cut";
      });
      const checkpoint = await shownToAlice(bob.remembered!.size - 2);
      assert.ok(["direct", "server"].includes(await payWith(checkpoint)));
      assert.equal((await online.ended)?.code, "ledger_not_linked");
      assert.deepEqual((await bob.evidence()).map(({ proven }) => proven), [false]);
    },
  );
});

test(
  "a checkpoint of a history whose loss the operator has entered accuses nobody",
  OPTIONS,
  async () => {
    const lostSize = server.ledger.size + 4;
    await server.ledger.submit({
      type: "operator",
      fact: {
        type: "ledger.rollback",
        keptSize: 3,
        keptRoot: encodeBase64url(await server.ledger.rootAt(3)) as Sha256,
        lostSize,
        lostRoot: encodeBase64url(ROOT) as Sha256,
      },
    });
    const sizes = [bob.remembered!.size - 1, bob.remembered!.size, lostSize - 1];
    for (const size of sizes) assert.equal(await payWith(await shownToAlice(size)), "direct");
    assert.equal(await payWith(server.sign(lostSize, ROOT)), "direct");
    assert.equal(await settled(), "online");
    assert.deepEqual(await bob.evidence(), []);
    assert.deepEqual(bob.unlinked, []);
    assert.equal(encodeBase64(bob.remembered!.root), encodeBase64(server.ledger.checkpoint.root));
  },
);
