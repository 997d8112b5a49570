/**
 * The payment client: pays, and returns once the outcome is certain. An order is stored before it
 * leaves. Whatever is lost on the way, the same bytes are sent again or the id is cancelled, until
 * the server or a verified receipt says what it has come to.
 */
import { type KeyObject, randomBytes, randomUUID } from "node:crypto";
import { BoundedMap } from "../../base/bounded_map.ts";
import {
  isRefusal,
  isSealwireError,
  isServerUntrusted,
  retryAfterMs,
  SealwireError,
} from "../../base/errors.ts";
import { encodeBase64url, type Sha256, type Uuid } from "../../base/parse.ts";
import { pause } from "../../base/retry.ts";
import { printable } from "../../base/text.ts";
import { KnownPayees } from "../../keys/known_keys.ts";
import type { AccountName, RsaPublicKey } from "../../keys/rsa.ts";
import { formatPaymentId } from "../../ledger/entry.ts";
import type { SettledPayment } from "../../ledger/receipt.ts";
import { signCancel } from "../../protocol/cancel.ts";
import { makeSessionKey } from "../../protocol/delegation.ts";
import { merkleRoot } from "../../protocol/merkle.ts";
import { type Amount, AMOUNT_MAX, formatAmount } from "../../protocol/money.ts";
import {
  type BatchOrder,
  formatBatchItem,
  isBatch,
  type Order,
  ORDER_LIFE_S_DEFAULT,
  type PaymentReference,
  SALT_BYTES,
  signBatchOrder,
  signOrder,
} from "../../protocol/order.ts";
import { type Party, TREASURY } from "../../protocol/party.ts";
import { sealMemo } from "../../protocol/sealing.ts";
import type { Token } from "../../protocol/token.ts";
import type { HistoryAnswerRow } from "../../protocol/wire.ts";
import { DirectPath } from "./direct_path.ts";
import { KeptReceipts } from "./kept_receipts.ts";
import { Outbox, type Pending } from "./outbox.ts";
import {
  ClientSession,
  isRowOf,
  type LoginOptions,
  type Payee,
  type PaymentState,
  type Settled,
  type SettledBatch,
} from "./session.ts";
import { Sessions, type SessionsOptions } from "./sessions.ts";

/** How long after its signing a direct payment may still be under way. */
const DIRECT_LEASE_S = 5;
/** Between tries to reach a server that does not answer. */
const RETRY_PAUSE_MS = 500;
const RECEIVED_MAX = 1_024;
/** Payees of a batch that are looked up at a time. */
const LOOKUPS_IN_FLIGHT_MAX = 32;

export type Way = "either" | "direct" | "via-server";

/** One settled payment, as its payer sees it. */
export interface Payment {
  readonly payment: string;
  readonly payer: string;
  readonly payee: string;
  readonly amount: string;
  readonly path: "direct" | "server";
  /** The payer's balance after it. */
  readonly balance: string;
}

export interface PayOptions {
  /** The treasury, when money is given back. */
  readonly payee: Party;
  readonly amount: Amount;
  readonly memo: string | null;
  readonly way: Way;
  /** A script's own id, so that it can run the same command again. */
  readonly id: Uuid | null;
  /** The payee's request that this pays. */
  readonly request?: Uuid;
  /** The payment that this gives back. */
  readonly refundOf?: PaymentReference;
}

/** One line of a batch. */
export interface BatchPayment {
  readonly payee: AccountName;
  readonly amount: Amount;
}

export interface Notices {
  note(text: string): void;
  warn(text: string): void;
}

/** A payment to keys that were never paid before. */
export interface FirstPayment {
  readonly payees: readonly { readonly name: AccountName; readonly key: Sha256 | null }[];
  /** What is to be paid, in minor units. */
  readonly total: bigint;
  /** What the payer has, as decimal text. */
  readonly balance: string;
}

