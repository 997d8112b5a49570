/**
 * The one error family. A `SealwireError` carries a stable `code` that scripts and other clients may rely on
 * (PROTOCOL.md lists them), a sentence for a person, and the cause.
 */

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

/** The `code` of a system error (`ENOENT`), or undefined for anything else. */
export function systemErrorCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}
