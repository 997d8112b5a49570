/**
 * What the ledger is asked to do, and how each such submission ends. The rules that decide are in `settle.ts`.
 *
 * - `settled`: the money moved, as entries of this block, or of an earlier one when the same bytes came before (`again`);
 * - `void`: a validly signed order that the rules refuse, or one its payer cancelled; recorded, and void for ever;
 * - `rejected`: not the payer's valid order for this server, or other bytes under a used id; nothing is recorded;
 * - `opened`: the account exists under that key, now or before.
 */
import type { Delegation, DelegationFlaw } from "../protocol/delegation.ts";
import type { AccountName } from "../keys/rsa.ts";
import type { Amount } from "../protocol/money.ts";
import { type BatchItem, isBatch, type SignedOrder } from "../protocol/order.ts";
import type { Sha256, Uuid } from "../base/parse.ts";
import type { Token } from "../protocol/token.ts";
import { type Party, TREASURY } from "./entry.ts";

/** What an id ended as. */
export interface RecordedOutcome {
  /** SHA-256 of what was submitted under the id; null for one cancelled before any order came. */
  readonly contentSha256: Sha256 | null;
  readonly end: { readonly settled: SettledEntries } | { readonly void: VoidReason };
}

/** Where a payment's entries are: `count` of them from `seq` on. */
export interface SettledEntries {
  readonly seq: number;
  readonly count: number;
}

export type VoidReason =
  | "cancelled"
  | "order_expired"
  | "order_from_future"
  | "unknown_payee"
  | "payee_key_changed"
  | "insufficient_funds"
  | "balance_limit";

export type RejectReason =
  | DelegationFlaw
  | "name_taken"
  | "order_conflict"
  | "payer_is_payee"
  | "signature_required"
  | "treasury_limit"
  | "unknown_account"
  | "wrong_key";

export type Submission =
  | {
    readonly type: "open";
    readonly delegation: Token<Delegation>;
    readonly id: Uuid;
    /** Minor units that the treasury opens the account with; may be 0. */
    readonly openingBalance: bigint;
  }
  /** What a classic client says to register: a name, and no key. */
  | {
    readonly type: "open-classic";
    readonly account: AccountName;
    readonly id: Uuid;
    readonly openingBalance: bigint;
  }
  | {
    readonly type: "grant";
    readonly id: Uuid;
    readonly payee: AccountName;
    readonly amount: Amount;
  }
  | { readonly type: "order"; readonly signed: SignedOrder; readonly items: readonly BatchItem[] }
  /** What a classic client says: no signature, and therefore nobody's money but a classic account's. */
  | {
    readonly type: "unsigned";
    readonly id: Uuid;
    readonly payer: AccountName;
    readonly payee: AccountName;
    readonly amount: Amount;
  }
  | { readonly type: "cancel"; readonly payer: AccountName; readonly id: Uuid };

export type Outcome =
  | { readonly state: "settled"; readonly entries: SettledEntries; readonly again: boolean }
  | { readonly state: "void"; readonly reason: VoidReason; readonly again: boolean }
  /** Of an unsigned order also for what makes a signed one void: its id is the server's, so there is none to use up. */
  | { readonly state: "rejected"; readonly reason: RejectReason | VoidReason }
  | { readonly state: "opened"; readonly again: boolean };

/** An id that ends in this block. */
export interface NewOutcome extends RecordedOutcome {
  readonly payer: Party;
  readonly id: Uuid;
  readonly submission: Submission;
}

/** The idempotency key: an id is the payer's own, so nobody can use up another's. */
export function outcomeKey(payer: Party, id: Uuid): string {
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
      return [];
    case "order": {
      const order = submission.signed.order.claims;
      const payees = isBatch(order) ? submission.items.map((item) => item.payee) : [order.payee];
      return [order.payer, ...payees];
    }
  }
}

/** The ids that `submission` uses. */
export function idOf(submission: Submission): { payer: Party; id: Uuid } {
  switch (submission.type) {
    case "open":
    case "open-classic":
    case "grant":
      return { payer: TREASURY, id: submission.id };
    case "unsigned":
    case "cancel":
      return submission;
    case "order":
      return submission.signed.order.claims;
  }
}

/** How many transfers `submission` may add to a block. */
export function transferCount(submission: Submission): number {
  return submission.type === "order" ? Math.max(submission.items.length, 1) : 1;
}
