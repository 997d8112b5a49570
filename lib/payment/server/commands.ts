/** What the operator runs beside a server or without one: audit, grant and keygen. */
import { randomUUID } from "node:crypto";
import { hostname, networkInterfaces } from "node:os";
import { join } from "node:path";
import { parseUuidArgument, type Uuid } from "../../base/parse.ts";
import { usageError } from "../../cli/arguments.ts";
import type { Output } from "../../cli/output.ts";
import type { Invocation } from "../../cli/tool.ts";
import { certificateFingerprint, certificateSha256 } from "../../keys/certificate.ts";
import { loadServerPublicKey, openPair } from "../../keys/key_files.ts";
import { parseAccountName } from "../../keys/rsa.ts";
import { loadCertificate, loadOrMakeServerKeys, type ServerKeys } from "../../keys/server_keys.ts";
import { audit } from "../../ledger/audit.ts";
import { Ledger } from "../../ledger/ledger.ts";
import { openSqlite } from "../../ledger/sqlite.ts";
import type { LedgerStore } from "../../ledger/store.ts";
import { formatAmount, parseAmount } from "../../protocol/money.ts";
import type { SERVER } from "./commands_table.ts";
import { refusal } from "./refusals.ts";

/** Verifies the whole ledger again. Throws what is wrong with it first. */
export async function runAudit({ values, out }: Invocation<typeof SERVER, "audit">): Promise<void> {
  const publicKey = loadServerPublicKey(join(values.keys, "server_public.pem"));
  const store = openLedger(values.db, { create: false });
  const progress = out.progress("audit", (await store.head()).nextSeq - 1, "entries");
  try {
    const result = await audit(store, publicKey, (entries) => progress.add(entries));
    progress.finish({ wipe: true });
    const { blocks, entries, accounts, head } = result;
    out.result(
      { valid: true, ...result },
      `valid: ${blocks} blocks, ${entries} entries, ${accounts} accounts, head ${head ?? "none"}`,
    );
  } catch (error) {
    progress.finish({ wipe: true });
    throw error;
  } finally {
    await store.close();
  }
}

/** Issues money to an account, also beside a running server. */
export async function runGrant(
  { args, values, out }: Invocation<typeof SERVER, "grant">,
): Promise<void> {
  const payee = parseAccountName(args.name);
  const amount = parseAmount(args.amount);
  const id = values.id === undefined ? randomUUID() as Uuid : parseUuidArgument("--id", values.id);
  const { pair: serverKeys } = await openPair(values.keys, "server", { makeMissing: false });
  const cert = certificateSha256(loadCertificate(join(values.keys, "server_cert.pem")).raw);
  const store = openLedger(values.db, { create: false });
  try {
    const ledger = new Ledger({ store, serverKeys, cert, now_s });
    const outcome = await ledger.submit({ type: "grant", id, payee, amount });
    if (outcome.state === "void" || outcome.state === "rejected") throw refusal(outcome);
    const account = await store.account(payee);
    const balance = formatAmount(account!.balance);
    const result = { account: payee, amount: formatAmount(amount), balance };
    out.result(result, `granted ${result.amount} to ${payee}, whose balance is ${balance}`);
  } finally {
    await store.close();
  }
}

/** Makes the server's keys where they are missing, and shows their fingerprints. */
export async function runKeygen(
  { values, out }: Invocation<typeof SERVER, "keygen">,
): Promise<void> {
  const { pair, certificatePem } = await openServerKeys(values.keys, out);
  const certificate = certificateFingerprint(certificatePem);
  const { thumbprint: server } = pair.publicKey;
  out.result({ server, certificate }, `server ${server}\ncertificate SHA-256 ${certificate}`);
}

/** Loads the server's keys from a folder, makes those that are missing, and says which it made. */
export async function openServerKeys(folder: string, out: Output): Promise<ServerKeys> {
  const now = new Date();
  const { keys, made, warnings } = await loadOrMakeServerKeys(folder, { hosts: hostNames(), now });
  for (const path of made) out.note(`made ${path}`);
  for (const warning of warnings) out.warn(warning);
  return keys;
}

/** Opens the ledger that `--db` names. Throws `usage`, and what the store throws. */
export function openLedger(path: string, options: { create: boolean }): LedgerStore {
  if (/^postgres(ql)?:/.test(path)) {
    throw usageError("--db takes a file; PostgreSQL is not supported yet");
  }
  return openSqlite(path, options);
}

/** The time of this machine's clock, in seconds since 1970. */
export function now_s(): number {
  return Math.floor(Date.now() / 1000);
}

/** The names that this machine is reached by, for its certificate. */
function hostNames(): string[] {
  const addresses = Object.values(networkInterfaces()).flatMap((list) =>
    (list ?? []).map(({ address }) => address)
  );
  return [...new Set(["localhost", "127.0.0.1", "::1", hostname(), ...addresses])];
}
