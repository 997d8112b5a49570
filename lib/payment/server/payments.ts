/** Settles, cancels and reports payments for one session. */
import { BoundedMap } from "../../base/bounded_map.ts";
import { SealwireError } from "../../base/errors.ts";
import type { Members } from "../../base/parse.ts";
import { type AccountName, parseAccountName } from "../../keys/rsa.ts";
import { type Batch, type Entry, parseEntry, type Transfer } from "../../ledger/entry.ts";
import type { Ledger } from "../../ledger/ledger.ts";
import { storeDamaged } from "../../ledger/seal.ts";
import type { LedgerStore, StoredPayment } from "../../ledger/store.ts";
import type { Outcome, Submission } from "../../ledger/submission.ts";
import { type SignedCancel, verifySignedCancel } from "../../protocol/cancel.ts";
import { type Delegation, verifyDelegation } from "../../protocol/delegation.ts";
import { merklePath, merkleTree } from "../../protocol/merkle.ts";
import { formatAmount } from "../../protocol/money.ts";
import {
  BATCH_ITEMS_MAX,
  formatBatchItem,
  isBatch,
  parseBatchItem,
  parseBatchItems,
  verifySignedOrder,
} from "../../protocol/order.ts";
import type { Party } from "../../protocol/party.ts";
import type { Token } from "../../protocol/token.ts";
import type { PaymentAnswer, SettledAnswer } from "../../protocol/wire.ts";
import type { Budgets } from "./budgets.ts";
import type { Log } from "./log.ts";
import type { Presence } from "./presence.ts";
import { proofAnswer } from "./proofs.ts";
import { refusal } from "./refusals.ts";
import type { LoggedIn } from "./session.ts";

/** Verified delegations that are remembered. */
const DELEGATIONS_KEPT_MAX = 10_000;
/** Batches whose trees are kept for the receipts that are asked for right after. */
const TREES_KEPT_MAX = 16;

export interface PaymentsOptions {
  readonly ledger: Ledger;
  readonly store: LedgerStore;
  readonly now_s: () => number;
  readonly log: Log;
  readonly budgets: Budgets;
}

type OrderSubmission = Submission & { type: "order" };

/** A payment that an asker is a party of. */
type Found =
  | { readonly kind: "cancelled" }
  /** `item` null: a payment that is none of a batch. */
  | { readonly kind: "payment"; readonly payment: StoredPayment; readonly item: number | null }
  /** A whole batch, seen by its payer. */
  | { readonly kind: "batch"; readonly payment: StoredPayment };

/** What an answer quotes beside the entry. */
interface Quoted {
  readonly order?: string;
  readonly delegation?: string;
  readonly item?: string;
  readonly item_path?: readonly string[];
  readonly items?: readonly string[];
}

export class Payments {
  private readonly delegations = new BoundedMap<string, Promise<Token<Delegation>>>(
    DELEGATIONS_KEPT_MAX,
  );
  private readonly itemTrees = new BoundedMap<readonly string[], ReturnType<typeof merkleTree>>(
    TREES_KEPT_MAX,
  );

  constructor(
    private readonly options: PaymentsOptions,
    private readonly presence: Presence<LoggedIn>,
  ) {}

  async settle(asker: LoggedIn, params: Members): Promise<SettledAnswer> {
    const signed = await verifySignedOrder(
      params.raw("order"),
      params.raw("delegation"),
      (text) => this.verifiedDelegation(text),
    );
    const order = signed.order.claims;
    const items = isBatch(order)
      ? parseBatchItems(order, params.list("items", BATCH_ITEMS_MAX))
      : [];
    const party = asker.account === order.payer ||
      (!isBatch(order) && asker.account === order.payee);
    if (!party) {
      throw new SealwireError("not_a_party", "only its payer or payee may have an order settled");
    }
    const { budgets } = this.options;
    budgets.requireOrder(asker.account, order.payer, items.length);
    const submission = { type: "order", signed, items } as const;
    const outcome = await this.options.ledger.submit(submission, asker.origin);
    if (outcome.state === "refused") throw refusal(outcome.reason);
    if (outcome.state !== "settled") throw new TypeError(`an order ended as ${outcome.state}`);
    if (!outcome.again) {
      budgets.countEntry(order.payer, items.length);
      this.options.log("settled", { payment: order.id, payer: order.payer });
      this.announce(asker, submission, outcome.index);
    }
    return await this.settledAnswer(asker, outcome.index, {});
  }

