/**
 * A server that holds the right keys and answers with whatever it likes: the client believes
 * nothing and shows no harm.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type ErrorCode, SealwireError } from "../../../lib/base/errors.ts";
import { encodeBase64 } from "../../../lib/base/parse.ts";
import { ed25519Jwk } from "../../../lib/keys/ed25519.ts";
import { logOrigin, signCheckpoint } from "../../../lib/ledger/checkpoint.ts";
import { formatEntry } from "../../../lib/ledger/entry.ts";
import { type Listener, listenTls } from "../../../lib/net/net.ts";
import { openIdentity } from "../../../lib/payment/server/identity.ts";
import { hashLeaf, hashNode } from "../../../lib/protocol/merkle.ts";
import { ALPN } from "../../../lib/protocol/wire.ts";
import { type Method, RpcPeer } from "../../../lib/rpc/peer.ts";
import { makeSalt, NEW_LEDGER, person } from "../../support/fixtures.ts";
import { type Json, jsonLines } from "../../support/payment_world.ts";
import { type Outcome, runTool, spawnTool, temporaryFolder } from "../../support/support.ts";

const OPTIONS = { timeout: 60_000 };
const HOST = "127.0.0.1";
const ESC = "\u001b]0;pwned\u0007\u001b[2J";
const UUID = "0b0b0b0b-0b0b-4b0b-8b0b-0b0b0b0b0b0b";

const folder = temporaryFolder();
const serverFolder = join(folder, "server");
const { identity } = await openIdentity(serverFolder, { hosts: [HOST], now: new Date() });
const { keys, logKey, statement } = identity;
const { thumbprint: server } = keys.pair.publicKey;
const clientFolder = join(folder, "client");
mkdirSync(clientFolder);
copyFileSync(join(serverFolder, "server_public.pem"), join(clientFolder, "server_public.pem"));
const pem = person("alice").pair.privateKey.export({ type: "pkcs8", format: "pem" }) as string;
writeFileSync(join(clientFolder, "alice_private.pem"), pem, { mode: 0o600 });

/** A ledger of its opening and one more entry, and its only checkpoint. */
const opening = formatEntry({
  index: 0,
  time: 1_800_000_000,
  salt: makeSalt(),
  type: "ledger.open",
  server,
  log: ed25519Jwk(logKey.publicKey),
  ...NEW_LEDGER,
});
const size = 2;
const second = hashLeaf("a payment");
const root = hashNode(hashLeaf(opening), second);
const checkpoint = signCheckpoint(logKey, logOrigin(server), size, root);
const PROVEN = { entry: opening, path: [encodeBase64(second)], size, checkpoint };

type Answers = Record<string, unknown>;

const HONEST: Answers = {
  "hello": { v: 2, statement: statement.text, nonce: randomBytes(32).toString("base64url") },
  "session.login": { account: "alice", balance: "10.00", size, checkpoint, consistency: [] },
  "ledger.open": PROVEN,
  "ledger.consistency": { path: [], size, checkpoint },
  "account.balance": { balance: "10.00" },
  "directory.list": { online: [], next: null },
  "payment.history": { rows: [], next: null },
};

/** A server that gives `answers`, and after a login the notifications. */
async function lying(answers: Answers, notifications: [string, object][] = []): Promise<Listener> {
  const methods = Object.fromEntries(
    Object.entries({ ...HONEST, ...answers }).map(([name, answer]): [string, Method] => [name, {
      handle: (_params, peer) => {
        if (name === "session.login") {
          setTimeout(() => notifications.forEach((one) => peer.notify(...one)), 50);
        }
        if (answer instanceof Error) throw answer;
        return answer;
      },
    }]),
  );
  const listener = await listenTls({
    host: HOST,
    port: 0,
    cert: keys.certificatePem,
    key: keys.tlsKeyPem,
    alpn: [ALPN],
  }, (connection) => new RpcPeer(connection, { role: "server", methods }));
  after(() => listener.close());
  return listener;
}

async function run(listener: Listener, ...args: string[]): Promise<Outcome> {
  const outcome = await runTool("client.ts", [
    HOST,
    String(listener.port),
    ...args,
    "--as",
    "alice",
    "--keys",
    clientFolder,
    "--timeout",
    "3",
  ]);
  const shown = outcome.stdout + outcome.stderr;
  // deno-lint-ignore no-control-regex
  assert.doesNotMatch(shown, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/, JSON.stringify(shown));
  assert.doesNotMatch(outcome.stderr, /^\s+at |Uncaught|[a-z]\.ts:\d+/m);
  return outcome;
}

