/**
 * How much one account and one address may ask of a payment server. What is over is refused with
 * `rate_limited` and the time to wait. It has recorded nothing, and it costs nobody else anything.
 */
import { SealwireError } from "../../base/errors.ts";
import { type Rate, TokenBuckets } from "../../base/token_bucket.ts";
import type { Origin } from "../../ledger/fair_queue.ts";
import type { AccountName } from "../../keys/rsa.ts";
import { addressGroup } from "../../net/net.ts";

/** Orders that an account has settled a second. `--orders-per-second` changes it. */
export const ORDERS_PER_S_DEFAULT = 20;
/** A full bucket of orders lasts so many seconds. */
const ORDERS_BURST_S = 50;
/** Items of a batch that count as one order. */
const BATCH_ITEMS_PER_ORDER = 50;
/** Entries that an account adds to the ledger a day, for each order that it may settle a second. */
const ENTRIES_PER_DAY_AND_ORDER = 5_000;
const DAY_S = 24 * 60 * 60;
/** Cancels that an account makes. They do not count as orders, so that a payer can always cancel. */
export const CANCELS_MAX = 1_000;
const CANCELS: Rate = { per_s: CANCELS_MAX / 3_600, burst: CANCELS_MAX };
/** Lookups, histories, receipts and the like, of an account and of an address. */
const READS_OF_ACCOUNT: Rate = { per_s: 100, burst: 1_000 };
const READS_OF_ADDRESS: Rate = { per_s: 500, burst: 5_000 };
/** New accounts from one address. `--registrations-per-minute` changes it. */
export const REGISTRATIONS_PER_MINUTE_DEFAULT = 20;
const REGISTRATIONS_BURST_MINUTES = 5;

export interface BudgetOptions {
  readonly orders_per_s?: number;
  readonly registrations_per_minute?: number;
}

export class Budgets {
  private readonly orders: TokenBuckets;
  private readonly offers: TokenBuckets;
  private readonly entries: TokenBuckets;
  private readonly cancels: TokenBuckets;
  private readonly readsOfAccount: TokenBuckets;
  private readonly readsOfAddress: TokenBuckets;
  private readonly registrations: TokenBuckets;

  /** `now_ms`: a clock that never jumps. */
  constructor(options: BudgetOptions = {}, now_ms?: () => number) {
    const { orders_per_s = ORDERS_PER_S_DEFAULT } = options;
    const { registrations_per_minute = REGISTRATIONS_PER_MINUTE_DEFAULT } = options;
    const buckets = (rate: Rate) => new TokenBuckets(rate, now_ms);
    const ordersRate = { per_s: orders_per_s, burst: orders_per_s * ORDERS_BURST_S };
    const entriesPerDay = orders_per_s * ENTRIES_PER_DAY_AND_ORDER;
    this.orders = buckets(ordersRate);
    this.offers = buckets(ordersRate);
    this.entries = buckets({ per_s: entriesPerDay / DAY_S, burst: entriesPerDay });
    this.cancels = buckets(CANCELS);
    this.readsOfAccount = buckets(READS_OF_ACCOUNT);
    this.readsOfAddress = buckets(READS_OF_ADDRESS);
    this.registrations = buckets({
      per_s: registrations_per_minute / 60,
      burst: registrations_per_minute * REGISTRATIONS_BURST_MINUTES,
    });
  }

  /**
   * Takes an order out of the asker's budget. What a payee has settled for payers has a budget of
   * its own, so that strangers' offers leave the payee's own payments alone.
   *
   * @throws {SealwireError} `rate_limited`.
   */
  requireOrder(asker: AccountName, payer: AccountName, items: number): void {
    const orders = asker === payer ? this.orders : this.offers;
    const cost = orderCost(items);
    // An order is charged to the payer's entries only when it is settled: until then anyone may
    // have written the payer's name.
    const wait_ms = this.entries.wait_ms(payer, cost) || orders.take(asker, cost);
    requireNoWait(wait_ms, "this account has too many orders");
  }

  /** Counts an order of `payer` that was settled. */
  countEntry(payer: AccountName, items: number): void {
    this.entries.spend(payer, orderCost(items));
  }

  /**
   * Takes a cancel out of the account's budget, before it is recorded: many may be under way at once.
   *
   * @throws {SealwireError} `rate_limited`.
   */
  requireCancel(account: AccountName): void {
    requireNoWait(this.cancels.take(account), "this account has too many cancels");
  }

  /** Puts a cancel back that recorded nothing. */
  giveBackCancel(account: AccountName): void {
    this.cancels.spend(account, -1);
  }

  /** @throws {SealwireError} `rate_limited`. */
  requireRead({ account, address }: Origin): void {
    const wait_ms = this.readsOfAddress.wait_ms(address) ||
      this.readsOfAccount.take(account);
    requireNoWait(wait_ms, "this account asks too much");
    this.readsOfAddress.spend(address);
  }

  /** @throws {SealwireError} `rate_limited`. */
  requireRegistration(address: string): void {
    const wait_ms = this.registrations.wait_ms(addressGroup(address));
    requireNoWait(wait_ms, "too many accounts were registered from this address");
  }

  /** Counts an account that was opened from `address`. */
  countRegistration(address: string): void {
    this.registrations.spend(addressGroup(address));
  }
}

function orderCost(items: number): number {
  return Math.max(1, items / BATCH_ITEMS_PER_ORDER);
}

function requireNoWait(retry_after_ms: number, what: string): void {
  if (retry_after_ms === 0) return;
  const wait_s = Math.ceil(retry_after_ms / 1000);
  throw new SealwireError("rate_limited", `${what}: try again in ${wait_s} s`, {
    details: { retry_after_ms },
  });
}
