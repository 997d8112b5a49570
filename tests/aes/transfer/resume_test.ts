import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import {
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  decodeAnswer,
  decodeChunk,
  decodeHashed,
  decodeOffer,
  decodePosition,
  encodeAnswer,
  encodeHashed,
  encodeItem,
  encodePosition,
  FRAME,
  HASH_STEP_BYTES,
} from "../../../lib/aes/channel/frames.ts";
import { SealwireError } from "../../../lib/base/errors.ts";
import { PARTIALS_FOLDER } from "../../../lib/aes/transfer/names.ts";
import { WINDOW_BYTES_MIN } from "../../../lib/aes/transfer/send_window.ts";
import {
  openRawChannel,
  runClient,
  startProxy,
  startRawServer,
  startServer,
} from "../../support/aes.ts";
import { temporaryFolder } from "../../support/support.ts";
import { MIB, offerByHand, partialPath, sha256, tree } from "../../support/transfer.ts";

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
  const hashed = decodeHashed((await again.receive())!.body);
  assert.equal(hashed.length_bytes, 3 * MIB);
  assert.deepEqual(Buffer.from(hashed.sha256), sha256(content.subarray(0, 3 * MIB)));
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
  const most_bytes = reconnects * (WINDOW_BYTES_MIN + MIB / 4);
  assert.ok(sent[0]!.resent_bytes <= most_bytes, `${sent[0]!.resent_bytes} bytes sent again`);
  await proxy.close();
  await server.close();
});

/** A server with an unfinished file of this content, and the file to send. */
async function startWithPartial(content: Uint8Array, partial: Uint8Array) {
  const out = temporaryFolder();
  const path = join(temporaryFolder(), "big");
  writeFileSync(path, content);
  mkdirSync(join(out, PARTIALS_FOLDER));
  writeFileSync(partialPath(out, "big"), partial);
  return { out, path, server: await startServer({ out }) };
}

test("an unfinished file that a crash spoiled is cut where it was spoiled, and goes on there", async () => {
  const content = randomBytes(40 * MIB);
  // A file system may lose what was not synced: the size is right, the bytes are zero.
  const spoiled = Uint8Array.from(content.subarray(0, 38 * MIB)).fill(0, 33 * MIB, 34 * MIB);
  const { out, path, server } = await startWithPartial(content, spoiled);
  const { sent, failed, error } = await runClient(server.port, { paths: [path] });
  assert.deepEqual([failed, error], [[], null]);
  assert.equal(sent[0]?.resumed_from_bytes, 2 * HASH_STEP_BYTES);
  assert.deepEqual(readFileSync(join(out, "big")), content);
  assert.deepEqual(tree(out), ["big"]);
  await server.close();
});

test("an unfinished file that differs in one bit anywhere never becomes the file", async () => {
  const content = randomBytes(MIB + 1);
  for (const at of [0, MIB / 2, MIB - 1]) {
    const partial = Uint8Array.from(content.subarray(0, MIB));
    partial[at]! ^= 1;
    const { out, path, server } = await startWithPartial(content, partial);
    const { sent, error } = await runClient(server.port, { paths: [path] });
    assert.equal(error, null);
    assert.equal(sent[0]?.resumed_from_bytes, 0);
    assert.deepEqual(readFileSync(join(out, "big")), content);
    await server.close();
  }
});

