/** Server, account and keys folder that need not be named, and what is remembered of payments. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { errorCode, type Json, jsonLines, PaymentWorld } from "../../support/payment_world.ts";
import { type Outcome, runTool, temporaryFolder } from "../../support/support.ts";

const OPTIONS = { timeout: 240_000 };

/** A person with a home folder, who works in another one. */
class Person {
  readonly home = temporaryFolder();
  readonly work = temporaryFolder();
  readonly keys = join(this.home, ".config", "sealwire");

  run(args: readonly string[], stdin = ""): Promise<Outcome> {
    const env = { HOME: this.home, XDG_CONFIG_HOME: "" };
    return runTool("client.ts", args, { cwd: this.work, env, stdin });
  }

  async ask(...args: string[]): Promise<Json[]> {
    const outcome = await this.run([...args, "--json"]);
    assert.equal(outcome.status, 0, JSON.stringify(outcome));
    return jsonLines(outcome);
  }

  async refused(...args: string[]): Promise<Json> {
    const outcome = await this.run([...args, "--json"]);
    assert.notEqual(outcome.status, 0, JSON.stringify(outcome));
    return jsonLines(outcome).at(-1)!.error as Json;
  }
}

test(
  "once registered, a payment needs neither server nor account nor folder",
  OPTIONS,
  async () => {
    const world = await PaymentWorld.start();
    const server = ["127.0.0.1", String(world.port)];
    const person = new Person();
    assert.match(String((await person.refused("balance")).message), /--as NAME|knows no/);
    const made = await person.run([...server, "register", "--as", "bob", "--accept-new"]);
    assert.match(made.stderr, new RegExp(`Created ${join(person.keys, "bob_private.pem")}`));
    await person.ask("register", "--as", "alice");
    const [paid] = await person.ask("pay", "bob", "5", "lunch");
    assert.equal(paid!.payer, "alice");
    const [me] = await person.ask("whoami");
    assert.equal(me!.account, "alice");
    assert.equal(me!.keys, person.keys);
    assert.equal(me!.balance, "9995.00");
    await person.ask("use", "bob");
    assert.equal((await person.ask("balance"))[0]!.account, "bob");
    assert.match(
      String((await person.refused("use", "zoe")).message),
      /no keys of zoe.*alice, bob/,
    );
    await person.ask("use", "127.0.0.1", "9");
    assert.equal((await person.refused("balance")).code, "no_connection");
    assert.equal((await person.ask(...server, "balance", "--as", "alice"))[0]!.balance, "9995.00");
    assert.deepEqual(readdirSync(person.work), []);

    mkdirSync(join(person.work, "keys"));
    assert.equal((await person.ask("use", ...server))[0]!.account, "bob");
    writeFileSync(join(person.work, "keys", "known_servers.json"), '{"v":2,"servers":{}}');
    assert.equal((await person.refused("balance")).code, "usage");
    await world.stop();
  },
);

test("a registration that fails leaves no keys, and says what to do", OPTIONS, async () => {
  const world = await PaymentWorld.start();
  await world.register("bob");
  const other = join(world.folder, "other");
  const args = ["--as", "bob", "--accept-new", "--keys", other];
  const person = new Person();
  const taken = await person.refused("127.0.0.1", String(world.port), "register", ...args);
  assert.equal(taken.code, "name_taken");
  assert.match(String(taken.message), /choose another with --as.*bob_private\.pem into \S+other$/);
  assert.equal(existsSync(join(other, "bob_private.pem")), false);
  assert.equal((await person.refused("127.0.0.1", "9", "register", ...args)).code, "no_connection");
  assert.equal(existsSync(join(other, "bob_private.pem")), false);
  await world.stop();
});

