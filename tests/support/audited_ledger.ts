/**
 * One ledger with everything in it, for the tests of audit and of damage. Entry 0 opens it; 1 to 6
 * open alice, bob and carol, 7 and 8 dora, who has no key; 9 and 10 are payments of alice and bob;
 * 11 is a batch of carol's, 12 a grant, 13 a cancel of alice's, 14 new settings, 15 an unsigned
 * payment of dora's, 16 a payment of alice's to the treasury. The grants after it fill the first
 * tile.
 */
import type { Uuid } from "../../lib/base/parse.ts";
import { parseAccountName } from "../../lib/keys/rsa.ts";
import type { AuditOptions, AuditResult } from "../../lib/ledger/audit.ts";
import type { Checkpoint } from "../../lib/ledger/checkpoint.ts";
import { openSqlite } from "../../lib/ledger/sqlite.ts";
import { TREASURY } from "../../lib/protocol/party.ts";
import {
  amount,
  cancelOf,
  databasePath,
  openAccounts,
  orderOf,
  person,
  serverPair,
  signedBatch,
  signedCancel,
  signedOrder,
  temporaryLedger,
  uuid,
} from "./fixtures.ts";
import { auditStore } from "./shared_ledgers.ts";
import { grant, openClassic, type OrderSubmission } from "./settle_world.ts";

export const PAYMENT = 9;
export const BATCH = 11;
export const GRANT = 12;
export const CANCEL = 13;
export const UNSIGNED = 15;
const GIVEN_BACK = 16;
/** Entries in all. */
export const SIZE = 317;

export interface AuditedLedger {
  readonly folder: string;
  readonly checkpoint: Checkpoint;
  /** Entry 9. */
  readonly payment: OrderSubmission;
  /** Entry 11. */
  readonly batch: OrderSubmission;
  /** The id that entry 13 ends. */
  readonly cancelledId: Uuid;
}

export async function auditedLedger(): Promise<AuditedLedger> {
  const [alice, bob, carol] = [person("alice"), person("bob"), person("carol")];
  const dora = parseAccountName("dora");
  const { ledger, folder, close } = await temporaryLedger();
  await openAccounts(ledger, alice, bob, carol);
  await ledger.submit(openClassic(dora));
  const orders = await Promise.all([signedOrder(alice, bob), signedOrder(bob, carol)]);
  await Promise.all(orders.map((signed) => ledger.submit(orderOf(signed))));
  const payees = [[alice, "1.00"], [bob, "2.00"], [alice, "3.00"]] as const;
  const { signed, items } = await signedBatch(carol, payees);
  const batch = orderOf(signed, items);
  await ledger.submit(batch);
  await ledger.submit(grant(alice, "5.00"));
  const cancelledId = uuid();
  await ledger.submit(cancelOf(await signedCancel(alice, cancelledId)));
  await ledger.submit({
    type: "operator",
    fact: { type: "ledger.settings", openingBalance: 500n, registration: "open" },
  });
  await ledger.submit({
    type: "unsigned",
    id: uuid(),
    payer: dora,
    payee: bob.name,
    amount: amount("7.00"),
  });
  const back = { payee: TREASURY, payeeKey: serverPair().publicKey.thumbprint } as const;
  await ledger.submit(
    orderOf(await signedOrder(alice, alice, { ...back, amount: amount("1.00") })),
  );
  const grants = Array.from({ length: SIZE - GIVEN_BACK - 1 }, () => grant(bob, "0.01"));
  await Promise.all(grants.map((one) => ledger.submit(one)));
  const { checkpoint } = ledger;
  await close();
  return { folder, checkpoint, payment: orderOf(orders[0]!), batch, cancelledId };
}

/** Audits the ledger in `folder`. */
export async function auditFolder(
  folder: string,
  changed: Partial<AuditOptions> = {},
): Promise<AuditResult> {
  const store = openSqlite(databasePath(folder), { create: false });
  try {
    return await auditStore(store, folder, changed);
  } finally {
    await store.close();
  }
}
