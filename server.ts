/** The payment server: settles payments, keeps the ledger, and gives its operator the means to check it. */
import { parsePort, usageError } from "./lib/cli/arguments.ts";
import type { Output } from "./lib/cli/output.ts";
import { type Invocation, runTool } from "./lib/cli/tool.ts";
import { SealwireError } from "./lib/base/errors.ts";
import { certificateFingerprint } from "./lib/keys/certificate.ts";
import { Ledger, requireSameServer } from "./lib/ledger/ledger.ts";
import { type Connection, formatAddress } from "./lib/net/net.ts";
import { ClassicPaymentServer } from "./lib/payment/classic/server.ts";
import {
  now_s,
  openLedger,
  openServerKeys,
  runAudit,
  runGrant,
  runKeygen,
} from "./lib/payment/server/commands.ts";
import { SERVER } from "./lib/payment/server/commands_table.ts";
import { makeLog } from "./lib/payment/server/log.ts";
import { PaymentServer, type PaymentServerOptions } from "./lib/payment/server/server.ts";
import { CLOCK_LEAD_S_MAX } from "./lib/protocol/delegation.ts";
import { parseAmount } from "./lib/protocol/money.ts";

await runTool(SERVER, { serve, audit: runAudit, grant: runGrant, keygen: runKeygen });

async function serve(
  { args, values, out, interrupted }: Invocation<typeof SERVER, "serve">,
): Promise<void> {
  const port = parsePort("<port>", args.port);
  const openingBalance = parseOpeningBalance(values["opening-balance"]);
  const log = out.quiet ? () => {} : makeLog(parseLogFormat(values.log));
  const keys = await openServerKeys(values.keys, out);
  const store = openLedger(values.db, { create: true });
  try {
    const head = await store.head();
    requireSameServer(head, keys.pair.publicKey.thumbprint);
    if (head.time_s > now_s() + CLOCK_LEAD_S_MAX) out.warn(clockIsBehind(head.time_s));
    const { pair: serverKeys, certificateSha256: cert } = keys;
    const ledger = new Ledger({ store, serverKeys, cert, now_s });
    const common = { keys, ledger, store, openingBalance, now_s, log };
    const acceptOther = values.classic ? acceptClassic(common, out) : turnAway;
    const server = await PaymentServer.start({ ...common, host: values.host, port, acceptOther });
    const { address } = server;
    out.result(
      { event: "listening", ...address },
      `listening on ${formatAddress(address.host, address.port)}`,
    );
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

function clockIsBehind(time_s: number): string {
  const dated = new Date(time_s * 1000).toISOString();
  return `the ledger's last block is dated ${dated}, and block times never fall: until ` +
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