const ROW = {
  index: 1,
  payment: UUID,
  time: 1_800_000_000,
  payer: "bob",
  payee: "alice",
  amount: "1.00",
  memo: null,
  balance: "10.00",
};
const ONLINE = {
  name: "bob",
  host: HOST,
  port: 4_000,
  fingerprint: randomBytes(32).toString("base64url"),
};

interface Lie {
  readonly promise: string;
  readonly answers: Answers;
  readonly command: readonly string[];
}

const BOB = { account: "bob", key: person("bob").pair.publicKey.jwk, presence: null };
const login = (changes: object): Answers => ({
  "session.login": { ...HONEST["session.login"] as object, ...changes },
});
const row = (changes: object): Answers => ({
  "payment.history": { rows: [{ ...ROW, ...changes }], next: null },
});
const online = (changes: object): Answers => ({
  "directory.list": { online: [{ ...ONLINE, ...changes }], next: null },
});

const LIES: readonly Lie[] = [
  {
    promise: "a balance of control characters",
    answers: { "account.balance": { balance: ESC } },
    command: ["balance"],
  },
  {
    promise: "a balance that is a number",
    answers: { "account.balance": { balance: 5 } },
    command: ["balance"],
  },
  {
    promise: "a login's balance of control characters",
    answers: login({ balance: ESC }),
    command: ["balance"],
  },
  {
    promise: "a login's checkpoint of control characters",
    answers: login({ checkpoint: ESC }),
    command: ["balance"],
  },
  {
    promise: "a login's checkpoint that is a number",
    answers: login({ checkpoint: 5 }),
    command: ["balance"],
  },
  {
    promise: "a login's checkpoint of another size than is said",
    answers: login({ size: 3 }),
    command: ["balance"],
  },
  {
    promise: "a login without a checkpoint",
    answers: login({ checkpoint: undefined }),
    command: ["balance"],
  },
  {
    promise: "a proof for a login that is none",
    answers: login({ consistency: 5 }),
    command: ["balance"],
  },
  {
    promise: "a proof for a login of control characters",
    answers: login({ consistency: [ESC] }),
    command: ["balance"],
  },
  { promise: "nothing", answers: { "account.balance": null }, command: ["balance"] },
  { promise: "a list", answers: { "account.balance": [] }, command: ["balance"] },
  {
    promise: "rows that are none",
    answers: { "payment.history": { rows: 5, next: null } },
    command: ["history"],
  },
  {
    promise: "more rows than a page has",
    answers: { "payment.history": { rows: new Array(1_101).fill(ROW), next: null } },
    command: ["history"],
  },
  {
    promise: "a page that leads to itself",
    answers: { "payment.history": { rows: [], next: 0 } },
    command: ["history"],
  },
  {
    promise: "a payment of control characters",
    answers: row({ payment: ESC }),
    command: ["history"],
  },
  { promise: "a payer of control characters", answers: row({ payer: ESC }), command: ["history"] },
  { promise: "a payee of control characters", answers: row({ payee: ESC }), command: ["history"] },
  {
    promise: "an amount of control characters",
    answers: row({ amount: ESC }),
    command: ["history"],
  },
  {
    promise: "a row's balance of control characters",
    answers: row({ balance: ESC }),
    command: ["history"],
  },
  {
    promise: "a time that no calendar has",
    answers: row({ time: Number.MAX_SAFE_INTEGER }),
    command: ["history"],
  },
  {
    promise: "someone online whose name is none",
    answers: online({ name: ESC }),
    command: ["list"],
  },
  {
    promise: "someone online at control characters",
    answers: online({ host: ESC }),
    command: ["list"],
  },
  {
    promise: "someone online at a name",
    answers: online({ host: "localhost" }),
    command: ["list"],
  },
  {
    promise: "a next page of control characters",
    answers: { "directory.list": { online: [], next: ESC } },
    command: ["list"],
  },
  {
    promise: "a receipt that is none",
    answers: { "payment.receipt": { state: "settled", balance: "10.00", ...PROVEN, entry: ESC } },
    command: ["receipt", UUID],
  },
  {
    promise: "a receipt of what pays nobody",
    answers: {
      "payment.receipt": {
        ...{ state: "settled", balance: "10.00", ...PROVEN },
        ...{ order: ESC, delegation: ESC },
      },
    },
    command: ["receipt", UUID],
  },
  {
    promise: "a payment that was settled by no entry",
    answers: { "payment.status": { state: "settled", balance: "10.00", size, checkpoint } },
    command: ["pay", "bob", "1", "--id", UUID],
  },
  {
    promise: "a state that there is not",
    answers: { "payment.status": { state: "maybe" } },
    command: ["pay", "bob", "1", "--id", UUID],
  },
  {
    promise: "a payee without proof",
    answers: { "directory.lookup": { ...BOB, ...PROVEN, entry: "x" } },
    command: ["pay", "bob", "1"],
  },
  {
    promise: "a payee with another entry for proof",
    answers: { "directory.lookup": { ...BOB, ...PROVEN } },
    command: ["pay", "bob", "1"],
  },
  {
    promise: "a payee whose key is none",
    answers: { "directory.lookup": { ...BOB, ...PROVEN, key: ESC } },
    command: ["pay", "bob", "1"],
  },
];

