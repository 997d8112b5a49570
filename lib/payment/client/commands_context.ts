/** What the client's commands share: where the server is, who acts, and how a command reaches the server. */
import type { KeyObject } from "node:crypto";
import { readFileSync } from "node:fs";
import {
  internalError,
  isSealwireError,
  SealwireError,
  systemErrorCode,
} from "../../base/errors.ts";
import { isAtTerminal } from "../../cli/line_prompt.ts";
import type { Output } from "../../cli/output.ts";
import { loadAccountKeys } from "../../keys/key_files.ts";
import { adoptNextPair, hasNextPair, loadOldKeys } from "../../keys/key_rotation.ts";
import type { AccountName, RsaKeyPair } from "../../keys/rsa.ts";
import { formatAddress } from "../../net/net.ts";
import type { Address } from "./commands_addresses.ts";
import type { ConnectServerOptions, ShownFingerprint } from "./connect.ts";
import { formatAmount, parseOpeningBalance } from "../../protocol/money.ts";
import { type FirstPayment, PaymentClient, type PaymentClientOptions } from "./payer.ts";

/** New payees of a batch that are shown one by one. */
const PAYEES_SHOWN_MAX = 10;

/** What every command knows: where the server is, who acts, and where results go. */
export interface CommandContext {
  readonly host: string;
  readonly port: number;
  /** Other servers on the same ledger. */
  readonly otherAddresses: readonly Address[];
  readonly keysFolder: string;
  readonly serverCertPath: string | null;
  readonly acceptNew: boolean;
  readonly timeout_ms: number;
  readonly p2pHost: string | null;
  readonly p2pPort: number;
  readonly out: Output;
  readonly interrupted: AbortSignal;
  /** Asks a person one question; null when there is no answer. */
  readonly ask: (question: string) => Promise<string | null>;
  /** Runs what prints news, which may come while a person types. */
  readonly aside: (print: () => void) => void;
  /** The prompt's own client, which is logged in already; null for a command that stands alone. */
  readonly live: PaymentClient | null;
}

export async function withClient(
  context: CommandContext,
  account: AccountName,
  work: (client: PaymentClient, options: PaymentClientOptions) => Promise<void>,
): Promise<void> {
  if (context.live !== null) {
    return await work(context.live, await loginOptions(context, account));
  }
  const { client, options } = await openClient(context, account);
  try {
    await client.resolveOutbox();
    await work(client, options);
  } finally {
    await client.end();
  }
}

/** All that the account needs to log in. Throws what {@linkcode loadAccountKeys} throws. */
async function loginOptions(
  context: CommandContext,
  account: AccountName,
): Promise<PaymentClientOptions> {
  return { ...clientOptions(context), account, ...await accountKeys(context, account) };
}

/** Logs in. Throws what {@linkcode PaymentClient.open} throws. */
export async function openClient(
  context: CommandContext,
  account: AccountName,
): Promise<{ client: PaymentClient; options: PaymentClientOptions }> {
  const opened = withCurrentKeys(context, account, async (keys) => {
    const options = { ...clientOptions(context), account, ...keys };
    return { client: await PaymentClient.open(options), options };
  });
  return await explainingUnknown(context, account, opened);
}

/** An account whose keys are here was registered once: says what it means that the server has none. */
export async function explainingUnknown<T>(
  { keysFolder, host, port }: Pick<CommandContext, "keysFolder" | "host" | "port">,
  account: AccountName,
  work: Promise<T>,
): Promise<T> {
  return await work.catch((error) => {
    if (!isSealwireError(error, "unknown_account")) throw error;
    const message = `${formatAddress(host, port)} has no account ${account}, and its keys are in ` +
      `${keysFolder}. If it was registered there, the operator may have put back an older ledger: ` +
      "ask. If not, register it";
    throw new SealwireError("unknown_account", message, { cause: error });
  });
}

/**
 * Opens something with the account's keys. When a key was being replaced and the server says that the old one is no longer
 * current, the new one takes its place.
 */
export async function withCurrentKeys<T>(
  context: CommandContext,
  account: AccountName,
  open: (keys: AccountKeys) => Promise<T>,
): Promise<T> {
  const { keysFolder, out } = context;
  try {
    return await open(await accountKeys(context, account));
  } catch (error) {
    if (!isSealwireError(error, "wrong_key") || !hasNextPair(keysFolder, account)) throw error;
    adoptNextPair(keysFolder, account);
    out.note(`the key of ${account} had been replaced: going on with the new one`);
    return await open(await accountKeys(context, account));
  }
}

