/**
 * Speaks JSON-RPC 2.0 over a {@linkcode Connection}, one JSON object a line. Both ends may call
 * methods of the other. Requests may be pipelined, and answers may come in any order.
 *
 * A peer that exceeds a limit gets an error that names the limit, and loses its connection.
 */
import { Buffer } from "node:buffer";
import { type ByteAccount, type ByteBudget, processBytes } from "../base/byte_budget.ts";
import { isSealwireError, SealwireError } from "../base/errors.ts";
import { type Connection, END_TIMEOUT_MS } from "../net/net.ts";
import { type CallOptions, Calls } from "./calls.ts";
import { LineSender } from "./line_sender.ts";
import { LineAssembler } from "./lines.ts";
import {
  formatError,
  formatNotification,
  formatRequest,
  formatResult,
  type Id,
  type Message,
  parseMessage,
} from "./message.ts";

/** The limits of a connection. */
export interface RpcLimits {
  /** The longest request, unless its method allows more. */
  request_line_bytes_max: number;
  /** The longest request of a client that must prove itself first. See {@linkcode RpcPeer.prove}. */
  unproven_line_bytes_max: number;
  /** The longest answer. */
  answer_line_bytes_max: number;
  /** How deep arrays and objects may be nested. */
  nesting_max: number;
  /** The time from the first byte of a line to its end. */
  line_ms_max: number;
  /** Requests in one direction that are not answered yet. */
  requests_in_flight_max: number;
  /** Bytes that wait for a peer that reads slowly. */
  unsent_bytes_max: number;
  /** A peer that sends no line for this long is pinged. After as long again it is given up. */
  silence_ms_max: number;
}

const RPC_LIMITS: Readonly<RpcLimits> = {
  request_line_bytes_max: 64 * 1024,
  unproven_line_bytes_max: 8 * 1024,
  answer_line_bytes_max: 1024 * 1024,
  nesting_max: 64,
  line_ms_max: 10_000,
  requests_in_flight_max: 256,
  unsent_bytes_max: 1024 * 1024,
  silence_ms_max: 60_000,
};

const PING = "rpc.ping";

/**
 * Serves one method. `params` come from the peer and are not parsed yet. A `SealwireError` that the
 * handler throws is sent to the peer with its code, sentence and details. Any other error is sent
 * as `internal`.
 */
export type Handler = (params: unknown, peer: RpcPeer) => Promise<unknown> | unknown;

export interface Method {
  handle: Handler;
  /** The longest request of this method. Default: `request_line_bytes_max`. */
  line_bytes_max?: number;
}

export interface RpcPeerOptions {
  /** A client accepts lines as long as an answer may be, a server only requests. */
  role: "server" | "client";
  methods?: Readonly<Record<string, Method>>;
  onNotification?: (method: string, params: unknown) => void;
  /** Called with each result as it arrives, before the call that it answers goes on. */
  onResult?: (result: unknown) => void;
  /** Called with an error of a handler that is not a `SealwireError`. */
  onInternalError?: (error: unknown, method: string) => void;
  limits?: Partial<RpcLimits>;
  /** The client must prove itself before it may send long lines. */
  unproven?: boolean;
  /** What all buffers come out of. The default is the one that the whole process shares. */
  budget?: ByteBudget;
}

export class RpcPeer {
  /** Resolves when nothing more can arrive: with the reason, or null after an orderly end. */
  readonly closed: Promise<SealwireError | null>;
  /** Whether the reason is what the peer said, not what this end found. */
  closedByPeer = false;
  private resolveClosed!: (reason: SealwireError | null) => void;
  private readonly limits: RpcLimits;
  private readonly methods: Map<string, Method>;
  private receiving = true;
  private readonly lines = new LineAssembler();
  private readonly line_bytes_max: number;
  private lineTimer: ReturnType<typeof setTimeout> | undefined;
  private silenceTimer: ReturnType<typeof setTimeout> | undefined;
  private heard_at_ms = performance.now();
  private requestsInFlight = 0;
  private requests_bytes = 0;
  private isProven: boolean;
  private readonly bytes: ByteAccount;
  private onIdle: (() => void) | null = null;
  private readonly calls = new Calls();
  private sending = true;
  private readonly lineSender: LineSender;

