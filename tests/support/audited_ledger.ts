/**
 * One ledger with everything in it, for the tests of audit. Blocks: 1 to 3 open alice, bob and carol (entries 1 to 6), 4 has
 * two payments (7, 8), 5 a batch of three (9 to 11), 6 a grant (12). One id is void.
 */
import { audit, type AuditResult } from "../../lib/ledger/audit.ts";
import {
  openAccounts,
  orderOf,
  person,
  serverPair,
  signedBatch,
  signedOrder,
  temporaryLedger,
  uuid,
} from "./fixtures.ts";
import { grant } from "./settle_world.ts";

export async function auditedLedger(): Promise<{ path: string; sound: AuditResult }> {
  const [alice, bob, carol] = [person("alice"), person("bob"), person("carol")];
  const { ledger, store, path } = temporaryLedger();
  await openAccounts(ledger, alice, bob, carol);
  const pair = await Promise.all([signedOrder(alice, bob), signedOrder(bob, carol)]);
  await Promise.all(pair.map((signed) => ledger.submit(orderOf(signed))));
  const payees = [[alice, "1.00"], [bob, "2.00"], [alice, "3.00"]] as const;
  const { signed, items } = await signedBatch(carol, payees);
  await ledger.submit(orderOf(signed, items));
  await ledger.submit(grant(alice, "5.00"));
  await ledger.submit({ type: "cancel", payer: alice.name, id: uuid() });
  const sound = await audit(store, serverPair().publicKey);
  await store.close();
  return { path, sound };
}
