/** A server with the real keys that lies about its log: whoever remembers the log finds out. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { SealwireError } from "../../../lib/base/errors.ts";
import { encodeBase64 } from "../../../lib/base/parse.ts";
import { signCheckpoint } from "../../../lib/ledger/checkpoint.ts";
import { signNote } from "../../../lib/ledger/signed_note.ts";
import { sha256Text } from "../../../lib/protocol/token.ts";
import { ed25519PairOfSeed } from "../../support/ed25519.ts";
import {
  type Lie,
  LyingServer,
  Member,
  OtherHistory,
  OwnServer,
  payBy,
} from "../../support/lying_server.ts";
import type { Json } from "../../support/payment_world.ts";
import { refusalOf } from "../../support/refusal.ts";

const OPTIONS = { timeout: 60_000 };
const ROOT = new Uint8Array(32).fill(9);

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

/**
 * Alice on a machine of her own, where she remembers the log as it is; then it grows, until the
 * proof has two hashes.
 */
async function returning(): Promise<Member> {
  const alice = new Member(server, "alice");
  await alice.visit();
  const { size } = alice.remembered!;
  do await founder.pay("bob"); while (
    (await server.ledger.consistency(size, server.ledger.size)).length < 2
  );
  liar.honest();
  return alice;
}

/**
 * Says `shown` wherever the server would show its newest checkpoint, and gives no sound proof to
 * it.
 */
function lieAboutHead(shown: Json): void {
  const path = [encodeBase64(ROOT)];
  liar.lie("session.login", (told) => ({ ...told, ...shown, consistency: path }));
  liar.lie("ledger.consistency", () => ({ ...shown, path }));
  liar.lie("ledger.checkpoint", () => shown);
}

describe("a login that shows", () => {
  test("a smaller log is asked again, and then not believed", OPTIONS, async () => {
    const alice = await returning();
    const size = alice.remembered!.size - 2;
    const checkpoint = server.sign(size, await server.ledger.rootAt(size));
    const unknown = new SealwireError("unknown_size", "no");
    liar.lie("session.login", (told) => ({ ...told, size, checkpoint, consistency: null }));
    liar.lie("ledger.consistency", () => unknown);
    await alice.requireDistrust("ledger_not_linked", false, () => alice.visit(liar.port));
    const [verdict] = await alice.evidence();
    assert.deepEqual(verdict, {
      proven: false,
      server: server.thumbprint,
      from: size,
      to: size + 2,
    });
  });

  test("the same size with another root has proven a fork", OPTIONS, async () => {
    const alice = await returning();
    const { size } = alice.remembered!;
    lieAboutHead({ size, checkpoint: server.sign(size, ROOT) });
    await alice.requireDistrust("ledger_forked", true, () => alice.visit(liar.port));
    assert.deepEqual(await alice.evidence(), [{ proven: true, server: server.thumbprint, size }]);
  });

  for (const growth of [1, 50]) {
    test(
      `a log of ${growth} more that does not grow out of it is not believed`,
      OPTIONS,
      async () => {
        const alice = await returning();
        const size = alice.remembered!.size + growth;
        lieAboutHead({ size, checkpoint: server.sign(size, ROOT) });
        await alice.requireDistrust("ledger_not_linked", false, () => alice.visit(liar.port));
        // Nor is it remembered: the true log is still the one that links.
        liar.honest();
        await alice.visit(liar.port);
        assert.equal(alice.remembered!.text, server.ledger.checkpoint.text);
      },
    );
  }

  test(
    "another history with all its proofs is not believed, with each login anew",
    OPTIONS,
    async () => {
      const alice = await returning();
      const texts = await server.entries();
      const other = new OtherHistory(server, texts.map((text) => text.replace("1.00", "2.00")));
      liar.lie("session.login", async (told) => ({
        ...told,
        ...await other.shown(),
        consistency: await other.consistency(alice.remembered!.size),
      }));
      liar.lie("ledger.consistency", async (_told, { from }) => ({
        ...await other.shown(),
        path: await other.consistency(Number(from)),
      }));
      await alice.requireDistrust("ledger_not_linked", false, () => alice.visit(liar.port));
      await alice.requireDistrust("ledger_not_linked", false, () => alice.visit(liar.port));
    },
  );
});

const OTHER_KEY = ed25519PairOfSeed(new Uint8Array(32).fill(3));

/** By what is wrong with it: a note of the log's true size and root. */
const FLAWED: Record<string, (lines: string[], origin: string) => string> = {
  "signed by another log key": ([, size], origin) =>
    signCheckpoint(OTHER_KEY, origin, Number(size), ROOT),
  "by the right key under another origin": ([, ...rest], origin) =>
    signNote(`${origin}x\n${rest.join("\n")}\n`, origin, server.identity.logKey),
  "by the right key with an extension line": (lines, origin) =>
    signNote(`${lines.join("\n")}\nmore\n`, origin, server.identity.logKey),
  "by the right key under another name": (lines, origin) =>
    signNote(`${lines.join("\n")}\n`, `${origin}x`, server.identity.logKey),
  "without a signature": (lines) => `${lines.join("\n")}\n\n`,
  "with 17 signatures": (lines, origin) => {
    const note = signNote(`${lines.join("\n")}\n`, origin, server.identity.logKey);
    return note + note.split("\n\n")[1]!.repeat(16);
  },
};

