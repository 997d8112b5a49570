/**
 * Who is logged in, and who of them takes offers. An account has many sessions and one presence: a
 * second listener displaces the first, and one-shot commands displace nobody.
 */
import { SealwireError } from "../../base/errors.ts";
import type { AccountName } from "../../keys/rsa.ts";
import type { OnlineRow } from "../../protocol/wire.ts";

/** Sessions of one account at a time. */
const SESSIONS_PER_ACCOUNT_MAX = 64;
/** Subscribers hear of changes at most once in this time. */
const CHANGE_INTERVAL_MS = 1_000;

/** A logged-in session, as this registry needs it. */
export interface Listed {
  readonly account: AccountName;
  notify(method: string, params: object): void;
  /** Ends the session because another listener took its place. */
  displace(): void;
}

export class Presence<Session extends Listed> {
  private readonly sessions = new Map<AccountName, Set<Session>>();
  private readonly online = new Map<
    AccountName,
    { readonly session: Session; readonly row: OnlineRow }
  >();
  private readonly subscribers = new Set<Session>();
  private sortedNames: AccountName[] | null = null;
  private changeTimer: ReturnType<typeof setTimeout> | null = null;

  /** @throws {SealwireError} `too_many_sessions`. */
  enter(session: Session): void {
    const sessions = this.sessions.get(session.account) ?? new Set();
    if (sessions.size >= SESSIONS_PER_ACCOUNT_MAX) {
      throw new SealwireError(
        "too_many_sessions",
        `an account has at most ${SESSIONS_PER_ACCOUNT_MAX} sessions`,
      );
    }
    this.sessions.set(session.account, sessions.add(session));
  }

  /**
   * Publishes where `session` takes offers. True when that displaces another listener of the
   * account.
   */
  publish(session: Session, row: OnlineRow): boolean {
    const before = this.online.get(session.account);
    this.online.set(session.account, { session, row });
    this.changed();
    before?.session.displace();
    return before !== undefined;
  }

  subscribe(session: Session): void {
    this.subscribers.add(session);
  }

  leave(session: Session): void {
    this.subscribers.delete(session);
    const sessions = this.sessions.get(session.account);
    sessions?.delete(session);
    if (sessions?.size === 0) this.sessions.delete(session.account);
    if (this.online.get(session.account)?.session !== session) return;
    this.online.delete(session.account);
    this.changed();
  }

  sessionsOf(account: string): Iterable<Session> {
    return this.sessions.get(account as AccountName) ?? [];
  }

  find(account: AccountName): OnlineRow | null {
    return this.online.get(account)?.row ?? null;
  }

  /** Those online whose names come after `after`, in order of their names. */
  page(after: string, limit: number): OnlineRow[] {
    const names = this.sortedNames ??= [...this.online.keys()].sort();
    const start = names.findIndex((name) => name > after);
    return start < 0
      ? []
      : names.slice(start, start + limit).map((name) => this.online.get(name)!.row);
  }

  close(): void {
    if (this.changeTimer !== null) clearTimeout(this.changeTimer);
  }

  private changed(): void {
    this.sortedNames = null;
    this.changeTimer ??= setTimeout(() => {
      this.changeTimer = null;
      const online = this.online.size;
      for (const session of this.subscribers) session.notify("presence.changed", { online });
    }, CHANGE_INTERVAL_MS);
  }
}