test("new content is sent before what is there is compared, and ended only after that", async () => {
  const size_bytes = 40 * MIB;
  const had_bytes = 39 * MIB;
  const path = join(temporaryFolder(), "big");
  const content = randomBytes(size_bytes);
  writeFileSync(path, content);
  const server = await startRawServer();
  const stop = new AbortController();
  const client = runClient(server.port, { paths: [path] }, { interrupted: stop.signal });
  const channel = await server.channel;
  const { item } = decodeOffer((await channel.receive())!.body);
  channel.send(FRAME.answer, encodeAnswer({ item, has: "partial", length_bytes: had_bytes }));
  assert.deepEqual(
    decodePosition((await channel.receive())!.body),
    { item, offset_bytes: had_bytes },
  );
  for (let at = had_bytes; at < size_bytes;) {
    const frame = (await channel.receive())!;
    assert.equal(frame.type, FRAME.chunk);
    at += decodeChunk(frame.body).bytes.length;
  }
  // All of the content is here, and nothing ends the file: not one hash, nor all but the last.
  for (const length_bytes of [HASH_STEP_BYTES, 2 * HASH_STEP_BYTES]) {
    const hash = sha256(content.subarray(0, length_bytes));
    channel.send(FRAME.hashed, encodeHashed({ item, length_bytes, sha256: hash }));
  }
  const next = channel.receive();
  assert.equal(await Promise.race([next, sleep(500)]), undefined);
  const wrong = { item, length_bytes: had_bytes, sha256: sha256(content.subarray(1, had_bytes)) };
  channel.send(FRAME.hashed, encodeHashed(wrong));
  const abort = (await next)!;
  assert.equal(abort.type, FRAME.abort);
  assert.deepEqual(decodePosition(abort.body), { item, offset_bytes: 2 * HASH_STEP_BYTES });
  // It is offered anew. A receiver whose bytes differ each time is not built on for ever.
  for (let round = 0; round < 2; round++) {
    const offer = decodeOffer((await channel.receive())!.body);
    assert.ok(offer.item > item);
    const has = { item: offer.item, has: "partial", length_bytes: 5 } as const;
    channel.send(FRAME.answer, encodeAnswer(has));
    const start = decodePosition((await channel.receive())!.body);
    assert.equal(start.offset_bytes, round === 0 ? 5 : 0);
    if (round === 1) break;
    channel.send(FRAME.hashed, encodeHashed({ ...has, sha256: sha256(content) }));
    for (let frame = await channel.receive(); frame?.type !== FRAME.abort;) {
      frame = await channel.receive();
    }
  }
  stop.abort(new SealwireError("interrupted", "the test is over"));
  assert.equal((await client).error, "interrupted");
  channel.destroy(stop.signal.reason);
  await server.close();
});

test("a client that ends a file before it can have compared it is ended", async () => {
  const content = randomBytes(48 * MIB);
  const { out, server } = await startWithPartial(content, content.subarray(0, 47 * MIB));
  const channel = await openRawChannel(server.port);
  const answer = await offerByHand(channel, { item: 0, name: "big", size_bytes: content.length });
  assert.equal(answer.type, FRAME.answer);
  channel.send(FRAME.start, encodePosition({ item: 0, offset_bytes: 47 * MIB }));
  channel.send(FRAME.chunk, encodeItem(0), content.subarray(47 * MIB));
  channel.send(FRAME.end, encodePosition({ item: 0, offset_bytes: content.length }));
  await server.ended(1);
  assert.equal(server.endings[0]?.code, "protocol_error");
  assert.deepEqual(tree(out), []);
  channel.destroy(server.endings[0]!);
  await server.close();
});

test("a file that is there and differs in one bit is left as it is", async () => {
  const out = temporaryFolder();
  const path = join(temporaryFolder(), "big");
  const content = randomBytes(20 * MIB);
  writeFileSync(path, content);
  const other = Uint8Array.from(content);
  other[17 * MIB]! ^= 1;
  writeFileSync(join(out, "big"), other);
  const server = await startServer({ out });
  const { sent, failed, error } = await runClient(server.port, { paths: [path] });
  assert.deepEqual([sent, failed, error], [[], [{ name: "big", code: "target_exists" }], null]);
  assert.ok(readFileSync(join(out, "big")).equals(other));
  await server.close();
});

test(
  "cut at any point, again and again: the file arrives as it is",
  { timeout: 120_000 },
  async () => {
    const content = randomBytes(20 * MIB + 7);
    const out = temporaryFolder();
    const path = join(temporaryFolder(), "big");
    writeFileSync(path, content);
    const server = await startServer({ out });
    // The first bytes of a connection, frames of a resumed transfer, and the content in between.
    for (const cut_at of [80, 200, 300, 5_000, MIB, 3 * MIB + 1, 280, 150]) {
      let cuts = 1;
      const proxy = await startProxy(server.port, (bytes, _way, offset) => {
        if (cuts > 0 && offset + bytes.length > cut_at) {
          cuts--;
          throw new Error("cut");
        }
        return bytes;
      });
      // The client goes on by itself after a handshake; before it, somebody starts it again.
      const interrupted = AbortSignal.timeout(2_000);
      const { error } = await runClient(proxy.port, { paths: [path] }, { interrupted });
      if (error === null) break;
      await proxy.close();
    }
    await runClient(server.port, { paths: [path] });
    assert.deepEqual(readFileSync(join(out, "big")), content);
    await server.close();
  },
);
