/** How a connection comes to act for an account: by a delegation of the account's key, made for this very connection. */
import { randomUUID } from "node:crypto";
import { isIP } from "node:net";
import { type Delegation, requireValidFor, verifyDelegation } from "../../protocol/delegation.ts";
import { SealwireError } from "../../base/errors.ts";
import type { Ledger } from "../../ledger/ledger.ts";
import type { LedgerStore } from "../../ledger/store.ts";
import type { Members, Uuid } from "../../base/parse.ts";
import type { ServerKeys } from "../../keys/server_keys.ts";
import type { Token } from "../../protocol/token.ts";
import type { Directory } from "./lookups.ts";
import type { Presence } from "./presence.ts";
import { refusal } from "./refusals.ts";
import type { ServerSession } from "./session.ts";
import {
  type HelloAnswer,
  type LoginAnswer,
  type OnlineRow,
  P2P_PORT_MIN,
} from "../../protocol/wire.ts";

/** Delegations that fail, on one connection; each costs an RSA verification. */
const LOGIN_FAILURES_MAX = 4;
const TOKEN_CHARACTERS_MAX = 16_384;

export interface LoginsOptions {
  readonly keys: ServerKeys;
  readonly ledger: Ledger;
  readonly store: LedgerStore;
  /** Minor units that a new account opens with. */
  readonly openingBalance: bigint;
  readonly now_s: () => number;
  readonly log: (event: string, fields: Readonly<Record<string, unknown>>) => void;
}

export class Logins {
  constructor(
    private readonly options: LoginsOptions,
    private readonly presence: Presence<ServerSession>,
    private readonly directory: Directory,
  ) {}

  hello(session: ServerSession): HelloAnswer {
    return { v: 1, server: this.options.keys.pair.publicKey.jwk, nonce: session.nonce };
  }

  async register(session: ServerSession, params: Members): Promise<LoginAnswer> {
    const delegation = await this.authenticate(session, params);
    const outcome = await this.options.ledger.submit({
      type: "open",
      delegation,
      id: randomUUID() as Uuid,
      openingBalance: this.options.openingBalance,
    });
    if (outcome.state === "rejected" || outcome.state === "void") throw refusal(outcome);
    const { account } = delegation.claims;
    if (outcome.state === "opened" && !outcome.again) this.options.log("registered", { account });
    return await this.enter(session, delegation.claims);
  }

  async login(session: ServerSession, params: Members): Promise<LoginAnswer> {
    const presence = params.has("presence") ? parsePresence(params.object("presence")) : null;
    const { claims: delegation } = await this.authenticate(session, params);
    const account = await this.options.store.account(delegation.account);
    if (account === null) {
      throw new SealwireError("unknown_account", "there is no such account: register first");
    }
    if (account.key !== delegation.key.thumbprint) {
      throw new SealwireError("wrong_key", "the account has another key");
    }
    const answer = await this.enter(session, delegation);
    if (presence !== null && !session.closed) {
      const host = presence.host ?? session.peer.connection.remoteHost;
      const row: OnlineRow = {
        name: account.name,
        host,
        port: presence.port,
        fingerprint: account.key,
      };
      this.presence.publish(session, row);
    }
    if (params.raw("watch") === true && !session.closed) this.presence.subscribe(session);
    return answer;
  }

  /** The delegation of someone who holds the key it names, made for this very connection. */
  private async authenticate(session: ServerSession, params: Members): Promise<Token<Delegation>> {
    if (session.delegation !== null) {
      throw new SealwireError("already_logged_in", "this connection is logged in");
    }
    if (session.loginFailures >= LOGIN_FAILURES_MAX) {
      throw new SealwireError(
        "too_many_failures",
        "too many logins have failed on this connection",
      );
    }
    // Counted before any waiting, so that requests sent together count as well.
    session.loginFailures++;
    const delegation = await verifyDelegation(params.text("delegation", TOKEN_CHARACTERS_MAX));
    requireValidFor(delegation.claims, this.delegationContext());
    if (delegation.claims.nonce !== session.nonce) {
      throw new SealwireError("wrong_nonce", "the delegation was made for another connection");
    }
    return delegation;
  }

  private delegationContext() {
    const { keys, now_s } = this.options;
    return { server: keys.pair.publicKey.thumbprint, cert: keys.certificateSha256, now_s: now_s() };
  }

  private async enter(session: ServerSession, delegation: Delegation): Promise<LoginAnswer> {
    if (session.delegation !== null) {
      throw new SealwireError("already_logged_in", "this connection is logged in");
    }
    if (session.closed) throw new SealwireError("connection_lost", "the connection was lost");
    session.delegation = delegation;
    try {
      this.presence.enter(session);
    } catch (error) {
      session.delegation = null;
      throw error;
    }
    this.options.log("login", { account: delegation.account });
    const { balance } = await this.directory.balance(delegation.account);
    return { account: delegation.account, balance, ...await this.directory.head() };
  }
}

function parsePresence(presence: Members): { host: string | null; port: number } {
  const port = presence.integer("port", P2P_PORT_MIN, 65_535);
  if (!presence.has("host")) return { host: null, port };
  const host = presence.text("host", 45);
  if (isIP(host) === 0) {
    throw new SealwireError("invalid_params", "presence: host must be an IP address");
  }
  return { host, port };
}
