/** Receipts: fetched from the server, and verified without one. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { isSealwireError, SealwireError } from "../../base/errors.ts";
import { isSha256, type Sha256 } from "../../base/parse.ts";
import { usageError } from "../../cli/arguments.ts";
import type { Output } from "../../cli/output.ts";
import { loadServerPublicKey } from "../../keys/key_files.ts";
import { KnownServers } from "../../keys/known_keys.ts";
import {
  type AccountName,
  parseAccountName,
  parseRsaPublicJwk,
  type RsaPublicKey,
} from "../../keys/rsa.ts";
import { formatPaymentId } from "../../ledger/entry.ts";
import { receiptServer, type VerifiedReceipt, verifyReceipt } from "../../ledger/receipt.ts";
import { TLOG_PROOF_CHARACTERS_MAX } from "../../ledger/tlog_proof.ts";
import { formatAmount } from "../../protocol/money.ts";
import { TREASURY } from "../../protocol/party.ts";
import type { HistoryAnswerRow } from "../../protocol/wire.ts";
import { type CommandContext, readInput, withClient } from "./commands_context.ts";
import { findPayment, requirePaymentId } from "./commands_history.ts";
import { formatTime } from "./times.ts";

export async function receipt(
  context: CommandContext,
  account: AccountName,
  paymentId: string,
): Promise<void> {
  requirePaymentId(paymentId);
  await withClient(context, account, async (client) => {
    const { id, item, row } = await findPayment(client, paymentId);
    const payer = row === null || row.payee !== account ? account : payerOf(row);
    const { receipt } = await client.session.receipt(id, item, payer);
    const payment = formatPaymentId(id, item);
    context.out.result({ payment, receipt }, receipt.trimEnd());
  });
}

/** An id is the payer's own, so a payee must say whose; the payee's history knows. */
function payerOf({ payer }: HistoryAnswerRow): AccountName {
  if (payer !== TREASURY) return parseAccountName(payer);
  throw new SealwireError(
    "unknown_payment",
    "this money is from the server's operator: nobody signed it away, so there is no receipt",
  );
}

export interface VerifyOptions {
  /**
   * A file with the receipt's text, or with the line that `receipt --json` prints; `-` for standard
   * input.
   */
  readonly path: string;
  readonly keysFolder: string;
  /** A file with the server's public key, or its fingerprint; null to look into the keys folder. */
  readonly serverKey: string | null;
}

/** Verifies a receipt. It needs no server, only the server's public key. */
export async function verify(out: Output, options: VerifyOptions): Promise<void> {
  const text = readReceipt(options.path);
  const serverKey = await serverKeyOf(text, options);
  const verified = await judge(() => verifyReceipt(text, serverKey));
  out.result({ valid: true, ...describe(verified) }, describeText(verified));
}

/** Runs `work`, and says of its error that it is about the receipt. */
async function judge<T>(work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (!isSealwireError(cause)) throw cause;
    const message = `this is no valid receipt: ${cause.message}`;
    throw new SealwireError(cause.code, message, { cause });
  }
}

/**
 * A receipt is judged under one key that the caller trusts: someone else's "alice" must not pass.
 */
async function serverKeyOf(
  text: string,
  { keysFolder, serverKey }: VerifyOptions,
): Promise<RsaPublicKey> {
  if (serverKey !== null) {
    return isSha256(serverKey) ? await keyWith(serverKey, text) : loadServerPublicKey(serverKey);
  }
  const trusted = trustedServerKeys(keysFolder);
  const [only, ...others] = trusted.values();
  if (only === undefined) {
    throw new SealwireError(
      "key_missing",
      `${keysFolder} trusts no server: give its public key with --server-key FILE`,
    );
  }
  if (others.length === 0) return only;
  const { thumbprint } = await judge(() => receiptServer(text));
  throw usageError(
    `${keysFolder} trusts ${trusted.size} servers, and the receipt says that it is by ${thumbprint}: ` +
      "if that is the one you mean, give it with --server-key",
  );
}

/** A receipt carries its server's whole key, so the fingerprint is enough to know it by. */
async function keyWith(fingerprint: Sha256, text: string): Promise<RsaPublicKey> {
  const key = await judge(() => receiptServer(text));
  if (key.thumbprint === fingerprint) return key;
  throw new SealwireError("wrong_server", `the receipt is by another server: ${key.thumbprint}`);
}

/**
 * Of the servers known from connections, and of the one whose public key lies in the folder; by
 * fingerprint.
 */
function trustedServerKeys(keysFolder: string): Map<Sha256, RsaPublicKey> {
  const keys = new Map<Sha256, RsaPublicKey>();
  const ownKeyPath = join(keysFolder, "server_public.pem");
  if (existsSync(ownKeyPath)) {
    const key = loadServerPublicKey(ownKeyPath);
    keys.set(key.thumbprint, key);
  }
  for (const { identity } of new KnownServers(keysFolder).all().values()) {
    if (identity === null) continue;
    const key = parseRsaPublicJwk(identity.serverKey);
    keys.set(key.thumbprint, key);
  }
  return keys;
}

function describe(verified: VerifiedReceipt) {
  const { id, item, payer, payee, amount, unit, index, time_s, server, payerKey } = verified;
  return {
    payment: formatPaymentId(id, item),
    payer,
    payee,
    amount: formatAmount(amount),
    unit,
    time: formatTime(time_s),
    index,
    server,
    payer_key: payerKey,
  };
}

function describeText(verified: VerifiedReceipt): string {
  const { payment, payer, payee, amount, unit, time, index, server, payer_key } = describe(
    verified,
  );
  return `valid: ${payer} paid ${payee} ${amount} ${unit} at ${time} (payment ${payment})\n` +
    `payer's key   ${payer_key}\nserver        ${server}, entry ${index}`;
}

/** The text of a receipt, out of its file or out of the line that `receipt --json` prints. */
function readReceipt(path: string): string {
  const text = readInput("receipt", path);
  if (text.length > 2 * TLOG_PROOF_CHARACTERS_MAX) {
    throw new SealwireError("file_unreadable", `cannot read the receipt ${path}: it is too long`);
  }
  if (!text.trimStart().startsWith("{")) return text;
  try {
    const { receipt } = JSON.parse(text.trim()) as { receipt?: unknown };
    if (typeof receipt === "string") return receipt;
  } catch {
    // Not JSON either: the verifier says what is wrong with the text.
  }
  return text;
}
