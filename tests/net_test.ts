import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHash, randomBytes, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import net from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import tls from "node:tls";
import { isSealwireError, SealwireError } from "../lib/errors.ts";
import {
  type Connection,
  connectTcp,
  connectTls,
  fetchCertificate,
  type Listener,
  listenTcp,
  listenTls,
  type ListenTlsOptions,
} from "../lib/net.ts";
import { makeCertificate, makeExpiredCertificate, makeIssuedCertificate } from "./certificates.ts";
import { spawnTool, temporaryFolder } from "./support.ts";

const HOST = "127.0.0.1";
const ALPN = "sealwire/1";
const TIMEOUT_MS = 5_000;
const OPTIONS = { timeout: 60_000 };
const MIB = 1024 * 1024;

const folder = temporaryFolder();
const server = makeCertificate(folder, "server");
const stranger = makeCertificate(folder, "stranger");

const closing: (() => unknown)[] = [];
after(async () => {
  for (const close of closing) await close();
});

/** Sends back what comes, then ends as the peer does. */
async function echo(connection: Connection): Promise<void> {
  try {
    for (let bytes; (bytes = await connection.read()) !== null;) await connection.write(bytes);
    await connection.end();
  } catch (error) {
    if (!isSealwireError(error, "connection_lost")) throw error;
  }
}

async function listening(
  kind: "tcp" | "tls",
  onConnection: (connection: Connection) => void,
  options: Partial<ListenTlsOptions> = {},
): Promise<Listener> {
  const all = { host: HOST, port: 0, alpn: [ALPN], ...server, ...options };
  const listener =
    await (kind === "tcp" ? listenTcp(all, onConnection) : listenTls(all, onConnection));
  closing.push(() => listener.close());
  return listener;
}

function connect(kind: "tcp" | "tls", port: number): Promise<Connection> {
  const target = { host: HOST, port, timeout_ms: TIMEOUT_MS };
  return kind === "tcp"
    ? connectTcp(target)
    : connectTls({ ...target, certificate: server.cert, alpn: [ALPN] });
}

/** Both ends of one new connection. */
async function pair(kind: "tcp" | "tls"): Promise<[client: Connection, server: Connection]> {
  const accepted = Promise.withResolvers<Connection>();
  const listener = await listening(kind, accepted.resolve);
  const client = await connect(kind, listener.port);
  return [client, await accepted.promise];
}

async function readAll(connection: Connection): Promise<number> {
  let size_bytes = 0;
  for (let bytes; (bytes = await connection.read()) !== null;) size_bytes += bytes.length;
  return size_bytes;
}

function withCode(code: string) {
  return (error: unknown) => {
    assert.ok(isSealwireError(error, code), `${code} expected, got ${error}`);
    return true;
  };
}

/** Writes pieces until `total_bytes` are handed over or the connection is lost; says how many were. */
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

