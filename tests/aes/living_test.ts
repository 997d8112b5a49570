/**
 * The AES pair as a person or a script lives with it: hints, pipes, bars, and what each message
 * looks like.
 */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { LIMIT, runClient, startServer } from "../support/aes_tools.ts";
import { Screen, skipScreen } from "../support/screen.ts";
import { runTool, spawnTool, temporaryFolder } from "../support/support.ts";

const SLOW = { timeout: 180_000 };

test("--pair prints the command for the other end, which works as it is", LIMIT, async () => {
  const folder = temporaryFolder();
  const server = spawnTool("aes_server.ts", ["--pair", "--port", "0"], { cwd: folder });
  const port = /:(\d+)$/.exec(await server.nextLine())![1]!;
  assert.match(await server.nextLine(), /^Pairing code/);
  assert.equal(await server.nextLine(), "At the other end:");
  const command = await server.nextLine();
  assert.match(
    command,
    new RegExp(`^ {2}aes_client\\.ts --host [\\w.:]+ --port ${port} --pair \\d+-\\w+-\\w+$`),
  );
  const other = temporaryFolder();
  const [, ...args] = command.trim().split(" ");
  const paired = await runTool("aes_client.ts", args, { cwd: other });
  assert.equal(paired.status, 0, paired.stderr);
  const keys = [folder, other].map((at) => readFileSync(join(at, "aes_key.bin"), "hex"));
  assert.equal(keys[0], keys[1]);
  await server.stop();
});

test("what is missing, taken or meant otherwise is said with what to do", SLOW, async () => {
  const folder = temporaryFolder();
  const missing = await runTool("aes_client.ts", ["hi"], { cwd: folder });
  assert.match(missing.stderr, /no key file aes_key\.bin: copy it .*aes_server\.ts --pair/);
  const server = await startServer();
  const taken = await runTool("aes_server.ts", ["--port", String(server.port)], { cwd: folder });
  assert.match(taken.stderr, /in use on 0\.0\.0\.0: choose another with --port/);
  mkdirSync(join(folder, "holiday"));
  const sent = await runClient(server, ["holiday"], { cwd: folder });
  assert.equal(sent.status, 0, sent.stderr);
  assert.match(sent.stderr, /sending the word "holiday"; .*--file holiday/);
  await server.tool.stop();
});