export interface PaymentClientOptions extends Omit<SessionsOptions, "sessionKey"> {
  readonly notices: Notices;
  /** The account's keys before the current one, which open old memos. */
  readonly oldKeys: readonly KeyObject[];
  /** Asks whether to pay someone whose old key vouches for a new one. Thumbprints. */
  readonly confirmKeyChange: (payee: AccountName, known: string, key: string) => Promise<boolean>;
  /** Asks a person before money goes to a new key; null where nobody is to be asked. */
  readonly confirmPayees: ((first: FirstPayment) => Promise<boolean>) | null;
}

/** How an order ended. */
type End =
  | { readonly state: "settled"; readonly settled: Settled }
  | { readonly state: "batch"; readonly batch: SettledBatch }
  | { readonly state: "refused"; readonly error: SealwireError };

export class PaymentClient {
  readonly outbox: Outbox;
  private readonly receipts: KeptReceipts;
  private readonly payees: KnownPayees;
  private readonly sessionKey = makeSessionKey();
  private readonly directPath = new DirectPath();
  /** Payments whose receipts came last, by payer and payment. */
  private readonly received = new BoundedMap<string, SettledPayment>(RECEIVED_MAX);
  private readonly sessions: Sessions;
  /** Payments that this process is bringing to their ends. */
  private readonly underWay = new Set<Uuid>();

  private constructor(private readonly options: PaymentClientOptions, login: LoginOptions) {
    this.outbox = new Outbox(options.keysFolder, options.account);
    this.receipts = new KeptReceipts(options.keysFolder, options.account);
    this.payees = new KnownPayees(options.keysFolder);
    const onSettled = (settled: Settled | null) => {
      if (settled !== null) {
        this.keep(settled);
        this.directPath.take(settled);
      }
      login.onSettled?.(settled);
    };
    const { sessionKey } = this;
    this.sessions = new Sessions({ ...options, sessionKey }, { ...login, onSettled });
  }

  /** Connects and logs in. Throws what {@linkcode ClientSession.open} throws. */
  static async open(
    options: PaymentClientOptions,
    login: LoginOptions = {},
  ): Promise<PaymentClient> {
    const client = new PaymentClient(options, login);
    await client.sessions.open();
    return client;
  }

  get session(): ClientSession {
    return this.sessions.current;
  }

  async end(): Promise<void> {
    await this.session.end();
  }

  /** As {@linkcode Sessions.replace}. */
  replace(lost: ClientSession): Promise<void> {
    return this.sessions.replace(lost);
  }

  /**
   * Pays, and returns when the payment is settled beyond doubt.
   *
   * @throws {SealwireError} with `details.payment`: the refusal (nothing was paid and nothing will
   * be), or `outcome_unknown` (the order waits in the outbox).
   */
  async pay(options: PayOptions): Promise<Payment> {
    const { payee: name, amount, memo, way, id: givenId } = options;
    const id = givenId ?? newId();
    return await this.asUnderWay(id, async () => {
      const before = givenId === null ? null : await this.paidBefore(id, name, amount);
      if (before !== null) return before;
      const payee = await this.findPayee(name);
      const payeeKey = payee.key?.thumbprint ?? null;
      await this.pin([payee], amount);
      const { pair } = this.options;
      const sealedMemo = memo === null ? null : await sealMemo(memo, keyOf(payee), pair.publicKey);
      const purpose = { request: options.request ?? null, refundOf: options.refundOf ?? null };
      const payment = { payee: name, payeeKey, amount, memo: sealedMemo, ...purpose };
      const order = await signOrder({ ...await this.common(id), ...payment }, this.sessionKey);
      const pending = this.store(order, [], way === "direct");

      const direct = way === "via-server" ? null : await this.offerDirectly(pending, payee);
      if (direct !== null) {
        this.outbox.remove(id);
        return toPayment(direct, "direct");
      }
      const settled = requireSettled(id, await this.resolve(pending));
      return toPayment(settled, way === "direct" ? "direct" : "server");
    });
  }

  /**
   * Makes sure of a payment to this account that its history shows. One whose receipt has come need
   * not be asked for. Throws as {@linkcode ClientSession.prove} does.
   */
  async prove(row: HistoryAnswerRow): Promise<void> {
    const received = this.received.get(`${row.payer} ${row.payment}`);
    if (received === undefined || !isRowOf(row, received)) await this.session.prove(row);
  }

