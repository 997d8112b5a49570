/** The classic client, with servers and clients of ours and of theirs in every combination. */
import assert from "node:assert/strict";
import { constants, createPrivateKey, privateDecrypt } from "node:crypto";
import { Buffer } from "node:buffer";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import net from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { openClassicOffer, sealClassicOffer } from "../../../lib/payment/classic/offer.ts";
import { rsaPublicKeyFromPem } from "../../../lib/keys/rsa.ts";
import {
  ClassicPeer,
  decryptOffer,
  encryptOffer,
  listenForOffers,
  makeClassicKeys,
  sendOffer,
} from "../../support/classic_peer.ts";
import { ClassicServerPeer } from "../../support/classic_server_peer.ts";
import { openssl } from "../../support/openssl.ts";
import { type Json, jsonLines, PaymentWorld } from "../../support/payment_world.ts";
import {
  type Outcome,
  runTool,
  spawnTool,
  temporaryFolder,
  type ToolProcess,
} from "../../support/support.ts";
import { allTests, hex, vectorTest, type Wycheproof } from "../../support/vectors.ts";

const SLOW = { timeout: 60_000 };

const folder = temporaryFolder();
const keys = join(folder, "keys");
const publicKey = join(keys, "B_public.pem");
const privateKey = join(keys, "B_private.pem");
let world: PaymentWorld;
let theirs: ClassicServerPeer;
let named = 0;
const closing: (() => unknown)[] = [];

before(async () => {
  mkdirSync(keys);
  makeClassicKeys(keys);
  const request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=classic"];
  openssl(folder, ...request, "-keyout", "theirs_key.pem", "-out", "theirs.pem", "-days", "30");
  theirs = await ClassicServerPeer.start(
    join(folder, "theirs.pem"),
    join(folder, "theirs_key.pem"),
  );
  world = await PaymentWorld.start({ serverArgs: ["--classic"] });
  copyFileSync(join(world.serverKeys, "server_cert.pem"), join(folder, "ours.pem"));
}, SLOW);

after(async () => {
  for (const close of closing) await close();
  theirs.close();
  assert.equal((await world.stop()).status, 0);
}, SLOW);

type Side = "ours" | "theirs";

function fresh(): string {
  return `person${++named}`;
}

function clientArgs(server: Side, ...args: string[]): string[] {
  const port = String(server === "ours" ? world.port : theirs.port);
  const cert = join(folder, `${server}.pem`);
  return ["127.0.0.1", port, ...args, "--classic", "--json", "--keys", keys, "--server-cert", cert];
}

function client(server: Side, name: string, ...args: string[]): Promise<Outcome> {
  return runTool("client.ts", clientArgs(server, ...args, "--as", name));
}

/** Runs a command that must succeed, and gives its JSON line. */
async function ask(server: Side, name: string, ...args: string[]): Promise<Json> {
  const outcome = await client(server, name, ...args);
  assert.equal(outcome.status, 0, JSON.stringify(outcome));
  return jsonLines(outcome)[0]!;
}

function errorOf(outcome: Outcome): { code: string; message: string } {
  return jsonLines(outcome).at(-1)!.error as { code: string; message: string };
}

/** Our client, registered and listening. */
async function listening(
  server: Side,
  name = fresh(),
): Promise<{ tool: ToolProcess; name: string; port: number }> {
  await ask(server, name, "register");
  const tool = spawnTool("client.ts", clientArgs(server, "listen", "--as", name));
  const { port } = await tool.nextJson(({ event }) => event === "online");
  closing.push(() => tool.stop());
  return { tool, name, port: Number(port) };
}

async function peerAt(server: Side): Promise<ClassicPeer> {
  const port = server === "ours" ? world.port : theirs.port;
  const peer = await ClassicPeer.connect(port, join(folder, `${server}.pem`));
  closing.push(() => peer.close());
  return peer;
}

