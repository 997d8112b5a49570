/** What a client refuses before it connects anywhere. */
import assert from "node:assert/strict";
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { type RefusedRun, testRefusals } from "../../support/refused_runs.ts";
import { runTool, temporaryFolder } from "../../support/support.ts";

const HOST = "127.0.0.1";
const folder = temporaryFolder();

/** Nothing is listening there. */
const PORT = "9";

const { publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
const publicPem = publicKey.export({ type: "spki", format: "pem" }) as string;
writeFileSync(join(folder, "server_public.pem"), publicPem);

let files = 0;

/** A file of this text; its path. */
function file(text: string | Uint8Array): string {
  const path = join(folder, `file_${files++}`);
  writeFileSync(path, text);
  return path;
}

/**
 * Arguments of a command whose server is never reached, because something is wrong before. Its keys
 * are nobody else's: the runs go on beside each other, and one that registers makes keys.
 */
function command(...args: string[]): () => string[] {
  return () => [HOST, PORT, ...args, "--keys", join(folder, `keys_${files++}`)];
}

const USAGE = { code: "usage", status: 2 };
const AS = ["--as", "alice"];

describe("a command line that is wrong", () => {
  testRefusals("client.ts", [
    { promise: "nothing", args: () => [], ...USAGE, names: /<host> <port>/ },
    { promise: "no port", args: () => [HOST], ...USAGE, names: /<port>/ },
    {
      promise: "port 0",
      args: () => [HOST, "0", "balance", ...AS],
      ...USAGE,
      names: /<port>.*"0"/,
    },
    {
      promise: "a port out of range",
      args: () => [HOST, "65536", "list", ...AS],
      ...USAGE,
      names: /<port>.*"65536"/,
    },
    { promise: "an unknown command", args: command("steal", ...AS), ...USAGE, names: /"steal"/ },
    {
      promise: "a method of every object for a command",
      args: command("constructor", ...AS),
      ...USAGE,
      names: /"constructor"/,
    },
    {
      promise: "an unknown option",
      args: command("balance", ...AS, "--force"),
      ...USAGE,
      names: /--force/,
    },
    { promise: "nobody", args: command("balance"), ...USAGE, names: /--as/ },
    {
      promise: "a bad name",
      args: command("balance", "--as", "Alice"),
      code: "bad_name",
      status: 2,
      names: /"Alice"/,
    },
    {
      promise: "the name server",
      args: command("register", "--as", "server"),
      code: "bad_name",
      status: 2,
      names: /"server"/,
    },
    {
      promise: "the treasury's name",
      args: command("register", "--as", "@treasury"),
      code: "bad_name",
      status: 2,
      names: /@treasury/,
    },
    {
      promise: "pay without an amount",
      args: command("pay", "bob", ...AS),
      ...USAGE,
      names: /pay/,
    },
    {
      promise: "an argument too many",
      args: command("receipt", randomUUID(), "2", ...AS),
      ...USAGE,
      names: /"2".*receipt takes <payment-id>/,
    },
    {
      promise: "pay to a bad name",
      args: command("pay", "bob!", "1", ...AS),
      code: "bad_name",
      status: 2,
      names: /"bob!"/,
    },
    {
      promise: "pay of nothing",
      args: command("pay", "bob", "0", ...AS),
      code: "bad_amount",
      status: 2,
      names: /amount/,
    },
    {
      promise: "pay of three decimals",
      args: command("pay", "bob", "1.001", ...AS),
      code: "bad_amount",
      status: 2,
      names: /1\.001/,
    },
    {
      promise: "pay with a comma",
      args: command("pay", "bob", "1,50", ...AS),
      code: "bad_amount",
      status: 2,
      names: /1,50/,
    },
    {
      promise: "pay of less than nothing",
      args: command("pay", "bob", "-1", ...AS),
      code: "bad_amount",
      status: 2,
      names: /-1/,
    },
    {
      promise: "pay beyond what there can be",
      args: command("pay", "bob", "90071992547409.92", ...AS),
      code: "bad_amount",
      status: 2,
      names: /90071992547409\.91/,
    },
    {
      promise: "--direct with --via-server",
      args: command("pay", "bob", "1", "--direct", "--via-server", ...AS),
      ...USAGE,
      names: /--direct.*--via-server/,
    },
    {
      promise: "--id that is none",
      args: command("pay", "bob", "1", "--id", "42", ...AS),
      ...USAGE,
      names: /--id.*"42"/,
    },
    {
      promise: "--timeout 0",
      args: command("balance", "--timeout", "0", ...AS),
      ...USAGE,
      names: /--timeout.*"0"/,
    },
    {
      promise: "--timeout in words",
      args: command("balance", "--timeout", "soon", ...AS),
      ...USAGE,
      names: /--timeout.*"soon"/,
    },
    {
      promise: "--p2p-port of the system's",
      args: command("listen", "--p2p-port", "80", ...AS),
      ...USAGE,
      names: /--p2p-port.*1024.*"80"/,
    },
    {
      promise: "--p2p-host that is a name",
      args: command("listen", "--p2p-host", "example.org", ...AS),
      ...USAGE,
      names: /--p2p-host.*"example\.org"/,
    },
    {
      promise: "a receipt without its id",
      args: command("receipt", ...AS),
      ...USAGE,
      names: /receipt/,
    },
    {
      promise: "a receipt of what is no id",
      args: command("receipt", "7", ...AS),
      ...USAGE,
      names: /<payment-id>.*"7"/,
    },
    {
      promise: "a receipt of an odd index",
      args: command("receipt", `${randomUUID()}/x`, ...AS),
      ...USAGE,
      names: /<payment-id>/,
    },
    {
      promise: "control characters, made harmless",
      args: command("\u001b[31mred", ...AS),
      ...USAGE,
      names: /\[31mred/,
    },
  ]);
});

/** `bad_name` and `bad_amount` lines are wrong usage too: the file is an argument. */
const BATCH_LINES: readonly [promise: string, text: string, names: RegExp][] = [
  ["an empty batch", "\n\n", /1 to 1000 lines/],
  ["a batch of 1,001", "bob,1\n".repeat(1_001), /1 to 1000 lines.*1001/],
  ["a batch with a bad amount", "bob,1\ncarol,1.001\n", /line 2.*1\.001/],
  ["a batch with a bad name", "Bob,1\n", /line 1.*"Bob"/],
  ["a batch with a line of three", "bob,1,2\n", /line 1/],
  ["a batch that is not text", "\u0000\u0001\n", /line 1/],
];

describe("a file that is wrong", () => {
  testRefusals("client.ts", [
    ...BATCH_LINES.map(([promise, text, names]): RefusedRun => ({
      promise,
      args: () => command("pay", "--batch", file(text), ...AS)(),
      ...USAGE,
      names,
    })),
    {
      promise: "a batch that is not there",
      args: command("pay", "--batch", join(folder, "none.csv"), ...AS),
      code: "file_unreadable",
      names: /none\.csv/,
    },
    {
      promise: "no keys of the account",
      args: command("balance", ...AS),
      code: "key_missing",
      names: /alice_private\.pem/,
    },
    {
      promise: "keys that are none",
      args: () => {
        const path = join(folder, "odd_keys");
        mkdirSync(path);
        writeFileSync(join(path, "alice_private.pem"), "x");
        return [HOST, PORT, "balance", ...AS, "--keys", path];
      },
      code: "key_unreadable",
      names: /alice_private\.pem/,
    },
    {
      promise: "keys where nothing can be made",
      args: () => [HOST, PORT, "register", ...AS, "--keys", join(file(""), "keys")],
      code: "folder_unwritable",
      names: /keys/,
    },
    {
      promise: "--server-cert that is not there",
      args: command("register", ...AS, "--server-cert", join(folder, "none.pem")),
      code: "key_missing",
      names: /none\.pem/,
    },
    {
      promise: "--server-cert that is none",
      args: () => command("register", ...AS, "--server-cert", file("x"))(),
      code: "bad_certificate",
      names: /file_/,
    },
    {
      promise: "known servers that are not",
      args: () => {
        const path = join(folder, "odd_known");
        mkdirSync(path);
        writeFileSync(join(path, "known_servers.json"), "{");
        return [HOST, PORT, "register", ...AS, "--keys", path];
      },
      code: "trust_file_unreadable",
      names: /known_servers\.json/,
    },
  ]);
});

describe("a receipt that does not verify", () => {
  const serverKey = ["--server-key", join(folder, "server_public.pem")];
  const verify = (path: () => string) => () => ["verify", path(), ...serverKey];
  testRefusals("client.ts", [
    { promise: "without a file", args: () => ["verify"], ...USAGE, names: /verify/ },
    { promise: "of two files", args: () => ["verify", "a", "b"], ...USAGE, names: /verify/ },
    {
      promise: "that is not there",
      args: verify(() => join(folder, "none.json")),
      code: "file_unreadable",
      names: /none\.json/,
    },
    {
      promise: "that is a folder",
      args: verify(() => folder),
      code: "file_unreadable",
      names: /sealwire/,
    },
    {
      promise: "that is empty",
      args: verify(() => file("")),
      code: "bad_proof",
      names: /receipt/,
    },
    {
      promise: "that is no JSON",
      args: verify(() => file("hello\n")),
      code: "bad_proof",
      names: /receipt/,
    },
    {
      promise: "that is something else",
      args: verify(() => file('{"v":1}')),
      code: "bad_proof",
      names: /receipt/,
    },
    {
      promise: "that is bytes",
      args: verify(() => file(new Uint8Array(1_000).fill(0xff))),
      code: "bad_proof",
      names: /receipt/,
    },
    {
      promise: "that is a megabyte",
      args: verify(() => file("x".repeat(1_000_000))),
      code: "file_unreadable",
      names: /file_/,
    },
    {
      promise: "that is nested deep",
      args: verify(() => file("[".repeat(20_000))),
      code: "bad_proof",
      names: /receipt/,
    },
    {
      promise: "from standard input",
      args: () => ["verify", "-", ...serverKey],
      stdin: "{}",
      code: "bad_proof",
      names: /receipt/,
    },
    {
      promise: "without the server's key",
      args: () => ["verify", file("{}"), "--server-key", join(folder, "no.pem")],
      code: "key_missing",
      names: /no\.pem/,
    },
    {
      promise: "with the fingerprint of a key, and no receipt",
      args: () => ["verify", file("{}"), "--server-key", "A".repeat(43)],
      code: "bad_proof",
      names: /receipt/,
    },
    {
      promise: "where no server is trusted",
      args: () => ["verify", file("{}"), "--keys", join(folder, "nobody")],
      code: "key_missing",
      names: /nobody trusts no server.*--server-key FILE/,
    },
    {
      promise: "of a folder whose known servers are not readable",
      args: () => {
        const path = join(folder, "odd_servers");
        mkdirSync(path);
        writeFileSync(join(path, "known_servers.json"), "{");
        return ["verify", file("{}"), "--keys", path];
      },
      code: "trust_file_unreadable",
      names: /known_servers\.json/,
    },
    {
      promise: "with a key that is none",
      args: () => ["verify", file("{}"), "--server-key", file("x")],
      code: "key_unreadable",
      names: /file_/,
    },
  ]);
});

describe("evidence that is none", () => {
  testRefusals("client.ts", [
    { promise: "without a file", args: () => ["verify-fork"], ...USAGE, names: /<evidence>/ },
    {
      promise: "that is not there",
      args: () => ["verify-fork", join(folder, "none.json")],
      code: "file_unreadable",
      names: /none\.json/,
    },
    ...["", "{", "null", "[]", "{}", '{"v":2}', "x".repeat(1_000_000), "[".repeat(20_000)].map(
      (text): RefusedRun => ({
        promise: `that is ${JSON.stringify(text.slice(0, 8))}`,
        args: () => ["verify-fork", file(text)],
        code: "bad_evidence",
        names: /this is no evidence/,
      }),
    ),
    {
      promise: "from standard input, without signatures",
      args: () => ["verify-fork", "-"],
      stdin: '{"v":1,"statement":"x","known":"y","shown":"z"}',
      code: "bad_evidence",
      names: /this is no evidence/,
    },
  ]);
});

test("without --json an error is one sentence, and standard output stays empty", async () => {
  const outcome = await runTool("client.ts", [HOST, "http"]);
  assert.deepEqual([outcome.status, outcome.stdout], [2, ""]);
  assert.match(outcome.stderr, /^error: <port>[^\n]*"http"[^\n]*--help\)\n$/);
});
