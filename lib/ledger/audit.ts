/**
 * Audit: replays the whole ledger from its entries and believes nothing else. It checks every
 * entry's place, every signature, every rule, every stored balance, every tile and seal, and that
 * all balances sum to zero.
 *
 * It reads in short snapshots, so it runs beside a server without holding back the database's log.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { BoundedMap } from "../base/bounded_map.ts";
import { isSealwireError, SealwireError } from "../base/errors.ts";
import { decodeBase64url, encodeBase64url, type Sha256, type Uuid } from "../base/parse.ts";
import { ed25519Jwk, type Ed25519PublicKey } from "../keys/ed25519.ts";
import { type AccountName, parseRsaPublicJwk, type RsaPublicKey } from "../keys/rsa.ts";
import { verifySignedCancel } from "../protocol/cancel.ts";
import { isFromFuture, requireValidFor, verifyDelegation } from "../protocol/delegation.ts";
import { hashLeaf, sameHash } from "../protocol/merkle.ts";
import { type Amount, formatAmount, type Unit } from "../protocol/money.ts";
import {
  type BatchItem,
  isBatch,
  type Order,
  parseBatchItem,
  parseBatchItems,
  parseOrder,
  type PaymentReference,
  untimely,
  verifySignedOrder,
} from "../protocol/order.ts";
import { type Party, TREASURY } from "../protocol/party.ts";
import { parseRotation, verifyRotation } from "../protocol/rotation.ts";
import type { Checkpoint } from "./checkpoint.ts";
import {
  type AccountKey,
  type AccountOpen,
  type Batch,
  type Cancelled,
  type Entry,
  explains,
  isOperatorFact,
  type LedgerRollback,
  parseEntry,
  type Settings,
  type Transfer,
} from "./entry.ts";
import { openInvite } from "./invite.ts";
import type { Seals } from "./seal.ts";
import {
  creditsOf,
  isSoundBalance,
  type Posting,
  RESERVED_NAMES,
  unsignedSha256,
} from "./settle.ts";
import type { Head, LedgerStore, Sealed, StoredAccount, StoredPayment } from "./store.ts";
import { type Ending, refundKey, type RefundTotal } from "./submission.ts";
import { emptyTree, type FullTile, type LogTree } from "./tiles.ts";

/** Entries that are replayed in one snapshot. */
const CHUNK_ENTRIES = 500;
const ACCOUNTS_PAGE = 1_000;
/**
 * How many verified delegations to remember. An account uses one for all its orders of a day.
 */
const DELEGATIONS_KEPT_MAX = 10_000;

export interface AuditOptions {
  readonly store: LedgerStore;
  /** Thumbprint of the server's RSA key. */
  readonly server: Sha256;
  readonly log: Ed25519PublicKey;
  readonly seals: Seals;
  /** Checkpoints that were kept elsewhere, and that must still be part of the log. */
  readonly expected: readonly Checkpoint[];
  /** Called with the number of entries that were replayed since the last call. */
  readonly onProgress: (entries: number) => void;
}

export interface AuditResult {
  readonly entries: number;
  /** The number of accounts, without the treasury. */
  readonly accounts: number;
  /** The root of the tree over all entries. */
  readonly size: number;
  readonly root: Sha256;
  /**
   * Sizes of the expected checkpoints that belong to a lost history, if the operator's entry
   * explains the loss.
   */
  readonly explained: readonly number[];
}

/**
 * @throws {SealwireError} `audit_failed` at the first fault. `details.index` is the index of the
 * faulty entry, or the log's size for a fault that only the end of the log shows.
 */
export async function audit(options: AuditOptions): Promise<AuditResult> {
  const replay = new Replay(options);
  let done = false;
  while (!done) {
    // Between two snapshots a writer, a signal and a progress bar get their turn.
    await nextTurn();
    done = await options.store.snapshot(async () => {
      const before = replay.size;
      const isLast = await located(replay, () => replay.chunk());
      options.onProgress(replay.size - before);
      if (isLast) await located(replay, () => replay.finish());
      return isLast;
    });
  }
  return replay.result();
}

async function located<T>(replay: Replay, check: () => Promise<T>): Promise<T> {
  try {
    return await check();
  } catch (error) {
    if (!isSealwireError(error)) throw error;
    const { at: index } = replay;
    throw new SealwireError("audit_failed", `entry ${index}: ${error.message}`, {
      cause: error,
      details: { index },
    });
  }
}

