/** Someone who can write to the database, and has no key. */
import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { databasePath } from "./fixtures.ts";

/** Runs statements, each of which must change something: tampering that changes nothing would prove nothing. */
export function tamper(folder: string, ...statements: string[]): void {
  const database = new DatabaseSync(databasePath(folder));
  try {
    for (const sql of statements) {
      const { changes } = database.prepare(sql).run();
      assert.ok(changes > 0, `changed nothing: ${sql}`);
    }
  } finally {
    database.close();
  }
}
