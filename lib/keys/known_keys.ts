/**
 * Who was trusted on first use: the servers with their certificates (`known_servers.json`), and the keys of everyone who
 * was paid (`known_payees.json`). Both are read afresh at each call, so several clients may share a keys folder. A file
 * that is not what this module writes is an error and stays as it is: starting over would forget whom not to trust.
 */
import { join } from "node:path";
import { certificatePem, parseCertificate } from "./certificate.ts";
import { SealwireError } from "../base/errors.ts";
import { withFileLock } from "../base/file_lock.ts";
import { PRIVATE_FILE_MODE, readTextFile, writeFileAtomic } from "../base/files.ts";
import { type AccountName, parseAccountName, parseRsaPublicJwk, type RsaPublicJwk } from "./rsa.ts";

const FORMAT_VERSION = 1;
const SERVERS_MAX = 1000;
const PAYEES_MAX = 50_000;
/** The most payees, at some 140 bytes each; servers take 3 kB each. */
const FILE_BYTES_MAX = 8 * 1024 * 1024;
/** In the place of a thumbprint: the account has no key. */
const NO_KEY = "none";
/** 32 bytes as canonical base64url: the last character has two bits to spare. */
const THUMBPRINT = /^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/;
const ADDRESS = /^[^A-Z\s]{1,255}:[1-9]\d{0,4}$/;

export interface KnownServer {
  readonly certificatePem: string;
  /** The server's RSA key; null until a login has shown it. */
  readonly serverKey: RsaPublicJwk | null;
}

/** Servers, by the host and port they were reached at. Every method may throw `trust_file_unreadable`. */
export class KnownServers {
  private readonly file: TrustFile<KnownServer>;

  constructor(folder: string) {
    const path = join(folder, "known_servers.json");
    this.file = new TrustFile(path, "servers", SERVERS_MAX, parseServer);
  }

  get(host: string, port: number): KnownServer | null {
    return this.file.read().get(addressOf(host, port)) ?? null;
  }

  /** The key with this thumbprint, of whichever server has it. */
  findKey(thumbprint: string): RsaPublicJwk | null {
    const keys = [...this.file.read().values()].flatMap(({ serverKey }) => serverKey ?? []);
    return keys.find((jwk) => parseRsaPublicJwk(jwk).thumbprint === thumbprint) ?? null;
  }

  /**
   * Replaces what was known of this address: whether that is right, the caller has asked.
   *
   * @throws {SealwireError} `bad_certificate`, `trust_file_full`, `file_locked`, `folder_unwritable`, `write_failed`.
   */
  record(host: string, port: number, server: KnownServer): void {
    const pem = certificatePem(parseCertificate(server.certificatePem));
    const entry = { certificatePem: pem, serverKey: server.serverKey };
    this.file.update((servers) => {
      servers.set(addressOf(host, port), entry);
      return true;
    });
  }
}

/** The keys of payees, at each server (named by its key's thumbprint). Every method may throw `trust_file_unreadable`. */
export class KnownPayees {
  private readonly file: TrustFile<string>;

  constructor(folder: string) {
    const path = join(folder, "known_payees.json");
    this.file = new TrustFile(path, "payees", PAYEES_MAX, parsePayee);
  }

  /**
   * Pins the keys that are about to be paid, thumbprints by payee (null for an account that has no key), all or none, and
   * returns the payees that are new.
   *
   * @throws {SealwireError} `payee_key_changed`: one was paid before under another key; `trust_file_full`, `file_locked`,
   * `folder_unwritable`, `write_failed`.
   */
  pin(server: string, keys: ReadonlyMap<AccountName, string | null>): AccountName[] {
    let added = this.findNew(this.file.read(), server, keys);
    if (added.length === 0) return added;
    this.file.update((payees) => {
      added = this.findNew(payees, server, keys);
      for (const payee of added) payees.set(`${server}/${payee}`, keys.get(payee) ?? NO_KEY);
      return added.length > 0;
    });
    return added;
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
        `the key of ${payee} is not the one that was paid before (it was ${known}, and is now ${key}): ` +
          `ask ${payee} by other means; if the new key is right, remove ${payee} from ${this.file.path}`,
      );
    });
  }
}

