/**
 * The C++ programs as far as their bytes go, written from docs/protocol/classic.md alone and sharing no code with what it
 * tests: one message is one write, one answer is one read of at most 1,023 bytes; OAEP and AES are `openssl`'s.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import net from "node:net";
import type { Socket } from "node:net";
import { join } from "node:path";
import tls from "node:tls";

const BUFFER_BYTES = 1_023;
const ANSWER_TIMEOUT_MS = 15_000;

/** A C++ client: a blocking socket, one request and one answer at a time. */
export class ClassicPeer {
  private readonly answers: string[] = [];
  private readonly waiting: ((answer: string | null) => void)[] = [];
  private ended = false;

  constructor(readonly socket: Socket) {
    socket.setNoDelay(true);
    socket.on("data", (bytes: Uint8Array) => this.hear(Buffer.from(bytes).toString("latin1")));
    socket.on("error", () => {});
    socket.on("close", () => this.end());
    socket.on("end", () => this.end());
  }

  /** Over TLS without ALPN, as `SSL_connect` does it with no options set. */
  static async connect(port: number, serverCert: string): Promise<ClassicPeer> {
    const socket = tls.connect({
      host: "127.0.0.1",
      port,
      ca: [readFileSync(serverCert, "utf8")],
      checkServerIdentity: () => undefined,
    });
    await once(socket, "secureConnect");
    return new ClassicPeer(socket);
  }

  /** Over plain TCP, as clients reach each other. */
  static async connectPlain(port: number): Promise<ClassicPeer> {
    const socket = net.connect({ host: "127.0.0.1", port });
    await once(socket, "connect");
    return new ClassicPeer(socket);
  }

  send(message: string | Uint8Array): void {
    this.socket.write(typeof message === "string" ? Buffer.from(message, "latin1") : message);
  }

  /** What one read gives; null at the end of the connection. */
  async read(): Promise<string | null> {
    if (this.answers.length > 0) return this.answers.shift()!;
    if (this.ended) return null;
    let timer: ReturnType<typeof setTimeout>;
    const answer = new Promise<string | null>((resolve, reject) => {
      this.waiting.push(resolve);
      timer = setTimeout(() => reject(new Error("no answer")), ANSWER_TIMEOUT_MS);
    });
    try {
      return await answer;
    } finally {
      clearTimeout(timer!);
    }
  }

  async ask(message: string | Uint8Array): Promise<string | null> {
    this.send(message);
    return await this.read();
  }

  /** Waits until nothing has come for so long, and says what had come by then. */
  async quiet(quiet_ms: number): Promise<string[]> {
    await new Promise((resolve) => setTimeout(resolve, quiet_ms));
    return this.answers.splice(0);
  }

  async register(name: string): Promise<void> {
    assert.equal(await this.ask(`REGISTER#${name}`), "100 OK\r\n");
  }

  /** Logs in and reads the list as those clients do: from the fourth line on. */
  async login(name: string, port: number): Promise<PeerList> {
    return readList(await this.ask(`${name}#${port}`));
  }

  close(): void {
    this.socket.destroy();
  }

  private hear(text: string): void {
    assert.ok(text.length <= BUFFER_BYTES, `an answer of ${text.length} bytes`);
    const waiter = this.waiting.shift();
    if (waiter) waiter(text);
    else this.answers.push(text);
  }

  private end(): void {
    this.ended = true;
    for (const waiter of this.waiting.splice(0)) waiter(null);
  }
}

export interface PeerList {
  readonly balance: string;
  readonly key: string;
  readonly count: number;
  readonly rows: string[];
}

export function readList(answer: string | null): PeerList {
  const match = /^([\d.]+)\n([A-Za-z0-9+/=]+)\r\n(\d+)\n((?:[^\r\n]+\r\n)*)$/.exec(answer ?? "");
  assert.ok(match, `no list: ${JSON.stringify(answer)}`);
  const rows = match[4]!.split("\r\n").slice(0, -1);
  assert.equal(rows.length, Number(match[3]));
  return { balance: match[1]!, key: match[2]!, count: rows.length, rows };
}

/** `openssl s_client` as a client: what is typed is sent as it is, without a line end of its own. */
export class OpensslClient {
  private readonly child: ChildProcessWithoutNullStreams;
  private text = "";

  constructor(port: number, serverCert: string) {
    const target = `127.0.0.1:${port}`;
    const args = ["s_client", "-quiet", "-connect", target, "-CAfile", serverCert];
    this.child = spawn("openssl", [...args, "-verify_return_error"]);
    this.child.stdin.on("error", () => {});
    this.child.stdout.on("data", (bytes: Uint8Array) => {
      this.text += Buffer.from(bytes).toString("latin1");
    });
  }

  /** Sends `message` and gives what has come when it ends in `ending`. */
  async ask(message: string, ending: string): Promise<string> {
    this.text = "";
    this.child.stdin.write(message);
    const until_ms = Date.now() + ANSWER_TIMEOUT_MS;
    while (!this.text.endsWith(ending) && Date.now() < until_ms) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    return this.text;
  }

  async closed(): Promise<void> {
    if (this.child.exitCode === null) await once(this.child, "close");
  }
}

/** `B_private.pem` and `B_public.pem`, as `openssl` makes them. */
export function makeClassicKeys(folder: string, name = "B"): void {
  const key = join(folder, `${name}_private.pem`);
  execFileSync("openssl", ["genpkey", "-algorithm", "RSA", "-out", key], { stdio: "pipe" });
  execFileSync("chmod", ["600", key]);
  const out = join(folder, `${name}_public.pem`);
  execFileSync("openssl", ["rsa", "-in", key, "-pubout", "-out", out], { stdio: "pipe" });
}

const OAEP = ["-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha1"];

/** RSA-OAEP (SHA-1), 256 bytes. */
export function encryptOffer(text: string, publicKeyPath: string): Uint8Array {
  const args = ["pkeyutl", "-encrypt", "-pubin", "-inkey", publicKeyPath, ...OAEP];
  return execFileSync("openssl", args, { input: text });
}

export function decryptOffer(ciphertext: Uint8Array, privateKeyPath: string): string {
  const args = ["pkeyutl", "-decrypt", "-inkey", privateKeyPath, ...OAEP];
  return execFileSync("openssl", args, { input: ciphertext }).toString("latin1");
}

/** A C++ payee's side: takes one ciphertext a connection on its port and gives it to `relay`, whose answer goes back. */
export async function listenForOffers(
  privateKeyPath: string,
  relay: (text: string) => Promise<string | null>,
): Promise<{ port: number; close: () => void }> {
  const server = net.createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", async (ciphertext: Uint8Array) => {
      const text = decryptOffer(ciphertext, privateKeyPath);
      socket.end(await relay(text) ?? "");
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { port: (server.address() as net.AddressInfo).port, close: () => server.close() };
}

/** A C++ payer's side: hands the offer to the payee's port and reads the answer. */
export async function sendOffer(port: number, ciphertext: Uint8Array): Promise<string | null> {
  const peer = await ClassicPeer.connectPlain(port);
  try {
    return await peer.ask(ciphertext);
  } finally {
    peer.close();
  }
}