  /** Ends an id unpaid by its payer's signed word; answers what it has come to. */
  async cancel(asker: LoggedIn, params: Members): Promise<PaymentAnswer> {
    const signed = await verifySignedCancel(
      params.raw("cancel"),
      params.raw("delegation"),
      (text) => this.verifiedDelegation(text),
    );
    const { id, payer } = signed.cancel.claims;
    if (asker.account !== payer) {
      throw new SealwireError("not_a_party", "only its payer may cancel a payment");
    }
    const outcome = await this.recordCancel(asker, signed);
    if (outcome.state === "refused") throw refusal(outcome.reason);
    if (outcome.state === "cancelled") return { state: "cancelled" };
    const payment = await this.options.ledger.payment(payer, id);
    return await this.answer(asker, await this.found(asker, payment, null));
  }

  /** Submits a cancel. An id that has ended already answers without any budget. */
  private async recordCancel({ origin }: LoggedIn, signed: SignedCancel): Promise<Outcome> {
    const { ledger, budgets } = this.options;
    const { id, payer } = signed.cancel.claims;
    const submission = { type: "cancel", signed } as const;
    if (await ledger.payment(payer, id) !== null) {
      return await ledger.submit(submission, origin);
    }
    budgets.requireCancel(payer);
    let isRecorded = false;
    try {
      const outcome = await ledger.submit(submission, origin);
      isRecorded = outcome.state === "cancelled" && !outcome.again;
      return outcome;
    } finally {
      if (!isRecorded) budgets.giveBackCancel(payer);
    }
  }

  async status(asker: LoggedIn, params: Members): Promise<PaymentAnswer> {
    return await this.answer(asker, await this.find(asker, params));
  }

  async receipt(asker: LoggedIn, params: Members): Promise<PaymentAnswer> {
    const found = await this.find(asker, params);
    if (found?.kind === "batch") {
      throw new SealwireError("index_required", "this is a batch: say which of its payments");
    }
    if (found?.kind === "payment" && found.payment.signedText !== null) {
      return await this.answer(asker, found);
    }
    throw new SealwireError(
      "unknown_payment",
      "no settled payment of this account that has a receipt has that id",
    );
  }

  /**
   * Tells `account` of a payment in entry `index` that nobody signed, and that has no receipt
   * therefore.
   */
  announceUnsigned(account: AccountName, index: number): void {
    this.notify(account, null, index, () => ({}));
  }

  /** Tells payer and payees of a payment that another process has recorded. */
  async announceEntry(entry: Entry<Transfer | Batch>): Promise<void> {
    if (entry.type === "transfer" && !this.isAnyHere(entry.payer, entry.payee)) return;
    const { id, index, payer } = entry;
    const stored = await this.options.ledger.payment(payer, id);
    if (stored === null) throw storeDamaged(`payment ${id} is missing in the database`);
    const { itemTexts } = stored;
    const signed = quotedOrder(stored);
    if (entry.type === "transfer") {
      this.notify(payer, null, index, () => signed);
      this.notify(entry.payee, null, index, () => signed);
      return;
    }
    for (const [item, text] of (itemTexts ?? []).entries()) {
      const { payee } = parseBatchItem(text);
      this.notify(payee, null, index, () => ({ ...signed, ...this.itemOf(itemTexts!, item) }));
    }
  }

  private isAnyHere(...parties: readonly Party[]): boolean {
    return parties.some((party) => this.presence.isHere(party));
  }

  /** A delegation as it comes with an order; a day's orders share one. */
  private verifiedDelegation(text: unknown): Promise<Token<Delegation>> {
    if (typeof text !== "string") return verifyDelegation(text);
    const known = this.delegations.get(text);
    if (known !== undefined) return known;
    const verified = verifyDelegation(text);
    verified.then(() => this.delegations.set(text, verified), () => {});
    return verified;
  }

