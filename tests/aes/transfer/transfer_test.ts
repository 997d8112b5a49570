import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { PARTIALS_FOLDER } from "../../../lib/aes/transfer/names.ts";
import { ReceiveFolder } from "../../../lib/aes/transfer/receive_folder.ts";
import { checkPaths } from "../../../lib/aes/transfer/walk_files.ts";
import { runClient, startServer, TEST_STALL_MS } from "../../support/aes.ts";
import { LIMIT, runClient as runTool, startServer as startTool } from "../../support/aes_tools.ts";
import { temporaryFolder } from "../../support/support.ts";
import { MIB, partialPath, tree } from "../../support/transfer.ts";

function makeTree(): string {
  const root = join(temporaryFolder(), "a tree");
  mkdirSync(join(root, "größe/deep/er"), { recursive: true });
  mkdirSync(join(root, "empty"));
  writeFileSync(join(root, "größe/deep/er/one.bin"), randomBytes(3 * MIB + 17));
  writeFileSync(join(root, "größe/日本 語 😀.txt"), "text");
  writeFileSync(join(root, "nothing"), "");
  writeFileSync(join(root, "x".repeat(255)), "a long name");
  writeFileSync(join(root, "CON"), "a device elsewhere");
  writeFileSync(join(root, "run.sh"), "#!/bin/sh\n");
  chmodSync(join(root, "run.sh"), 0o755);
  utimesSync(join(root, "nothing"), 1_000_000_000.123, 1_000_000_000.123);
  return root;
}

test("a folder arrives with its structure, contents, times and executable bits", async () => {
  const root = makeTree();
  const out = temporaryFolder();
  const server = await startServer({ out });
  const { sent, failed, error } = await runClient(server.port, { paths: [root] });
  await server.ended(1);
  assert.equal(error, null);
  assert.deepEqual(failed, []);
  const there = join(out, "a tree");
  assert.deepEqual(tree(there), tree(root));
  for (const { file } of sent) {
    const path = join(out, file.name);
    const [original, copy] = [statSync(file.path), statSync(path)];
    if (original.isDirectory()) continue;
    assert.deepEqual(readFileSync(path), readFileSync(file.path));
    assert.equal(Math.floor(copy.mtimeMs), Math.floor(original.mtimeMs), file.name);
    assert.equal(copy.mode & 0o111, original.mode & 0o111, file.name);
  }
  assert.equal(server.files.length, sent.length - 1, "one event for each file, none for a folder");
  assert.deepEqual(server.endings, [null]);
  assert.equal(readdirSync(join(out, PARTIALS_FOLDER)).length, 1, "only the server's own mark");
  await server.close();
});

test("what is there already is not sent again, and what differs is left as it is", async () => {
  const root = makeTree();
  const out = temporaryFolder();
  const server = await startServer({ out });
  await runClient(server.port, { paths: [root] });
  const count = server.files.length;
  const again = await runClient(server.port, { paths: [root] });
  assert.deepEqual(again.failed, []);
  for (const { file, resumed_from_bytes, resent_bytes } of again.sent) {
    assert.equal(resumed_from_bytes, file.size_bytes);
    assert.equal(resent_bytes, 0);
  }
  assert.equal(server.files.length, count, "no new file was announced");

  const other = join(out, "a tree/größe/日本 語 😀.txt");
  writeFileSync(other, "TEXT");
  writeFileSync(join(out, "a tree/run.sh"), "longer than before\n");
  const third = await runClient(server.port, { paths: [root] });
  assert.deepEqual(third.failed.map(({ code }) => code), ["target_exists", "target_exists"]);
  assert.equal(third.error, null);
  assert.equal(readFileSync(other, "utf8"), "TEXT");
  await server.close();
});

test("devices, pipes and links inside a folder are passed over, and named", async () => {
  const out = temporaryFolder();
  const server = await startServer({ out });
  const folder = join(temporaryFolder(), "odd");
  mkdirSync(folder);
  writeFileSync(join(folder, "plain"), "plain");
  symlinkSync("/etc/hostname", join(folder, "link"));
  execFileSync("mkfifo", [join(folder, "pipe")]);
  const { failed } = await runClient(server.port, { paths: [folder] });
  assert.deepEqual(failed.map(({ code }) => code), ["not_a_file", "not_a_file"]);
  assert.deepEqual(tree(out), ["odd", "odd/plain"]);
  assert.throws(() => checkPaths(["/dev/null"]), { code: "not_a_file" });
  assert.throws(() => checkPaths([join(folder, "none")]), { code: "file_unreadable" });
  assert.throws(() => checkPaths([folder, folder]), { code: "usage" });
  await server.close();
});