  private async asUnderWay<T>(id: Uuid, work: () => Promise<T>): Promise<T> {
    this.underWay.add(id);
    try {
      return await withPaymentId(id, work);
    } finally {
      this.underWay.delete(id);
    }
  }

  /** Has settled what another payer's client handed over. Throws the server's refusal. */
  async settleOffer(order: Token<Order>, delegation: string): Promise<void> {
    this.keep(await this.session.settle(order, delegation));
  }

  private async offerDirectly(pending: Pending, payee: Payee): Promise<Settled | null> {
    const { signal } = this.options;
    return await this.directPath.offer(pending, payee, this.session.checkpoint, signal);
  }

  /** Pays up to 1,000 payees under one signature, all or none. Throws as {@linkcode pay} does. */
  async payBatch(payments: readonly BatchPayment[], givenId: Uuid | null): Promise<Payment[]> {
    const id = givenId ?? newId();
    return await this.asUnderWay(id, async () => {
      const before = givenId === null ? null : await this.batchBefore(id);
      const batch = before ?? await this.payNewBatch(id, payments);
      requireSameBatch(batch, payments);
      return batch.items.map(({ index, payee, amount }) => ({
        payment: formatPaymentId(id, index),
        payer: this.options.account,
        payee,
        amount: formatAmount(amount),
        path: "server",
        balance: batch.balance,
      }));
    });
  }

  private async payNewBatch(id: Uuid, payments: readonly BatchPayment[]): Promise<SettledBatch> {
    return requireBatch(id, await this.resolve(await this.makeBatch(id, payments)));
  }

  /**
   * Brings every order that an earlier run left behind to its end, and says what that was. Those
   * for another server stay.
   *
   * @throws {SealwireError} `outcome_unknown`.
   */
  async resolveOutbox(): Promise<void> {
    for (const pending of this.outbox.all()) {
      const order = pending.order.claims;
      if (order.server !== this.server || this.underWay.has(order.id)) continue;
      if (!await this.isLeftBehind(pending)) continue;
      const what = isBatch(order)
        ? `batch payment ${order.id} of ${formatAmount(order.total)}`
        : `payment ${order.id} of ${formatAmount(order.amount)} to ${order.payee}`;
      const end = await withPaymentId(order.id, () => this.resolve(pending));
      const became = end.state === "refused"
        ? `not paid: ${printable(end.error.message)}`
        : "settled";
      this.options.notices.note(`${what}, left unfinished before, is ${became}`);
    }
  }

  /**
   * Whether it is for this process to bring the order to its end. Settling the same bytes twice
   * harms nobody; but what is to be paid directly or not at all is left to the process that may
   * still be sending it, while it may.
   */
  private async isLeftBehind({ order: { claims: order }, direct }: Pending): Promise<boolean> {
    while (direct && this.options.now_s() <= order.iat + DIRECT_LEASE_S) {
      if (this.outbox.get(order.id) === null) return false;
      await pause(RETRY_PAUSE_MS, this.options.signal);
    }
    return true;
  }

  private get server(): Sha256 {
    return this.session.server.thumbprint;
  }

  /**
   * What an order of either kind says of itself; a session that ends too soon for it is replaced
   * first.
   */
  private async common(id: Uuid) {
    const { account, now_s } = this.options;
    const iat = now_s();
    const { session } = this;
    if (session.delegation.claims.exp < iat + ORDER_LIFE_S_DEFAULT) await this.replace(session);
    return { id, server: this.server, payer: account, iat, exp: iat + ORDER_LIFE_S_DEFAULT };
  }

  private async findPayee(name: Party): Promise<Payee> {
    if (name === TREASURY) return { name, key: this.session.server, presence: null };
    if (name === this.options.account) {
      throw new SealwireError("payer_is_payee", "payer and payee are the same account");
    }
    return await this.sessions.ask((session) => session.lookup(name));
  }

