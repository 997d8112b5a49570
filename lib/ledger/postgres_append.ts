/**
 * Writes one commit: at most a dozen statements, sent together, for any number of payments.
 */
import { arrayOf, bytesArrayOf } from "./postgres_rows.ts";
import type { PostgresSession } from "./postgres_session.ts";
import type { CommitRecord } from "./store.ts";
import { NO_ITEM } from "./stored_rows.ts";

/**
 * Servers on this database hear of each commit on this channel. The payload is the log's new size.
 */
export const COMMITTED_CHANNEL = "sealwire_committed";

/** A statement with its parameters. */
type Statement = readonly [text: string, parameters: readonly (string | null)[]];

export async function appendRecord(session: PostgresSession, record: CommitRecord): Promise<void> {
  const statements = [
    ...entryStatements(record),
    ...accountStatements(record),
    ...paymentStatements(record),
    ...requestStatements(record),
  ];
  // All are sent before the first answer: one round trip.
  await Promise.all(statements.map(([text, parameters]) => session.query(text, parameters)));
}

function* entryStatements(
  { head, firstIndex, entryTexts, tiles, operatorIndexes }: CommitRecord,
): Iterable<Statement> {
  const { size, root, time_s, server, unit, settings, seal } = head;
  const { openingBalance, registration } = settings;
  yield [
    `UPDATE sealwire.head SET size = $1, root = $2, time_s = $3, server = $4, unit = $5,
       opening_balance = $6, registration = $7, seal = $8`,
    [
      String(size),
      root,
      String(time_s),
      server,
      unit,
      String(openingBalance),
      registration,
      seal,
    ],
  ];
  yield ["SELECT pg_notify($1, $2)", [COMMITTED_CHANNEL, String(size)]];
  if (entryTexts.length > 0) {
    yield [
      `INSERT INTO sealwire.entries (entry_index, text)
       SELECT $1::bigint + place - 1, text
       FROM unnest($2::text[]) WITH ORDINALITY AS entries (text, place)`,
      [String(firstIndex), arrayOf(entryTexts)],
    ];
  }
  if (tiles.length > 0) {
    yield [
      `INSERT INTO sealwire.tiles (level, tile_index, hashes, root)
       SELECT * FROM unnest($1::integer[], $2::bigint[], $3::bytea[], $4::bytea[])`,
      [
        arrayOf(tiles.map(({ level }) => level)),
        arrayOf(tiles.map(({ index }) => index)),
        bytesArrayOf(tiles.map(({ hashes }) => hashes)),
        bytesArrayOf(tiles.map(({ root }) => root)),
      ],
    ];
  }
  if (operatorIndexes.length > 0) {
    yield [
      "INSERT INTO sealwire.operator_entries (entry_index) SELECT unnest($1::bigint[])",
      [arrayOf(operatorIndexes)],
    ];
  }
}

function* accountStatements({ accounts, postings }: CommitRecord): Iterable<Statement> {
  if (accounts.length > 0) {
    yield [
      `INSERT INTO sealwire.accounts AS stored
         (name, key, jwk, balance, opened, keyed, changed, seal)
       SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[],
         $6::bigint[], $7::bigint[], $8::text[])
       ON CONFLICT (name) DO UPDATE
         SET key = excluded.key, jwk = coalesce(excluded.jwk, stored.jwk),
           balance = excluded.balance, keyed = excluded.keyed, changed = excluded.changed,
           seal = excluded.seal`,
      accountColumns(accounts),
    ];
  }
  if (postings.length > 0) {
    yield [
      `INSERT INTO sealwire.postings (account, entry_index, balance)
       SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[])`,
      [
        arrayOf(postings.map(({ account }) => account)),
        arrayOf(postings.map(({ index }) => index)),
        arrayOf(postings.map(({ balance }) => balance)),
      ],
    ];
  }
}

