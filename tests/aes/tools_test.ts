import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { once } from "node:events";
import net from "node:net";
import { basename, join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { encryptAES, loadKeyFile } from "../../lib/aes_utils.ts";
import { type Connection, connectTcp } from "../../lib/net/net.ts";
import { whyNot } from "../support/other_runtime.ts";
import { RUNTIME, runTool, spawnTool, temporaryFolder } from "../support/support.ts";
import { lastJson, LIMIT, MIB, runClient, runtimes, startServer } from "../support/aes_tools.ts";

test(
  "on a fresh folder a text appears at the server, whatever runtime either end has",
  LIMIT,
  async () => {
    for (const there of runtimes()) {
      const server = await startServer([], { runtime: there });
      for (const here of runtimes()) {
        const { status, stdout } = await runTool("aes_client.ts", [
          "--port",
          String(server.port),
          "any text",
        ], {
          cwd: server.folder,
          runtime: here,
        });
        assert.equal(status, 0, `${here} to ${there}`);
        assert.match(stdout, /Sent a message \(8 B\)/);
        const { text, from } = await server.tool.nextJson();
        assert.equal(text, "any text");
        assert.match(String(from), /^127\.0\.0\.1:\d+$/);
      }
      const { status } = await server.tool.stop();
      assert.equal(status, 0);
      assert.equal(statSync(join(server.folder, "aes_key.bin")).mode & 0o777, 0o600);
    }
  },
);

test(
  "messages: none, empty, words, standard input, ten mebibytes, and any bytes",
  LIMIT,
  async () => {
    const server = await startServer();
    const received = (event: Record<string, unknown>) => event.event === "message";
    const send = async (args: string[], stdin?: string | Uint8Array) => {
      const outcome = await runClient(server, ["--json", ...args], { stdin });
      assert.equal(outcome.status, 0, outcome.stderr);
      const message = await server.tool.nextJson(received);
      assert.deepEqual(lastJson(outcome), { sent: "message", size_bytes: message.size_bytes });
      return message;
    };
    assert.equal((await send([])).text, "Hello Server!");
    assert.equal((await send([""])).text, "");
    assert.equal((await send(["several", "words"])).text, "several words");
    assert.equal((await send(["größer 😀\n\tthan"])).text, "größer 😀\n\tthan");
    assert.equal((await send(["-"], "from\r\nthe input\n")).text, "from\r\nthe input\n");
    const long = "0123456789abcdef".repeat(10 * MIB / 16);
    assert.equal((await send(["-"], long)).text, long);
    const bytes = randomBytes(1000);
    const binary = await send(["-"], bytes);
    assert.deepEqual(Buffer.from(String(binary.base64), "base64"), bytes);
    const tooLong = await runClient(server, ["-"], { stdin: new Uint8Array(16 * MIB + 1) });
    assert.equal(tooLong.status, 1);
    assert.match(tooLong.stderr, /send it as a file/);
    await server.tool.stop();
  },
);

test("no text passes for a line of the server's, and none steers the terminal", LIMIT, async () => {
  const folder = temporaryFolder();
  const tool = spawnTool("aes_server.ts", ["--port", "0"], { cwd: folder });
  const port = Number(/:(\d+)$/.exec(await tool.nextLine())![1]);
  const evil = "hi\nReceived received/x (1 B) from 1.2.3.4:5\r\u001b[2J\u202egnp.exe\n";
  assert.equal((await runClient({ port, folder }, [evil])).status, 0);
  const { stdout } = await tool.stop();
  const lines = stdout.split("\n").slice(1, -1);
  assert.equal(lines.length, 3);
  for (const line of lines) assert.match(line, /^127\.0\.0\.1:\d+> /);
  // deno-lint-ignore no-control-regex
  assert.doesNotMatch(lines.join(""), /[\u0000-\u001f\u007f-\u009f\u202e]/);
});

test("many clients at once: each message arrives once", LIMIT, async () => {
  const server = await startServer();
  const texts = Array.from({ length: 12 }, (_, index) => `message ${index}`);
  const outcomes = await Promise.all(texts.map((text) => runClient(server, [text])));
  for (const { status, stderr } of outcomes) assert.equal(status, 0, stderr);
  const { stdout } = await server.tool.stop();
  const got = stdout.trim().split("\n").slice(1).map((line) => JSON.parse(line).text);
  assert.deepEqual(got.sort(), texts.sort());
});

test("files and a folder in one run, each with its result, beside a message", LIMIT, async () => {
  const server = await startServer();
  const source = join(temporaryFolder(), "my folder");
  mkdirSync(join(source, "sub"), { recursive: true });
  const content = randomBytes(2 * MIB + 1);
  writeFileSync(join(source, "sub", "größe.bin"), content);
  writeFileSync(join(source, "..", "plain"), "plain");
  const args = ["note", "--json", "--file", source, "--file", join(source, "..", "plain")];
  const outcome = await runClient(server, args);
  assert.equal(outcome.status, 0, outcome.stderr);
  const results = outcome.stdout.trim().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual(results[0], { sent: "message", size_bytes: 4 });
  const name = "my folder/sub/größe.bin";
  const sent = results.find((result) => result.name === name);
  const size_bytes = content.length;
  assert.deepEqual(sent, {
    sent: "file",
    name,
    size_bytes,
    resumed_from_bytes: 0,
    resent_bytes: 0,
  });
  const event = await server.tool.nextJson(({ name: seen }) => seen === name);
  const path = join("received", name);
  assert.deepEqual({ ...event, from: "" }, {
    event: "file",
    name,
    path,
    size_bytes,
    from: "",
  });
  assert.deepEqual(readFileSync(join(server.folder, path)), content);
  const refused = await runClient(server, ["--file", join(source, "none"), "--json"]);
  assert.equal(refused.status, 1);
  assert.equal((lastJson(refused).error as { code: string }).code, "file_unreadable");
  await server.tool.stop();
});

test("a target with other content fails that file alone, with exit status 1", LIMIT, async () => {
  const server = await startServer();
  const folder = temporaryFolder();
  mkdirSync(join(server.folder, "received"), { recursive: true });
  writeFileSync(join(server.folder, "received", "taken"), "theirs");
  writeFileSync(join(folder, "taken"), "ours!!");
  writeFileSync(join(folder, "free"), "free");
  const files = ["--file", join(folder, "taken"), "--file", join(folder, "free")];
  const outcome = await runClient(server, [...files, "--json"]);
  assert.equal(outcome.status, 1);
  const { error, failed } = lastJson(outcome) as { error: { code: string }; failed: unknown };
  assert.equal(error.code, "target_exists");
  assert.deepEqual(failed, [{ name: "taken", code: "target_exists" }]);
  assert.equal(readFileSync(join(server.folder, "received", "taken"), "utf8"), "theirs");
  assert.equal(readFileSync(join(server.folder, "received", "free"), "utf8"), "free");
  await server.tool.stop();
});

test(
  "a wrong key: exit status 3, the server says so, takes nothing and serves on",
  LIMIT,
  async () => {
    const server = await startServer();
    const other = join(temporaryFolder(), "other.bin");
    writeFileSync(other, randomBytes(32), { mode: 0o600 });
    const outcome = await runClient(server, ["secret", "--key", other, "--json"]);
    assert.equal(outcome.status, 3);
    assert.equal((lastJson(outcome).error as { code: string }).code, "server_untrusted");
    assert.match(outcome.stderr, /key/);
    assert.equal((await runClient(server, ["after"])).status, 0);
    const { stdout, stderr } = await server.tool.stop();
    assert.doesNotMatch(stdout, /secret/);
    assert.match(stdout, /after/);
    assert.match(stderr, /handshake failed/);
  },
);

test("key files: missing, of a wrong length, open to others", LIMIT, async () => {
  const folder = temporaryFolder();
  const missing = await runTool("aes_client.ts", ["x", "--json"], { cwd: folder });
  assert.equal(missing.status, 1);
  assert.equal((lastJson(missing).error as { code: string }).code, "key_missing");
  for (const size_bytes of [0, 16, 31, 33]) {
    writeFileSync(join(folder, "aes_key.bin"), randomBytes(size_bytes));
    for (const tool of ["aes_client.ts", "aes_server.ts"]) {
      const { status, stderr } = await runTool(tool, ["--port", "1"], { cwd: folder });
      assert.equal(status, 1);
      assert.match(stderr, /32/);
    }
  }
  const server = await startServer();
  chmodSync(join(server.folder, "aes_key.bin"), 0o644);
  const { status, stderr } = await runClient(server, ["x"]);
  assert.equal(status, 0);
  assert.match(stderr, /warning: .*chmod 600/);
  await server.tool.stop();
});

test(
  "strangers: an old client, random bytes, silence, half a handshake; none harms the server",
  LIMIT,
  async () => {
    const server = await startServer();
    const { aesKey } = loadKeyFile(join(server.folder, "aes_key.bin"));
    const old = encryptAES(new TextEncoder().encode("classic secret"), aesKey.key, aesKey.iv);
    const prologue = new TextEncoder().encode("SEALWIR1");
    const strangers = [old, randomBytes(5000), new Uint8Array(0), randomBytes(3), prologue];
    strangers.push(
      Buffer.concat([prologue, randomBytes(64)]),
      Buffer.concat([prologue, randomBytes(9)]),
    );
    for (const bytes of strangers) {
      const connection = await connectTcp({
        host: "127.0.0.1",
        port: server.port,
        timeout_ms: 5_000,
      });
      await connection.write(bytes);
      await connection.end();
    }
    assert.equal((await runClient(server, ["after"])).status, 0);
    const { stdout, stderr } = await server.tool.stop();
    assert.doesNotMatch(stdout, /classic secret/);
    assert.equal(stdout.trim().split("\n").length, 2);
    assert.match(stderr, /old AES client/);
    assert.deepEqual(readdirSync(join(server.folder, "received")), [".partial"]);
  },
);

test("nobody there: exit status 3 and a sentence", LIMIT, async () => {
  const server = await startServer();
  server.tool.kill("SIGKILL");
  await server.tool.ended;
  const nobody = await runClient(server, ["x", "--json"]);
  assert.equal(nobody.status, 3);
  assert.equal((lastJson(nobody).error as { code: string }).code, "no_connection");
});

test("wrong use is exit status 2 and names the argument", LIMIT, async () => {
  const folder = temporaryFolder();
  const cases: [string, string[], RegExp][] = [
    ["aes_server.ts", ["--port", "65536"], /--port/],
    ["aes_server.ts", ["--port", "x"], /--port/],
    ["aes_server.ts", ["stray"], /stray/],
    ["aes_server.ts", ["--nonsense"], /--nonsense/],
    ["aes_client.ts", ["--port", "0"], /--port/],
    ["aes_client.ts", ["--timeout", "0"], /--timeout/],
    ["aes_client.ts", ["--pair", "not-a-code"], /code/],
  ];
  for (const [tool, args, named] of cases) {
    const { status, stderr } = await runTool(tool, args, { cwd: folder });
    assert.equal(status, 2, `${tool} ${args}`);
    assert.match(stderr, named);
    assert.doesNotMatch(stderr, /\n\s+at /);
  }
  assert.equal(existsSync(join(folder, "aes_key.bin")), false);
  const help = await runTool("aes_client.ts", ["--help"]);
  assert.equal(help.status, 0);
  assert.match(help.stdout, /--file PATH/);
  const taken = await startServer();
  const second = await runTool("aes_server.ts", ["--port", String(taken.port)], { cwd: folder });
  assert.equal(second.status, 1);
  assert.match(second.stderr, /in use/);
  await taken.tool.stop();
});

test(
  "--once ends the server after a client that was served, not after a stranger",
  LIMIT,
  async () => {
    const server = await startServer(["--once"]);
    const stranger = await connectTcp({ host: "127.0.0.1", port: server.port, timeout_ms: 5_000 });
    await stranger.write(randomBytes(100));
    await stranger.end();
    assert.equal((await runClient(server, ["the one"])).status, 0);
    const { status, stdout } = await server.tool.ended;
    assert.equal(status, 0);
    assert.match(stdout, /the one/);
  },
);

test("strangers who connect and say nothing keep no client out", LIMIT, async () => {
  const server = await startServer();
  const strangers: Connection[] = [];
  for (let count = 0; count < 400; count++) {
    strangers.push(await connectTcp({ host: "127.0.0.1", port: server.port, timeout_ms: 5_000 }));
  }
  const client = await runClient(server, ["still there?"]);
  assert.equal(client.status, 0, client.stderr);
  const ends = strangers.slice(0, 300).map((stranger) =>
    stranger.read().then((bytes) => bytes, () => null)
  );
  assert.deepEqual(new Set(await Promise.all(ends)), new Set([null]), "the oldest are let go");
  for (const stranger of strangers) stranger.destroy();
  await server.tool.stop();
});

test("the server's operator reads what is refused, and why", LIMIT, async () => {
  const server = await startServer();
  const path = join(temporaryFolder(), "note");
  writeFileSync(path, "one");
  assert.equal((await runClient(server, ["--file", path])).status, 0);
  writeFileSync(path, "other");
  assert.equal((await runClient(server, ["--file", path])).status, 1);
  const { stderr } = await server.tool.stop();
  assert.match(stderr, /^127\.0\.0\.1:\d+: refused note: "note" exists there already/m);
});

test("--pair gives one client the key, by a code, and the server goes on", LIMIT, async () => {
  const server = await startServer(["--pair"]);
  const { code } = await server.tool.nextJson(({ event }) => event === "pairing");
  const folder = temporaryFolder();
  const args = ["--port", String(server.port), "--json"];
  const asked = await runTool("aes_client.ts", [...args, "--pair"], {
    cwd: folder,
    stdin: `${code}\n`,
  });
  assert.equal(asked.status, 0, asked.stderr);
  const key = readFileSync(join(folder, "aes_key.bin"));
  assert.deepEqual(key, readFileSync(join(server.folder, "aes_key.bin")));
  assert.equal(statSync(join(folder, "aes_key.bin")).mode & 0o777, 0o600);
  await server.tool.nextJson(({ event }) => event === "paired");
  assert.equal((await runTool("aes_client.ts", [...args, "hello"], { cwd: folder })).status, 0);
  const again = await runTool("aes_client.ts", [...args, "--pair", String(code)], { cwd: folder });
  assert.equal(again.status, 1);
  assert.equal((lastJson(again).error as { code: string }).code, "key_exists");
  const second = temporaryFolder();
  const used = await runTool("aes_client.ts", [...args, "--pair", String(code)], { cwd: second });
  assert.equal(used.status, 1);
  assert.equal(existsSync(join(second, "aes_key.bin")), false);
  await server.tool.stop();
});

test(
  "a key that could not be stored is not asked for, and the code stays good",
  LIMIT,
  async () => {
    const server = await startServer(["--pair"]);
    const { code } = await server.tool.nextJson(({ event }) => event === "pairing");
    const folder = temporaryFolder();
    const pair = ["--port", String(server.port), "--json", "--pair", String(code)];
    const nowhere = await runTool("aes_client.ts", [...pair, "--key", "missing/aes_key.bin"], {
      cwd: folder,
    });
    assert.equal(nowhere.status, 1);
    assert.match(nowhere.stderr, /^error: cannot write missing\/aes_key\.bin \(ENOENT\)$/m);
    assert.equal((lastJson(nowhere).error as { code: string }).code, "key_unwritable");
    assert.equal((await runTool("aes_client.ts", pair, { cwd: folder })).status, 0);
    await server.tool.stop();
  },
);

test("a wrong code costs the offer, and gives nobody the key", LIMIT, async () => {
  const server = await startServer(["--pair"]);
  const { code } = await server.tool.nextJson(({ event }) => event === "pairing");
  const [number, ...words] = String(code).split("-");
  const wrong = [Number(number) % 99 + 1, ...words].join("-");
  const folder = temporaryFolder();
  for (const tried of [wrong, String(code)]) {
    const args = ["--port", String(server.port), "--pair", tried, "--json"];
    assert.notEqual((await runTool("aes_client.ts", args, { cwd: folder })).status, 0);
  }
  assert.equal(existsSync(join(folder, "aes_key.bin")), false);
  await server.tool.stop();
});

test("after a wrong code there is a new one at once, and a client that stalls locks nobody out", {
  timeout: 60_000,
}, async () => {
  const server = await startServer(["--pair"]);
  const next = async () =>
    String((await server.tool.nextJson(({ event }) => event === "pairing")).code);
  const pairWith = (code: string) =>
    runTool("aes_client.ts", ["--port", String(server.port), "--pair", code, "--json"], {
      cwd: temporaryFolder(),
    });
  const code = await next();
  const [number, ...words] = code.split("-");
  const wrong = await pairWith([Number(number) % 99 + 1, ...words].join("-"));
  assert.match(wrong.stdout, /pairing_wrong_code/);
  const renewed = await next();
  assert.notEqual(renewed, code);

  const stalling = net.connect({ host: "127.0.0.1", port: server.port });
  stalling.on("error", () => {}).resume().write("SEALPAR1");
  await delay(1_200);
  const began_ms = performance.now();
  assert.equal((await pairWith(renewed)).status, 0);
  assert.ok(performance.now() - began_ms < 10_000);
  stalling.destroy();
  await server.tool.stop();
});

test("both tools, compiled, talk to each other", {
  timeout: 120_000,
  skip: whyNot("bun"),
}, async () => {
  const folder = temporaryFolder();
  const bun = RUNTIME === "bun" ? process.execPath : "bun";
  const [server, client] = ["aes_server", "aes_client"].map((tool) => join(folder, tool));
  for (const binary of [server!, client!]) {
    const source = fileURLToPath(new URL(`../../${basename(binary)}.ts`, import.meta.url));
    execFileSync(bun, ["build", "--compile", source, "--outfile", binary], { stdio: "pipe" });
  }
  const serving = spawn(server!, ["--port", "0", "--once"], { cwd: folder });
  const lines = createInterface({ input: serving.stdout })[Symbol.asyncIterator]();
  const port = /:(\d+)$/.exec(String((await lines.next()).value))![1]!;
  execFileSync(client!, ["from a binary", "--port", port], { cwd: folder, stdio: "pipe" });
  assert.match(String((await lines.next()).value), /> from a binary$/);
  const [status] = await once(serving, "exit");
  assert.equal(status, 0);
});
