/** What durable commits cost without Sealwire. */
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

const COMMITS = 500;

/** How many transactions of one small row SQLite commits a second, one after the other. */
export function commitsPerSecond(folder: string): number {
  const database = new DatabaseSync(join(folder, "commits.db"));
  database.exec(
    "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE rows (row TEXT)",
  );
  const insert = database.prepare("INSERT INTO rows VALUES (?)");
  const began_ms = performance.now();
  for (let commit = 0; commit < COMMITS; commit++) insert.run("row");
  const took_s = (performance.now() - began_ms) / 1000;
  database.close();
  return COMMITS / took_s;
}