test(
  "a history is cut by number, name, day and direction, and fits 80 columns",
  OPTIONS,
  async () => {
    const world = await PaymentWorld.start();
    await world.register("alice", "bob", "carol");
    const payments: string[] = [];
    for (const [payee, amount] of [["bob", "1"], ["carol", "2"], ["bob", "3"]] as const) {
      const memo = "王小明 ".repeat(8).trim();
      payments.push(String((await world.ask("alice", "pay", payee, amount, memo)).payment));
    }
    await world.ask("bob", "pay", "alice", "4");
    const amounts = async (...args: string[]) =>
      jsonLines(await world.client("alice", "history", ...args)).map(({ amount }) => amount);
    assert.deepEqual(await amounts(), ["10000.00", "1.00", "2.00", "3.00", "4.00"]);
    assert.deepEqual(await amounts("2"), ["3.00", "4.00"]);
    assert.deepEqual(await amounts("2", "--out"), ["2.00", "3.00"]);
    assert.deepEqual(await amounts("--in"), ["10000.00", "4.00"]);
    assert.deepEqual(await amounts("--with", "bob"), ["1.00", "3.00", "4.00"]);
    assert.deepEqual(await amounts("--since", "2099-01-01"), []);
    assert.deepEqual(await amounts("--until", "2001-01-01"), []);
    assert.deepEqual(await amounts("--since", "2001-01-01", "--until", "2099-01-01", "1"), [
      "4.00",
    ]);
    const odd = await world.client("alice", "history", "--since", "2026-02-30");
    assert.match(odd.stderr, /--since takes a day such as 2026-11-24, not "2026-02-30"/);

    const args = world.clientArgs("alice", "history").filter((arg) => arg !== "--json");
    const text = (await runTool("client.ts", args)).stdout.trimEnd().split("\n");
    for (const line of text) assert.ok([...line].length <= 80, line);
    assert.match(text[1]!, new RegExp(`-1\\.00 bob +9999\\.00 ${payments[0]!.slice(0, 8)} "王`));

    const state = await world.ask("bob", "status", payments[2]!.slice(0, 7));
    assert.deepEqual([state.state, state.payment, state.amount], ["settled", payments[2], "3.00"]);
    const cancelled = await world.client("alice", "cancel", payments[0]!.slice(0, 8));
    assert.match(cancelled.stderr, /is settled: it cannot be cancelled/);
    const fresh = "11111111-2222-4333-8444-555555555555";
    assert.equal((await world.ask("alice", "status", fresh)).state, "unknown");
    assert.equal((await world.ask("alice", "cancel", fresh)).state, "cancelled");
    assert.equal((await world.ask("alice", "status", fresh)).state, "cancelled");
    const again = await world.client("alice", "pay", "bob", "1", "--id", fresh);
    assert.equal(errorCode(again), "cancelled");
    await world.stop();
  },
);

test(
  "a batch may have a header, quotes and semicolons, and a refusal names line and payee",
  OPTIONS,
  async () => {
    const world = await PaymentWorld.start();
    await world.register("alice", "bob");
    const pay = async (text: string) => {
      const path = join(world.folder, "batch.csv");
      writeFileSync(path, text);
      return await world.client("alice", "pay", "--batch", path);
    };
    const paid = await pay('\ufeffname;amount\r\n"bob";"1.50"\r\n\r\nbob;2\r\n');
    assert.deepEqual(jsonLines(paid).map(({ amount }) => amount), ["1.50", "2.00"]);
    const { stderr } = await pay("payee,amount\nbob,1\ncarl,2\n");
    assert.match(stderr, /line 3, carl: there is no such payee; nothing was paid/);
    await world.stop();
  },
);

test("completions follow from the commands, with names and payment ids", OPTIONS, async () => {
  const world = await PaymentWorld.start();
  await world.register("alice", "bob");
  const { payment } = await world.ask("alice", "pay", "bob", "1");
  const keys = ["--keys", world.keysOf("alice")];
  const complete = async (...words: string[]) => {
    const { stdout } = await runTool("client.ts", ["completions", "words", "--", ...words]);
    return stdout.split("\n").filter(Boolean);
  };
  assert.deepEqual(await complete("hist"), ["history"]);
  assert.deepEqual(await complete("localhost", "8080", "reg"), ["register"]);
  assert.deepEqual(await complete("pay", "--vi"), ["--via-server"]);
  assert.deepEqual(await complete(...keys, "pay", ""), ["alice", "bob"]);
  assert.deepEqual(await complete(...keys, "status", ""), [String(payment)]);
  assert.deepEqual(await complete("balance", ...keys, "--as", "a"), ["alice"]);
  for (const shell of ["bash", "zsh", "fish"]) {
    const { status, stdout } = await runTool("client.ts", ["completions", shell]);
    assert.equal(status, 0);
    assert.match(stdout, /completions words --/);
  }
  await world.stop();
});
