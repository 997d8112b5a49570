/** Logs a connection in: by a delegation of the account's key, made for this very connection. */
import { randomUUID } from "node:crypto";
import { isIP } from "node:net";
import { SealwireError } from "../../base/errors.ts";
import { encodeBase64, type Members, type Uuid } from "../../base/parse.ts";
import type { AccountName } from "../../keys/rsa.ts";
import { type Checkpoint, logOrigin, verifyCheckpoint } from "../../ledger/checkpoint.ts";
import type { Ledger } from "../../ledger/ledger.ts";
import { NOTE_CHARACTERS_MAX } from "../../ledger/signed_note.ts";
import { addressGroup } from "../../net/net.ts";
import { type Delegation, requireValidFor, verifyDelegation } from "../../protocol/delegation.ts";
import type { Token } from "../../protocol/token.ts";
import {
  type HelloAnswer,
  type LoginAnswer,
  P2P_PORT_MIN,
  PROTOCOL_VERSION,
} from "../../protocol/wire.ts";
import type { Directory } from "./directory.ts";
import type { Budgets } from "./budgets.ts";
import type { ServerIdentity } from "./identity.ts";
import type { Log } from "./log.ts";
import type { Lookups } from "./lookups.ts";
import type { Presence } from "./presence.ts";
import { refusal } from "./refusals.ts";
import { LoggedIn, type ServerSession } from "./session.ts";

/** Delegations that fail, on one connection; each costs an RSA verification. */
const LOGIN_FAILURES_MAX = 4;
const TOKEN_CHARACTERS_MAX = 16_384;

export interface LoginOptions {
  readonly identity: ServerIdentity;
  readonly ledger: Ledger;
  readonly now_s: () => number;
  readonly log: Log;
  readonly budgets: Budgets;
}

export class Login {
  constructor(
    private readonly options: LoginOptions,
    private readonly presence: Presence<LoggedIn>,
    private readonly directory: Directory<LoggedIn>,
    private readonly lookups: Lookups,
  ) {}

  hello(session: ServerSession): HelloAnswer {
    const { statement } = this.options.identity;
    return { v: PROTOCOL_VERSION, statement: statement.text, nonce: session.nonce };
  }

  async register(session: ServerSession, params: Members): Promise<LoginAnswer> {
    const shown = this.parseCheckpoint(params);
    const { budgets } = this.options;
    const { remoteHost } = session.connection;
    budgets.requireRegistration(remoteHost);
    const delegation = await this.authenticate(session, params);
    const { account } = delegation.claims;
    // First: a log that lacks what was signed is not extended by a registration either.
    const linked = await this.compare(account, shown);
    const invite = params.has("invite")
      ? this.options.ledger.openInvite(params.raw("invite"))
      : undefined;
    const id = invite?.id ?? randomUUID() as Uuid;
    const origin = { address: addressGroup(remoteHost), account };
    const outcome = await this.options.ledger.submit(
      { type: "open", delegation, id, invite },
      origin,
    );
    if (outcome.state === "refused") throw refusal(outcome.reason);
    if (outcome.state === "opened" && !outcome.again) {
      budgets.countRegistration(remoteHost);
      this.options.log("registered", { account });
    }
    this.enter(session, account);
    return await this.answer(session, account, linked);
  }

  async login(session: ServerSession, params: Members): Promise<LoginAnswer> {
    const presence = params.has("presence") ? parsePresence(params.object("presence")) : null;
    const shown = this.parseCheckpoint(params);
    const { claims: delegation } = await this.authenticate(session, params);
    const account = await this.options.ledger.account(delegation.account);
    if (account === null) {
      throw new SealwireError("unknown_account", "there is no such account: register first");
    }
    if (account.key !== delegation.key.thumbprint) {
      throw new SealwireError("wrong_key", "the account has another key");
    }
    const asker = this.enter(session, delegation.account);
    let isDisplacing = false;
    if (presence !== null) {
      const host = presence.host ?? session.connection.remoteHost;
      const { account: name } = delegation;
      const row = { name, host, port: presence.port, fingerprint: account.key };
      isDisplacing = await this.directory.publish(asker, row);
    }
    if (params.raw("watch") === true) this.presence.subscribe(asker);
    const linked = await this.compare(delegation.account, shown);
    const answer = await this.answer(session, delegation.account, linked);
    return { ...answer, ...(isDisplacing && { displacing: true as const }) };
  }

  /**
   * The checkpoint that the client remembers, under our own signature; null for a client that
   * remembers none.
   */
  private parseCheckpoint(params: Members): Checkpoint | null {
    if (!params.has("checkpoint")) return null;
    const { keys, logKey: { publicKey } } = this.options.identity;
    const log = { origin: logOrigin(keys.pair.publicKey.thumbprint), publicKey };
    return verifyCheckpoint(params.text("checkpoint", NOTE_CHARACTERS_MAX), log);
  }

  /** The delegation of someone who holds the key it names, made for this very connection. */
  private async authenticate(session: ServerSession, params: Members): Promise<Token<Delegation>> {
    if (session.loggedIn !== null) throw alreadyLoggedIn();
    if (session.loginFailures >= LOGIN_FAILURES_MAX) {
      throw new SealwireError(
        "too_many_failures",
        "too many logins have failed on this connection",
      );
    }
    // Counted before any waiting, so that requests sent together count as well.
    session.loginFailures++;
    const delegation = await verifyDelegation(params.text("delegation", TOKEN_CHARACTERS_MAX));
    const { identity: { keys }, now_s } = this.options;
    requireValidFor(delegation.claims, {
      server: keys.pair.publicKey.thumbprint,
      now_s: now_s(),
    });
    if (delegation.claims.cert !== keys.certificateSha256) {
      throw new SealwireError(
        "wrong_certificate",
        "the delegation names another certificate than this server's: someone may be in between",
      );
    }
    if (delegation.claims.nonce !== session.nonce) {
      throw new SealwireError("wrong_nonce", "the delegation was made for another connection");
    }
    return delegation;
  }

  private enter(session: ServerSession, account: AccountName): LoggedIn {
    if (session.loggedIn !== null) throw alreadyLoggedIn();
    session.requireOpen();
    const asker = new LoggedIn(session, account);
    this.presence.enter(asker);
    session.loggedIn = asker;
    session.place.prove(account);
    session.peer.prove();
    this.options.log("login", { account });
    return asker;
  }

  /** `linked`: a checkpoint that the client remembers and this log grew out of. */
  private async answer(
    session: ServerSession,
    account: AccountName,
    linked: Checkpoint | null,
  ): Promise<LoginAnswer> {
    const { ledger } = this.options;
    const { checkpoint } = ledger;
    const { balance } = await this.lookups.balance(account);
    const path = linked && await ledger.consistency(linked.size, checkpoint.size);
    return {
      account,
      balance,
      size: checkpoint.size,
      checkpoint: session.checkpointMember(checkpoint),
      consistency: path && path.map(encodeBase64),
    };
  }

  /** The checkpoint that a client shows when this log grew out of it, else null. */
  private async compare(
    account: AccountName,
    shown: Checkpoint | null,
  ): Promise<Checkpoint | null> {
    if (shown === null) return null;
    const { kind } = await this.options.ledger.compare(shown);
    if (kind === "unlinked") this.options.log("checkpoint_unlinked", { account, size: shown.size });
    return kind === "linked" ? shown : null;
  }
}

function alreadyLoggedIn(): SealwireError {
  return new SealwireError("already_logged_in", "this connection is logged in");
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