/** Their client, registered, logged in, and taking offers. */
async function peerListening(server: Side, name = fresh()) {
  const peer = await peerAt(server);
  await peer.register(name);
  const door = await listenForOffers(privateKey, (text) => peer.ask(text));
  closing.push(() => door.close());
  await peer.login(name, door.port);
  return { peer, name, port: door.port };
}

function paidLine(payer: string, balance: string): Json {
  return { event: "paid", payment: null, payer, amount: "25.00", memo: null, balance };
}

for (const server of ["ours", "theirs"] as const) {
  test(`our payer, our payee, ${server === "ours" ? "our" : "their"} server`, SLOW, async () => {
    const payee = await listening(server);
    const payer = fresh();
    assert.deepEqual(await ask(server, payer, "register"), { account: payer, balance: "10000.00" });
    assert.deepEqual(await ask(server, payer, "pay", payee.name, "25"), {
      payment: null,
      payer,
      payee: payee.name,
      amount: "25.00",
      path: "direct",
      balance: "9975.00",
    });
    assert.deepEqual(await payee.tool.nextJson(), paidLine(payer, "10025.00"));
    const { balance, online } = await ask(server, payer, "list");
    assert.equal(balance, "9975.00");
    const row = (online as Json[]).find(({ name }) => name === payee.name);
    assert.deepEqual(row, {
      name: payee.name,
      host: "127.0.0.1",
      port: payee.port,
      fingerprint: null,
    });
    assert.equal((await payee.tool.stop("SIGINT")).status, 130);
  });

  test(`our payer, their payee, ${server === "ours" ? "our" : "their"} server`, SLOW, async () => {
    const payee = await peerListening(server);
    const payer = fresh();
    await ask(server, payer, "register");
    const paid = await ask(server, payer, "pay", payee.name, "25");
    assert.deepEqual([paid.path, paid.balance], ["direct", "9975.00"]);
    const poor = await client(server, payer, "pay", payee.name, "9976");
    assert.equal(poor.status, 1);
    assert.equal(errorOf(poor).code, "insufficient_funds");
  });

  test(`their payer, our payee, ${server === "ours" ? "our" : "their"} server`, SLOW, async () => {
    const payee = await listening(server);
    const payer = await peerListening(server);
    const offer = encryptOffer(`${payer.name}#25#${payee.name}`, publicKey);
    assert.equal(
      await sendOffer(payee.port, offer),
      `Transfer Successful: 25 from ${payer.name} to ${payee.name}.\r\n`,
    );
    assert.deepEqual(await payee.tool.nextJson(), paidLine(payer.name, "10025.00"));
    const much = encryptOffer(`${payer.name}#99999#${payee.name}`, publicKey);
    assert.equal(await sendOffer(payee.port, much), "Insufficient balance.\r\n");
    const stranger = encryptOffer(`${fresh()}#1#${payee.name}`, publicKey);
    assert.equal(await sendOffer(payee.port, stranger), "Sender not logged in.\r\n");
  });
}

test("their payer, their payee, our server", SLOW, async () => {
  const [payer, payee] = [await peerListening("ours"), await peerListening("ours")];
  const row = (await payer.peer.login(payer.name, payer.port)).rows.find((row) =>
    row.startsWith(`${payee.name}#`)
  )!;
  const offer = encryptOffer(`${payer.name}#25#${payee.name}`, publicKey);
  assert.equal(
    await sendOffer(Number(row.split("#")[2]), offer),
    `Transfer Successful: 25 from ${payer.name} to ${payee.name}.\r\n`,
  );
  assert.equal((await payer.peer.login(payer.name, payer.port)).balance, "9975");
});

