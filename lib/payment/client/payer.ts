/**
 * The payment client: pays, and ends up knowing. An order is stored before it leaves; whatever is lost on the way, the same
 * bytes are sent again or the id is cancelled, until the server or a verified receipt says what it has come to.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { printable } from "../../base/text.ts";
import { makeSessionKey } from "../../protocol/delegation.ts";
import {
  isRefusal,
  isSealwireError,
  isServerUntrusted,
  peerError,
  SealwireError,
} from "../../base/errors.ts";
import type { AccountName, RsaPublicKey } from "../../keys/rsa.ts";
import { formatPaymentId } from "../../ledger/entry.ts";
import { merkleRoot } from "../../protocol/merkle.ts";
import { type Amount, AMOUNT_MAX, formatAmount } from "../../protocol/money.ts";
import {
  type BatchOrder,
  formatBatchItem,
  isBatch,
  type Order,
  ORDER_LIFE_S_DEFAULT,
  signBatchOrder,
  signOrder,
} from "../../protocol/order.ts";
import type { Sha256, Uuid } from "../../base/parse.ts";
import { sealMemo } from "../../protocol/sealing.ts";
import type { Token } from "../../protocol/token.ts";
import { KnownPayees } from "../../keys/known_keys.ts";
import { DirectPath } from "./direct_path.ts";
import { Outbox, type Pending } from "./outbox.ts";
import {
  ClientSession,
  isVoid,
  type LoginOptions,
  type Payee,
  type SessionOptions,
  type Settled,
} from "./session.ts";

/** How long after its signing a direct payment may still be under way. */
const DIRECT_LEASE_S = 5;
/** Between tries to reach a server that does not answer. */
const RETRY_PAUSE_MS = 500;
/** Questions about a batch that are asked at a time. */
const CALLS_IN_FLIGHT_MAX = 32;

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
  readonly payee: AccountName;
  readonly amount: Amount;
  readonly memo: string | null;
  readonly way: Way;
  /** A script's own id, so that it can run the same command again. */
  readonly id: Uuid | null;
}

export interface Notices {
  note(text: string): void;
  warn(text: string): void;
}

export interface PaymentClientOptions extends Omit<SessionOptions, "sessionKey"> {
  readonly notices: Notices;
}

/** What became of an order. */
type End =
  /** `settled` null: a batch. */
  | { readonly settled: Settled | null }
  | { readonly refused: SealwireError };

export class PaymentClient {
  readonly outbox: Outbox;
  private readonly payees: KnownPayees;
  private readonly sessionKey = makeSessionKey();
  private readonly directPath = new DirectPath();
  private current!: ClientSession;
  private connecting: Promise<void> | null = null;

  private constructor(
    private readonly options: PaymentClientOptions,
    private readonly login: LoginOptions,
  ) {
    this.outbox = new Outbox(options.keysFolder, options.account);
    this.payees = new KnownPayees(options.keysFolder);
  }

  /** Connects and logs in. Throws what {@linkcode ClientSession.open} throws. */
  static async open(
    options: PaymentClientOptions,
    login: LoginOptions = {},
  ): Promise<PaymentClient> {
    const client = new PaymentClient(options, login);
    await client.connect(login);
    return client;
  }

  get session(): ClientSession {
    return this.current;
  }

  async end(): Promise<void> {
    await this.current.end();
  }

  /**
   * A new session in place of `lost`, unless there is one already; those who ask meanwhile get the same one. `lost` is closed
   * first, lest the server see a second listener in the new one, and displace the first.
   */
  replace(lost: ClientSession): Promise<void> {
    if (lost !== this.current) return Promise.resolve();
    lost.destroy();
    this.connecting ??= this.connect({ ...this.login, register: false })
      .finally(() => this.connecting = null);
    return this.connecting;
  }

  private async connect(login: LoginOptions): Promise<void> {
    const onSettled = (settled: Settled | null) => {
      if (settled !== null) this.directPath.take(settled);
      this.login.onSettled?.(settled);
    };
    const { sessionKey } = this;
    this.current = await ClientSession.open({ ...this.options, sessionKey }, {
      ...login,
      onSettled,
    });
  }

