/**
 * Receipts as people handle them: printed, kept, sent about, and verified by whoever has the
 * server's key.
 */
import assert from "node:assert/strict";
import { copyFileSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { loadServerPublicKey } from "../../../lib/keys/key_files.ts";
import { verifyReceipt } from "../../../lib/ledger/receipt.ts";
import { errorCode, type Json, jsonLines, PaymentWorld } from "../../support/payment_world.ts";
import { type Outcome, runTool, temporaryFolder } from "../../support/support.ts";

const OPTIONS = { timeout: 120_000 };
const BATCH_ITEM = 1;

let world: PaymentWorld;
/** Another server, with an alice and a bob of its own. */
let elsewhere: PaymentWorld;
let payment: string;
let item: string;
/** The receipt of alice's payment to bob, as alice's client prints it. */
let text: string;
let files = 0;

before(async () => {
  [world, elsewhere] = await Promise.all([PaymentWorld.start(), PaymentWorld.start()]);
  for (const each of [world, elsewhere]) await each.register("alice", "bob");
  await world.register("carol");
  payment = String((await world.ask("alice", "pay", "bob", "4", "for", "tea")).payment);
  const batch = join(world.folder, "batch.csv");
  writeFileSync(batch, "bob,1.25\ncarol,2.50\n");
  const paid = jsonLines(await world.client("alice", "pay", "--batch", batch));
  item = String(paid[BATCH_ITEM]!.payment);
  text = await receiptText(world, "alice", payment);
}, OPTIONS);

after(async () => {
  for (const each of [world, elsewhere]) await each.stop();
}, OPTIONS);

function fingerprintOf(of: PaymentWorld): string {
  return loadServerPublicKey(keyFile(of)).thumbprint;
}

function keyFile(of: PaymentWorld): string {
  return join(of.serverKeys, "server_public.pem");
}

function file(content: string): string {
  const path = join(world.folder, `receipt${files++}.txt`);
  writeFileSync(path, content);
  return path;
}

/** What `receipt` prints without `--json`. */
async function receiptText(of: PaymentWorld, name: string, id: string): Promise<string> {
  const args = of.clientArgs(name, "receipt", id).filter((arg) => arg !== "--json");
  const outcome = await runTool("client.ts", args);
  assert.equal(outcome.status, 0, outcome.stderr);
  return outcome.stdout;
}

function verify(content: string, ...options: string[]): Promise<Outcome> {
  return runTool("client.ts", ["verify", file(content), "--json", ...options]);
}

async function assertValid(content: string, ...options: string[]): Promise<Json> {
  const outcome = await verify(content, ...options);
  assert.equal(outcome.status, 0, JSON.stringify(outcome));
  return jsonLines(outcome)[0]!;
}

async function assertRefused(outcome: Promise<Outcome>, code: string, status = 1): Promise<string> {
  const { stderr, ...ended } = await outcome;
  assert.equal(ended.status, status, stderr);
  assert.equal(errorCode({ stderr, ...ended }), code, stderr);
  return stderr;
}

describe("a receipt", () => {
  test(
    "is a tlog-proof text, and under --json that text beside the payment's id",
    OPTIONS,
    async () => {
      assert.match(text, /^c2sp\.org\/tlog-proof@v1\nextra [A-Za-z0-9+/=]+\nindex 7\n/);
      assert.ok(text.includes(`\n\nsealwire/${fingerprintOf(world)}\n`));
      const lines = jsonLines(await world.client("alice", "receipt", payment));
      assert.deepEqual(lines, [{ payment, receipt: text }]);
    },
  );

  test("is the same for payer and payee, and is refused to anyone else", OPTIONS, async () => {
    assert.equal(await receiptText(world, "bob", payment), text);
    await assertRefused(world.client("carol", "receipt", payment), "unknown_payment");
  });

  test("of a batch is one payment's, named by its index", OPTIONS, async () => {
    const own = await receiptText(world, "carol", item);
    const { payee, amount, payment: id } = await assertValid(own, "--server-key", keyFile(world));
    assert.deepEqual([payee, amount, id], ["carol", "2.50", item]);
    assert.equal(await receiptText(world, "alice", item), own);
    const whole = item.split("/")[0]!;
    await assertRefused(world.client("alice", "receipt", whole), "index_required");
    await assertRefused(world.client("alice", "receipt", `${whole}/2`), "unknown_payment");
    await assertRefused(world.client("bob", "receipt", item), "unknown_payment");
  });

  test("of money from the treasury there is none", OPTIONS, async () => {
    const [opening] = jsonLines(await world.client("bob", "history"));
    assert.equal(opening!.payer, "@treasury");
    const refused = world.client("bob", "receipt", String(opening!.payment));
    assert.match(await assertRefused(refused, "unknown_payment"), /nobody signed/);
  });
});

describe("verify", () => {
  test("says who paid whom what, when, at which server, and under which key", OPTIONS, async () => {
    const { time, ...said } = await assertValid(text, "--server-key", keyFile(world));
    const payer_key =
      loadServerPublicKey(join(world.keysOf("alice"), "alice_public.pem")).thumbprint;
    const server = fingerprintOf(world);
    assert.deepEqual(said, {
      valid: true,
      ...{ payment, payer: "alice", payee: "bob", amount: "4.00", unit: "EUR" },
      ...{ index: 7, server, payer_key },
    });
    assert.match(String(time), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
    const plain = await runTool("client.ts", [
      "verify",
      file(text),
      "--server-key",
      keyFile(world),
    ]);
    assert.match(plain.stdout, /^valid: alice paid bob 4\.00 EUR at /);
    for (const part of [payment, payer_key, server, "entry 7"]) {
      assert.ok(plain.stdout.includes(part), part);
    }
  });

  test(
    "reads the text and the --json line, whatever white space a program put around or in it",
    OPTIONS,
    async () => {
      const line = { payment, receipt: text };
      const forms = [
        text,
        text.trimEnd(),
        `\uFEFF\n\n  ${text}\n\n`,
        text.replaceAll("\n", "\r\n"),
        JSON.stringify(line),
        `\uFEFF${JSON.stringify(line)}\r\n`,
        JSON.stringify(line, null, 4),
        JSON.stringify({ receipt: text.replaceAll("\n", "\r\n"), more: [1] }),
      ];
      for (const form of forms) {
        assert.equal((await assertValid(form, "--server-key", keyFile(world))).payment, payment);
      }
      const piped = await runTool("client.ts", ["verify", "-", "--server-key", keyFile(world)], {
        stdin: text,
      });
      assert.equal(piped.status, 0, piped.stderr);
    },
  );

  test("accepts none of which a part was changed", OPTIONS, async () => {
    const lines = text.split("\n");
    const other = (await receiptText(world, "carol", item)).split("\n");
    const changed = [
      text.replace("index 7", "index 6"),
      text.replace("index 7", "index 8"),
      text.replace(lines[1]!, other[1]!),
      text.replace(lines[3]!, other[3]!),
      text.replace(lines[3]! + "\n", ""),
      text.replace(/.(?=\n$)/, (last) => last === "=" ? "" : "="),
      text + text,
      `${text}P.S. pay soon\n`,
      `Dear Bob,\n${text}`,
      text.replace(lines[1]!, lines[1]!.toUpperCase()),
    ];
    for (const [at, forged] of changed.entries()) {
      assert.notEqual(forged, text);
      const outcome = await verify(forged, "--server-key", keyFile(world));
      assert.equal(outcome.status, 1, `${at}: ${JSON.stringify(outcome)}`);
      assert.match(outcome.stderr, /^error: this is no valid receipt: /, String(at));
      assert.notEqual(jsonLines(outcome)[0]!.valid, true);
    }
  });

  test(
    "takes the only server that the keys folder trusts, and needs no key then",
    OPTIONS,
    async () => {
      const folder = world.keysOf("alice");
      assert.equal((await assertValid(text, "--keys", folder)).server, fingerprintOf(world));
      const visitor = await onlyConnectedTo(world);
      assert.equal((await assertValid(text, "--keys", visitor)).server, fingerprintOf(world));
    },
  );

  test("lets someone else's alice pass under no circumstances", OPTIONS, async () => {
    const paid = await elsewhere.ask("alice", "pay", "bob", "4");
    const foreign = await receiptText(elsewhere, "alice", String(paid.payment));
    await assertRefused(verify(foreign, "--keys", world.keysOf("alice")), "wrong_server");
    await assertRefused(verify(foreign, "--server-key", keyFile(world)), "wrong_server");
    await assertRefused(verify(foreign, "--server-key", fingerprintOf(world)), "wrong_server");
    const { server } = await assertValid(foreign, "--server-key", fingerprintOf(elsewhere));
    assert.equal(server, fingerprintOf(elsewhere));
  });

  test("asks for --server-key where the folder trusts more than one server", OPTIONS, async () => {
    const connectedToBoth = await onlyConnectedTo(world);
    await connect(elsewhere, connectedToBoth);
    // Someone who runs a server from a folder in which a client has used another one.
    const withOwnServer = await onlyConnectedTo(elsewhere);
    copyFileSync(keyFile(world), join(withOwnServer, "server_public.pem"));
    for (const folder of [connectedToBoth, withOwnServer]) {
      const asked = await assertRefused(verify(text, "--keys", folder), "usage", 2);
      assert.match(asked, /trusts 2 servers/);
      assert.ok(asked.includes(fingerprintOf(world)), asked);
      for (const key of [keyFile(world), fingerprintOf(world)]) {
        await assertValid(text, "--keys", folder, "--server-key", key);
      }
    }
  });

  test(
    "takes the fingerprint of a server that the folder has never heard of",
    OPTIONS,
    async () => {
      const options = ["--keys", temporaryFolder(), "--server-key", fingerprintOf(world)];
      assert.equal((await assertValid(text, ...options)).payment, payment);
    },
  );
});

let visitors = 0;

/** Connects once, as a new account, and so comes to trust the server. */
async function connect(to: PaymentWorld, keys: string): Promise<void> {
  const account = ["register", "--as", `visitor${visitors++}`, "--keys", keys, "--accept-new"];
  const outcome = await runTool("client.ts", ["127.0.0.1", String(to.port), ...account]);
  assert.equal(outcome.status, 0, outcome.stderr);
}

/** A keys folder that knows one server, from having been connected to it. */
async function onlyConnectedTo(server: PaymentWorld): Promise<string> {
  const keys = temporaryFolder();
  await connect(server, keys);
  return keys;
}

describe("receipts are kept", () => {
  /** The receipts that an account's client has kept, by the id of their payment. */
  async function keptBy(name: string): Promise<Map<string, string>> {
    const folder = join(world.keysOf(name), `${name}_receipts`);
    const kept = new Map<string, string>();
    for (const entry of readdirSync(folder).sort()) {
      const content = readFileSync(join(folder, entry), "utf8");
      const { id, item, index } = await verifyReceipt(content, loadServerPublicKey(keyFile(world)));
      const place = String(index).padStart(16, "0");
      assert.equal(entry, `${place}_${id}${item === null ? "" : `_${item}`}.txt`);
      kept.set(item === null ? id : `${id}/${item}`, content);
    }
    return kept;
  }

  test("by a payer, of every payment, and verify reads them as they are", OPTIONS, async () => {
    await world.register("payer", "payee");
    const listener = await world.listen("payee");
    const { payment: direct, path } = await world.ask("payer", "pay", "payee", "1");
    assert.equal(path, "direct");
    await listener.stop();
    const { payment: through } = await world.ask("payer", "pay", "payee", "2");
    const kept = await keptBy("payer");
    assert.deepEqual([...kept.keys()], [direct, through]);
    for (const content of kept.values()) {
      await assertValid(content, "--keys", world.keysOf("payer"));
    }
  });

  test("by a payee who is online, one for each payment of a batch", OPTIONS, async () => {
    await world.register("giver", "taker");
    const listener = await world.listen("taker");
    const { payment: direct } = await world.ask("giver", "pay", "taker", "1");
    const { payment: through } = await world.ask("giver", "pay", "taker", "1", "--via-server");
    const batch = file("taker,1\ntaker,2\n");
    const paid = jsonLines(await world.client("giver", "pay", "--batch", batch));
    const ids = [direct, through, ...paid.map(({ payment }) => payment)];
    for (let heard = 0; heard < ids.length; heard++) {
      await listener.nextJson(({ event }) => event === "paid");
    }
    await listener.stop();
    const kept = await keptBy("taker");
    assert.deepEqual(new Set(kept.keys()), new Set(ids));
  });
});
