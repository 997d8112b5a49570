/**
 * Who is logged in at this server, and who of them takes offers. An account has many sessions and one presence: a second
 * listener displaces the first, and one-shot commands displace nobody.
 */
import { SealwireError } from "../../base/errors.ts";
import type { AccountName } from "../../keys/rsa.ts";
import type { Published } from "../../ledger/shared_presence.ts";
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
  private readonly online = new Map<AccountName, Published & { readonly session: Session }>();
  private lastPlace = 0;
  private readonly subscribers = new Set<Session>();
  private sortedNames: AccountName[] | null = null;
  private changeTimer: ReturnType<typeof setTimeout> | null = null;

  /** `countOnline`: how many take offers, at other servers too. */
  constructor(
    private readonly countOnline: () => Promise<number> = () => Promise.resolve(this.online.size),
  ) {}

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

  /** Publishes where `session` takes offers, displacing the account's listener before it. */
  publish(session: Session, row: OnlineRow): Published {
    const before = this.online.get(session.account);
    const published = { session, row, place: ++this.lastPlace };
    this.online.set(session.account, published);
    this.changed();
    before?.session.displace();
    return published;
  }

  /** Displaces the account's listener, if it still is the one in `place`. */
  displace(account: AccountName, place: number): void {
    const published = this.online.get(account);
    if (published?.place !== place) return;
    this.online.delete(account);
    this.changed();
    published.session.displace();
  }

  subscribe(session: Session): void {
    this.subscribers.add(session);
  }

  /** Gives what the session had published; null for one that takes no offers. */
  leave(session: Session): Published | null {
    this.subscribers.delete(session);
    const sessions = this.sessions.get(session.account);
    sessions?.delete(session);
    if (sessions?.size === 0) this.sessions.delete(session.account);
    const published = this.online.get(session.account);
    if (published?.session !== session) return null;
    this.online.delete(session.account);
    this.changed();
    return published;
  }

  sessionsOf(account: string): Iterable<Session> {
    return this.sessions.get(account as AccountName) ?? [];
  }

  /** Whether the account has any session at this server. */
  isHere(account: string): boolean {
    return this.sessions.has(account as AccountName);
  }

  find(account: AccountName): Published | null {
    return this.online.get(account) ?? null;
  }

  /** All who take offers at this server. */
  all(): Published[] {
    return [...this.online.values()];
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

  /** Tells the subscribers soon that somebody has come or gone. */
  changed(): void {
    this.sortedNames = null;
    this.changeTimer ??= setTimeout(() => void this.tellSubscribers(), CHANGE_INTERVAL_MS);
  }

  private async tellSubscribers(): Promise<void> {
    this.changeTimer = null;
    if (this.subscribers.size === 0) return;
    const online = await this.countOnline().catch(() => this.online.size);
    for (const session of this.subscribers) session.notify("presence.changed", { online });
  }
}