test(
  "the classic client of old: its commands in any case, on the line or asked for",
  SLOW,
  async () => {
    for (const server of ["ours", "theirs"] as const) {
      const payee = await peerListening(server);
      const name = fresh();
      const script = [`REGISTER ${name}`, "login", name, "LIST", "transaction", payee.name, "25"];
      const more = [`Transaction ${payee.name} 1.5`, "", "dance", "Login Nobody", "eXIT", "List"];
      const outcome = await runTool("client.ts", clientArgs(server), {
        stdin: [...script, ...more].join("\n") + "\n",
      });
      assert.equal(outcome.status, 0, JSON.stringify(outcome));
      const [registered, loggedIn, listed, paid, ...failed] = jsonLines(outcome);
      assert.deepEqual(registered, { account: name });
      assert.deepEqual(loggedIn, { account: name, balance: "10000.00" });
      assert.ok((listed!.online as Json[]).some((row) => row.name === payee.name));
      assert.deepEqual([paid!.payee, paid!.balance], [payee.name, "9975.00"]);
      const codes = failed.map(({ error }) => (error as { code: string }).code);
      assert.deepEqual(codes, ["usage", "usage", "login_refused"]);
      assert.equal(outcome.stderr.match(/warning: --classic/g)?.length, 1, "it warns once");
    }
  },
);

test("our classic client pays an account that has a key, through our server", SLOW, async () => {
  const [payer, keyed] = [fresh(), fresh()];
  await world.register(keyed);
  await ask("ours", payer, "register");
  const paid = await ask("ours", payer, "pay", keyed, "25");
  assert.deepEqual([paid.path, paid.balance], ["server", "9975.00"]);
  assert.equal((await world.ask(keyed, "balance")).balance, "10025.00");
  const nobody = await client("ours", payer, "pay", fresh(), "25");
  assert.equal(errorOf(nobody).code, "unknown_payee");
});

test(
  "our server folds names, and our client pays the one that is shown, in its letters",
  SLOW,
  async () => {
    const payee = await listening("ours", `Person${++named}`);
    const payer = fresh();
    await ask("ours", payer.toUpperCase(), "register");
    const paid = await ask("ours", payer, "pay", payee.name, "25");
    assert.deepEqual([paid.payer, paid.payee], [payer, payee.name]);
    const other = errorOf(await client("ours", payer, "pay", payee.name.toUpperCase(), "25"));
    assert.equal(other.code, "unknown_payee");
    assert.match(other.message, new RegExp(`"${payee.name}" is online, and capital letters count`));
    assert.equal(errorOf(await client("ours", payer, "register")).code, "name_taken");
  },
);

test(
  "at their server Bob and bob are two people, and only the one who is named is paid",
  SLOW,
  async () => {
    const name = fresh();
    const capital = await peerListening("theirs", `P${name.slice(1)}`);
    await (await peerAt("theirs")).register(name);
    const payer = fresh();
    await ask("theirs", payer, "register");
    const paid = await ask("theirs", payer, "pay", name, "50");
    assert.deepEqual([paid.payee, paid.path], [name, "server"]);
    assert.equal(theirs.accounts.get(name)!.balance, 10_050);
    assert.equal(theirs.accounts.get(capital.name)!.balance, 10_000);
    const payee = await listening("theirs", fresh());
    const offer = encryptOffer(`${payer}#25#${payee.name.toUpperCase()}`, publicKey);
    assert.equal(await sendOffer(payee.port, offer), null);
  },
);

test(
  "their server's names hold any character, and all who are online are shown",
  SLOW,
  async () => {
    const names = [`王小明${++named}`, `a@b.c${named}`, `Zoë ${named}`];
    // The C++ programs take bytes as they come.
    const bytesOf = (name: string) => Buffer.from(name, "utf8").toString("latin1");
    for (const name of names) await peerListening("theirs", bytesOf(name));
    const payer = fresh();
    await ask("theirs", payer, "register");
    const { online } = await ask("theirs", payer, "list");
    const shown = (online as { name: string }[]).map(({ name }) => name);
    for (const name of names) {
      assert.ok(shown.includes(name), name);
      const paid = await ask("theirs", payer, "pay", name, "1");
      assert.deepEqual([paid.payee, paid.path], [name, "direct"]);
    }
    const payee = await listening("theirs", `李雷${++named}`);
    await ask("theirs", payer, "pay", payee.name, "2");
    const event = await payee.tool.nextJson(({ event }) => event === "paid");
    assert.deepEqual([event.payer, event.balance], [payer, "10002.00"]);
  },
);

