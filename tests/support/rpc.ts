/**
 * A server of ours over TLS, clients of ours, and a client that speaks bytes, for the tests of
 * JSON-RPC.
 */
import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import { type ErrorCode, isSealwireError, SealwireError } from "../../lib/base/errors.ts";
import { type Connection, connectTls } from "../../lib/net/net.ts";
import { type Method, type RpcLimits, RpcPeer, type RpcPeerOptions } from "../../lib/rpc/peer.ts";
import { ALPN, HOST, later, listening, server } from "./net.ts";

const encoder = new TextEncoder();

const METHODS: Record<string, Method> = {
  echo: { handle: (params) => params },
  later: {
    handle: async (params) => {
      await delay((params as { ms: number }).ms);
      return params;
    },
  },
  never: { handle: () => new Promise(() => {}) },
  nothing: { handle: () => undefined },
  refuse: {
    handle: () => {
      throw new SealwireError("insufficient_funds", "not enough", {
        details: { retry_after_ms: 7, event: "paid", payment: { nested: true } },
      });
    },
  },
  invalid: {
    handle: () => {
      throw new SealwireError("invalid_params", "amount is missing");
    },
  },
  broken: {
    handle: () => {
      throw new TypeError("secret inside");
    },
  },
  unspeakable: { handle: () => ({ big: 1n }) },
  size: { handle: (params) => JSON.stringify(params).length, line_bytes_max: 512 * 1024 },
  fill: { handle: (params) => "x".repeat((params as { size_bytes: number }).size_bytes) },
  ask: { handle: (params, peer) => peer.call("answer", params as object) },
};

export interface Served {
  port: number;
  peers: RpcPeer[];
  internalErrors: unknown[];
  notifications: unknown[];
}

export async function serve(limits: Partial<RpcLimits> = {}): Promise<Served> {
  const served: Served = { port: 0, peers: [], internalErrors: [], notifications: [] };
  const listener = await listening("tls", (connection) => {
    served.peers.push(
      new RpcPeer(connection, {
        role: "server",
        methods: METHODS,
        limits,
        onInternalError: (error) => served.internalErrors.push(error),
        onNotification: (method, params) => {
          if (method === "break") throw new TypeError("broken");
          served.notifications.push([method, params]);
        },
      }),
    );
  });
  served.port = listener.port;
  return served;
}

export function open(port: number): Promise<Connection> {
  return connectTls({
    host: HOST,
    port,
    alpn: [ALPN],
    timeout_ms: 5_000,
    certificate: server.cert,
  });
}

export async function connect(
  port: number,
  options: Partial<RpcPeerOptions> = {},
): Promise<RpcPeer> {
  const peer = new RpcPeer(await open(port), { role: "client", ...options });
  later(() => peer.destroy());
  return peer;
}

/** A client that speaks bytes. */
export class RawClient {
  private text = "";
  private ended = false;
  private constructor(readonly connection: Connection) {}

  static async open(port: number): Promise<RawClient> {
    const client = new RawClient(await open(port));
    later(() => client.connection.destroy());
    return client;
  }

  send(text: string | Uint8Array): Promise<void> {
    return this.connection.write(typeof text === "string" ? encoder.encode(text) : text);
  }

  /** The next line, parsed, or null at the end. */
  async next(): Promise<Record<string, unknown> | null> {
    while (!this.text.includes("\n")) {
      if (this.ended) return null;
      const bytes = await this.connection.read().catch(() => null);
      if (bytes) this.text += new TextDecoder().decode(bytes);
      else this.ended = true;
    }
    const end = this.text.indexOf("\n");
    const line = this.text.slice(0, end);
    this.text = this.text.slice(end + 1);
    return JSON.parse(line);
  }

  async ask(text: string): Promise<Record<string, unknown> | null> {
    await this.send(text);
    return await this.next();
  }
}

export function request(id: unknown, method: string, params: object = {}): string {
  return JSON.stringify({ jsonrpc: "2.0", id, method, params }) + "\n";
}

/** The error in an answer: its integer, and its data with the code. */
export function codeOf(answer: Record<string, unknown> | null): Record<string, unknown> {
  const error = answer?.error as { code: number; data: Record<string, unknown> } | undefined;
  return { integer: error?.code, ...error?.data };
}

export function withCode(code: ErrorCode, details: object = {}) {
  return (error: unknown) => {
    assert.ok(isSealwireError(error, code), `${code} expected, got ${error}`);
    assert.deepEqual(error.details, details);
    return true;
  };
}

export async function assertServes(port: number): Promise<void> {
  const peer = await connect(port);
  assert.deepEqual(await peer.call("echo", { still: "here" }), { still: "here" });
  await peer.end();
}
