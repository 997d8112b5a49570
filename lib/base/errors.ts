/**
 * The one error family. A `SealwireError` carries a stable `code` that scripts and other clients may rely on
 * (docs/protocol lists them), a sentence for a person, and the cause.
 */

/** Every code. What a peer reports by a code that is none of these is `peer_error`. */
export const ERROR_CODES = [
  // Any tool
  "bad_amount",
  "bad_link",
  "bad_name",
  "bad_unit",
  "internal",
  "interrupted",
  "usage",
  // Connections
  "connection_lost",
  "no_connection",
  "outcome_unknown",
  "server_changed",
  "server_unknown",
  "server_untrusted",
  "timeout",
  // Listening on a port
  "address_unavailable",
  "port_forbidden",
  "port_in_use",
  // Requests and their answers
  "bad_answer",
  "invalid_params",
  "invalid_request",
  "limit_exceeded",
  "overloaded",
  "parse_error",
  "peer_error",
  "rate_limited",
  "unknown_method",
  // Accounts and sessions
  "already_logged_in",
  "bad_invite",
  "displaced",
  "invite_required",
  "invite_used",
  "login_refused",
  "login_required",
  "name_reserved",
  "name_taken",
  "registration_closed",
  "too_many_failures",
  "too_many_sessions",
  "unknown_account",
  // Signatures, tokens and delegations
  "bad_key",
  "bad_signature",
  "bad_token",
  "delegation_expired",
  "delegation_not_yet_valid",
  "signature_required",
  "wrong_certificate",
  "wrong_delegation",
  "wrong_key",
  "wrong_nonce",
  "wrong_server",
  // Orders
  "bad_item",
  "cancelled",
  "insufficient_funds",
  "memo_too_long",
  "no_payee_key",
  "not_a_party",
  "not_confirmed",
  "order_conflict",
  "order_expired",
  "order_from_future",
  "payee_key_changed",
  "payer_is_payee",
  "refund_of_refund",
  "refund_too_much",
  "refund_unknown",
  "request_declined",
  "request_differs",
  "request_expired",
  "request_limit",
  "request_paid",
  "request_unknown",
  "request_withdrawn",
  "treasury_limit",
  "unknown_payee",
  // Offers from client to client
  "bad_offer",
  "bad_port",
  "one_offer",
  "payee_unreachable",
  "payer_offline",
  // Receipts, and what the ledger proves
  "audit_failed",
  "bad_checkpoint",
  "bad_evidence",
  "bad_entry",
  "bad_path",
  "bad_proof",
  "bad_receipt",
  "index_required",
  "ledger_forked",
  "ledger_not_linked",
  "ledger_rolled_back",
  "unknown_payment",
  "unknown_size",
  // The ledger's store
  "anchor_unreadable",
  "clock_unsteady",
  "failover_pending",
  "ledger_missing",
  "ledger_moved",
  "ledger_of_another_server",
  "settings_differ",
  "store_damaged",
  "store_unavailable",
  "store_unusable",
  // Keys, and what a client remembers in files
  "bad_certificate",
  "certificate_expired",
  "file_locked",
  "folder_unwritable",
  "key_exists",
  "key_mismatch",
  "key_missing",
  "key_unreadable",
  "key_unwritable",
  "memory_unreadable",
  "outbox_full",
  "outbox_unreadable",
  "trust_file_full",
  "trust_file_unreadable",
  // The AES channel and pairing
  "decrypt_failed",
  "handshake_failed",
  "not_a_channel",
  "pairing_busy",
  "pairing_closed",
  "pairing_unconfirmed",
  "pairing_wrong_code",
  "protocol_error",
  // Messages and files over it
  "disk_full",
  "file_busy",
  "file_changed",
  "file_unreadable",
  "folder_in_use",
  "message_too_long",
  "not_a_file",
  "server_busy",
  "target_exists",
  "unsafe_path",
  "write_failed",
] as const;

export type ErrorCode = typeof ERROR_CODES[number];

const ERROR_CODE_SET: ReadonlySet<unknown> = new Set(ERROR_CODES);

export function isErrorCode(value: unknown): value is ErrorCode {
  return ERROR_CODE_SET.has(value);
}

export class SealwireError extends Error {
  override readonly name = "SealwireError";
  readonly code: ErrorCode;
  /** More for scripts, printed beside the error under `--json`: `{payment: "…"}`. */
  readonly details: object;

