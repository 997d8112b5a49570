/**
 * The running ledger: takes submissions, commits them in blocks, and answers with what anyone can verify.
 *
 * Group commit without a timer: while one block is signed and synced, the next one's submissions gather. Nobody hears of an
 * outcome before it is durable.
 */
import type { AccountName, RsaKeyPair, RsaPublicJwk } from "../keys/rsa.ts";
import { isSealwireError, SealwireError } from "../base/errors.ts";
import { formatBatchItem } from "../protocol/order.ts";
import type { Sha256 } from "../base/parse.ts";
import { sha256Text } from "../protocol/token.ts";
import { BLOCK_TRANSFERS_MAX, type SignedHeader, signHeader } from "./block.ts";
import { formatEntry, parseEntry } from "./entry.ts";
import { merklePath, type MerkleTree, merkleTree, treeRoot } from "../protocol/merkle.ts";
import { formatReceipt } from "./receipt.ts";
import { settle, type Settlement } from "./settle.ts";
import {
  accountsOf,
  idOf,
  type Outcome,
  type SettledEntries,
  type Submission,
  transferCount,
} from "./submission.ts";
import type { BlockRecord, Head, LedgerStore, LedgerTransaction, StoredPayment } from "./store.ts";

/** Transfers waiting for a block; past it the server is overloaded and says so. */
const QUEUE_TRANSFERS_MAX = 20_000;
/** Blocks, and batches, whose trees are kept for the receipts that are asked for right after. */
const TREES_KEPT_MAX = 64;

/** A block with its tree: enough for the path of each of its entries. */
export interface SealedBlock {
  readonly header: SignedHeader;
  readonly entryTexts: readonly string[];
  readonly tree: MerkleTree;
}

/** An entry with what proves it: the path to the root that the header signs. */
export interface ProvenEntry {
  readonly entry: string;
  readonly path: readonly string[];
  readonly header: string;
}

interface Waiting {
  readonly submission: Submission;
  readonly resolve: (outcome: Outcome) => void;
  readonly reject: (error: unknown) => void;
}

export interface LedgerOptions {
  readonly store: LedgerStore;
  readonly serverKeys: RsaKeyPair;
  /** SHA-256 of the server's certificate, which delegations must name. */
  readonly cert: Sha256;
  readonly now_s: () => number;
}

export class Ledger {
  private readonly waiting: Waiting[] = [];
  private waitingTransfers = 0;
  /** By `seq` of the first entry. */
  private readonly blocks = new Map<number, SealedBlock>();
  /** By the batch order's text. */
  private readonly itemTrees = new Map<string, MerkleTree>();
  private committing: Promise<void> = Promise.resolve();
  private isCommitting = false;

  constructor(private readonly options: LedgerOptions) {}

  /**
   * Has the rules applied to `submission` in the next block. Resolves when the outcome is durable.
   *
   * @throws {SealwireError} `overloaded` (nothing was taken), `store_unavailable` (nothing was recorded),
   * `ledger_of_another_server`.
   */
  submit(submission: Submission): Promise<Outcome> {
    if (this.waitingTransfers >= QUEUE_TRANSFERS_MAX) {
      return Promise.reject(
        new SealwireError("overloaded", "too many payments wait to be settled: try again"),
      );
    }
    const outcome = new Promise<Outcome>((resolve, reject) => {
      this.waiting.push({ submission, resolve, reject });
    });
    this.waitingTransfers += transferCount(submission);
    if (!this.isCommitting) this.committing = this.commitAll();
    return outcome;
  }

  /** Resolves when nothing is being committed. */
  async idle(): Promise<void> {
    await this.committing;
  }

  private async commitAll(): Promise<void> {
    this.isCommitting = true;
    // What arrives together in one turn of the event loop goes into one block.
    await Promise.resolve();
    while (this.waiting.length > 0) await this.commitBatch(this.takeBatch());
    // In the same turn as the check: who hears of an outcome may submit the next before this promise resolves.
    this.isCommitting = false;
  }

