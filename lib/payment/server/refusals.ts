/** What the ledger's refusals say to people. */
import { SealwireError } from "../../base/errors.ts";
import type { RefusalReason } from "../../ledger/submission.ts";

const SENTENCES: Readonly<Record<RefusalReason, string>> = {
  cancelled: "the payment was cancelled by its payer",
  delegation_expired: "the delegation has expired: log in again",
  delegation_not_yet_valid: "the delegation is from the future: check the clock",
  insufficient_funds: "the payer's balance is less than the payment",
  ledger_moved:
    "this ledger goes on at another database: ask the operator for the server's new address",
  name_reserved: "this name is reserved: choose another one",
  name_taken: "the name belongs to another key: choose another name",
  order_conflict: "the payment id was used for another order before",
  order_expired: "the order has expired",
  order_from_future: "the order is from the future: check the clock",
  payee_key_changed: "the payee's key is not the one that the order names",
  payer_is_payee: "payer and payee are the same account",
  invite_required: "this server takes new accounts by invite only: ask its operator for a code",
  invite_used: "the invite was used before: ask the operator for another code",
  refund_of_refund: "a refund cannot be given back: pay instead",
  refund_too_much: "all refunds of a payment add up to its amount at most",
  refund_unknown: "no signed payment from this payee to this payer has that id",
  request_declined: "the request was declined by its payer",
  request_differs: "the request asks for another amount",
  request_expired: "the request has expired: ask the payee for a new one",
  request_limit: "too many requests are pending: withdraw some, or wait until they are paid",
  request_paid: "the request is paid already",
  request_unknown: "there is no such request for this account",
  request_withdrawn: "the request was withdrawn by its payee",
  registration_closed: "this server takes no new accounts: ask its operator",
  signature_required: "the payer's account has a key, and only that key can pay from it",
  treasury_limit: "no more money can be issued",
  unknown_account: "there is no such account",
  unknown_payee: "there is no such payee",
  wrong_key: "this is not signed by the key of the payer's account",
  wrong_server: "this is for another server",
};

/** The error that a refused submission is answered with. Nothing was recorded. */
export function refusal(reason: RefusalReason): SealwireError {
  return new SealwireError(reason, SENTENCES[reason]);
}
