/**
 * Where the ledger's PostgreSQL database is: `postgres://user@host:port/database`, as libpq reads
 * it, but strict. A parameter that is not known is refused, because a mistyped `sslmode` would
 * otherwise mean a connection without TLS.
 */
import { readFileSync, statSync } from "node:fs";
import { isIP } from "node:net";
import process from "node:process";
import { SealwireError, systemErrorCode } from "../base/errors.ts";

const PORT_DEFAULT = 5432;
const PARAMETERS: ReadonlySet<string> = new Set(["host", "sslmode", "sslrootcert"]);
const OTHERS_MAY_READ = 0o077;

export interface PostgresTarget {
  readonly host: string;
  readonly port: number;
  /** The socket's path where `host` is a folder, null for TCP. */
  readonly socketPath: string | null;
  readonly database: string;
  readonly user: string;
  /** Empty where the database asks for none. */
  readonly password: string;
  /**
   * Null: plain. `ca`: PEM of the authorities that may vouch for the database; undefined: the
   * system's.
   */
  readonly tls: { readonly ca: string | undefined } | null;
}

/** The environment variables that count. */
export interface PostgresEnvironment {
  readonly PGPASSWORD?: string | undefined;
  readonly PGPASSFILE?: string | undefined;
}

export function isPostgresUrl(text: string): boolean {
  return /^postgres(ql)?:\/\//.test(text);
}

/** @throws {SealwireError} `store_unusable`, with a sentence that never shows the password. */
export function parsePostgresUrl(
  text: string,
  environment: PostgresEnvironment = {
    PGPASSWORD: process.env.PGPASSWORD,
    PGPASSFILE: process.env.PGPASSFILE,
  },
): PostgresTarget {
  const url = parseUrl(text);
  const parameters = parametersOf(url);
  const host = parameters.get("host") ?? decode(url.hostname.replace(/^\[|\]$/g, ""), "host");
  if (host === "") throw unusable("it names no host");
  if (host.includes(",")) throw unusable("it names several hosts, and one is expected");
  const user = decode(url.username, "user");
  if (user === "") throw unusable("it names no user");
  const database = decode(url.pathname.slice(1), "database");
  if (database === "" || database.includes("/")) throw unusable("it names no database");
  const port = url.port === "" ? PORT_DEFAULT : Number(url.port);
  const socketPath = host.startsWith("/") ? `${host}/.s.PGSQL.${port}` : null;
  const place = { host, port, database, user };
  const password = url.password === ""
    ? passwordFor(place, environment)
    : decode(url.password, "password");
  return { ...place, socketPath, password, tls: tlsOf(parameters, host) };
}

/** The database as people are told of it: no password. */
export function describeTarget(
  { host, port, database, user }: Pick<PostgresTarget, "host" | "port" | "database" | "user">,
): string {
  return `database ${database} on ${host}:${port} as ${user}`;
}

function parseUrl(text: string): URL {
  if (!isPostgresUrl(text)) throw unusable("it does not start with postgres://");
  try {
    return new URL(text);
  } catch {
    // The cause would show the whole URL, and so the password.
    throw unusable(
      "it cannot be read: a character such as @ or / within a password is written %40 or %2F",
    );
  }
}

function parametersOf(url: URL): Map<string, string> {
  const parameters = new Map<string, string>();
  for (const [name, value] of url.searchParams) {
    if (!PARAMETERS.has(name)) {
      throw unusable(`${name} is none of its parameters, which are ${[...PARAMETERS].join(", ")}`);
    }
    parameters.set(name, value);
  }
  if (url.hash !== "") throw unusable("it ends with a #: write %23 within a password");
  return parameters;
}

function decode(text: string, what: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw unusable(`its ${what} has a % that is not followed by two hexadecimal digits`);
  }
}

/**
 * TLS with a verified certificate, unless the database is on this machine or the operator says
 * otherwise.
 */
function tlsOf(parameters: ReadonlyMap<string, string>, host: string): PostgresTarget["tls"] {
  const mode = parameters.get("sslmode") ?? (isThisMachine(host) ? "disable" : "verify-full");
  const rootCert = parameters.get("sslrootcert");
  if (mode === "disable") {
    if (rootCert !== undefined) throw unusable("sslrootcert needs sslmode=verify-full");
    return null;
  }
  if (mode !== "verify-full") {
    throw unusable(
      `sslmode=${mode} would trust a database that only claims to be the right one: ` +
        "use sslmode=verify-full, with sslrootcert=FILE where its certificate is not signed by a public authority",
    );
  }
  if (host.startsWith("/")) throw unusable("a Unix socket has no TLS: leave out sslmode");
  if (rootCert === undefined || rootCert === "system") return { ca: undefined };
  try {
    return { ca: readFileSync(rootCert, "utf8") };
  } catch (cause) {
    throw unusable(`sslrootcert ${rootCert} cannot be read (${systemErrorCode(cause)})`);
  }
}

function isThisMachine(host: string): boolean {
  if (host.startsWith("/") || host === "localhost" || host === "::1") return true;
  return isIP(host) === 4 && host.startsWith("127.");
}

function passwordFor(
  place: Pick<PostgresTarget, "host" | "port" | "database" | "user">,
  { PGPASSWORD, PGPASSFILE }: PostgresEnvironment,
): string {
  if (PGPASSWORD !== undefined && PGPASSWORD !== "") return PGPASSWORD;
  return PGPASSFILE === undefined || PGPASSFILE === "" ? "" : passwordInFile(place, PGPASSFILE);
}

/**
 * A file of lines `host:port:database:user:password`, `*` for any; the first that matches counts
 * (libpq, 34.16).
 */
function passwordInFile(
  { host, port, database, user }: Pick<PostgresTarget, "host" | "port" | "database" | "user">,
  path: string,
): string {
  const wanted = [host, String(port), database, user];
  for (const line of readPasswordFile(path).split(/\r?\n/)) {
    if (line.startsWith("#")) continue;
    // A backslash keeps a colon or a backslash from meaning anything.
    const fields = [...line.matchAll(/((?:\\.|[^:\\])*)(?::|$)/g)].map(([, field]) =>
      field!.replace(/\\(.)/g, "$1")
    );
    if (fields.length < 5) continue;
    if (wanted.every((value, at) => fields[at] === "*" || fields[at] === value)) return fields[4]!;
  }
  return "";
}

function readPasswordFile(path: string): string {
  try {
    if ((statSync(path).mode & OTHERS_MAY_READ) !== 0) {
      throw unusable(`others may read PGPASSFILE ${path}: run chmod 600 on it`);
    }
    return readFileSync(path, "utf8");
  } catch (error) {
    if (error instanceof SealwireError) throw error;
    throw unusable(`PGPASSFILE ${path} cannot be read (${systemErrorCode(error)})`);
  }
}

function unusable(why: string): SealwireError {
  return new SealwireError(
    "store_unusable",
    `cannot use the database's URL: ${why}. It reads postgres://user@host:port/database`,
  );
}
