import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { loadServerPublicKey } from "../../lib/keys/key_files.ts";
import { parseTlogProof } from "../../lib/ledger/tlog_proof.ts";
import { errorCode, jsonLines, PaymentWorld } from "../support/payment_world.ts";
import { runTool } from "../support/support.ts";

const SLOW = { timeout: 120_000 };
/** Thumbprint of the public key in a file. */
function fingerprintOf(path: string): string {
  return loadServerPublicKey(path).thumbprint;
}

function serverFingerprint(world: PaymentWorld): string {
  return fingerprintOf(join(world.serverKeys, "server_public.pem"));
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

test(
  "alice pays bob directly, both hold the same receipt, and anyone can verify it",
  SLOW,
  async () => {
    const world = await PaymentWorld.start();
    assert.deepEqual(await world.ask("alice", "register"), {
      account: "alice",
      balance: "10000.00",
    });
    await world.register("bob");
    const bob = await world.listen("bob");

    const paid = await world.ask("alice", "pay", "bob", "12.50", "--memo", "lunch ☕");
    const { payment, ...rest } = paid;
    assert.match(String(payment), UUID);
    assert.deepEqual(rest, {
      payer: "alice",
      payee: "bob",
      amount: "12.50",
      path: "direct",
      balance: "9987.50",
    });
    const heard = await bob.nextJson(({ event }) => event === "paid");
    assert.deepEqual(heard, {
      event: "paid",
      payment,
      payer: "alice",
      amount: "12.50",
      memo: "lunch ☕",
      balance: "10012.50",
    });

    const [alices, bobs] = [
      await world.client("alice", "receipt", String(payment)),
      await world.client("bob", "receipt", String(payment)),
    ];
    assert.equal(alices.status, 0, alices.stderr);
    assert.equal(alices.stdout, bobs.stdout);
    assert.deepEqual(jsonLines(alices)[0]!.payment, payment);
    const file = join(world.folder, "receipt.json");
    writeFileSync(file, alices.stdout);
    const verified = await runTool("client.ts", [
      "verify",
      file,
      "--json",
      "--server-key",
      join(world.serverKeys, "server_public.pem"),
    ]);
    const { time, ...said } = jsonLines(verified)[0]!;
    assert.deepEqual(said, {
      valid: true,
      payment,
      payer: "alice",
      payee: "bob",
      amount: "12.50",
      unit: "EUR",
      index: 5,
      server: serverFingerprint(world),
      payer_key: fingerprintOf(join(world.keysOf("alice"), "alice_public.pem")),
    });
    assert.match(String(time), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);

    assert.equal((await bob.stop()).status, 130);
    assert.equal((await world.stop()).status, 0);
    const audit = jsonLines(await world.operate("audit"))[0]!;
    const { root, ...counted } = audit;
    assert.deepEqual(counted, { valid: true, entries: 6, accounts: 2, size: 6, explained: [] });
    assert.match(String(root), /^[\w-]{43}$/);
  },
);

test(
  "a payee who is offline is paid through the server and sees it at the next listen, once",
  SLOW,
  async () => {
    const world = await PaymentWorld.start();
    await world.register("alice", "bob");
    const paid = await world.ask("alice", "pay", "bob", "1");
    assert.equal(paid.path, "server");
    const first = await world.listen("bob");
    assert.equal((await first.nextJson(({ event }) => event === "paid")).payment, paid.payment);
    await first.stop();
    const second = await world.ask("alice", "pay", "bob", "2");
    const again = await world.listen("bob");
    assert.equal((await again.nextJson(({ event }) => event === "paid")).payment, second.payment);
    assert.ok(!(await again.stop()).stdout.includes(String(paid.payment)));
    await world.stop();
  },
);

test("commands beside a listener do not disturb it", SLOW, async () => {
  const world = await PaymentWorld.start();
  await world.register("alice", "bob");
  const bob = await world.listen("bob");
  assert.equal((await world.ask("bob", "balance")).balance, "10000.00");
  assert.equal((await world.ask("bob", "pay", "alice", "5")).balance, "9995.00");
  assert.equal((await world.ask("alice", "pay", "bob", "7")).path, "direct");
  assert.equal((await bob.nextJson(({ event }) => event === "paid")).amount, "7.00");
  await bob.stop();
  await world.stop();
});

test(
  "a second listener takes the first one's place, and the first says so and stays away",
  SLOW,
  async () => {
    const world = await PaymentWorld.start();
    await world.register("bob");
    const first = await world.listen("bob");
    const second = await world.listen("bob");
    const outcome = await first.ended;
    assert.equal(outcome.status, 1);
    assert.equal((jsonLines(outcome).at(-1)!.error as { code: string }).code, "displaced");
    await second.stop();
    await world.stop();
  },
);

test("list shows who is online, and history every payment with its balance", SLOW, async () => {
  const world = await PaymentWorld.start();
  await world.register("alice", "bob");
  const bob = await world.listen("bob");
  const { online, next, account, balance } = await world.ask("alice", "list");
  assert.deepEqual([account, balance, next], ["alice", "10000.00", null]);
  const [row] = online as { name: string; host: string; port: number; fingerprint: string }[];
  assert.deepEqual([row!.name, row!.host], ["bob", "127.0.0.1"]);
  assert.match(row!.fingerprint, /^[\w-]{43}$/);
  const { payment } = await world.ask("alice", "pay", "bob", "3.10", "--memo", "for you");
  const lines = jsonLines(await world.client("bob", "history"));
  assert.equal(lines.length, 2);
  assert.deepEqual({ ...lines[0], payment: null, time: null }, {
    payment: null,
    time: null,
    payer: "@treasury",
    payee: "bob",
    amount: "10000.00",
    memo: null,
    balance: "10000.00",
  });
  assert.deepEqual({ ...lines[1], time: null }, {
    payment,
    time: null,
    payer: "alice",
    payee: "bob",
    amount: "3.10",
    memo: "for you",
    balance: "10003.10",
  });
  await bob.stop();
  await world.stop();
});

test("history gives all pages", SLOW, async () => {
  const world = await PaymentWorld.start();
  await world.register("alice", "bob");
  const file = join(world.folder, "batch.csv");
  writeFileSync(file, "bob,0.01\n".repeat(250));
  const paid = await world.client("alice", "pay", "--batch", file);
  assert.equal(paid.status, 0, paid.stderr);
  assert.equal(jsonLines(paid).length, 250);
  const lines = jsonLines(await world.client("bob", "history"));
  assert.equal(lines.length, 251);
  assert.equal(lines.at(-1)!.balance, "10002.50");
  await world.stop();
});

test(
  "a batch pays all or none, and each payee's receipt shows that payee's item alone",
  SLOW,
  async () => {
    const world = await PaymentWorld.start();
    await world.register("alice", "bob", "carol");
    const file = join(world.folder, "batch.csv");
    writeFileSync(file, "bob,1.25\ncarol,2.50\n\n");
    const lines = jsonLines(await world.client("alice", "pay", "--batch", file));
    assert.deepEqual(
      lines.map(({ payee, amount, path, balance }) => [payee, amount, path, balance]),
      [
        ["bob", "1.25", "server", "9996.25"],
        ["carol", "2.50", "server", "9996.25"],
      ],
    );
    const receipt = await world.client("carol", "receipt", String(lines[1]!.payment));
    assert.equal(receipt.status, 0, receipt.stderr);
    const quoted = new TextDecoder().decode(
      parseTlogProof(jsonLines(receipt)[0]!.receipt).extra!,
    );
    const { item, items } = JSON.parse(quoted);
    assert.deepEqual([JSON.parse(item).payee, items], ["carol", undefined]);
    assert.ok(!quoted.includes("bob"));
    const path = join(world.folder, "receipt.json");
    writeFileSync(path, receipt.stdout);
    const key = join(world.serverKeys, "server_public.pem");
    const verified = jsonLines(
      await runTool("client.ts", ["verify", path, "--json", "--server-key", key]),
    )[0]!;
    assert.deepEqual([verified.payee, verified.amount, verified.payment], [
      "carol",
      "2.50",
      lines[1]!.payment,
    ]);

    writeFileSync(file, "bob,9000\ncarol,9000\n");
    const refused = await world.client("alice", "pay", "--batch", file);
    assert.equal(refused.status, 1);
    assert.equal(errorCode(refused), "insufficient_funds");
    assert.equal((await world.ask("bob", "balance")).balance, "10001.25");
    await world.stop();
  },
);

test("grant issues money beside a running server, once for an id", SLOW, async () => {
  const world = await PaymentWorld.start();
  await world.register("bob");
  const id = "11111111-2222-4333-8444-555555555555";
  for (let time = 0; time < 2; time++) {
    const granted = jsonLines(await world.operate("grant", "bob", "50", "--id", id))[0]!;
    assert.deepEqual(granted, { account: "bob", amount: "50.00", balance: "10050.00" });
  }
  const other = await world.operate("grant", "bob", "51", "--id", id);
  assert.equal(errorCode(other), "order_conflict");
  const nobody = await world.operate("grant", "nobody", "1");
  assert.deepEqual([nobody.status, errorCode(nobody)], [
    1,
    "unknown_account",
  ]);
  assert.equal((await world.ask("bob", "balance")).balance, "10050.00");
  assert.equal(jsonLines(await world.operate("audit"))[0]!.valid, true);
  await world.stop();
});

test(
  "pay --id pays once however often it is run, and refuses another payment under the id",
  SLOW,
  async () => {
    const world = await PaymentWorld.start();
    await world.register("alice", "bob");
    const id = "21111111-2222-4333-8444-555555555555";
    for (let time = 0; time < 3; time++) {
      const paid = await world.ask("alice", "pay", "bob", "4", "--id", id);
      assert.deepEqual([paid.payment, paid.balance], [id, "9996.00"]);
    }
    const other = await world.client("alice", "pay", "bob", "5", "--id", id);
    assert.equal(other.status, 1);
    const line = jsonLines(other)[0]!;
    assert.deepEqual([(line.error as { code: string }).code, line.payment], ["order_conflict", id]);
    await world.stop();
  },
);

test("--direct pays directly or not at all", SLOW, async () => {
  const world = await PaymentWorld.start();
  await world.register("alice", "bob");
  const refused = await world.client("alice", "pay", "bob", "4", "--direct");
  assert.equal(refused.status, 1);
  assert.equal(errorCode(refused), "payee_unreachable");
  const bob = await world.listen("bob");
  assert.equal((await world.ask("alice", "pay", "bob", "4", "--direct")).path, "direct");
  assert.equal((await world.ask("alice", "pay", "bob", "4", "--via-server")).path, "server");
  assert.equal((await world.ask("alice", "balance")).balance, "9992.00");
  await bob.stop();
  await world.stop();
});

test("private files are for their owner alone", SLOW, async () => {
  const world = await PaymentWorld.start();
  await world.register("alice", "bob");
  await world.ask("alice", "pay", "bob", "1");
  const kept = join(world.keysOf("alice"), "alice_receipts");
  const receipts = readdirSync(kept).map((name) => join(kept, name));
  assert.equal(receipts.length, 1);
  const files = [
    join(world.serverKeys, "server_private.pem"),
    join(world.serverKeys, "server_key.pem"),
    join(world.serverKeys, "server_log_key.pem"),
    world.db,
    join(world.keysOf("alice"), "alice_private.pem"),
    join(world.keysOf("alice"), `checkpoint_${serverFingerprint(world)}.txt`),
    ...receipts,
  ];
  for (const file of files) assert.equal(statSync(file).mode & 0o777, 0o600, file);
  await world.stop();
});

test(
  "the ledger file and the keys survive a restart, and the certificate stays",
  SLOW,
  async () => {
    const world = await PaymentWorld.start();
    await world.register("alice");
    const certificate = readFileSync(join(world.serverKeys, "server_cert.pem"), "utf8");
    assert.equal((await world.server.stop("SIGINT")).status, 0);
    await world.startServer();
    assert.equal(readFileSync(join(world.serverKeys, "server_cert.pem"), "utf8"), certificate);
    assert.equal((await world.ask("alice", "balance")).balance, "10000.00");
    await world.stop();
  },
);

test(
  "the interactive client reads the same commands, from a pipe too, and a failing one ends nothing",
  SLOW,
  async () => {
    const world = await PaymentWorld.start();
    await world.register("bob");
    const keys = world.keysOf("carol");
    const stdin =
      "register carol\nlogin carol\npay bob 3 hi there\nsing\npay bob 999999\nbalance\nexit\nbalance\n";
    const outcome = await runTool("client.ts", [
      "127.0.0.1",
      String(world.port),
      "--json",
      "--keys",
      keys,
    ], { stdin });
    const lines = jsonLines(outcome);
    assert.deepEqual(
      lines.map((line) => (line.error as { code: string } | undefined)?.code ?? line.balance),
      [
        "10000.00",
        "9997.00",
        "usage",
        "insufficient_funds",
        "9997.00",
      ],
    );
    assert.equal(outcome.status, 0);
    assert.doesNotMatch(outcome.stderr, /connection was lost/);
    await world.stop();
  },
);

test(
  "a server stops at a ledger that another key signed, and grant and audit make no keys",
  SLOW,
  async () => {
    const world = await PaymentWorld.start();
    await world.register("bob");
    await world.stop();
    const other = join(world.folder, "other_keys");
    const files = ["--db", world.db, "--json"];
    const started = await runTool("server.ts", ["0", "--keys", other, ...files]);
    assert.equal(started.status, 1);
    assert.equal(
      errorCode(started),
      "ledger_of_another_server",
    );
    const nowhere = join(world.folder, "no_keys");
    for (const command of [["grant", "bob", "1"], ["audit"]]) {
      const outcome = await runTool("server.ts", [...command, "--keys", nowhere, ...files]);
      assert.deepEqual([outcome.status, errorCode(outcome)], [
        1,
        "key_missing",
      ]);
    }
    assert.equal(existsSync(nowhere), false);
  },
);
