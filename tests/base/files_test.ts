import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { spawnSync } from "node:child_process";
import {
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
import { fileURLToPath } from "node:url";
import {
  createFileAtomic,
  makeFolder,
  readTextFile,
  writeFileAtomic,
} from "../../lib/base/files.ts";
import { refusalOf, unwritableFolder } from "../support/refusal.ts";
import { RUNTIME, runTool, spawnTool, temporaryFolder } from "../support/support.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const READ = { size_bytes_max: 1000, code: "file_unreadable" } as const;

function modeOf(path: string): number {
  return statSync(path).mode & 0o777;
}

test("a file is written with its content and mode, and replaced whole", () => {
  const folder = temporaryFolder();
  const path = join(folder, "file");
  writeFileAtomic(path, "first", 0o600);
  assert.equal(readFileSync(path, "utf8"), "first");
  assert.equal(modeOf(path), 0o600);
  const bytes = Buffer.from([0, 255, 10]);
  writeFileAtomic(path, bytes, 0o640);
  assert.deepEqual(readFileSync(path), bytes);
  assert.equal(modeOf(path), 0o640);
  assert.deepEqual(readdirSync(folder), ["file"]);
});

test("a file is created once, and what exists is left as it is", () => {
  const folder = temporaryFolder();
  const path = join(folder, "file");
  assert.equal(createFileAtomic(path, "first", 0o600), true);
  assert.equal(createFileAtomic(path, "second", 0o644), false);
  assert.equal(readFileSync(path, "utf8"), "first");
  assert.equal(modeOf(path), 0o600);
  assert.deepEqual(readdirSync(folder), ["file"]);
});

test("a symbolic link is not written through, be its target there or not", () => {
  const folder = temporaryFolder();
  const target = join(folder, "target");
  symlinkSync(target, join(folder, "created"));
  assert.equal(createFileAtomic(join(folder, "created"), "x", 0o600), false);
  assert.equal(existsSync(target), false);
  writeFileSync(target, "untouched");
  symlinkSync(target, join(folder, "written"));
  writeFileAtomic(join(folder, "written"), "x", 0o600);
  assert.equal(readFileSync(target, "utf8"), "untouched");
});

test("of twelve processes that create the same file one does, and its content is there", {
  timeout: 60_000,
}, async () => {
  const folder = temporaryFolder();
  const runs = Array.from({ length: 12 }, async (_, index) => {
    const { stdout } = await runTool("tests/support/keys_worker.ts", [
      "create",
      folder,
      `from ${index}`,
    ]);
    return { index, created: JSON.parse(stdout).created as boolean };
  });
  const creators = (await Promise.all(runs)).filter(({ created }) => created);
  assert.equal(creators.length, 1);
  assert.equal(readFileSync(join(folder, "file"), "utf8"), `from ${creators[0]!.index}`);
  assert.deepEqual(readdirSync(folder), ["file"]);
});

test("a reader sees whole contents only, also after the writer was killed in the middle", {
  timeout: 60_000,
}, async () => {
  const folder = temporaryFolder();
  const path = join(folder, "file");
  for (let round = 0; round < 5; round++) {
    const writer = spawnTool("tests/support/keys_worker.ts", ["overwrite", folder]);
    await writer.nextLine();
    const reads = 50 + 10 * round;
    for (let read = 0; read < reads; read++) requireWhole(readFileSync(path, "utf8"));
    await writer.stop("SIGKILL");
    requireWhole(readFileSync(path, "utf8"));
  }
});

function requireWhole(content: string): void {
  assert.equal(content.length, 1_000_000);
  assert.match(content, /^(a+|b+)$/);
}

test("a folder that cannot be written in is named, with the reason", async () => {
  const folder = unwritableFolder();
  const path = join(folder, "file");
  for (const write of [writeFileAtomic, createFileAtomic]) {
    const error = await refusalOf(() => write(path, "x", 0o600));
    assert.equal(error.code, "folder_unwritable");
    assert.match(
      error.message,
      /^cannot write in the folder \S+: (permission denied|the system does)/,
    );
    assert.ok(error.message.includes(folder));
    assert.ok(error.cause instanceof Error);
  }
  const error = await refusalOf(() => makeFolder(join(folder, "keys")));
  assert.equal(error.code, "folder_unwritable");
  assert.ok(error.message.includes(join(folder, "keys")));
});

test("a folder that is missing, or is a file, is named, with the reason", async () => {
  const folder = temporaryFolder();
  writeFileSync(join(folder, "file"), "");
  for (const [name, reason] of [["missing", "there is no such folder"], ["file", "no folder"]]) {
    const error = await refusalOf(() => writeFileAtomic(join(folder, name!, "x"), "x", 0o600));
    assert.equal(error.code, "folder_unwritable");
    assert.ok(error.message.includes(join(folder, name!)) && error.message.includes(reason!));
  }
  for (const path of ["file", "file/below"]) {
    const error = await refusalOf(() => makeFolder(join(folder, path)));
    assert.equal(error.code, "folder_unwritable");
    assert.match(error.message, /part of the path is no folder/);
  }
});

test("a write that fails leaves the old content and nothing else", async () => {
  const folder = temporaryFolder();
  mkdirSync(join(folder, "taken", "below"), { recursive: true });
  const error = await refusalOf(() => writeFileAtomic(join(folder, "taken"), "x", 0o600));
  assert.equal(error.code, "write_failed");
  assert.equal(error.message, `cannot write ${join(folder, "taken")}: it is a folder`);
  assert.deepEqual(readdirSync(folder), ["taken"]);
  assert.deepEqual(readdirSync(join(folder, "taken")), ["below"]);
});

/** Runs the rest of its arguments with a file system of 16 KiB, of their own, on the first one. */
const ON_SMALL_DISK = ["-rm", "sh", "-c", 'mount -t tmpfs -o size=16k none "$0" && exec "$@"'];
const CAN_MOUNT = spawnSync("unshare", [...ON_SMALL_DISK, temporaryFolder(), "true"]).status === 0;

test("a full disk is a failed write that says so and leaves nothing", { skip: !CAN_MOUNT }, () => {
  const folder = temporaryFolder();
  const runtime = RUNTIME === "deno" ? ["run", "-A", "--no-check"] : [];
  const worker = [process.execPath, ...runtime, "tests/support/keys_worker.ts"];
  const command = [...ON_SMALL_DISK, folder, ...worker, "create", folder, "x".repeat(100_000)];
  const { stdout } = spawnSync("unshare", command, { cwd: ROOT, encoding: "utf8" });
  const { code, message, left } = JSON.parse(stdout);
  assert.equal(code, "write_failed");
  assert.equal(message, `cannot write ${join(folder, "file")}: the disk is full`);
  assert.deepEqual(left, []);
});

test("a new folder, and those above it, are open to this user alone", () => {
  const folder = join(temporaryFolder(), "a", "b");
  makeFolder(folder);
  makeFolder(folder);
  assert.equal(modeOf(folder), 0o700);
  assert.equal(modeOf(join(folder, "..")), 0o700);
});

test("a text file is read, and a missing one is null", () => {
  const path = join(temporaryFolder(), "file");
  assert.equal(readTextFile(path, READ), null);
  writeFileSync(path, "grüß dich");
  assert.equal(readTextFile(path, READ), "grüß dich");
  assert.equal(readTextFile(join(path, "below"), READ), null);
});

test("what cannot be read as text is refused with the caller's code, the path and the reason", async () => {
  const folder = temporaryFolder();
  writeFileSync(join(folder, "long"), "x".repeat(1001));
  writeFileSync(join(folder, "binary"), Buffer.from([0xff, 0xfe]));
  const reasons = {
    ".": /it is not a file/,
    "long": /longer than 1000 bytes/,
    "binary": /not UTF-8/,
  };
  for (const [name, reason] of Object.entries(reasons)) {
    const path = join(folder, name);
    const error = await refusalOf(() => readTextFile(path, READ));
    assert.equal(error.code, READ.code);
    assert.match(error.message, reason);
    assert.ok(error.message.includes(path));
  }
});

test("temporary files of killed processes are removed, and nothing else", () => {
  const folder = temporaryFolder();
  const old = new Date(Date.now() - 11 * 60 * 1000);
  const leftover = ".bob_private.pem.0123456789abcdef.tmp";
  const kept = [
    ".bob.tmp",
    "bob.0123456789abcdef.tmp",
    ".x.0123456789ABCDEF.tmp",
    "bob_private.pem",
  ];
  const fresh = ".order.fedcba9876543210.tmp";
  for (const name of [leftover, fresh, ...kept]) {
    writeFileSync(join(folder, name), "content");
    if (name !== fresh) utimesSync(join(folder, name), old, old);
  }
  mkdirSync(join(folder, ".folder.0123456789abcdef.tmp"));
  utimesSync(join(folder, ".folder.0123456789abcdef.tmp"), old, old);
  writeFileAtomic(join(folder, "new"), "content", 0o600);
  assert.deepEqual(
    readdirSync(folder).sort(),
    [...kept, fresh, ".folder.0123456789abcdef.tmp", "new"].sort(),
  );
});
