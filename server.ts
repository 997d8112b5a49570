/**
 * The payment server. `server.ts <port>` serves; `audit` re-verifies the ledger, `grant` issues money, `keygen` makes keys.
 */
import { randomUUID } from "node:crypto";
import { hostname, networkInterfaces } from "node:os";
import { join } from "node:path";
import { parsePort, usageError } from "./lib/cli/arguments.ts";
import type { Output } from "./lib/cli/output.ts";
import { type Invocation, runTool } from "./lib/cli/tool.ts";
import { certificateFingerprint, certificateSha256 } from "./lib/keys/certificate.ts";
import { ClassicPaymentServer } from "./lib/payment/classic/server.ts";
import { CLOCK_LEAD_S_MAX } from "./lib/protocol/delegation.ts";
import { SealwireError } from "./lib/base/errors.ts";
import { loadServerPublicKey, openPair } from "./lib/keys/key_files.ts";
import { parseAccountName } from "./lib/keys/rsa.ts";
import { audit } from "./lib/ledger/audit.ts";
import { Ledger, requireSameServer } from "./lib/ledger/ledger.ts";
import { openSqlite } from "./lib/ledger/sqlite.ts";
import type { LedgerStore } from "./lib/ledger/store.ts";
import { formatAmount, parseAmount } from "./lib/protocol/money.ts";
import { type Connection, formatAddress } from "./lib/net/net.ts";
import { parseUuidArgument, type Uuid } from "./lib/base/parse.ts";
import { makeLog } from "./lib/payment/server/log.ts";
import { refusal } from "./lib/payment/server/refusals.ts";
import { PaymentServer, type PaymentServerOptions } from "./lib/payment/server/server.ts";
import { loadCertificate, loadOrMakeServerKeys, type ServerKeys } from "./lib/keys/server_keys.ts";

const HELP = `
The Sealwire payment server.

  server.ts <port>                   serve; 0 lets the system choose the port
  server.ts audit                    re-verify the whole ledger
  server.ts grant <name> <amount>    issue money to an account
  server.ts keygen                   make the server's keys and stop

  --host ADDRESS             address to listen on (0.0.0.0)
  --keys FOLDER              the server's keys, made where missing (keys)
  --db FILE                  the ledger, made where missing (data/ledger.db)
  --opening-balance AMOUNT   what a new account opens with (10000.00); 0 for nothing
  --classic                  serve the old C++ clients too, whose accounts nothing protects
  --id UUID                  with grant: the same id never issues twice
  --log text|json            log format, on standard error (text)
  --json                     results as JSON, one object a line
  --quiet, -q                no log, no remarks
  --help, -h   --version
`;

const OPTIONS = {
  host: { type: "string" },
  keys: { type: "string" },
  db: { type: "string" },
  "opening-balance": { type: "string" },
  classic: { type: "boolean" },
  id: { type: "string" },
  log: { type: "string" },
} as const;

type ServerInvocation = Invocation<typeof OPTIONS>;

await runTool({ name: "server.ts", help: HELP, options: OPTIONS, exitOnInterrupt: 0, run });

async function run(invocation: ServerInvocation): Promise<void> {
  const [command, ...rest] = invocation.positionals;
  const counts = new Map([["audit", 0], ["keygen", 0], ["grant", 2]]);
  if (command === undefined) throw usageError("say which port to listen on: server.ts 8080");
  if (rest.length !== (counts.get(command) ?? 0)) {
    throw usageError(`${command} takes ${counts.get(command) || "no"} more arguments`);
  }
  if (command === "audit") return await runAudit(invocation);
  if (command === "grant") return await runGrant(invocation, rest[0]!, rest[1]!);
  if (command === "keygen") return await runKeygen(invocation);
  return await runServer(invocation, parsePort("<port>", command));
}

async function runServer(invocation: ServerInvocation, port: number): Promise<void> {
  const { values, out, interrupted } = invocation;
  const openingBalance = parseOpeningBalance(values["opening-balance"] ?? "10000.00");
  const log = values.quiet ? () => {} : makeLog(parseLogFormat(values.log ?? "text"));
  const keys = await loadKeys(invocation);
  const store = openLedger(invocation, { create: true });
  try {
    const host = values.host ?? "0.0.0.0";
    const head = await store.head();
    requireSameServer(head, keys.pair.publicKey.thumbprint);
    if (head.time_s > now_s() + CLOCK_LEAD_S_MAX) out.warn(clockIsBehind(head.time_s));
    const { pair: serverKeys, certificateSha256: cert } = keys;
    const ledger = new Ledger({ store, serverKeys, cert, now_s });
    const common = { keys, ledger, store, openingBalance, now_s, log };
    const acceptOther = values.classic ? acceptClassic(common, out) : turnAway;
    const server = await PaymentServer.start({ ...common, host, port, acceptOther });
    const { address } = server;
    const event = { event: "listening", ...address };
    out.result(event, `listening on ${formatAddress(address.host, address.port)}`);
    out.note(`certificate SHA-256 ${certificateFingerprint(keys.certificatePem)}`);
    await new Promise((resolve) => interrupted.addEventListener("abort", resolve, { once: true }));
    await server.close();
    await ledger.idle();
  } finally {
    await store.close();
  }
}