before(async () => {
  // From now on the client remembers the ledger, and compares every login with it.
  assert.equal((await run(await lying({}), "balance")).status, 0);
}, OPTIONS);

describe("an answer that is not as it should be is an error, and reaches no screen", () => {
  for (const { promise, answers, command } of LIES) {
    test(promise, OPTIONS, async () => {
      const listener = await lying(answers);
      for (const json of [[], ["--json"]]) {
        const outcome = await run(listener, ...command, ...json);
        assert.equal(outcome.status, 1, JSON.stringify(outcome));
        if (json.length === 0) continue;
        const { code } = jsonLines(outcome)[0]!.error as Json;
        assert.match(String(code), /^bad_(answer|token|entry|key)$/);
      }
    });
  }
});

for (const peerCode of ["constructor", "__proto__", "a_code_of_tomorrow"]) {
  test(`an error whose code is ${peerCode} is an ordinary failure`, OPTIONS, async () => {
    const refused = new SealwireError(peerCode as ErrorCode, "no");
    const listener = await lying({ "account.balance": refused });
    const outcome = await run(listener, "balance", "--json");
    assert.equal(outcome.status, 1, JSON.stringify(outcome));
    assert.deepEqual(jsonLines(outcome), [
      { error: { code: "peer_error", message: "no" }, peer_code: peerCode },
    ]);
  });
}

test("an error of control characters is shown without them", OPTIONS, async () => {
  const listener = await lying({ "account.balance": new SealwireError("overloaded", ESC) });
  const outcome = await run(listener, "balance");
  assert.equal(outcome.status, 1);
  assert.match(outcome.stderr, /\\u\{1b\}/);
});

test("pushes that are wrong change nothing, and do not end a listener", OPTIONS, async () => {
  const notifications: [string, object][] = [
    ["payment.settled", []],
    ["payment.settled", {}],
    ["payment.settled", { state: "settled", ...PROVEN, balance: ESC }],
    ["payment.settled", { state: "settled", ...PROVEN, order: ESC, delegation: ESC }],
    ["payment.settled", { state: "settled", size: 7, checkpoint: ESC }],
    ["payment.settled", { state: "settled", size: 7, checkpoint: 7 }],
    ["presence.changed", []],
    ["constructor", {}],
    [ESC, {}],
  ];
  const listener = await lying({}, notifications);
  const args = ["listen", "--as", "alice", "--keys", clientFolder, "--json"];
  const tool = spawnTool("client.ts", [HOST, String(listener.port), ...args]);
  assert.equal((await tool.nextJson()).event, "online");
  await new Promise((resolve) => setTimeout(resolve, 500));
  const outcome = await tool.stop();
  assert.equal(outcome.status, 130, JSON.stringify(outcome));
  assert.deepEqual(jsonLines(outcome).filter(({ event }) => event === "paid"), []);
});

test(
  "an honest answer passes, so that the others are refused for what they say",
  OPTIONS,
  async () => {
    const listener = await lying({ ...row({}), ...online({}) });
    assert.equal((await run(listener, "balance")).status, 0);
    assert.match((await run(listener, "history")).stdout, /\+1\.00 bob/);
    assert.match((await run(listener, "list")).stdout, /bob +127\.0\.0\.1:4000/);
    assert.ok(readFileSync(join(clientFolder, "known_servers.json"), "utf8").includes(HOST));
  },
);