function require(condition: boolean, what: string): asserts condition {
  if (!condition) throw new SealwireError("audit_failed", what);
}

/** An account as it follows from the entries. */
interface Replayed {
  key: Sha256 | null;
  readonly opened: number;
  keyed: number;
  balance: bigint;
  changed: number;
}

class Replay {
  private tree: LogTree = emptyTree();
  private head!: Sealed<Head>;
  private unit: Unit | null = null;
  private settings: Settings | null = null;
  /** The last entry says that the ledger goes on elsewhere. */
  private isMoved = false;
  private readonly usedInvites = new Set<Uuid>();
  private readonly accounts = new Map<Party, Replayed>();
  private readonly delegations = new BoundedMap<string, ReturnType<typeof verifyDelegation>>(
    DELEGATIONS_KEPT_MAX,
  );
  private postings = 0;
  /** The replayed entry whose postings are being compared. */
  private posting: number | null = null;
  private endings = 0;
  private paidRequests = 0;
  private readonly refunds = new Map<string, RefundTotal>();
  private tiles = 0;
  private time_s = 0;
  /** By size. */
  private readonly expected: Checkpoint[];
  private readonly unlinked: Checkpoint[] = [];
  private readonly rollbacks: LedgerRollback[] = [];
  private readonly operatorIndexes: number[] = [];

  constructor(private readonly options: AuditOptions) {
    this.accounts.set(TREASURY, {
      key: options.server,
      opened: 0,
      keyed: 0,
      balance: 0n,
      changed: 0,
    });
    this.expected = options.expected.filter(({ size }) => size > 0).sort((one, other) =>
      one.size - other.size
    );
  }

  /** Entries replayed so far: the index of the next one. */
  get size(): number {
    return this.tree.size;
  }

  /** Index of the entry that is being checked. */
  get at(): number {
    return this.posting ?? this.size;
  }

  /** Replays the next entries. Returns true after the last ones. */
  async chunk(): Promise<boolean> {
    const { store, seals, server } = this.options;
    const head = await store.head();
    require(head !== null, "the ledger has no head");
    seals.checkHead(head);
    require(head.server === server, "the ledger is of another server");
    require(head.size >= this.size, "the ledger has become shorter");
    this.head = head;
    const to = Math.min(head.size, this.size + CHUNK_ENTRIES);
    const texts = await store.entries(this.size, to);
    const postings: Posting[] = [];
    for (const text of texts) await this.entry(text, postings);
    require(this.size === to, "it is missing");
    await this.comparePostings(postings);
    return to === head.size;
  }

  private async entry(text: string, postings: Posting[]): Promise<void> {
    const entry = parseEntry(text);
    require(entry.index === this.size, `it says that it is entry ${entry.index}`);
    require((entry.type === "ledger.open") === (entry.index === 0), "only entry 0 opens a ledger");
    this.time_s = entry.time;
    if (isOperatorFact(entry)) this.operatorIndexes.push(entry.index);
    require(
      this.isMoved === (entry.type === "ledger.continued"),
      this.isMoved ? "it follows the move of the ledger" : "it continues what was not moved",
    );
    this.isMoved = entry.type === "ledger.moved";
    switch (entry.type) {
      case "ledger.open": {
        require(entry.server === this.options.server, "the ledger is of another server");
        require(
          entry.log.x === ed25519Jwk(this.options.log).x,
          "the ledger names another log key",
        );
        this.unit = entry.unit;
        this.settings = entry;
        break;
      }
      case "ledger.settings":
        this.settings = entry;
        break;
      case "ledger.rollback":
        await this.rollback(entry);
        break;
      case "account.open":
        await this.accountOpen(entry);
        break;
      case "account.key":
        await this.accountKey(entry);
        break;
      case "transfer":
        await this.transfer(entry, postings);
        break;
      case "batch":
        await this.batch(entry, postings);
        break;
      case "cancel":
        await this.cancel(entry);
        break;
    }
    await this.append(text);
  }

  private async append(text: string): Promise<void> {
    const { tree, fullTiles } = this.tree.appended([hashLeaf(text)]);
    await this.compareTiles(fullTiles);
    this.tree = tree;
    while (this.expected[0]?.size === tree.size) {
      const kept = this.expected.shift()!;
      if (!sameHash(kept.root, tree.root)) this.unlinked.push(kept);
    }
  }

