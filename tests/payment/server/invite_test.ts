/** Registration by invite, with a real server and its tools. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { errorCode, jsonLines, PaymentWorld } from "../../support/payment_world.ts";
import { startServer } from "../../support/siege.ts";

const OPTIONS = { timeout: 120_000 };
const settings = ["--registration", "invite", "--opening-balance", "0"];
const world = await PaymentWorld.start({ serverArgs: [...settings, "--classic"] });
after(() => world.stop());

async function makeInvites(...args: string[]): Promise<string[]> {
  return jsonLines(await world.operate("invite", ...args)).map(({ invite }) => String(invite));
}

async function refusal(name: string, ...args: string[]): Promise<unknown> {
  const outcome = await world.client(name, "register", ...args);
  assert.equal(outcome.status, 1, outcome.stderr);
  return errorCode(outcome);
}

test("nobody registers without a code, or with one that is made up", OPTIONS, async () => {
  assert.equal(await refusal("mallory"), "invite_required");
  assert.equal(await refusal("mallory", "--invite", "A".repeat(38)), "bad_invite");
});

test("a code opens one account, with the balance that the operator said", OPTIONS, async () => {
  const codes = await makeInvites("--count", "2", "--balance", "100");
  assert.equal(new Set(codes).size, 2);
  const opened = await world.ask("alice", "register", "--invite", codes[0]!);
  assert.equal(opened.balance, "100.00");
  assert.equal(await refusal("mallory", "--invite", codes[0]!), "invite_used");
  assert.equal((await world.ask("alice", "register", "--invite", codes[0]!)).balance, "100.00");
  const [free] = await makeInvites();
  assert.equal((await world.ask("bob", "register", "--invite", free!)).balance, "0.00");
  assert.equal(await refusal("mallory", "--invite", free!), "invite_used");
});

test("many who use one code at once get one account", OPTIONS, async () => {
  const [code] = await makeInvites("--balance", "7");
  const names = ["one", "two", "three", "four"];
  const outcomes = await Promise.all(
    names.map((name) => world.client(name, "register", "--invite", code!)),
  );
  assert.equal(outcomes.filter(({ status }) => status === 0).length, 1);
});

test(
  "a closed ledger takes no invites either, and the audit finds every code",
  OPTIONS,
  async () => {
    const [code] = await makeInvites();
    assert.equal((await world.operate("settings", "--registration", "closed")).status, 0);
    assert.equal(await refusal("mallory", "--invite", code!), "registration_closed");
    const audited = await world.operate("audit");
    assert.equal(audited.status, 0, audited.stdout + audited.stderr);
  },
);

test(
  "a server that anyone may get money from says so in one line, and others do not",
  OPTIONS,
  async () => {
    const line = /^anyone may register and gets 10000\.00; for real money: --registration invite/m;
    const open = await startServer();
    const careful = await startServer(settings);
    for (const { tool } of [open, careful]) await tool.stop("SIGTERM");
    assert.match(open.tool.stderrText, line);
    assert.doesNotMatch(careful.tool.stderrText, line);
  },
);
