import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { existsSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Channel } from "../../../lib/aes/channel/channel.ts";
import {
  decodeRefusal,
  encodeItem,
  encodeOffer,
  encodePosition,
  FRAME,
} from "../../../lib/aes/channel/frames.ts";
import { parseFileName } from "../../../lib/aes/transfer/names.ts";
import { assertEndsEach, openRawChannel, runClient, startServer } from "../../support/aes.ts";
import { temporaryFolder } from "../../support/support.ts";
import { offerByHand, partialPath, refusalCode, sendByHand, tree } from "../../support/transfer.ts";

test("no name leads out of the folder, under any sender", async () => {
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
    "a/".repeat(128) + "a",
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
  const linked = await offerByHand(channel, { item: 0, name: "link/x" });
  assert.equal(refusalCode(linked), "unsafe_path");
  assert.equal(decodeRefusal(linked.body).message, '"link" is a symbolic link there');
  assert.equal(refusalCode(await offerByHand(channel, { item: 1, name: "file" })), "target_exists");
  const folder = await offerByHand(channel, { item: 2, name: "link/sub", kind: "folder" });
  assert.equal(refusalCode(folder), "unsafe_path");
  for (const [item, name] of [[3, "dangling"], [4, "dangling/x"]] as const) {
    assert.equal((await offerByHand(channel, { item, name })).type, FRAME.answer);
    const code = refusalCode(await sendByHand(channel, item, 0, Buffer.from("new!")));
    assert.equal(code, item === 3 ? "target_exists" : "unsafe_path");
  }
  assert.equal(existsSync(partialPath(out, "dangling")), false);
  assert.deepEqual(readdirSync(elsewhere), ["secret"]);
  assert.equal(readFileSync(join(elsewhere, "secret"), "utf8"), "old!");
  await channel.close();
  await server.close();
});

const OFFER = { kind: "file", executable: false, size_bytes: 1, modified_ms: 0 } as const;

test("a client that breaks the protocol is ended, and the server serves on", async () => {
  const out = temporaryFolder();
  const server = await startServer({ out });
  const misdeeds: ((channel: Channel) => void)[] = [
    (channel) => channel.send(0x77),
    (channel) => channel.send(FRAME.answer, new Uint8Array(45)),
    (channel) => channel.send(FRAME.offer, new Uint8Array(3)),
    (channel) => channel.send(FRAME.chunk, encodeItem(9), new Uint8Array(3)),
    (channel) => channel.send(FRAME.end, encodePosition({ item: 3, offset_bytes: 0 })),
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
      channel.send(FRAME.end, encodePosition({ item: 0, offset_bytes: 3 }));
    },
    (channel) => {
      channel.send(FRAME.offer, encodeOffer({ ...OFFER, item: 0, size_bytes: 4, name: "short" }));
      channel.send(FRAME.start, encodePosition({ item: 0, offset_bytes: 0 }));
      channel.send(FRAME.chunk, encodeItem(0), new Uint8Array(3));
      channel.send(FRAME.end, encodePosition({ item: 0, offset_bytes: 4 }));
    },
    (channel) => {
      channel.send(FRAME.offer, encodeOffer({ ...OFFER, item: 0, name: "no start" }));
      channel.send(FRAME.end, encodePosition({ item: 0, offset_bytes: 1 }));
    },
    (channel) => {
      for (let item = 0; item < 9; item++) {
        channel.send(FRAME.offer, encodeOffer({ ...OFFER, item, name: `f${item}` }));
      }
      for (let item = 0; item < 9; item++) {
        channel.send(FRAME.start, encodePosition({ item, offset_bytes: 0 }));
      }
    },
    (channel) => {
      for (let item = 0; item < 600; item++) {
        channel.send(FRAME.offer, encodeOffer({ ...OFFER, item, name: `f${item}` }));
      }
    },
  ];
  await assertEndsEach(server, misdeeds);
  assert.deepEqual(server.messages, []);
  assert.equal((await runClient(server.port, { message: "still there?" })).error, null);
  assert.deepEqual(server.messages, ["still there?"]);
  await server.close();
});

test("a name whose path would be too long leaves no folders behind", async () => {
  const out = join(temporaryFolder(), "out");
  const server = await startServer({ out });
  const channel = await openRawChannel(server.port);
  // 4,095 bytes: a name that is allowed, but not under any folder.
  const name = `${"d".repeat(204)}/`.repeat(19) + "e".repeat(200);
  for (const [item, kind] of (["file", "folder"] as const).entries()) {
    assert.equal(refusalCode(await offerByHand(channel, { item, name, kind })), "bad_name");
  }
  assert.deepEqual(tree(out), []);
  await channel.close();
  await server.close();
});
