/** The requests of this end that wait for their answers. */
import { SealwireError } from "../base/errors.ts";
import type { Id } from "./message.ts";

/** How long a call waits for its answer by default. */
const CALL_TIMEOUT_MS_DEFAULT = 30_000;

export interface CallOptions {
  timeout_ms?: number;
  /** Ends the call. Its reason is thrown. */
  signal?: AbortSignal;
}

interface PendingCall {
  succeed: (result: unknown) => void;
  fail: (error: Error) => void;
}

export class Calls {
  private readonly pending = new Map<Id, PendingCall>();
  private lastId = 0;

  /** How many wait. */
  get size(): number {
    return this.pending.size;
  }

  /**
   * Starts a call, whose request `send` sends, and returns its result.
   *
   * @throws {SealwireError} `timeout`; what the call fails with; the signal's reason.
   */
  start(method: string, options: CallOptions, send: (id: Id) => void): Promise<unknown> {
    const { signal, timeout_ms = CALL_TIMEOUT_MS_DEFAULT } = options;
    return new Promise((resolve, reject) => {
      const id = ++this.lastId;
      const settle = () => {
        this.pending.delete(id);
        clearTimeout(timer);
        signal?.removeEventListener("abort", onAbort);
      };
      const fail = (error: Error) => {
        settle();
        reject(error);
      };
      const succeed = (result: unknown) => {
        settle();
        resolve(result);
      };
      const onTimeout = () => {
        fail(new SealwireError("timeout", `no answer to ${method} within ${timeout_ms / 1000} s`));
      };
      const onAbort = () => fail(signal!.reason);
      const timer = setTimeout(onTimeout, timeout_ms);
      signal?.addEventListener("abort", onAbort);
      this.pending.set(id, { succeed, fail });
      send(id);
    });
  }

  /** Ends a call with its result. Does nothing for one that was given up. */
  succeed(id: Id, result: unknown): void {
    this.pending.get(id)?.succeed(result);
  }

  /** Ends a call with an error. Does nothing for one that was given up. */
  fail(id: Id, error: Error): void {
    this.pending.get(id)?.fail(error);
  }

  failAll(error: Error): void {
    for (const call of this.pending.values()) call.fail(error);
  }
}
