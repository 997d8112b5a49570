/** What the client's commands share: where the server is, who acts, and how a command reaches the server. */
import { readFileSync } from "node:fs";
import process from "node:process";
import {
  internalError,
  isSealwireError,
  SealwireError,
  systemErrorCode,
} from "../../base/errors.ts";
import type { Output } from "../../cli/output.ts";
import { loadAccountKeys } from "../../keys/key_files.ts";
import type { AccountName } from "../../keys/rsa.ts";
import { formatAddress } from "../../net/net.ts";
import type { ConnectServerOptions, ShownFingerprint } from "./connect.ts";
import { PaymentClient, type PaymentClientOptions } from "./payer.ts";

/** What every command knows: where the server is, who acts, and where results go. */
export interface CommandContext {
  readonly host: string;
  readonly port: number;
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
}

export async function withClient(
  context: CommandContext,
  account: AccountName,
  work: (client: PaymentClient, options: PaymentClientOptions) => Promise<void>,
): Promise<void> {
  const options = { ...clientOptions(context), account, pair: await accountKeys(context, account) };
  const client = await PaymentClient.open(options);
  try {
    await client.resolveOutbox();
    await work(client, options);
  } finally {
    await client.end();
  }
}

export async function accountKeys({ keysFolder, out }: CommandContext, account: AccountName) {
  const { warnings, ...pair } = await loadAccountKeys(keysFolder, account).catch((error) => {
    if (!isSealwireError(error, "key_missing")) throw error;
    const hint = "register first, or see whether --as and --keys are right";
    throw new SealwireError("key_missing", `${error.message}: ${hint}`, { cause: error });
  });
  for (const warning of warnings) out.warn(warning);
  return pair;
}

export function clientOptions(
  context: CommandContext,
): Omit<PaymentClientOptions, "account" | "pair"> {
  const now_s = () => Math.floor(Date.now() / 1000);
  const confirmKeyChange = (payee: AccountName, known: string, key: string) =>
    confirmNewKey(context, payee, known, key);
  return { ...serverOptions(context), notices: context.out, now_s, confirmKeyChange };
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
    confirmServer: (fingerprint) => confirmServer(context, fingerprint),
    remark: (text) => out.note(text),
    alarm: (lines) => {
      for (const line of ["", "!".repeat(78), ...lines, "!".repeat(78), ""]) out.warn(line);
    },
  };
}

/** First use of a server: shows what it is, and takes the word of a person, or of `--accept-new`. */
async function confirmServer(
  context: CommandContext,
  { kind, fingerprint }: ShownFingerprint,
): Promise<boolean> {
  const { acceptNew, out, host, port } = context;
  const address = formatAddress(host, port);
  const what = kind === "key" ? "key" : "certificate SHA-256";
  if (acceptNew) {
    out.note(`trusting ${address}, ${what} ${fingerprint}`);
    return true;
  }
  if (!process.stdin.isTTY || !process.stderr.isTTY) return false;
  out.note(`${address} is not known here. The fingerprint of its ${kind} is\n  ${fingerprint}`);
  const answer = await context.ask("Does the operator say the same? Trust it (yes/no)? ");
  return answer?.toLowerCase() === "yes";
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
  if (!process.stdin.isTTY || !process.stderr.isTTY) return true;
  const answer = await context.ask(`Pay ${payee} under the new key (yes/no)? `);
  return answer?.toLowerCase() === "yes";
}

/** Seconds since 1970 as `2026-01-31T12:00:00Z`. */
export function formatTime(time_s: number): string {
  return new Date(time_s * 1000).toISOString().replace(".000", "");
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
