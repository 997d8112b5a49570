/** What the operator runs beside a server or without one. */
import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { isSealwireError, SealwireError } from "../../base/errors.ts";
import { readTextFile } from "../../base/files.ts";
import { parseUuidArgument, type Uuid } from "../../base/parse.ts";
import { parseInteger, usageError } from "../../cli/arguments.ts";
import type { Output } from "../../cli/output.ts";
import type { Invocation } from "../../cli/tool.ts";
import { certificateFingerprint } from "../../keys/certificate.ts";
import { openPair } from "../../keys/key_files.ts";
import { deriveSealKey, openLogKey } from "../../keys/log_key.ts";
import { parseAccountName } from "../../keys/rsa.ts";
import { audit, type AuditResult } from "../../ledger/audit.ts";
import { type Checkpoint, type Log, logOrigin, verifyCheckpoint } from "../../ledger/checkpoint.ts";
import { watchedClock } from "../../ledger/clock.ts";
import { isRegistration, type Settings } from "../../ledger/entry.ts";
import { INVITE_BALANCE_MAX } from "../../ledger/invite.ts";
import type { Ledger } from "../../ledger/ledger.ts";
import { openAnchor, openLedger, openUnlinked } from "../../ledger/open_ledger.ts";
import { openPostgres } from "../../ledger/postgres.ts";
import { parsePostgresUrl } from "../../ledger/postgres_url.ts";
import { Seals } from "../../ledger/seal.ts";
import { formatVerifierKey } from "../../ledger/signed_note.ts";
import { openSqlite } from "../../ledger/sqlite.ts";
import type { LedgerStore } from "../../ledger/store.ts";
import {
  parseTlogProof,
  TLOG_PROOF_CHARACTERS_MAX,
  TLOG_PROOF_FIRST_LINE,
} from "../../ledger/tlog_proof.ts";
import { ownAddresses } from "../../net/own_addresses.ts";
import {
  formatAmount,
  parseAmount,
  parseOpeningBalance,
  parseUnit,
  type Unit,
} from "../../protocol/money.ts";
import type { BudgetOptions } from "./budgets.ts";
import type { SERVER } from "./commands_table.ts";
import { openIdentity, type ServerIdentity } from "./identity.ts";
import { refusal } from "./refusals.ts";

/** A drive letter of Windows is one character. */
const URL_START = /^[a-z][a-z0-9+.-]+:/i;
/** The most that an option which counts something takes. */
const COUNT_MAX = 100_000;
/** Invites that one call makes. */
const INVITES_MAX = 1_000;

type Run<Name extends keyof typeof SERVER.commands> = Invocation<typeof SERVER, Name>;

/** Verifies the whole ledger again. Throws what is wrong with it first. */
export async function runAudit({ values, out }: Run<"audit">): Promise<void> {
  const store = await openStore(values.db, { create: false });
  try {
    const { explained, ...valid } = await auditStore(store, values, out);
    const { entries, accounts, root } = valid;
    out.result(
      { valid: true, ...valid, explained },
      `valid: ${entries} entries, ${accounts} accounts, root ${root}${explainedText(explained)}`,
    );
  } finally {
    await store.close();
  }
}

/** Verifies a ledger, also against the anchor, and against `expect`: paths of checkpoints and receipts. */
export async function auditStore(
  store: LedgerStore,
  { keys, expect = [] }: { readonly keys: string; readonly expect?: readonly string[] },
  out: Output,
): Promise<AuditResult> {
  const { server, logKey } = await openKeys(keys);
  const log = { origin: logOrigin(server), publicKey: logKey.publicKey };
  const given = expect.map((path) => readExpected(path, log));
  const kept = [openAnchor(keys, log), openUnlinked(keys, log)];
  const progress = out.progress("audit", (await store.head())?.size ?? 0, "entries");
  try {
    return await audit({
      store,
      server,
      log: logKey.publicKey,
      seals: new Seals(deriveSealKey(logKey.privateKey)),
      expected: [...given, ...kept.flatMap((file) => file.read() ?? [])],
      onProgress: (entries) => progress.add(entries),
    });
  } finally {
    progress.finish({ wipe: true });
  }
}

/** `sizes`: of expected checkpoints that are of a lost history. */
function explainedText(sizes: readonly number[]): string {
  return sizes.map((size) =>
    `\nthe checkpoint of ${size} entries is of a history that was lost, and the ledger says so`
  ).join("");
}