  /**
   * Pays, and returns when the payment is settled beyond doubt.
   *
   * @throws {SealwireError} with `details.payment`: the refusal (nothing was paid and nothing will be), or
   * `outcome_unknown` (the order waits in the outbox).
   */
  async pay({ payee: name, amount, memo, way, id: givenId }: PayOptions): Promise<Payment> {
    const id = givenId ?? newId();
    return await naming(id, async () => {
      const before = givenId === null ? null : await this.paidBefore(id, name, amount);
      if (before !== null) return before;
      const payee = await this.findPayee(name);
      const payeeKey = payee.key?.thumbprint ?? null;
      this.pin(new Map([[name, payeeKey]]));
      const { pair } = this.options;
      const sealedMemo = memo === null ? null : await sealMemo(memo, keyOf(payee), pair.publicKey);
      const payment = { payee: name, payeeKey, amount, memo: sealedMemo };
      const order = await signOrder({ ...await this.common(id), ...payment }, this.sessionKey);
      const pending = this.store(order, [], way === "direct");

      const direct = way === "via-server"
        ? null
        : await this.directPath.offer(pending, payee, this.options.signal);
      if (direct !== null) {
        this.outbox.remove(id);
        return toPayment(direct, "direct");
      }
      const settled = this.requireSettled(id, await this.resolve(pending));
      return toPayment(settled!, way === "direct" ? "direct" : "server");
    });
  }

  /** Pays up to 1,000 payees under one signature, all or none. Throws as {@linkcode pay} does. */
  async payBatch(
    payments: readonly { payee: AccountName; amount: Amount }[],
    givenId: Uuid | null,
  ): Promise<Payment[]> {
    const id = givenId ?? newId();
    return await naming(id, async () => {
      const pending = this.outbox.get(id) ?? await this.makeBatch(id, givenId !== null, payments);
      if (pending !== null) this.requireSettled(id, await this.resolve(pending));
      return await this.batchPayments(id, payments);
    });
  }

  /**
   * Brings every order that an earlier run left behind to its end, and says what that was. Those for another server stay.
   *
   * @throws {SealwireError} `outcome_unknown`.
   */
  async resolveOutbox(): Promise<void> {
    for (const pending of this.outbox.all()) {
      const order = pending.order.claims;
      if (order.server !== this.server || !await this.isLeftBehind(pending)) continue;
      const what = isBatch(order)
        ? `batch payment ${order.id} of ${formatAmount(order.total)}`
        : `payment ${order.id} of ${formatAmount(order.amount)} to ${order.payee}`;
      const end = await naming(order.id, () => this.resolve(pending));
      const became = "refused" in end ? `not paid: ${printable(end.refused.message)}` : "settled";
      this.options.notices.note(`${what}, left unfinished before, is ${became}`);
    }
  }

  /**
   * Whether it is for this process to bring the order to its end. Settling the same bytes twice harms nobody; but what is to
   * be paid directly or not at all is left to the process that may still be sending it, while it may.
   */
  private async isLeftBehind({ order: { claims: order }, direct }: Pending): Promise<boolean> {
    while (direct && this.options.now_s() <= order.iat + DIRECT_LEASE_S) {
      if (this.outbox.get(order.id) === null) return false;
      await pause(RETRY_PAUSE_MS, this.options.signal);
    }
    return true;
  }

  private get server(): Sha256 {
    return this.current.server.thumbprint;
  }

  /** What an order of either kind says of itself; a session that ends too soon for it is replaced first. */
  private async common(id: Uuid) {
    const { account, now_s } = this.options;
    const iat = now_s();
    const { current } = this;
    if (current.delegation.claims.exp < iat + ORDER_LIFE_S_DEFAULT) await this.replace(current);
    return { id, server: this.server, payer: account, iat, exp: iat + ORDER_LIFE_S_DEFAULT };
  }

