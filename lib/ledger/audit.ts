/**
 * Audit: replays the whole ledger from its entries and believes nothing else. Every header's signature and link, every
 * Merkle root, every delegation and order, every rule, every stored balance, and the sum of all balances, which is zero.
 */
import { requireValidFor, verifyDelegation } from "../protocol/delegation.ts";
import { isSealwireError, SealwireError } from "../base/errors.ts";
import { parseRsaPublicJwk, type RsaPublicKey } from "../keys/rsa.ts";
import { AMOUNT_MAX, formatAmount } from "../protocol/money.ts";
import {
  isBatch,
  parseBatchItems,
  type SignedOrder,
  untimely,
  verifySignedOrder,
} from "../protocol/order.ts";
import type { Sha256 } from "../base/parse.ts";
import { type SignedHeader, verifyHeader } from "./block.ts";
import {
  type AccountOpen,
  type Entry,
  parseEntry,
  type Party,
  type Transfer,
  TREASURY,
} from "./entry.ts";
import { merkleRoot } from "../protocol/merkle.ts";
import { type Account, type Posting, unsignedSha256 } from "./settle.ts";
import type { LedgerStore, StoredAccount, StoredPayment } from "./store.ts";

const HEADERS_PAGE = 100;
/** Delegations whose verification is remembered; an account uses one for all its orders of a day. */
const DELEGATIONS_KEPT_MAX = 10_000;

export interface AuditResult {
  readonly blocks: number;
  readonly entries: number;
  /** Accounts that people hold; the treasury is none. */
  readonly accounts: number;
  /** SHA-256 of the last header's text; null for an empty ledger. */
  readonly head: Sha256 | null;
}

/** The signed order that a transfer names, with what it pays. */
interface Ordered {
  readonly signed: SignedOrder;
  readonly payments: readonly Pick<Transfer, "index" | "payee" | "payeeKey" | "amount">[];
}

/**
 * @param onProgress called after each block with its number of entries.
 * @throws {SealwireError} `audit_failed` at the first thing that is wrong, saying what and where; `details.height` is the block.
 */
export function audit(
  store: LedgerStore,
  server: RsaPublicKey,
  onProgress: (entries: number) => void = () => {},
): Promise<AuditResult> {
  return store.snapshot(() => replayAll(store, server, onProgress));
}

async function replayAll(
  store: LedgerStore,
  server: RsaPublicKey,
  onProgress: (entries: number) => void,
): Promise<AuditResult> {
  const replay = new Replay(store, server);
  let height = 1;
  while (true) {
    const headers = await store.headers(height, HEADERS_PAGE);
    if (headers.length === 0) break;
    for (const header of headers) {
      await located(height, () => replay.block(height, header));
      onProgress(replay.lastBlockEntries);
      height++;
    }
  }
  await located(height - 1, () => replay.finish());
  return replay.result();
}

async function located(height: number, check: () => Promise<void>): Promise<void> {
  try {
    await check();
  } catch (error) {
    if (!isSealwireError(error)) throw error;
    throw new SealwireError("audit_failed", `block ${height}: ${error.message}`, {
      cause: error,
      details: { height },
    });
  }
}

function wrong(what: string): SealwireError {
  return new SealwireError("audit_failed", what);
}

function require(condition: boolean, what: string): asserts condition {
  if (!condition) throw wrong(what);
}

class Replay {
  lastBlockEntries = 0;
  private previous: SignedHeader | null = null;
  private nextSeq = 1;
  private postings = 0;
  private settled = 0;
  private readonly balances = new Map<Party, bigint>([[TREASURY, 0n]]);
  private readonly keys = new Map<Party, Sha256 | null>();
  /** `seq` of each account's opening. */
  private readonly opened = new Map<Party, number>();
  private readonly delegations = new Map<string, ReturnType<typeof verifyDelegation>>();
  /** The order of the transfer before: the items of a batch stand together. */
  private lastOrder: { readonly sha256: Sha256; readonly ordered: Ordered } | null = null;
  /** How many items of the last batch are still to come. */
  private itemsLeft = 0;

  constructor(private readonly store: LedgerStore, private readonly server: RsaPublicKey) {
    this.keys.set(TREASURY, server.thumbprint);
  }

