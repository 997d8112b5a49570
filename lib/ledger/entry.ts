/**
 * Entries: what the ledger consists of. Each is one exact text (canonical JSON), stored, hashed and
 * sent as that text. No entry states a balance: balances follow from all entries before.
 *
 * Every entry has a salt, 16 random bytes. A receipt shows the hashes of neighbouring entries;
 * without salts anyone could confirm guesses about those.
 */
import { SealwireError } from "../base/errors.ts";
import { encodeBase64url, Members, type Sha256, type Uuid } from "../base/parse.ts";
import { type Ed25519Jwk, ed25519Jwk, parseEd25519Jwk } from "../keys/ed25519.ts";
import { type AccountName, parseAccountName } from "../keys/rsa.ts";
import {
  type Amount,
  formatAmount,
  parseOpeningBalance,
  parseUnit,
  parseWireAmount,
  type Unit,
} from "../protocol/money.ts";
import { BATCH_ITEMS_MAX, SALT_BYTES } from "../protocol/order.ts";
import { parseParty, type Party, TREASURY } from "../protocol/party.ts";

/** Who may register. */
export type Registration = "open" | "invite" | "closed";

/** What an operator may change while the ledger lives. */
export interface Settings {
  /** Minor units that a new account opens with; may be 0. */
  readonly openingBalance: bigint;
  readonly registration: Registration;
}

/** What every entry has. */
export interface EntryCommon {
  /** Its place in the log, from 0. */
  readonly index: number;
  /** The server's clock when it was committed, in seconds since 1970. */
  readonly time: number;
  /** 16 bytes, base64url. */
  readonly salt: string;
}

/**
 * Entry 0: whose ledger this is, and in which unit it counts. A ledger carries its own settings.
 */
export interface LedgerOpen extends Settings {
  readonly type: "ledger.open";
  /** Thumbprint of the server's RSA key. */
  readonly server: Sha256;
  /** The key that signs checkpoints. */
  readonly log: Ed25519Jwk;
  readonly unit: Unit;
}

export interface LedgerSettings extends Settings {
  readonly type: "ledger.settings";
}

/**
 * The operator went on with a database that lacks entries which were signed before. It names the
 * last entry that both histories share, by the tree that ends with it, and the newest tree that was
 * lost.
 */
export interface LedgerRollback {
  readonly type: "ledger.rollback";
  readonly keptSize: number;
  readonly keptRoot: Sha256;
  readonly lostSize: number;
  readonly lostRoot: Sha256;
}

/**
 * The ledger goes on in another database. This is the last entry here; there the next one is
 * `ledger.continued`. Both databases have this entry, so their checkpoints never contradict each
 * other.
 */
export interface LedgerMoved {
  readonly type: "ledger.moved";
  /** The other database as people are told of it. */
  readonly to: string;
}

/** The ledger goes on after it was moved. */
export interface LedgerContinued {
  readonly type: "ledger.continued";
}

/**
 * An account comes to be, with the RSA key that its holder proved; or, opened by a classic client,
 * with no key and nothing proved, and then it can never get one.
 */
export interface AccountOpen {
  readonly type: "account.open";
  readonly id: Uuid;
  readonly account: AccountName;
  /** Thumbprint of the account's key; null for a classic account. */
  readonly key: Sha256 | null;
  /** The delegation that the key's holder signed to register; null for a classic account. */
  readonly delegationSha256: Sha256 | null;
  /** The code that let its holder in, used up by this entry; null where none was needed. See `invite.ts`. */
  readonly invite: string | null;
}

/** An account gets another key in place of the one it had. */
export interface AccountKey {
  readonly type: "account.key";
  readonly account: AccountName;
  /** Thumbprint of the new key. */
  readonly key: Sha256;
  /** Index of the entry that made the old key the account's. */
  readonly replaces: number;
  /** The rotation that the old key signed, and the new key's countersignature. */
  readonly rotationSha256: Sha256;
  readonly countersignatureSha256: Sha256;
}

/**
 * Money moves. There is no order and no delegation when the treasury issues money, and when a
 * classic account, which has no key, pays.
 */
export interface Transfer {
  readonly type: "transfer";
  readonly id: Uuid;
  readonly payer: Party;
  readonly payee: Party;
  readonly amount: Amount;
  readonly unit: Unit;
  /**
   * Thumbprint of the payer's key; of the server's key when the treasury pays; null for a classic
   * account.
   */
  readonly payerKey: Sha256 | null;
  readonly payeeKey: Sha256 | null;
  readonly orderSha256: Sha256 | null;
  readonly delegationSha256: Sha256 | null;
}

/**
 * Money moves from one payer to many payees under one order. The items are kept beside the order.
 */
export interface Batch {
  readonly type: "batch";
  readonly id: Uuid;
  readonly payer: AccountName;
  readonly count: number;
  readonly total: Amount;
  readonly unit: Unit;
  /** Merkle root over the exact texts of the items. */
  readonly itemsRoot: Sha256;
  readonly payerKey: Sha256;
  readonly orderSha256: Sha256;
  readonly delegationSha256: Sha256;
}

