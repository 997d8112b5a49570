/**
 * What a client that holds the key, or knows the pairing code, can cost the server: each test does
 * to a server of its own, over a real socket, what the client of this project never does.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { loadKeyFile } from "../../lib/aes_utils.ts";
import { RecordCipher } from "../../lib/aes/channel/cbc_hs256.ts";
import { Channel } from "../../lib/aes/channel/channel.ts";
import { encodeItem, encodeOffer, encodePosition, FRAME } from "../../lib/aes/channel/frames.ts";
import { clientHandshake, type Handshaken } from "../../lib/aes/channel/handshake.ts";
import { requestKey } from "../../lib/aes/pairing/pairing.ts";
import { RecordReader, RecordWriter } from "../../lib/aes/channel/records.ts";
import { SealwireError } from "../../lib/base/errors.ts";
import { connectTcp } from "../../lib/net/net.ts";
import { HOST, runClient } from "../support/aes.ts";
import { LIMIT, MIB, type Server, startServer } from "../support/aes_tools.ts";
import { CAN_LOOK_INTO_PROCESSES, peakBytes, residentBytes } from "../support/process_use.ts";
import { spawnTool, temporaryFolder } from "../support/support.ts";
import { offerByHand, refusalCode } from "../support/transfer.ts";

/** So long nothing may move; whoever is kept waiting longer is not served. */
const SERVED_WITHIN_MS = 10_000;
const NEEDS_PROC = { ...LIMIT, skip: !CAN_LOOK_INTO_PROCESSES };
const CROWDED_RECORDS = 10;
const FRAME_HEADER_BYTES = 5;
/** An item that the server refuses, so that it passes over all that follows for it. */
const REFUSED_ITEM = 0;
const REFUSED_OFFER = offerFrame(REFUSED_ITEM, "../x");

type Address = Pick<Server, "port" | "folder">;

/** A server that prints what a person reads. */
async function startPlainServer() {
  const folder = temporaryFolder();
  const tool = spawnTool("aes_server.ts", ["--port", "0"], { cwd: folder });
  const port = Number(/:(\d+)$/.exec(await tool.nextLine())![1]);
  return { tool, port, folder };
}

async function shakeHands({ port, folder }: Address): Promise<Handshaken> {
  const connection = await connectTcp({ host: HOST, port, timeout_ms: SERVED_WITHIN_MS });
  return await clientHandshake(connection, psk(folder));
}

/** A client that writes records of any content, and reads nothing until it is told to. */
async function openRecords(server: Address) {
  const { connection, reader, keys } = await shakeHands(server);
  const writer = new RecordWriter(connection, new RecordCipher(keys.sendKey), () => {});
  return {
    connection,
    write: (...frames: Uint8Array[]) => writer.write(concat(frames)),
    /** Reads answers until the server has closed the channel. */
    async readToEnd() {
      const records = new RecordReader(reader, new RecordCipher(keys.receiveKey), () => {});
      while (await records.read());
    },
  };
}

/** Sends a message as another client; fails unless it is acknowledged. */
async function assertServes({ port, folder }: Address, message = "served"): Promise<void> {
  const options = { psk: psk(folder), stall_ms: SERVED_WITHIN_MS };
  assert.equal((await runClient(port, { message }, options)).error, null);
}

function psk(folder: string): Uint8Array {
  return loadKeyFile(join(folder, "aes_key.bin")).bytes;
}

function frame(type: number, ...parts: Uint8Array[]): Uint8Array {
  const header = new Uint8Array(FRAME_HEADER_BYTES);
  header[0] = type;
  new DataView(header.buffer).setUint32(1, parts.reduce((sum, part) => sum + part.length, 0));
  return concat([header, ...parts]);
}

function offerFrame(item: number, name: string): Uint8Array {
  const kind = "file" as const;
  const offer = { item, kind, executable: false, size_bytes: 4, modified_ms: 0, name };
  return frame(FRAME.offer, encodeOffer(offer));
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}

test("records of a hundred thousand frames keep no other client waiting", LIMIT, async () => {
  const server = await startServer();
  const client = await openRecords(server);
  const empty = frame(FRAME.chunk, encodeItem(REFUSED_ITEM));
  const crowded = concat(Array.from({ length: 110_000 }, () => empty));
  await client.write(REFUSED_OFFER);
  for (let records = 0; records < CROWDED_RECORDS; records++) client.write(crowded);
  client.write(frame(FRAME.close));
  await Promise.all([assertServes(server), client.readToEnd()]);
  client.connection.destroy();
  await server.tool.stop();
});

test("a client that reads no answers gets to send no more, and is ended", NEEDS_PROC, async () => {
  const server = await startServer(["--timeout", "2"]);
  const client = await openRecords(server);
  await assertServes(server);
  const start_bytes = residentBytes(server.tool.pid);
  let peak_bytes = 0;
  let item = 0;
  // The refusal repeats the name: as much comes back as went out.
  const name = "/" + "x".repeat(4_000);
  const flood = async () => {
    for (let records = 0; records < 300; records++) {
      await client.write(...Array.from({ length: 250 }, () => offerFrame(item++, name)));
      peak_bytes = Math.max(peak_bytes, residentBytes(server.tool.pid));
    }
  };
  const ended = assert.rejects(flood(), { code: "connection_lost" });
  await assertServes(server);
  await ended;
  assert.ok(peak_bytes - start_bytes < 160 * MIB, `${(peak_bytes - start_bytes) / MIB} MiB more`);
  await assertServes(server);
  const { status, stderr } = await server.tool.stop();
  assert.equal(status, 0);
  assert.doesNotMatch(stderr, /error:/);
});

