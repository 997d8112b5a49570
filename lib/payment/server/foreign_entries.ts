/**
 * Tells this server's sessions of what other processes have committed: other servers on the same database, and the operator's
 * commands beside this one. Commits that come fast are taken in together.
 */
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { isSealwireError } from "../../base/errors.ts";
import type { Uuid } from "../../base/parse.ts";
import { type Batch, type Entry, parseEntry, type Transfer } from "../../ledger/entry.ts";
import type { Ledger } from "../../ledger/ledger.ts";
import type { LedgerStore } from "../../ledger/store.ts";
import type { Log } from "./log.ts";
import type { Payments } from "./payments.ts";
import type { Rotations } from "./rotations.ts";

/** The ledger takes in others' commits at most so often, for it costs a commit of its own each time. */
const REFRESH_INTERVAL_MS = 50;
/** After a refresh that failed. */
const REFRESH_RETRY_MS = 1_000;
/** Entries that are looked at between two turns of the event loop. */
const PAGE_ENTRIES = 256;

export interface ForeignEntriesOptions {
  readonly ledger: Ledger;
  readonly store: LedgerStore;
  readonly log: Log;
}

interface Range {
  readonly from: number;
  readonly to: number;
}

export class ForeignEntries {
  private heardSize = 0;
  private refreshing = false;
  /** Two numbers for each commit of others since the last page was looked at. */
  private ranges: Range[] = [];
  private announcing = false;
  /** What an account opens with follows under the same id, and is no payment. */
  private lastOpened: Uuid | null = null;
  private isClosed = false;

  constructor(
    private readonly options: ForeignEntriesOptions,
    private readonly payments: Payments,
    private readonly rotations: Rotations,
  ) {}

  start(): void {
    const { ledger, store } = this.options;
    ledger.onForeignEntries((from, to) => {
      this.ranges.push({ from, to });
      if (!this.announcing) void this.announceAll();
    });
    store.onCommitted?.((size) => {
      this.heardSize = size;
      if (!this.refreshing) void this.refresh();
    });
  }

  close(): void {
    this.isClosed = true;
  }

  /** Own commits take in those before them, so a busy server has nothing to do here. */
  private async refresh(): Promise<void> {
    const { ledger } = this.options;
    this.refreshing = true;
    while (!this.isClosed && ledger.size < this.heardSize) {
      const isTakenIn = await this.attempt(() => ledger.refresh());
      await sleep(isTakenIn ? REFRESH_INTERVAL_MS : REFRESH_RETRY_MS);
    }
    this.refreshing = false;
  }

  private async announceAll(): Promise<void> {
    this.announcing = true;
    for (let range; !this.isClosed && (range = this.ranges.shift()) !== undefined;) {
      for (let from = range.from; from < range.to && !this.isClosed; from += PAGE_ENTRIES) {
        const to = Math.min(range.to, from + PAGE_ENTRIES);
        while (!this.isClosed && !await this.attempt(() => this.announcePage(from, to))) {
          await sleep(REFRESH_RETRY_MS);
        }
        await nextTurn();
      }
    }
    this.announcing = false;
  }

  private async announcePage(from: number, to: number): Promise<void> {
    for (const text of await this.options.store.entries(from, to)) {
      const entry = parseEntry(text);
      if (entry.type === "account.open") this.lastOpened = entry.id;
      else if (entry.type === "account.key") this.rotations.endSessions(entry.account);
      else if (isPayment(entry) && entry.id !== this.lastOpened) {
        await this.payments.announceEntry(entry);
      }
    }
  }

  /** Whether there is no use in trying again. */
  private async attempt(work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      const isAway = isSealwireError(error, "store_unavailable") ||
        isSealwireError(error, "outcome_unknown");
      if (!isAway) this.options.log("internal_error", { message: String(error) });
      return !isAway;
    }
  }
}

function isPayment(entry: Entry): entry is Entry<Transfer | Batch> {
  return entry.type === "transfer" || entry.type === "batch";
}