/**
 * A checkpoint, or the one that a receipt ends with. Throws `file_unreadable`, `bad_checkpoint`.
 */
function readExpected(path: string, log: Log): Checkpoint {
  const options = { size_bytes_max: TLOG_PROOF_CHARACTERS_MAX, code: "file_unreadable" } as const;
  const text = readTextFile(path, options);
  if (text === null) {
    throw new SealwireError("file_unreadable", `cannot read ${path}: there is none`);
  }
  const isReceipt = text.trimStart().startsWith(TLOG_PROOF_FIRST_LINE);
  try {
    return verifyCheckpoint(isReceipt ? parseTlogProof(text).checkpoint : text, log);
  } catch (error) {
    if (!isSealwireError(error)) throw error;
    throw new SealwireError(
      "bad_checkpoint",
      `${path} is no checkpoint or receipt of this ledger: ${error.message}`,
      { cause: error },
    );
  }
}

/** Issues money to an account, also beside a running server. */
export async function runGrant({ args, values, out }: Run<"grant">): Promise<void> {
  const payee = parseAccountName(args.name);
  const amount = parseAmount(args.amount);
  const id = values.id === undefined ? randomUUID() as Uuid : parseUuidArgument("--id", values.id);
  await withLedger(values, out, async (ledger) => {
    const outcome = await ledger.submit({ type: "grant", id, payee, amount });
    if (outcome.state === "refused") throw refusal(outcome.reason);
    const balance = formatAmount((await ledger.account(payee))!.balance);
    const result = { account: payee, amount: formatAmount(amount), balance };
    out.result(result, `granted ${result.amount} to ${payee}, whose balance is ${balance}`);
  });
}

/** Makes single-use codes with which people open accounts. Nothing is stored until they are used. */
export async function runInvite({ values, out }: Run<"invite">): Promise<void> {
  const count = parseInteger("--count", values.count, 1, INVITES_MAX);
  const given = values.balance === undefined
    ? undefined
    : optionValue("--balance", values.balance, parseOpeningBalance);
  await withLedger(values, out, (ledger) => {
    const balance = given ?? ledger.settings.openingBalance;
    if (balance > INVITE_BALANCE_MAX) {
      throw usageError("--balance is more than an invite can carry");
    }
    for (let made = 0; made < count; made++) {
      const { code } = ledger.makeInvite(balance);
      out.result({ invite: code, balance: formatAmount(balance) }, code);
    }
    return Promise.resolve();
  });
}

/** Shows the ledger's settings, after changing those that were given. */
export async function runSettings({ values, out }: Run<"settings">): Promise<void> {
  const wanted = parseSettings(values);
  await withLedger(values, out, async (ledger) => {
    const settings = { ...ledger.settings, ...wanted };
    const differs = settings.openingBalance !== ledger.settings.openingBalance ||
      settings.registration !== ledger.settings.registration;
    if (differs) {
      await ledger.submit({ type: "operator", fact: { type: "ledger.settings", ...settings } });
    }
    const { openingBalance, registration } = ledger.settings;
    const shown = {
      unit: ledger.unit,
      opening_balance: formatAmount(openingBalance),
      registration,
    };
    out.result(
      shown,
      `unit ${shown.unit}\nopening balance ${shown.opening_balance}\nregistration ${registration}`,
    );
  });
}

/** Copies the ledger to a new file while it is in use. */
export async function runBackup({ args: { file }, values, out }: Run<"backup">): Promise<void> {
  const store = await openStore(values.db, { create: false });
  try {
    await store.backup(file, () => {});
    const copy = await openStore(file, { create: false });
    const size = (await copy.head())?.size ?? 0;
    await copy.close();
    out.result({ backup: file, size }, `copied ${size} entries to ${file}`);
  } finally {
    await store.close();
  }
}

/** Makes the server's keys where they are missing, and shows their fingerprints. */
export async function runKeygen({ values, out }: Run<"keygen">): Promise<void> {
  const { keys, logKey } = await openServerIdentity(values.keys, out);
  const certificate = certificateFingerprint(keys.certificatePem);
  const { thumbprint: server } = keys.pair.publicKey;
  const verifier_key = formatVerifierKey({ name: logOrigin(server), publicKey: logKey.publicKey });
  out.result(
    { server, certificate, verifier_key },
    `server ${server}\ncertificate SHA-256 ${certificate}\nverifier key ${verifier_key}`,
  );
}