  async block(height: number, headerText: string): Promise<void> {
    const header = await verifyHeader(headerText, this.server);
    const { claims } = header;
    require(claims.height === height, `the header says height ${claims.height}`);
    require(
      claims.prev === (this.previous?.sha256 ?? null),
      "the header does not name the one before it",
    );
    require(
      claims.first === this.nextSeq,
      `the header begins with entry ${claims.first}, not ${this.nextSeq}`,
    );
    require(claims.time >= (this.previous?.claims.time ?? 0), "time runs backwards");
    const stored = await this.store.blockOf(claims.first);
    require(stored?.header.text === headerText, "the header cannot be read again");
    require(stored.entryTexts.length === claims.count, "entries are missing");
    require(
      merkleRoot(stored.entryTexts) === claims.root,
      "the entries are not those that the header signs",
    );
    const postings: Posting[] = [];
    for (const text of stored.entryTexts) {
      const entry = parseEntry(text);
      require(entry.seq === this.nextSeq, `entry ${this.nextSeq} says it is entry ${entry.seq}`);
      await this.entry(entry, claims.time, postings);
      this.nextSeq++;
    }
    require(this.itemsLeft === 0, "the block ends within a batch");
    await this.comparePostings(postings);
    this.previous = header;
    this.lastBlockEntries = claims.count;
  }

  private async entry(entry: Entry, time_s: number, postings: Posting[]): Promise<void> {
    if (entry.type === "account.open") return await this.accountOpen(entry, time_s);
    const at = `entry ${entry.seq}`;
    require(this.keys.get(entry.payer) === entry.payerKey, `${at}: the payer has another key`);
    require(this.keys.get(entry.payee) === entry.payeeKey, `${at}: the payee has another key`);
    // Only the treasury, and accounts that have no key, are paid from without an order.
    if (entry.payer === TREASURY || entry.payerKey === null) await this.unsigned(entry);
    else await this.ordered(entry, time_s);
    this.move(entry.payer, -entry.amount, entry.seq, postings);
    this.move(entry.payee, entry.amount, entry.seq, postings);
  }

  private async accountOpen(entry: AccountOpen, time_s: number): Promise<void> {
    const at = `entry ${entry.seq}`;
    require(!this.keys.has(entry.account), `${at}: ${entry.account} exists already`);
    if (entry.delegationSha256 !== null) {
      const { claims } = await this.delegation(entry.delegationSha256);
      require(claims.account === entry.account, `${at}: the delegation is by another account`);
      require(claims.key.thumbprint === entry.key, `${at}: the delegation is by another key`);
      requireValidFor(claims, { server: this.server.thumbprint, cert: claims.cert, now_s: time_s });
    }
    this.keys.set(entry.account, entry.key);
    this.opened.set(entry.account, entry.seq);
    this.balances.set(entry.account, 0n);
  }

  /** What nobody signed: its id settles once, like any other. */
  private async unsigned(entry: Transfer): Promise<void> {
    require(this.itemsLeft === 0, `entry ${entry.seq}: the batch before is not complete`);
    require(
      entry.payer !== entry.payee,
      `entry ${entry.seq}: payer and payee are the same account`,
    );
    const { count } = await this.outcome(entry, unsignedSha256(entry.payee, entry.amount));
    require(count === 1, `entry ${entry.seq}: its outcome counts other payments`);
  }

  /** An id has one outcome, and that points to its one place in the ledger. */
  private async outcome(
    entry: Transfer,
    contentSha256: Sha256 | null,
  ): Promise<StoredPayment & { readonly count: number }> {
    this.settled++;
    const stored = await this.store.payment(entry.payer, entry.id);
    const settled = stored !== null && "settled" in stored.end ? stored.end.settled : null;
    const here = settled?.seq === entry.seq - (entry.index ?? 0);
    require(
      stored !== null && settled !== null && here,
      `entry ${entry.seq}: payment ${entry.id} is recorded elsewhere`,
    );
    require(
      stored.contentSha256 === contentSha256,
      `entry ${entry.seq}: payment ${entry.id} is recorded as another order`,
    );
    return { ...stored, count: settled.count };
  }

  private async ordered(entry: Transfer, time_s: number): Promise<void> {
    const at = `entry ${entry.seq}`;
    const { signed, payments } = await this.order(entry);
    const { order, delegation } = signed;
    require(order.sha256 === entry.orderSha256, `${at}: the order is another one`);
    require(delegation.sha256 === entry.delegationSha256, `${at}: the delegation is another one`);
    require(
      delegation.claims.key.thumbprint === entry.payerKey,
      `${at}: the order is not by the payer's key`,
    );
    require(
      order.claims.server === this.server.thumbprint,
      `${at}: the order is for another server`,
    );
    require(
      order.claims.payer === entry.payer && order.claims.id === entry.id,
      `${at}: the order is another payment's`,
    );
    const flaw = untimely(order.claims, time_s);
    require(flaw === undefined, `${at}: the order did not hold at that time: ${flaw}`);
    // Each item once, in order: none twice in the place of another.
    const ordered = payments[payments.length - 1 - this.itemsLeft];
    const same = ordered !== undefined && ordered.index === entry.index &&
      ordered.payee === entry.payee &&
      ordered.payeeKey === entry.payeeKey && ordered.amount === entry.amount;
    require(same, `${at}: the order pays something else`);
  }