/** `{"v":1,"<member>":{"<key>":<entry>,…}}` in one file. */
class TrustFile<Entry> {
  constructor(
    readonly path: string,
    private readonly member: string,
    private readonly entries_max: number,
    /** Throws when the two are not what is written here. */
    private readonly parse: (key: string, value: unknown) => Entry,
  ) {}

  read(): Map<string, Entry> {
    const options = { size_bytes_max: FILE_BYTES_MAX, code: "trust_file_unreadable" } as const;
    const text = readTextFile(this.path, options);
    try {
      return text === null ? new Map() : this.parseText(text);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new SealwireError(
        "trust_file_unreadable",
        `${this.path} is not as it was written (${why}): put back a copy, or move it away to trust anew`,
        { cause },
      );
    }
  }

  /** Reads, changes and writes while no other process does; `change` says whether there is anything to write. */
  update(change: (entries: Map<string, Entry>) => boolean): void {
    withFileLock(this.path, () => {
      const entries = this.read();
      if (!change(entries)) return;
      if (entries.size > this.entries_max) {
        throw new SealwireError(
          "trust_file_full",
          `${this.path} holds ${this.entries_max} ${this.member}, which is all it takes: remove some`,
        );
      }
      const content = { v: FORMAT_VERSION, [this.member]: Object.fromEntries(entries) };
      const text = JSON.stringify(content, null, 2) + "\n";
      this.parseText(text); // What cannot be read back must not replace what can.
      writeFileAtomic(this.path, text, PRIVATE_FILE_MODE);
    });
  }

  private parseText(text: string): Map<string, Entry> {
    const content = members(JSON.parse(text), ["v", this.member]);
    if (content.v !== FORMAT_VERSION) throw new Error(`its version is not ${FORMAT_VERSION}`);
    const entries = Object.entries(members(content[this.member]));
    if (entries.length > this.entries_max) throw new Error(`more than ${this.entries_max} entries`);
    return new Map(entries.map(([key, value]) => {
      try {
        return [key, this.parse(key, value)];
      } catch (cause) {
        throw new Error(`entry ${JSON.stringify(key)}`, { cause });
      }
    }));
  }
}

function addressOf(host: string, port: number): string {
  return `${host}:${port}`.toLowerCase();
}

function parseServer(key: string, value: unknown): KnownServer {
  if (!ADDRESS.test(key)) throw new Error("not host and port");
  const { certificatePem: pem, serverKey } = members(value, ["certificatePem", "serverKey"]);
  if (typeof pem !== "string" || certificatePem(parseCertificate(pem)) !== pem) {
    throw new Error("not one certificate alone");
  }
  return {
    certificatePem: pem,
    serverKey: serverKey === null ? null : parseRsaPublicJwk(serverKey).jwk,
  };
}

function parsePayee(key: string, value: unknown): string {
  const [server, payee, ...more] = key.split("/");
  requireThumbprint(server);
  parseAccountName(payee);
  if (more.length > 0) throw new Error("more than a server and a payee");
  return value === NO_KEY ? value : requireThumbprint(value);
}

function requireThumbprint(value: unknown): string {
  if (typeof value === "string" && THUMBPRINT.test(value)) return value;
  throw new Error("not a SHA-256 thumbprint");
}

/** The members of a JSON object; exactly `names`, where they are given. */
function members(value: unknown, names?: readonly string[]): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Error("not an object");
  }
  if (names && Object.keys(value).sort().join() !== [...names].sort().join()) {
    throw new Error(`its members are not ${names.join(", ")}`);
  }
  return value as Record<string, unknown>;
}