test("answers that end with a NUL say what was refused, without a wait", SLOW, async () => {
  const payer = fresh();
  assert.equal(errorOf(await client("theirs", payer, "list")).code, "login_refused");
  await ask("theirs", payer, "register");
  const begun_ms = performance.now();
  assert.equal(errorOf(await client("theirs", payer, "pay", fresh(), "5")).code, "unknown_payee");
  const payee = await peerListening("theirs");
  const poor = errorOf(await client("theirs", payer, "pay", payee.name, "10001"));
  assert.equal(poor.code, "insufficient_funds");
  assert.ok(performance.now() - begun_ms < 20_000);
});

test("a listener that the server has logged out notices, and says so", SLOW, async () => {
  const payee = await listening("theirs");
  theirs.accounts.get(payee.name)!.online = null;
  const { status, stderr } = await payee.tool.ended;
  assert.equal(status, 1);
  assert.match(stderr, /the server no longer shows \S+ online: another client of this account/);
});

test(
  "keys of the C++ programs in the working folder are named, with how to use them",
  SLOW,
  async () => {
    const cwd = temporaryFolder();
    writeFileSync(join(cwd, "B_public.pem"), "x");
    const payee = await peerListening("ours");
    const payer = fresh();
    await ask("ours", payer, "register");
    const args = clientArgs("ours", "pay", payee.name, "5", "--as", payer);
    const { stderr } = await runTool("client.ts", args, { cwd });
    assert.match(stderr, /B_public\.pem, where the C\+\+ programs look, .*--keys \./);
  },
);

test("an offer that was seen before is refused, and the money moves once", SLOW, async () => {
  const payee = await listening("ours");
  const payer = await peerListening("ours");
  const offer = encryptOffer(`${payer.name}#25#${payee.name}`, publicKey);
  assert.match((await sendOffer(payee.port, offer))!, /^Transfer Successful/);
  assert.equal(await sendOffer(payee.port, offer), null);
  const sameText = encryptOffer(`${payer.name}#25#${payee.name}\r\n`, publicKey);
  assert.match((await sendOffer(payee.port, sameText))!, /^Transfer Successful/);
  assert.equal((await payer.peer.login(payer.name, payer.port)).balance, "9950");
});

/** What reached the server since then, but for how listeners ask whether they are still logged in. */
function sentSince(count: number): string[] {
  return theirs.messages.slice(count).filter((message) => message !== "List");
}

test("an offer that is no order to this account never reaches the server", SLOW, async () => {
  const payee = await listening("theirs");
  const payer = await peerListening("theirs");
  makeClassicKeys(folder, "other");
  const good = `${payer.name}#1#${payee.name}`;
  const before = theirs.messages.length;
  const bad: [string, Uint8Array][] = [
    ["encrypted under another key", encryptOffer(good, join(folder, "other_public.pem"))],
    ["noise", crypto.getRandomValues(new Uint8Array(256))],
    ["larger than the modulus", new Uint8Array(256).fill(0xff)],
    ["zero", new Uint8Array(256)],
    ["too long", new Uint8Array([...encryptOffer(good, publicKey), 0])],
    ["for another payee", encryptOffer(`${payee.name}#1#${payer.name}`, publicKey)],
    ["a command", encryptOffer("Exit", publicKey)],
    ["another command", encryptOffer("REGISTER#mallory", publicKey)],
    ["two messages", encryptOffer(`${good}\r\nExit`, publicKey)],
    ["a fraction", encryptOffer(`${payer.name}#0.5#${payee.name}`, publicKey)],
    ["a negative amount", encryptOffer(`${payer.name}#-1#${payee.name}`, publicKey)],
    ["a payer that is no name", encryptOffer(`#1#${payee.name}`, publicKey)],
  ];
  for (const [what, offer] of bad) assert.equal(await sendOffer(payee.port, offer), null, what);
  assert.deepEqual(sentSince(before), []);
  assert.match(
    (await sendOffer(payee.port, encryptOffer(good, publicKey)))!,
    /^Transfer Successful/,
    "the door is open as before",
  );
});