  private async order(entry: Transfer): Promise<Ordered> {
    const sha256 = entry.orderSha256!;
    if (this.itemsLeft > 0 && this.lastOrder?.sha256 === sha256) {
      this.itemsLeft--;
      return this.lastOrder.ordered;
    }
    require(this.itemsLeft === 0, `entry ${entry.seq}: the batch before is not complete`);
    const stored = await this.outcome(entry, sha256);
    require(stored.orderText !== null, `entry ${entry.seq}: its order is missing`);
    const verify = (text: unknown) => this.verifiedDelegation(String(text));
    const signed = await verifySignedOrder(stored.orderText, stored.delegationText, verify);
    const order = signed.order.claims;
    const payments = isBatch(order)
      ? parseBatchItems(order, stored.itemTexts)
      : [{ ...order, index: null }];
    require(
      stored.count === payments.length,
      `entry ${entry.seq}: its outcome counts other payments`,
    );
    this.itemsLeft = payments.length - 1;
    this.lastOrder = { sha256, ordered: { signed, payments } };
    return this.lastOrder.ordered;
  }

  private async delegation(sha256: Sha256) {
    const text = await this.store.delegation(sha256);
    require(text !== null, "a delegation is missing");
    const delegation = await this.verifiedDelegation(text);
    require(delegation.sha256 === sha256, "a delegation is another one");
    return delegation;
  }

  private verifiedDelegation(text: string): ReturnType<typeof verifyDelegation> {
    let verified = this.delegations.get(text);
    if (verified === undefined) {
      verified = verifyDelegation(text);
      this.delegations.set(text, verified);
      if (this.delegations.size > DELEGATIONS_KEPT_MAX) {
        this.delegations.delete(this.delegations.keys().next().value!);
      }
    }
    return verified;
  }

  private move(name: Party, change: bigint, seq: number, postings: Posting[]): void {
    const balance = this.balances.get(name)! + change;
    const sound = name === TREASURY
      ? balance <= 0n && balance >= -AMOUNT_MAX
      : balance >= 0n && balance <= AMOUNT_MAX;
    require(sound, `entry ${seq}: ${name} would have ${formatAmount(balance)}`);
    this.balances.set(name, balance);
    postings.push({ account: name, seq, balance });
  }

  private async comparePostings(postings: readonly Posting[]): Promise<void> {
    this.postings += postings.length;
    const stored = await this.store.balancesAfter(postings);
    for (const [index, { account, seq, balance }] of postings.entries()) {
      require(
        stored[index] === balance,
        `entry ${seq}: the stored balance of ${account} is not ${formatAmount(balance)}`,
      );
    }
  }

  /** What must hold at the end: every account as replayed, none more, nothing left over, the sum zero. */
  async finish(): Promise<void> {
    const missing = new Set(this.balances.keys());
    // Before it first pays, nothing is stored of the treasury.
    if (this.balances.get(TREASURY) === 0n) missing.delete(TREASURY);
    for await (const account of this.store.allAccounts()) {
      this.account(account);
      missing.delete(account.name);
    }
    require(missing.size === 0, `account ${[...missing][0]} is missing`);
    const counts = await this.store.counts();
    require(counts.entries === this.nextSeq - 1, "there are entries that no block has");
    require(counts.postings === this.postings, "there are balances that no entry explains");
    require(counts.settled === this.settled, "there are settled payments that no entry explains");
    require((await this.store.head()).nextSeq === this.nextSeq, "the head is not the last block");
    const sum = [...this.balances.values()].reduce((total, balance) => total + balance, 0n);
    require(sum === 0n, `all balances add up to ${formatAmount(sum)}, not to zero`);
  }

  private account(stored: StoredAccount | Account): void {
    const { name, key, balance } = stored;
    const replayed = this.balances.get(name);
    const openedSeq = "jwk" in stored ? stored.openedSeq : undefined;
    require(
      replayed !== undefined && this.keys.get(name) === key && this.opened.get(name) === openedSeq,
      `account ${name} is not what the entries say`,
    );
    if ("jwk" in stored) {
      const thumbprint = stored.jwk === null ? null : parseRsaPublicJwk(stored.jwk).thumbprint;
      require(
        thumbprint === key,
        `account ${name} is stored with another key`,
      );
    }
    require(
      replayed === balance,
      `account ${name} has ${formatAmount(balance)}, not ${formatAmount(replayed)}`,
    );
  }

  result(): AuditResult {
    return {
      blocks: this.previous?.claims.height ?? 0,
      entries: this.nextSeq - 1,
      accounts: this.balances.size - 1,
      head: this.previous?.sha256 ?? null,
    };
  }
}