  /** A fault that one submission brings about fails that one alone: the others are tried again in halves. */
  private async commitBatch(batch: readonly Waiting[]): Promise<void> {
    try {
      const outcomes = await this.commit(batch.map(({ submission }) => submission));
      for (const [index, { resolve }] of batch.entries()) resolve(outcomes[index]!);
    } catch (error) {
      if (batch.length === 1 || isSealwireError(error)) {
        for (const { reject } of batch) reject(error);
        return;
      }
      const half = Math.ceil(batch.length / 2);
      await this.commitBatch(batch.slice(0, half));
      await this.commitBatch(batch.slice(half));
    }
  }

  /** As many of the waiting as one block holds, at least one. */
  private takeBatch(): Waiting[] {
    let transfers = 0;
    let taken = 0;
    for (const { submission } of this.waiting) {
      transfers += transferCount(submission);
      if (taken > 0 && transfers > BLOCK_TRANSFERS_MAX) break;
      taken++;
    }
    const batch = this.waiting.splice(0, taken);
    for (const { submission } of batch) this.waitingTransfers -= transferCount(submission);
    return batch;
  }

  private async commit(submissions: readonly Submission[]): Promise<readonly Outcome[]> {
    let sealed: SealedBlock | null = null;
    let outcomes: readonly Outcome[] = [];
    try {
      await this.options.store.transaction(async (transaction) => {
        const made = await this.makeBlock(transaction, submissions);
        sealed = made.sealed;
        outcomes = made.settlement.outcomes;
      });
    } catch (error) {
      if (!await this.isCommitted(sealed)) throw error;
    }
    if (sealed !== null) this.keep(sealed);
    return outcomes;
  }

  private async makeBlock(
    transaction: LedgerTransaction,
    submissions: readonly Submission[],
  ): Promise<{ sealed: SealedBlock | null; settlement: Settlement }> {
    const { serverKeys, cert, now_s } = this.options;
    const head = await transaction.head();
    requireSameServer(head, serverKeys.publicKey.thumbprint);
    const view = {
      accounts: await transaction.accounts(submissions.flatMap(accountsOf)),
      outcomes: await transaction.outcomes(submissions.map(idOf)),
    };
    const time_s = Math.max(now_s(), head.time_s);
    const server = serverKeys.publicKey.thumbprint;
    const settlement = settle({ time_s, firstSeq: head.nextSeq, server, cert }, view, submissions);
    const entryTexts = settlement.entries.map(formatEntry);
    const sealed = entryTexts.length === 0 ? null : await this.seal(head, entryTexts, time_s);
    if (sealed !== null || settlement.newOutcomes.length > 0) {
      await transaction.append(blockRecord(settlement, submissions, sealed, time_s));
    }
    return { sealed, settlement };
  }

  private async seal(
    head: Head,
    entryTexts: readonly string[],
    time: number,
  ): Promise<SealedBlock> {
    const tree = merkleTree(entryTexts);
    const { publicKey, privateKey } = this.options.serverKeys;
    const header = await signHeader({
      height: head.height + 1,
      prev: head.sha256,
      first: head.nextSeq,
      count: entryTexts.length,
      root: treeRoot(tree),
      time,
      server: publicKey.thumbprint,
    }, privateKey);
    return { header, entryTexts, tree };
  }

  /** Whether a commit that failed has happened all the same: the chain knows. */
  private async isCommitted(sealed: SealedBlock | null): Promise<boolean> {
    if (sealed === null) return false;
    const [stored] = await this.options.store.headers(sealed.header.claims.height, 1);
    return stored === sealed.header.text;
  }

  private keep(sealed: SealedBlock): void {
    keepBounded(this.blocks, sealed.header.claims.first, sealed);
  }

  private itemTree({ order, items }: OrderTexts): MerkleTree {
    const tree = this.itemTrees.get(order) ?? merkleTree(items);
    keepBounded(this.itemTrees, order, tree);
    return tree;
  }

  private async blockOf(seq: number): Promise<SealedBlock> {
    for (const sealed of this.blocks.values()) {
      const { first, count } = sealed.header.claims;
      if (seq >= first && seq < first + count) return sealed;
    }
    const stored = await this.options.store.blockOf(seq);
    if (stored === null) throw new Error(`no block has entry ${seq}`);
    const sealed = { ...stored, tree: merkleTree(stored.entryTexts) };
    this.keep(sealed);
    return sealed;
  }

