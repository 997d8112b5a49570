/** Small files, which travel in one frame each as long as the receiver has none of them. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Channel } from "../../../lib/aes/channel/channel.ts";
import {
  decodeAnswer,
  decodeHashed,
  encodePosition,
  encodeSmallFile,
  FRAME,
  type Frame,
  type Offer,
  SMALL_FILE_BYTES,
} from "../../../lib/aes/channel/frames.ts";
import { readWhole } from "../../../lib/aes/transfer/send_file.ts";
import { WINDOW_BYTES_MIN } from "../../../lib/aes/transfer/send_window.ts";
import { checkPaths, type LocalFile, walkFiles } from "../../../lib/aes/transfer/walk_files.ts";
import {
  assertEndsEach,
  openRawChannel,
  runClient,
  startProxy,
  startServer,
} from "../../support/aes.ts";
import { temporaryFolder } from "../../support/support.ts";
import { MIB, partialPath, refusalCode, sha256, tree } from "../../support/transfer.ts";

const SIZES_BYTES = [0, 1, 4096, SMALL_FILE_BYTES, SMALL_FILE_BYTES + 1];

/** A folder `many` of `count` files, of all sizes around the limit. */
function makeFiles(count: number): string {
  const folder = join(temporaryFolder(), "many");
  mkdirSync(folder);
  for (let index = 0; index < count; index++) {
    const size_bytes = SIZES_BYTES[index % SIZES_BYTES.length]!;
    writeFileSync(join(folder, String(index).padStart(4, "0")), randomBytes(size_bytes));
  }
  return folder;
}

function assertSame(folder: string, out: string): void {
  const copy = join(out, "many");
  assert.deepEqual(readdirSync(copy).sort(), readdirSync(folder).sort());
  for (const name of readdirSync(folder)) {
    assert.deepEqual(readFileSync(join(copy, name)), readFileSync(join(folder, name)), name);
  }
}

/** Sends a file in one frame. */
function send(
  channel: Channel,
  offer: Partial<Offer> & { item: number },
  content: Uint8Array,
): void {
  const whole = {
    kind: "file" as const,
    executable: false,
    size_bytes: content.length,
    modified_ms: 0,
    name: "x",
    ...offer,
  };
  channel.send(FRAME.file, encodeSmallFile(whole), content).catch(() => {});
}

/** As {@linkcode send}, and gives what comes back. */
function sendFileByHand(...sent: Parameters<typeof send>): Promise<Frame | null> {
  send(...sent);
  return sent[0].receive();
}

test("files that are there among files that are not: all end up there, and little is sent in vain", async () => {
  const folder = makeFiles(1_000);
  const out = temporaryFolder();
  mkdirSync(join(out, "many"));
  const isThere = (name: string) => Number(name) % 500 < 250;
  let there = 0;
  for (const name of readdirSync(folder).filter(isThere)) {
    writeFileSync(join(out, "many", name), readFileSync(join(folder, name)));
    there++;
  }
  const server = await startServer({ out });
  const { sent, failed, error } = await runClient(server.port, { paths: [folder] });
  assert.deepEqual([failed, error], [[], null]);
  assert.equal(sent.length, 1_000);
  assertSame(folder, out);
  assert.equal(server.files.length, 1_000 - there, "only what is new is announced");
  let resent = 0;
  for (const { file, resumed_from_bytes, resent_bytes } of sent) {
    const name = file.name.slice("many/".length);
    assert.equal(resumed_from_bytes, isThere(name) ? file.size_bytes : 0, name);
    resent += resent_bytes;
  }
  assert.ok(resent <= WINDOW_BYTES_MIN + SMALL_FILE_BYTES, `${resent} bytes in vain`);
  await server.close();
});

