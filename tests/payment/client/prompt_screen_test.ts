/**
 * The interactive client as a person sees it, on terminals of 40 and 80 columns that tmux draws.
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { PaymentWorld } from "../../support/payment_world.ts";
import { Screen, type ScreenOptions, skipScreen } from "../../support/screen.ts";

const OPTIONS = { timeout: 180_000, skip: skipScreen };

async function withPrompt(
  options: ScreenOptions,
  work: (screen: Screen, world: PaymentWorld, keys: string) => Promise<void>,
): Promise<void> {
  const world = await PaymentWorld.start();
  await world.register("alice", "bob");
  const keys = world.keysOf("alice");
  const screen = new Screen(
    "client.ts",
    ["127.0.0.1", String(world.port), "--as", "alice", "--keys", keys],
    options,
  );
  try {
    await screen.see("alice 10000.00>");
    await work(screen, world, keys);
  } finally {
    screen.close();
    await world.stop();
  }
}

for (const columns of [40, 80]) {
  test(
    `a notice stands whole above a half-typed line that wraps, at ${columns} columns`,
    OPTIONS,
    async () => {
      await withPrompt({ columns }, async (screen, world) => {
        const typed = `pay bob 3 ${"dinner 王小明 ñandu e\u0301 ".repeat(5)}end`;
        screen.type(typed);
        await screen.see("end");
        await world.ask("bob", "pay", "alice", "7", "thanks 王小明 🎉", "for", "everything");
        await screen.see('"thanks 王小明 🎉 for everything"');
        const text = await screen.see(/alice 10007\.00> pay bob 3/);
        assert.match(text, /bob paid you 7\.00 "thanks/);
        assert.match(text, /balance 10007\.00 \(payment [0-9a-f-]{36}\)/);
        await world.ask("bob", "pay", "alice", "1", "again");
        const again = await screen.see(/alice 10008\.00> pay bob 3/);
        assert.match(again, /bob paid you 7\.00 "thanks/);
        assert.match(
          again,
          /bob paid you 1\.00 "again"; balance 10008\.00 \(payment [0-9a-f-]{36}\)/,
        );
        screen.press("C-c");
        await screen.see("^C");
      });
    },
  );
}

test(
  "Ctrl-C clears the line, twice on an empty one leaves; Ctrl-D leaves at once",
  OPTIONS,
  async () => {
    await withPrompt({}, async (screen) => {
      screen.type("pay bob 100");
      await screen.see("pay bob 100");
      screen.press("C-c");
      await screen.see(/\^C\n(.*\n)*alice 10000\.00>$/);
      screen.press("C-c");
      await screen.see("Ctrl-C again or Ctrl-D leaves.");
      screen.enter("balance");
      await screen.see("alice has 10000.00");
      screen.press("C-c");
      await screen.see(/alice has(.*\n)+.*Ctrl-C again/);
      screen.press("C-c");
      assert.equal(await screen.ended(), 130);
    });
    await withPrompt({}, async (screen) => {
      screen.press("C-d");
      assert.equal(await screen.ended(), 0);
    });
  },
);

test(
  "Tab completes commands, names and ids; Ctrl-R finds lines of an earlier run",
  OPTIONS,
  async () => {
    await withPrompt({}, async (screen, world, keys) => {
      screen.type("hist");
      screen.press("Tab");
      await screen.see("> history");
      screen.press("C-c");
      await world.ask("alice", "pay", "bob", "2");
      screen.type("pay b");
      screen.press("Tab");
      await screen.see("> pay bob");
      screen.enter("1 first");
      await screen.see("paid 1.00 to bob");
      await screen.see("alice 9997.00>");
      screen.type("status ");
      screen.press("Tab", "Tab");
      await screen.see(/[0-9a-f]{8}-[0-9a-f]{4}/);
      screen.press("C-c");
      screen.enter("exit");
      assert.equal(await screen.ended(), 0);
      const path = join(keys, "prompt_history");
      assert.equal(statSync(path).mode & 0o077, 0);
      assert.match(readFileSync(path, "utf8"), /^pay bob 1 first$/m);

      const next = new Screen(
        "client.ts",
        ["127.0.0.1", String(world.port), "--as", "alice", "--keys", keys],
      );
      await next.see("alice 9997.00>");
      next.type("bob");
      next.press("C-r");
      await next.see("> pay bob 1 first");
      next.press("Enter");
      await next.see("alice 9996.00>");
      next.close();
    });
  },
);

test(
  "the words of the old client lead through questions, and a new key is asked about",
  OPTIONS,
  async () => {
    await withPrompt({ columns: 80 }, async (screen) => {
      screen.enter("Transaction");
      await screen.see("Payee:");
      screen.enter("bob");
      await screen.see("Amount:");
      screen.enter("12.5");
      await screen.see("Memo (Enter for none):");
      screen.enter("it's lunch");
      const text = await screen.see("Pay (yes/no)?");
      assert.match(text, /Not paid from here before, with this key:\n {2}bob {2}[\w-]{43}\n/);
      assert.match(text, /Amount 12\.50; balance 10000\.00, and after it 9987\.50\./);
      screen.enter("no");
      await screen.see("error: not confirmed, so nothing was paid");
      screen.enter('pay bob 12.5 --memo "it is lunch"');
      await screen.see(/Pay \(yes\/no\)\?(.*\n)+.*Pay \(yes\/no\)\?/);
      screen.enter("yes");
      await screen.see("alice 9987.50>");
      screen.enter("history 1");
      await screen.see('"it is lunch"');
      screen.enter("List");
      await screen.see("127.0.0.1:");
      screen.press("Up", "Up");
      await screen.see(/9987\.50> history 1$/);
      screen.press("C-c");
      screen.enter("Exit");
      assert.equal(await screen.ended(), 0);
    });
  },
);

test("a failed login changes nothing, and another login says who pays", OPTIONS, async () => {
  await withPrompt({}, async (screen, _world, keys) => {
    screen.enter("login zoe");
    await screen.see("zoe_private.pem");
    await screen.see(/zoe_private(.*\n)+alice 10000\.00>$/);
    screen.enter("register newbie");
    await screen.see("alice is offline: from now on newbie pays");
    await screen.see("newbie 10000.00>");
    screen.enter("register bob");
    await screen.see("the name bob is taken");
    await screen.see(/is taken(.*\n)+newbie 10000\.00>$/);
    assert.equal(existsSync(join(keys, "bob_private.pem")), false);
  });
});

test("the connection comes back by itself, and two listeners are both told", OPTIONS, async () => {
  await withPrompt({}, async (screen, world) => {
    await world.server.stop("SIGKILL");
    await screen.see("alice offline>");
    screen.enter("balance");
    await screen.see("error: ");
    await world.startServer();
    await screen.see("online again");
    screen.enter("balance");
    await screen.see("alice has 10000.00");
    const second = await world.listen("alice");
    await screen.see("another listener of this account has taken this one's place");
    await screen.see("sealwire>");
    assert.match(second.stderrText, /another listener of alice was online/);
    await second.stop();
  });
});

test("a terminal that can do nothing shows the same without escapes", OPTIONS, async () => {
  await withPrompt({ env: { TERM: "dumb" } }, async (screen) => {
    screen.enter("balance");
    await screen.see("alice has 10000.00");
    assert.doesNotMatch(screen.text, /\[\d*[A-Z]/);
    screen.enter("exit");
    assert.equal(await screen.ended(), 0);
  });
});
