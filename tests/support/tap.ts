/**
 * Someone between a client and the server who holds the server's own TLS key, so that neither sees a difference: passes every
 * line on, and lets a test hold, change or lose any of them, or cut the line.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Connection, connectTls, type Listener, listenTls } from "../../lib/net/net.ts";
import { ALPN } from "../../lib/protocol/wire.ts";
import { LineAssembler } from "../../lib/rpc/lines.ts";
import type { Json, PaymentWorld } from "./payment_world.ts";

const LINE_BYTES_MAX = 1024 * 1024;
const TIMEOUT_MS = 10_000;

/** One JSON-RPC line on its way. */
export interface Line {
  /** A request and a notification by their own method; an answer by that of its request. */
  readonly method: string;
  /** `request`: to the server; `answer` and `notification`: to the client. */
  readonly kind: "request" | "answer" | "notification";
  readonly message: Json;
  /** Says something to the client, as if the server did. */
  reply(message: Json): void;
  /** Ends both sides' connections at once. */
  cut(): void;
}

/** What becomes of a line: a message goes on in its place; `lose` is never passed on. */
export type Verdict = "pass" | "lose" | Json;
export type Judge = (line: Line) => Verdict | Promise<Verdict>;

/** The folder with the server's keys, and its port at the time of a connection. */
export type TappedServer = Pick<PaymentWorld, "serverKeys" | "port">;

export class Tap {
  judge: Judge = () => "pass";
  private readonly live = new Set<Connection>();
  private listener!: Listener;
  private closedToNew = false;

  private constructor(private readonly world: TappedServer, private readonly cert: string) {}

  static async start(world: TappedServer): Promise<Tap> {
    const read = (name: string) => readFileSync(join(world.serverKeys, name), "utf8");
    const [cert, key] = [read("server_cert.pem"), read("server_key.pem")];
    const tap = new Tap(world, cert);
    const options = { host: "127.0.0.1", port: 0, cert, key, alpn: [ALPN] };
    tap.listener = await listenTls(options, (client) => void tap.carry(client));
    return tap;
  }

  get port(): number {
    return this.listener.port;
  }

  /** From now on nobody gets through, and whoever was connected is cut off. */
  bar(): void {
    this.closedToNew = true;
    for (const connection of this.live) connection.destroy();
  }

  unbar(): void {
    this.closedToNew = false;
  }

  async close(): Promise<void> {
    this.bar();
    await this.listener.close();
  }

  /** Resolves with the first line for which `matches` holds, which is held back for ever; the others pass. */
  hold(matches: (line: Line) => boolean): Promise<Line> {
    return new Promise((resolve) => {
      this.judge = (line) => {
        if (!matches(line)) return "pass";
        this.judge = () => "pass";
        resolve(line);
        return "lose";
      };
    });
  }

  private async carry(client: Connection): Promise<void> {
    if (this.closedToNew) return client.destroy();
    const target = { host: "127.0.0.1", port: this.world.port, timeout_ms: TIMEOUT_MS };
    try {
      const server = await connectTls({ ...target, certificate: this.cert, alpn: [ALPN] });
      new Wire(client, server, (line) => this.judge(line));
      for (const connection of [client, server]) this.live.add(connection);
    } catch {
      // A server that is away looks away from behind the tap as well.
      client.destroy();
    }
  }
}

/** One client's connection and its continuation to the server. */
class Wire {
  /** By id: the requests of the client that are not answered. */
  private readonly asked = new Map<unknown, string>();

  constructor(
    private readonly client: Connection,
    private readonly server: Connection,
    private readonly judge: Judge,
  ) {
    void this.pump(client, server, (message) => this.fromClient(message));
    void this.pump(server, client, (message) => this.fromServer(message));
  }

  private async pump(
    from: Connection,
    to: Connection,
    describe: (message: Json) => Pick<Line, "method" | "kind">,
  ): Promise<void> {
    const lines = new LineAssembler();
    let passing = Promise.resolve();
    try {
      for (let bytes = await from.read(); bytes !== null; bytes = await from.read()) {
        lines.push(bytes, LINE_BYTES_MAX, (text) => {
          const message = JSON.parse(new TextDecoder().decode(text)) as Json;
          const line = { ...describe(message), message, ...this.hands() };
          passing = passing.then(() => this.pass(line, to)).catch(() => this.cut());
          return true;
        });
      }
      await passing;
      await to.end();
    } catch {
      this.cut();
    }
  }

  private async pass(line: Line, to: Connection): Promise<void> {
    const verdict = await this.judge(line);
    if (verdict !== "lose") await send(to, verdict === "pass" ? line.message : verdict);
  }

  private fromClient({ method, id }: Json): Pick<Line, "method" | "kind"> {
    if (typeof method !== "string") return { method: "rpc.ping", kind: "answer" };
    this.asked.set(id, method);
    return { method, kind: "request" };
  }

  private fromServer({ method, id }: Json): Pick<Line, "method" | "kind"> {
    if (typeof method === "string") return { method, kind: "notification" };
    return { method: this.asked.get(id) ?? "", kind: "answer" };
  }

  private hands(): Pick<Line, "reply" | "cut"> {
    const reply = (message: Json) => void send(this.client, message).catch(() => this.cut());
    return { reply, cut: () => this.cut() };
  }

  private cut(): void {
    this.client.destroy();
    this.server.destroy();
  }
}

function send(to: Connection, message: Json): Promise<void> {
  return to.write(new TextEncoder().encode(JSON.stringify(message) + "\n"));
}
