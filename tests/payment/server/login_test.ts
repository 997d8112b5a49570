/**
 * Who is let in, and as whom: hello, registrations and logins over real connections to a real
 * server.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";
import { decodeBase64url } from "../../../lib/base/parse.ts";
import { loadServerPublicKey } from "../../../lib/keys/key_files.ts";
import { RESERVED_NAMES } from "../../../lib/ledger/settle.ts";
import { sha256Text } from "../../../lib/protocol/token.ts";
import { now_s, person } from "../../support/fixtures.ts";
import type { Json } from "../../support/payment_world.ts";
import { partsOf } from "../../support/raw_tokens.ts";
import { refusalOf } from "../../support/refusal.ts";
import { RawClient, WireClient } from "../../support/wire_client.ts";
import { WireWorld } from "../../support/wire_world.ts";

const OPTIONS = { timeout: 60_000 };
const LOGIN_FAILURES_MAX = 4;
const SESSIONS_MAX = 64;
const [alice, bob, nobody] = [person("alice"), person("bob"), person("nobody")];
const wire = await WireWorld.start("alice", "bob");

function connect(): Promise<WireClient> {
  return WireClient.connect(wire.world);
}

/** A session of bob's, as soon as those that were closed are out of the way. */
async function enterAsBob(): Promise<WireClient> {
  const until_ms = Date.now() + 10_000;
  while (true) {
    try {
      return await WireClient.enter(wire.world, bob);
    } catch (error) {
      if (Date.now() > until_ms) throw error;
    }
  }
}

describe("hello", () => {
  test("answers the server statement and a nonce of this connection's own", OPTIONS, async () => {
    const clients = await Promise.all([1, 2, 3].map(connect));
    assert.equal(new Set(clients.map(({ nonce }) => nonce)).size, 3);
    assert.equal(new Set(clients.map(({ statement }) => statement.text)).size, 1);
    const [client] = clients;
    const answer = await client!.call("hello");
    assert.deepEqual(answer, { v: 2, statement: client!.statement.text, nonce: client!.nonce });
    assert.equal(decodeBase64url(client!.nonce)!.length, 32);
    const { header, payload } = partsOf(client!.statement.text);
    assert.equal(header, '{"alg":"PS256","typ":"sealwire-server+jws"}');
    const claims = JSON.parse(payload);
    assert.deepEqual(Object.keys(claims), ["v", "server", "cert", "log", "iat"]);
    assert.equal(claims.cert, client!.cert);
    const path = join(wire.world.serverKeys, "server_public.pem");
    assert.deepEqual(claims.server, loadServerPublicKey(path).jwk);
    assert.ok(Math.abs(claims.iat - now_s()) < 60);
    for (const one of clients) one.close();
  });

  test("and whatever else takes no params may leave them out", OPTIONS, async () => {
    const raw = await RawClient.connect(wire.world.port);
    raw.send('{"jsonrpc":"2.0","id":1,"method":"hello"}\n');
    const { nonce } = (await raw.next())!.result as Json;
    const client = await connect();
    const delegation = client.delegate(alice, { nonce });
    const login = { jsonrpc: "2.0", id: 2, method: "session.login", params: { delegation } };
    raw.send(JSON.stringify(login) + "\n");
    assert.equal(((await raw.next())!.result as Json).account, "alice");
    const methods = [
      "account.balance",
      "directory.list",
      "payment.history",
      "ledger.open",
      "ledger.checkpoint",
    ];
    for (const method of methods) {
      raw.send(JSON.stringify({ jsonrpc: "2.0", id: 3, method }) + "\n");
      const answer = await raw.next();
      assert.ok(answer?.result, `${method}: ${JSON.stringify(answer)}`);
    }
    raw.destroy();
    client.close();
  });
});