/** Serves the connections that do not speak our protocol to the old clients. */
function acceptClassic(
  options: Pick<PaymentServerOptions, "keys" | "ledger" | "store" | "openingBalance" | "log">,
  out: Output,
): PaymentServerOptions["acceptOther"] {
  out.warn(
    "--classic: the accounts of classic clients have no key. Anyone who can connect can log in to them and spend " +
      "their money; accounts that have a key stay protected by it.",
  );
  const classic = new ClassicPaymentServer({ ...options, serverKey: options.keys.pair.publicKey });
  return (connection, server) => classic.accept(connection, server);
}

/** What a classic client is told by a server that does not serve it. */
function turnAway(connection: Connection): void {
  const line = "This server speaks sealwire/1 alone; its operator can start it with --classic.\r\n";
  void connection.write(new TextEncoder().encode(line)).catch(() => {});
  void connection.end();
}

async function runAudit(invocation: ServerInvocation): Promise<void> {
  const { values, out } = invocation;
  const publicKey = loadServerPublicKey(join(values.keys ?? "keys", "server_public.pem"));
  const store = openLedger(invocation, { create: false });
  const progress = out.progress("audit", (await store.head()).nextSeq - 1, "entries");
  try {
    const result = await audit(store, publicKey, (entries) => progress.add(entries));
    progress.finish({ wipe: true });
    const { blocks, entries, accounts, head } = result;
    const text = `valid: ${blocks} blocks, ${entries} entries, ${accounts} accounts, head ${
      head ?? "none"
    }`;
    out.result({ valid: true, ...result }, text);
  } catch (error) {
    progress.finish({ wipe: true });
    throw error;
  } finally {
    await store.close();
  }
}

async function runGrant(
  invocation: ServerInvocation,
  name: string,
  amountText: string,
): Promise<void> {
  const payee = parseAccountName(name);
  const amount = parseAmount(amountText);
  const { values, out } = invocation;
  const id = values.id === undefined ? randomUUID() as Uuid : parseUuidArgument("--id", values.id);
  const folder = values.keys ?? "keys";
  const { pair: serverKeys } = await openPair(folder, "server", { makeMissing: false });
  const cert = certificateSha256(loadCertificate(join(folder, "server_cert.pem")).raw);
  const store = openLedger(invocation, { create: false });
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

async function runKeygen(invocation: ServerInvocation): Promise<void> {
  const { pair, certificatePem } = await loadKeys(invocation);
  const fingerprint = certificateFingerprint(certificatePem);
  const { thumbprint } = pair.publicKey;
  invocation.out.result(
    { server: thumbprint, certificate: fingerprint },
    `server ${thumbprint}\ncertificate SHA-256 ${fingerprint}`,
  );
}

async function loadKeys({ values, out }: ServerInvocation): Promise<ServerKeys> {
  const folder = values.keys ?? "keys";
  const { keys, made, warnings } = await loadOrMakeServerKeys(folder, {
    hosts: hostNames(),
    now: new Date(),
  });
  for (const path of made) out.note(`made ${path}`);
  for (const warning of warnings) out.warn(warning);
  return keys;
}

function openLedger({ values }: ServerInvocation, options: { create: boolean }): LedgerStore {
  const path = values.db ?? "data/ledger.db";
  if (/^postgres(ql)?:/.test(path)) {
    throw usageError("--db takes a file; PostgreSQL is not supported yet");
  }
  return openSqlite(path, options);
}

/** The names that this machine is reached by, for its certificate. */
function hostNames(): string[] {
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? []).map((
    { address },
  ) => address);
  return [...new Set(["localhost", "127.0.0.1", "::1", hostname(), ...addresses])];
}

function clockIsBehind(time_s: number): string {
  return `the ledger's last block is dated ${
    new Date(time_s * 1000).toISOString()
  }, and block times never fall: until ` +
    "this machine's clock is past that, every order that is signed now counts as expired";
}

function parseOpeningBalance(text: string): bigint {
  try {
    return /^0(\.00?)?$/.test(text) ? 0n : parseAmount(text);
  } catch (error) {
    throw usageError(
      `--opening-balance: ${error instanceof SealwireError ? error.message : error}`,
    );
  }
}

function parseLogFormat(text: string): "text" | "json" {
  if (text === "text" || text === "json") return text;
  throw usageError(`--log takes text or json, not "${text}"`);
}

function now_s(): number {
  return Math.floor(Date.now() / 1000);
}
