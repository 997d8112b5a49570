/**
 * Seals: HMAC-SHA-256 under a key that is derived from the log key, over each row on which a
 * decision rests. Someone who can write to the database, but does not have the key, cannot change a
 * balance or bring an id back: the row no longer verifies.
 *
 * Only the audit finds a row that was deleted or replaced by an older genuine one.
 */
import { Buffer } from "node:buffer";
import { createHmac, timingSafeEqual } from "node:crypto";
import { SealwireError } from "../base/errors.ts";
import type { Account } from "./settle.ts";
import type { EndingRow, Head, Sealed } from "./store.ts";
import type { PaymentRequest, RefundTotal } from "./submission.ts";

export class Seals {
  /** `key`: 32 bytes. */
  constructor(private readonly key: Uint8Array) {}

  head(head: Head): Sealed<Head> {
    return { ...head, seal: this.of(headText(head)) };
  }

  account<A extends Account>(account: A): Sealed<A> {
    return { ...account, seal: this.of(accountText(account)) };
  }

  ending<E extends EndingRow>(ending: E): Sealed<E> {
    return { ...ending, seal: this.of(endingText(ending)) };
  }

  /** The MAC of an invite's content, as base64url. */
  invite(content: string): string {
    return this.of(JSON.stringify(["invite", content]));
  }

  request<R extends PaymentRequest>(request: R): Sealed<R> {
    return { ...request, seal: this.of(requestText(request)) };
  }

  refund<R extends RefundTotal>(refund: R): Sealed<R> {
    return { ...refund, seal: this.of(refundText(refund)) };
  }

  /** All of them throw `store_damaged` when the row is not what was sealed. */
  checkHead(head: Sealed<Head>): void {
    this.check(headText(head), head.seal, "the head of the ledger");
  }

  checkAccount(account: Sealed<Account>): void {
    this.check(accountText(account), account.seal, `account ${account.name}`);
  }

  checkEnding(ending: Sealed<EndingRow>): void {
    this.check(endingText(ending), ending.seal, `payment ${ending.id} of ${ending.payer}`);
  }

  checkRequest(request: Sealed<PaymentRequest>): void {
    this.check(requestText(request), request.seal, `request ${request.id} of ${request.payee}`);
  }

  checkRefund(refund: Sealed<RefundTotal>): void {
    const { payer, id } = refund.reference;
    this.check(refundText(refund), refund.seal, `the refunds of payment ${id} of ${payer}`);
  }

  private of(text: string): string {
    return createHmac("sha256", this.key).update(text, "utf8").digest("base64url");
  }

  private check(text: string, seal: string, what: string): void {
    const expected = Buffer.from(this.of(text));
    const found = Buffer.from(seal);
    if (found.length === expected.length && timingSafeEqual(found, expected)) return;
    throw storeDamaged(`${what} was changed in the database`);
  }
}

function headText({ size, root, time_s, server, unit, settings }: Head): string {
  const { openingBalance, registration } = settings;
  return JSON.stringify(
    ["head", size, root, time_s, server, unit, openingBalance.toString(), registration],
  );
}

function accountText({ name, key, balance, opened, keyed, changed }: Account): string {
  return JSON.stringify(["account", name, key, balance.toString(), opened, keyed, changed]);
}

function endingText({ payer, id, contentSha256, state, index }: EndingRow): string {
  return JSON.stringify(["ending", payer, id, contentSha256, state, index]);
}

function requestText(request: PaymentRequest): string {
  const { payee, id, payer, amount, memo, created_s, expires_s, state, index } = request;
  return JSON.stringify(
    ["request", payee, id, payer, amount.toString(), memo, created_s, expires_s, state, index],
  );
}

function refundText({ reference: { payer, id, item }, total, changed }: RefundTotal): string {
  return JSON.stringify(["refund", payer, id, item, total.toString(), changed]);
}

/** The error for content of the database that this server did not write. */
export function storeDamaged(what: string, cause?: unknown): SealwireError {
  return new SealwireError(
    "store_damaged",
    `${what}: nothing more is signed. Restore a backup, or run "server.ts audit" to find out more`,
    { cause },
  );
}
