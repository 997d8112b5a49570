/** The payment server under `--classic`, and the C++ clients that it serves. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, test } from "node:test";
import { loadAccountKeys } from "../../../lib/keys/key_files.ts";
import { parseAccountName } from "../../../lib/keys/rsa.ts";
import { makeSessionKey } from "../../../lib/protocol/delegation.ts";
import { ClassicPeer, OpensslClient, readList } from "../../support/classic_peer.ts";
import { errorCode, jsonLines, PaymentWorld } from "../../support/payment_world.ts";
import { WireClient } from "../../support/wire_client.ts";
import { until } from "../../support/support.ts";

const SLOW = { timeout: 60_000 };

let world: PaymentWorld;
let certificate: string;
let named = 0;
const peers: ClassicPeer[] = [];

before(async () => {
  world = await PaymentWorld.start({ serverArgs: ["--classic"] });
  certificate = join(world.serverKeys, "server_cert.pem");
}, SLOW);

after(async () => {
  for (const peer of peers) peer.close();
  assert.equal((await world.stop()).status, 0);
}, SLOW);

async function connect(): Promise<ClassicPeer> {
  const peer = await ClassicPeer.connect(world.port, certificate);
  peers.push(peer);
  return peer;
}

/** A name that no other test has. */
function fresh(): string {
  return `user${++named}`;
}

/** A registered and logged-in client. */
async function online(name = fresh()): Promise<{ peer: ClassicPeer; name: string }> {
  const peer = await connect();
  await peer.register(name);
  await peer.login(name, 5_000 + named);
  return { peer, name };
}

async function balanceOf(peer: ClassicPeer): Promise<string> {
  return readList(await peer.ask("List")).balance;
}

test("REGISTER is answered 100 OK, and 210 FAIL for a name that is taken", SLOW, async () => {
  const peer = await connect();
  const name = fresh();
  assert.equal(await peer.ask(`REGISTER#${name}`), "100 OK\r\n");
  assert.equal(await peer.ask(`REGISTER#${name}`), "210 FAIL\r\n");
  assert.equal(await peer.ask(`REGISTER#${name.toUpperCase()}`), "210 FAIL\r\n");
});

test(
  "REGISTER takes a public key after the name, of one line or in PEM, and ignores it",
  SLOW,
  async () => {
    const peer = await connect();
    const key = join(world.serverKeys, "server_public.pem");
    const pem = execFileSync("openssl", ["pkey", "-pubin", "-in", key]).toString();
    assert.equal(
      await peer.ask(`REGISTER#${fresh()}#MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A`),
      "100 OK\r\n",
    );
    assert.equal(await peer.ask(`REGISTER#${fresh()}#${pem}`), "100 OK\r\n");
    assert.equal(await peer.ask(`REGISTER#${fresh()}#${pem.trim()}\r\n`), "100 OK\r\n");
    assert.deepEqual(await peer.quiet(300), []);
  },
);

test(
  "login answers balance, the server's key on one line, the count, and who is online",
  SLOW,
  async () => {
    const [first, second] = [await connect(), await connect()];
    const [one, other] = [fresh(), `User${++named}`];
    await first.register(one);
    await second.register(other);
    await first.login(one, 6_001);
    const answer = await second.ask(`${other}#6002`);
    const { balance, key, rows } = readList(answer);
    assert.equal(balance, "10000");
    const spki = execFileSync("openssl", [
      "pkey",
      "-pubin",
      "-in",
      join(world.serverKeys, "server_public.pem"),
      "-outform",
      "DER",
    ]).toString("base64");
    assert.equal(key, spki);
    assert.ok(rows.includes(`${one}#127.0.0.1#6001`), answer!);
    assert.ok(rows.includes(`${other}#127.0.0.1#6002`), "a name is echoed as its session wrote it");
    assert.equal(answer!.split("\r\n").at(-1), "");
  },
);

