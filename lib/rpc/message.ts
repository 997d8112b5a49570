/**
 * Parses and formats JSON-RPC 2.0 messages, one a line.
 * https://www.jsonrpc.org/specification
 */
import { type ErrorCode, isSealwireError, peerError, SealwireError } from "../base/errors.ts";

export type Id = string | number;

export type Message =
  | { kind: "request"; id: Id; method: string; params: unknown }
  | { kind: "notification"; method: string; params: unknown }
  | { kind: "result"; id: Id; result: unknown }
  /** An error without an id concerns the connection. */
  | { kind: "error"; id: Id | null; error: SealwireError }
  /** JSON, but no JSON-RPC. The error is the answer to it. */
  | { kind: "invalid"; id: Id | null; error: SealwireError };

const ID_CHARACTERS_MAX = 64;
/** How much of the message of a peer's error is kept. */
const ERROR_MESSAGE_CHARACTERS_MAX = 1_000;

/** What of a peer's details is kept: scalars under names that mean the same everywhere. */
const DETAILS_KEPT = ["limit", "max", "retry_after_ms", "signed_size", "size"];
const DETAIL_CHARACTERS_MAX = 64;

/** The integers that JSON-RPC reserves (section 5.1). */
const INTEGER_BY_CODE: Readonly<Partial<Record<ErrorCode, number>>> = {
  parse_error: -32700,
  invalid_request: -32600,
  unknown_method: -32601,
  invalid_params: -32602,
  internal: -32603,
};
/** All other codes share one integer of the range that is left to servers. */
const INTEGER_OF_OTHERS = -32000;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Parses one line.
 *
 * The nesting is limited because parts of a message may be formatted again, and `JSON.stringify` of
 * Bun takes seconds at a depth of 30,000.
 *
 * @throws {SealwireError} `parse_error` where the line is not UTF-8, not JSON, or nested more than
 * `nesting_max` deep.
 */
export function parseMessage(line: Uint8Array, nesting_max: number): Message {
  let value: unknown;
  try {
    const text = decoder.decode(line);
    if (isNestedDeeper(text, nesting_max)) {
      throw new RangeError(`nested deeper than ${nesting_max}`);
    }
    value = JSON.parse(text);
  } catch (cause) {
    throw new SealwireError("parse_error", "the line is not JSON in UTF-8, or nested too deep", {
      cause,
    });
  }
  if (typeof value !== "object" || value === null) return invalid(null, "no JSON object");
  if (Array.isArray(value)) return invalid(null, "batches are not served");
  return classify(value as Record<string, unknown>);
}

/** Looks at the nesting of JSON. For other text the result does not matter. */
function isNestedDeeper(text: string, nesting_max: number): boolean {
  let depth = 0;
  let inString = false;
  for (let at = 0; at < text.length; at++) {
    const character = text.charCodeAt(at);
    if (inString) {
      if (character === BACKSLASH) at++;
      else if (character === QUOTE) inString = false;
    } else if (character === QUOTE) inString = true;
    else if (character === OPEN_BRACKET || character === OPEN_BRACE) {
      depth++;
      if (depth > nesting_max) return true;
    } else if (character === CLOSE_BRACKET || character === CLOSE_BRACE) depth--;
  }
  return false;
}

function classify(value: Record<string, unknown>): Message {
  const { jsonrpc, id, method, params } = value;
  const validId = isId(id) ? id : null;
  if (jsonrpc !== "2.0") return invalid(validId, `"jsonrpc" must be "2.0"`);
  if (method !== undefined) {
    if (typeof method !== "string") return invalid(validId, `"method" must be a string`);
    if (params !== undefined && (typeof params !== "object" || params === null)) {
      return invalid(validId, `"params" must be an object`);
    }
    if (id === undefined) return { kind: "notification", method, params };
    if (validId !== null) return { kind: "request", id: validId, method, params };
    return invalid(
      null,
      `"id" must be a string of at most ${ID_CHARACTERS_MAX} characters or an integer`,
    );
  }
  if (value.error !== undefined) {
    return { kind: "error", id: validId, error: readError(value.error) };
  }
  if (value.result !== undefined && validId !== null) {
    return { kind: "result", id: validId, result: value.result };
  }
  return invalid(validId, "neither a request nor an answer");
}

function isId(id: unknown): id is Id {
  return Number.isSafeInteger(id) || (typeof id === "string" && id.length <= ID_CHARACTERS_MAX);
}

function invalid(id: Id | null, reason: string): Message {
  return {
    kind: "invalid",
    id,
    error: new SealwireError("invalid_request", `no valid request: ${reason}`),
  };
}

/** Reads an error that a peer sent, and replaces what cannot be understood. */
function readError(value: unknown): SealwireError {
  const { message, data } = asObject(value);
  const { code, ...details } = asObject(data);
  const sentence = typeof message === "string"
    ? message.slice(0, ERROR_MESSAGE_CHARACTERS_MAX)
    : "the peer reports an error";
  return peerError(code, sentence, keptDetails(details));
}

/** Other details could pass for results of our own, which are printed beside them. */
function keptDetails(details: Record<string, unknown>): object {
  const kept = DETAILS_KEPT.filter((name) => Object.hasOwn(details, name)).filter((name) => {
    const value = details[name];
    return typeof value === "number" ||
      (typeof value === "string" && value.length <= DETAIL_CHARACTERS_MAX);
  });
  return Object.fromEntries(kept.map((name) => [name, details[name]]));
}

function asObject(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? value as Record<string, unknown> : {};
}

export function formatRequest(id: Id, method: string, params: object): string {
  return JSON.stringify({ jsonrpc: "2.0", id, method, params }) + "\n";
}

export function formatNotification(method: string, params: object): string {
  return JSON.stringify({ jsonrpc: "2.0", method, params }) + "\n";
}

/** Formats a result. Throws a TypeError for what JSON cannot express. */
export function formatResult(id: Id, result: unknown): string {
  return JSON.stringify({ jsonrpc: "2.0", id, result: result ?? null }) + "\n";
}

/**
 * Formats an error. An error that is not a {@linkcode SealwireError} becomes `internal`, and its
 * message is left out.
 */
export function formatError(id: Id | null, error: unknown): string {
  const { code, message, details } = isSealwireError(error)
    ? error
    : new SealwireError("internal", "an internal error; the request may be tried again");
  const data = { ...details, code };
  const integer = INTEGER_BY_CODE[code] ?? INTEGER_OF_OTHERS;
  return JSON.stringify({ jsonrpc: "2.0", id, error: { code: integer, message, data } }) + "\n";
}
