/** The rows that the database stores for one commit. */
import type { Sha256 } from "../base/parse.ts";
import type { RsaPublicJwk } from "../keys/rsa.ts";
import { formatBatchItem } from "../protocol/order.ts";
import { TREASURY } from "../protocol/party.ts";
import { isOperatorFact } from "./entry.ts";
import type { Seals } from "./seal.ts";
import type { Settlement } from "./settle.ts";
import type { CommitRecord, Head, NewPayment } from "./store.ts";
import type { NewEnding, Submission } from "./submission.ts";
import type { FullTile } from "./tiles.ts";

export function commitRecord(
  seals: Seals,
  head: Head,
  settlement: Settlement,
  entryTexts: readonly string[],
  tiles: readonly FullTile[],
): CommitRecord {
  const { entries, postings, newEndings } = settlement;
  const jwks = newKeys(settlement);
  const delegations = new Map<Sha256, string>();
  for (const { delegation } of settlement.openings) {
    if (delegation !== null) delegations.set(delegation.sha256, delegation.text);
  }
  for (const { submission } of newEndings) {
    if (submission.type !== "order" && submission.type !== "cancel") continue;
    const { sha256, text } = submission.signed.delegation;
    delegations.set(sha256, text);
  }
  return {
    head: seals.head(head),
    firstIndex: head.size - entries.length,
    entryTexts,
    tiles,
    accounts: settlement.accounts.map((account) => ({
      ...seals.account(account),
      ...(account.name !== TREASURY && jwks.has(account.name) && { jwk: jwks.get(account.name) }),
    })),
    postings,
    payments: newEndings.map((ending) => newPayment(seals, ending)),
    delegations,
    rotations: rotationTexts(settlement),
    requests: settlement.requests.map((request) => seals.request(request)),
    refunds: settlement.refunds.map((refund) => seals.refund(refund)),
    operatorIndexes: entries.filter(isOperatorFact).map(({ index }) => index),
  };
}

/** A record of `head` that holds nothing but `parts`, as a copy writes a ledger down. */
export function partialRecord(
  head: CommitRecord["head"],
  parts: Partial<CommitRecord>,
): CommitRecord {
  return {
    head,
    firstIndex: 0,
    entryTexts: [],
    tiles: [],
    accounts: [],
    postings: [],
    payments: [],
    delegations: new Map(),
    rotations: new Map(),
    requests: [],
    refunds: [],
    operatorIndexes: [],
    ...parts,
  };
}

/**
 * The keys of the accounts that this commit opens or gives another key; null for a classic account.
 */
function newKeys({ openings, rotations }: Settlement): Map<string, RsaPublicJwk | null> {
  const keys = new Map<string, RsaPublicJwk | null>(
    openings.map(({ name, delegation }) => [name, delegation?.claims.key.jwk ?? null]),
  );
  for (const { rotation: { claims } } of rotations) keys.set(claims.account, claims.key.jwk);
  return keys;
}

function rotationTexts({ rotations }: Settlement): Map<Sha256, string> {
  const tokens = rotations.flatMap(({ rotation, countersignature }) => [
    rotation,
    countersignature,
  ]);
  return new Map(tokens.map(({ sha256, text }) => [sha256, text]));
}

function newPayment(seals: Seals, { submission, ...ending }: NewEnding): NewPayment {
  const { payer, id, contentSha256, state, index } = ending;
  const sealed = seals.ending({ payer, id, contentSha256, state, index });
  return { ...sealed, ...signedPart(submission) };
}

/** What the payer signed, kept beside the entry that names it by hash. */
function signedPart(
  submission: Submission,
): Pick<NewPayment, "signedText" | "delegationSha256" | "itemTexts"> {
  if (submission.type === "cancel") {
    const { cancel, delegation } = submission.signed;
    return { signedText: cancel.text, delegationSha256: delegation.sha256, itemTexts: null };
  }
  if (submission.type !== "order") {
    return { signedText: null, delegationSha256: null, itemTexts: null };
  }
  const { signed: { order, delegation }, items } = submission;
  return {
    signedText: order.text,
    delegationSha256: delegation.sha256,
    itemTexts: items.length > 0 ? items.map(formatBatchItem) : null,
  };
}