test("login is refused for an unknown account and for one that has a key", SLOW, async () => {
  const keyed = fresh();
  await world.register(keyed);
  const peer = await connect();
  assert.equal(await peer.ask(`${fresh()}#5000`), "220 AUTH_FAIL\r\n");
  assert.equal(await peer.ask(`${keyed}#5000`), "220 AUTH_FAIL\r\n");
  assert.equal(await peer.ask(`${keyed.toUpperCase()}#5000`), "220 AUTH_FAIL\r\n");
  assert.equal(await peer.ask("@treasury#5000"), "220 AUTH_FAIL\r\n");
  assert.equal(await peer.ask(`REGISTER#${keyed}`), "210 FAIL\r\n");
  assert.equal(await peer.ask("REGISTER#@treasury"), "210 FAIL\r\n");
  for (const reserved of ["server", "admin", "Treasury", "root", "operator", "system", "support"]) {
    assert.equal(await peer.ask(`REGISTER#${reserved}`), "210 FAIL\r\n");
    assert.equal(await peer.ask(`${reserved}#5000`), "220 AUTH_FAIL\r\n");
  }
});

test(
  "login is refused for an account that is online elsewhere, until it leaves",
  SLOW,
  async () => {
    const { peer, name } = await online();
    const second = await connect();
    assert.equal(await second.ask(`${name.toUpperCase()}#7001`), "220 AUTH_FAIL\r\n");
    assert.equal(await second.ask("List"), "Please Login First\r\n");
    assert.equal(await peer.ask("Exit"), "Bye\r\n");
    assert.equal(await peer.read(), null);
    assert.equal((await second.login(name, 7_001)).balance, "10000");
  },
);

test("a session logs in again to change its port, and not as somebody else", SLOW, async () => {
  const { peer, name } = await online();
  const other = fresh();
  await peer.register(other);
  assert.equal(await peer.ask(`${other}#7002`), "220 AUTH_FAIL\r\n");
  assert.ok((await peer.login(name, 7_003)).rows.includes(`${name}#127.0.0.1#7003`));
});

test("a port out of 1024 to 65535 is Invalid port range", SLOW, async () => {
  const peer = await connect();
  const name = fresh();
  await peer.register(name);
  for (const port of ["1023", "0", "65536", "99999999999", "-5", "", "port", "5000.5", "1e4"]) {
    assert.equal(await peer.ask(`${name}#${port}`), "Invalid port range.\r\n", port);
  }
  assert.equal((await peer.login(name, 1_024)).balance, "10000");
  assert.equal((await peer.login(name, 65_535)).balance, "10000");
});

test("List before login is Please Login First", SLOW, async () => {
  assert.equal(await (await connect()).ask("List"), "Please Login First\r\n");
});

test("a payment sent by its payee's session moves the money", SLOW, async () => {
  const [payer, payee] = [await online(), await online()];
  const order = `${payer.name}#30#${payee.name}`;
  assert.equal(
    await payee.peer.ask(order),
    `Transfer Successful: 30 from ${payer.name} to ${payee.name}.\r\n`,
  );
  assert.equal(await balanceOf(payer.peer), "9970");
  assert.equal(await balanceOf(payee.peer), "10030");
});

test("names in an order are folded, and echoed as the order has them", SLOW, async () => {
  const [payer, payee] = [await online(), await online()];
  const [from, to] = [payer.name.toUpperCase(), payee.name.toUpperCase()];
  assert.equal(
    await payee.peer.ask(`${from}#1#${to}\r\n`),
    `Transfer Successful: 1 from ${from} to ${to}.\r\n`,
  );
});

test("a payer who is not online is Sender not logged in", SLOW, async () => {
  const payee = await online();
  const offline = fresh();
  await payee.peer.register(offline);
  for (const payer of [offline, fresh(), "", "@treasury", "a b"]) {
    assert.equal(await payee.peer.ask(`${payer}#1#${payee.name}`), "Sender not logged in.\r\n");
  }
  assert.equal(await balanceOf(payee.peer), "10000");
});

test("nobody makes the treasury pay", SLOW, async () => {
  const mallory = await online("mallory");
  assert.equal(await mallory.peer.ask("@treasury#1000000#mallory"), "Sender not logged in.\r\n");
  assert.equal(await balanceOf(mallory.peer), "10000");
});

test("an order for an account that has a key is refused, online or not", SLOW, async () => {
  const keyed = fresh();
  await world.register(keyed);
  const listener = await world.listen(keyed);
  const payee = await online();
  assert.equal(await payee.peer.ask(`${keyed}#5#${payee.name}`), "Sender not logged in.\r\n");
  await listener.stop();
  assert.equal((await world.ask(keyed, "balance")).balance, "10000.00");
});