test("pipes: a file from standard input, and one to standard output", SLOW, async () => {
  const folder = temporaryFolder();
  const content = randomBytes(3_000_000);
  const hash = createHash("sha256").update(content).digest("hex");
  const server = spawnTool(
    "aes_server.ts",
    ["--once", "--out", "-", "--port", "0", "--sha256"],
    { cwd: folder },
  );
  while (!/Listening on/.test(server.stderrText)) await new Promise((done) => setTimeout(done, 20));
  const port = Number(/:(\d+)\n/.exec(server.stderrText)![1]);
  const named = ["--file", "-", "--name", "data.bin", "--sha256"];
  const sent = await runClient({ port, folder }, named, { stdin: new Uint8Array(content) });
  assert.equal(sent.status, 0, sent.stderr);
  assert.match(sent.stdout, new RegExp(`^Sent data\\.bin .*\\nSHA-256 ${hash}$`, "m"));
  const { status } = await server.ended;
  assert.equal(status, 0);
  assert.deepEqual(readdirSync(folder), ["aes_key.bin"]);

  const shell = await runTool("aes_client.ts", ["--file", "-"], { cwd: folder });
  assert.match(shell.stderr, /--file - takes --name NAME/);
  const folderName = await runTool("aes_client.ts", ["--file", "-", "--name", "a/b"], {
    cwd: folder,
  });
  assert.match(folderName.stderr, /--name takes a file's name without folders/);
  const always = await runTool("aes_server.ts", ["--out", "-"], { cwd: folder });
  assert.match(always.stderr, /--out - takes --once/);
});

test("a message to standard output is exactly its bytes", SLOW, async () => {
  const folder = temporaryFolder();
  const args = ["--once", "--out", "-", "--port", "0"];
  const server = spawnTool("aes_server.ts", args, { cwd: folder });
  while (!/Listening on/.test(server.stderrText)) await new Promise((done) => setTimeout(done, 20));
  const port = Number(/:(\d+)\n/.exec(server.stderrText)![1]);
  await runClient({ port, folder }, ["-"], { stdin: "two\nlines\n" });
  const { stdout } = await server.ended;
  assert.equal(stdout, "two\nlines\n");
});

test(
  "an empty message, a binary one, a long one and an empty file each look right",
  SLOW,
  async () => {
    const folder = temporaryFolder();
    const server = spawnTool("aes_server.ts", ["--port", "0", "--sha256"], { cwd: folder });
    const port = Number(/:(\d+)$/.exec(await server.nextLine())![1]);
    const send = async (args: string[], stdin: string | Uint8Array = "") => {
      const outcome = await runClient({ port, folder }, args, { stdin, cwd: folder });
      assert.equal(outcome.status, 0, outcome.stderr);
    };
    await send(["-"]);
    assert.match(await server.nextLine(), /> \(an empty message\)$/);
    await send(["-"], new Uint8Array([0xff, 0xfe, 0, 1]));
    assert.match(await server.nextLine(), /> \(4 B that are no text; --json prints them\)$/);
    await send(["-"], "line\n".repeat(60));
    for (let line = 0; line < 60; line++) assert.match(await server.nextLine(), /> line$/);
    assert.match(await server.nextLine(), /> $/);
    writeFileSync(join(folder, "empty"), "");
    await send(["--file", "empty"]);
    assert.match(await server.nextLine(), /^Received received\/empty \(0 B\) from /);
    assert.match(await server.nextLine(), /^SHA-256 e3b0c442/);
    await server.stop();
  },
);

test("the bar fits 40 columns and a narrower terminal; Ctrl-C says that it goes on", {
  ...SLOW,
  skip: skipScreen,
}, async () => {
  const server = await startServer();
  const folder = temporaryFolder();
  writeFileSync(join(folder, "big"), "");
  truncateSync(join(folder, "big"), 4 * 1024 * 1024 * 1024);
  const key = join(server.folder, "aes_key.bin");
  const args = ["--port", String(server.port), "--key", key, "--file", join(folder, "big")];
  // NO_COLOR turns bars off.
  const screen = new Screen("aes_client.ts", args, { columns: 40, env: { NO_COLOR: "" } });
  await screen.see(/sending.* \d+% [\d.]+ MiB\/s .*left/);
  for (const line of screen.lines) assert.ok(line.length <= 39, line);
  assert.equal(screen.lines.filter((line) => line.startsWith("sending")).length, 1);
  screen.resize(30);
  await new Promise((done) => setTimeout(done, 500));
  // The terminal may wrap what is drawn before the tool hears of its new size.
  assert.ok(screen.lines.filter((line) => /\d%/.test(line)).length <= 2, screen.text);
  assert.match(screen.lines.at(-1)!, /\d% .*left$/);
  screen.press("C-c");
  const text = await screen.see("interrupted: the same command goes on from there");
  assert.doesNotMatch(text, /%.*interrupted/);
  assert.equal(await screen.ended(), 130);
  screen.close();
  await server.tool.stop();
});

test("a word that is a folder here is asked about on a terminal", {
  ...SLOW,
  skip: skipScreen,
}, async () => {
  const server = await startServer();
  const folder = temporaryFolder();
  mkdirSync(join(folder, "holiday"));
  writeFileSync(join(folder, "holiday", "photo"), "x");
  const key = join(server.folder, "aes_key.bin");
  const args = ["--port", String(server.port), "--key", key, "holiday"];
  const screen = new Screen("aes_client.ts", args, { cwd: folder });
  await screen.see('"holiday" is a file or folder here. Send that (yes/no)?');
  screen.enter("yes");
  await screen.see("Sent holiday/photo (1 B)");
  assert.equal(await screen.ended(), 0);
  screen.close();
  await server.tool.stop();
});
