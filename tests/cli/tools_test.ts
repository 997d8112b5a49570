/** What the tools answer about themselves, as real processes. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { whyNot } from "../support/other_runtime.ts";
import { jsonLines, PaymentWorld } from "../support/payment_world.ts";
import { testRefusals } from "../support/refused_runs.ts";
import { RUNTIME, runTool, temporaryFolder } from "../support/support.ts";

const SLOW = { timeout: 120_000 };
const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const SERVER = ["127.0.0.1", "9"];
const AS = ["--as", "alice"];
const USAGE = { code: "usage", status: 2 };

test(
  "every way to ask for a command's help shows that command, with an example",
  SLOW,
  async () => {
    const ways: [tool: string, args: string[], usage: RegExp][] = [
      [
        "client.ts",
        ["pay", "--help"],
        /^Usage: client\.ts \[<host> <port>\] pay <payee> \[amount\]/m,
      ],
      ["client.ts", [...SERVER, "pay", "-h"], /^Usage: client\.ts \[<host> <port>\] pay <payee>/m],
      ["client.ts", ["help", "pay"], /^Usage: client\.ts \[<host> <port>\] pay <payee>/m],
      [
        "client.ts",
        [...SERVER, "help", "pay"],
        /^Usage: client\.ts \[<host> <port>\] pay <payee>/m,
      ],
      ["client.ts", ["verify", "--help"], /^Usage: client\.ts verify <receipt>/m],
      ["client.ts", ["help", "interactive"], /^Usage: client\.ts \[<host> <port>\]$/m],
      ["server.ts", ["grant", "--help"], /^Usage: server\.ts grant <name> <amount>/m],
      ["aes_client.ts", ["--help"], /^Usage: aes_client\.ts \[message\.\.\.\]/m],
    ];
    for (const [tool, args, usage] of ways) {
      const { status, stdout, stderr } = await runTool(tool, args);
      assert.deepEqual([status, stderr], [0, ""], args.join(" "));
      assert.match(stdout, usage);
      assert.match(stdout, /^Example: \w+\.ts /m);
    }
  },
);

test(
  "a tool's help is the same by help and by --help, and an object under --json",
  SLOW,
  async () => {
    const asked = await runTool("client.ts", ["help"]);
    assert.equal(asked.status, 0);
    assert.match(asked.stdout, /^Sealwire's payment client: /);
    assert.equal((await runTool("client.ts", ["--help"])).stdout, asked.stdout);
    assert.equal((await runTool("client.ts", [...SERVER, "--help"])).stdout, asked.stdout);
    const json = await runTool("client.ts", ["help", "--json"]);
    assert.equal(`${jsonLines(json)[0]!.help}\n`, asked.stdout);
  },
);

describe("a mistyped command line suggests what was meant", () => {
  testRefusals("client.ts", [
    {
      promise: "a command",
      args: () => [...SERVER, "balanc", ...AS],
      ...USAGE,
      names: /"balanc": did you mean "balance"\?/,
    },
    {
      promise: "a command without its server",
      args: () => ["balanc", ...AS],
      ...USAGE,
      names: /\[<host> <port>\].*did you mean "balance"\?/,
    },
    {
      promise: "an option",
      args: () => [...SERVER, "pay", "bob", "5", "--memmo", "x", ...AS],
      ...USAGE,
      names: /--memmo: did you mean --memo\?/,
    },
    {
      promise: "a topic of the help",
      args: () => ["help", "payy"],
      ...USAGE,
      names: /"payy": did you mean "pay"\?/,
    },
  ]);
  testRefusals("server.ts", [
    { promise: "audt", args: () => ["audt"], ...USAGE, names: /did you mean "audit"\?/ },
    { promise: "--dbb", args: () => ["0", "--dbb", "x"], ...USAGE, names: /did you mean --db\?/ },
  ]);
  testRefusals("aes_server.ts", [
    { promise: "--oce", args: () => ["--oce"], ...USAGE, names: /did you mean --once\?/ },
  ]);
});

describe("pay is answered in terms of payee and amount", () => {
  const keys = ["--keys", temporaryFolder()];
  testRefusals("client.ts", [
    {
      promise: "without an amount",
      args: () => [...SERVER, "pay", "bob", ...AS, ...keys],
      ...USAGE,
      names: /^(error: )?<amount> is missing: pay takes <payee> <amount> \[memo\.\.\.\]/,
    },
    {
      promise: "of less than nothing",
      args: () => [...SERVER, "pay", "bob", "-5", ...AS, ...keys],
      code: "bad_amount",
      status: 2,
      names: /an amount is a number such as 12\.50.*"-5"/,
    },
    {
      promise: "with two memos",
      args: () => [...SERVER, "pay", "bob", "5", "lunch", "--memo", "dinner", ...AS, ...keys],
      ...USAGE,
      names: /memo is given twice.*--memo.*"lunch"/,
    },
    {
      promise: "without its server",
      args: () => ["pay", "bob", "5", ...AS, ...keys],
      ...USAGE,
      names: /knows no server yet: put <host> <port> before the command, or choose one/,
    },
    {
      promise: "with an option of another command",
      args: () => [...SERVER, "balance", "--memo", "x", ...AS, ...keys],
      ...USAGE,
      names: /balance takes no --memo: it belongs to pay/,
    },
  ]);
});

test("a usage error says which help to read", SLOW, async () => {
  const { stderr } = await runTool("client.ts", [...SERVER, "pay", "bob", ...AS]);
  assert.match(stderr, /^error: .* \(see client\.ts pay --help\)\n$/);
});

test("the words after the amount are the memo", SLOW, async () => {
  const world = await PaymentWorld.start();
  await world.register("alice", "bob");
  const bob = await world.listen("bob");
  await world.ask("alice", "pay", "bob", "5", "lunch", "for", "two");
  const { memo } = await bob.nextJson(({ event }) => event === "paid");
  assert.equal(memo, "lunch for two");
  await bob.stop();
  await world.stop();
});

test("the prompt reads the same commands, and refuses what is too much", SLOW, async () => {
  const world = await PaymentWorld.start();
  await world.register("alice", "bob");
  const { status, stdout, stderr } = await runTool("client.ts", world.clientArgs("alice"), {
    stdin: ["balanc", "balance now", "pay bob", "HELP", "pay bob 1 for tea", "quit"].join("\n"),
  });
  assert.equal(status, 0, stderr);
  const lines = stdout.trim().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual(lines.slice(0, 3).map(({ error }) => error.message), [
    'there is no command "balanc": did you mean "balance"?',
    'unexpected argument "now": balance takes no arguments',
    "<amount> is missing: pay takes <payee> <amount> [memo...]",
  ]);
  assert.match(stderr, /^pay <payee> \[amount\] \[memo\.\.\.\] +pay someone$/m);
  assert.equal(lines[3].amount, "1.00");
  await world.stop();
});

test("an unknown payee is met with the nearest of those who are online", SLOW, async () => {
  const world = await PaymentWorld.start();
  await world.register("alice", "bob");
  const bob = await world.listen("bob");
  const outcome = await world.client("alice", "pay", "bobb", "5");
  assert.equal(outcome.status, 1);
  assert.match(outcome.stderr, /there is no such payee: did you mean "bob"\?/);
  await bob.stop();
  await world.stop();
});

test("a compiled tool goes by its own name", { ...SLOW, skip: whyNot("bun") }, () => {
  const binary = join(temporaryFolder(), "sealwire-pay");
  const bun = RUNTIME === "bun" ? process.execPath : "bun";
  const built = spawnSync(
    bun,
    ["build", "--compile", join(ROOT, "client.ts"), "--outfile", binary],
    { encoding: "utf8" },
  );
  assert.equal(built.status, 0, built.stderr);
  const run = (...args: string[]) => spawnSync(binary, args, { encoding: "utf8" });
  assert.match(run("--help").stdout, /^Usage: sealwire-pay \[<host> <port>\]/m);
  assert.match(run("--version").stdout, /^sealwire-pay \d/);
  const { status, stderr } = run(...SERVER, "balanc");
  assert.equal(status, 2);
  assert.match(stderr, /\(see sealwire-pay --help\)\n$/);
});
