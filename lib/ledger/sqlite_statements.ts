/**
 * SQL statements of one connection. Translates SQLite's errors for the ledger.
 */
import type { DatabaseSync, SQLInputValue, SQLOutputValue, StatementSync } from "node:sqlite";
import { SealwireError } from "../base/errors.ts";

/** Primary result codes (sqlite.org/rescode.html): the low byte of an extended one. */
export const SQLITE_BUSY = 5;
const SQLITE_CONSTRAINT = 19;

export type Row = Record<string, SQLOutputValue>;

/**
 * Prepared once, used often: five times as fast as preparing each time. All throw
 * `store_unavailable` when the database refuses, but for a broken constraint, which is a fault of
 * ours.
 */
export class Statements {
  private readonly prepared = new Map<string, StatementSync>();

  constructor(private readonly database: DatabaseSync) {}

  get(sql: string, ...parameters: (string | number | bigint)[]): Row | undefined {
    return attempt(() => this.statement(sql).get(...parameters));
  }

  all(sql: string, ...parameters: SQLOutputValue[]): Row[] {
    return attempt(() => this.statement(sql).all(...parameters));
  }

  run(sql: string, ...parameters: SQLInputValue[]): void {
    attempt(() => this.statement(sql).run(...parameters));
  }

  private statement(sql: string): StatementSync {
    let statement = this.prepared.get(sql);
    if (statement === undefined) {
      statement = this.database.prepare(sql);
      statement.setReadBigInts(true);
      this.prepared.set(sql, statement);
    }
    return statement;
  }
}

function attempt<T>(run: () => T): T {
  try {
    return run();
  } catch (error) {
    const code = resultCode(error);
    throw code === undefined || code === SQLITE_CONSTRAINT ? error : unavailable(error);
  }
}

/** Returns SQLite's primary result code, or undefined for any other error. */
export function resultCode(error: unknown): number | undefined {
  const { errcode } = (error ?? {}) as { errcode?: number };
  return errcode === undefined ? undefined : errcode & 0xff;
}

export function unavailable(cause: unknown): SealwireError {
  return new SealwireError(
    "store_unavailable",
    "the ledger cannot be read or written now: try again",
    { cause },
  );
}

/** @throws {SealwireError} `store_damaged`. */
export function parseStored(json: SQLOutputValue | undefined): unknown {
  try {
    return JSON.parse(String(json));
  } catch (cause) {
    throw new SealwireError("store_damaged", "the ledger holds a value that is no JSON", { cause });
  }
}
