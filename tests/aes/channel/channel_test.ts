import assert from "node:assert/strict";
import { test } from "node:test";
import { ByteReader } from "../../../lib/aes/channel/byte_reader.ts";
import { Channel } from "../../../lib/aes/channel/channel.ts";
import { FRAME } from "../../../lib/aes/channel/frames.ts";
import { CHUNK_BYTES } from "../../../lib/aes/channel/frame_batches.ts";
import {
  clientHandshake,
  PROLOGUE_BYTES,
  serverHandshake,
} from "../../../lib/aes/channel/handshake.ts";
import { type Connection, connectTcp, listenTcp } from "../../../lib/net/net.ts";
import { HOST, PSK } from "../../support/aes.ts";

const FRAME_TYPE = FRAME.chunk;

/** Two ends of a fresh connection. */
async function connectionPair(): Promise<[Connection, Connection, () => Promise<void>]> {
  const accepted = Promise.withResolvers<Connection>();
  const listener = await listenTcp({ host: HOST, port: 0 }, (connection) => {
    accepted.resolve(connection);
  });
  const client = await connectTcp({ host: HOST, port: listener.port, timeout_ms: 5_000 });
  return [client, await accepted.promise, () => listener.close()];
}

interface Pair {
  client: Channel;
  server: Channel;
  clientConnection: Connection;
  close(): Promise<void>;
}

async function channelPair(options: { stall_ms?: number } = {}): Promise<Pair> {
  const [clientConnection, serverConnection, closeListener] = await connectionPair();
  const reader = new ByteReader(serverConnection);
  const [client, server] = await Promise.all([
    clientHandshake(clientConnection, PSK),
    reader.read(PROLOGUE_BYTES).then(() => serverHandshake(serverConnection, reader, PSK)),
  ]);
  return {
    client: new Channel(client, options),
    server: new Channel(server, options),
    clientConnection,
    close: async () => {
      clientConnection.destroy();
      serverConnection.destroy();
      await closeListener();
    },
  };
}

function filled(size_bytes: number, seed: number): Uint8Array {
  return Uint8Array.from({ length: size_bytes }, (_, index) => (index * 31 + seed) & 0xff);
}

test("frames of every size arrive whole and in order, both ways at once", {
  timeout: 30_000,
}, async () => {
  const { client, server, close } = await channelPair();
  const sizes = [0, 1, 15, 16, 17, 4096, 8191, 8192, CHUNK_BYTES, 1024 * 1024 - 5, 3, 0];
  const exchange = async (from: Channel, to: Channel, seed: number) => {
    const sent = (async () => {
      for (const [index, size] of sizes.entries()) {
        await from.send(FRAME_TYPE, filled(size, seed + index));
      }
    })();
    for (const [index, size] of sizes.entries()) {
      const frame = await to.receive();
      assert.equal(frame?.type, FRAME_TYPE);
      assert.deepEqual(frame.body, filled(size, seed + index));
    }
    await sent;
  };
  await Promise.all([exchange(client, server, 1), exchange(server, client, 100)]);
  const closed = client.close();
  assert.equal(await server.receive(), null);
  await Promise.all([server.close(), closed]);
  await close();
});

test("a channel that was closed gives null, and one that was cut off an error", async () => {
  const closed = await channelPair();
  const clientClosed = closed.client.close();
  assert.equal(await closed.server.receive(), null);
  await Promise.all([closed.server.close(), clientClosed]);
  await closed.close();

  const cut = await channelPair();
  cut.client.send(FRAME_TYPE, filled(10, 0));
  assert.equal((await cut.server.receive())?.body.length, 10);
  await Promise.all([
    cut.clientConnection.end(),
    assert.rejects(cut.server.receive(), { code: "connection_lost" }),
  ]);
  await assert.rejects(cut.server.receive(), { code: "connection_lost" });
  await assert.rejects(cut.server.send(FRAME_TYPE), { code: "connection_lost" });
  await cut.close();
});

test("a close with a body breaks the protocol", async () => {
  const { client, server, close } = await channelPair();
  client.send(FRAME.close, Uint8Array.of(1));
  await assert.rejects(server.receive(), { code: "protocol_error" });
  await close();
});

test("two ends with different keys learn it before anything is sent", async () => {
  const [client, server, close] = await connectionPair();
  const reader = new ByteReader(server);
  const served = reader.read(PROLOGUE_BYTES)
    .then(() => serverHandshake(server, reader, new Uint8Array(32)))
    .finally(() => server.destroy());
  await Promise.all([
    assert.rejects(served, { code: "handshake_failed" }),
    assert.rejects(clientHandshake(client, PSK), { code: "server_untrusted" }),
  ]);
  await close();
});

test("a length beyond the limit is refused before memory is set aside for it", async () => {
  for (const length of [0xffffffff, 1024 * 1024 + 65, 31, 0]) {
    const { server, clientConnection, close } = await channelPair();
    const record = new Uint8Array(4);
    new DataView(record.buffer).setUint32(0, length);
    await clientConnection.write(record);
    await assert.rejects(server.receive(), { code: "protocol_error" }, `length ${length}`);
    await close();
  }
});

test("a peer that falls silent in the middle of a record is given up", async () => {
  const { server, clientConnection, close } = await channelPair({ stall_ms: 300 });
  await clientConnection.write(Uint8Array.of(0, 0, 4, 0, 1, 2, 3));
  await assert.rejects(server.receive(), { code: "timeout" });
  await close();
});

test("a peer that stops reading stops the sender, who gives up in time and holds little", {
  timeout: 30_000,
}, async () => {
  const { client, close } = await channelPair({ stall_ms: 1_000 });
  const piece = filled(CHUNK_BYTES, 7);
  let sent_bytes = 0;
  await assert.rejects(
    (async () => {
      while (sent_bytes < 256 * 1024 * 1024) {
        await client.send(FRAME_TYPE, piece);
        sent_bytes += piece.length;
      }
    })(),
    { code: "timeout" },
  );
  // What the two systems buffer, and the few records that are read ahead.
  assert.ok(sent_bytes < 64 * 1024 * 1024, `${sent_bytes} bytes were taken`);
  await close();
});