describe("a login", () => {
  test("answers balance and checkpoint, and what it cannot link", OPTIONS, async () => {
    const client = await connect();
    const answer = await client.call("session.login", { delegation: client.delegate(alice) });
    const { account, balance, consistency } = answer;
    assert.deepEqual([account, balance, consistency], ["alice", "10000.00", null]);
    assert.equal(client.checkpointOf(Number(answer.size)).origin, `sealwire/${client.server}`);
    assert.equal(answer.size, await wire.size());
    client.close();
  });

  test("replayed on a new connection is refused", OPTIONS, async () => {
    const seen = wire.of(alice).delegation;
    await wire.assertLetsNobodyIn("wrong_nonce", "session.login", () => seen);
    await wire.assertLetsNobodyIn("wrong_nonce", "account.register", () => seen);
  });

  test("under a name that nobody has is refused", OPTIONS, async () => {
    await wire.assertLetsNobodyIn(
      "unknown_account",
      "session.login",
      (client) => client.delegate(nobody),
    );
  });

  test("under another's name is refused", OPTIONS, async () => {
    const delegation = (client: WireClient) => client.delegate(nobody, { account: "alice" });
    await wire.assertLetsNobodyIn("wrong_key", "session.login", delegation);
  });

  test("on a connection that is logged in is refused", OPTIONS, async () => {
    const alices = wire.of(alice);
    for (const method of ["session.login", "account.register"]) {
      for (const by of [alice, bob]) {
        await wire.assertRefused(
          "already_logged_in",
          () => alices.call(method, { delegation: alices.delegate(by) }),
        );
      }
    }
  });

  test("sent twice at once lets one in once", OPTIONS, async () => {
    const client = await connect();
    const delegation = client.delegate(alice);
    const logins = await Promise.allSettled(
      [1, 2, 3].map(() => client.call("session.login", { delegation })),
    );
    assert.equal(logins.filter(({ status }) => status === "fulfilled").length, 1);
    assert.equal(await client.balance(), await wire.of(alice).balance());
    client.close();
  });

  test("that has failed four times has no fifth try on its connection", OPTIONS, async () => {
    const client = await connect();
    const bad = client.delegate(alice, {}, bob.pair.privateKey);
    for (let failure = 0; failure < LOGIN_FAILURES_MAX; failure++) {
      await wire.assertRefused(
        "bad_signature",
        () => client.call("session.login", { delegation: bad }),
      );
    }
    const good = client.delegate(alice);
    await wire.assertRefused(
      "too_many_failures",
      () => client.call("session.login", { delegation: good }),
    );
    await wire.assertRefused(
      "too_many_failures",
      () => client.call("account.register", { delegation: good }),
    );
    client.close();
  });

  test("with an address that is none is refused", OPTIONS, async () => {
    const presences: readonly unknown[] = [
      { port: 80 },
      { port: 65_536 },
      { port: "8080" },
      { port: 8080, host: "example.org" },
      { port: 8080, host: "127.0.0.1\u001b[2J" },
      { port: 8080, host: "1.2.3.4.5" },
      { port: 8080, host: 1 },
      [],
      "127.0.0.1:8080",
    ];
    for (const presence of presences) {
      await wire.assertLetsNobodyIn(
        "invalid_params",
        "session.login",
        (client) => client.delegate(alice),
        {
          presence,
        },
      );
    }
    assert.deepEqual((await wire.of(alice).call("directory.list")).online, []);
  });

  test("past 64 sessions of one account is refused, until one of them ends", OPTIONS, async () => {
    const sessions: WireClient[] = [];
    // The world's own session of bob is one of them.
    while (sessions.length < SESSIONS_MAX - 1) {
      sessions.push(await enterAsBob());
    }
    await wire.assertLetsNobodyIn(
      "too_many_sessions",
      "session.login",
      (client) => client.delegate(bob),
    );
    sessions.pop()!.close();
    const next = await enterAsBob();
    for (const session of [next, ...sessions]) session.close();
  });
});

describe("a registration", () => {
  test("opens the account with two entries, and answers as a login", OPTIONS, async () => {
    const size = await wire.size();
    const client = await connect();
    const delegation = client.delegate(person("newcomer"));
    const answer = await client.call("account.register", { delegation });
    assert.deepEqual([answer.account, answer.balance], ["newcomer", "10000.00"]);
    assert.deepEqual([answer.size, answer.consistency], [size + 2, null]);
    const looked = await client.call("directory.lookup", { account: "newcomer" });
    const opened = client.provenEntry(looked);
    assert.ok(opened.type === "account.open");
    assert.deepEqual([opened.index, opened.delegationSha256], [size, sha256Text(delegation)]);
    client.close();
  });

  test("of a name that would mislead is refused", OPTIONS, async () => {
    for (const account of RESERVED_NAMES) {
      // No file of a client may be named server_private.pem, so this one is no name at all.
      const code = account === "server" ? "bad_name" : "name_reserved";
      const delegation = (client: WireClient) => client.delegate(nobody, { account });
      await wire.assertLetsNobodyIn(code, "account.register", delegation);
      if (account === "server") continue;
      await wire.assertLetsNobodyIn("unknown_account", "session.login", delegation);
    }
  });

  test("of a taken name is refused", OPTIONS, async () => {
    const delegation = (client: WireClient) => client.delegate(nobody, { account: "alice" });
    await wire.assertLetsNobodyIn("name_taken", "account.register", delegation);
  });

  test("of the same name with the same key lets in, and opens nothing twice", OPTIONS, async () => {
    await wire.unharmed(async () => {
      for (let time = 0; time < 3; time++) {
        const client = await WireClient.enter(wire.world, alice, "account.register");
        const { rows } = await client.call("payment.history");
        assert.equal((rows as unknown[]).length, 1);
        client.close();
      }
    });
  });

  test("of one name from many connections at once opens it once", OPTIONS, async () => {
    const rivals = ["rival1", "rival2", "rival3"].map(person);
    const name = "contested";
    const claimed = await Promise.allSettled([...rivals, ...rivals].map(async (rival) => {
      const client = await connect();
      const delegation = client.delegate(rival, { account: name });
      try {
        const answer = await client.call("account.register", { delegation });
        return { rival, balance: answer.balance };
      } finally {
        client.close();
      }
    }));
    const winners = claimed.flatMap((end) => end.status === "fulfilled" ? [end.value] : []);
    assert.equal(winners.length, 2);
    assert.equal(new Set(winners.map(({ rival }) => rival)).size, 1);
    assert.ok(winners.every(({ balance }) => balance === "10000.00"));
  });

  test("of another's public key without its private key is refused", OPTIONS, async () => {
    const { jwk: key } = bob.pair.publicKey;
    const signer = nobody.pair.privateKey;
    const delegation = (client: WireClient) => client.delegate(nobody, { key }, signer);
    await wire.assertLetsNobodyIn("bad_signature", "account.register", delegation);
  });

  test("of a bad name is refused", OPTIONS, async () => {
    const names = [
      "",
      "Alice",
      "al ice",
      "-a",
      ".a",
      "_a",
      "a".repeat(33),
      "älice",
      "a\n",
      "a\0",
      "@a",
      "server",
      "@treasury",
      "a/b",
      "../x",
      null,
      1,
      ["alice"],
      "аlice",
    ];
    for (const account of names) {
      await wire.assertLetsNobodyIn(
        "bad_name",
        "account.register",
        (client) => client.delegate(nobody, { account }),
      );
    }
  });
});

