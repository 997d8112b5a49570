/** Reads what the rules need to know of the ledger to judge submissions. Every row's seal is checked. */
import type { Uuid } from "../base/parse.ts";
import type { AccountName } from "../keys/rsa.ts";
import { merkleRoot } from "../protocol/merkle.ts";
import { isBatch, parseBatchItem, parseOrder } from "../protocol/order.ts";
import type { Party } from "../protocol/party.ts";
import { type Seals, storeDamaged } from "./seal.ts";
import type { LedgerView, PendingRequests } from "./settle.ts";
import type { LedgerReader, StoredPayment } from "./store.ts";
import {
  accountsOf,
  type Ending,
  endingKey,
  idOf,
  type PaymentRequest,
  refundKey,
  refundOf,
  type RefundTarget,
  requestKey,
  requestOf,
  type Submission,
} from "./submission.ts";

export interface ViewOptions {
  readonly time_s: number;
  readonly seals: Seals;
  /** A payment as committed; null where none has ended. Checks it. */
  readonly payment: (payer: Party, id: Uuid) => Promise<StoredPayment | null>;
}

/**
 * Reads all kinds of rows at once: one round trip, and one more for payments that are given back.
 *
 * @throws {SealwireError} `store_damaged`, `store_unavailable`.
 */
export async function readView(
  reader: LedgerReader,
  submissions: readonly Submission[],
  options: ViewOptions,
): Promise<LedgerView> {
  const [accounts, endings, requests, pendingRequests, refundTargets] = await Promise.all([
    readAccounts(reader, submissions, options),
    readEndings(reader, submissions, options),
    readRequests(reader, submissions, options),
    readPendingRequests(reader, submissions, options),
    readRefundTargets(reader, submissions, options),
  ]);
  return { accounts, endings, requests, pendingRequests, refundTargets };
}

async function readAccounts(
  reader: LedgerReader,
  submissions: readonly Submission[],
  { seals }: ViewOptions,
): Promise<LedgerView["accounts"]> {
  const accounts = await reader.accounts(submissions.flatMap(accountsOf));
  for (const account of accounts.values()) seals.checkAccount(account);
  return accounts;
}

async function readEndings(
  reader: LedgerReader,
  submissions: readonly Submission[],
  { seals }: ViewOptions,
): Promise<LedgerView["endings"]> {
  const endings = new Map<string, Ending>();
  for (const ending of await reader.endings(submissions.flatMap((one) => idOf(one) ?? []))) {
    seals.checkEnding(ending);
    endings.set(endingKey(ending.payer, ending.id), ending);
  }
  return endings;
}

async function readRequests(
  reader: LedgerReader,
  submissions: readonly Submission[],
  { seals }: ViewOptions,
): Promise<LedgerView["requests"]> {
  const requests = new Map<string, PaymentRequest>();
  const ids = submissions.flatMap((one) => requestOf(one) ?? []);
  if (ids.length === 0) return requests;
  for (const request of await reader.requests(ids)) {
    seals.checkRequest(request);
    requests.set(requestKey(request.payee, request.id), request);
  }
  return requests;
}

async function readPendingRequests(
  reader: LedgerReader,
  submissions: readonly Submission[],
  { time_s }: ViewOptions,
): Promise<LedgerView["pendingRequests"]> {
  const pending = new Map<AccountName, PendingRequests>();
  const payees = submissions.flatMap((one) => one.type === "request" ? one.request.payee : []);
  if (payees.length === 0) return pending;
  for (const [payee, payers] of await reader.pendingRequests(payees, time_s)) {
    pending.set(payee, countPending(payers));
  }
  return pending;
}

/** The payments that `submissions` give back. A payment that has ended never changes, so it is read as committed. */
async function readRefundTargets(
  reader: LedgerReader,
  submissions: readonly Submission[],
  { seals, payment: readPayment }: ViewOptions,
): Promise<LedgerView["refundTargets"]> {
  const targets = new Map<string, RefundTarget>();
  const references = submissions.flatMap((one) => refundOf(one) ?? []);
  if (references.length === 0) return targets;
  const totals = new Map<string, bigint>();
  for (const refund of await reader.refundTotals(references)) {
    seals.checkRefund(refund);
    totals.set(refundKey(refund.reference), refund.total);
  }
  await Promise.all(references.map(async (reference) => {
    const key = refundKey(reference);
    const payment = await readPayment(reference.payer, reference.id);
    const paid = payment && paidBy(payment, reference.item);
    if (paid) targets.set(key, { ...paid, reference, refunded: totals.get(key) ?? 0n });
  }));
  return targets;
}

function countPending(payers: readonly (AccountName | null)[]): PendingRequests {
  const byPayer = new Map<AccountName, number>();
  for (const payer of payers) {
    if (payer !== null) byPayer.set(payer, (byPayer.get(payer) ?? 0) + 1);
  }
  return { total: payers.length, byPayer };
}

/** What a stored payment paid by an order; null for what is cancelled, unsigned, or no such item. */
function paidBy(
  { state, signedText, itemTexts }: StoredPayment,
  item: number | null,
): Pick<RefundTarget, "payee" | "amount" | "isRefund"> | null {
  if (state !== "settled" || signedText === null) return null;
  const { claims } = parseOrder(signedText);
  if (!isBatch(claims)) {
    if (item !== null) return null;
    return { payee: claims.payee, amount: claims.amount, isRefund: claims.refundOf !== null };
  }
  const text = item === null ? undefined : itemTexts?.[item];
  if (text === undefined) return null;
  if (merkleRoot(itemTexts!) !== claims.itemsRoot) {
    throw storeDamaged(`the items of batch ${claims.id} were changed in the database`);
  }
  const { payee, amount } = parseBatchItem(text);
  return { payee, amount, isRefund: false };
}