  /**
   * Stops a payment to someone who has another key than when they were paid before, unless the old
   * key vouches for the new one and a person agrees, and one that a person does not confirm.
   */
  private async pin(payees: readonly Payee[], total: bigint): Promise<void> {
    const { notices, confirmPayees } = this.options;
    const accounts = payees.filter(isAccount);
    await this.replaceVouchedKeys(accounts);
    const keys = new Map(accounts.map(({ name, key }) => [name, key?.thumbprint ?? null]));
    const fresh = this.newPayees(keys);
    if (fresh.length > 0 && confirmPayees !== null) {
      const balance = await this.session.currentBalance();
      const payees = fresh.map((name) => ({ name, key: keys.get(name) ?? null }));
      if (!await confirmPayees({ payees, total, balance })) {
        throw new SealwireError("not_confirmed", "not confirmed, so nothing was paid");
      }
      this.payees.pin(this.server, keys);
      return;
    }
    for (const payee of this.payees.pin(this.server, keys)) {
      const key = keys.get(payee);
      const whose = key
        ? `whose key is ${key}`
        : "a classic account, which has no key and proves nothing";
      notices.note(`first payment to ${payee}, ${whose}`);
    }
  }

  /**
   * Follows rotations: where an old key vouches for the new one, and a person agrees, the new one
   * is known.
   */
  private async replaceVouchedKeys(
    accounts: readonly (Payee & { name: AccountName })[],
  ): Promise<void> {
    for (const payee of accounts) {
      const known = this.payees.get(this.server, payee.name);
      const key = payee.key?.thumbprint ?? null;
      if (known === null || key === null || known === key) continue;
      if (!await this.session.isVouchedFor(payee, known)) continue;
      if (await this.options.confirmKeyChange(payee.name, known, key)) {
        this.payees.replace(this.server, payee.name, known, key);
      }
    }
  }

  private newPayees(keys: ReadonlyMap<AccountName, Sha256 | null>): AccountName[] {
    try {
      return this.payees.newAmong(this.server, keys);
    } catch (error) {
      if (isSealwireError(error, "payee_key_changed")) {
        this.options.alarm(["THE PAYEE HAS ANOTHER KEY THAN BEFORE", error.message]);
      }
      throw error;
    }
  }

  private store(
    order: Token<Order | BatchOrder>,
    items: readonly string[],
    direct: boolean,
  ): Pending {
    const delegation = this.session.delegation.text;
    const pending = { order, delegation, items, direct };
    this.outbox.add(pending);
    return pending;
  }

  /** A receipt that cannot be kept is a remark: the payment itself is safe in the ledger. */
  private keep(settled: Settled): void {
    const { payer, id, item } = settled.payment;
    this.received.set(`${payer} ${formatPaymentId(id, item)}`, settled.payment);
    try {
      this.receipts.keep(settled);
    } catch (error) {
      if (!isSealwireError(error)) throw error;
      this.options.notices.warn(`the receipt is not kept here: ${printable(error.message)}`);
    }
  }

  /** What an id given with `--id` has already come to; null when it is new. */
  private async paidBefore(id: Uuid, payee: Party, amount: Amount): Promise<Payment | null> {
    const pending = this.outbox.get(id);
    if (pending !== null) {
      const order = pending.order.claims;
      if (isBatch(order) || order.payee !== payee || order.amount !== amount) throw conflict();
      return toPayment(requireSettled(id, await this.resolve(pending)), "server");
    }
    const state = await this.stateBefore(id);
    if (state === null) return null;
    if (state.state !== "settled") throw conflict();
    const { payment } = state.settled;
    if (payment.payee !== payee || payment.amount !== amount) throw conflict();
    return toPayment(state.settled, "server");
  }

  /** As {@linkcode paidBefore}, for a batch. */
  private async batchBefore(id: Uuid): Promise<SettledBatch | null> {
    const pending = this.outbox.get(id);
    if (pending !== null) return requireBatch(id, await this.resolve(pending));
    const state = await this.stateBefore(id);
    if (state === null) return null;
    if (state.state !== "batch") throw conflict();
    return state.batch;
  }

