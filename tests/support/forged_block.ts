/** What a dishonest operator does, who has the server's key: a further block of any entries, signed as it should be. */
import type { DatabaseSync } from "node:sqlite";
import { parseHeader, signHeader } from "../../lib/ledger/block.ts";
import { type Entry, formatEntry } from "../../lib/ledger/entry.ts";
import { merkleRoot } from "../../lib/protocol/merkle.ts";
import { serverPair } from "./fixtures.ts";

/** Appends the block with the balances that follow from it. `texts`: the entries' own by default. */
export async function appendForged(
  database: DatabaseSync,
  entries: readonly Entry[],
  time_s: number,
  texts: readonly string[] = entries.map(formatEntry),
): Promise<void> {
  const stored = database.prepare("SELECT header FROM blocks ORDER BY height DESC LIMIT 1").get()!;
  const last = parseHeader(stored.header);
  const height = last.claims.height + 1;
  const first = last.claims.first + last.claims.count;
  const header = await signHeader({
    height,
    prev: last.sha256,
    first,
    count: texts.length,
    root: merkleRoot(texts),
    time: time_s,
    server: serverPair().publicKey.thumbprint,
  }, serverPair().privateKey);
  database.prepare("INSERT INTO blocks VALUES (?, ?, ?, ?)").run(
    height,
    first,
    texts.length,
    header.text,
  );
  const changeBalance = database.prepare(
    "UPDATE accounts SET balance = balance + ? WHERE name = ?",
  );
  const post = database.prepare(
    "INSERT OR REPLACE INTO postings SELECT name, ?, balance FROM accounts WHERE name = ?",
  );
  for (const [index, entry] of entries.entries()) {
    database.prepare("INSERT INTO entries VALUES (?, ?)").run(first + index, texts[index]!);
    if (entry.type !== "transfer") continue;
    const { payer, payee, amount } = entry;
    for (const [name, change] of [[payer, -amount], [payee, amount]] as const) {
      changeBalance.run(change, name);
      post.run(first + index, name);
    }
  }
}