/** The current pair, and the keys before it, which open old memos. */
export interface AccountKeys {
  readonly pair: RsaKeyPair;
  readonly oldKeys: readonly KeyObject[];
}

async function accountKeys(
  { keysFolder, out }: CommandContext,
  account: AccountName,
): Promise<AccountKeys> {
  const { warnings, ...pair } = await loadAccountKeys(keysFolder, account).catch((error) => {
    if (!isSealwireError(error, "key_missing")) throw error;
    const hint = "register first, or see whether --as and --keys are right";
    throw new SealwireError("key_missing", `${error.message}: ${hint}`, { cause: error });
  });
  for (const warning of warnings) out.warn(warning);
  return { pair, oldKeys: loadOldKeys(keysFolder, account) };
}

export function clientOptions(
  context: CommandContext,
): Omit<PaymentClientOptions, "account" | "pair" | "oldKeys"> {
  const now_s = () => Math.floor(Date.now() / 1000);
  const confirmKeyChange = (payee: AccountName, known: string, key: string) =>
    confirmNewKey(context, payee, known, key);
  return {
    ...serverOptions(context),
    otherAddresses: context.otherAddresses,
    confirmKeyChange,
    notices: context.out,
    now_s,
    confirmPayees: isAtTerminal() ? (first) => confirmPayees(context, first) : null,
  };
}

/** First payment to a key: shows who it is and what remains, and asks. */
async function confirmPayees(
  context: CommandContext,
  { payees, total, balance }: FirstPayment,
): Promise<boolean> {
  const names = payees.slice(0, PAYEES_SHOWN_MAX).map(({ name, key }) =>
    `  ${name}  ${key ?? "a classic account, which has no key and proves nothing"}`
  );
  const more = payees.length - names.length;
  context.out.block([
    "Not paid from here before, with this key:",
    ...names,
    ...(more > 0 ? [`  and ${more} more`] : []),
    `Amount ${formatAmount(total)}; balance ${balance}, and after it ${
      formatAmount(parseOpeningBalance(balance) - total)
    }.`,
  ]);
  return await agrees(context, "Pay");
}

/** How any command reaches the server. */
export function serverOptions(context: CommandContext): ConnectServerOptions {
  const { host, port, keysFolder, serverCertPath, timeout_ms, interrupted, out } = context;
  return {
    host,
    port,
    keysFolder,
    serverCertPath,
    timeout_ms,
    signal: interrupted,
    confirmServer: (shown) => confirmServer(context, shown),
    remark: (text) => out.note(text),
    alarm: (lines) => out.alarm(lines),
  };
}

/** First use of a server: shows what it is, and takes the word of a person, or of `--accept-new`. */
async function confirmServer(
  context: CommandContext,
  { kind, fingerprint, address }: ShownFingerprint,
): Promise<boolean> {
  const { acceptNew, out } = context;
  const what = kind === "key" ? "key" : "certificate SHA-256";
  if (acceptNew) {
    out.note(`trusting ${address}, ${what} ${fingerprint}`);
    return true;
  }
  if (!isAtTerminal()) return false;
  out.block([
    `${address} is not known here. The fingerprint of its ${kind} is`,
    `  ${fingerprint}`,
    "Compare it with what the operator says.",
  ]);
  if (await agrees(context, "Trust it")) return true;
  throw new SealwireError("server_untrusted", "not trusted");
}

/** A payee's old key vouches for a new one. On a terminal a person decides; a script goes on with a remark. */
async function confirmNewKey(
  context: CommandContext,
  payee: AccountName,
  known: string,
  key: string,
): Promise<boolean> {
  context.out.note(
    `${payee} has replaced the key\n  ${known}\nby the key\n  ${key}\nand the old key signed that.`,
  );
  return await confirm(context, `Pay ${payee} under the new key`);
}

/** Whether a person agrees. Without a terminal there is nobody to ask, and the script has decided. */
export async function confirm(context: CommandContext, question: string): Promise<boolean> {
  return !isAtTerminal() || await agrees(context, question);
}

/** Asks a person, who must write `yes` out. */
async function agrees({ ask }: CommandContext, question: string): Promise<boolean> {
  return (await ask(`${question} (yes/no)? `))?.toLowerCase() === "yes";
}

/** The text of a file, or of standard input for `-`. */
export function readInput(what: string, path: string): string {
  try {
    return readFileSync(path === "-" ? 0 : path, "utf8");
  } catch (cause) {
    const why = systemErrorCode(cause) === "ENOENT"
      ? "there is none"
      : internalError(cause).message;
    throw new SealwireError("file_unreadable", `cannot read the ${what} ${path}: ${why}`, {
      cause,
    });
  }
}