test("a malformed frame ends the connection, and no other", LIMIT, async () => {
  const server = await startServer();
  const size = new Uint8Array(12);
  new DataView(size.buffer).setBigUint64(4, 2n ** 53n);
  const malformed = {
    "an unknown type": frame(0x0d),
    "a name of 4,097 bytes": offerFrame(0, "x".repeat(4_097)),
    "a size of 2^53": frame(FRAME.message, size),
    "a working of another length": frame(FRAME.working, encodeItem(0)),
    "a close with a body": frame(FRAME.close, Uint8Array.of(0)),
    "content without an offer": frame(FRAME.chunk, encodeItem(0)),
  };
  for (const [what, bytes] of Object.entries(malformed)) {
    const client = await openRecords(server);
    await client.write(bytes);
    await client.readToEnd().catch(() => {});
    client.connection.destroy();
    await assertServes(server, what);
  }
  assert.equal((await server.tool.stop()).status, 0);
});

test("a message in empty pieces keeps no record in memory, and arrives", NEEDS_PROC, async () => {
  const server = await startServer();
  const client = await openRecords(server);
  await assertServes(server);
  await server.tool.nextJson(({ text }) => text === "served");
  const start_bytes = residentBytes(server.tool.pid);
  const item = REFUSED_ITEM + 1;
  const text = new TextEncoder().encode("text");
  const message = encodePosition({ item, offset_bytes: text.length });
  await client.write(REFUSED_OFFER, frame(FRAME.message, message));
  const empty = frame(FRAME.chunk, encodeItem(item));
  const ballast = frame(FRAME.chunk, encodeItem(REFUSED_ITEM), new Uint8Array(MIB - 100));
  for (let records = 0; records < 150; records++) await client.write(empty, ballast);
  client.write(frame(FRAME.chunk, encodeItem(item), text), frame(FRAME.end, message));
  assert.equal((await server.tool.nextJson()).text, "text");
  const more_bytes = residentBytes(server.tool.pid) - start_bytes;
  assert.ok(more_bytes < 120 * MIB, `${more_bytes / MIB} MiB more`);
  client.connection.destroy();
  await server.tool.stop();
});

test(
  "a folder name as deep and long as names may be is refused where few files may be open",
  LIMIT,
  async () => {
    const server = await startServer([], { files_max: 256 });
    const channel = new Channel(await shakeHands(server), { stall_ms: 30_000 });
    const name = Array.from({ length: 128 }, () => "a".repeat(31)).join("/");
    const answer = await offerByHand(channel, { item: 0, kind: "folder", size_bytes: 0, name });
    // The whole path is longer than the system takes.
    assert.equal(refusalCode(answer), "bad_name");
    await assertServes(server);
    channel.destroy(new SealwireError("interrupted", "the test is over"));
    assert.equal((await server.tool.stop()).status, 0);
  },
);

test("each line of a message of line ends has its sender before it", LIMIT, async () => {
  const server = await startPlainServer();
  await assertServes(server, "\n".repeat(MIB));
  await assertServes(server);
  const { status, stdout } = await server.tool.stop();
  assert.equal(status, 0);
  const [, ...lines] = stdout.trimEnd().split("\n");
  assert.match(lines.pop()!, /^127\.0\.0\.1:\d+> served$/);
  assert.equal(lines.length, MIB + 1);
  assert.match(lines[0]!, /^127\.0\.0\.1:\d+> $/);
  assert.equal(lines.findIndex((line) => line !== lines[0]), -1);
});

test("a message of line ends takes little more memory than its bytes", NEEDS_PROC, async () => {
  const server = await startPlainServer();
  await assertServes(server);
  const start_bytes = peakBytes(server.tool.pid);
  await assertServes(server, "\n".repeat(MIB));
  const more_bytes = peakBytes(server.tool.pid) - start_bytes;
  assert.ok(more_bytes < 90 * MIB, `${more_bytes / MIB} MiB more`);
  await server.tool.stop();
});

test("under --json no text steers the terminal, and it is the same text", LIMIT, async () => {
  const server = await startServer();
  const text = "a\u202eb\u009b31mc\u001b[2Jd";
  await assertServes(server, text);
  const line = await server.tool.nextLine();
  for (const escape of ["\\u202e", "\\u009b", "\\u001b"]) assert.ok(line.includes(escape), line);
  assert.doesNotMatch(line, /[\p{Cc}\p{Cf}]/u);
  assert.equal(JSON.parse(line).text, text);
  await server.tool.stop();
});

test("the server warns under --quiet of a client that took the key and left", LIMIT, async () => {
  const server = await startServer(["--pair", "--quiet"]);
  const { code } = await server.tool.nextJson(({ event }) => event === "pairing");
  const { port } = server;
  const connection = await connectTcp({ host: HOST, port, timeout_ms: SERVED_WITHIN_MS });
  let taken: Uint8Array | null = null;
  const left = new SealwireError("interrupted", "the client leaves");
  const pairing = requestKey(connection, String(code), (key) => {
    taken = key;
    throw left;
  });
  await assert.rejects(pairing, left);
  assert.deepEqual(taken, psk(server.folder));
  const deadline_ms = Date.now() + SERVED_WITHIN_MS;
  while (server.tool.stderrText === "" && Date.now() < deadline_ms) await delay(20);
  assert.match(server.tool.stderrText, /knew the code and did not confirm it/);
  await assertServes(server);
  await server.tool.stop();
});