/** A payment id ends unpaid because its payer said so. */
export interface Cancelled {
  readonly type: "cancel";
  readonly id: Uuid;
  readonly payer: AccountName;
  readonly payerKey: Sha256;
  readonly cancelSha256: Sha256;
  readonly delegationSha256: Sha256;
}

/** What an entry says, without its place, time and salt. */
export type Fact =
  | LedgerOpen
  | LedgerSettings
  | LedgerRollback
  | LedgerMoved
  | LedgerContinued
  | AccountOpen
  | AccountKey
  | Transfer
  | Batch
  | Cancelled;

export type Entry<F extends Fact = Fact> = F & EntryCommon;

/** Whether the operator made an entry that says `fact`. */
export function isOperatorFact({ type }: Fact): boolean {
  return type.startsWith("ledger.");
}

const INVITE_CHARACTERS_MAX = 64;
const ENTRY_CHARACTERS_MAX = 1024;
const MOVED_TO_CHARACTERS_MAX = 200;

/** How one type of entry becomes JSON, members in the canonical order, and comes back. */
interface Kind<F extends Fact> {
  toJson(fact: F): object;
  parse(members: Members): F;
}

const KINDS: { readonly [T in Fact["type"]]: Kind<Fact & { type: T }> } = {
  "ledger.open": {
    toJson: ({ server, log, unit, ...settings }) => ({
      server,
      log,
      unit,
      ...settingsToJson(settings),
    }),
    parse: (members) => ({
      type: "ledger.open",
      server: members.sha256("server"),
      log: ed25519Jwk(parseEd25519Jwk(members.object("log"), "the log key")),
      unit: parseUnit(members.raw("unit")),
      ...parseSettings(members),
    }),
  },
  "ledger.settings": {
    toJson: settingsToJson,
    parse: (members) => ({ type: "ledger.settings", ...parseSettings(members) }),
  },
  "ledger.rollback": {
    toJson: ({ keptSize, keptRoot, lostSize, lostRoot }) => ({
      kept_size: keptSize,
      kept_root: keptRoot,
      lost_size: lostSize,
      lost_root: lostRoot,
    }),
    parse: (members) => ({
      type: "ledger.rollback",
      keptSize: members.integer("kept_size", 0, Number.MAX_SAFE_INTEGER),
      keptRoot: members.sha256("kept_root"),
      lostSize: members.integer("lost_size", 1, Number.MAX_SAFE_INTEGER),
      lostRoot: members.sha256("lost_root"),
    }),
  },
  "ledger.moved": {
    toJson: ({ to }) => ({ to }),
    parse: (members) => ({
      type: "ledger.moved",
      to: members.text("to", MOVED_TO_CHARACTERS_MAX),
    }),
  },
  "ledger.continued": {
    toJson: () => ({}),
    parse: () => ({ type: "ledger.continued" }),
  },
  "account.open": {
    toJson: ({ id, account, key, delegationSha256, invite }) => ({
      id,
      account,
      key,
      delegation_sha256: delegationSha256,
      ...(invite !== null && { invite }),
    }),
    parse(members) {
      const key = members.sha256OrNull("key");
      return {
        type: "account.open",
        id: members.uuid("id"),
        account: parseAccountName(members.raw("account")),
        key,
        delegationSha256: statement(members, "delegation_sha256", key !== null),
        invite: members.has("invite") ? members.text("invite", INVITE_CHARACTERS_MAX) : null,
      };
    },
  },
  "account.key": {
    toJson: ({ account, key, replaces, rotationSha256, countersignatureSha256 }) => ({
      account,
      key,
      replaces,
      rotation_sha256: rotationSha256,
      countersignature_sha256: countersignatureSha256,
    }),
    parse: (members) => ({
      type: "account.key",
      account: parseAccountName(members.raw("account")),
      key: members.sha256("key"),
      replaces: members.integer("replaces", 1, Number.MAX_SAFE_INTEGER),
      rotationSha256: members.sha256("rotation_sha256"),
      countersignatureSha256: members.sha256("countersignature_sha256"),
    }),
  },
  "transfer": {
    toJson: (transfer) => ({
      id: transfer.id,
      payer: transfer.payer,
      payee: transfer.payee,
      amount: formatAmount(transfer.amount),
      unit: transfer.unit,
      payer_key: transfer.payerKey,
      payee_key: transfer.payeeKey,
      order_sha256: transfer.orderSha256,
      delegation_sha256: transfer.delegationSha256,
    }),
    parse: parseTransfer,
  },
  "batch": {
    toJson: (batch) => ({
      id: batch.id,
      payer: batch.payer,
      count: batch.count,
      total: formatAmount(batch.total),
      unit: batch.unit,
      items_root: batch.itemsRoot,
      payer_key: batch.payerKey,
      order_sha256: batch.orderSha256,
      delegation_sha256: batch.delegationSha256,
    }),
    parse: (members) => ({
      type: "batch",
      id: members.uuid("id"),
      payer: parseAccountName(members.raw("payer")),
      count: members.integer("count", 1, BATCH_ITEMS_MAX),
      total: parseWireAmount(members.raw("total")),
      unit: parseUnit(members.raw("unit")),
      itemsRoot: members.sha256("items_root"),
      payerKey: members.sha256("payer_key"),
      orderSha256: members.sha256("order_sha256"),
      delegationSha256: members.sha256("delegation_sha256"),
    }),
  },
  "cancel": {
    toJson: ({ id, payer, payerKey, cancelSha256, delegationSha256 }) => ({
      id,
      payer,
      payer_key: payerKey,
      cancel_sha256: cancelSha256,
      delegation_sha256: delegationSha256,
    }),
    parse: (members) => ({
      type: "cancel",
      id: members.uuid("id"),
      payer: parseAccountName(members.raw("payer")),
      payerKey: members.sha256("payer_key"),
      cancelSha256: members.sha256("cancel_sha256"),
      delegationSha256: members.sha256("delegation_sha256"),
    }),
  },
};

