/** The AES pair under `--classic`, with a peer whose cipher is `openssl enc`. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { randomBytes } from "node:crypto";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import net from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { generateAESKey } from "../../lib/aes_utils.ts";
import { ByteBudget } from "../../lib/base/byte_budget.ts";
import { receiveClassicMessage } from "../../lib/aes/classic.ts";
import { isSealwireError } from "../../lib/base/errors.ts";
import type { Connection } from "../../lib/net/net.ts";
import { errorCode, type Json, jsonLines } from "../support/payment_world.ts";
import { runTool, spawnTool, temporaryFolder, type ToolProcess } from "../support/support.ts";

const SLOW = { timeout: 60_000 };
const MEGABYTE = 1_000_000;

const folder = temporaryFolder();
const keyPath = join(folder, "aes_key.bin");
let server: ToolProcess;
let port: number;

before(async () => {
  writeFileSync(keyPath, randomBytes(32));
  chmodSync(keyPath, 0o600);
  ({ tool: server, port } = await startServer("--classic"));
}, SLOW);

after(async () => {
  assert.equal((await server.stop()).status, 0);
}, SLOW);

async function startServer(...args: string[]): Promise<{ tool: ToolProcess; port: number }> {
  const common = ["--json", "--port", "0", "--host", "127.0.0.1", "--key", keyPath];
  const tool = spawnTool("aes_server.ts", [...common, "--out", join(folder, "received"), ...args]);
  return { tool, port: Number((await tool.nextJson()).port) };
}

function crypt(input: string | Uint8Array, ...args: string[]): Uint8Array {
  const key = readFileSync(keyPath);
  const hex = (start: number) => key.subarray(start, start + 16).toString("hex");
  const [inFile, outFile] = [join(folder, "in.bin"), join(folder, "out.bin")];
  writeFileSync(inFile, input);
  // Through files: Deno writes all of a child's input before it reads any of its output.
  const cipher = ["enc", "-aes-128-cbc", "-K", hex(0), "-iv", hex(16), ...args];
  execFileSync("openssl", [...cipher, "-in", inFile, "-out", outFile], { stdio: "pipe" });
  return readFileSync(outFile);
}

/** What the C++ client does: connects, sends, closes. In pieces where there are several. */
async function sendRaw(to: number, ...pieces: Uint8Array[]): Promise<void> {
  const socket = net.connect({ host: "127.0.0.1", port: to });
  socket.on("error", () => {}).resume();
  await once(socket, "connect");
  const closed = new Promise((resolve) => socket.on("close", resolve));
  for (const piece of pieces) {
    socket.write(piece);
    if (pieces.length > 1) await new Promise((resolve) => setTimeout(resolve, 30));
  }
  socket.end();
  await closed;
}

function nextMessage(): Promise<Json> {
  return server.nextJson(({ event }) => event === "message");
}

function client(...args: string[]) {
  return runTool("aes_client.ts", [...args, "--json", "--key", keyPath]);
}

test("the server prints what a classic client encrypted with openssl's cipher", SLOW, async () => {
  for (const text of ["Hello Server!", "", "ünïcödé ☕", "a".repeat(16), "x".repeat(100_000)]) {
    await sendRaw(port, crypt(text));
    const { text: received, size_bytes } = await nextMessage();
    assert.equal(received, text);
    assert.equal(size_bytes, Buffer.byteLength(text));
  }
});

test("a ciphertext in pieces of any size is one message", SLOW, async () => {
  const ciphertext = crypt("in pieces");
  await sendRaw(port, ciphertext.subarray(0, 3), ciphertext.subarray(3, 9), ciphertext.subarray(9));
  assert.equal((await nextMessage()).text, "in pieces");
});

