/**
 * Parses untrusted JSON into values that cannot be wrong, once, where they come in. The claims of a
 * token, the parameters of a request and the content of a file are `unknown` until then.
 */
import { Buffer } from "node:buffer";
import { type ErrorCode, SealwireError } from "./errors.ts";

/** A UUID in lower case. */
export type Uuid = string & { readonly __brand: "Uuid" };
/** SHA-256 as 43 characters of canonical base64url. */
export type Sha256 = string & { readonly __brand: "Sha256" };

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const SHA256_BYTES = 32;

/**
 * Decodes base64url without padding (RFC 4648, section 5). Returns null unless the text is
 * canonical, that is encodes to itself again.
 */
export function decodeBase64url(text: string): Uint8Array | null {
  return decodeCanonical(text, "base64url");
}

/**
 * Decodes base64 with padding (RFC 4648, section 4). Returns null unless the text is canonical.
 */
export function decodeBase64(text: string): Uint8Array | null {
  return decodeCanonical(text, "base64");
}

function decodeCanonical(text: string, encoding: "base64" | "base64url"): Uint8Array | null {
  const bytes = Buffer.from(text, encoding);
  return bytes.toString(encoding) === text ? bytes : null;
}

export function isUuid(value: unknown): value is Uuid {
  return typeof value === "string" && UUID.test(value);
}

export function encodeBase64url(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64url");
}

export function encodeBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
}

/** Whether a value is the base64url of 32 bytes, as of a SHA-256. */
export function isSha256(value: unknown): value is Sha256 {
  return isBase64urlOf(value, SHA256_BYTES);
}

function isBase64urlOf(value: unknown, size_bytes: number): value is string {
  return typeof value === "string" && value.length <= size_bytes * 2 &&
    decodeBase64url(value)?.length === size_bytes;
}

/**
 * Reads the members of one JSON object, each with the type that it must have.
 *
 * Every method throws a {@linkcode SealwireError} with the `code` given to the constructor where
 * the member has another type. The message names the member.
 */
export class Members {
  private readonly members: Record<string, unknown>;

  constructor(value: unknown, private readonly what: string, private readonly code: ErrorCode) {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new SealwireError(code, `${what} must be an object`);
    }
    this.members = value as Record<string, unknown>;
  }

  has(name: string): boolean {
    return Object.hasOwn(this.members, name);
  }

  /** Throws where the object has other members than these, or lacks one of them. */
  requireExactly(...names: readonly string[]): void {
    const found = Object.keys(this.members);
    if (found.length === names.length && names.every((name) => this.has(name))) return;
    throw new SealwireError(
      this.code,
      `${this.what} must have the members ${names.join(", ")} and no others`,
    );
  }

  /** All members of an object whose names are not fixed. */
  entries(count_max: number): [name: string, value: unknown][] {
    const entries = Object.entries(this.members);
    if (entries.length <= count_max) return entries;
    throw new SealwireError(this.code, `${this.what} must have at most ${count_max} members`);
  }

  /** The object itself, for a parser of its own. */
  all(): unknown {
    return this.members;
  }

  /** The member without any check, undefined where it is missing. For a parser of its own. */
  raw(name: string): unknown {
    return this.has(name) ? this.members[name] : undefined;
  }

  text(name: string, characters_max: number): string {
    const value = this.raw(name);
    if (typeof value === "string" && value.length <= characters_max) return value;
    throw this.wrong(name, `text of at most ${characters_max} characters`);
  }

  /** One fixed value, for example a version. */
  constant<const T extends string | number | null>(name: string, expected: T): T {
    if (this.raw(name) === expected) return expected;
    throw this.wrong(name, JSON.stringify(expected));
  }

  integer(name: string, min: number, max: number): number {
    const value = this.raw(name);
    if (typeof value === "number" && Number.isInteger(value) && value >= min && value <= max) {
      return value;
    }
    throw this.wrong(name, `a whole number from ${min} to ${max}`);
  }

  /** Whole seconds since 1970 (RFC 7519, NumericDate). */
  time_s(name: string): number {
    return this.integer(name, 0, Number.MAX_SAFE_INTEGER);
  }

  uuid(name: string): Uuid {
    const value = this.raw(name);
    if (isUuid(value)) return value;
    throw this.wrong(name, "a UUID in lower case");
  }

  sha256(name: string): Sha256 {
    return this.bytes(name, SHA256_BYTES) as Sha256;
  }

  sha256OrNull(name: string): Sha256 | null {
    return this.raw(name) === null ? null : this.sha256(name);
  }

  /** Canonical base64url of exactly `size_bytes`, as text. */
  bytes(name: string, size_bytes: number): string {
    const value = this.raw(name);
    if (isBase64urlOf(value, size_bytes)) return value;
    throw this.wrong(name, `${size_bytes} bytes as base64url`);
  }

  list(name: string, count_max: number): unknown[] {
    const value = this.raw(name);
    if (Array.isArray(value) && value.length <= count_max) return value;
    throw this.wrong(name, `a list of at most ${count_max}`);
  }

  object(name: string): Members {
    return new Members(this.raw(name), `${this.what}: ${name}`, this.code);
  }

  private wrong(name: string, expected: string): SealwireError {
    return new SealwireError(this.code, `${this.what}: ${name} must be ${expected}`);
  }
}

/** Parses a UUID that a person typed, in any case. Throws `usage`, which names the argument. */
export function parseUuidArgument(argument: string, text: string): Uuid {
  const lower = text.toLowerCase();
  if (isUuid(lower)) return lower;
  throw new SealwireError("usage", `${argument} takes a UUID, not "${text}"`);
}
