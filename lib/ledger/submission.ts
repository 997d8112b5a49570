/**
 * What the ledger is asked to do, and how each such submission ends. The rules that decide are in
 * `settle.ts`.
 *
 * - `settled`: the money moved, by an entry of this commit, or of an earlier one when the same
 *   bytes came before (`again`);
 * - `cancelled`: the payer ended the id unpaid, now or before;
 * - `opened`: the account exists under that key, now or before;
 * - `recorded`: the operator's entry is in the log;
 * - `rotated`: the account has the new key, now or before;
 * - `request`: a payee's request is stored, or has ended;
 * - `refused`: the rules say no. A refusal records nothing.
 */
import type { Sha256, Uuid } from "../base/parse.ts";
import type { AccountName } from "../keys/rsa.ts";
import type { SignedCancel } from "../protocol/cancel.ts";
import type { Delegation, DelegationFlaw } from "../protocol/delegation.ts";
import type { Amount } from "../protocol/money.ts";
import {
  type BatchItem,
  isBatch,
  type PaymentReference,
  type SignedOrder,
} from "../protocol/order.ts";
import { type Party, TREASURY } from "../protocol/party.ts";
import type { SignedRotation } from "../protocol/rotation.ts";
import type { Token } from "../protocol/token.ts";
import type {
  LedgerContinued,
  LedgerMoved,
  LedgerOpen,
  LedgerRollback,
  LedgerSettings,
} from "./entry.ts";
import type { Invite } from "./invite.ts";

/** How an id ended, for ever. */
export interface Ending {
  /** SHA-256 of what ended it: the order, the cancel, or the content of an unsigned payment. */
  readonly contentSha256: Sha256;
  readonly state: "settled" | "cancelled";
  /** The entry that says so. */
  readonly index: number;
}

export type RefusalReason =
  | DelegationFlaw
  | "cancelled"
  | "insufficient_funds"
  | "ledger_moved"
  | "name_reserved"
  | "name_taken"
  | "order_conflict"
  | "order_expired"
  | "order_from_future"
  | "payee_key_changed"
  | "payer_is_payee"
  | "invite_required"
  | "invite_used"
  | "refund_of_refund"
  | "refund_too_much"
  | "refund_unknown"
  | "request_declined"
  | "request_differs"
  | "request_expired"
  | "request_limit"
  | "request_paid"
  | "request_unknown"
  | "request_withdrawn"
  | "registration_closed"
  | "signature_required"
  | "treasury_limit"
  | "unknown_account"
  | "unknown_payee"
  | "wrong_key";

export type Submission =
  | {
    readonly type: "open";
    readonly delegation: Token<Delegation>;
    /** The invite's own id where there is one. */
    readonly id: Uuid;
    readonly invite?: Invite;
  }
  /** A classic client registers with a name and no key. */
  | { readonly type: "open-classic"; readonly account: AccountName; readonly id: Uuid }
  | {
    readonly type: "grant";
    readonly id: Uuid;
    readonly payee: AccountName;
    readonly amount: Amount;
  }
  | { readonly type: "order"; readonly signed: SignedOrder; readonly items: readonly BatchItem[] }
  /**
   * A classic client's order: no signature, and therefore nobody's money but a classic account's.
   */
  | {
    readonly type: "unsigned";
    readonly id: Uuid;
    readonly payer: AccountName;
    readonly payee: AccountName;
    readonly amount: Amount;
  }
  | { readonly type: "cancel"; readonly signed: SignedCancel }
  | { readonly type: "rotate"; readonly signed: SignedRotation }
  /** The payee asks for money, in a session of their own. */
  | { readonly type: "request"; readonly request: NewRequest }
  /** The payer declines a request, or its payee withdraws it. */
  | {
    readonly type: "close-request";
    readonly by: AccountName;
    readonly payee: AccountName;
    readonly id: Uuid;
  }
  /** What the operator enters. */
  | { readonly type: "operator"; readonly fact: OperatorFact };

export type OperatorFact =
  | LedgerOpen
  | LedgerSettings
  | LedgerRollback
  | LedgerMoved
  | LedgerContinued;

export type Outcome =
  | { readonly state: "settled"; readonly index: number; readonly again: boolean }
  | { readonly state: "cancelled"; readonly index: number; readonly again: boolean }
  | { readonly state: "opened"; readonly index: number; readonly again: boolean }
  | { readonly state: "recorded"; readonly index: number }
  | { readonly state: "rotated"; readonly index: number; readonly again: boolean }
  /** A request is stored, or has ended; the log has no entry of it before it is paid. */
  | { readonly state: "request"; readonly request: PaymentRequest }
  | { readonly state: "refused"; readonly reason: RefusalReason };

