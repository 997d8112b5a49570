/**
 * A second process on the same ledger: issues 0.01 to an account again and again, a block each, until its standard
 * input ends. Arguments: database, server's private key (PEM), certificate hash, account.
 */
import { createPrivateKey, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { parseAccountName } from "../../lib/keys/rsa.ts";
import { Ledger } from "../../lib/ledger/ledger.ts";
import { openSqlite } from "../../lib/ledger/sqlite.ts";
import { parseAmount } from "../../lib/protocol/money.ts";
import type { Sha256, Uuid } from "../../lib/base/parse.ts";
import { NOW_S, rsaPairOf } from "./fixtures.ts";

/** So that the other process comes to its turn at once: neither has a queue for the lock. */
const PAUSE_MS = 5;

const [path, keyPath, cert, account] = process.argv.slice(2) as [string, string, string, string];
const store = openSqlite(path, { create: false });
const serverKeys = rsaPairOf(createPrivateKey(readFileSync(keyPath)));
const ledger = new Ledger({ store, serverKeys, cert: cert as Sha256, now_s: () => NOW_S });
let isWanted = true;
process.stdin.on("end", () => isWanted = false).resume();
console.log("ready");
while (isWanted) {
  const { state } = await ledger.submit({
    type: "grant",
    id: randomUUID() as Uuid,
    payee: parseAccountName(account),
    amount: parseAmount("0.01"),
  });
  console.log(state);
  await sleep(PAUSE_MS);
}
await store.close();
