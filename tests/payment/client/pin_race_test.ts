/** What another process pins while this one connects is not overwritten. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type KnownIdentity, KnownServers } from "../../../lib/keys/known_keys.ts";
import { ed25519PairOfSeed } from "../../support/ed25519.ts";
import { rsaPair } from "../../support/fixtures.ts";
import { Member, OwnServer } from "../../support/lying_server.ts";
import { refusalOf } from "../../support/refusal.ts";

const OPTIONS = { timeout: 60_000 };
const HOST = "127.0.0.1";

let server: OwnServer;

before(async () => {
  server = await OwnServer.start();
  await new Member(server, "alice").register();
});

after(() => server.stop());

/** What another process records while a person compares the fingerprint, and what comes of the connection then. */
const MEANWHILE: Record<string, [(own: KnownIdentity) => KnownIdentity, string | null]> = {
  "another server's key": [
    (own) => ({ ...own, serverKey: rsaPair("another server").publicKey.jwk }),
    "server_changed",
  ],
  "a later statement": [
    (own) => ({ ...own, statementTime: own.statementTime + 1 }),
    "server_untrusted",
  ],
  "another log key": [
    (own) => ({ ...own, logKey: ed25519PairOfSeed(new Uint8Array(32)).publicKey.x }),
    "server_untrusted",
  ],
  "the same": [(own) => own, null],
};

for (const [what, [change, code]] of Object.entries(MEANWHILE)) {
  test(`a process that pins ${what} meanwhile has the last word`, OPTIONS, async () => {
    const alice = new Member(server, "alice");
    const servers = new KnownServers(alice.folder);
    const { keys: { certificatePem, pair }, logKey, statement } = server.identity;
    const identity = change({
      serverKey: pair.publicKey.jwk,
      logKey: logKey.publicKey.x,
      statementTime: statement.claims.iat,
    });
    const visit = () =>
      alice.visit(server.port, {
        confirmServer() {
          servers.record(HOST, server.port, { certificatePem, identity });
          return Promise.resolve(true);
        },
      });
    if (code === null) await visit();
    else assert.equal((await refusalOf(visit)).code, code);
    assert.deepEqual(servers.get(HOST, server.port)!.identity, identity);
  });
}
