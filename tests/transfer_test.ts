import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import type { Channel } from "../lib/channel/channel.ts";
import {
  decodeAnswer,
  decodeRefusal,
  encodeEnd,
  encodeItem,
  encodeOffer,
  encodePosition,
  FRAME,
  type Frame,
  type Offer,
} from "../lib/channel/frames.ts";
import { parseFileName, PARTIALS_FOLDER } from "../lib/channel/names.ts";
import { ReceiveFolder } from "../lib/channel/receive_folder.ts";
import { WINDOW_BYTES } from "../lib/channel/send_files.ts";
import { checkPaths } from "../lib/channel/walk_files.ts";
import { openRawChannel, runClient, startProxy, startServer } from "./aes_support.ts";
import { temporaryFolder } from "./support.ts";

const MIB = 1024 * 1024;

function sha256(bytes: Uint8Array): Uint8Array {
  return createHash("sha256").update(bytes).digest();
}

/** What lies under a folder, without the unfinished files. */
function tree(folder: string): string[] {
  return (readdirSync(folder, { recursive: true }) as string[])
    .filter((path) => !path.startsWith(PARTIALS_FOLDER)).sort();
}

/** The unfinished file of a name. */
function partialPath(out: string, name: string): string {
  return join(out, PARTIALS_FOLDER, createHash("sha256").update(name).digest("hex"));
}

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

/** Offers a file by hand and gives what comes back. */
async function offerByHand(channel: Channel, offer: Partial<Offer> & { item: number }) {
  const complete = {
    kind: "file" as const,
    executable: false,
    size_bytes: 4,
    modified_ms: 0,
    name: "x",
    ...offer,
  };
  channel.send(FRAME.offer, encodeOffer(complete));
  return (await channel.receive())!;
}

function refusalCode(frame: Frame | null): string {
  assert.equal(frame?.type, FRAME.refused);
  return decodeRefusal(frame.body).code;
}

test("no name leads out of the folder, whoever sends it", async () => {
  const parent = temporaryFolder();
  const out = join(parent, "out");
  const server = await startServer({ out });
  const channel = await openRawChannel(server.port);
  const names = [
    "../x",
    "/etc/x",
    "a/../../x",
    "a/./x",
    "",
    ".",
    "..",
    "a//x",
    "a/",
    ".partial/x",
    ".PARTIAL",
    "a\\..\\x",
    "a\nb",
    "a\u0000b",
    "a\u001b[2Jb",
    "a\u009bb",
    "y".repeat(256),
    "ö".repeat(128),
  ];
  for (const [item, name] of names.entries()) {
    for (const kind of ["file", "folder"] as const) {
      const frame = await offerByHand(channel, {
        item: item * 2 + (kind === "file" ? 0 : 1),
        name,
        kind,
      });
      assert.equal(refusalCode(frame), "bad_name", JSON.stringify(name));
    }
  }
  await channel.close();
  assert.deepEqual(tree(out), []);
  assert.deepEqual(readdirSync(parent), ["out"]);
  await server.close();
});

test("names of devices, and what Windows cannot store, are refused there alone", () => {
  for (
    const name of ["CON", "nul.txt", "Lpt1", "com¹.log", "a:b", "c:", "a/b?", "dot.", "space "]
  ) {
    assert.throws(() => parseFileName(name, "win32"), { code: "bad_name" }, name);
    assert.doesNotThrow(() => parseFileName(name, "linux"), name);
  }
});

test("symbolic links under the folder are not followed", async () => {
  const elsewhere = temporaryFolder();
  const out = temporaryFolder();
  writeFileSync(join(elsewhere, "secret"), "old!");
  symlinkSync(elsewhere, join(out, "link"));
  symlinkSync(join(elsewhere, "secret"), join(out, "file"));
  symlinkSync(join(elsewhere, "not there"), join(out, "dangling"));
  const server = await startServer({ out });
  const channel = await openRawChannel(server.port);
  assert.equal(refusalCode(await offerByHand(channel, { item: 0, name: "link/x" })), "unsafe_path");
  assert.equal(refusalCode(await offerByHand(channel, { item: 1, name: "file" })), "target_exists");
  const folder = await offerByHand(channel, { item: 2, name: "link/sub", kind: "folder" });
  assert.equal(refusalCode(folder), "unsafe_path");
  for (const [item, name] of [[3, "dangling"], [4, "dangling/x"]] as const) {
    assert.equal((await offerByHand(channel, { item, name })).type, FRAME.answer);
    const code = refusalCode(await sendByHand(channel, item, 0, Buffer.from("new!")));
    assert.equal(code, item === 3 ? "target_exists" : "unsafe_path");
  }
  assert.deepEqual(readdirSync(elsewhere), ["secret"]);
  assert.equal(readFileSync(join(elsewhere, "secret"), "utf8"), "old!");
  await channel.close();
  await server.close();
});

