/** One connection at the server, and whose it is. */
import { randomBytes } from "node:crypto";
import { SealwireError } from "../../base/errors.ts";
import { encodeBase64url, Members } from "../../base/parse.ts";
import type { AccountName } from "../../keys/rsa.ts";
import type { Checkpoint } from "../../ledger/checkpoint.ts";
import type { Origin } from "../../ledger/fair_queue.ts";
import { addressGroup, type Connection, type Place } from "../../net/net.ts";
import { NONCE_BYTES } from "../../protocol/delegation.ts";
import { type Handler, type Method, RpcPeer } from "../../rpc/peer.ts";
import type { DirectorySession } from "./directory.ts";
import { Notifications } from "./notifications.ts";

export interface ServerSessionOptions {
  readonly methods: (session: ServerSession) => Record<string, Method>;
  readonly onInternalError: (error: unknown) => void;
}

export class ServerSession {
  readonly nonce = encodeBase64url(randomBytes(NONCE_BYTES));
  readonly peer: RpcPeer;
  readonly notifications: Notifications;
  /** Null before login. */
  loggedIn: LoggedIn | null = null;
  loginFailures = 0;
  closed = false;
  private sentSize: number | null = null;
  private lastLongAnswer: Promise<unknown> = Promise.resolve();

  constructor(
    readonly connection: Connection,
    /** The connection's place at the door, which login makes the account's. */
    readonly place: Place,
    options: ServerSessionOptions,
  ) {
    const { methods, onInternalError } = options;
    this.peer = new RpcPeer(connection, {
      role: "server",
      unproven: true,
      methods: methods(this),
      onInternalError,
    });
    this.notifications = new Notifications(this.peer, onInternalError);
  }

  /** @throws {SealwireError} `connection_lost`. */
  requireOpen(): void {
    if (this.closed) throw new SealwireError("connection_lost", "the connection was lost");
  }

  /**
   * Makes an answer that may be long, after those before it. A client that asks for hundreds at
   * once and reads none costs the memory of one: by the next its connection is over.
   */
  inTurn<T>(make: () => Promise<T>): Promise<T> {
    const answer = this.lastLongAnswer.then(() => {
      this.requireOpen();
      return make();
    });
    this.lastLongAnswer = answer.catch(() => {});
    return answer;
  }

  /**
   * The checkpoint as a member of an answer. It is left out when this connection has been sent it.
   * That is decided when the answer becomes text, because answers are sent in that order.
   */
  checkpointMember({ size, text }: Checkpoint): string {
    return {
      toJSON: () => {
        if (this.sentSize === size) return undefined;
        this.sentSize = size;
        return text;
      },
    } as unknown as string;
  }
}

/** A session that acts for an account. */
export class LoggedIn implements DirectorySession {
  constructor(readonly session: ServerSession, readonly account: AccountName) {}

  get isClosed(): boolean {
    return this.session.closed;
  }

  /** For budgets and turns. */
  get origin(): Origin {
    return {
      address: addressGroup(this.session.connection.remoteHost),
      account: this.account,
    };
  }

  notify(method: string, params: object): void {
    this.session.peer.notify(method, params);
  }

  displace(): void {
    this.notify("session.displaced", {});
    this.end();
  }

  end(): void {
    void this.session.peer.end();
  }
}

/** A method for anyone who is connected. */
export function anyone(handle: (params: Members) => unknown): Method {
  return { handle: ((params: unknown) => handle(parseParams(params))) as Handler };
}

export type AccountHandler = (asker: LoggedIn, params: Members) => unknown;

/** A method for those who are logged in. */
export function accountHolder(session: ServerSession, handle: AccountHandler): Method {
  return anyone((params) => {
    if (session.loggedIn === null) throw new SealwireError("login_required", "log in first");
    return handle(session.loggedIn, params);
  });
}

/** JSON-RPC allows to leave `params` out. */
function parseParams(params: unknown): Members {
  return new Members(params ?? {}, "params", "invalid_params");
}