  private async compareTiles(fullTiles: readonly FullTile[]): Promise<void> {
    if (fullTiles.length === 0) return;
    this.tiles += fullTiles.length;
    const stored = await this.options.store.tiles(fullTiles);
    for (const [at, { level, index, hashes, root }] of fullTiles.entries()) {
      const found = stored[at];
      require(found !== null, `tile ${level}/${index} is missing`);
      const [storedRoot] = await this.options.store.tileRoots(level, index, index + 1);
      require(
        sameHash(found!, hashes) && sameHash(storedRoot!, root),
        `tile ${level}/${index} is not that of the entries`,
      );
    }
  }

  private async rollback(entry: LedgerRollback): Promise<void> {
    require(entry.keptSize <= this.size, "it keeps more entries than there are");
    const kept = await this.tree.rootAt(entry.keptSize, (ids) => this.readTiles(ids));
    require(
      sameHash(kept, decodeBase64url(entry.keptRoot)!),
      "it keeps another history than this one",
    );
    this.rollbacks.push(entry);
  }

  private async readTiles(ids: Parameters<LedgerStore["tiles"]>[0]): Promise<Uint8Array[]> {
    const tiles = await this.options.store.tiles(ids);
    require(tiles.every((tile) => tile !== null), "a tile is missing");
    return tiles as Uint8Array[];
  }

  private async accountOpen(entry: Entry<AccountOpen>): Promise<void> {
    const { account, key, delegationSha256, index, invite } = entry;
    require(!this.accounts.has(account), `${account} exists already`);
    require(!RESERVED_NAMES.has(account), `nobody may be called ${account}`);
    const registration = this.settings?.registration;
    require(registration !== "closed", "registration is closed");
    require(registration !== "invite" || invite !== null, "nobody invited its holder");
    if (invite !== null) await this.invited(entry, invite);
    if (delegationSha256 !== null) {
      const { claims } = await this.storedDelegation(delegationSha256);
      require(claims.account === account, "the delegation is by another account");
      require(claims.key.thumbprint === key, "the delegation is by another key");
      requireValidFor(claims, { server: this.options.server, now_s: entry.time });
    }
    this.accounts.set(account, { key, opened: index, keyed: index, balance: 0n, changed: index });
  }

  /**
   * The key that the account has must have signed the rotation, and the new one must have
   * countersigned it.
   */
  private async accountKey(entry: Entry<AccountKey>): Promise<void> {
    const { store, server } = this.options;
    const account = this.accounts.get(entry.account);
    require(account !== undefined && account.key !== null, "the account has no key to replace");
    require(account.keyed === entry.replaces, "it replaces another key than the account's");
    const rotationText = await store.rotation(entry.rotationSha256);
    const countersignatureText = await store.rotation(entry.countersignatureSha256);
    const oldKey = await this.keyOf(entry.account, entry.replaces);
    require(oldKey.thumbprint === account.key, "the old key is another one");
    const { rotation, countersignature } = await verifyRotation(
      rotationText,
      countersignatureText,
      oldKey,
    );
    require(
      rotation.sha256 === entry.rotationSha256 &&
        countersignature.sha256 === entry.countersignatureSha256,
      "the rotation is another one",
    );
    const { claims } = rotation;
    require(!isFromFuture(claims.iat, entry.time), "the rotation is from the future");
    const same = claims.account === entry.account && claims.server === server &&
      claims.replaces === entry.replaces && claims.key.thumbprint === entry.key;
    require(same, "the rotation gives another key");
    account.key = entry.key;
    account.keyed = entry.index;
    account.changed = entry.index;
  }

  /** The key that entry `index` gave the account: by its delegation, or by its rotation. */
  private async keyOf(name: AccountName, index: number): Promise<RsaPublicKey> {
    const [text] = await this.options.store.entries(index, index + 1);
    const entry = parseEntry(text);
    if (entry.type === "account.open" && entry.account === name && entry.delegationSha256) {
      return (await this.storedDelegation(entry.delegationSha256)).claims.key;
    }
    require(entry.type === "account.key" && entry.account === name, "no entry gave the old key");
    const rotation = await this.options.store.rotation(entry.rotationSha256);
    return parseRotation(rotation).claims.key;
  }

