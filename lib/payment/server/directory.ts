/**
 * Who takes offers, at this server or at any other on the same database. A listener is published here and there; a second
 * one displaces the first wherever that is. A server that dies loses its places when their leases end.
 */
import { isSealwireError } from "../../base/errors.ts";
import type { AccountName } from "../../keys/rsa.ts";
import { RENEW_INTERVAL_MS, type SharedPresence } from "../../ledger/shared_presence.ts";
import type { OnlineRow } from "../../protocol/wire.ts";
import type { Log } from "./log.ts";
import type { Listed, Presence } from "./presence.ts";

export interface DirectorySession extends Listed {
  readonly isClosed: boolean;
}

export class Directory<Session extends DirectorySession> {
  /** Places that the database knows of; a place that is just being published is not among them. */
  private readonly shared = new Set<number>();
  private renewTimer: ReturnType<typeof setInterval> | null = null;
  private renewing: Promise<void> | null = null;

  /** `others`: null for a server that is the only one. */
  constructor(
    private readonly presence: Presence<Session>,
    private readonly others: SharedPresence | null,
    private readonly log: Log,
  ) {}

  start(): void {
    const { others } = this;
    if (others === null) return;
    this.renewTimer = setInterval(() => void this.renew(), RENEW_INTERVAL_MS);
    others.onChanged((account) => {
      this.presence.changed();
      if (account === null) void this.renew();
      else void this.quietly(() => this.yieldTo(others, account));
    });
  }

  /** Gives back the places of this server's listeners. */
  async close(): Promise<void> {
    if (this.renewTimer !== null) clearInterval(this.renewTimer);
    await this.renewing;
    const { others } = this;
    if (others !== null) await this.quietly(() => others.release());
  }

  /**
   * Resolves when payers find `session` at every server: true when that displaces another listener of
   * the account here. Throws `store_unavailable`.
   */
  async publish(session: Session, row: OnlineRow): Promise<boolean> {
    const displacing = this.presence.find(session.account) !== null;
    const published = this.presence.publish(session, row);
    if (this.others === null) return displacing;
    await this.others.publish(published);
    this.shared.add(published.place);
    // It has gone meanwhile, before there was anything to withdraw.
    if (session.isClosed) this.withdraw(session.account, published.place);
    return displacing;
  }

  leave(session: Session): void {
    const published = this.presence.leave(session);
    if (published !== null) this.withdraw(session.account, published.place);
  }

  async find(account: AccountName): Promise<OnlineRow | null> {
    const here = this.presence.find(account);
    if (here !== null || this.others === null) return here?.row ?? null;
    return await this.others.find(account);
  }

  /** Those online whose names come after `after`, in order of their names. */
  async page(after: string, limit: number): Promise<OnlineRow[]> {
    return await (this.others ?? this.presence).page(after, limit);
  }

  private withdraw(account: AccountName, place: number): void {
    const { others } = this;
    if (!this.shared.delete(place) || others === null) return;
    void this.quietly(() => others.withdraw(account, place));
  }

  /** Displaces this server's listener of `account` when another server has the place now. */
  private async yieldTo(others: SharedPresence, account: AccountName): Promise<void> {
    const here = this.presence.find(account);
    if (here === null || !this.shared.has(here.place)) return;
    if (await others.isElsewhere(account)) this.displace(account, here.place);
  }

  private displace(account: AccountName, place: number): void {
    this.shared.delete(place);
    this.presence.displace(account, place);
  }

  private renew(): Promise<void> {
    this.renewing ??= this.quietly(() => this.renewAll()).finally(() => this.renewing = null);
    return this.renewing;
  }

  private async renewAll(): Promise<void> {
    const held = this.presence.all().filter(({ place }) => this.shared.has(place));
    for (const { row, place } of await this.others!.renew(held)) {
      this.displace(row.name as AccountName, place);
    }
  }

  /** The next renewal puts right what fails while the database is away. */
  private async quietly(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      const isAway = isSealwireError(error, "store_unavailable");
      this.log(isAway ? "store_unavailable" : "internal_error", { message: String(error) });
    }
  }
}
