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
import {
  decodeAnswer,
  encodeItem,
  encodePosition,
  FRAME,
} from "../../../lib/aes/channel/frames.ts";
import { PARTIALS_FOLDER } from "../../../lib/aes/transfer/names.ts";
import { WINDOW_BYTES } from "../../../lib/aes/transfer/send_files.ts";
import { openRawChannel, runClient, startProxy, startServer } from "../../support/aes.ts";
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
