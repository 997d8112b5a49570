/**
 * One budget of bytes for all buffers of a process that strangers can fill: lines that are not whole
 * yet, requests that are being answered, answers that nobody reads, messages on their way.
 *
 * Each connection has an account in the budget. When the budget is used up, a connection gives way
 * and loses its buffers: the one that holds most, of those that have proven nothing if there are
 * any. So one stranger costs the process a bounded amount of memory, and costs others nothing.
 */
import { RepeatedNotice } from "./repeated_notice.ts";

/** The budget of a process. Buffers hold up to twice as much memory while they are parsed. */
export const PROCESS_BYTES_MAX = 64 * 1024 * 1024;

/** What one connection holds of a budget. */
export interface ByteAccount {
  readonly held_bytes: number;
  /**
   * Says how many bytes the connection holds from now on. Returns false where they were refused:
   * then the connection has given way itself, and holds nothing any more.
   */
  hold(size_bytes: number): boolean;
  /**
   * Does the same, but leaves everything as it is where the budget has no room, even after all
   * unproven connections have given way.
   */
  tryHold(size_bytes: number): boolean;
  /** Says that the client has logged in or shown the key. */
  prove(): void;
  /** Gives all bytes back. The account is closed. */
  close(): void;
}

export class ByteBudget {
  private readonly accounts = new Set<Account>();
  private used_bytes = 0;
  private notice: RepeatedNotice | null = null;

  constructor(readonly bytes_max: number) {}

  /** `giveWay` closes the connection. It is called at most once, after its bytes were taken back. */
  open(giveWay: () => void): ByteAccount {
    return new Account(this, giveWay);
  }

  get size_bytes(): number {
    return this.used_bytes;
  }

  /** Has `report` called when connections give way: once, and then at most once a minute. */
  onPressure(report: (text: string) => void): void {
    const limit = `${Math.round(this.bytes_max / 1024 / 1024)} MiB`;
    this.notice = new RepeatedNotice((count) =>
      report(`the budget of ${limit} for all buffers is used up (${count} connections closed)`)
    );
  }

  /** Called by the account. */
  change(account: Account, size_bytes: number): void {
    this.used_bytes += size_bytes - account.held_bytes;
    account.held_bytes = size_bytes;
    if (size_bytes > 0) this.accounts.add(account);
    else this.accounts.delete(account);
  }

  /** Called by the account. Makes unproven connections give way, and then, if need be, others. */
  makeRoom(mayCloseProven: boolean): void {
    while (this.used_bytes > this.bytes_max) {
      const victim = this.largest(false) ?? (mayCloseProven ? this.largest(true) : null);
      if (victim === null) return;
      victim.close();
      this.notice?.happened();
      victim.giveWay();
    }
  }

  private largest(proven: boolean): Account | null {
    let largest: Account | null = null;
    for (const account of this.accounts) {
      if (account.isProven !== proven) continue;
      if (largest === null || account.held_bytes > largest.held_bytes) largest = account;
    }
    return largest;
  }
}

class Account implements ByteAccount {
  held_bytes = 0;
  isProven = false;
  private closed = false;

  constructor(private readonly budget: ByteBudget, readonly giveWay: () => void) {}

  hold(size_bytes: number): boolean {
    if (this.closed) return false;
    if (size_bytes === this.held_bytes) return true;
    this.budget.change(this, size_bytes);
    this.budget.makeRoom(true);
    return !this.closed;
  }

  tryHold(size_bytes: number): boolean {
    if (this.closed) return false;
    const before_bytes = this.held_bytes;
    this.budget.change(this, size_bytes);
    this.budget.makeRoom(false);
    if (this.closed) return false;
    if (this.budget.size_bytes <= this.budget.bytes_max) return true;
    this.budget.change(this, before_bytes);
    return false;
  }

  prove(): void {
    this.isProven = true;
  }

  close(): void {
    if (this.closed) return;
    this.budget.change(this, 0);
    this.closed = true;
  }
}

/** The budget that all connections of this process share. */
export const processBytes = new ByteBudget(PROCESS_BYTES_MAX);
