/**
 * Logins that carry the checkpoint which the client remembers: the server learns from them what it
 * lacks.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { randomBytes, randomUUID } from "node:crypto";
import { describe, test } from "node:test";
import { decodeBase64, encodeBase64 } from "../../../lib/base/parse.ts";
import type { Ed25519KeyPair } from "../../../lib/keys/ed25519.ts";
import { openLogKey } from "../../../lib/keys/log_key.ts";
import { signCheckpoint } from "../../../lib/ledger/checkpoint.ts";
import { signNote } from "../../../lib/ledger/signed_note.ts";
import { EMPTY_ROOT, verifyConsistency } from "../../../lib/protocol/merkle.ts";
import { makeSessionKey } from "../../../lib/protocol/delegation.ts";
import { person } from "../../support/fixtures.ts";
import { jsonLines, PaymentWorld } from "../../support/payment_world.ts";
import { refusalOf } from "../../support/refusal.ts";
import { WireClient } from "../../support/wire_client.ts";
import { WireWorld } from "../../support/wire_world.ts";

const OPTIONS = { timeout: 60_000 };
const [alice, bob] = [person("alice"), person("bob")];

function logKeyOf(world: PaymentWorld): Ed25519KeyPair {
  return openLogKey(world.serverKeys, { makeMissing: false }).pair;
}

const wire = await WireWorld.start("alice", "bob");
const alices = wire.of(alice);

describe("a checkpoint that the log grew out of", () => {
  test("is linked to today's by the answer", OPTIONS, async () => {
    const old = await alices.newestCheckpoint();
    for (let count = 0; count < 3; count++) {
      await wire.assertSettles(alices, alices.order(alice, bob));
      const client = await WireClient.connect(wire.world);
      const delegation = client.delegate(bob);
      const answer = await client.call("session.login", { delegation, checkpoint: old.text });
      assert.equal(answer.size, old.size + count + 1);
      const path = (answer.consistency as string[]).map((step) => decodeBase64(step)!);
      verifyConsistency(old, client.checkpointOf(Number(answer.size)), path);
      client.close();
    }
  });

  test("may be today's, or that of the empty log, which need no proof", OPTIONS, async () => {
    const origin = alices.log.origin;
    const empty = signCheckpoint(logKeyOf(wire.world), origin, 0, EMPTY_ROOT);
    for (const checkpoint of [(await alices.newestCheckpoint()).text, empty]) {
      const client = await WireClient.connect(wire.world);
      const delegation = client.delegate(bob);
      const answer = await client.call("session.login", { delegation, checkpoint });
      assert.deepEqual(answer.consistency, []);
      client.close();
    }
  });

  test("may come with a registration", OPTIONS, async () => {
    const old = await alices.newestCheckpoint();
    const client = await WireClient.connect(wire.world);
    const delegation = client.delegate(person("carol"));
    const params = { delegation, checkpoint: old.text };
    const answer = await client.call("account.register", params);
    const path = (answer.consistency as string[]).map((step) => decodeBase64(step)!);
    verifyConsistency(old, client.checkpointOf(Number(answer.size)), path);
    assert.equal(answer.size, old.size + 2);
    client.close();
  });
});

describe("what is no checkpoint of this log", () => {
  const pair = logKeyOf(wire.world);
  const { origin } = alices.log;
  const root = new Uint8Array(randomBytes(32));
  const newer = 1_000_000;
  const signed = signCheckpoint(pair, origin, newer, root);
  const body = `${origin}\n${newer}\n${encodeBase64(root)}\n`;
  const stranger = makeSessionKey();
  const line = signNote("x\n", "another.example", stranger).split("\n\n")[1]!;

  /** None of these may stop the log, so each is one that would, were it genuine. */
  const cases: readonly { promise: string; code: string; checkpoint: unknown }[] = [
    { promise: "rubbish", code: "bad_checkpoint", checkpoint: "x" },
    { promise: "nothing", code: "bad_checkpoint", checkpoint: "" },
    { promise: "a number", code: "invalid_params", checkpoint: 7 },
    { promise: "null", code: "invalid_params", checkpoint: null },
    { promise: "5,000 characters", code: "bad_checkpoint", checkpoint: "x".repeat(5_000) },
    {
      promise: "one of another origin, by the log key",
      code: "bad_checkpoint",
      checkpoint: signCheckpoint(pair, `sealwire/${"A".repeat(43)}`, newer, root),
    },
    {
      promise: "one by another key under this origin",
      code: "bad_checkpoint",
      checkpoint: signCheckpoint(stranger, origin, newer, root),
    },
    {
      promise: "one with an extension line",
      code: "bad_checkpoint",
      checkpoint: signNote(`${body}extension\n`, origin, pair),
    },
    {
      promise: "one under another key name",
      code: "bad_checkpoint",
      checkpoint: signNote(body, "another.example", pair),
    },
    { promise: "one without its signature", code: "bad_checkpoint", checkpoint: `${body}\n` },
    {
      promise: "one with 17 signatures",
      code: "bad_checkpoint",
      checkpoint: signed + line.repeat(16),
    },
    {
      promise: "one with another size under the signature",
      code: "bad_checkpoint",
      checkpoint: signed.replace(String(newer), String(newer + 1)),
    },
  ];
  for (const { promise, code, checkpoint } of cases) {
    test(`${promise}: lets nobody in, and harms nobody`, OPTIONS, async () => {
      for (const method of ["session.login", "account.register"] as const) {
        const client = await WireClient.connect(wire.world);
        const delegation = client.delegate(alice);
        await wire.assertRefused(code, () => client.call(method, { delegation, checkpoint }));
        client.close();
      }
      await wire.assertSettles(alices, alices.order(alice, bob));
    });
  }

  test("a genuine one with 15 other signatures is one all the same", OPTIONS, async () => {
    const { text } = await alices.newestCheckpoint();
    const client = await WireClient.connect(wire.world);
    const params = { delegation: client.delegate(bob), checkpoint: text + line.repeat(15) };
    assert.deepEqual((await client.call("session.login", params)).consistency, []);
    client.close();
  });

  test("after all of this the operator has heard of nothing", OPTIONS, async () => {
    const { stderr } = await wire.world.stop();
    assert.equal(stderr, "");
  });
});