/** Loads the server's keys from a folder, makes those that are missing, and says which it made. */
export async function openServerIdentity(folder: string, out: Output): Promise<ServerIdentity> {
  const { identity, made, warnings } = await openIdentity(folder, {
    hosts: hostNames(),
    now: new Date(),
  });
  for (const path of made) out.note(`made ${path}`);
  for (const warning of warnings) out.warn(warning);
  return identity;
}

/**
 * Opens the database that `--db` names: a file, or a PostgreSQL database by its URL. What looks like a URL is none of a file,
 * so a mistyped one makes no new ledger.
 *
 * @throws {SealwireError} `usage`, and what the stores throw.
 */
export async function openStore(db: string, options: { create: boolean }): Promise<LedgerStore> {
  if (!URL_START.test(db)) return openSqlite(db, options);
  optionValue("--db", db, parsePostgresUrl);
  return await openPostgres(db, options);
}

/** Says what the settings of a first look mean. */
export function noteOpenDoor({ registration, openingBalance }: Settings, out: Output): void {
  if (registration !== "open" || openingBalance === 0n) return;
  out.note(
    `anyone may register and gets ${formatAmount(openingBalance)}; ` +
      "for real money: --registration invite --opening-balance 0",
  );
}

/** The budgets that were given on the command line. Throws `usage`. */
export function parseBudgets(
  values: Readonly<
    Record<"orders-per-second" | "registrations-per-minute" | "connections", string>
  >,
): { readonly budgets: BudgetOptions; readonly connections_max: number } {
  const count = (name: keyof typeof values) =>
    parseInteger(`--${name}`, values[name], 1, COUNT_MAX);
  return {
    budgets: {
      orders_per_s: count("orders-per-second"),
      registrations_per_minute: count("registrations-per-minute"),
    },
    connections_max: count("connections"),
  };
}

/** The settings that were given on the command line. Throws `usage`. */
export function parseSettings(
  values: { readonly "opening-balance"?: string; readonly registration?: string },
): Partial<Settings> {
  const { "opening-balance": balance, registration } = values;
  if (registration !== undefined && !isRegistration(registration)) {
    throw usageError(`--registration takes open, invite or closed, not "${registration}"`);
  }
  return {
    ...(balance !== undefined && {
      openingBalance: optionValue("--opening-balance", balance, parseOpeningBalance),
    }),
    ...(registration !== undefined && { registration }),
  };
}

/** The unit of a new ledger, where one was given. Throws `usage`. */
export function parseUnitOption(text: string | undefined): { unit?: Unit } {
  return text === undefined ? {} : { unit: optionValue("--unit", text, parseUnit) };
}

/** Parses the value of an option; a value that is none is wrong usage of the option. */
function optionValue<T>(option: string, text: string, parse: (text: string) => T): T {
  try {
    return parse(text);
  } catch (error) {
    if (!isSealwireError(error)) throw error;
    throw usageError(`${option}: ${error.message}`);
  }
}

/** Runs `work` on the ledger beside a server, if one is running. */
async function withLedger(
  { keys, db }: { readonly keys: string; readonly db: string },
  out: Output,
  work: (ledger: Ledger) => Promise<void>,
): Promise<void> {
  const { server, logKey } = await openKeys(keys);
  const store = await openStore(db, { create: false });
  try {
    const ledger = await openLedger({
      store,
      server,
      logKey,
      keysFolder: keys,
      clock: watchedClock(),
      create: null,
      onTrouble: (_code, text) => out.warn(text),
    });
    try {
      await work(ledger);
    } finally {
      await ledger.close();
    }
  } finally {
    await store.close();
  }
}

/** The keys of a server that exists. */
export async function openKeys(folder: string) {
  const { pair } = await openPair(folder, "server", { makeMissing: false });
  const { pair: logKey } = openLogKey(folder, { makeMissing: false });
  return { server: pair.publicKey.thumbprint, logKey };
}

/** The names that this machine is reached by, for its certificate. */
function hostNames(): string[] {
  const addresses = ownAddresses().map(({ address }) => address);
  return [...new Set(["localhost", "127.0.0.1", "::1", hostname(), ...addresses])];
}