  /** An invite is one of this server's, and used once. */
  private async invited({ id, account, index }: Entry<AccountOpen>, code: string): Promise<void> {
    const invite = openInvite(this.options.seals, code);
    require(invite.id === id, "its id is not that of its invite");
    require(!this.usedInvites.has(id), "its invite was used before");
    this.usedInvites.add(id);
    if (invite.balance > 0n) return;
    await this.ending(
      { payer: TREASURY, id, index },
      "settled",
      unsignedSha256(account, invite.balance as Amount),
    );
  }

  private async transfer(entry: Entry<Transfer>, postings: Posting[]): Promise<void> {
    const { payer, payee, payerKey, payeeKey, amount, unit } = entry;
    require(unit === this.unit, "it counts in another unit");
    require(this.accounts.get(payer)?.key === payerKey, "the payer has another key");
    require(this.accounts.get(payee)?.key === payeeKey, "the payee has another key");
    require(payer !== payee, "payer and payee are the same account");
    // Only the treasury and accounts without a key pay without an order.
    if (entry.orderSha256 === null) {
      await this.ending(entry, "settled", unsignedSha256(payee, amount));
    } else {
      await this.ordered(entry as Entry<Transfer> & { payer: AccountName });
    }
    this.move(payer, -amount, entry.index, postings);
    this.move(payee, amount, entry.index, postings);
  }

  private async batch(entry: Entry<Batch>, postings: Posting[]): Promise<void> {
    require(entry.unit === this.unit, "it counts in another unit");
    require(this.accounts.get(entry.payer)?.key === entry.payerKey, "the payer has another key");
    const items = await this.ordered(entry);
    for (const { payee, payeeKey } of items) {
      require(this.accounts.get(payee)?.key === payeeKey, `${payee} has another key`);
    }
    this.move(entry.payer, -entry.total, entry.index, postings);
    for (const [payee, amount] of creditsOf(items)) {
      this.move(payee, amount, entry.index, postings);
    }
  }

  /**
   * Verifies the order that an entry names, and that the entry does what it orders. Returns the
   * items of a batch.
   */
  private async ordered(
    entry: (Entry<Transfer> & { payer: AccountName }) | Entry<Batch>,
  ): Promise<readonly BatchItem[]> {
    const stored = await this.ending(entry, "settled", entry.orderSha256!);
    require(stored.signedText !== null, "its order is missing");
    const { order, delegation } = await verifySignedOrder(
      stored.signedText,
      stored.delegationText,
      (text) => this.delegation(String(text)),
    );
    require(order.sha256 === entry.orderSha256, "the order is another one");
    require(delegation.sha256 === entry.delegationSha256, "the delegation is another one");
    require(
      delegation.claims.key.thumbprint === entry.payerKey,
      "the order is not by the payer's key",
    );
    const { claims } = order;
    const { server } = this.options;
    require(claims.server === server, "the order is for another server");
    require(claims.payer === entry.payer && claims.id === entry.id, "the order is another one's");
    requireValidFor(delegation.claims, { server, now_s: entry.time });
    const flaw = untimely(claims, entry.time);
    require(flaw === undefined, `the order did not hold at that time: ${flaw}`);
    if (entry.type === "batch") {
      const same = isBatch(claims) && claims.count === entry.count &&
        claims.total === entry.total && claims.itemsRoot === entry.itemsRoot;
      require(same, "the order pays something else");
      return parseBatchItems(claims, stored.itemTexts);
    }
    const same = !isBatch(claims) && claims.payee === entry.payee &&
      claims.payeeKey === entry.payeeKey && claims.amount === entry.amount;
    require(same, "the order pays something else");
    if (claims.request !== null) await this.paidRequest(claims, claims.request, entry);
    if (claims.refundOf !== null) await this.refunded(claims, claims.refundOf, entry.index);
    return [];
  }

  /** A request is paid once, and its row points to the one entry that pays it. */
  private async paidRequest(order: Order, id: Uuid, { index, time }: Entry): Promise<void> {
    this.paidRequests++;
    const { store, seals } = this.options;
    const [request] = await store.requests([{ payee: order.payee as AccountName, id }]);
    require(request !== undefined, `request ${id} is missing`);
    seals.checkRequest(request);
    require(
      request.state === "paid" && request.index === index,
      `request ${id} is paid by another entry`,
    );
    const same = request.amount === order.amount &&
      (request.payer === null || request.payer === order.payer);
    require(same, `request ${id} asks for something else`);
    require(time < request.expires_s, `request ${id} had expired`);
  }