  private async stateBefore(
    id: Uuid,
  ): Promise<Exclude<PaymentState, { state: "unknown" | "cancelled" }> | null> {
    const state = await this.sessions.ask((session) => session.status(id));
    if (state.state === "unknown") return null;
    if (state.state === "cancelled") {
      throw new SealwireError("cancelled", "the payment was cancelled before: use a new id");
    }
    return state;
  }

  /** Signs and stores a batch. */
  private async makeBatch(id: Uuid, payments: readonly BatchPayment[]): Promise<Pending> {
    const payees = await this.lookUpAll([...new Set(payments.map(({ payee }) => payee))]);
    const total = payments.reduce((sum, { amount }) => sum + amount, 0n);
    if (total > AMOUNT_MAX) {
      throw new SealwireError("bad_amount", "the batch's total is more than an amount can be");
    }
    await this.pin(payees, total);
    const keys = new Map(payees.map(({ name, key }) => [name, key?.thumbprint ?? null]));
    const items = payments.map(({ payee, amount }, index) =>
      formatBatchItem({
        index,
        payee,
        payeeKey: keys.get(payee) ?? null,
        amount,
        salt: encodeBase64url(randomBytes(SALT_BYTES)),
      })
    );
    const claims = { count: items.length, total: total as Amount, itemsRoot: merkleRoot(items) };
    const order = await signBatchOrder({ ...await this.common(id), ...claims }, this.sessionKey);
    return this.store(order, items, false);
  }

  /** Looks payees up, {@linkcode LOOKUPS_IN_FLIGHT_MAX} at a time. */
  private async lookUpAll(names: readonly AccountName[]): Promise<Payee[]> {
    const payees: Payee[] = [];
    for (let start = 0; start < names.length; start += LOOKUPS_IN_FLIGHT_MAX) {
      const group = names.slice(start, start + LOOKUPS_IN_FLIGHT_MAX);
      const found = group.map((one) =>
        this.findPayee(one).catch((error) => throwAboutPayee(error, one))
      );
      payees.push(...await Promise.all(found));
    }
    return payees;
  }

  /**
   * Ends an id of this account that is not settled, for ever, and answers what it has come to.
   *
   * @throws {SealwireError} the server's refusal; `connection_lost` and the like.
   */
  async cancelId(id: Uuid): Promise<PaymentState> {
    const state = await this.cancelOpen(id);
    if (state.state === "settled") this.keep(state.settled);
    this.outbox.remove(id);
    return state;
  }

  /** Signs and sends a cancel, which ends the id unless it is settled. */
  private async cancelOpen(id: Uuid): Promise<PaymentState> {
    const { account, now_s } = this.options;
    const claims = { id, server: this.server, payer: account, iat: now_s() };
    return await this.session.cancel(await signCancel(claims, this.sessionKey));
  }

  /**
   * Brings an order to its end, however often the server must be asked, and takes it out of the
   * outbox.
   */
  private async resolve(pending: Pending): Promise<End> {
    const { timeout_ms, signal } = this.options;
    const until_ms = Date.now() + timeout_ms;
    const { id } = pending.order.claims;
    while (true) {
      const { session } = this;
      try {
        const end = pending.direct
          ? await this.cancel(pending, unreachable())
          : await this.settle(pending);
        if (end.state === "settled") this.keep(end.settled);
        this.outbox.remove(id);
        return end;
      } catch (error) {
        if (signal.aborted) throw notKnown("interrupted", "interrupted", error);
        if (isFinal(error)) throw error;
        if (Date.now() + (retryAfterMs(error) ?? 0) > until_ms) {
          throw notKnown("outcome_unknown", "the server cannot be asked", error);
        }
        await pause(RETRY_PAUSE_MS, signal).catch(() => {});
        await this.replace(session).catch((failure) => {
          if (isFinal(failure)) throw failure;
        });
      }
    }
  }