describe("a checkpoint", () => {
  for (const [flaw, make] of Object.entries(FLAWED)) {
    test(`${flaw} is no answer, at a login and later`, OPTIONS, async () => {
      const alice = await returning();
      const { checkpoint: { text, size }, server: thumbprint } = server.ledger;
      const origin = `sealwire/${thumbprint}`;
      const checkpoint = make(text.split("\n\n")[0]!.split("\n"), origin);
      for (const method of ["session.login", "directory.lookup", "payment.settle"]) {
        const before = alice.remembered!.size;
        liar.honest();
        liar.lie(method, (told) => ({ ...told, size: told.size ?? size, checkpoint }));
        const open = () => alice.open(liar.port, { timeout_ms: 1_000 });
        if (method === "session.login") {
          assert.equal((await refusalOf(open)).code, "bad_answer");
          continue;
        }
        const client = await open();
        const { code } = await refusalOf(() => payBy(client, "bob"));
        // An order that has left stays in the outbox until its end is known.
        assert.equal(code, method === "payment.settle" ? "outcome_unknown" : "bad_answer");
        liar.honest();
        await client.end();
        assert.ok(alice.remembered!.size >= before);
      }
      assert.deepEqual(await alice.evidence(), []);
    });
  }
});

/** By what is wrong with it: a list of hashes in base64. */
const FLAWED_PATHS: Record<string, (path: string[]) => unknown> = {
  "cut": (path) => path.slice(0, -1),
  "empty": () => [],
  "padded": (path) => [...path, encodeBase64(ROOT)],
  "padded in front": (path) => [encodeBase64(ROOT), ...path],
  "in another order": (path) => path.toReversed(),
  "with one hash changed": (path) => [encodeBase64(ROOT), ...path.slice(1)],
  "with a hash of 31 bytes": (path) => [encodeBase64(ROOT.slice(1)), ...path.slice(1)],
  "of 64 hashes": () => new Array(64).fill(encodeBase64(ROOT)),
  "of numbers": (path) => path.map(() => 7),
  "that is text": (path) => path.join(),
  "that is left out": () => undefined,
};

/** The server's consistency proof from one size to another, flawed. */
async function flawedProof(flaw: string, from: number, to: number): Promise<unknown> {
  const path = (await server.ledger.consistency(from, to)).map(encodeBase64);
  return FLAWED_PATHS[flaw]!(path);
}

describe("a consistency proof", () => {
  for (const flaw of Object.keys(FLAWED_PATHS)) {
    test(`${flaw} links nothing`, OPTIONS, async () => {
      const alice = await returning();
      const from = alice.remembered!.size;
      const lieWith: (name: string) => Lie = (name) => async (told) => {
        const path = await flawedProof(flaw, from, Number(told.size));
        return { ...told, [name]: path };
      };
      // Asked again, it may be sound.
      liar.lie("session.login", lieWith("consistency"));
      const isList = Array.isArray(await flawedProof(flaw, from, server.ledger.size));
      const isPath = isList && !["of 64 hashes", "of numbers"].includes(flaw);
      if (isPath) {
        await alice.visit(liar.port);
        assert.equal(alice.remembered!.size, server.ledger.size);
        await founder.pay("bob");
      } else {
        assert.equal((await refusalOf(() => alice.visit(liar.port))).code, "bad_answer");
      }
      liar.lie("session.login", (told) => ({ ...told, consistency: null }));
      liar.lie("ledger.consistency", lieWith("path"));
      await alice.requireDistrust("ledger_not_linked", false, () => alice.visit(liar.port));
    });
  }

  test("for other sizes links nothing", OPTIONS, async () => {
    const alice = await returning();
    const from = alice.remembered!.size;
    for (const [older, newer] of [[from - 1, 0], [from + 1, 0], [from, -1], [from - 1, -1]]) {
      const wrong = async (to: unknown) =>
        (await server.ledger.consistency(older!, Number(to) + newer!)).map(encodeBase64);
      liar.lie(
        "session.login",
        async (told) => ({ ...told, consistency: await wrong(told.size) }),
      );
      liar.lie(
        "ledger.consistency",
        async (told) => ({ ...told, path: await wrong(told.size) }),
      );
      await alice.requireDistrust("ledger_not_linked", false, () => alice.visit(liar.port));
    }
  });
});