  constructor(readonly connection: Connection, private readonly options: RpcPeerOptions) {
    this.limits = { ...RPC_LIMITS, ...options.limits };
    this.methods = new Map(Object.entries(options.methods ?? {}));
    this.methods.set(PING, { handle: () => null });
    this.line_bytes_max = Math.max(
      options.role === "client" ? this.limits.answer_line_bytes_max : 0,
      ...this.methods.values().map((method) => this.requestLineBytesMax(method)),
    );
    const { budget = processBytes, unproven = false } = options;
    this.isProven = !unproven;
    this.bytes = budget.open(() => this.destroy(buffersFull()));
    if (this.isProven) this.bytes.prove();
    this.lineSender = new LineSender(
      connection,
      () => this.countBytes(),
      (error) => this.destroy(error as SealwireError),
    );
    this.closed = new Promise((resolve) => this.resolveClosed = resolve);
    this.watchSilence(this.limits.silence_ms_max);
    void this.receive();
  }

  /**
   * Calls a method of the peer and returns its result.
   *
   * @throws {SealwireError} the peer's error, under its code; `timeout`, `connection_lost`;
   * `limit_exceeded` where too many calls are unanswered; the signal's reason.
   */
  call(method: string, params: object, options: CallOptions = {}): Promise<unknown> {
    const { signal } = options;
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (!this.receiving) return Promise.reject(connectionLost(null));
    if (this.calls.size >= this.limits.requests_in_flight_max) {
      return Promise.reject(this.limitExceeded("requests_in_flight_max"));
    }
    return this.calls.start(method, options, (id) => this.send(formatRequest(id, method, params)));
  }

  /** Sends a notification, which has no answer. A peer that reads too slowly is dropped. */
  notify(method: string, params: object): void {
    this.send(formatNotification(method, params));
  }

  /** The bytes that the peer has not read yet. */
  get unsent_bytes(): number {
    return this.lineSender.unsent_bytes;
  }

  /** Resolves when the system has taken all that was sent, or can take no more. */
  flushed(): Promise<void> {
    return this.lineSender.flushed();
  }

  /** Says that the client has proven itself: it may send longer lines, and keeps its buffers longest. */
  prove(): void {
    this.isProven = true;
    this.bytes.prove();
  }

  /** Sends what is pending, then ends the connection. Resolves when it is closed. */
  end(): Promise<void> {
    return this.endWith(null);
  }

  /** Closes the connection at once. */
  destroy(reason: SealwireError | null = null): void {
    this.sending = false;
    this.bytes.close();
    this.stopReceiving(reason);
    this.connection.destroy();
  }

  private async receive(): Promise<void> {
    while (this.receiving) {
      let bytes;
      try {
        bytes = await this.connection.read();
      } catch (error) {
        return this.destroy(error as SealwireError);
      }
      if (bytes === null) break;
      this.take(bytes);
    }
    if (!this.receiving) return;
    // The peer has ended its side. Its earlier requests are still answered.
    this.stopReceiving(this.lines.partial_bytes > 0 ? connectionLost(null) : null);
    const timer = setTimeout(() => this.destroy(), END_TIMEOUT_MS);
    if (this.requestsInFlight > 0) await new Promise<void>((resolve) => this.onIdle = resolve);
    clearTimeout(timer);
    await this.end();
  }

  private take(bytes: Uint8Array): void {
    const taken = this.pushLines(bytes);
    this.countBytes();
    if (taken === "too_long") {
      const { role } = this.options;
      const ofRequests = this.isProven ? "request_line_bytes_max" : "unproven_line_bytes_max";
      this.refuse(role === "client" ? "answer_line_bytes_max" : ofRequests);
    } else if (this.lines.partial_bytes === 0) {
      clearTimeout(this.lineTimer);
      this.lineTimer = undefined;
    } else if (this.receiving) {
      this.lineTimer ??= setTimeout(() => this.refuse("line_ms_max"), this.limits.line_ms_max);
    }
  }

  private pushLines(bytes: Uint8Array): "taken" | "stopped" | "too_long" {
    const line_bytes_max = this.isProven
      ? this.line_bytes_max
      : Math.min(this.line_bytes_max, this.limits.unproven_line_bytes_max);
    return this.lines.push(bytes, line_bytes_max, (line) => this.onLine(line));
  }

  /** Tells the budget how much this connection holds. Too much ends the connection. */
  private countBytes(): void {
    this.bytes.hold(this.lines.held_bytes + this.requests_bytes + this.unsent_bytes);
  }

  /** Takes one line. Returns whether more may follow. */
  private onLine(line: Uint8Array): boolean {
    clearTimeout(this.lineTimer);
    this.lineTimer = undefined;
    this.heard_at_ms = performance.now();
    let message;
    try {
      message = parseMessage(line, this.limits.nesting_max);
    } catch (error) {
      this.refuseWith(error as SealwireError);
      return false;
    }
    this.onMessage(message, line.length);
    return this.receiving;
  }