describe("a checkpoint under the log's own signature that the log lacks", () => {
  for (
    const [what, sizeOf] of [
      ["newer than the log", (size: number) => size + 5],
      ["of another history of the same size", (size: number) => size],
      ["of another history, older than the log", (size: number) => size - 2],
    ] as const
  ) {
    test(`${what}: commits stop, until the operator accepts the loss`, OPTIONS, async () => {
      const world = await PaymentWorld.start();
      const alices = await WireClient.enter(world, alice, "account.register");
      const bobs = await WireClient.enter(world, bob, "account.register");
      const before = await alices.newestCheckpoint();
      const root = new Uint8Array(randomBytes(32));
      const lostSize = sizeOf(before.size);
      const checkpoint = signCheckpoint(logKeyOf(world), alices.log.origin, lostSize, root);

      const client = await WireClient.connect(world);
      const params = { delegation: client.delegate(alice), checkpoint };
      assert.equal((await client.call("session.login", params)).consistency, null);
      for (
        const order of [
          () => alices.settle(alices.order(alice, bob)),
          () => bobs.settle(bobs.order(bob, alice)),
        ]
      ) {
        assert.equal((await refusalOf(order)).code, "ledger_rolled_back");
      }
      const cancel = alices.cancel(alice, randomUUID());
      const refused = await refusalOf(() => alices.call("payment.cancel", cancel));
      assert.equal(refused.code, "ledger_rolled_back");
      const newcomer = await refusalOf(() =>
        WireClient.enter(world, person("carol"), "account.register")
      );
      assert.equal(newcomer.code, "ledger_rolled_back");
      // What there is is still told.
      assert.equal(await alices.balance(), "10000.00");
      assert.equal(await alices.size(), before.size);
      assert.match(
        world.server.stderrText,
        new RegExp(`signed with ${lostSize} entries.*--accept-rollback`),
      );

      assert.equal((await world.stop()).status, 0);
      const [refusedStart] = jsonLines(await world.operate("0", "--host", "127.0.0.1"));
      assert.equal((refusedStart!.error as { code: string }).code, "ledger_rolled_back");
      await world.startServer({ more: ["--accept-rollback"] });
      const again = await WireClient.connect(world);
      const login = { delegation: again.delegate(alice), checkpoint };
      assert.equal((await again.call("session.login", login)).consistency, null);
      again.delegation = login.delegation;
      const told = again.provenEntry(await again.call("ledger.rollback", { size: lostSize }));
      assert.ok(told.type === "ledger.rollback");
      assert.equal(told.index, before.size);
      assert.deepEqual([told.lostSize, told.lostRoot], [
        lostSize,
        Buffer.from(root).toString("base64url"),
      ]);
      assert.equal(told.keptSize, lostSize > before.size ? before.size : 0);
      assert.equal((await again.settle(again.order(alice, bob))).state, "settled");
      assert.equal((await world.stop()).status, 0);
      assert.equal(jsonLines(await world.operate("audit"))[0]!.valid, true);
      // Once accepted it needs no option any more.
      await world.startServer({ serverArgs: [] });
      await world.stop();
    });
  }

  test("shown with a registration: nobody is registered", OPTIONS, async () => {
    const world = await PaymentWorld.start();
    const alices = await WireClient.enter(world, alice, "account.register");
    const before = await alices.newestCheckpoint();
    const root = new Uint8Array(randomBytes(32));
    const checkpoint = signCheckpoint(logKeyOf(world), alices.log.origin, before.size + 1, root);
    const client = await WireClient.connect(world);
    const params = { delegation: client.delegate(bob), checkpoint };
    const refusal = await refusalOf(() => client.call("account.register", params));
    assert.equal(refusal.code, "ledger_rolled_back");
    assert.equal(await alices.size(), before.size);
    const lookup = await refusalOf(() => alices.call("directory.lookup", { account: "bob" }));
    assert.equal(lookup.code, "unknown_payee");
    await world.stop();
  });
});
