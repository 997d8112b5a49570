import assert from "node:assert/strict";
import { test } from "node:test";
import { makeSessionKey } from "../../lib/protocol/delegation.ts";
import {
  parseStatement,
  signStatement,
  verifyStatement,
  verifyStatementOf,
} from "../../lib/protocol/statement.ts";
import { CERT, NOW_S, rsaPair, serverPair } from "../support/fixtures.ts";
import { partsOf, rawToken } from "../support/raw_tokens.ts";

const server = serverPair();
const log = makeSessionKey().publicKey;
const sound = () => signStatement(server, { cert: CERT, log, iat: NOW_S });

/** The statement with some claims replaced by anything at all, signed by `pair`. */
async function changed(claims: object, pair = server): Promise<string> {
  const { header, payload } = partsOf((await sound()).text);
  const replaced = JSON.stringify({ ...JSON.parse(payload), ...claims });
  return rawToken(header, replaced, pair.privateKey);
}

test("a statement names the server's key, its certificate and its log key", async () => {
  const { text } = await sound();
  for (
    const { claims } of [
      await verifyStatement(text),
      await verifyStatementOf(text, server.publicKey),
      parseStatement(text),
    ]
  ) {
    assert.equal(claims.server.thumbprint, server.publicKey.thumbprint);
    assert.equal(claims.cert, CERT);
    assert.equal(claims.log.x, log.x);
    assert.equal(claims.iat, NOW_S);
  }
});

test("another server's statement is wrong_server, however well it is signed", async () => {
  const other = await signStatement(rsaPair("another server"), { cert: CERT, log, iat: NOW_S });
  await verifyStatement(other.text);
  await assert.rejects(verifyStatementOf(other.text, server.publicKey), { code: "wrong_server" });
});

test("who has only the server's public key states nothing in its name", async () => {
  const forged = await changed({ log: { ...parseStatement((await sound()).text).claims.log } });
  await assert.rejects(verifyStatement(forged), { code: "bad_token" });
  const { x } = makeSessionKey().publicKey;
  const own = await changed(
    { log: { crv: "Ed25519", kty: "OKP", x } },
    rsaPair("another server"),
  );
  await assert.rejects(verifyStatement(own), { code: "bad_signature" });
  await assert.rejects(verifyStatementOf(own, server.publicKey), { code: "bad_signature" });
});

test("a log key that would let one signature fit many messages is bad_key", async () => {
  const x = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
  const weak = await changed({ log: { crv: "Ed25519", kty: "OKP", x } });
  await assert.rejects(verifyStatement(weak), { code: "bad_key" });
});