test("a payer who sends nothing, or half an offer, is let go of", SLOW, async () => {
  const payee = await listening("ours");
  const [silent, half] = [
    await ClassicPeer.connectPlain(payee.port),
    await ClassicPeer.connectPlain(payee.port),
  ];
  half.send(new Uint8Array(100));
  assert.deepEqual(await Promise.all([silent.read(), half.read()]), [null, null]);
});

/** A payee who answers what `relay` says. */
async function lyingPayee(relay: (order: string, peer: ClassicPeer) => Promise<string | null>) {
  const peer = await peerAt("ours");
  const name = fresh();
  await peer.register(name);
  const door = await listenForOffers(privateKey, (text) => relay(text, peer));
  closing.push(() => door.close());
  await peer.login(name, door.port);
  return name;
}

test("a payee's lie is no outcome: the payer goes by the server's balance", SLOW, async () => {
  const payer = fresh();
  await ask("ours", payer, "register");
  const notSent = await lyingPayee((text) =>
    Promise.resolve(`Transfer Successful: 25 from ${text.split("#")[0]} to me.\r\n`)
  );
  const denied = await lyingPayee(async (text, peer) => {
    await peer.ask(text);
    return "Insufficient balance.\r\n";
  });
  const silent = await lyingPayee(() => Promise.resolve(null));
  for (
    const [payee, balance] of [[notSent, "10000.00"], [denied, "9975.00"], [silent, "9975.00"]]
  ) {
    const outcome = await client("ours", payer, "pay", payee!, "25");
    assert.equal(outcome.status, 3, payee);
    const { code, message } = errorOf(outcome);
    assert.equal(code, "outcome_unknown");
    assert.match(message, new RegExp(`is ${balance}`));
  }
});

test("a payee whose port nobody listens on is not paid", SLOW, async () => {
  const [payer, peer, name] = [fresh(), await peerAt("ours"), fresh()];
  await ask("ours", payer, "register");
  await peer.register(name);
  const free = net.createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => free.once("listening", resolve));
  const { port } = free.address() as net.AddressInfo;
  await new Promise((resolve) => free.close(resolve));
  await peer.login(name, port);
  const outcome = await client("ours", payer, "pay", name, "25");
  assert.deepEqual([outcome.status, errorOf(outcome).code], [1, "payee_unreachable"]);
});

test(
  "another certificate than the pinned one stops the client before anything is sent",
  SLOW,
  async () => {
    const before = theirs.messages.length;
    const args = ["127.0.0.1", String(theirs.port), "register", "--as", "bob", "--classic"];
    const cert = ["--server-cert", join(folder, "ours.pem"), "--keys", temporaryFolder()];
    const changed = await runTool("client.ts", [...args, ...cert, "--json"]);
    assert.equal(changed.status, 3);
    assert.equal(errorOf(changed).code, "server_changed");
    assert.match(changed.stderr, /THE SERVER IS NOT THE ONE THAT IT WAS/);
    const unknown = await runTool("client.ts", [...args, "--keys", temporaryFolder(), "--json"]);
    assert.deepEqual([unknown.status, errorOf(unknown).code], [3, "server_untrusted"]);
    assert.deepEqual(sentSince(before), []);
  },
);

test("a server trusted on first use is remembered", SLOW, async () => {
  const known = temporaryFolder();
  const args = [
    "127.0.0.1",
    String(theirs.port),
    "register",
    "--classic",
    "--json",
    "--keys",
    known,
  ];
  const first = await runTool("client.ts", [...args, "--as", fresh(), "--accept-new"]);
  assert.equal(first.status, 0, first.stderr);
  const second = await runTool("client.ts", [...args, "--as", fresh()]);
  assert.equal(second.status, 0, second.stderr);
});