describe("before a login", () => {
  const METHODS = [
    "account.balance",
    "directory.list",
    "directory.lookup",
    "payment.settle",
    "payment.status",
    "payment.cancel",
    "payment.history",
    "payment.receipt",
    "ledger.open",
    "ledger.checkpoint",
    "ledger.consistency",
    "ledger.rollback",
  ];

  test("nothing is answered but hello", OPTIONS, async () => {
    const client = await connect();
    const signed = { ...client.order(alice, bob), delegation: wire.of(alice).delegation };
    const params = { ...signed, account: "alice", id: "0", payer: "alice", from: 1 };
    for (const method of METHODS) {
      await wire.assertRefused("login_required", () => client.call(method, params));
    }
    // Of the protocol before this one, and of none.
    for (const method of ["ledger.head", "ledger.blocks", "account.close"]) {
      await wire.assertRefused("unknown_method", () => client.call(method));
    }
    await wire.assertRefused("unknown_method", () => client.call("constructor"));
    assert.equal((await client.call("hello")).nonce, client.nonce);
    client.close();
  });
});

describe("a listener's place", () => {
  test(
    "is taken by the account's next listener alone, and one-shot sessions displace nobody",
    OPTIONS,
    async () => {
      const first = await WireClient.enter(wire.world, bob, "session.login", {
        presence: { port: 4_000 },
      });
      const beside = await WireClient.enter(wire.world, bob);
      const other = await WireClient.enter(wire.world, alice, "session.login", {
        presence: { port: 4_000 },
      });
      assert.equal((await first.call("account.balance")).balance, "10000.00");
      const second = await WireClient.enter(wire.world, bob, "session.login", {
        presence: { port: 5_000, host: "192.0.2.1" },
      });
      await first.heard("session.displaced");
      await first.peer.closed;
      await refusalOf(() => first.call("account.balance"));
      const { presence } = await other.call("directory.lookup", { account: "bob" });
      assert.deepEqual(presence, {
        name: "bob",
        host: "192.0.2.1",
        port: 5_000,
        fingerprint: bob.pair.publicKey.thumbprint,
      });
      for (const client of [beside, second, other]) client.close();
    },
  );
});

test("who leaves in the middle of a login leaves nothing behind", OPTIONS, async () => {
  const presence = { port: 4_000 };
  // More than an account's sessions, so that any that stayed would be in the way.
  for (let time = 0; time < SESSIONS_MAX + 10; time++) {
    const client = await connect();
    const login = client.call("session.login", { delegation: client.delegate(bob), presence });
    if (time % 2 === 0) await new Promise((resolve) => setTimeout(resolve, time % 8));
    client.close();
    await refusalOf(() => login).catch(() => {});
  }
  const until_ms = Date.now() + 10_000;
  let online = [{}];
  while (online.length > 0 && Date.now() < until_ms) {
    online = (await wire.of(alice).call("directory.list")).online as object[];
  }
  assert.deepEqual(online, []);
  const sessions: WireClient[] = [];
  while (sessions.length < SESSIONS_MAX - 1) sessions.push(await enterAsBob());
  for (const session of sessions) session.close();
});

test("after all of this the sum is zero and the audit passes", OPTIONS, async () => {
  await wire.assertAuditPasses(2);
});
