/**
 * Writes one commit, a row at a time: statements are prepared once, and no round trip separates them.
 */
import type { Statements } from "./sqlite_statements.ts";
import type { CommitRecord } from "./store.ts";
import { NO_ITEM } from "./stored_rows.ts";

export function appendRecord(statements: Statements, record: CommitRecord): void {
  appendEntries(statements, record);
  appendAccounts(statements, record);
  appendPayments(statements, record);
  appendRequests(statements, record);
}

function appendEntries(
  statements: Statements,
  { head, firstIndex, entryTexts, tiles, operatorIndexes }: CommitRecord,
): void {
  const { size, root, time_s, server, unit, settings, seal } = head;
  statements.run(
    "INSERT OR REPLACE INTO head VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?)",
    BigInt(size),
    root,
    BigInt(time_s),
    server,
    unit,
    settings.openingBalance,
    settings.registration,
    seal,
  );
  for (const [offset, text] of entryTexts.entries()) {
    statements.run("INSERT INTO entries VALUES (?, ?)", BigInt(firstIndex + offset), text);
  }
  for (const { level, index, hashes, root: tileRoot } of tiles) {
    statements.run(
      "INSERT INTO tiles VALUES (?, ?, ?, ?)",
      BigInt(level),
      BigInt(index),
      hashes,
      tileRoot,
    );
  }
  for (const index of operatorIndexes) {
    statements.run("INSERT INTO operator_entries VALUES (?)", BigInt(index));
  }
}

function appendAccounts(statements: Statements, { accounts, postings }: CommitRecord): void {
  for (const { name, key, jwk, balance, opened, keyed, changed, seal } of accounts) {
    // An account that exists and keeps its key keeps the JWK that is stored.
    statements.run(
      `INSERT INTO accounts VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE
       SET key = excluded.key, jwk = coalesce(excluded.jwk, jwk), balance = excluded.balance,
         keyed = excluded.keyed, changed = excluded.changed, seal = excluded.seal`,
      name,
      key,
      jwk ? JSON.stringify(jwk) : null,
      balance,
      BigInt(opened),
      BigInt(keyed),
      BigInt(changed),
      seal,
    );
  }
  for (const { account, index, balance } of postings) {
    statements.run(
      "INSERT INTO postings VALUES (?, ?, ?)",
      account,
      BigInt(index),
      balance,
    );
  }
}

function appendRequests(
  statements: Statements,
  { requests, refunds, rotations }: CommitRecord,
): void {
  for (const request of requests) {
    statements.run(
      `INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (payee, id)
       DO UPDATE SET state = excluded.state, entry_index = excluded.entry_index,
         seal = excluded.seal`,
      request.payee,
      request.id,
      request.payer,
      request.amount,
      request.memo,
      BigInt(request.created_s),
      BigInt(request.expires_s),
      request.state,
      BigInt(request.index),
      request.seal,
    );
  }
  for (const { reference: { payer, id, item }, total, changed, seal } of refunds) {
    statements.run(
      `INSERT INTO refunds VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (payer, id, item)
       DO UPDATE SET total = excluded.total, changed = excluded.changed, seal = excluded.seal`,
      payer,
      id,
      BigInt(item ?? NO_ITEM),
      total,
      BigInt(changed),
      seal,
    );
  }
  for (const [sha256, text] of rotations) {
    statements.run("INSERT OR IGNORE INTO rotations VALUES (?, ?)", sha256, text);
  }
}

function appendPayments(statements: Statements, { payments, delegations }: CommitRecord): void {
  for (const [sha256, text] of delegations) {
    statements.run("INSERT OR IGNORE INTO delegations VALUES (?, ?)", sha256, text);
  }
  for (const payment of payments) {
    const { payer, id, state, contentSha256, index, signedText, delegationSha256 } = payment;
    statements.run(
      "INSERT INTO payments VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
      payer,
      id,
      state,
      contentSha256,
      BigInt(index),
      signedText,
      delegationSha256,
      payment.itemTexts === null ? null : JSON.stringify(payment.itemTexts),
      payment.seal,
    );
  }
}