  /**
   * What a party hears of a settled payment: the entry, its proof, and what the party does not
   * have.
   */
  private async settledAnswer(
    { session, account }: LoggedIn,
    index: number,
    quoted: Quoted,
  ): Promise<SettledAnswer> {
    const proven = await this.options.ledger.proveOne(index);
    const [balance] = await this.options.store.balancesAfter([{ account, index }]);
    return {
      state: "settled",
      ...quoted,
      ...proofAnswer(session, proven),
      balance: formatAmount(balance ?? 0n),
    };
  }

  /** Tells payer and payees of what was settled, but for `teller`, who has the answer. */
  private announce(teller: LoggedIn, submission: OrderSubmission, index: number): void {
    const { order, delegation } = submission.signed;
    const signed = { order: order.text, delegation: delegation.text };
    if (isBatch(order.claims)) {
      const items = submission.items.map(formatBatchItem);
      for (const { payee, index: item } of submission.items) {
        this.notify(payee, teller, index, () => ({ ...signed, ...this.itemOf(items, item) }));
      }
      return;
    }
    this.notify(order.claims.payer, teller, index, () => signed);
    this.notify(order.claims.payee, teller, index, () => signed);
  }

  private notify(
    account: string,
    teller: LoggedIn | null,
    index: number,
    quote: () => Quoted,
  ): void {
    for (const hearer of this.presence.sessionsOf(account)) {
      if (hearer === teller) continue;
      hearer.session.notifications.add(() => this.settledAnswer(hearer, index, quote()));
    }
  }

  private itemOf(items: readonly string[], item: number): Quoted {
    let tree = this.itemTrees.get(items);
    if (tree === undefined) {
      tree = merkleTree(items);
      this.itemTrees.set(items, tree);
    }
    return { item: items[item]!, item_path: merklePath(tree, item) };
  }

  /**
   * The payment that `params` names, when the asker is a party of it; null when it is none of the
   * asker's.
   */
  private async find(asker: LoggedIn, params: Members): Promise<Found | null> {
    const id = params.uuid("id");
    const payer = params.has("payer") ? parseAccountName(params.raw("payer")) : asker.account;
    const item = params.has("index") ? params.integer("index", 0, BATCH_ITEMS_MAX - 1) : null;
    return await this.found(asker, await this.options.ledger.payment(payer, id), item);
  }

  private async found(
    { account }: LoggedIn,
    payment: StoredPayment | null,
    item: number | null,
  ): Promise<Found | null> {
    if (payment === null) return null;
    const isPayer = account === payment.payer;
    if (payment.state === "cancelled") return isPayer ? { kind: "cancelled" } : null;
    const { itemTexts: items } = payment;
    if (items === null) {
      if (item !== null) return null;
      const isParty = isPayer || await this.payeeOf(payment) === account;
      return isParty ? { kind: "payment", payment, item } : null;
    }
    if (item === null) return isPayer ? { kind: "batch", payment } : null;
    const text = items[item];
    const isParty = text !== undefined && (isPayer || parseBatchItem(text).payee === account);
    return isParty ? { kind: "payment", payment, item } : null;
  }

  private async payeeOf({ index }: StoredPayment): Promise<string | null> {
    const { text } = await this.options.ledger.proveOne(index);
    const entry: Entry = parseEntry(text);
    return entry.type === "transfer" ? entry.payee : null;
  }

  private async answer(asker: LoggedIn, found: Found | null): Promise<PaymentAnswer> {
    if (found === null) return { state: "unknown" };
    if (found.kind === "cancelled") return { state: "cancelled" };
    const { itemTexts, index } = found.payment;
    const items = found.kind === "batch"
      ? { items: itemTexts! }
      : found.item === null
      ? {}
      : this.itemOf(itemTexts!, found.item);
    return await this.settledAnswer(asker, index, { ...quotedOrder(found.payment), ...items });
  }
}

/** The order and its delegation. Nothing of a payment that nobody signed. */
function quotedOrder({ signedText: order, delegationText: delegation }: StoredPayment): Quoted {
  return order === null || delegation === null ? {} : { order, delegation };
}
