/**
 * Between rows and what the ledger works with. Whole columns travel as one array each, so that a commit of a thousand
 * payments is a few statements. Numbers of 64 bits travel as text and are never a float.
 */
import { Buffer } from "node:buffer";
import type { Sha256, Uuid } from "../base/parse.ts";
import type { AccountName, RsaPublicJwk } from "../keys/rsa.ts";
import type { Amount, Unit } from "../protocol/money.ts";
import type { Party } from "../protocol/party.ts";
import type { Registration } from "./entry.ts";
import type { PostgresRow, PostgresValue } from "./postgres_session.ts";
import { storeDamaged } from "./seal.ts";
import type { Account, Posting } from "./settle.ts";
import type {
  EndingRow,
  Head,
  HistoryRow,
  NewPayment,
  Sealed,
  StoredAccount,
  StoredPayment,
} from "./store.ts";
import type { Ending, PaymentRequest, RefundTotal } from "./submission.ts";

/** In the place of an item's index: the payment is none of a batch. */
export const NO_ITEM = -1;

/** An array as PostgreSQL writes it (documentation, 8.15.2). */
export function arrayOf(values: Iterable<string | number | bigint | null>): string {
  const elements = Array.from(values, (value) => {
    if (value === null) return "NULL";
    if (typeof value !== "string") return value.toString();
    return `"${value.replace(/[\\"]/g, "\\$&")}"`;
  });
  return `{${elements.join(",")}}`;
}

/** An array of byte strings. */
export function bytesArrayOf(values: Iterable<Uint8Array>): string {
  return arrayOf(Array.from(values, (bytes) => `\\x${Buffer.from(bytes).toString("hex")}`));
}

export function headOf(row: PostgresRow): Sealed<Head> {
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

export function accountOf(row: PostgresRow): Sealed<Account> {
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

export function storedAccountOf(row: PostgresRow): Sealed<StoredAccount> {
  return { ...accountOf(row), jwk: row.jwk === null ? null : parsed(row.jwk) as RsaPublicJwk };
}

export function endingOf(row: PostgresRow): Sealed<EndingRow> {
  return {
    payer: row.payer as Party,
    id: row.id as Uuid,
    state: row.state as Ending["state"],
    contentSha256: row.content_sha256 as Sha256,
    index: Number(row.entry_index),
    seal: String(row.seal),
  };
}

export function storedPaymentOf(row: PostgresRow): Sealed<StoredPayment> {
  return {
    ...endingOf(row),
    signedText: row.signed_text as string | null,
    delegationText: row.delegation_text as string | null,
    itemTexts: itemsOf(row),
  };
}

export function paymentOf(row: PostgresRow): NewPayment {
  return {
    ...endingOf(row),
    signedText: row.signed_text as string | null,
    delegationSha256: row.delegation_sha256 as Sha256 | null,
    itemTexts: itemsOf(row),
  };
}

export function historyOf(row: PostgresRow): HistoryRow {
  return {
    entryText: String(row.text),
    signedText: row.signed_text as string | null,
    itemTexts: itemsOf(row),
    balance: bigintOf(row.balance),
  };
}

export function postingOf(row: PostgresRow): Posting {
  return {
    account: row.account as Party,
    index: Number(row.entry_index),
    balance: bigintOf(row.balance),
  };
}

export function requestOf(row: PostgresRow): Sealed<PaymentRequest> {
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

export function refundOf(row: PostgresRow): Sealed<RefundTotal> {
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

export function bigintOf(value: PostgresValue | undefined): bigint {
  return BigInt(value as string);
}

function itemsOf(row: PostgresRow): string[] | null {
  return row.items === null ? null : parsed(row.items) as string[];
}

/** @throws {SealwireError} `store_damaged`. */
function parsed(json: PostgresValue | undefined): unknown {
  try {
    return JSON.parse(String(json));
  } catch (cause) {
    throw storeDamaged("a value in the database is no JSON", cause);
  }
}