test(
  "many small files over a connection that breaks: each is there once, and little is sent again",
  {
    timeout: 60_000,
  },
  async () => {
    const folder = makeFiles(600);
    const out = temporaryFolder();
    const server = await startServer({ out });
    const proxy = await startProxy(server.port, (bytes, way, offset) => {
      if (way === "to_server" && offset > 5 * MIB) throw new Error("cut");
      return bytes;
    });
    const { sent, failed, error, reconnects } = await runClient(proxy.port, { paths: [folder] });
    assert.deepEqual([failed, error], [[], null]);
    assert.ok(reconnects >= 2, `${reconnects} reconnects`);
    assert.equal(sent.length, 600);
    assertSame(folder, out);
    assert.equal(server.files.length, 600);
    const resent = sent.reduce((sum, { resent_bytes }) => sum + resent_bytes, 0);
    const most_bytes = reconnects * (WINDOW_BYTES_MIN + SMALL_FILE_BYTES);
    assert.ok(resent <= most_bytes, `${resent} bytes sent again`);
    assert.ok(sent.every(({ resumed_from_bytes }) => resumed_from_bytes === 0));
    await proxy.close();
    await server.close();
  },
);

test("three clients send the same small files at once: each is made once", {
  timeout: 60_000,
}, async () => {
  const folder = makeFiles(200);
  const out = temporaryFolder();
  const server = await startServer({ out, stall_ms: 20_000 });
  const outcomes = await Promise.all(
    [1, 2, 3].map(() => runClient(server.port, { paths: [folder] }, { stall_ms: 20_000 })),
  );
  for (const { sent, failed, error } of outcomes) {
    assert.deepEqual([sent.length, failed, error], [200, [], null]);
  }
  assertSame(folder, out);
  assert.equal(server.files.length, 200);
  await server.close();
});

test("what a small file meets at the server, its sender is told, and nothing is replaced", async () => {
  const out = temporaryFolder();
  const elsewhere = temporaryFolder();
  symlinkSync(elsewhere, join(out, "link"));
  writeFileSync(join(out, "same"), "same");
  writeFileSync(join(out, "other"), "othe");
  writeFileSync(join(out, "longer"), "longer");
  const server = await startServer({ out });
  const channel = await openRawChannel(server.port);
  const offer = (item: number, name: string) =>
    sendFileByHand(channel, { item, name }, Buffer.from("same"));

  assert.equal((await offer(0, "new"))?.type, FRAME.acknowledged);
  assert.equal(readFileSync(join(out, "new"), "utf8"), "same");
  for (const [item, name, content] of [[1, "same", "same"], [2, "other", "othe"]] as const) {
    const frame = await offer(item, name);
    assert.equal(frame?.type, FRAME.answer);
    const answer = decodeAnswer(frame!.body);
    assert.deepEqual([answer.item, answer.has], [item, "finished"]);
    const hashed = decodeHashed((await channel.receive())!.body);
    assert.deepEqual(hashed, {
      item,
      length_bytes: content.length,
      sha256: Uint8Array.from(sha256(Buffer.from(content))),
    });
  }
  assert.equal(refusalCode(await offer(3, "longer")), "target_exists");
  assert.equal(refusalCode(await offer(4, "link/x")), "unsafe_path");
  assert.equal(refusalCode(await offer(5, "../x")), "bad_name");
  assert.equal(existsSync(partialPath(out, "link/x")), false);
  assert.deepEqual(tree(out), ["link", "longer", "new", "other", "same"]);
  assert.equal(readFileSync(join(out, "other"), "utf8"), "othe");
  assert.deepEqual(readdirSync(elsewhere), []);
  assert.deepEqual(server.files.map(({ name }) => name), ["new"]);
  await channel.close();
  await server.close();
});

