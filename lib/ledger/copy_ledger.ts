/**
 * Copies a ledger into another, empty store of any kind. It copies page by page in one transaction,
 * so there is a whole copy or none. Rows keep their seals. The tree is built again from the
 * entries, and must have the root that the head names.
 */
import { rmSync } from "node:fs";
import { SealwireError } from "../base/errors.ts";
import { encodeBase64url } from "../base/parse.ts";
import { hashLeaf } from "../protocol/merkle.ts";
import type { Party } from "../protocol/party.ts";
import { partialRecord } from "./commit_record.ts";
import { isOperatorFact, parseEntry } from "./entry.ts";
import { storeDamaged } from "./seal.ts";
import type { Posting } from "./settle.ts";
import { openSqlite } from "./sqlite.ts";
import type { CommitRecord, Head, LedgerStore, LedgerTransaction, Sealed } from "./store.ts";
import { emptyTree } from "./tiles.ts";

/** Rows in memory at a time. */
const PAGE_ROWS = 1_000;

export type CopyProgress = (done: number, total: number) => void;

/**
 * Does nothing when `to` holds the same ledger already, so it may run again after an interruption.
 *
 * @throws {SealwireError} `ledger_missing` when `from` is empty, `store_unusable` when `to` holds
 * another ledger, `store_damaged` when the entries do not lead to the head, and what the stores
 * throw.
 */
export async function copyLedger(
  from: LedgerStore,
  to: LedgerStore,
  onProgress: CopyProgress,
): Promise<void> {
  await from.snapshot(async () => {
    const head = await from.head();
    if (head === null) throw new SealwireError("ledger_missing", "there is no ledger to copy yet");
    const there = await to.confirmedHead();
    if (there?.seal === head.seal) return;
    const counts = await from.counts();
    await to.transaction(async (transaction) => {
      if (await transaction.head() !== null) {
        throw new SealwireError(
          "store_unusable",
          "another ledger is there already: copy to an empty database",
        );
      }
      const total = counts.entries + counts.postings + counts.endings;
      await new Copy(from, transaction, head, total, onProgress).run();
    });
    const copied = await to.counts();
    for (const [table, count] of Object.entries(counts)) {
      if (copied[table as keyof typeof copied] === count) continue;
      throw storeDamaged(`the copy has not as many ${table} as there were`);
    }
  });
}

/** Copies into a new SQLite file. Removes the rest of a copy that fails. */
export async function copyToNewFile(
  from: LedgerStore,
  path: string,
  onProgress: CopyProgress,
): Promise<void> {
  const to = openSqlite(path, { create: true });
  try {
    await copyLedger(from, to, onProgress);
    await to.close();
  } catch (error) {
    await to.close();
    for (const suffix of ["", "-wal", "-shm"]) rmSync(path + suffix, { force: true });
    throw error;
  }
}

class Copy {
  private done = 0;

  constructor(
    private readonly from: LedgerStore,
    private readonly to: LedgerTransaction,
    private readonly head: Sealed<Head>,
    private readonly total: number,
    private readonly onProgress: CopyProgress,
  ) {}

  async run(): Promise<void> {
    await this.entries();
    await this.accounts();
    await this.postings();
    await this.payments();
    await this.delegations();
    await this.requests();
    await this.refunds();
    await this.rotations();
  }

  private async append(rows: number, record: Partial<CommitRecord>): Promise<void> {
    await this.to.append(partialRecord(this.head, record));
    this.done += rows;
    this.onProgress(this.done, this.total);
  }

  private async entries(): Promise<void> {
    let tree = emptyTree();
    while (tree.size < this.head.size) {
      const firstIndex = tree.size;
      const to = Math.min(this.head.size, firstIndex + PAGE_ROWS);
      const entryTexts = await this.from.entries(firstIndex, to);
      if (entryTexts.length !== to - firstIndex) throw storeDamaged("entries are missing");
      const appended = tree.appended(entryTexts.map(hashLeaf));
      tree = appended.tree;
      const operatorIndexes = entryTexts.flatMap((text, at) =>
        isOperatorFact(parseEntry(text)) ? firstIndex + at : []
      );
      const tiles = appended.fullTiles;
      await this.append(entryTexts.length, { firstIndex, entryTexts, tiles, operatorIndexes });
    }
    if (encodeBase64url(tree.root) === this.head.root) return;
    throw storeDamaged("the entries do not lead to the root of the signed log");
  }

  private async accounts(): Promise<void> {
    await this.pages("", async (after) => {
      const accounts = await this.from.accountsAfter(after, PAGE_ROWS);
      await this.append(0, { accounts });
      return accounts.at(-1)?.name;
    });
  }

  private async postings(): Promise<void> {
    const before: Omit<Posting, "balance"> = { account: "" as Party, index: -1 };
    await this.pages(before, async (after) => {
      const postings = await this.from.postingsAfter(after, PAGE_ROWS);
      await this.append(postings.length, { postings });
      return postings.at(-1);
    });
  }

  private async payments(): Promise<void> {
    await this.pages(-1, async (after) => {
      const payments = await this.from.paymentsAfter(after, PAGE_ROWS);
      await this.append(payments.length, { payments });
      return payments.at(-1)?.index;
    });
  }

  private async delegations(): Promise<void> {
    await this.pages("", async (after) => {
      const delegations = await this.from.delegationsAfter(after, PAGE_ROWS);
      await this.append(0, { delegations: new Map(delegations) });
      return delegations.at(-1)?.[0];
    });
  }

  private async requests(): Promise<void> {
    await this.pages({ payee: "", id: "" }, async (after) => {
      const requests = await this.from.requestsAfter(after, PAGE_ROWS);
      await this.append(0, { requests });
      return requests.at(-1);
    });
  }

  private async refunds(): Promise<void> {
    await this.pages(0, async (skip) => {
      const refunds = await this.from.refundsFrom(skip, PAGE_ROWS);
      await this.append(0, { refunds });
      return refunds.length === 0 ? undefined : skip + refunds.length;
    });
  }

  private async rotations(): Promise<void> {
    await this.pages("", async (after) => {
      const rotations = await this.from.rotationsAfter(after, PAGE_ROWS);
      await this.append(0, { rotations: new Map(rotations) });
      return rotations.at(-1)?.[0];
    });
  }

  /**
   * `copyPage` gives the key of the last row of its page; undefined for an empty page, which is the
   * last.
   */
  private async pages<Key>(first: Key, copyPage: (after: Key) => Promise<Key | undefined>) {
    let after: Key | undefined = first;
    while (after !== undefined) after = await copyPage(after);
  }
}
