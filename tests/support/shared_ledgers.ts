/**
 * Ledgers by the real clock, for stores that have a clock of their own. Several of them may be on
 * one database, with the keys in one folder, as several servers have them.
 */
import { audit, type AuditOptions, type AuditResult } from "../../lib/ledger/audit.ts";
import { deriveSealKey } from "../../lib/keys/log_key.ts";
import { watchedClock } from "../../lib/ledger/clock.ts";
import type { Ledger } from "../../lib/ledger/ledger.ts";
import { openLedger, type OpenLedgerOptions } from "../../lib/ledger/open_ledger.ts";
import { Seals } from "../../lib/ledger/seal.ts";
import type { LedgerStore } from "../../lib/ledger/store.ts";
import type { Submission } from "../../lib/ledger/submission.ts";
import type { Order } from "../../lib/protocol/order.ts";
import {
  delegate,
  keysFolder,
  logKeyOf,
  NEW_LEDGER,
  now_s,
  opening,
  orderOf,
  type Person,
  serverPair,
  signedOrder,
} from "./fixtures.ts";

/** Opens the ledger in `store`, or makes one there. The keys are in `folder`. */
export async function sharedLedger(
  store: LedgerStore,
  folder: string,
  options: Partial<OpenLedgerOptions> = {},
): Promise<Ledger> {
  return await openLedger({
    store,
    server: serverPair().publicKey.thumbprint,
    logKey: logKeyOf(folder),
    keysFolder: keysFolder(folder),
    create: NEW_LEDGER,
    clock: watchedClock(),
    ...options,
  });
}

const delegations = new Map<string, ReturnType<typeof delegate>>();

/** The same for all of a person's orders, as a session has it. */
function delegationOf(by: Person): ReturnType<typeof delegate> {
  let delegation = delegations.get(by.name);
  if (delegation === undefined) {
    delegation = delegate(by, {}, now_s() - 60);
    delegations.set(by.name, delegation);
  }
  return delegation;
}

/** Opens accounts for all of `holders`, with 10000.00 each. */
export async function openSharedAccounts(ledger: Ledger, ...holders: Person[]): Promise<void> {
  for (const holder of holders) {
    await ledger.submit(await opening(holder, await delegationOf(holder)));
  }
}

/** An order of 12.50, signed now. */
export async function orderNow(
  payer: Person,
  payee: Person,
  changed: Partial<Order> = {},
): Promise<Submission & { type: "order" }> {
  const times = { iat: now_s(), exp: now_s() + 300 };
  return orderOf(
    await signedOrder(payer, payee, { ...times, ...changed }, await delegationOf(payer)),
  );
}

export async function auditStore(
  store: LedgerStore,
  folder: string,
  changed: Partial<AuditOptions> = {},
): Promise<AuditResult> {
  const { publicKey: log, privateKey } = logKeyOf(folder);
  return await audit({
    store,
    server: serverPair().publicKey.thumbprint,
    log,
    seals: new Seals(deriveSealKey(privateKey)),
    expected: [],
    onProgress: () => {},
    ...changed,
  });
}
