import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { after, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { isSealwireError } from "../../lib/base/errors.ts";
import { type Connection, listenTcp, listenTls } from "../../lib/net/net.ts";
import {
  ALPN,
  closeAll,
  connect,
  echo,
  foreignClient,
  HOST,
  listening,
  OPTIONS,
  pair,
  server,
  withCode,
} from "../support/net.ts";

const MIB = 1024 * 1024;

after(closeAll);

async function readAll(connection: Connection): Promise<number> {
  let size_bytes = 0;
  for (let bytes; (bytes = await connection.read()) !== null;) size_bytes += bytes.length;
  return size_bytes;
}

/** Exactly so many bytes; what arrives with them is an error. */
async function readBytes(connection: Connection, size_bytes: number): Promise<Uint8Array> {
  const all = new Uint8Array(size_bytes);
  for (let read_bytes = 0; read_bytes < size_bytes;) {
    const bytes = await connection.read();
    assert.ok(bytes);
    all.set(bytes, read_bytes);
    read_bytes += bytes.length;
  }
  return all;
}

/**
 * Writes pieces until `total_bytes` are handed over or the connection is lost; says how many were.
 */
function pour(connection: Connection, total_bytes: number): { handed_bytes: number } {
  const poured = { handed_bytes: 0 };
  const piece = new Uint8Array(64 * 1024);
  (async () => {
    while (poured.handed_bytes < total_bytes) {
      await connection.write(piece);
      poured.handed_bytes += piece.length;
    }
  })().catch(() => {});
  return poured;
}

/** The next bytes, null at the end, and "lost" where the connection is. */
function outcomeOfRead(connection: Connection): Promise<Uint8Array | null | "lost"> {
  return connection.read().catch((error) => {
    assert.ok(isSealwireError(error, "connection_lost"), `${error}`);
    return "lost";
  });
}

for (const kind of ["tcp", "tls"] as const) {
  describe(kind, () => {
    test("bytes come back as they were sent, and the end after them", async () => {
      const listener = await listening(kind, echo);
      const client = await connect(kind, listener.port);
      await client.write(new TextEncoder().encode("hello"));
      assert.equal(new TextDecoder().decode((await client.read())!), "hello");
      assert.equal(client.alpn, kind === "tls" ? ALPN : null);
      assert.equal(client.remoteHost, HOST);
      assert.equal(client.remotePort, listener.port);
      await client.end();
      assert.equal(await client.read(), null);
    });

    test("bytes come back unchanged, whatever the size of the pieces", OPTIONS, async () => {
      const listener = await listening(kind, echo);
      const client = await connect(kind, listener.port);
      for (const size_bytes of [0, 1, 100, 16_384, 65_537, MIB, MIB, MIB, 3]) {
        const piece = randomBytes(size_bytes);
        const written = client.write(piece);
        assert.ok(piece.equals(await readBytes(client, size_bytes)));
        await written;
        assert.equal(client.unsent_bytes, 0);
      }
      client.destroy();
    });

    test("a reader that stops reading stops the writer, or is cut off", OPTIONS, async () => {
      for (const reverse of [false, true]) {
        const [reader, writer] = reverse ? (await pair(kind)).reverse() : await pair(kind);
        const poured = pour(writer!, 200 * MIB);
        await delay(700);
        assert.ok(poured.handed_bytes > 0);
        assert.ok(poured.handed_bytes < 24 * MIB, `${poured.handed_bytes} bytes were handed over`);
        const first = await outcomeOfRead(reader!);
        assert.ok(first === "lost" || first!.length > 0);
        writer!.destroy();
        reader!.destroy();
      }
    });

    test("end sends all that was written before it", OPTIONS, async () => {
      for (const reverse of [false, true]) {
        const [reader, writer] = reverse ? (await pair(kind)).reverse() : await pair(kind);
        for (let piece = 0; piece < 16; piece++) writer!.write(new Uint8Array(64 * 1024));
        assert.ok(writer!.unsent_bytes > 0);
        const ended = writer!.end();
        assert.equal(await readAll(reader!), MIB);
        await reader!.end();
        await ended;
      }
    });

    test("a pending read gives null when this side ends", async () => {
      const [client, server] = await pair(kind);
      const reading = client.read();
      const ended = client.end();
      assert.equal(await server.read(), null);
      await server.write(new Uint8Array(10));
      await server.end();
      await ended;
      assert.equal(await reading, null);
      await assert.rejects(client.write(new Uint8Array(1)), withCode("connection_lost"));
    });

    test("a peer that has ended its side still gets an answer", async () => {
      const listener = await listening(kind, async (connection) => {
        const size_bytes = await readAll(connection);
        connection.write(new TextEncoder().encode(`${size_bytes} bytes`));
        await connection.end();
      });
      const socket = await foreignClient(kind, listener.port);
      let answer = "";
      socket.setEncoding("utf8").on("data", (text: string) => answer += text);
      socket.end("12345");
      await once(socket, "close");
      assert.equal(answer, "5 bytes");
    });

    test("destroy rejects what is pending and may be repeated", async () => {
      for (const side of [0, 1]) {
        const connection = (await pair(kind))[side]!;
        const reading = connection.read();
        pour(connection, 64 * MIB);
        connection.destroy();
        connection.destroy();
        await assert.rejects(reading, withCode("connection_lost"));
        await assert.rejects(connection.read(), withCode("connection_lost"));
        await assert.rejects(connection.write(new Uint8Array(1)), withCode("connection_lost"));
        await connection.end();
      }
    });

    test("a peer that vanishes ends the reading", async () => {
      for (const reverse of [false, true]) {
        const [survivor, vanishing] = reverse ? (await pair(kind)).reverse() : await pair(kind);
        const reading = outcomeOfRead(survivor!);
        vanishing!.destroy();
        assert.ok([null, "lost"].includes(await reading as null));
        survivor!.destroy();
      }
    });

    test("small writes are not held back", OPTIONS, async () => {
      const [client, server] = await pair(kind);
      for (const [from, to] of [[client, server], [server, client]] as const) {
        const started_at_ms = performance.now();
        for (let round = 0; round < 50; round++) {
          let got_bytes = 0;
          for (let piece = 0; piece < 4; piece++) await from.write(new Uint8Array(10));
          while (got_bytes < 40) got_bytes += (await to.read())!.length;
        }
        assert.ok(performance.now() - started_at_ms < 1_000);
      }
      client.destroy();
      server.destroy();
    });

    test("the first answer does not wait for anything", OPTIONS, async () => {
      const listener = await listening(kind, echo);
      const waits_ms = [];
      for (let round = 0; round < 20; round++) {
        const client = await connect(kind, listener.port);
        const asked_at_ms = performance.now();
        await client.write(new Uint8Array(10));
        await client.read();
        waits_ms.push(performance.now() - asked_at_ms);
        client.destroy();
      }
      const median_ms = waits_ms.sort((a, b) => a - b)[10]!;
      assert.ok(median_ms < 30, `${median_ms} ms`);
    });

    test("closing the listener ends its connections and frees the port", OPTIONS, async () => {
      const listener = await listening(kind, echo);
      const client = await connect(kind, listener.port);
      await client.write(new Uint8Array(1));
      await client.read();
      const reading = outcomeOfRead(client);
      await listener.close();
      assert.ok([null, "lost"].includes(await reading as null));
      client.destroy();
      await assert.rejects(connect(kind, listener.port), withCode("no_connection"));
      const again = await listenTcp({ host: HOST, port: listener.port }, () => {});
      await again.close();
    });

    test("a port in use and an address of others are named", async () => {
      const { port } = await listening(kind, echo);
      const listen = kind === "tcp" ? listenTcp : listenTls;
      const options = { alpn: [ALPN], ...server };
      await assert.rejects(
        listen({ ...options, host: HOST, port }, () => {}),
        withCode("port_in_use"),
      );
      for (const host of ["192.0.2.1", "no.such.host.invalid"]) {
        await assert.rejects(
          listen({ ...options, host, port: 0 }, () => {}),
          withCode("address_unavailable"),
        );
      }
    });
  });
}

test("a slow TCP reader gets everything, in either direction", OPTIONS, async () => {
  for (const reverse of [false, true]) {
    const [reader, writer] = reverse ? (await pair("tcp")).reverse() : await pair("tcp");
    const pieces = Array.from({ length: 4 }, () => randomBytes(8 * MIB));
    const writing = Promise.all(pieces.map((piece) => writer!.write(piece)));
    const expected = Buffer.concat(pieces);
    for (let read_bytes = 0; read_bytes < expected.length;) {
      if (read_bytes < MIB) await delay(5);
      const bytes = (await reader!.read())!;
      assert.ok(expected.subarray(read_bytes, read_bytes + bytes.length).equals(bytes));
      read_bytes += bytes.length;
    }
    await writing;
    writer!.destroy();
    reader!.destroy();
  }
});
