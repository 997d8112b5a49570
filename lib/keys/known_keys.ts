/**
 * Remembers keys that were trusted on first use: the certificates and keys of servers
 * (`known_servers.json`) and the keys of payees (`known_payees.json`). Several clients may share a
 * keys folder.
 */
import { join } from "node:path";
import { certificatePem, parseCertificate } from "./certificate.ts";
import { ED25519_KEY_BYTES } from "./ed25519.ts";
import { SealwireError } from "../base/errors.ts";
import { JsonFile } from "../base/json_file.ts";
import { isSha256, Members, type Sha256 } from "../base/parse.ts";
import { type AccountName, parseAccountName, parseRsaPublicJwk, type RsaPublicJwk } from "./rsa.ts";

const FORMAT_VERSION = 2;
const SERVERS_MAX = 1000;
const PAYEES_MAX = 50_000;
/** Room for the most payees, at some 140 bytes each. A server takes 3 kB. */
const FILE_BYTES_MAX = 8 * 1024 * 1024;
const CERTIFICATE_CHARACTERS_MAX = 100_000;
/** Stands in the place of a thumbprint where the account has no key. */
const NO_KEY = "none";
const UNREADABLE = "trust_file_unreadable";
const ADDRESS = /^[^A-Z\s]{1,255}:[1-9]\d{0,4}$/;

/** What a server's statement has shown. */
export interface KnownIdentity {
  /** The server's RSA key. It is what is trusted. */
  readonly serverKey: RsaPublicJwk;
  /** The key that signs checkpoints: 32 bytes, base64url. */
  readonly logKey: string;
  /** The highest `iat` of its statements, in seconds since 1970. */
  readonly statementTime: number;
}

export interface KnownServer {
  readonly certificatePem: string;
  /** Null for a classic server, which has a certificate only. */
  readonly identity: KnownIdentity | null;
}

/**
 * Servers, by the host and port at which they were reached. Every method may throw
 * `trust_file_unreadable`.
 */
export class KnownServers {
  private readonly file: JsonFile<Map<string, KnownServer>>;

  constructor(folder: string) {
    this.file = openFile(join(folder, "known_servers.json"), "servers", SERVERS_MAX, parseServer);
  }

  get(host: string, port: number): KnownServer | null {
    return this.file.read().get(addressOf(host, port)) ?? null;
  }

  /** All servers, by `host:port`. */
  all(): ReadonlyMap<string, KnownServer> {
    return this.file.read();
  }

  /** Finds what was last seen of the server with this thumbprint, at any address. */
  findIdentity(thumbprint: string): KnownIdentity | null {
    return [...this.file.read().values()]
      .flatMap(({ identity }) => identity ?? [])
      .filter(({ serverKey }) => parseRsaPublicJwk(serverKey).thumbprint === thumbprint)
      .sort((one, other) => other.statementTime - one.statementTime)[0] ?? null;
  }

  /**
   * Records a server, in place of what was known of this address. The caller has made sure that the
   * change is right; `judge` does so once more, with what other processes have recorded meanwhile.
   *
   * @throws {SealwireError} `bad_certificate`, `trust_file_full`, `file_locked`,
   * `folder_unwritable`, `write_failed`; what `judge` throws.
   */
  record(
    host: string,
    port: number,
    { certificatePem: pem, identity }: KnownServer,
    judge: (known: KnownServer | null) => void = () => {},
  ): void {
    const entry = { certificatePem: certificatePem(parseCertificate(pem)), identity };
    const address = addressOf(host, port);
    this.file.update((servers) => {
      judge(servers.get(address) ?? null);
      return servers.set(address, entry);
    });
  }

  /** Forgets a server; false where it was not known. Throws as {@linkcode record} does. */
  forget(host: string, port: number): boolean {
    let found = false;
    this.file.update((servers) => {
      found = servers.delete(addressOf(host, port));
      return found ? servers : null;
    });
    return found;
  }
}

/**
 * The keys of payees at each server. A server is named by the thumbprint of its key. Every method
 * may throw `trust_file_unreadable`.
 */
export class KnownPayees {
  private readonly file: JsonFile<Map<string, string>>;

  constructor(folder: string) {
    this.file = openFile(join(folder, "known_payees.json"), "payees", PAYEES_MAX, parsePayee);
  }

  /**
   * Pins the keys that are about to be paid, all or none, and returns the payees that are new.
   * `keys` maps each payee to a thumbprint, or to null for an account that has no key.
   *
   * @throws {SealwireError} `payee_key_changed` where a payee was paid before under another key;
   * `trust_file_full`, `file_locked`, `folder_unwritable`, `write_failed`.
   */
  pin(server: string, keys: ReadonlyMap<AccountName, string | null>): AccountName[] {
    let added = this.findNew(this.file.read(), server, keys);
    if (added.length === 0) return added;
    this.file.update((payees) => {
      added = this.findNew(payees, server, keys);
      for (const payee of added) payees.set(`${server}/${payee}`, keys.get(payee) ?? NO_KEY);
      return added.length > 0 ? payees : null;
    });
    return added;
  }