/** What a payee asks for. */
export interface NewRequest {
  /** The payee's own id. */
  readonly id: Uuid;
  readonly payee: AccountName;
  /** Null: anyone may pay it. */
  readonly payer: AccountName | null;
  readonly amount: Amount;
  /** Canonical JSON of a memo sealed to both; clear text where anyone may pay; null for none. */
  readonly memo: string | null;
  /** Seconds that it lives, {@linkcode REQUEST_LIFE_S_MAX} at most. */
  readonly life_s: number;
}

export interface PaymentRequest extends Omit<NewRequest, "life_s"> {
  readonly created_s: number;
  readonly expires_s: number;
  readonly state: "pending" | "declined" | "withdrawn" | "paid";
  /** The entry that paid it; 0 for none. */
  readonly index: number;
}

/** The longest that a request lives: 30 days. */
export const REQUEST_LIFE_S_MAX = 30 * 86_400;
/** Pending requests of one payee, to one payer and in all. */
export const REQUESTS_TO_PAYER_MAX = 20;
export const REQUESTS_MAX = 100;

/** A settled payment as a refund of it sees it. */
export interface RefundTarget {
  readonly reference: PaymentReference;
  readonly payee: Party;
  readonly amount: Amount;
  /** It gives back another payment itself. */
  readonly isRefund: boolean;
  /** Given back so far. */
  readonly refunded: bigint;
}

/** How much of a payment has been given back. */
export interface RefundTotal {
  readonly reference: PaymentReference;
  readonly total: bigint;
  /** Index of the last refund's entry. */
  readonly changed: number;
}

export function requestKey(payee: AccountName, id: Uuid): string {
  return `${payee} ${id}`;
}

export function refundKey({ payer, id, item }: PaymentReference): string {
  return `${payer} ${id} ${item ?? "-"}`;
}

/** An id that ends in this commit. */
export interface NewEnding extends Ending {
  readonly payer: Party;
  readonly id: Uuid;
  readonly submission: Submission;
}

/** The idempotency key: an id is the payer's own, so nobody can use up another's. */
export function endingKey(payer: Party, id: Uuid): string {
  return `${payer} ${id}`;
}

/** The names of all accounts that `submission` may touch, so that they can be loaded before. */
export function accountsOf(submission: Submission): Party[] {
  switch (submission.type) {
    case "open":
      return [TREASURY, submission.delegation.claims.account];
    case "open-classic":
      return [TREASURY, submission.account];
    case "grant":
      return [TREASURY, submission.payee];
    case "unsigned":
      return [submission.payer, submission.payee];
    case "cancel":
      return [submission.signed.cancel.claims.payer];
    case "operator":
      return [];
    case "rotate":
      return [submission.signed.rotation.claims.account];
    case "request": {
      const { payee, payer } = submission.request;
      return payer === null ? [payee] : [payee, payer];
    }
    case "close-request":
      return [submission.by, submission.payee];
    case "order": {
      const order = submission.signed.order.claims;
      const payees = isBatch(order) ? submission.items.map((item) => item.payee) : [order.payee];
      return [order.payer, ...payees];
    }
  }
}

/** The id that `submission` uses, if any. */
export function idOf(submission: Submission): { payer: Party; id: Uuid } | null {
  switch (submission.type) {
    case "open":
    case "open-classic":
    case "grant":
      return { payer: TREASURY, id: submission.id };
    case "unsigned":
      return submission;
    case "cancel":
      return submission.signed.cancel.claims;
    case "order":
      return submission.signed.order.claims;
    case "operator":
    case "rotate":
    case "request":
    case "close-request":
      return null;
  }
}

/** The request that `submission` is about, if any. */
export function requestOf(submission: Submission): { payee: AccountName; id: Uuid } | null {
  switch (submission.type) {
    case "request":
      return submission.request;
    case "close-request":
      return submission;
    case "order": {
      const order = submission.signed.order.claims;
      if (isBatch(order) || order.request === null || order.payee === TREASURY) return null;
      return { payee: order.payee, id: order.request };
    }
    default:
      return null;
  }
}

/** The payment that `submission` gives back, if any. */
export function refundOf(submission: Submission): PaymentReference | null {
  if (submission.type !== "order") return null;
  const order = submission.signed.order.claims;
  return isBatch(order) ? null : order.refundOf;
}

/** How many accounts `submission` may credit: its share of a commit. */
export function weightOf(submission: Submission): number {
  return submission.type === "order" ? Math.max(submission.items.length, 1) : 1;
}