  /** All refunds of a payment together are at most its amount. */
  private async refunded(order: Order, reference: PaymentReference, index: number): Promise<void> {
    const target = await this.refundTarget(reference);
    require(
      target.payee === order.payer && reference.payer === order.payee,
      "it gives back a payment between others",
    );
    const key = refundKey(reference);
    const total = (this.refunds.get(key)?.total ?? 0n) + order.amount;
    require(total <= target.amount, "it gives back more than was paid");
    this.refunds.set(key, { reference, total, changed: index });
  }

  private async refundTarget({ payer, id, item }: PaymentReference) {
    const payment = await this.options.store.payment(payer, id);
    require(
      payment !== null && payment.state === "settled" && payment.signedText !== null &&
        payment.index < this.size,
      "it gives back what was not paid before",
    );
    const order = parseOrder(payment.signedText).claims;
    if (!isBatch(order)) {
      require(
        item === null && order.refundOf === null,
        "it gives back a refund, or a batch's item",
      );
      return { payee: order.payee as string, amount: order.amount };
    }
    const text = item === null ? undefined : payment.itemTexts?.[item];
    require(text !== undefined, "it gives back no item of the batch");
    const { payee, amount } = parseBatchItem(text);
    return { payee: payee as string, amount };
  }

  private async compareRefunds(): Promise<void> {
    const { store, seals } = this.options;
    const refunds = [...this.refunds.values()];
    for (let start = 0; start < refunds.length; start += ACCOUNTS_PAGE) {
      const page = refunds.slice(start, start + ACCOUNTS_PAGE);
      const stored = new Map(
        (await store.refundTotals(page.map(({ reference }) => reference)))
          .map((row) => [refundKey(row.reference), row]),
      );
      for (const { reference, total, changed } of page) {
        const row = stored.get(refundKey(reference));
        require(
          row !== undefined && row.total === total && row.changed === changed,
          `the refunds of payment ${reference.id} are not what the entries say`,
        );
        seals.checkRefund(row);
      }
    }
  }

  private async cancel(entry: Entry<Cancelled>): Promise<void> {
    const stored = await this.ending(entry, "cancelled", entry.cancelSha256);
    require(stored.signedText !== null, "its cancel is missing");
    const { cancel, delegation } = await verifySignedCancel(
      stored.signedText,
      stored.delegationText,
      (text) => this.delegation(String(text)),
    );
    const { claims } = cancel;
    const { server } = this.options;
    require(cancel.sha256 === entry.cancelSha256, "the cancel is another one");
    require(delegation.sha256 === entry.delegationSha256, "the delegation is another one");
    require(claims.server === server, "the cancel is for another server");
    require(claims.payer === entry.payer && claims.id === entry.id, "the cancel is another one's");
    const { thumbprint } = delegation.claims.key;
    require(
      thumbprint === entry.payerKey && this.accounts.get(entry.payer)?.key === thumbprint,
      "the cancel is not by the payer's key",
    );
    requireValidFor(delegation.claims, { server, now_s: entry.time });
  }

  /** An id ends once, and its row points to the one entry that ends it. */
  private async ending(
    entry: { readonly payer: Party; readonly id: Uuid; readonly index: number },
    state: Ending["state"],
    contentSha256: Sha256,
  ): Promise<StoredPayment> {
    this.endings++;
    const { store, seals } = this.options;
    const stored = await store.payment(entry.payer, entry.id);
    require(stored !== null, `payment ${entry.id} is not recorded`);
    seals.checkEnding(stored);
    require(
      stored.index === entry.index && stored.state === state,
      `payment ${entry.id} is recorded elsewhere`,
    );
    require(
      stored.contentSha256 === contentSha256,
      `payment ${entry.id} is recorded with another content`,
    );
    return stored;
  }

  private async storedDelegation(sha256: Sha256) {
    const text = await this.options.store.delegation(sha256);
    require(text !== null, "a delegation is missing");
    const delegation = await this.delegation(text);
    require(delegation.sha256 === sha256, "a delegation is another one");
    return delegation;
  }

  private delegation(text: string): ReturnType<typeof verifyDelegation> {
    let verified = this.delegations.get(text);
    if (verified === undefined) {
      verified = verifyDelegation(text);
      this.delegations.set(text, verified);
    }
    return verified;
  }