  /** The thumbprint of the payee's key as it was paid before; null for none. */
  get(server: string, payee: AccountName): Sha256 | null {
    const known = this.file.read().get(`${server}/${payee}`);
    return known === undefined || known === NO_KEY ? null : known as Sha256;
  }

  /**
   * Pins another key in place of `known`, which has vouched for it. Leaves what another process has
   * pinned meanwhile. Throws as {@linkcode pin} does.
   */
  replace(server: string, payee: AccountName, known: string, key: string): void {
    this.file.update((payees) => {
      const name = `${server}/${payee}`;
      if (payees.get(name) !== known) return null;
      return payees.set(name, key);
    });
  }

  private findNew(
    payees: ReadonlyMap<string, string>,
    server: string,
    keys: ReadonlyMap<AccountName, string | null>,
  ): AccountName[] {
    return [...keys].flatMap(([payee, thumbprint]) => {
      const key = thumbprint ?? NO_KEY;
      const known = payees.get(`${server}/${payee}`);
      if (known === key) return [];
      if (known === undefined) return [payee];
      throw new SealwireError(
        "payee_key_changed",
        `the key of ${payee} is not the one that was paid before ` +
          `(it was ${known}, and is now ${key}): ask ${payee} by other means; ` +
          `if the new key is right, remove ${payee} from ${this.file.path}`,
      );
    });
  }
}

/**
 * Opens a file of at most `entries_max` entries: `{"v":2,"<member>":{"<key>":<entry>,…}}`. `parse`
 * throws where a key and its entry are not what was written.
 */
function openFile<Entry>(
  path: string,
  member: string,
  entries_max: number,
  parse: (key: string, value: unknown) => Entry,
): JsonFile<Map<string, Entry>> {
  return new JsonFile<Map<string, Entry>>(path, {
    version: FORMAT_VERSION,
    size_bytes_max: FILE_BYTES_MAX,
    unreadable_code: UNREADABLE,
    advice: "put back a copy, or move it away to trust anew",
    members: [member],
    empty: () => new Map(),
    parse: (members) => {
      const entries = members.object(member).entries(entries_max);
      return new Map(
        entries.map(([key, value]) => [key, parseEntry(key, () => parse(key, value))]),
      );
    },
    toJson: (entries) => {
      if (entries.size <= entries_max) return { [member]: Object.fromEntries(entries) };
      throw new SealwireError(
        "trust_file_full",
        `${path} holds ${entries_max} ${member}, which is all it takes: remove some`,
      );
    },
  });
}

/** Runs `parse`. An error that it throws names the entry. */
function parseEntry<Entry>(key: string, parse: () => Entry): Entry {
  try {
    return parse();
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new SealwireError(UNREADABLE, `${JSON.stringify(key)}: ${why}`, { cause });
  }
}

function addressOf(host: string, port: number): string {
  return `${host}:${port}`.toLowerCase();
}

function parseServer(address: string, value: unknown): KnownServer {
  if (!ADDRESS.test(address)) throw unreadable("not host and port");
  const members = new Members(value, "its entry", UNREADABLE);
  members.requireExactly("certificatePem", "identity");
  const pem = members.text("certificatePem", CERTIFICATE_CHARACTERS_MAX);
  if (certificatePem(parseCertificate(pem)) !== pem) throw unreadable("not one certificate alone");
  const identity = members.raw("identity");
  return {
    certificatePem: pem,
    identity: identity === null ? null : parseIdentity(members.object("identity")),
  };
}

function parseIdentity(members: Members): KnownIdentity {
  members.requireExactly("serverKey", "logKey", "statementTime");
  return {
    serverKey: parseRsaPublicJwk(members.raw("serverKey")).jwk,
    logKey: members.bytes("logKey", ED25519_KEY_BYTES),
    statementTime: members.time_s("statementTime"),
  };
}

function parsePayee(key: string, value: unknown): string {
  const [server, payee, ...more] = key.split("/");
  parseThumbprint(server);
  parseAccountName(payee);
  if (more.length > 0) throw unreadable("more than a server and a payee");
  return value === NO_KEY ? value : parseThumbprint(value);
}

function parseThumbprint(value: unknown): Sha256 {
  if (isSha256(value)) return value;
  throw unreadable("not a SHA-256 thumbprint");
}

function unreadable(why: string): SealwireError {
  return new SealwireError(UNREADABLE, why);
}
