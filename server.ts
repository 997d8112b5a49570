/** The payment server: settles payments, keeps the ledger, and gives its operator the means to check it. */
import { untilAborted } from "./lib/base/abort.ts";
import { processBytes } from "./lib/base/byte_budget.ts";
import { SealwireError } from "./lib/base/errors.ts";
import { parsePort, usageError } from "./lib/cli/arguments.ts";
import type { Output } from "./lib/cli/output.ts";
import { type Invocation, runTool } from "./lib/cli/tool.ts";
import { watchedClock } from "./lib/ledger/clock.ts";
import type { Settings } from "./lib/ledger/entry.ts";
import type { Ledger } from "./lib/ledger/ledger.ts";
import { openLedger } from "./lib/ledger/open_ledger.ts";
import { type Connection, formatAddress, type Place } from "./lib/net/net.ts";
import { ClassicPaymentServer } from "./lib/payment/classic/server.ts";
import {
  noteOpenDoor,
  openServerIdentity,
  openStore,
  parseBudgets,
  parseSettings,
  parseUnitOption,
  runAudit,
  runBackup,
  runGrant,
  runInvite,
  runKeygen,
  runSettings,
} from "./lib/payment/server/commands.ts";
import { runAnchor, runCopy } from "./lib/payment/server/commands_databases.ts";
import { SERVER } from "./lib/payment/server/commands_table.ts";
import { type Log, makeLog } from "./lib/payment/server/log.ts";
import { PaymentServer } from "./lib/payment/server/server.ts";
import { formatAmount, type Unit, UNIT_DEFAULT } from "./lib/protocol/money.ts";

/** What a new ledger says when its operator says nothing: as the original programs did. */
const SETTINGS_DEFAULT: Settings = { openingBalance: 1_000_000n, registration: "open" };

await runTool(SERVER, {
  serve,
  settings: runSettings,
  audit: runAudit,
  backup: runBackup,
  copy: runCopy,
  anchor: runAnchor,
  grant: runGrant,
  invite: runInvite,
  keygen: runKeygen,
});

async function serve(
  { args, values, out, interrupted }: Invocation<typeof SERVER, "serve">,
): Promise<void> {
  const port = parsePort("<port>", args.port);
  const wanted = { ...parseSettings(values), ...parseUnitOption(values.unit) };
  const { budgets, connections_max } = parseBudgets(values);
  const log = out.quiet ? () => {} : makeLog(parseLogFormat(values.log));
  const identity = await openServerIdentity(values.keys, out);
  const store = await openStore(values.db, { create: true });
  try {
    const { keys: { pair: { publicKey } }, logKey } = identity;
    const clock = watchedClock();
    const ledger = await openLedger({
      store,
      server: publicKey.thumbprint,
      logKey,
      keysFolder: values.keys,
      clock,
      create: { ...SETTINGS_DEFAULT, unit: UNIT_DEFAULT, ...wanted },
      acceptRollback: values["accept-rollback"],
      acceptFailover: values["accept-failover"],
      acceptClock: values["accept-clock"],
      // Not in a quiet server's log, which nobody writes: payments have stopped.
      onTrouble: (code, text) => out.quiet ? out.warn(text) : log(code, { text }),
    });
    requireSettings(ledger, wanted);
    processBytes.onPressure((text) => log("notice", { text }));
    const now_s = () => clock.now_s();
    const server = new PaymentServer({ identity, ledger, store, now_s, log, budgets });
    const acceptOther = values.classic ? acceptClassic(server, ledger, log, out) : turnAway;
    const { host } = values;
    const listener = await server.listen({ host, port, acceptOther, connections_max });
    const address = { host: listener.host, port: listener.port };
    out.result(
      { event: "listening", ...address },
      `listening on ${formatAddress(address.host, address.port)}`,
    );
    out.note(`the server's fingerprint is ${publicKey.thumbprint}`);
    noteOpenDoor(ledger.settings, out);
    await untilAborted(interrupted);
    await server.close();
    await ledger.close();
  } finally {
    await store.close();
  }
}

/** A ledger carries its own settings: an option that differs is a mistake. Throws `settings_differ`. */
function requireSettings(ledger: Ledger, wanted: Partial<Settings> & { unit?: Unit }): void {
  const { openingBalance, registration, unit } = wanted;
  const { settings } = ledger;
  if (openingBalance !== undefined && openingBalance !== settings.openingBalance) {
    const [has, asked] = [settings.openingBalance, openingBalance].map(formatAmount);
    throw settingsDiffer("opening balance", has!, `--opening-balance ${asked}`);
  }
  if (registration !== undefined && registration !== settings.registration) {
    throw settingsDiffer("registration", settings.registration, `--registration ${registration}`);
  }
  if (unit !== undefined && unit !== ledger.unit) {
    throw new SealwireError(
      "settings_differ",
      `the ledger counts in ${ledger.unit}, not in ${unit}, and that cannot be changed: leave --unit out`,
    );
  }
}

function settingsDiffer(what: string, has: string, option: string): SealwireError {
  return new SealwireError(
    "settings_differ",
    `the ledger's ${what} is ${has}: leave the option out, or change it with: server.ts settings ${option}`,
  );
}

/** Serves the connections that do not speak our protocol to the old clients. */
function acceptClassic(
  server: PaymentServer,
  ledger: Ledger,
  log: Log,
  out: Output,
): (connection: Connection, place: Place) => void {
  out.warn(
    "--classic: the accounts of classic clients have no key. Anyone who can connect can log in to them and spend " +
      "their money; accounts that have a key stay protected by it.",
  );
  const classic = new ClassicPaymentServer({
    ledger,
    serverKey: server.publicKey,
    log,
    budgets: server.budgets,
    announce: (account, index) => server.announceUnsigned(account, index),
  });
  return (connection, place) => classic.accept(connection, place);
}

/** What a classic client is told by a server that does not serve it. */
function turnAway(connection: Connection): void {
  const line = "This server speaks sealwire/2 alone; its operator can start it with --classic.\r\n";
  void connection.write(new TextEncoder().encode(line)).catch(() => {});
  void connection.end();
}

function parseLogFormat(text: string): "text" | "json" {
  if (text === "text" || text === "json") return text;
  throw usageError(`--log takes text or json, not "${text}"`);
}
