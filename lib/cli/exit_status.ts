/** The exit statuses of the tools. Scripts depend on them. */
import { type ErrorCode, isSealwireError } from "../base/errors.ts";

/** Refused or failed. */
export const EXIT_FAILED = 1;
/** Wrong usage. */
export const EXIT_USAGE = 2;
/** No connection, the wrong server, or an outcome that is not known yet. */
export const EXIT_NO_CONNECTION = 3;
export const EXIT_INTERRUPTED = 130;

/** Codes whose exit status is not {@linkcode EXIT_FAILED}. */
const EXIT_STATUS_BY_CODE: Readonly<Partial<Record<ErrorCode, number>>> = {
  usage: EXIT_USAGE,
  bad_name: EXIT_USAGE,
  bad_amount: EXIT_USAGE,
  bad_link: EXIT_USAGE,
  no_connection: EXIT_NO_CONNECTION,
  connection_lost: EXIT_NO_CONNECTION,
  timeout: EXIT_NO_CONNECTION,
  store_unavailable: EXIT_NO_CONNECTION,
  server_untrusted: EXIT_NO_CONNECTION,
  server_changed: EXIT_NO_CONNECTION,
  ledger_forked: EXIT_NO_CONNECTION,
  ledger_not_linked: EXIT_NO_CONNECTION,
  ledger_rolled_back: EXIT_NO_CONNECTION,
  outcome_unknown: EXIT_NO_CONNECTION,
  interrupted: EXIT_INTERRUPTED,
};

/** The exit status that a tool ends with when it stops because of `error`. */
export function exitStatus(error: unknown): number {
  return isSealwireError(error) ? EXIT_STATUS_BY_CODE[error.code] ?? EXIT_FAILED : EXIT_FAILED;
}