/** A client that is none of ours: a bare socket, or a TLS one. */
async function foreignClient(kind: "tcp" | "tls", port: number): Promise<Socket> {
  const target = { host: HOST, port, allowHalfOpen: true };
  const socket = kind === "tcp"
    ? net.connect(target)
    : tls.connect({ ...target, rejectUnauthorized: false });
  socket.on("error", () => {});
  await once(socket, kind === "tcp" ? "connect" : "secureConnect");
  return socket;
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

    test("32 MiB come back unchanged, whatever the size of the pieces", OPTIONS, async () => {
      const listener = await listening(kind, echo);
      const client = await connect(kind, listener.port);
      const sent = createHash("sha256");
      const received = createHash("sha256");
      const writing = (async () => {
        for (const size_bytes of [1, 100, 16_384, 65_537, MIB, 15 * MIB, 16 * MIB]) {
          const piece = randomBytes(size_bytes);
          sent.update(piece);
          await client.write(piece);
        }
      })();
      const total_bytes = 1 + 100 + 16_384 + 65_537 + 32 * MIB;
      for (let got_bytes = 0; got_bytes < total_bytes;) {
        const bytes = await client.read();
        assert.ok(bytes);
        got_bytes += bytes.length;
        received.update(bytes);
      }
      await writing;
      assert.equal(client.unsent_bytes, 0);
      assert.equal(received.digest("hex"), sent.digest("hex"));
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

    test("a slow reader of a server gets everything", OPTIONS, async () => {
      const [client, server] = await pair(kind);
      const poured = pour(client, 16 * MIB);
      let read_bytes = 0;
      while (read_bytes < 16 * MIB) {
        if (read_bytes < MIB) await delay(5);
        read_bytes += (await server.read())!.length;
      }
      assert.equal(read_bytes, poured.handed_bytes);
      client.destroy();
      server.destroy();
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

    test("one connection too many is closed, the others are served", OPTIONS, async () => {
      const listener = await listening(kind, echo, { connections_max: 2 });
      const [first, second] = [
        await connect(kind, listener.port),
        await connect(kind, listener.port),
      ];
      const third = await connect(kind, listener.port).catch(() => null);
      if (third) assert.ok([null, "lost"].includes(await outcomeOfRead(third) as null));
      for (const client of [first, second]) {
        await client.write(new Uint8Array(3));
        assert.equal((await client.read())!.length, 3);
      }
      first.destroy();
      await delay(100);
      const fourth = await connect(kind, listener.port);
      await fourth.write(new Uint8Array(3));
      assert.equal((await fourth.read())!.length, 3);
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

describe("connecting", () => {
  const target = { host: HOST, timeout_ms: TIMEOUT_MS, certificate: server.cert, alpn: [ALPN] };

  /** A TCP server that is none of ours, and its port. */
  async function foreignServer(onSocket: (socket: Socket) => void): Promise<number> {
    const foreign = net.createServer((socket) => {
      socket.on("error", () => {});
      onSocket(socket);
      closing.push(() => socket.destroy());
    });
    foreign.listen(0, HOST);
    await once(foreign, "listening");
    closing.push(() => foreign.close());
    return (foreign.address() as AddressInfo).port;
  }

  async function reject(promise: Promise<unknown>, code: string, message: RegExp): Promise<void> {
    await assert.rejects(promise, (error) => {
      assert.ok(isSealwireError(error, code), `${code} expected, got ${error}`);
      assert.match(error.message, message);
      return true;
    });
  }

  test("a port where nothing listens is no_connection", async () => {
    const listener = await listenTcp({ host: HOST, port: 0 }, () => {});
    await listener.close();
    for (const open of [connectTcp, connectTls, fetchCertificate]) {
      await reject(open({ ...target, port: listener.port }), "no_connection", /nothing listens/);
    }
  });

  test("an unknown host is no_connection", OPTIONS, async () => {
    const unknown = { ...target, host: "no.such.host.invalid", port: 9 };
    await reject(connectTcp(unknown), "no_connection", /no such host|looked up/);
    await reject(connectTls(unknown), "no_connection", /no such host|looked up/);
  });

  test("a server that never answers the handshake is no_connection in time", async () => {
    const port = await foreignServer(() => {});
    const started_at_ms = performance.now();
    await reject(connectTls({ ...target, port, timeout_ms: 300 }), "no_connection", /0.3 s/);
    await reject(fetchCertificate({ ...target, port, timeout_ms: 300 }), "no_connection", /0.3 s/);
    assert.ok(performance.now() - started_at_ms < 2_000);
  });

  test("a server that speaks no TLS is no_connection", async () => {
    const port = await foreignServer((socket) => socket.write("220 mail.example ESMTP\r\n"));
    await reject(connectTls({ ...target, port }), "no_connection", /does not speak TLS/);
  });

  test("a server that closes during the handshake is no_connection", async () => {
    const port = await foreignServer((socket) => socket.once("data", () => socket.destroy()));
    await reject(connectTls({ ...target, port }), "no_connection", /closed the connection/);
  });

  test("an abort is thrown with its reason, before and during", async () => {
    const port = await foreignServer(() => {});
    const reason = new SealwireError("interrupted", "enough");
    const before = AbortSignal.abort(reason);
    await assert.rejects(connectTls({ ...target, port, signal: before }), reason);
    const controller = new AbortController();
    const connecting = connectTls({ ...target, port, signal: controller.signal });
    setTimeout(() => controller.abort(reason), 50);
    await assert.rejects(connecting, reason);
  });

  test("another certificate than the pinned one is server_changed", async () => {
    const { port } = await listening("tls", echo);
    const pinned = { ...target, port, certificate: stranger.cert };
    await reject(connectTls(pinned), "server_changed", /another certificate/);
  });

  test("a certificate that the pinned one has signed is server_changed", async () => {
    const issued = makeIssuedCertificate(folder, "issued", "server");
    const options = { host: HOST, port: 0, alpn: [ALPN], ...issued };
    const { port, close } = await listenTls(options, echo);
    closing.push(close);
    await reject(connectTls({ ...target, port }), "server_changed", /another certificate/);
  });

  test("a pinned certificate that is out of date is server_untrusted", async () => {
    for (const version of [1, 3] as const) {
      const expired = makeExpiredCertificate(folder, `expired_v${version}`, version);
      const listener = await listenTls({ host: HOST, port: 0, alpn: [ALPN], ...expired }, echo);
      closing.push(() => listener.close());
      const pinned = { ...target, port: listener.port, certificate: expired.cert };
      await reject(connectTls(pinned), "server_untrusted", /out of date.* Feb .*2020/);
    }
  });

  test("the certificate a server shows is fetched as DER", async () => {
    const { port } = await listening("tls", echo);
    const fetched = await fetchCertificate({ ...target, port });
    assert.deepEqual(Buffer.from(fetched), new X509Certificate(server.cert).raw);
  });
});

/** How many peers that never finish a handshake may keep their socket for good. */
const SILENT_PEERS_KEPT_MAX = 128;
/** Files that the runtime opens for itself while it serves. */
const OTHER_FILES_MAX = 16;
const HANDSHAKE_TIMEOUT_MS = 500;

/** Opens `count` connections that send nothing, or a byte now and then, and never end by themselves. */
async function openSilentPeers(port: number, count: number, drip: boolean): Promise<void> {
  for (let peer = 0; peer < count; peer++) {
    const socket = net.connect({ host: HOST, port });
    socket.on("error", () => {}).resume();
    const timer = drip ? setInterval(() => socket.write("\x16"), 100) : undefined;
    socket.on("close", () => clearInterval(timer));
    closing.push(() => socket.destroy());
    // Faster, and the system leaves some half-open that the listener never hears of.
    if (peer % 100 === 0) await delay(10);
  }
}

function openFiles(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

describe("a TLS listener", () => {
  async function assertServes(port: number): Promise<void> {
    const client = await connect("tls", port);
    await client.write(new TextEncoder().encode("still here"));
    assert.equal(new TextDecoder().decode((await client.read())!), "still here");
    client.destroy();
  }

  test("gives a client that asks for no protocol null, and refuses an unknown one", async () => {
    const protocols: (string | null)[] = [];
    const { port } = await listening("tls", (connection) => {
      protocols.push(connection.alpn);
      echo(connection);
    });
    const target = { host: HOST, port, timeout_ms: TIMEOUT_MS, certificate: server.cert };
    const silent = await connectTls({ ...target, alpn: [] });
    await silent.write(new Uint8Array(1));
    assert.ok(await silent.read());
    assert.equal(silent.alpn, null);
    assert.deepEqual(protocols, [null]);
    silent.destroy();
    await assert.rejects(
      (async () => {
        const other = await connectTls({ ...target, alpn: ["h2"] });
        if (await other.read() === null) throw new SealwireError("no_connection", "ended");
      })(),
      (error) =>
        isSealwireError(error, "no_connection") || isSealwireError(error, "connection_lost"),
    );
    assert.deepEqual(protocols, [null]);
    await assertServes(port);
  });

  test("closes on plain text and serves the others", async () => {
    const { port } = await listening("tls", echo);
    const socket = await foreignClient("tcp", port);
    const closed = once(socket.resume(), "close");
    socket.end("GET / HTTP/1.1\r\n\r\n");
    await closed;
    await assertServes(port);
  });

  const CROWDS = [
    { peers: 300, drip: true, title: "300 peers that send a byte now and then" },
    { peers: 2_000, drip: false, title: "2,000 silent peers" },
  ];
  for (const { peers, drip, title } of CROWDS) {
    test(`gets the sockets of ${title} back and serves others meanwhile`, OPTIONS, async () => {
      const files = ["server_cert.pem", "server_key.pem"].map((name) => join(folder, name));
      const tool = spawnTool("tests/echo_server.ts", [...files, `${HANDSHAKE_TIMEOUT_MS}`]);
      const port = Number((await tool.nextJson()).port);
      const old = await connect("tls", port);
      const files_max = openFiles(tool.pid) + SILENT_PEERS_KEPT_MAX + OTHER_FILES_MAX;
      await openSilentPeers(port, peers, drip);
      // The hand-over may cost a newcomer one attempt.
      await assertServes(port).catch(() => assertServes(port));
      await delay(2 * HANDSHAKE_TIMEOUT_MS);
      const deadline_ms = Date.now() + 20_000;
      while (openFiles(tool.pid) > files_max && Date.now() < deadline_ms) await delay(100);
      assert.ok(openFiles(tool.pid) <= files_max, `${openFiles(tool.pid)} files are open`);
      await assertServes(port);
      await old.write(new Uint8Array(5));
      assert.equal((await old.read())!.length, 5);
      await tool.stop("SIGKILL");
    });
  }
});