/** Sends the content of an offered file by hand and gives what comes back. */
function sendByHand(
  channel: Channel,
  item: number,
  offset_bytes: number,
  content: Uint8Array,
  hash: Uint8Array = sha256(content),
): Promise<Frame | null> {
  channel.send(FRAME.start, encodePosition({ item, offset_bytes }));
  channel.send(FRAME.chunk, encodeItem(item), content);
  const length_bytes = offset_bytes + content.length;
  channel.send(FRAME.end, encodeEnd({ item, length_bytes, sha256: hash }));
  return channel.receive();
}

test("content that is not what its hash says is refused and deleted", async () => {
  const out = temporaryFolder();
  const server = await startServer({ out });
  const channel = await openRawChannel(server.port);
  await offerByHand(channel, { item: 0, name: "x" });
  const frame = await sendByHand(channel, 0, 0, Buffer.from("abcd"), sha256(Buffer.from("abce")));
  assert.equal(refusalCode(frame), "hash_mismatch");
  await offerByHand(channel, { item: 1, name: "x" });
  const short = await sendByHand(channel, 1, 0, Buffer.from("abc"));
  assert.equal(refusalCode(short), "hash_mismatch");
  assert.deepEqual(tree(out), []);
  assert.equal(existsSync(partialPath(out, "x")), false);
  await channel.close();
  await server.close();
});

test("a client that breaks the protocol is ended, and the server serves on", async () => {
  const out = temporaryFolder();
  const server = await startServer({ out });
  const misdeeds: ((channel: Channel) => void)[] = [
    (channel) => channel.send(0x77),
    (channel) => channel.send(FRAME.answer, new Uint8Array(45)),
    (channel) => channel.send(FRAME.offer, new Uint8Array(3)),
    (channel) => channel.send(FRAME.chunk, encodeItem(9), new Uint8Array(3)),
    (channel) =>
      channel.send(
        FRAME.end,
        encodeEnd({ item: 3, length_bytes: 0, sha256: sha256(new Uint8Array(0)) }),
      ),
    (channel) => {
      channel.send(FRAME.message, encodePosition({ item: 0, offset_bytes: 3 }));
      channel.send(FRAME.message, encodePosition({ item: 1, offset_bytes: 3 }));
    },
    (channel) => {
      channel.send(FRAME.message, encodePosition({ item: 0, offset_bytes: 3 }));
      channel.send(FRAME.chunk, encodeItem(0), new Uint8Array(4));
    },
    (channel) => {
      channel.send(FRAME.message, encodePosition({ item: 0, offset_bytes: 3 }));
      channel.send(
        FRAME.end,
        encodeEnd({ item: 0, length_bytes: 3, sha256: sha256(new Uint8Array(3)) }),
      );
    },
    (channel) => {
      for (let item = 0; item < 600; item++) {
        channel.send(
          FRAME.offer,
          encodeOffer({
            item,
            kind: "file",
            executable: false,
            size_bytes: 1,
            modified_ms: 0,
            name: `f${item}`,
          }),
        );
      }
    },
  ];
  for (const [index, misdeed] of misdeeds.entries()) {
    const channel = await openRawChannel(server.port);
    misdeed(channel);
    await server.ended(index + 1);
    assert.equal(server.endings[index]?.code, "protocol_error", `misdeed ${index}`);
    channel.destroy(server.endings[index]!);
  }
  assert.deepEqual(server.messages, []);
  assert.equal((await runClient(server.port, { message: "still there?" })).error, null);
  assert.deepEqual(server.messages, ["still there?"]);
  await server.close();
});

test("a transfer goes on from what is there, if that is the start of the same file", async () => {
  const out = temporaryFolder();
  const server = await startServer({ out });
  const source = join(temporaryFolder(), "big");
  const content = randomBytes(5 * MIB);
  writeFileSync(source, content);
  const channel = await openRawChannel(server.port);
  const offer = { name: "big", size_bytes: content.length };
  await offerByHand(channel, { item: 0, ...offer });
  channel.send(FRAME.start, encodePosition({ item: 0, offset_bytes: 0 }));
  for (let at = 0; at < 3 * MIB; at += MIB / 4) {
    channel.send(FRAME.chunk, encodeItem(0), content.subarray(at, at + MIB / 4));
  }
  await channel.close();
  await server.ended(1);
  assert.equal(statSync(partialPath(out, "big")).size, 3 * MIB);
  assert.deepEqual(tree(out), []);

  const again = await openRawChannel(server.port);
  const answer = decodeAnswer((await offerByHand(again, { item: 0, ...offer })).body);
  assert.equal(answer.has, "partial");
  assert.equal(answer.length_bytes, 3 * MIB);
  assert.deepEqual(Buffer.from(answer.sha256), sha256(content.subarray(0, 3 * MIB)));
  await again.close();

  const { sent } = await runClient(server.port, { paths: [source] });
  assert.equal(sent[0]?.resumed_from_bytes, 3 * MIB);
  assert.deepEqual(readFileSync(join(out, "big")), content);
  assert.equal(existsSync(partialPath(out, "big")), false);
  await server.close();
});