  constructor(
    code: ErrorCode,
    message: string,
    options: { cause?: unknown; details?: object } = {},
  ) {
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

/** A {@linkcode SealwireError} as it is, and anything else as an {@linkcode internalError}. */
export function toSealwireError(error: unknown): SealwireError {
  return isSealwireError(error) ? error : internalError(error);
}

/** Codes that only this end can know. From a peer they would choose what is done and how it exits. */
const OWN_CODES: ReadonlySet<ErrorCode> = new Set([
  "connection_lost",
  "interrupted",
  "ledger_forked",
  "ledger_not_linked",
  "no_connection",
  "outcome_unknown",
  "peer_error",
  "server_changed",
  "server_unknown",
  "server_untrusted",
  "timeout",
  "usage",
]);

const PEER_CODE = /^\w{1,64}$/;

/**
 * The error that a peer reports under `code`. A code that is none of ours, or that only this end can know, becomes
 * `peer_error`, with the peer's own in `details.peer_code` when it is a word of at most 64 characters.
 */
export function peerError(code: unknown, message: string, details: object = {}): SealwireError {
  if (isErrorCode(code) && !OWN_CODES.has(code)) {
    return new SealwireError(code, message, { details });
  }
  const named = typeof code === "string" && PEER_CODE.test(code);
  return new SealwireError("peer_error", message, {
    details: named ? { ...details, peer_code: code } : details,
  });
}

/** Whether `error` is a {@linkcode SealwireError}, with that `code` where one is given. */
export function isSealwireError(error: unknown, code?: ErrorCode): error is SealwireError {
  return error instanceof SealwireError && (code === undefined || error.code === code);
}

/** The other end is away, cut off, or cannot answer just now. */
const WORTH_RETRYING: ReadonlySet<ErrorCode> = new Set([
  "clock_unsteady",
  "connection_lost",
  "failover_pending",
  "internal",
  "no_connection",
  "overloaded",
  "rate_limited",
  "store_unavailable",
  "timeout",
]);

/** The other end is not the server that it should be. */
const SERVER_UNTRUSTED: ReadonlySet<ErrorCode> = new Set([
  "ledger_forked",
  "ledger_not_linked",
  "ledger_rolled_back",
  "server_changed",
  "server_untrusted",
]);

/** Besides {@linkcode WORTH_RETRYING} and {@linkcode SERVER_UNTRUSTED}: no judgement of what was asked. */
const NO_JUDGEMENT: ReadonlySet<ErrorCode> = new Set([
  "ledger_moved",
  "store_damaged",
  "bad_answer",
  "interrupted",
  "login_required",
]);

/**
 * May the same thing succeed a moment later, on a new connection if need be? True while the other end is away, cut off or
 * cannot answer just now.
 */
export function isWorthRetrying(error: unknown): boolean {
  return isSealwireError(error) && WORTH_RETRYING.has(error.code);
}

/** The longest wait that a peer can ask for. */
const RETRY_AFTER_MS_MAX = 60_000;

/**
 * How long the other end asks to wait before the same thing is tried again on the same connection.
 * Null where it does not say so.
 */
export function retryAfterMs(error: unknown): number | null {
  if (!isWorthRetrying(error)) return null;
  const { retry_after_ms: wait_ms } = (error as SealwireError).details as Record<string, unknown>;
  return typeof wait_ms === "number" && wait_ms > 0 ? Math.min(wait_ms, RETRY_AFTER_MS_MAX) : null;
}

/**
 * May a new connection go on with what a lost one began, on the AES channel? As {@linkcode isWorthRetrying}, and
 * `server_untrusted`: a server that is restarted cuts handshakes off, which looks like a server without the key. Ask only
 * after a first connection has shown that the server holds the key.
 */
export function isWorthResuming(error: unknown): error is SealwireError {
  return isSealwireError(error) && (isWorthRetrying(error) || error.code === "server_untrusted");
}

/** Is the other end not the server that it should be? Then nothing it says counts, and asking again is no use. */
export function isServerUntrusted(error: unknown): boolean {
  return isSealwireError(error) && SERVER_UNTRUSTED.has(error.code);
}

/**
 * Did the server judge what was asked, and say no? False where the answer never came, cannot be believed, or says
 * nothing about the request itself. Codes that this version does not know are judgements.
 */
export function isRefusal(error: unknown): error is SealwireError {
  return isSealwireError(error) && !isWorthRetrying(error) && !isServerUntrusted(error) &&
    !NO_JUDGEMENT.has(error.code);
}

/** The `code` of a system error (`ENOENT`), or undefined for anything else. */
export function systemErrorCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}