test("a payee that is not the session's own account is Recipient not found", SLOW, async () => {
  const [payer, payee, third] = [await online(), await online(), await online()];
  const order = `${payer.name}#5#${payee.name}`;
  assert.equal(await third.peer.ask(order), "Recipient not found.\r\n");
  assert.equal(await payer.peer.ask(order), "Recipient not found.\r\n");
  assert.equal(await payee.peer.ask(`${payer.name}#5#${fresh()}`), "Recipient not found.\r\n");
  assert.equal(await payee.peer.ask(`${payee.name}#5#${payee.name}`), "Recipient not found.\r\n");
  assert.equal(await (await connect()).ask(order), "Recipient not found.\r\n");
  assert.equal(await balanceOf(payer.peer), "10000");
});

test("more than the payer has is Insufficient balance", SLOW, async () => {
  const [payer, payee] = [await online(), await online()];
  assert.equal(
    await payee.peer.ask(`${payer.name}#10001#${payee.name}`),
    "Insufficient balance.\r\n",
  );
  assert.equal(
    await payee.peer.ask(`${payer.name}#10000#${payee.name}`),
    `Transfer Successful: 10000 from ${payer.name} to ${payee.name}.\r\n`,
  );
  assert.equal(await balanceOf(payer.peer), "0");
});

test("no amount but a whole number of units, more than none, is an order", SLOW, async () => {
  const [payer, payee] = [await online(), await online()];
  const amounts = ["-5", "0", "0.5", "1.00", "", "1e9", "+1", " 1", "0x10", "007", "1,000", "½"];
  for (const amount of [...amounts, "90071992547410", "9".repeat(40), "NaN"]) {
    const answer = await payee.peer.ask(`${payer.name}#${amount}#${payee.name}`);
    assert.equal(answer, "Invalid command format.\r\n", amount);
  }
  assert.equal(await balanceOf(payer.peer), "10000");
});

test("anything else is Invalid command format, and the session goes on", SLOW, async () => {
  const { peer, name } = await online();
  const others = ["hello", "LIST", "list", "exit", " ", "\u0007", "a#1#b#c", "\u0000"];
  for (
    const text of [...others, "x".repeat(1_023), "x".repeat(2_000), "REGISTER", `${name}#1#a#b`]
  ) {
    const answer = await peer.ask(text);
    assert.equal(answer, "Invalid command format.\r\n", JSON.stringify(text.slice(0, 40)));
  }
  assert.equal(await balanceOf(peer), "10000");
});

test(
  "a name with control characters, spaces, other letters, or too long registers nothing",
  SLOW,
  async () => {
    const peer = await connect();
    // The Kelvin sign folds to k, and an İ to an i with a dot.
    for (const name of ["a\u0007b", "a b", "", "käthe", "\u212aarl", "a".repeat(33), ".a", "-a"]) {
      assert.equal(await peer.ask(`REGISTER#${name}`), "210 FAIL\r\n", JSON.stringify(name));
    }
    assert.equal(await peer.ask(`REGISTER#${"a".repeat(2_000)}`), "Invalid command format.\r\n");
    assert.equal(await peer.ask("a\u0007b#5000"), "220 AUTH_FAIL\r\n");
  },
);

test(
  "the line end is optional, of either kind, and may come in a record of its own",
  SLOW,
  async () => {
    const peer = await connect();
    const name = fresh();
    for (
      const [message, answer] of [
        [`REGISTER#${name}\r\n`, "100 OK\r\n"],
        [`REGISTER#${name}\n`, "210 FAIL\r\n"],
        ["List\r", "Please Login First\r\n"],
        ["\n", undefined],
        ["List", "Please Login First\r\n"],
      ] as const
    ) {
      peer.send(message);
      if (answer) assert.equal(await peer.read(), answer);
    }
    peer.send("\r\n");
    assert.deepEqual(await peer.quiet(300), []);
  },
);

