/** The interactive client on a pseudo-terminal, which `script` of util-linux makes. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { PaymentWorld } from "../../support/payment_world.ts";
import { RUNTIME } from "../../support/support.ts";

const CLIENT = fileURLToPath(new URL("../../../client.ts", import.meta.url));
const WAIT_MS = 30_000;
const skip = spawnSync("script", ["--version"]).status === 0
  ? false
  : "needs `script` of util-linux";

/** A client on a terminal of its own. */
class Terminal {
  readonly ended: Promise<number | null>;
  private readonly child;
  private shown = "";
  private readTo = 0;

  constructor(args: readonly string[]) {
    const run = RUNTIME === "deno" ? ["run", "-A", "--no-check"] : [];
    const command = [process.execPath, ...run, CLIENT, ...args].join(" ");
    const env = { ...process.env, NO_COLOR: "1", TERM: "xterm" };
    this.child = spawn("script", ["-qefc", command, "/dev/null"], { env });
    this.child.stdout.setEncoding("utf8").on("data", (text: string) => this.shown += text);
    this.ended = new Promise((resolve) => this.child.on("close", resolve));
  }

  type(text: string): void {
    this.child.stdin.write(text);
  }

  /** Waits until `text` is shown, after what was waited for before. */
  async see(text: string): Promise<void> {
    const until_ms = Date.now() + WAIT_MS;
    while (true) {
      const at = this.shown.indexOf(text, this.readTo);
      if (at >= 0) {
        this.readTo = at + text.length;
        return;
      }
      assert.ok(
        Date.now() < until_ms,
        `no ${JSON.stringify(text)} in ${JSON.stringify(this.shown)}`,
      );
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

test(
  "a person is asked about a new server, sees payments above a half-typed line, and leaves by Ctrl-C",
  {
    skip,
    timeout: 120_000,
  },
  async () => {
    const world = await PaymentWorld.start();
    await world.register("bob");
    const server = ["localhost", String(world.port)];
    const terminal = new Terminal([...server, "--keys", join(world.folder, "fresh")]);
    await terminal.see("sealwire> ");
    terminal.type("register jim\r");
    await terminal.see("Trust it (yes/no)? ");
    terminal.type("yes\r");
    await terminal.see("jim is online");
    await terminal.see("jim 10000.00> ");
    terminal.type("pay bob 3 din");
    await terminal.see("pay bob 3 din");
    await world.ask("bob", "pay", "jim", "7");
    await terminal.see("bob paid you 7.00");
    await terminal.see("jim 10007.00> pay bob 3 din");
    terminal.type("ner\r");
    await terminal.see("Pay (yes/no)? ");
    terminal.type("yes\r");
    await terminal.see("paid 3.00 to bob");
    await terminal.see("jim 10004.00> ");
    terminal.type("\x03");
    await terminal.see("Ctrl-C again");
    terminal.type("\x03");
    assert.equal(await terminal.ended, 130);
    await world.stop();
  },
);

test("Ctrl-C at the question whether to trust a server ends the client, trusting nothing", {
  skip,
  timeout: 60_000,
}, async () => {
  const world = await PaymentWorld.start();
  const folder = join(world.folder, "fresh");
  const args = ["localhost", String(world.port), "register", "--as", "jim", "--keys", folder];
  const interrupted = new Terminal(args);
  await interrupted.see("Trust it (yes/no)? ");
  interrupted.type("\x03");
  assert.equal(await interrupted.ended, 130);
  const refused = new Terminal(args);
  await refused.see("Trust it (yes/no)? ");
  refused.type("y\r");
  assert.equal(await refused.ended, 3);
  await world.stop();
});