  private async findPayee(name: AccountName): Promise<Payee> {
    if (name === this.options.account) {
      throw new SealwireError("payer_is_payee", "payer and payee are the same account");
    }
    return await this.current.lookup(name);
  }

  /** Stops a payment to whoever has another key than when they were paid before. */
  private pin(keys: ReadonlyMap<AccountName, Sha256 | null>): void {
    for (const payee of this.payees.pin(this.server, keys)) {
      const key = keys.get(payee);
      const whose = key
        ? `whose key is ${key}`
        : "a classic account, which has no key and proves nothing";
      this.options.notices.note(`first payment to ${payee}, ${whose}`);
    }
  }

  private store(
    order: Token<Order | BatchOrder>,
    items: readonly string[],
    direct: boolean,
  ): Pending {
    const delegation = this.current.delegation.text;
    const pending = { order, delegation, items, direct };
    this.outbox.add(pending);
    return pending;
  }

  /** What an id given with `--id` has already come to; null when it is new. */
  private async paidBefore(id: Uuid, payee: AccountName, amount: Amount): Promise<Payment | null> {
    const conflict = () =>
      new SealwireError("order_conflict", "the payment id was used for another payment before");
    const pending = this.outbox.get(id);
    if (pending !== null) {
      const order = pending.order.claims;
      if (isBatch(order) || order.payee !== payee || order.amount !== amount) throw conflict();
      return toPayment(this.requireSettled(id, await this.resolve(pending))!, "server");
    }
    const state = await this.current.status(id);
    if (state.state === "unknown") return null;
    if (state.state === "void") throw voided(state.reason);
    const transfer = state.settled?.receipt.transfer;
    if (transfer?.payee !== payee || transfer.amount !== amount) throw conflict();
    return toPayment(state.settled!, "server");
  }

  /** Signs and stores a batch; null when the id is settled already. */
  private async makeBatch(
    id: Uuid,
    mayBeKnown: boolean,
    payments: readonly { payee: AccountName; amount: Amount }[],
  ): Promise<Pending | null> {
    if (mayBeKnown) {
      const state = await this.current.status(id);
      if (state.state === "void") throw voided(state.reason);
      if (state.state === "settled") return null;
    }
    const names = [...new Set(payments.map(({ payee }) => payee))];
    const keys = new Map(
      await inTurns(names, async (name) => {
        const { key } = await this.findPayee(name);
        return [name, key?.thumbprint ?? null] as const;
      }),
    );
    this.pin(keys);
    const items = payments.map(({ payee, amount }, index) =>
      formatBatchItem({ index, payee, payeeKey: keys.get(payee) ?? null, amount })
    );
    const total = payments.reduce((sum, { amount }) => sum + amount, 0n);
    if (total > AMOUNT_MAX) {
      throw new SealwireError("bad_amount", "the batch's total is more than an amount can be");
    }
    const claims = { count: items.length, total: total as Amount, itemsRoot: merkleRoot(items) };
    const order = await signBatchOrder({ ...await this.common(id), ...claims }, this.sessionKey);
    const pending = this.store(order, items, false);
    return pending;
  }

  /** A settled batch's payments, each with its receipt verified, and checked to be those that were asked for. */
  private async batchPayments(
    id: Uuid,
    payments: readonly { payee: AccountName; amount: Amount }[],
  ): Promise<Payment[]> {
    const balance = await this.current.currentBalance();
    return await inTurns([...payments.entries()], async ([index, { payee, amount }]) => {
      const receipt = await this.current.receipt(id, index);
      const { transfer } = receipt;
      if (transfer.payee !== payee || transfer.amount !== amount || transfer.id !== id) {
        throw new SealwireError(
          "order_conflict",
          "the payment id was used for another payment before",
        );
      }
      return toPayment({ receipt, balance }, "server");
    });
  }

