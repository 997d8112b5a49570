/**
 * How many payments a second 1, 2 and 3 ledgers settle on one PostgreSQL, each in a process of its own. Beside it, on the same
 * database server in the same run, pgbench with a transfer script: two updates and one insert, a transaction each.
 *
 *     deno run -A bench/postgres.ts        bun bench/postgres.ts
 *
 * It starts PostgreSQL itself, with its default settings, in the system's temporary folder (TMPDIR). Orders are signed
 * beforehand, and their signatures are not verified: this measures the ledger. Takes about a minute and a half.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { PostgresServer } from "../tests/support/postgres.ts";
import { RUNTIME, spawnTool, temporaryFolder } from "../tests/support/support.ts";

const RUN_S = 8;
const SERVERS = [1, 2, 3];
const PGBENCH_CLIENTS = 32;
const PGBENCH_ACCOUNTS = 1_000;
const WORKER_TIMEOUT_MS = 120_000;

const TRANSFER = `
\\set payer random(1, ${PGBENCH_ACCOUNTS})
\\set payee random(1, ${PGBENCH_ACCOUNTS})
BEGIN;
UPDATE bench_accounts SET balance = balance - 1 WHERE id = :payer;
UPDATE bench_accounts SET balance = balance + 1 WHERE id = :payee;
INSERT INTO bench_transfers (payer, payee, amount) VALUES (:payer, :payee, 1);
COMMIT;
`;

/** Payments a second of that many ledgers together. */
async function measureLedgers(database: PostgresServer, servers: number): Promise<number> {
  const url = await database.newDatabase();
  const keys = join(temporaryFolder(), "keys");
  mkdirSync(keys);
  const workers = [];
  for (let index = 0; index < servers; index++) {
    const worker = spawnTool(
      "bench/postgres_worker.ts",
      [url, keys, `s${index}`, String(RUN_S)],
      { timeout_ms: WORKER_TIMEOUT_MS },
    );
    workers.push(worker);
    if (await worker.nextLine() !== "ready") throw new Error("a worker did not start");
  }
  for (const worker of workers) worker.type("go\n");
  let per_s = 0;
  for (const worker of workers) {
    const { payments, took_s } = await worker.nextJson() as { payments: number; took_s: number };
    per_s += payments / took_s;
    await worker.ended;
  }
  return per_s;
}

/** Transactions a second; null where pgbench is not installed. */
async function measurePgbench(database: PostgresServer): Promise<number | null> {
  const url = await database.newDatabase();
  const name = new URL(url).pathname.slice(1);
  await database.run(
    `CREATE TABLE bench_accounts (id integer PRIMARY KEY, balance bigint NOT NULL);
     CREATE TABLE bench_transfers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
       payer integer NOT NULL, payee integer NOT NULL, amount bigint NOT NULL);
     INSERT INTO bench_accounts SELECT generate_series(1, ${PGBENCH_ACCOUNTS}), 0`,
    name,
  );
  const script = join(temporaryFolder(), "transfer.sql");
  writeFileSync(script, TRANSFER);
  const load = [`--client=${PGBENCH_CLIENTS}`, "--jobs=2", `--time=${RUN_S}`];
  const options = ["--no-vacuum", "--protocol=prepared", "--max-tries=100", `--file=${script}`];
  const place = ["--host=127.0.0.1", `--port=${database.port}`, "--username=admin", name];
  const { status, stdout, stderr } = spawnSync("pgbench", [...load, ...options, ...place], {
    encoding: "utf8",
    env: { ...process.env, PGPASSWORD: decodeURIComponent(new URL(url).password) },
  });
  if (status === null) return null;
  const [, tps] = stdout.match(/^tps = ([\d.]+)/m) ?? [];
  if (tps === undefined) throw new Error(`pgbench failed: ${stderr}`);
  return Number(tps);
}

function print(what: string, per_s: number | null): void {
  const figure = per_s === null ? "not there" : `${per_s.toFixed(0)}/s`;
  console.log(`${what.padEnd(40)} ${figure.padStart(9)}`);
}

const database = await PostgresServer.start();
try {
  const [row] = await database.run("SHOW server_version");
  const place = `PostgreSQL ${row!.server_version} in ${tmpdir()}`;
  console.log(`${RUNTIME}, ${availableParallelism()} cores, ${place}`);
  print(`pgbench, transfers, ${PGBENCH_CLIENTS} clients`, await measurePgbench(database));
  for (const servers of SERVERS) {
    const what = servers === 1 ? "1 ledger" : `${servers} ledgers`;
    print(`${what}, payments together`, await measureLedgers(database, servers));
  }
} finally {
  await database.stop();
}
