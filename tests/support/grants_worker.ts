/**
 * A second process on the same ledger: issues 0.01 to an account again and again, a commit each, until its standard input
 * ends, and prints each outcome with the size and the root that it then signs. Arguments: the folder of the ledger, the
 * thumbprint of the server's key, the account.
 */
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import type { Sha256 } from "../../lib/base/parse.ts";
import { parseAccountName } from "../../lib/keys/rsa.ts";
import { openLedger } from "../../lib/ledger/open_ledger.ts";
import { openSqlite } from "../../lib/ledger/sqlite.ts";
import { parseAmount } from "../../lib/protocol/money.ts";
import { databasePath, keysFolder, logKeyOf, TestClock, uuid } from "./fixtures.ts";

/** So that the other process comes to its turn at once: neither has a queue for the lock. */
const PAUSE_MS = 5;

const [folder, server, account] = process.argv.slice(2) as [string, string, string];
const store = openSqlite(databasePath(folder), { create: false });
const ledger = await openLedger({
  store,
  server: server as Sha256,
  logKey: logKeyOf(folder),
  keysFolder: keysFolder(folder),
  create: null,
  clock: new TestClock(),
});
let isWanted = true;
process.stdin.on("end", () => isWanted = false).resume();
console.log("ready");
while (isWanted) {
  const { state } = await ledger.submit({
    type: "grant",
    id: uuid(),
    payee: parseAccountName(account),
    amount: parseAmount("0.01"),
  });
  console.log(`${state} ${ledger.size} ${ledger.checkpoint.text.split("\n")[2]}`);
  await sleep(PAUSE_MS);
}
await ledger.close();
await store.close();