  /** Brings an order to its end, however often the server must be asked, and takes it out of the outbox. */
  private async resolve(pending: Pending): Promise<End> {
    const { timeout_ms, signal } = this.options;
    const until_ms = Date.now() + timeout_ms;
    const { id } = pending.order.claims;
    while (true) {
      const { current } = this;
      try {
        const end = pending.direct ? await this.cancel(pending) : await this.settle(pending);
        this.outbox.remove(id);
        return end;
      } catch (error) {
        if (signal.aborted) throw notKnown("interrupted", "interrupted", error);
        // The order has left, and may be settled: even an error that is not worth another try leaves that open.
        if (isServerUntrusted(error)) throw error;
        if (Date.now() > until_ms) {
          throw notKnown("outcome_unknown", "the server cannot be asked", error);
        }
        await pause(RETRY_PAUSE_MS, signal).catch(() => {});
        await this.replace(current).catch((failure) => {
          if (isServerUntrusted(failure)) throw failure;
        });
      }
    }
  }

  private async settle({ order, delegation, items }: Pending): Promise<End> {
    try {
      return { settled: await this.current.settle(order.text, delegation, items) };
    } catch (error) {
      if (!isRefusal(error)) throw error;
      if (isVoid(error) || error.code === "order_conflict") return { refused: error };
      // Nothing was recorded of it; this makes sure that nothing ever will be.
      const state = await this.current.cancel(order.claims.id);
      return state.state === "settled" ? { settled: state.settled } : { refused: error };
    }
  }

  private async cancel({ order }: Pending): Promise<End> {
    const state = await this.current.cancel(order.claims.id);
    if (state.state === "settled") return { settled: state.settled };
    const message =
      "the payee could not be reached directly; the payment is cancelled and nothing was paid";
    return { refused: new SealwireError("payee_unreachable", message) };
  }

  private requireSettled(id: Uuid, end: End): Settled | null {
    if ("refused" in end) {
      const { code, message, details } = end.refused;
      throw new SealwireError(code, message, {
        cause: end.refused,
        details: { ...details, payment: id },
      });
    }
    return end.settled;
  }
}

/** What became of the payment is not known yet. */
function notKnown(
  code: "interrupted" | "outcome_unknown",
  why: string,
  cause: unknown,
): SealwireError {
  const message = `${why}; the payment stays in the outbox, and the next command of this account ` +
    "finds out what became of it";
  return new SealwireError(code, message, { cause });
}

function voided(reason: string): SealwireError {
  return peerError(reason, `the payment id is void: ${reason}`);
}

/** Runs `work`, and says of which payment its error is. */
async function naming<T>(id: Uuid, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!isSealwireError(error)) throw error;
    const details = { ...error.details, payment: id };
    throw new SealwireError(error.code, error.message, { cause: error, details });
  }
}

/** Throws `no_payee_key` for a classic account. */
function keyOf({ name, key }: Payee): RsaPublicKey {
  if (key !== null) return key;
  throw new SealwireError("no_payee_key", `${name} is a classic account, which cannot read a memo`);
}

function newId(): Uuid {
  return randomUUID() as Uuid;
}

function toPayment({ receipt: { transfer }, balance }: Settled, path: Payment["path"]): Payment {
  const { id, index, payer, payee, amount } = transfer;
  return {
    payment: formatPaymentId(id, index),
    payer,
    payee,
    amount: formatAmount(amount),
    path,
    balance,
  };
}

/** `work` on each of `values`, {@linkcode CALLS_IN_FLIGHT_MAX} at a time, results in order. */
async function inTurns<V, R>(values: readonly V[], work: (value: V) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let start = 0; start < values.length; start += CALLS_IN_FLIGHT_MAX) {
    results.push(...await Promise.all(values.slice(start, start + CALLS_IN_FLIGHT_MAX).map(work)));
  }
  return results;
}

/** @throws the signal's reason when it is aborted meanwhile. */
async function pause(duration_ms: number, signal: AbortSignal): Promise<void> {
  await delay(duration_ms, undefined, { signal }).catch(() => signal.throwIfAborted());
}
