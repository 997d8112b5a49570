/**
 * What PostgreSQL's errors mean to the ledger, by SQLSTATE (PostgreSQL documentation, appendix A). Which of them leave
 * open whether a COMMIT has happened is decided here too.
 */
import { SealwireError, systemErrorCode } from "../base/errors.ts";
import { describeTarget, type PostgresTarget } from "./postgres_url.ts";

const SERIALIZATION_FAILURE = "40001";
const DEADLOCK_DETECTED = "40P01";

/** What the database said; other errors come from the connection. */
interface DatabaseError extends Error {
  readonly code: string;
  readonly severity: string;
}

function isDatabaseError(error: unknown): error is DatabaseError {
  return error instanceof Error && error.name === "PostgresError";
}

/** Nothing has happened, and the same transaction may succeed right after. */
export function isRetryable(error: unknown): boolean {
  return isDatabaseError(error) &&
    (error.code === SERIALIZATION_FAILURE || error.code === DEADLOCK_DETECTED);
}

/** The session is over: the connection broke, or the database ended it. */
export function isSessionLost(error: unknown): boolean {
  if (error instanceof SealwireError) return false;
  if (isDatabaseError(error)) return error.severity === "FATAL" || error.severity === "PANIC";
  return error instanceof ConnectionLostError || systemErrorCode(error) !== undefined;
}

/** The connection to the database broke, or was given up because no answer came. */
export class ConnectionLostError extends Error {
  override readonly name = "ConnectionLostError";
}

/** Why a session cannot be opened. Never shows the password. */
export function connectError(error: unknown, target: PostgresTarget): SealwireError {
  if (error instanceof SealwireError) return error;
  const where = describeTarget(target);
  const unusable = isDatabaseError(error) ? refusedForGood(error.code, target) : undefined;
  if (unusable !== undefined) {
    return new SealwireError("store_unusable", `cannot use ${where}: ${unusable}`, {
      cause: error,
    });
  }
  const why = isDatabaseError(error) ? error.message : explainConnection(error, target);
  return new SealwireError(
    "store_unavailable",
    `cannot reach ${where}: ${why}`,
    { cause: error },
  );
}

/** What trying again does not change. */
function refusedForGood(code: string, { password }: PostgresTarget): string | undefined {
  switch (code) {
    case "28P01":
      return `${password === "" ? "it asks for a password" : "the password is wrong"}. ` +
        "It comes from the URL, PGPASSWORD or the file that PGPASSFILE names";
    case "28000":
      return "its pg_hba.conf does not let this user in from here";
    case "3D000":
      return 'there is no such database. Create it with "createdb"';
    case "42501":
      return "this user may not connect to it. The database's owner can GRANT CONNECT";
  }
}

function explainConnection(error: unknown, { tls }: PostgresTarget): string {
  const code = systemErrorCode(error);
  if (code === "ENOTFOUND" || code === "EAI_AGAIN") {
    return "there is no host of that name. Check the URL";
  }
  if (code === "ECONNREFUSED" || code === "ENOENT") {
    return "nothing listens there. Is PostgreSQL running?";
  }
  if (tls !== null && code !== undefined && isCertificateCode(code)) {
    return `its certificate is not to be trusted (${code}). Name the authority that signed it by sslrootcert=FILE`;
  }
  return error instanceof Error ? error.message : String(error);
}

function isCertificateCode(code: string): boolean {
  return code.includes("CERT") || code.includes("SIGNATURE") || code.includes("ALTNAME");
}

/**
 * What a failed statement means. A broken constraint and a statement that cannot be right are faults of ours and stay
 * what they are; everything else is the database's, and passes.
 */
export function statementError(error: unknown): unknown {
  if (error instanceof SealwireError) return error;
  const isOurs = isDatabaseError(error)
    ? /^(22|23|42)/.test(error.code) && error.code !== "42501"
    : !isSessionLost(error);
  return isOurs ? error : unavailable(error);
}

export function unavailable(cause: unknown): SealwireError {
  const why = cause instanceof Error ? ` (${cause.message})` : "";
  return new SealwireError(
    "store_unavailable",
    `the ledger's database cannot be read or written now: try again${why}`,
    { cause },
  );
}

/** Whether the answer to COMMIT leaves open what happened: anything but the database's plain no. */
export function isCommitInDoubt(error: unknown): boolean {
  return !isDatabaseError(error) || isSessionLost(error);
}