test("two clients with the same file: one sends it, the other finds it there", {
  timeout: 30_000,
}, async () => {
  const out = temporaryFolder();
  const server = await startServer({ out, stall_ms: 20_000 });
  const path = join(temporaryFolder(), "same");
  const content = randomBytes(32 * MIB);
  writeFileSync(path, content);
  const outcomes = await Promise.all(
    [1, 2, 3].map(() => runClient(server.port, { paths: [path] }, { stall_ms: 20_000 })),
  );
  for (const { failed, error } of outcomes) {
    assert.deepEqual(failed, []);
    assert.equal(error, null);
  }
  const sent = outcomes.filter(({ sent }) => sent[0]?.resumed_from_bytes === 0);
  assert.equal(sent.length, 1);
  assert.equal(server.files.length, 1);
  assert.deepEqual(readFileSync(join(out, "same")), content);
  await server.close();
});

test("another server's folder is left alone, a dead one's is taken over", LIMIT, async () => {
  const file = join(temporaryFolder(), "x");
  writeFileSync(file, "x");
  const other = await startTool();
  assert.equal((await runTool(other, ["--file", file])).status, 0);
  const out = join(other.folder, "received");
  const server = await startServer({ out });
  const path = join(temporaryFolder(), "y");
  writeFileSync(path, "y");
  const refused = await runClient(server.port, { paths: [path] });
  assert.deepEqual(refused.failed, [{ name: "y", code: "folder_in_use" }]);
  assert.deepEqual(tree(out), ["x"]);
  process.kill(other.tool.pid, "SIGKILL");
  await other.tool.ended;
  const taken = await runClient(server.port, { paths: [path] });
  assert.deepEqual(taken.failed, []);
  assert.deepEqual(tree(out), ["x", "y"]);
  await server.close();
});

test("unfinished files are kept a week, whatever time a sender gave them", () => {
  const out = temporaryFolder();
  ReceiveFolder.open(out);
  const paths = ["a", "b"].map((name) => partialPath(out, name));
  for (const path of paths) writeFileSync(path, "start");
  utimesSync(paths[0]!, 1_000_000_000, 1_000_000_000);
  utimesSync(paths[1]!, 10_000_000_000, 10_000_000_000);
  const day_ms = 24 * 60 * 60 * 1000;
  ReceiveFolder.open(out, Date.now() + 6 * day_ms);
  assert.deepEqual(paths.map((path) => existsSync(path)), [true, true]);
  ReceiveFolder.open(out, Date.now() + 8 * day_ms);
  assert.deepEqual(paths.map((path) => existsSync(path)), [false, false]);
});

test(
  "a sync that takes longer than the client waits for a sign of life is waited for",
  LIMIT,
  async () => {
    const out = temporaryFolder();
    const server = await startServer({ out });
    const path = join(temporaryFolder(), "slow");
    writeFileSync(path, "slow");
    server.folder.fileSyncs.sync = () => sleep(2 * TEST_STALL_MS);
    const { failed, error, reconnects } = await runClient(server.port, { paths: [path] });
    assert.deepEqual([failed, error, reconnects], [[], null, 0]);
    assert.deepEqual(tree(out), ["slow"]);
    await server.close();
  },
);

/** A small file system of its own, or null where this user may not mount one. */
function mountSmallDisk(size_bytes: number): { path: string; unmount: () => void } | null {
  const path = temporaryFolder();
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${size_bytes}`, "none", path], {
      stdio: "pipe",
    });
  } catch {
    return null;
  }
  return { path, unmount: () => execFileSync("umount", [path]) };
}

const disk = mountSmallDisk(4 * MIB);
test("a full disk refuses the file, keeps what arrived, and others go on", {
  skip: disk === null ? "a small file system cannot be mounted here" : false,
}, async () => {
  if (!disk) return;
  try {
    const server = await startServer({ out: disk.path });
    const folder = temporaryFolder();
    writeFileSync(join(folder, "a big one"), randomBytes(8 * MIB));
    writeFileSync(join(folder, "small"), "");
    const paths = [join(folder, "a big one"), join(folder, "small")];
    const first = await runClient(server.port, { paths });
    assert.deepEqual(first.failed, [{ name: "a big one", code: "disk_full" }]);
    assert.equal(first.error, null);
    assert.deepEqual(first.sent.map(({ file }) => file.name), ["small"]);
    assert.deepEqual(tree(disk.path), ["small"]);
    execFileSync("mount", ["-o", "remount,size=16m", disk.path]);
    const second = await runClient(server.port, { paths: [paths[0]!] });
    assert.deepEqual(second.failed, []);
    assert.ok(second.sent[0]!.resumed_from_bytes > 2 * MIB);
    assert.deepEqual(readFileSync(join(disk.path, "a big one")), readFileSync(paths[0]!));
    await server.close();
  } finally {
    disk.unmount();
  }
});
