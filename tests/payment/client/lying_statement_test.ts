/** Someone with the server's TLS key, who lacks its RSA key or has an old statement, is found out before any login. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { KnownServers } from "../../../lib/keys/known_keys.ts";
import { signStatement } from "../../../lib/protocol/statement.ts";
import { sha256Text } from "../../../lib/protocol/token.ts";
import { ed25519PairOfSeed } from "../../support/ed25519.ts";
import { rsaPair } from "../../support/fixtures.ts";
import { LyingServer, Member, OwnServer } from "../../support/lying_server.ts";
import { refusalOf } from "../../support/refusal.ts";

const OPTIONS = { timeout: 60_000 };
const HOST = "127.0.0.1";

let server: OwnServer;
let liar: LyingServer;

before(async () => {
  server = await OwnServer.start();
  liar = await LyingServer.start(server);
  await new Member(server, "alice").register();
});

after(async () => {
  await liar.close();
  await server.stop();
});

/** The server's true statement with these claims changed, signed by its own key or by another. */
async function stated(changed: object, pair = server.identity.keys.pair): Promise<string> {
  const { cert, log, iat } = server.identity.statement.claims;
  return (await signStatement(pair, { cert, log, iat, ...changed })).text;
}

const OTHER_LOG = ed25519PairOfSeed(new Uint8Array(32)).publicKey;

/** By what is wrong: the statement, and what a client that knows the server, and one that does not, say. */
const STATEMENTS: Record<string, [() => Promise<unknown>, string, string | null]> = {
  "by another RSA key": [
    () => stated({}, rsaPair("another server")),
    "server_changed",
    null,
  ],
  "for another certificate": [
    () => stated({ cert: sha256Text("another certificate") }),
    "server_untrusted",
    "server_untrusted",
  ],
  "with another log key": [
    () => stated({ log: OTHER_LOG }),
    "server_untrusted",
    null,
  ],
  "older than one seen": [
    () => stated({ iat: server.identity.statement.claims.iat - 1 }),
    "server_untrusted",
    null,
  ],
  "whose signature was changed": [
    async () => (await stated({})).replace(/.{8}$/, "AAAAAAAA"),
    "server_untrusted",
    "server_untrusted",
  ],
  "that names another key than signed it": [
    async () => {
      const [header, , signature] = (await stated({}, rsaPair("another server"))).split(".");
      return [header, (await stated({})).split(".")[1], signature].join(".");
    },
    "server_untrusted",
    "server_untrusted",
  ],
  "that is none": [() => Promise.resolve(7), "server_untrusted", "server_untrusted"],
  "left out": [() => Promise.resolve(undefined), "server_untrusted", "server_untrusted"],
};

describe("a statement", () => {
  for (const [what, [make, known, unknown]] of Object.entries(STATEMENTS)) {
    test(`${what} is refused before a login, and nothing of it is recorded`, OPTIONS, async () => {
      liar.honest();
      const alice = new Member(server, "alice");
      await alice.visit(liar.port);
      const servers = new KnownServers(alice.folder);
      const before = servers.get(HOST, liar.port);
      const statement = await make();
      liar.lie("hello", (told) => ({ ...told, statement }));
      const asked = liar.asked.length;
      const { code } = await refusalOf(() => alice.visit(liar.port));
      assert.equal(code, known);
      assert.deepEqual(servers.get(HOST, liar.port), before);

      if (unknown === null) return;
      const stranger = new Member(server, "alice");
      assert.equal((await refusalOf(() => stranger.visit(liar.port))).code, unknown);
      assert.equal(new KnownServers(stranger.folder).get(HOST, liar.port), null);
      assert.deepEqual(new Set(liar.asked.slice(asked)), new Set(["hello"]));
    });
  }

  test("that was true at the first hello is judged anew at the second", OPTIONS, async () => {
    // A client that does not know the certificate says hello twice: to see it, and on a connection that shows it.
    const alice = new Member(server, "alice");
    const other = await stated({}, rsaPair("another server"));
    let hellos = 0;
    liar.honest();
    liar.lie("hello", (told) => ++hellos === 1 ? told : { ...told, statement: other });
    assert.equal((await refusalOf(() => alice.visit(liar.port))).code, "server_changed");
    assert.equal(hellos, 2);
    assert.equal(new KnownServers(alice.folder).get(HOST, liar.port), null);
  });
});