test("what is there of another file of that name, or is longer, is not built on", async () => {
  const out = temporaryFolder();
  const folder = temporaryFolder();
  const content = randomBytes(MIB);
  mkdirSync(join(out, PARTIALS_FOLDER));
  const partials = { other: randomBytes(MIB / 2), longer: randomBytes(2 * MIB), linked: content };
  for (const [name, partial] of Object.entries(partials)) {
    writeFileSync(join(folder, name), content);
    writeFileSync(partialPath(out, name), partial);
  }
  // Published, and the machine failed before the first name was removed.
  truncateSync(partialPath(out, "linked"), MIB / 2);
  linkSync(partialPath(out, "linked"), join(out, "finished"));
  const server = await startServer({ out });
  const { sent, failed } = await runClient(server.port, {
    paths: Object.keys(partials).map((name) => join(folder, name)),
  });
  assert.deepEqual(failed, []);
  for (const { file, resumed_from_bytes } of sent) {
    assert.equal(resumed_from_bytes, 0, file.name);
    assert.deepEqual(readFileSync(join(out, file.name)), content);
  }
  assert.deepEqual(readFileSync(join(out, "finished")), content.subarray(0, MIB / 2));
  await server.close();
});

test("a file that shrinks or changes while it is sent is not published", async () => {
  const out = temporaryFolder();
  const server = await startServer({ out });
  const folder = temporaryFolder();
  const paths = ["shrinks", "changes", "steady"].map((name) => join(folder, name));
  for (const path of paths) writeFileSync(path, randomBytes(8 * MIB));
  let touched = 0;
  const { failed, sent, error } = await runClient(server.port, {
    paths,
    onProgress: () => {
      touched++;
      if (touched === 3) truncateSync(paths[0]!, 5 * MIB);
      if (touched === 25) writeFileSync(paths[1]!, randomBytes(16), { flag: "r+" });
    },
  });
  assert.deepEqual(failed, [
    { name: "shrinks", code: "file_changed" },
    { name: "changes", code: "file_changed" },
  ]);
  assert.deepEqual(sent.map(({ file }) => file.name), ["steady"]);
  assert.equal(error, null);
  assert.deepEqual(tree(out), ["steady"]);
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

test("another server's folder is left alone, a dead one's is taken over", async () => {
  const out = temporaryFolder();
  const folder = ReceiveFolder.open(out);
  const mark = join(out, PARTIALS_FOLDER, "server.pid");
  writeFileSync(mark, String(process.ppid));
  await assert.rejects(folder.claim("x", {}), { code: "folder_in_use" });
  writeFileSync(mark, "4194304");
  await assert.doesNotReject(folder.claim("x", {}));
  assert.equal(readFileSync(mark, "utf8"), String(process.pid));
  folder.close();
  assert.equal(existsSync(mark), false);
});

test("a connection that breaks again and again: the client goes on by itself, and loses little", {
  timeout: 60_000,
}, async () => {
  const out = temporaryFolder();
  const server = await startServer({ out });
  const path = join(temporaryFolder(), "big");
  const content = randomBytes(40 * MIB);
  writeFileSync(path, content);
  // Each connection is cut after 12 MiB.
  const proxy = await startProxy(server.port, (bytes, way, offset) => {
    if (way === "to_server" && offset > 12 * MIB) throw new Error("cut");
    return bytes;
  });
  const { sent, error, reconnects } = await runClient(proxy.port, { paths: [path] });
  assert.equal(error, null);
  assert.ok(reconnects >= 3, `${reconnects} reconnects`);
  assert.deepEqual(readFileSync(join(out, "big")), content);
  const most_bytes = reconnects * (WINDOW_BYTES + MIB / 4);
  assert.ok(sent[0]!.resent_bytes <= most_bytes, `${sent[0]!.resent_bytes} bytes sent again`);
  await proxy.close();
  await server.close();
});

test("a server that never comes back is given up after a bounded number of tries", {
  timeout: 60_000,
}, async () => {
  const server = await startServer({ out: temporaryFolder() });
  const path = join(temporaryFolder(), "big");
  writeFileSync(path, randomBytes(4 * MIB));
  const proxy = await startProxy(server.port, (bytes, way, offset) => {
    if (way === "to_server" && offset > MIB) {
      proxy.close();
      throw new Error("gone");
    }
    return bytes;
  });
  const { error, reconnects } = await runClient(proxy.port, { paths: [path] });
  assert.equal(error, "no_connection");
  assert.equal(reconnects, 8);
  await server.close();
});

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
