/** The real store, with what happens around its transactions and reads in the test's hand. */
import {
  commitUnknown,
  type LedgerReader,
  type LedgerStore,
  type LedgerTransaction,
} from "../../lib/ledger/store.ts";

/** `original` with some of its methods replaced. */
function withMethods<T extends object>(original: T, replaced: Partial<T>): T {
  return new Proxy(original, {
    get(target, name) {
      if (Object.hasOwn(replaced, name)) return Reflect.get(replaced, name);
      const member: unknown = Reflect.get(target, name);
      return typeof member === "function" ? member.bind(target) : member;
    },
  });
}

/** `store` whose next commits do as `fail` says: nothing was recorded, or all was and the answer was lost. */
export class FailingStore {
  fail: "never" | "before COMMIT" | "after COMMIT" = "never";
  /** What else happens once a transaction is over. */
  then: () => Promise<unknown> = () => Promise.resolve();
  readonly store: LedgerStore;

  constructor(store: LedgerStore) {
    this.store = withMethods(store, {
      transaction: async <T>(work: (transaction: LedgerTransaction) => Promise<T>) => {
        const result = await store.transaction(async (transaction) => {
          const result = await work(transaction);
          if (this.fail === "before COMMIT") throw new Error("COMMIT failed");
          return result;
        });
        await this.then();
        if (this.fail === "after COMMIT") throw commitUnknown(new Error("lost"));
        return result;
      },
    });
  }
}

/** `store` that notes in `commits` how many entries each commit makes. */
export function notingCommits(store: LedgerStore, commits: number[]): LedgerStore {
  return withMethods(store, {
    transaction: (work) =>
      store.transaction((transaction) =>
        work(withMethods(transaction, {
          append(record) {
            commits.push(record.entryTexts.length);
            return transaction.append(record);
          },
        }))
      ),
  });
}

/** What a ledger has read, in rows. */
export interface Reads {
  entries: number;
  tiles: number;
  tileRoots: number;
}

/** `store` that counts what is read outside transactions. */
export function countingStore(store: LedgerStore): { store: LedgerStore; reads: Reads } {
  const reads: Reads = { entries: 0, tiles: 0, tileRoots: 0 };
  const counting: Pick<LedgerReader, "entries" | "tiles" | "tileRoots"> = {
    async entries(from, to) {
      const found = await store.entries(from, to);
      reads.entries += found.length;
      return found;
    },
    async tiles(ids) {
      reads.tiles += ids.length;
      return await store.tiles(ids);
    },
    async tileRoots(level, from, to) {
      const found = await store.tileRoots(level, from, to);
      reads.tileRoots += found.length;
      return found;
    },
  };
  return { store: withMethods(store, counting), reads };
}