describe("an inclusion proof", () => {
  for (const method of ["directory.lookup", "payment.settle"]) {
    test(`for another index proves nothing, in answer to ${method}`, OPTIONS, async () => {
      const alice = await returning();
      const client = await alice.open(liar.port, { timeout_ms: 1_000 });
      const refuse = async (lie: Lie) => {
        liar.honest();
        liar.lie(method, lie);
        return (await refusalOf(() => payBy(client, "bob"))).code;
      };
      const code = method === "payment.settle" ? "outcome_unknown" : "bad_answer";
      // Another entry's proof, another entry with its own proof, and this one's in a smaller log.
      const codes = [
        await refuse(async (told) => {
          const { path } = await server.ledger.proveOne(1);
          return { ...told, path: path.map(encodeBase64) };
        }),
        await refuse(async (told) => {
          const { path, text, checkpoint } = await server.ledger.proveOne(1);
          return { ...told, ...checkpoint, entry: text, path: path.map(encodeBase64) };
        }),
        await refuse((told) => {
          const size = Number(told.size) - 1;
          return { ...told, size, checkpoint: server.sign(size, ROOT) };
        }),
      ];
      assert.deepEqual(codes, [code, code, code]);
      liar.honest();
      client.session.destroy();
    });
  }
});

describe("on the first login", () => {
  test("entry 0 must be of this server, in a log that its key signs", OPTIONS, async () => {
    const texts = await server.entries();
    const opened = JSON.parse(texts[0]!);
    const { x } = OTHER_KEY.publicKey;
    const foreign = [
      JSON.stringify({ ...opened, server: sha256Text("another") }),
      JSON.stringify({ ...opened, log: { ...opened.log, x } }),
    ];
    for (const first of foreign) {
      const other = new OtherHistory(server, [first, ...texts.slice(1)]);
      const alice = new Member(server, "alice");
      liar.honest();
      liar.lie("session.login", async (told) => ({ ...told, ...await other.shown() }));
      liar.lie("ledger.open", () => other.included(0));
      const { code, message } = await refusalOf(() => alice.visit(liar.port));
      assert.equal(code, "bad_answer");
      assert.match(message, /another server/);
      assert.equal(alice.remembered, null);
    }
  });

  test("another entry in its place, and another's proof, are no entry 0", OPTIONS, async () => {
    for (const index of [1, 2]) {
      const { path, text } = await server.ledger.proveOne(index);
      const alice = new Member(server, "alice");
      liar.honest();
      liar.lie("ledger.open", (told) => ({ ...told, entry: text, path: path.map(encodeBase64) }));
      assert.equal((await refusalOf(() => alice.visit(liar.port))).code, "bad_answer");
      liar.lie("ledger.open", (told) => ({ ...told, path: path.map(encodeBase64) }));
      assert.equal((await refusalOf(() => alice.visit(liar.port))).code, "bad_answer");
      assert.equal(alice.remembered, null);
    }
  });

  test("the log that entry 0 is in must be the log of the login", OPTIONS, async () => {
    const texts = await server.entries();
    const other = new OtherHistory(server, texts.map((text) => text.replace("1.00", "2.00")));
    for (const size of [other.size, other.size - 1]) {
      const alice = new Member(server, "alice");
      liar.honest();
      liar.lie("ledger.open", () => other.included(0, size));
      const forked = size === other.size;
      const code = forked ? "ledger_forked" : "ledger_not_linked";
      await alice.requireDistrust(code, forked, () => alice.visit(liar.port));
    }
  });
});

describe("a server in trouble is not accused", () => {
  test("when its head is behind for a while, and then catches up", OPTIONS, async () => {
    const alice = await returning();
    const size = alice.remembered!.size - 2;
    const checkpoint = server.sign(size, await server.ledger.rootAt(size));
    liar.lie("session.login", (told) => ({ ...told, size, checkpoint, consistency: null }));
    liar.lie("ledger.consistency", () => new SealwireError("unknown_size", "the log has fewer"));
    setTimeout(() => liar.honest(), 3_000);
    await alice.visit(liar.port, { linkTimeout_ms: 10_000 });
    assert.equal(alice.remembered!.size, server.ledger.size);
    assert.deepEqual(await alice.evidence(), []);
  });

  for (const code of ["internal", "store_damaged"] as const) {
    test(`when it answers ${code} for a while`, OPTIONS, async () => {
      const alice = await returning();
      liar.lie("session.login", (told) => ({ ...told, consistency: null }));
      let errors = 0;
      liar.lie("ledger.consistency", (told) => {
        return ++errors < 3 ? new SealwireError(code, "for now") : told;
      });
      await alice.visit(liar.port, { linkTimeout_ms: 10_000 });
      assert.equal(alice.remembered!.size, server.ledger.size);
      assert.equal(errors, 3);
    });
  }
});

test("whatever a server shows, the evidence of it fills no disk", OPTIONS, async () => {
  const alice = await returning();
  const { size } = alice.remembered!;
  const lies = 105;
  for (let lie = 0; lie < lies; lie++) {
    const checkpoint = server.sign(size, new Uint8Array(32).fill(lie));
    liar.lie("session.login", (told) => ({ ...told, size, checkpoint }));
    // The same once more is the same file.
    for (const _ of lie < 5 ? [1, 2] : [1]) {
      assert.equal((await refusalOf(() => alice.visit(liar.port))).code, "ledger_forked");
    }
  }
  assert.equal((await alice.evidence()).length, 100);
});