  private onMessage(message: Message, line_bytes: number): void {
    switch (message.kind) {
      case "request":
        return this.onRequest(message.id, message.method, message.params, line_bytes);
      case "notification":
        return this.onNotification(message.method, message.params);
      case "result":
        this.options.onResult?.(message.result);
        return this.calls.succeed(message.id, message.result);
      case "error":
        if (message.id === null) {
          this.closedByPeer = true;
          return this.destroy(message.error);
        }
        return this.calls.fail(message.id, message.error);
      case "invalid":
        return this.send(formatError(message.id, message.error));
    }
  }

  private onNotification(method: string, params: unknown): void {
    const { onNotification, onInternalError } = this.options;
    try {
      onNotification?.(method, params);
    } catch (error) {
      if (!onInternalError) throw error;
      onInternalError(error, method);
    }
  }

  private onRequest(id: Id, name: string, params: unknown, line_bytes: number): void {
    const method = this.methods.get(name);
    if (line_bytes > this.requestLineBytesMax(method)) return this.refuse("request_line_bytes_max");
    if (this.requestsInFlight >= this.limits.requests_in_flight_max) {
      return this.refuse("requests_in_flight_max");
    }
    if (method) return void this.serve(id, name, method, params, line_bytes);
    this.send(formatError(id, new SealwireError("unknown_method", `no method ${name}`)));
  }

  private async serve(
    id: Id,
    name: string,
    method: Method,
    params: unknown,
    line_bytes: number,
  ): Promise<void> {
    this.requestsInFlight++;
    this.requests_bytes += line_bytes;
    let answer;
    try {
      answer = formatResult(id, await method.handle(params, this));
      if (Buffer.byteLength(answer) > this.limits.answer_line_bytes_max) {
        throw this.limitExceeded("answer_line_bytes_max");
      }
    } catch (error) {
      if (!isSealwireError(error)) this.options.onInternalError?.(error, name);
      answer = formatError(id, error);
    }
    this.requestsInFlight--;
    this.requests_bytes -= line_bytes;
    this.send(answer);
    if (this.requestsInFlight === 0) this.onIdle?.();
  }

  private requestLineBytesMax(method: Method | undefined): number {
    return method?.line_bytes_max ?? this.limits.request_line_bytes_max;
  }

  private send(line: string): void {
    // A handler may answer after its peer has gone.
    if (!this.sending) return;
    if (this.unsent_bytes > this.limits.unsent_bytes_max) {
      return this.destroy(this.limitExceeded("unsent_bytes_max"));
    }
    this.lineSender.send(line);
    this.countBytes();
  }

  private refuse(limit: keyof RpcLimits): void {
    this.refuseWith(this.limitExceeded(limit));
  }

  /** Tells the peer why it loses its connection, and ends the connection. */
  private refuseWith(error: SealwireError): void {
    this.send(formatError(null, error));
    void this.endWith(error);
  }

  private async endWith(reason: SealwireError | null): Promise<void> {
    this.sending = false;
    this.stopReceiving(reason);
    const timer = setTimeout(() => this.connection.destroy(), END_TIMEOUT_MS);
    await this.lineSender.flushed();
    clearTimeout(timer);
    this.bytes.close();
    await this.connection.end();
  }

  private stopReceiving(reason: SealwireError | null): void {
    if (!this.receiving) return;
    this.receiving = false;
    clearTimeout(this.lineTimer);
    clearTimeout(this.silenceTimer);
    this.calls.failAll(connectionLost(reason));
    this.resolveClosed(reason);
  }

  private watchSilence(wait_ms: number): void {
    this.silenceTimer = setTimeout(() => void this.onSilence(), wait_ms);
  }

  private async onSilence(): Promise<void> {
    const { silence_ms_max } = this.limits;
    const leftOfSilence_ms = () => this.heard_at_ms + silence_ms_max - performance.now();
    if (leftOfSilence_ms() <= 0) {
      // Any answer is a sign of life, an error too.
      await this.call(PING, {}, { timeout_ms: silence_ms_max }).catch(() => {});
      if (leftOfSilence_ms() <= 0) return this.refuse("silence_ms_max");
    }
    if (this.receiving) this.watchSilence(leftOfSilence_ms());
  }

  private limitExceeded(limit: keyof RpcLimits): SealwireError {
    return new SealwireError(
      "limit_exceeded",
      `over the limit ${limit} = ${this.limits[limit]}`,
      { details: { limit, max: this.limits[limit] } },
    );
  }
}

function buffersFull(): SealwireError {
  return new SealwireError(
    "overloaded",
    "the buffers of all connections together are full, and this one held most: try again",
  );
}

function connectionLost(reason: SealwireError | null): SealwireError {
  const why = reason ? `: ${reason.message}` : "";
  return new SealwireError("connection_lost", `the connection was lost${why}`, { cause: reason });
}