test("channel clients are served beside classic ones", SLOW, async () => {
  await sendRaw(port, crypt("classic"));
  assert.equal((await nextMessage()).text, "classic");
  const sent = await client("over the channel", "--port", String(port));
  assert.equal(sent.status, 0, sent.stderr);
  assert.equal((await nextMessage()).text, "over the channel");
  const file = join(folder, "file.txt");
  writeFileSync(file, "a file");
  const filed = await client("--file", file, "--port", String(port));
  assert.equal(filed.status, 0, filed.stderr);
  assert.equal((await server.nextJson(({ event }) => event === "file")).name, "file.txt");
});

test("our classic client sends what openssl decrypts", SLOW, async () => {
  const received: Promise<Uint8Array>[] = [];
  const theirs = net.createServer((socket) => {
    const pieces: Uint8Array[] = [];
    socket.on("data", (piece: Uint8Array) => pieces.push(piece));
    const whole = Promise.withResolvers<Uint8Array>();
    socket.on("error", whole.reject);
    socket.on("end", () => {
      socket.end();
      whole.resolve(Buffer.concat(pieces));
    });
    received.push(whole.promise);
  });
  theirs.listen(0, "127.0.0.1");
  await once(theirs, "listening");
  const target = String((theirs.address() as net.AddressInfo).port);
  const one = await client("Hello", "there", "--classic", "--port", target);
  assert.deepEqual(jsonLines(one), [{ sent: "message", size_bytes: 11 }]);
  assert.equal(one.stderr.match(/warning: --classic/g)?.length, 1);
  assert.equal((await client("--classic", "--port", target)).status, 0);
  const stdin = "x".repeat(300_000);
  const long = ["-", "--classic", "--json", "--key", keyPath, "--port", target];
  assert.equal((await runTool("aes_client.ts", long, { stdin })).status, 0);
  const texts = await Promise.all(received);
  assert.deepEqual(
    texts.map((ciphertext) => Buffer.from(crypt(ciphertext, "-d")).toString()),
    ["Hello there", "Hello Server!", stdin],
  );
  theirs.close();
});

test("our classic client and our server", SLOW, async () => {
  assert.equal((await client("ours to ours", "--classic", "--port", String(port))).status, 0);
  assert.equal((await nextMessage()).text, "ours to ours");
});

test(
  "no whole blocks, wrong padding, nothing at all, another key: refused, and served on",
  SLOW,
  async () => {
    const good = crypt("good");
    const wrongPadding = crypt(new Uint8Array(16), "-nopad");
    const bad = [
      new Uint8Array(0),
      new Uint8Array(1),
      new TextEncoder().encode("SEALWIR"),
      good.subarray(0, 15),
      new Uint8Array([...good, 0]),
      wrongPadding,
    ];
    for (const ciphertext of bad) await sendRaw(port, ciphertext);
    await sendRaw(port, good);
    assert.equal((await nextMessage()).text, "good");
    const refused = server.stderrText.match(/does not decrypt/g)?.length ?? 0;
    assert.ok(refused >= bad.length, server.stderrText);
  },
);

test("100 MB are refused before they fill the memory, and the server serves on", SLOW, async () => {
  await sendRaw(port, new Uint8Array(100 * MEGABYTE));
  await sendRaw(port, crypt("after it"));
  assert.equal((await nextMessage()).text, "after it");
  assert.match(server.stderrText, /longer than 16 MiB/);
  const stdin = new Uint8Array(17 * 1024 * 1024);
  const args = ["-", "--classic", "--json", "--key", keyPath, "--port", String(port)];
  const long = await runTool("aes_client.ts", args, { stdin });
  assert.equal(errorCode(long), "message_too_long");
});

test("a classic client that sends nothing more and does not close is let go of", SLOW, async () => {
  const { tool, port } = await startServer("--classic", "--timeout", "1");
  const socket = net.connect({ host: "127.0.0.1", port });
  socket.on("error", () => {}).resume();
  await once(socket, "connect");
  socket.write(crypt("half").subarray(0, 9));
  await once(socket, "close");
  await tool.stop();
});

