/** What the ledger's refusals say to people. */
import { SealwireError } from "../../base/errors.ts";
import type { Outcome, RejectReason, VoidReason } from "../../ledger/submission.ts";

const SENTENCES: Readonly<Record<VoidReason | RejectReason, string>> = {
  balance_limit: "the payee's account cannot hold that much",
  cancelled: "the payment was cancelled by its payer",
  delegation_expired: "the delegation has expired: log in again",
  delegation_not_yet_valid: "the delegation is from the future: check the clock",
  insufficient_funds: "the payer's balance is less than the payment",
  name_taken: "the name belongs to another key",
  order_conflict: "the payment id was used for another order before",
  order_expired: "the order has expired",
  order_from_future: "the order is from the future: check the clock",
  payer_is_payee: "payer and payee are the same account",
  payee_key_changed: "the payee's key is not the one that the order names",
  signature_required: "the payer's account has a key, and only that key can pay from it",
  treasury_limit: "no more money can be issued",
  unknown_account: "there is no such account",
  unknown_payee: "there is no such payee",
  wrong_certificate: "the delegation names another certificate than this server's: log in again",
  wrong_key: "the order is not signed by the payer's key",
  wrong_server: "the order is for another server",
};

/** The error that a void or rejected submission is answered with. `details.void`: the id is void for ever. */
export function refusal(outcome: Outcome & { state: "void" | "rejected" }): SealwireError {
  const details = outcome.state === "void" ? { void: true } : {};
  return new SealwireError(outcome.reason, SENTENCES[outcome.reason], { details });
}