function accountColumns(accounts: CommitRecord["accounts"]): string[] {
  return [
    arrayOf(accounts.map(({ name }) => name)),
    arrayOf(accounts.map(({ key }) => key)),
    arrayOf(accounts.map(({ jwk }) => jwk ? JSON.stringify(jwk) : null)),
    arrayOf(accounts.map(({ balance }) => balance)),
    arrayOf(accounts.map(({ opened }) => opened)),
    arrayOf(accounts.map(({ keyed }) => keyed)),
    arrayOf(accounts.map(({ changed }) => changed)),
    arrayOf(accounts.map(({ seal }) => seal)),
  ];
}

function* paymentStatements({ payments, delegations }: CommitRecord): Iterable<Statement> {
  if (delegations.size > 0) {
    yield [
      `INSERT INTO sealwire.delegations (sha256, text)
       SELECT * FROM unnest($1::text[], $2::text[]) ON CONFLICT DO NOTHING`,
      [arrayOf(delegations.keys()), arrayOf(delegations.values())],
    ];
  }
  if (payments.length > 0) {
    yield [
      `INSERT INTO sealwire.payments (payer, id, state, content_sha256, entry_index, signed_text,
         delegation_sha256, items, seal)
       SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[],
         $6::text[], $7::text[], $8::text[], $9::text[])`,
      [
        arrayOf(payments.map(({ payer }) => payer)),
        arrayOf(payments.map(({ id }) => id)),
        arrayOf(payments.map(({ state }) => state)),
        arrayOf(payments.map(({ contentSha256 }) => contentSha256)),
        arrayOf(payments.map(({ index }) => index)),
        arrayOf(payments.map(({ signedText }) => signedText)),
        arrayOf(payments.map(({ delegationSha256 }) => delegationSha256)),
        arrayOf(
          payments.map(({ itemTexts }) => itemTexts === null ? null : JSON.stringify(itemTexts)),
        ),
        arrayOf(payments.map(({ seal }) => seal)),
      ],
    ];
  }
}

function* requestStatements({ requests, refunds, rotations }: CommitRecord): Iterable<Statement> {
  if (requests.length > 0) {
    yield [
      `INSERT INTO sealwire.requests (payee, id, payer, amount, memo, created_s, expires_s, state,
         entry_index, seal)
       SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[],
         $6::bigint[], $7::bigint[], $8::text[], $9::bigint[], $10::text[])
       ON CONFLICT (payee, id) DO UPDATE
         SET state = excluded.state, entry_index = excluded.entry_index, seal = excluded.seal`,
      [
        arrayOf(requests.map(({ payee }) => payee)),
        arrayOf(requests.map(({ id }) => id)),
        arrayOf(requests.map(({ payer }) => payer)),
        arrayOf(requests.map(({ amount }) => amount)),
        arrayOf(requests.map(({ memo }) => memo)),
        arrayOf(requests.map(({ created_s }) => created_s)),
        arrayOf(requests.map(({ expires_s }) => expires_s)),
        arrayOf(requests.map(({ state }) => state)),
        arrayOf(requests.map(({ index }) => index)),
        arrayOf(requests.map(({ seal }) => seal)),
      ],
    ];
  }
  if (refunds.length > 0) {
    yield [
      `INSERT INTO sealwire.refunds (payer, id, item, total, changed, seal)
       SELECT * FROM unnest($1::text[], $2::text[], $3::integer[], $4::bigint[], $5::bigint[],
         $6::text[])
       ON CONFLICT (payer, id, item) DO UPDATE
         SET total = excluded.total, changed = excluded.changed, seal = excluded.seal`,
      [
        arrayOf(refunds.map(({ reference }) => reference.payer)),
        arrayOf(refunds.map(({ reference }) => reference.id)),
        arrayOf(refunds.map(({ reference }) => reference.item ?? NO_ITEM)),
        arrayOf(refunds.map(({ total }) => total)),
        arrayOf(refunds.map(({ changed }) => changed)),
        arrayOf(refunds.map(({ seal }) => seal)),
      ],
    ];
  }
  if (rotations.size > 0) {
    yield [
      `INSERT INTO sealwire.rotations (sha256, text)
       SELECT * FROM unnest($1::text[], $2::text[]) ON CONFLICT DO NOTHING`,
      [arrayOf(rotations.keys()), arrayOf(rotations.values())],
    ];
  }
}