/** The exact text of an entry. */
export function formatEntry(entry: Entry): string {
  const { index, time, type, salt } = entry;
  const kind = KINDS[type] as Kind<Fact>;
  return JSON.stringify({ v: 1, index, time, type, salt, ...kind.toJson(entry) });
}

/** @throws {SealwireError} `bad_entry` for a text that {@linkcode formatEntry} would not write. */
export function parseEntry(text: unknown): Entry {
  const bad = (why: string, cause?: unknown) =>
    new SealwireError("bad_entry", `the entry ${why}`, { cause });
  if (typeof text !== "string" || text.length > ENTRY_CHARACTERS_MAX) {
    throw bad(`must be text of at most ${ENTRY_CHARACTERS_MAX} characters`);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw bad("is not JSON", cause);
  }
  const members = new Members(value, "entry", "bad_entry");
  members.constant("v", 1);
  const type = members.raw("type");
  if (typeof type !== "string" || !Object.hasOwn(KINDS, type)) throw bad("is of an unknown type");
  const entry: Entry = {
    ...KINDS[type as Fact["type"]].parse(members),
    index: members.integer("index", 0, Number.MAX_SAFE_INTEGER),
    time: members.time_s("time"),
    salt: members.bytes("salt", SALT_BYTES),
  };
  if (formatEntry(entry) !== text) throw bad("is not canonical");
  return entry;
}

function settingsToJson({ openingBalance, registration }: Settings): object {
  return { opening_balance: formatAmount(openingBalance), registration };
}

function parseSettings(members: Members): Settings {
  return {
    openingBalance: parseOpeningBalance(members.raw("opening_balance")),
    registration: parseRegistration(members.raw("registration")),
  };
}

export function isRegistration(value: unknown): value is Registration {
  return value === "open" || value === "invite" || value === "closed";
}

/** @throws {SealwireError} `bad_entry`. */
function parseRegistration(value: unknown): Registration {
  if (isRegistration(value)) return value;
  throw new SealwireError("bad_entry", "registration is open, invite or closed");
}

function parseTransfer(members: Members): Transfer {
  const payer = parseParty(members.raw("payer"));
  const issued = payer === TREASURY;
  const payerKey = issued ? members.sha256("payer_key") : members.sha256OrNull("payer_key");
  const ordered = !issued && payerKey !== null;
  return {
    type: "transfer",
    id: members.uuid("id"),
    payer,
    payee: parseParty(members.raw("payee")),
    amount: parseWireAmount(members.raw("amount")),
    unit: parseUnit(members.raw("unit")),
    payerKey,
    payeeKey: members.sha256OrNull("payee_key"),
    orderSha256: statement(members, "order_sha256", ordered),
    delegationSha256: statement(members, "delegation_sha256", ordered),
  };
}

/** The hash of what a key's holder signed; null where there is no key. */
function statement(members: Members, name: string, signed: boolean): Sha256 | null {
  return signed ? members.sha256(name) : members.constant(name, null);
}

/**
 * How people and scripts name a payment: its id, and its index within a batch: `<uuid>` or
 * `<uuid>/<index>`.
 */
export function formatPaymentId(id: Uuid, item: number | null): string {
  return item === null ? id : `${id}/${item}`;
}

/**
 * Whether a rollback tells what became of a tree. `root`: 32 bytes, where it is known. It is
 * compared where the entry names one; in between, the size alone must do.
 */
export function explains(
  { keptSize, lostSize, lostRoot }: LedgerRollback,
  { size, root }: { readonly size: number; readonly root?: Uint8Array },
): boolean {
  if (size === lostSize && root !== undefined) return encodeBase64url(root) === lostRoot;
  return size > keptSize && size <= lostSize;
}
