/**
 * Converts rows of either database to the ledger's values. The columns have the same names in both.
 */
import type { Sha256, Uuid } from "../base/parse.ts";
import type { AccountName } from "../keys/rsa.ts";
import type { Amount, Unit } from "../protocol/money.ts";
import type { Party } from "../protocol/party.ts";
import type { Registration } from "./entry.ts";
import type { Account, Posting } from "./settle.ts";
import type { EndingRow, Head, Sealed, StoreCounts } from "./store.ts";
import type { Ending, PaymentRequest, RefundTotal } from "./submission.ts";

/** A row as a driver gives it: numbers of 64 bits as bigint or as text, never as a float. */
export type StoredRow = Readonly<Record<string, unknown>>;

/** Stands for an item's index when the payment is not part of a batch. */
export const NO_ITEM = -1;

export function headOf(row: StoredRow): Sealed<Head> {
  return {
    size: Number(row.size),
    root: row.root as Sha256,
    time_s: Number(row.time_s),
    server: row.server as Sha256,
    unit: row.unit as Unit,
    settings: {
      openingBalance: bigintOf(row.opening_balance),
      registration: row.registration as Registration,
    },
    seal: String(row.seal),
  };
}

export function accountOf(row: StoredRow): Sealed<Account> {
  return {
    name: row.name as Party,
    key: row.key as Sha256 | null,
    balance: bigintOf(row.balance),
    opened: Number(row.opened),
    keyed: Number(row.keyed),
    changed: Number(row.changed),
    seal: String(row.seal),
  };
}

export function endingOf(row: StoredRow): Sealed<EndingRow> {
  return {
    payer: row.payer as Party,
    id: row.id as Uuid,
    state: row.state as Ending["state"],
    contentSha256: row.content_sha256 as Sha256,
    index: Number(row.entry_index),
    seal: String(row.seal),
  };
}

export function requestOf(row: StoredRow): Sealed<PaymentRequest> {
  return {
    payee: row.payee as AccountName,
    id: row.id as Uuid,
    payer: row.payer as AccountName | null,
    amount: bigintOf(row.amount) as Amount,
    memo: row.memo as string | null,
    created_s: Number(row.created_s),
    expires_s: Number(row.expires_s),
    state: row.state as PaymentRequest["state"],
    index: Number(row.entry_index),
    seal: String(row.seal),
  };
}

export function postingOf(row: StoredRow): Posting {
  return {
    account: row.account as Party,
    index: Number(row.entry_index),
    balance: bigintOf(row.balance),
  };
}

export function refundOf(row: StoredRow): Sealed<RefundTotal> {
  const item = Number(row.item);
  return {
    reference: {
      payer: row.payer as AccountName,
      id: row.id as Uuid,
      item: item === NO_ITEM ? null : item,
    },
    total: bigintOf(row.total),
    changed: Number(row.changed),
    seal: String(row.seal),
  };
}

export function countsOf(row: StoredRow): StoreCounts {
  return {
    entries: Number(row.entries),
    postings: Number(row.postings),
    endings: Number(row.endings),
    tiles: Number(row.tiles),
    paidRequests: Number(row.paid_requests),
    refunds: Number(row.refunds),
  };
}

export function bigintOf(value: unknown): bigint {
  return BigInt(value as bigint | string);
}
