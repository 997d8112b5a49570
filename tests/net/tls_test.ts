import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import net from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { type ErrorCode, isSealwireError, SealwireError } from "../../lib/base/errors.ts";
import {
  connectTcp,
  connectTls,
  connectTlsUnverified,
  listenTcp,
  listenTls,
} from "../../lib/net/net.ts";
import {
  makeCertificate,
  makeExpiredCertificate,
  makeIssuedCertificate,
} from "../support/certificates.ts";
import {
  ALPN,
  closeAll,
  connect,
  echo,
  folder,
  foreignClient,
  HOST,
  later,
  listening,
  OPTIONS,
  server,
  TIMEOUT_MS,
} from "../support/net.ts";
import { openFiles } from "../support/process_use.ts";
import { spawnTool, type ToolOptions, type ToolProcess } from "../support/support.ts";

const stranger = makeCertificate(folder, "stranger");

after(closeAll);

describe("connecting", () => {
  const target = { host: HOST, timeout_ms: TIMEOUT_MS, certificate: server.cert, alpn: [ALPN] };

  /** A TCP server that is none of ours, and its port. */
  async function foreignServer(onSocket: (socket: Socket) => void): Promise<number> {
    const foreign = net.createServer((socket) => {
      socket.on("error", () => {});
      onSocket(socket);
      later(() => socket.destroy());
    });
    foreign.listen(0, HOST);
    await once(foreign, "listening");
    later(() => foreign.close());
    return (foreign.address() as AddressInfo).port;
  }

  async function reject(
    promise: Promise<unknown>,
    code: ErrorCode,
    message: RegExp,
  ): Promise<void> {
    await assert.rejects(promise, (error) => {
      assert.ok(isSealwireError(error, code), `${code} expected, got ${error}`);
      assert.match(error.message, message);
      return true;
    });
  }

  test("a port where nothing listens is no_connection", async () => {
    const listener = await listenTcp({ host: HOST, port: 0 }, () => {});
    await listener.close();
    for (const open of [connectTcp, connectTls, connectTlsUnverified]) {
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
    const unverified = connectTlsUnverified({ ...target, port, timeout_ms: 300 });
    await reject(unverified, "no_connection", /0.3 s/);
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
    later(close);
    await reject(connectTls({ ...target, port }), "server_changed", /another certificate/);
  });

  test("a pinned certificate that is out of date is server_untrusted", async () => {
    for (const version of [1, 3] as const) {
      const expired = makeExpiredCertificate(folder, `expired_v${version}`, version);
      const listener = await listenTls({ host: HOST, port: 0, alpn: [ALPN], ...expired }, echo);
      later(() => listener.close());
      const pinned = { ...target, port: listener.port, certificate: expired.cert };
      await reject(connectTls(pinned), "server_untrusted", /out of date.* Feb .*2020/);
    }
  });

  test("a server that nobody vouches for shows its certificate as DER, and answers", async () => {
    const { port } = await listening("tls", echo);
    const { connection, certificate } = await connectTlsUnverified({
      host: HOST,
      port,
      timeout_ms: TIMEOUT_MS,
      alpn: [ALPN],
    });
    assert.deepEqual(Buffer.from(certificate), new X509Certificate(server.cert).raw);
    assert.equal(connection.alpn, ALPN);
    await connection.write(new TextEncoder().encode("who are you?"));
    assert.equal(new TextDecoder().decode((await connection.read())!), "who are you?");
    connection.destroy();
  });

  test("a certificate that is out of date is shown like any other", async () => {
    const expired = makeExpiredCertificate(folder, "shown_expired");
    const listener = await listenTls({ host: HOST, port: 0, alpn: [ALPN], ...expired }, echo);
    later(() => listener.close());
    const shown = await connectTlsUnverified({ ...target, port: listener.port });
    assert.deepEqual(Buffer.from(shown.certificate), new X509Certificate(expired.cert).raw);
    shown.connection.destroy();
  });
});

/** Files that the runtime opens for itself while it serves. */
const OTHER_FILES_MAX = 16;
const HANDSHAKE_TIMEOUT_MS = 500;

/**
 * Opens `count` connections that send nothing, or a byte now and then, and never end by themselves.
 */
async function openSilentPeers(port: number, count: number, drip: boolean): Promise<void> {
  for (let peer = 0; peer < count; peer++) {
    const socket = net.connect({ host: HOST, port });
    socket.on("error", () => {}).resume();
    const timer = drip ? setInterval(() => socket.write("\x16"), 100) : undefined;
    socket.on("close", () => clearInterval(timer));
    later(() => socket.destroy());
    // Faster, and the system leaves some half-open that the listener never hears of.
    if (peer % 100 === 0) await delay(10);
  }
}

function startEchoServer(options: ToolOptions = {}): ToolProcess {
  const files = ["server_cert.pem", "server_key.pem"].map((name) => join(folder, name));
  return spawnTool("tests/support/echo_server.ts", [...files, `${HANDSHAKE_TIMEOUT_MS}`], options);
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
      const tool = startEchoServer();
      const port = Number((await tool.nextJson()).port);
      const old = await connect("tls", port);
      const files_max = openFiles(tool.pid) + OTHER_FILES_MAX;
      await openSilentPeers(port, peers, drip);
      await assertServes(port);
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

  test("outlives more connections than it may have open files", OPTIONS, async () => {
    const tool = startEchoServer({ files_max: 256 });
    const port = Number((await tool.nextJson()).port);
    const old = await connect("tls", port);
    await openSilentPeers(port, 600, false);
    await delay(4 * HANDSHAKE_TIMEOUT_MS);
    await assertServes(port);
    await old.write(new Uint8Array(5));
    assert.equal((await old.read())!.length, 5);
    await tool.stop("SIGKILL");
  });
});