  private move(name: Party, change: bigint, index: number, postings: Posting[]): void {
    const account = this.accounts.get(name)!;
    account.balance += change;
    account.changed = index;
    const { balance } = account;
    require(isSoundBalance(name, balance), `${name} would have ${formatAmount(balance)}`);
    postings.push({ account: name, index, balance });
  }

  private async comparePostings(postings: readonly Posting[]): Promise<void> {
    this.postings += postings.length;
    const stored = await this.options.store.balancesAfter(postings);
    for (const [at, { account, index, balance }] of postings.entries()) {
      this.posting = index;
      require(
        stored[at] === balance,
        `the stored balance of ${account} after it is not ${formatAmount(balance)}`,
      );
    }
    this.posting = null;
  }

  /**
   * Checks what must hold at the end: the root is that of the entries, the accounts are those that
   * were replayed and no others, and all balances add up to zero.
   */
  async finish(): Promise<void> {
    const { store } = this.options;
    require(
      encodeBase64url(this.tree.root) === this.head.root,
      "the entries do not lead to the root that is signed",
    );
    // Only now, because the entry that explains a loss comes after it.
    for (const kept of this.lost()) {
      require(
        this.rollbacks.some((rollback) => explains(rollback, kept)),
        `the checkpoint of ${kept.size} entries that was kept elsewhere is not of this history`,
      );
    }
    require(this.head.time_s === this.time_s, "the head has another time than the last entry");
    const operatorIndexes = await store.operatorIndexes();
    require(
      operatorIndexes.join() === this.operatorIndexes.join(),
      "the operator's entries are not listed as they are",
    );
    const { openingBalance, registration } = this.head.settings;
    require(
      this.head.unit === this.unit && this.settings?.openingBalance === openingBalance &&
        this.settings.registration === registration,
      "the settings are not those of the entries",
    );
    const counts = await store.counts();
    require(counts.entries === this.size, "there are entries beyond the end of the log");
    require(counts.postings === this.postings, "there are balances that no entry explains");
    require(counts.endings === this.endings, "there are ended payments that no entry explains");
    require(counts.tiles === this.tiles, "there are tiles that no entry explains");
    require(
      counts.paidRequests === this.paidRequests,
      "there are paid requests that no entry pays",
    );
    require(counts.refunds === this.refunds.size, "there are refunds that no entry explains");
    await this.compareRefunds();
    await this.compareAccounts();
    const sum = [...this.accounts.values()].reduce((total, { balance }) => total + balance, 0n);
    require(sum === 0n, `all balances add up to ${formatAmount(sum)}, not to zero`);
  }

  /** The expected checkpoints that do not belong to this history. */
  private lost(): Checkpoint[] {
    return [...this.unlinked, ...this.expected];
  }

  private async compareAccounts(): Promise<void> {
    // The treasury has no row before its first payment. Entry 0 pays nobody.
    let missing = this.accounts.size - (this.accounts.get(TREASURY)!.changed === 0 ? 1 : 0);
    let after = "";
    while (true) {
      const page = await this.options.store.accountsAfter(after, ACCOUNTS_PAGE);
      for (const account of page) this.compareAccount(account);
      missing -= page.length;
      if (page.length < ACCOUNTS_PAGE) break;
      after = page.at(-1)!.name;
    }
    require(missing === 0, "accounts are missing, or there are too many");
  }

  private compareAccount(stored: Sealed<StoredAccount>): void {
    const { name, key, jwk, balance, opened, keyed, changed } = stored;
    const replayed = this.accounts.get(name);
    require(replayed !== undefined, `no entry opens account ${name}`);
    require(
      replayed.balance === balance,
      `account ${name} has ${formatAmount(balance)}, not ${formatAmount(replayed.balance)}`,
    );
    require(
      replayed.key === key && replayed.opened === opened && replayed.keyed === keyed &&
        replayed.changed === changed,
      `account ${name} is not what the entries say`,
    );
    this.options.seals.checkAccount(stored);
    if (name === TREASURY) return;
    const thumbprint = jwk === null ? null : parseRsaPublicJwk(jwk).thumbprint;
    require(thumbprint === key, `account ${name} is stored with another key`);
  }

  result(): AuditResult {
    return {
      entries: this.size,
      accounts: this.accounts.size - 1,
      size: this.size,
      root: this.head.root,
      explained: this.lost().map(({ size }) => size),
    };
  }
}
