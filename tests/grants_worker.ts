/**
 * A second process on the same ledger: issues 0.01 to an account, `count` times, a block each.
 * Arguments: database, server's private key (PEM), certificate hash, account, count.
 */
import { createPrivateKey, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import process from "node:process";
import { parseAccountName } from "../lib/keys.ts";
import { Ledger } from "../lib/ledger/ledger.ts";
import { openSqlite } from "../lib/ledger/sqlite.ts";
import { parseAmount } from "../lib/money.ts";
import type { Sha256, Uuid } from "../lib/parse.ts";
import { NOW_S, rsaPairOf } from "./fixtures.ts";

const [path, keyPath, cert, account, count] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  string,
];
const store = openSqlite(path, { create: false });
const serverKeys = rsaPairOf(createPrivateKey(readFileSync(keyPath)));
const ledger = new Ledger({ store, serverKeys, cert: cert as Sha256, now_s: () => NOW_S });
console.log("ready");
for (let index = 0; index < Number(count); index++) {
  const { state } = await ledger.submit({
    type: "grant",
    id: randomUUID() as Uuid,
    payee: parseAccountName(account),
    amount: parseAmount("0.01"),
  });
  console.log(state);
}
await store.close();
