/**
 * The one error family. A `SealwireError` carries a stable `code` that scripts and other clients may rely on
 * (PROTOCOL.md lists them), a sentence for a person, and the cause.
 */

/** Exit status of a tool that stops with an error: refused or failed, wrong usage, outcome or peer uncertain. */
export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;
export const EXIT_NO_CONNECTION = 3;
export const EXIT_INTERRUPTED = 130;

/** Codes whose exit status is not {@linkcode EXIT_FAILED}. */
const EXIT_STATUS_BY_CODE: Readonly<Record<string, number>> = {
  usage: EXIT_USAGE,
  bad_name: EXIT_USAGE,
  bad_amount: EXIT_USAGE,
  no_connection: EXIT_NO_CONNECTION,
  connection_lost: EXIT_NO_CONNECTION,
  timeout: EXIT_NO_CONNECTION,
  server_untrusted: EXIT_NO_CONNECTION,
  server_changed: EXIT_NO_CONNECTION,
  ledger_forked: EXIT_NO_CONNECTION,
  outcome_unknown: EXIT_NO_CONNECTION,
  interrupted: EXIT_INTERRUPTED,
};

export class SealwireError extends Error {
  override readonly name = "SealwireError";
  /** Stable, lower-case, `snake_case`: `insufficient_funds`. */
  readonly code: string;
  /** More for scripts, printed beside the error under `--json`: `{payment: "…"}`. */
  readonly details: object;

  constructor(code: string, message: string, options: { cause?: unknown; details?: object } = {}) {
    super(message, { cause: options.cause });
    this.code = code;
    this.details = options.details ?? {};
  }
}

/** What is thrown but is no {@linkcode SealwireError} is a fault of ours: code `internal`. */
export function internalError(error: unknown): SealwireError {
  const message = error instanceof Error ? error.message : String(error);
  return new SealwireError("internal", message, { cause: error });
}

/** Whether `error` is a {@linkcode SealwireError}, with that `code` where one is given. */
export function isSealwireError(error: unknown, code?: string): error is SealwireError {
  return error instanceof SealwireError && (code === undefined || error.code === code);
}

/** The exit status that a tool ends with when it stops because of `error`. */
export function exitStatus(error: unknown): number {
  return isSealwireError(error) ? EXIT_STATUS_BY_CODE[error.code] ?? EXIT_FAILED : EXIT_FAILED;
}

/** The `code` of a system error (`ENOENT`), or undefined for anything else. */
export function systemErrorCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}