  private async settle(pending: Pending): Promise<End> {
    try {
      const { order, delegation, items } = pending;
      if (items.length > 0) {
        const batch = order as Token<BatchOrder>;
        return {
          state: "batch",
          batch: await this.session.settleBatch(batch, delegation, items),
        };
      }
      const single = order as Token<Order>;
      return { state: "settled", settled: await this.session.settle(single, delegation) };
    } catch (error) {
      if (!isRefusal(error)) throw error;
      if (error.code === "cancelled" || error.code === "order_conflict") {
        return { state: "refused", error };
      }
      // A refusal records nothing. The cancel makes sure that the order can never be settled later.
      return await this.cancel(pending, error);
    }
  }

  /** Ends the id unpaid, unless it is settled. `why`: what to say when it is not paid. */
  private async cancel({ order }: Pending, why: SealwireError): Promise<End> {
    const state = await this.cancelOpen(order.claims.id);
    switch (state.state) {
      case "settled":
        return { state: "settled", settled: state.settled };
      case "batch":
        return { state: "batch", batch: state.batch };
      case "cancelled":
        return { state: "refused", error: why };
      default:
        throw new SealwireError("bad_answer", "the server does not say that the id has ended");
    }
  }
}

/** Throws `error` again, and says in its details about which payee it is. */
function throwAboutPayee(error: unknown, payee: AccountName): never {
  if (!isSealwireError(error)) throw error;
  const details = { ...error.details, payee };
  throw new SealwireError(error.code, error.message, { cause: error, details });
}

function requireSettled(id: Uuid, end: End): Settled {
  if (end.state === "settled") return end.settled;
  throw refused(id, end);
}

function requireBatch(id: Uuid, end: End): SettledBatch {
  if (end.state === "batch") return end.batch;
  throw refused(id, end);
}

function refused(id: Uuid, end: End): SealwireError {
  if (end.state !== "refused") return conflict();
  const { code, message } = end.error;
  return new SealwireError(code, message, { cause: end.error, details: { payment: id } });
}

function requireSameBatch({ items }: SettledBatch, payments: readonly BatchPayment[]): void {
  const same = items.length === payments.length &&
    items.every(({ payee, amount }, at) =>
      payee === payments[at]!.payee && amount === payments[at]!.amount
    );
  if (!same) throw conflict();
}

function conflict(): SealwireError {
  return new SealwireError("order_conflict", "the payment id was used for another payment before");
}

function unreachable(): SealwireError {
  return new SealwireError(
    "payee_unreachable",
    "the payee could not be reached directly; the payment is cancelled and nothing was paid",
  );
}

/**
 * Errors that another try would not change: Ctrl-C, and a server that is not the one it should be.
 */
function isFinal(error: unknown): boolean {
  return isSealwireError(error, "interrupted") || isServerUntrusted(error);
}

/** It is not known yet what became of the payment. */
function notKnown(
  code: "interrupted" | "outcome_unknown",
  why: string,
  cause: unknown,
): SealwireError {
  const message = `${why}; the payment stays in the outbox, and the next command of this account ` +
    "finds out what became of it";
  return new SealwireError(code, message, { cause });
}

/** Runs `work`, and says of which payment its error is. */
async function withPaymentId<T>(id: Uuid, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!isSealwireError(error)) throw error;
    const details = { ...error.details, payment: id };
    throw new SealwireError(error.code, error.message, { cause: error, details });
  }
}

function isAccount(payee: Payee): payee is Payee & { readonly name: AccountName } {
  return payee.name !== TREASURY;
}

/** Throws `no_payee_key` for a classic account. */
function keyOf({ name, key }: Payee): RsaPublicKey {
  if (key !== null) return key;
  throw new SealwireError("no_payee_key", `${name} is a classic account, which cannot read a memo`);
}

function newId(): Uuid {
  return randomUUID() as Uuid;
}

function toPayment({ payment, balance }: Settled, path: Payment["path"]): Payment {
  const { id, item, payer, payee, amount } = payment;
  return {
    payment: formatPaymentId(id, item),
    payer,
    payee,
    amount: formatAmount(amount),
    path,
    balance,
  };
}