test("without --classic the server says so and takes nothing", SLOW, async () => {
  const { tool, port } = await startServer();
  const socket = net.connect({ host: "127.0.0.1", port });
  socket.write(crypt("Hello Server!"));
  const [line] = await once(socket, "data");
  assert.match(String(line), /^This server takes encrypted channels only/);
  await once(socket, "close");
  const { stdout, stderr } = await tool.stop();
  assert.doesNotMatch(stdout, /Hello/);
  assert.doesNotMatch(stderr, /--classic:/);
});

test("--once ends after a classic client, and the mode warns once", SLOW, async () => {
  const { tool, port } = await startServer("--classic", "--once");
  await sendRaw(port, crypt("once"));
  const { status, stdout, stderr } = await tool.ended;
  assert.equal(status, 0);
  assert.match(stdout, /"text":"once"/);
  assert.equal(stderr.match(/warning: --classic/g)?.length, 1, stderr);
});

test("--classic with files or pairing is wrong usage", SLOW, async () => {
  assert.equal((await client("--classic", "--file", keyPath)).status, 2);
  assert.equal((await client("--classic", "--pair", "1-a-b")).status, 2);
});

test("the server closes its side before it decrypts", async () => {
  const steps: string[] = [];
  const connection = { ...connectionOf([randomBytes(16)]), destroy: () => steps.push("closed") };
  const { key, iv } = generateAESKey();
  const aesKey = {
    iv,
    get key() {
      steps.push("decrypts");
      return key;
    },
  };
  const options = { aesKey, bytes: new ByteBudget(1024 * 1024).open(() => {}), stall_ms: 1_000 };
  await receiveClassicMessage(connection, options).catch(() => {});
  assert.deepEqual(steps.slice(0, 2), ["closed", "decrypts"]);
});

/** A connection that gives `pieces`, one a read, and then its end. */
function connectionOf(pieces: readonly Uint8Array[]): Connection {
  const left = [...pieces];
  return {
    remoteHost: "127.0.0.1",
    localHost: "127.0.0.1",
    remotePort: 1,
    alpn: null,
    unsent_bytes: 0,
    read: () => Promise.resolve(left.shift() ?? null),
    write: () => Promise.resolve(),
    end: () => Promise.resolve(),
    destroy: () => {},
  };
}

test(
  "whatever comes in whatever pieces: a message, a channel whole from its first byte, or a refusal",
  SLOW,
  async () => {
    const aesKey = generateAESKey();
    const budget = new ByteBudget(1024 * 1024);
    const prologue = fc.constantFrom("SEALWIR1", "SEALPAR1", "SEALWIR", "SEALPAR", "SEAL", "")
      .map((text) => new TextEncoder().encode(text));
    const pieces = fc.array(fc.uint8Array({ minLength: 1, maxLength: 5 }), { maxLength: 12 });
    const property = fc.asyncProperty(prologue, pieces, async (start, rest) => {
      const all = [...start].map((byte) => Uint8Array.of(byte)).concat(rest);
      const whole = Buffer.concat(all);
      const channel = /^SEAL(WIR|PAR)1/.test(whole.toString("latin1"));
      const bytes = budget.open(() => {});
      const options = { aesKey, bytes, stall_ms: 1_000 };
      try {
        const arrived = await receiveClassicMessage(connectionOf(all), options);
        if (arrived instanceof Uint8Array) return assert.ok(!channel);
        assert.ok(channel);
        const read: Uint8Array[] = [];
        for (let bytes; (bytes = await arrived.read()) !== null;) read.push(bytes);
        assert.deepEqual(Buffer.concat(read), whole);
      } catch (error) {
        if (!isSealwireError(error, "decrypt_failed")) throw error;
        assert.ok(!channel);
      }
    });
    await fc.assert(property);
    assert.equal(budget.size_bytes, 0);
  },
);
