/**
 * Converts PostgreSQL's rows to the ledger's values and back, beside what `stored_rows.ts` does for
 * either database. Each column travels as one array, so a commit of a thousand payments takes a few
 * statements. Numbers of 64 bits travel as text, never as a float.
 */
import { Buffer } from "node:buffer";
import type { Sha256 } from "../base/parse.ts";
import type { RsaPublicJwk } from "../keys/rsa.ts";
import type { PostgresRow, PostgresValue } from "./postgres_session.ts";
import { storeDamaged } from "./seal.ts";
import type { HistoryRow, NewPayment, Sealed, StoredAccount, StoredPayment } from "./store.ts";
import { accountOf, bigintOf, endingOf } from "./stored_rows.ts";

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

export function storedAccountOf(row: PostgresRow): Sealed<StoredAccount> {
  return { ...accountOf(row), jwk: row.jwk === null ? null : parsed(row.jwk) as RsaPublicJwk };
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
