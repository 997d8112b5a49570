/** Servers that a client cannot reach, or that are none. */
import { once } from "node:events";
import net from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";
import { join } from "node:path";
import { after, describe } from "node:test";
import tls from "node:tls";
import { ALPN } from "../../../lib/protocol/wire.ts";
import { makeCertificate } from "../../support/certificates.ts";
import { testRefusals } from "../../support/refused_runs.ts";
import { temporaryFolder } from "../../support/support.ts";

const HOST = "127.0.0.1";
const AS = ["--as", "alice"];
const folder = temporaryFolder();
const certificate = makeCertificate(folder, "server");

async function listening(server: Server): Promise<number> {
  server.listen(0, HOST);
  await once(server, "listening");
  after(() => server.close());
  return (server.address() as AddressInfo).port;
}

const closed = net.createServer();
const closedPort = await listening(closed);
closed.close();
const silentPort = await listening(net.createServer(() => {}));
const plainPort = await listening(
  net.createServer((socket: Socket) => socket.end("220 hello\r\n")),
);
const otherProtocolPort = await listening(tls.createServer({ ...certificate }, (socket) => {
  socket.on("error", () => {});
}));
const OURS = { ALPNProtocols: [ALPN] };
const mutePort = await listening(tls.createServer({ ...certificate, ...OURS }, (socket) => {
  socket.on("error", () => {});
}));
const babblingPort = await listening(tls.createServer({ ...certificate, ...OURS }, (socket) => {
  socket.on("error", () => {}).write("<html>\n");
}));

describe("a server that cannot be reached, or is none, is exit 3", () => {
  const at = (port: number, host = HOST) => () => [
    host,
    String(port),
    "register",
    ...AS,
    "--keys",
    // A folder for each: a registration that fails takes the keys back that it made.
    temporaryFolder(),
    "--timeout",
    "2",
    "--server-cert",
    join(folder, "server_cert.pem"),
  ];
  /** The same for a client that has never seen the server. */
  const unseen = (port: number) => () => [
    ...[HOST, String(port), "register", ...AS, "--timeout", "2", "--accept-new"],
    ...["--keys", temporaryFolder()],
  ];
  const NONE = { status: 3, code: "no_connection" };
  testRefusals("client.ts", [
    {
      promise: "nothing listens",
      args: at(closedPort),
      ...NONE,
      names: new RegExp(`${HOST}:${closedPort}.*nothing listens`),
    },
    {
      promise: "no such host",
      args: at(1_234, "nowhere.invalid"),
      ...NONE,
      names: /nowhere\.invalid/,
    },
    {
      promise: "it takes the connection and is silent",
      args: at(silentPort),
      ...NONE,
      names: /2 s/,
    },
    { promise: "it speaks no TLS", args: at(plainPort), ...NONE, names: /TLS|closed/ },
    {
      promise: "it speaks another protocol",
      args: at(otherProtocolPort),
      ...NONE,
      names: /sealwire/,
    },
    {
      promise: "it never says hello",
      args: at(mutePort),
      status: 3,
      code: "timeout",
      names: /hello.*2 s/,
    },
    {
      promise: "it speaks no JSON",
      args: at(babblingPort),
      status: 3,
      code: "connection_lost",
      names: /JSON/,
    },
    {
      promise: "nothing listens, for one never seen",
      args: unseen(closedPort),
      ...NONE,
      names: /nothing listens/,
    },
    {
      promise: "it speaks another protocol, for one never seen",
      args: unseen(otherProtocolPort),
      ...NONE,
      names: /is no sealwire\/2 server: for an old C\+\+ server use --classic/,
    },
    {
      promise: "it never says hello, for one never seen",
      args: unseen(mutePort),
      status: 3,
      code: "timeout",
      names: /hello.*2 s/,
    },
    {
      promise: "it speaks no JSON, for one never seen",
      args: unseen(babblingPort),
      status: 3,
      code: "connection_lost",
      names: /JSON/,
    },
    {
      promise: "it shows another certificate",
      args: () => [
        HOST,
        String(mutePort),
        "register",
        ...AS,
        "--server-cert",
        otherCertificate(),
        "--keys",
        temporaryFolder(),
      ],
      status: 3,
      code: "server_changed",
      names: /another certificate/,
    },
  ]);
});

function otherCertificate(): string {
  makeCertificate(folder, "other");
  return join(folder, "other_cert.pem");
}