test("what the classic protocol does not have is wrong usage", SLOW, async () => {
  const payer = fresh();
  for (
    const args of [
      ["history"],
      ["balance"],
      ["pay", "bob", "1.50"],
      ["pay", "bob", "0"],
      ["pay", "bob"],
      ["pay", "a#b", "1"],
      ["pay", "bob", "1", "--memo", "x"],
      ["pay", "bob", "1", "--via-server"],
    ]
  ) {
    assert.equal((await client("ours", payer, ...args)).status, 2, args.join(" "));
  }
});

test("without B_public.pem there is no offer, and the error names the file", SLOW, async () => {
  const payee = await peerListening("ours");
  const payer = fresh();
  await ask("ours", payer, "register");
  const bare = [...clientArgs("ours", "pay", payee.name, "1", "--as", payer)];
  bare[bare.indexOf("--keys") + 1] = temporaryFolder();
  const outcome = await runTool("client.ts", bare);
  assert.equal(errorOf(outcome).code, "key_missing");
  assert.match(errorOf(outcome).message, /B_public\.pem/);
});

test("openssl opens our offers, and we open openssl's", SLOW, () => {
  const sealed = sealClassicOffer(
    "alice#5#bob",
    rsaPublicKeyFromPem(readFileSync(publicKey, "utf8")).key,
  );
  assert.equal(sealed.length, 256);
  assert.equal(decryptOffer(sealed, privateKey), "alice#5#bob");
  const key = createPrivateKey(readFileSync(privateKey, "utf8"));
  const opened = openClassicOffer(encryptOffer("alice#5#bob", publicKey), key);
  assert.equal(new TextDecoder().decode(opened), "alice#5#bob");
});

interface OaepTest {
  msg: string;
  ct: string;
  label: string;
}

vectorTest<Wycheproof<OaepTest, { privateKeyPkcs8: string }>>(
  "RSA-OAEP with SHA-1 opens what Wycheproof calls valid, and nothing else",
  "wycheproof_rsa_oaep_2048_sha1_mgf1sha1_test.json",
  (vectors) => {
    let opened = 0;
    for (const { tcId, msg, ct, label, result, group, comment } of allTests(vectors)) {
      // Classic offers have no label.
      if (label !== "") continue;
      const key = createPrivateKey({
        key: Uint8Array.from(hex(group.privateKeyPkcs8)) as never,
        format: "der",
        type: "pkcs8",
      });
      const open = () => openClassicOffer(hex(ct), key);
      if (result === "invalid") assert.throws(open, { code: "bad_offer" }, `${tcId} ${comment}`);
      else {
        assert.deepEqual(open(), hex(msg), `${tcId} ${comment}`);
        opened++;
      }
    }
    assert.ok(opened > 0);
  },
);

test("a ciphertext plus the modulus, which would open to the same text, is refused", SLOW, () => {
  const pem = readFileSync(privateKey, "utf8");
  const key = createPrivateKey(pem);
  const modulus = BigInt(
    `0x${openssl(keys, "rsa", "-in", privateKey, "-modulus", "-noout").trim().split("=")[1]}`,
  );
  for (let tried = 0; tried < 200; tried++) {
    const offer = encryptOffer("alice#5#bob", publicKey);
    const shifted = BigInt(`0x${offer.toHex()}`) + modulus;
    if (shifted >= 1n << 2048n) continue;
    const replay = hex(shifted.toString(16).padStart(512, "0"));
    assert.throws(() => openClassicOffer(replay, key), { code: "bad_offer" });
    return;
  }
  // A modulus so near to 2^2048 that none of them fits.
  const padding = { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: "sha1" };
  assert.throws(() => privateDecrypt({ key, ...padding }, new Uint8Array(256).fill(0xff)));
});

test("after all of this the sum is zero and the audit passes", SLOW, async () => {
  const audit = jsonLines(await world.operate("audit"))[0]!;
  assert.equal(audit.valid, true, JSON.stringify(audit));
});