test("two messages in one record are answered one after the other", SLOW, async () => {
  const peer = await connect();
  const name = fresh();
  peer.send(`REGISTER#${name}\r\n${name}#5000\r\nnonsense\r\nExit\r\n`);
  let text = "";
  for (let answer; (answer = await peer.read()) !== null;) text += answer;
  assert.match(
    text,
    /^100 OK\r\n10000\n.*\r\n\d+\n(.*#.*\r\n)+Invalid command format\.\r\nBye\r\n$/,
  );
});

test(
  "one message in two records is put together when its first part is none by itself",
  SLOW,
  async () => {
    const { peer, name } = await online();
    const payer = await online();
    for (const [first, second] of [["Li", "st"], [`${name}#80`, "80"], ["List\r", "\n"]] as const) {
      peer.send(first);
      await new Promise((resolve) => setTimeout(resolve, 20));
      peer.send(second);
      readList(await peer.read());
    }
    peer.send(`${payer.name}#2#`);
    await new Promise((resolve) => setTimeout(resolve, 20));
    peer.send(`${name}`);
    const answers = [await peer.read(), ...await peer.quiet(300)];
    // The first part reads as an order to nobody, so both parts are answered; money moves for a
    // whole order alone.
    assert.deepEqual(answers, ["Recipient not found.\r\n", "Invalid command format.\r\n"]);
    assert.equal(await balanceOf(payer.peer), "10000");
  },
);

test("a part of a message that stays alone is Invalid command format", SLOW, async () => {
  const peer = await connect();
  assert.equal(await peer.ask("Lis"), "Invalid command format.\r\n");
  assert.equal(await peer.ask("List"), "Please Login First\r\n");
});

test("openssl s_client is served byte for byte", SLOW, async () => {
  const client = new OpensslClient(world.port, certificate);
  const name = fresh();
  assert.equal(await client.ask(`REGISTER#${name}\n`, "\r\n"), "100 OK\r\n");
  const list = await client.ask(`${name}#5123\n`, `${name}#127.0.0.1#5123\r\n`);
  assert.equal(readList(list).balance, "10000");
  assert.equal(await client.ask("Exit\n", "Bye\r\n"), "Bye\r\n");
  await client.closed();
});

test("a keyed account pays a classic one, which sees cents as cents", SLOW, async () => {
  const keyed = fresh();
  const { peer, name } = await online();
  await world.register(keyed);
  const paid = await world.ask(keyed, "pay", name, "12.50");
  assert.deepEqual([paid.path, paid.balance], ["server", "9987.50"]);
  assert.equal(await balanceOf(peer), "10012.50");
  const memo = await world.client(keyed, "pay", name, "1", "--memo", "psst");
  assert.equal(errorCode(memo), "no_payee_key");
});

test(
  "a classic account pays a keyed one from its own session, and the listener shows it once",
  SLOW,
  async () => {
    const keyed = fresh();
    await world.register(keyed);
    const listener = await world.listen(keyed);
    const { peer, name } = await online();
    const third = await online();
    const order = `${name}#7#${keyed}`;
    assert.equal(await third.peer.ask(order), "Recipient not found.\r\n");
    assert.equal(
      await peer.ask(order),
      `Transfer Successful: 7 from ${name} to ${keyed}.\r\n`,
    );
    const { payer, amount, memo, balance } = await listener.nextJson(({ event }) =>
      event === "paid"
    );
    assert.deepEqual([payer, amount, memo, balance], [name, "7.00", null, "10007.00"]);
    await listener.stop();
    const [, row] = jsonLines(await world.client(keyed, "history"));
    assert.deepEqual([row!.payer, row!.amount], [name, "7.00"]);
    const account = parseAccountName(keyed);
    const pair = await loadAccountKeys(world.keysOf(keyed), account);
    const wire = await WireClient.enter(world, { name: account, pair, session: makeSessionKey() });
    const answer = await wire.call("payment.status", { id: row!.payment, payer: name });
    assert.deepEqual(
      [answer.state, answer.balance, answer.order, answer.delegation],
      ["settled", "10007.00", undefined, undefined],
    );
    const entry = wire.provenEntry(answer);
    assert.ok(entry.type === "transfer");
    assert.deepEqual([entry.payer, entry.payerKey, entry.orderSha256], [name, null, null]);
    wire.close();
    const receipt = await world.client(keyed, "receipt", String(row!.payment));
    assert.equal(errorCode(receipt), "unknown_payment");
  },
);

test("a classic client that vanishes makes room for its next login", SLOW, async () => {
  const { peer, name } = await online();
  peer.close();
  const next = await connect();
  const until_ms = Date.now() + 5_000;
  let answer = await next.ask(`${name}#7777`);
  while (answer === "220 AUTH_FAIL\r\n" && Date.now() < until_ms) {
    answer = await next.ask(`${name}#7777`);
  }
  readList(answer);
});

test(
  "500 classic clients at once stay logged in and served, each answer within 1,023 bytes",
  { timeout: 120_000 },
  async () => {
    const clients: { peer: ClassicPeer; name: string }[] = [];
    for (let count = 0; count < 10; count++) {
      clients.push(...await Promise.all(Array.from({ length: 50 }, () => online())));
    }
    const answers = await Promise.all(clients.map(({ peer }) => peer.ask("List")));
    for (const answer of answers) assert.ok(readList(answer).count >= 10);
    const paid = await Promise.all(clients.map(({ peer, name }, index) => {
      const payer = clients[(index + 1) % clients.length]!;
      return peer.ask(`${payer.name}#1#${name}`);
    }));
    for (const answer of paid) assert.match(answer!, /^Transfer Successful: 1 from /);
    const lists = await Promise.all(clients.map(({ peer }) => peer.ask("List")));
    for (const answer of lists) assert.equal(readList(answer).balance, "10000");
    // No list has all of them, and asking on shows everyone.
    const seen = new Set<string>();
    const { peer } = clients[0]!;
    for (let asked = 0; asked < 90; asked++) {
      for (const row of readList(await peer.ask("List")).rows) seen.add(row.split("#")[0]!);
    }
    for (const { name } of clients) assert.ok(seen.has(name), `${name} is on no list`);
    for (const { peer } of clients) peer.close();
  },
);

test("after all of this the sum is zero and the audit passes", SLOW, async () => {
  const audit = jsonLines(await world.operate("audit"))[0]!;
  assert.equal(audit.valid, true, JSON.stringify(audit));
});

test(
  "without --classic a classic client gets one line that says what to do, and the end",
  SLOW,
  async () => {
    const plain = await PaymentWorld.start();
    const peer = await ClassicPeer.connect(plain.port, join(plain.serverKeys, "server_cert.pem"));
    const line = await peer.ask("REGISTER#bob");
    assert.match(line!, /^This server .* --classic\.\r\n$/);
    assert.equal(await peer.read(), null);
    await plain.register("alice");
    const { status, stderr } = await plain.stop();
    assert.equal(status, 0);
    assert.doesNotMatch(stderr, /classic/);
  },
);

test(
  "a server that takes no new accounts answers 210 FAIL, and serves those there are",
  SLOW,
  async () => {
    const closed = await PaymentWorld.start({
      serverArgs: ["--classic", "--opening-balance", "3"],
    });
    const peer = await ClassicPeer.connect(closed.port, join(closed.serverKeys, "server_cert.pem"));
    await peer.register("early");
    const changed = await closed.operate("settings", "--registration", "closed");
    assert.equal(changed.status, 0, changed.stderr);
    assert.equal(await peer.ask("REGISTER#late"), "210 FAIL\r\n");
    assert.equal((await peer.login("early", 5_000)).balance, "3");
    assert.equal((await closed.stop()).status, 0);
  },
);

test(
  "an order that the ledger cannot take ends its connection: the protocol has no word for it",
  SLOW,
  async () => {
    const damaged = await PaymentWorld.start({ serverArgs: ["--classic"] });
    const peer = await ClassicPeer.connect(
      damaged.port,
      join(damaged.serverKeys, "server_cert.pem"),
    );
    const other = await ClassicPeer.connect(
      damaged.port,
      join(damaged.serverKeys, "server_cert.pem"),
    );
    for (const [by, name, port] of [[peer, "one", 5_001], [other, "two", 5_002]] as const) {
      await by.register(name);
      await by.login(name, port);
    }
    const database = new DatabaseSync(damaged.db);
    database.exec("UPDATE accounts SET balance = balance + 1 WHERE name = 'one'");
    database.close();
    const answer = await other.ask("one#1#two");
    assert.equal(answer, null);
    await until(() => /nothing more is signed/.test(damaged.server.stderrText));
    assert.equal((await damaged.stop()).status, 0);
  },
);

test("--classic warns once of what it does not protect", SLOW, async () => {
  const classic = await PaymentWorld.start({ serverArgs: ["--classic"] });
  const { stderr } = await classic.stop();
  assert.equal(stderr.match(/warning: --classic/g)?.length, 1, stderr);
});