  /** Entry `seq` with its proof. */
  async prove(seq: number): Promise<ProvenEntry> {
    const { header, entryTexts, tree } = await this.blockOf(seq);
    const index = seq - header.claims.first;
    return { entry: entryTexts[index]!, path: merklePath(tree, index), header: header.text };
  }

  /**
   * The receipt of one payment that `signed` ordered and `entries` settled. `index`: which of a batch, null for none.
   */
  async receipt(
    signed: OrderTexts,
    entries: SettledEntries,
    index: number | null,
  ): Promise<string> {
    const proven = await this.prove(entries.seq + (index ?? 0));
    const delegation = await this.settledDelegation(signed, proven.entry);
    const item = index === null
      ? null
      : { text: signed.items[index]!, path: merklePath(this.itemTree(signed), index) };
    return formatReceipt({ order: signed.order, delegation, item, ...proven });
  }

  /** An order may come again under another delegation of its session: a receipt quotes the one that settled it. */
  private async settledDelegation(signed: OrderTexts, entryText: string): Promise<string> {
    const entry = parseEntry(entryText);
    if (entry.delegationSha256 === null) throw new Error("nobody ordered what the treasury issued");
    if (sha256Text(signed.delegation) === entry.delegationSha256) return signed.delegation;
    const stored = await this.options.store.delegation(entry.delegationSha256);
    if (stored === null) throw new Error(`the delegation of entry ${entry.seq} is missing`);
    return stored;
  }
}

/**
 * One key signs a whole chain: a block by another would spoil it for every reader.
 *
 * @throws {SealwireError} `ledger_of_another_server`.
 */
export function requireSameServer(head: Head, server: Sha256): void {
  if (head.server === null || head.server === server) return;
  throw new SealwireError(
    "ledger_of_another_server",
    "the ledger is signed by another server's key: put back the keys it was made with",
  );
}

/** Sets `key` and drops the oldest past {@linkcode TREES_KEPT_MAX}. */
function keepBounded<K, V>(map: Map<K, V>, key: K, value: V): void {
  map.set(key, value);
  if (map.size > TREES_KEPT_MAX) map.delete(map.keys().next().value!);
}

/** The texts that a receipt quotes. */
export interface OrderTexts {
  readonly order: string;
  readonly delegation: string;
  /** A batch's items; empty for a plain order. */
  readonly items: readonly string[];
}

export function orderTexts(submission: Submission & { type: "order" }): OrderTexts {
  const { signed: { order, delegation }, items } = submission;
  return { order: order.text, delegation: delegation.text, items: items.map(formatBatchItem) };
}

/** Null where there is nothing to quote: what is void, and what nobody signed. */
export function storedOrderTexts(payment: StoredPayment): OrderTexts | null {
  const { orderText, delegationText, itemTexts } = payment;
  if (orderText === null || delegationText === null) return null;
  return { order: orderText, delegation: delegationText, items: itemTexts ?? [] };
}

function blockRecord(
  settlement: Settlement,
  submissions: readonly Submission[],
  sealed: SealedBlock | null,
  time_s: number,
): BlockRecord {
  const openedKeys = new Map<AccountName, { jwk: RsaPublicJwk | null; seq: number }>();
  const delegations = new Map<Sha256, string>();
  for (const { submission, end } of settlement.newOutcomes) {
    if (submission.type !== "order" || "void" in end) continue;
    const { sha256, text } = submission.signed.delegation;
    delegations.set(sha256, text);
  }
  for (const entry of settlement.entries) {
    if (entry.type !== "account.open") continue;
    const opening = submissions.find((submission) =>
      submission.type === "open" && submission.delegation.sha256 === entry.delegationSha256
    );
    const delegation = opening?.type === "open" ? opening.delegation : null;
    openedKeys.set(entry.account, { jwk: delegation?.claims.key.jwk ?? null, seq: entry.seq });
    if (delegation !== null) delegations.set(delegation.sha256, delegation.text);
  }
  return {
    header: sealed?.header ?? null,
    entryTexts: sealed?.entryTexts ?? [],
    accounts: settlement.accounts,
    openedKeys,
    postings: settlement.postings,
    newOutcomes: settlement.newOutcomes,
    delegations,
    time_s,
  };
}