test("nothing is acknowledged before it and the folders above it are on the disk", async () => {
  const out = temporaryFolder();
  const server = await startServer({ out });
  const { fileSyncs, folderSyncs } = server.folder;
  const synced: string[] = [];
  const syncFile = fileSyncs.sync.bind(fileSyncs);
  fileSyncs.sync = async (fd, size_bytes) => {
    await syncFile(fd, size_bytes);
    synced.push("file");
  };
  const syncFolder = folderSyncs.sync.bind(folderSyncs);
  folderSyncs.sync = async (path) => {
    if (path === realpathSync(out)) await sleep(100);
    await syncFolder(path);
    synced.push(path.slice(realpathSync(out).length));
  };
  const channel = await openRawChannel(server.port);
  const acknowledged = () => channel.receive().then((frame) => frame?.type === FRAME.acknowledged);
  const four = Buffer.from("four");
  for (const item of [0, 1, 2]) send(channel, { item, name: `d/${item}` }, four);
  for (let count = 0; count < 3; count++) {
    assert.ok(await acknowledged());
    assert.ok(synced.includes("") && synced.includes("/d"), synced.join());
  }
  // One that is there already may be what a server published just before it was killed.
  synced.length = 0;
  assert.equal((await sendFileByHand(channel, { item: 3, name: "d/0" }, four))?.type, FRAME.answer);
  assert.equal((await channel.receive())?.type, FRAME.hashed);
  channel.send(FRAME.end, encodePosition({ item: 3, offset_bytes: four.length }));
  assert.ok(await acknowledged());
  assert.deepEqual(synced, ["file", "/d"]);
  await channel.close();
  await server.close();
});

test("a small file takes the place of what an earlier try left of it", async () => {
  const out = temporaryFolder();
  const first = await startServer({ out });
  await first.close();
  writeFileSync(partialPath(out, "x"), "the start of something longer");
  const server = await startServer({ out });
  const channel = await openRawChannel(server.port);
  const frame = await sendFileByHand(channel, { item: 0 }, Buffer.from("all"));
  assert.equal(frame?.type, FRAME.acknowledged);
  assert.equal(readFileSync(join(out, "x"), "utf8"), "all");
  assert.equal(existsSync(partialPath(out, "x")), false);
  await channel.close();
  await server.close();
});

test("a small file whose frame is not what it says ends the connection, and nothing is written", async () => {
  const out = temporaryFolder();
  const server = await startServer({ out });
  const four = Buffer.from("four");
  const misdeeds: ((channel: Channel) => unknown)[] = [
    (channel) => send(channel, { item: 0, size_bytes: 5 }, four),
    (channel) => send(channel, { item: 0, size_bytes: 3 }, four),
    (channel) => send(channel, { item: 0, kind: "folder" }, four),
    (channel) => send(channel, { item: 0 }, new Uint8Array(SMALL_FILE_BYTES + 1)),
    (channel) => channel.send(FRAME.file),
    (channel) => channel.send(FRAME.file, Uint8Array.of(0xff, 0xff), four),
    (channel) => channel.send(FRAME.file, Uint8Array.of(0, 30), new Uint8Array(61)),
  ];
  await assertEndsEach(server, misdeeds);
  assert.deepEqual(tree(out), []);
  await server.close();
});

test("a small file that grows, shrinks, changes or goes away before it is read is not sent", () => {
  const path = join(temporaryFolder(), "changing");
  const buffer = new Uint8Array(SMALL_FILE_BYTES + 1);
  const look = (): LocalFile => {
    writeFileSync(path, Buffer.alloc(SMALL_FILE_BYTES, 7));
    checkPaths([path]);
    return walkFiles([path], assert.fail).next().value!;
  };
  assert.deepEqual(readWhole(look(), buffer), new Uint8Array(SMALL_FILE_BYTES).fill(7));
  const changes: [string, () => void][] = [
    ["file_changed", () => appendFileSync(path, "x")],
    ["file_changed", () => truncateSync(path, 10)],
    ["file_changed", () => truncateSync(path, 0)],
    ["file_changed", () => {
      writeFileSync(path, Buffer.alloc(SMALL_FILE_BYTES, 8));
      utimesSync(path, 1_000_000_000, 1_000_000_000);
    }],
    ["file_unreadable", () => rmSync(path)],
  ];
  for (const [code, change] of changes) {
    const file = look();
    change();
    assert.throws(() => readWhole(file, buffer), { code });
  }
});
