/** The payment client: registers, pays, listens, and verifies receipts. Without a command it is interactive. */
import { isIP } from "node:net";
import { parsePort, parseTimeoutMs, usageError } from "./lib/cli/arguments.ts";
import { askLine } from "./lib/cli/line_prompt.ts";
import { type Invocation, runTool } from "./lib/cli/tool.ts";
import { EXIT_INTERRUPTED } from "./lib/cli/exit_status.ts";
import * as classic from "./lib/payment/classic/commands.ts";
import { requireAmount, requireName, runClassicPrompt } from "./lib/payment/classic/prompt.ts";
import { type AccountName, parseAccountName } from "./lib/keys/rsa.ts";
import { parseAmount } from "./lib/protocol/money.ts";
import { parseUuidArgument } from "./lib/base/parse.ts";
import type { Way } from "./lib/payment/client/payer.ts";
import {
  type CommandContext,
  history,
  list,
  listen,
  pay,
  payBatch,
  readBatch,
  receipt,
  register,
  showBalance,
  verify,
} from "./lib/payment/client/commands.ts";
import { runPrompt } from "./lib/payment/client/prompt.ts";
import { P2P_PORT_MIN } from "./lib/protocol/wire.ts";

const HELP = `
The Sealwire payment client.

  client.ts <host> <port>                                  interactive
  client.ts <host> <port> register --as <name>             make an account, and its keys
  client.ts <host> <port> balance --as <name>
  client.ts <host> <port> list --as <name>                 who is online
  client.ts <host> <port> listen --as <name>               take payments, and show each
  client.ts <host> <port> pay <payee> <amount> --as <name>
  client.ts <host> <port> pay --batch FILE --as <name>     lines of name,amount: all or none
  client.ts <host> <port> history --as <name>
  client.ts <host> <port> receipt <payment-id> --as <name>
  client.ts verify <receipt.json>                          check a receipt; - reads standard input
  client.ts <host> <port> --classic [register|list|listen|pay <payee> <amount>] --as <name>
                                                           at an old C++ server, or as one of its clients

  --memo TEXT          with pay: up to 140 bytes that only payee and payer can read
  --direct             with pay: only straight to the payee; cancelled when that fails
  --via-server         with pay: only through the server
  --id UUID            with pay: the same id never pays twice, so a script may try again
  --batch FILE         with pay: see above; - reads standard input
  --server-key FILE    with verify: the server's public key (keys/server_public.pem)
  --keys FOLDER        where keys are (keys)
  --server-cert FILE   the server's certificate, instead of what the keys folder knows
  --accept-new         trust a server never seen before, without asking
  --p2p-port N         with listen: port to take payments on (the system chooses)
  --p2p-host IP        with listen: the address to publish (the one the server sees)
  --classic            the old C++ programs' protocol: no signatures, no receipts, whole units
  --timeout SECONDS    for whatever is waited for (30)
  --json               results as JSON, one object a line
  --quiet, -q          no remarks
  --help, -h   --version
`;

const OPTIONS = {
  as: { type: "string" },
  keys: { type: "string" },
  "server-cert": { type: "string" },
  "accept-new": { type: "boolean" },
  "p2p-port": { type: "string" },
  "p2p-host": { type: "string" },
  memo: { type: "string" },
  direct: { type: "boolean" },
  "via-server": { type: "boolean" },
  id: { type: "string" },
  batch: { type: "string" },
  "server-key": { type: "string" },
  classic: { type: "boolean" },
  timeout: { type: "string" },
} as const;

/** What the classic protocol has nothing for. */
const NOT_CLASSIC = [
  "memo",
  "direct",
  "via-server",
  "id",
  "batch",
  "p2p-host",
  "server-key",
] as const;

const TIMEOUT_MS_DEFAULT = 30_000;

type ClientInvocation = Invocation<typeof OPTIONS>;

await runTool({
  name: "client.ts",
  help: HELP,
  options: OPTIONS,
  exitOnInterrupt: EXIT_INTERRUPTED,
  run,
});

async function run(invocation: ClientInvocation): Promise<void> {
  const { positionals, values, out } = invocation;
  const [host, port, command, ...args] = positionals;
  if (host === "verify") {
    if (port === undefined || command !== undefined) {
      throw usageError("verify takes one receipt file");
    }
    return await verify(out, port, values.keys ?? "keys", values["server-key"] ?? null);
  }
  if (host === undefined || port === undefined) {
    throw usageError("say which server: client.ts <host> <port>");
  }
  const context = makeContext(invocation, host, parsePort("<port>", port, 1));
  if (values.classic) return await runClassic(invocation, context, command, args);
  if (command === undefined) {
    return await runPrompt(context, values.as === undefined ? null : accountOf(values.as));
  }
  await runCommand(invocation, context, command, args);
}

async function runCommand(
  { values }: ClientInvocation,
  context: CommandContext,
  command: string,
  args: readonly string[],
): Promise<void> {
  const batch = command === "pay" && values.batch !== undefined;
  const counts = new Map([
    ["register", 0],
    ["balance", 0],
    ["list", 0],
    ["listen", 0],
    ["history", 0],
    ["receipt", 1],
    ["pay", batch ? 0 : 2],
  ]);
  const count = counts.get(command);
  if (command === "verify") {
    throw usageError("verify needs no server: client.ts verify <receipt.json>");
  }
  if (count === undefined) throw usageError(`there is no command "${command}"`);
  if (args.length !== count) {
    throw usageError(`${command} takes ${count} arguments, not ${args.length}`);
  }
  const account = accountOf(values.as);
  const id = values.id === undefined ? null : parseUuidArgument("--id", values.id);
  switch (command) {
    case "register":
      return await register(context, account);
    case "balance":
      return await showBalance(context, account);
    case "list":
      return await list(context, account);
    case "listen":
      return await listen(context, account);
    case "history":
      return await history(context, account);
    case "receipt":
      return await receipt(context, account, args[0]!);
  }
  if (batch) return await payBatch(context, account, readBatch(values.batch!), id);
  const [payee, amount] = [parseAccountName(args[0]), parseAmount(args[1])];
  await pay(context, account, { payee, amount, memo: values.memo ?? null, way: wayOf(values), id });
}

async function runClassic(
  { values, out }: ClientInvocation,
  context: CommandContext,
  command: string | undefined,
  args: readonly string[],
): Promise<void> {
  const option = NOT_CLASSIC.find((name) => values[name] !== undefined);
  if (option !== undefined) throw usageError(`--${option} is nothing that --classic knows`);
  const counts: Record<string, number> = { register: 0, list: 0, listen: 0, pay: 2 };
  const count = command === undefined ? 0 : counts[command];
  if (count === undefined) throw usageError(`--classic knows no command "${command}"`);
  if (args.length !== count) {
    throw usageError(`${command} takes ${count} arguments, not ${args.length}`);
  }
  if (command !== undefined && values.as === undefined) {
    throw usageError("say who you are: --as <name>");
  }
  const name = values.as === undefined ? null : requireName(values.as);
  const payment = command === "pay"
    ? { payee: requireName(args[0]!), amount: requireAmount(args[1]!) }
    : null;
  out.warn(
    "--classic: nothing proves who pays. Anyone who can connect to the server can log in as you and spend this " +
      "account's money, and a payment has no receipt.",
  );
  if (name === null || command === undefined) return await runClassicPrompt(context);
  if (payment !== null) return await classic.pay(context, name, payment);
  if (command === "register") return await classic.register(context, name);
  if (command === "list") return await classic.list(context, name);
  return await classic.listen(context, name);
}

function makeContext(
  { values, out, interrupted }: ClientInvocation,
  host: string,
  port: number,
): CommandContext {
  const p2pHost = values["p2p-host"] ?? null;
  if (p2pHost !== null && isIP(p2pHost) === 0) {
    throw usageError(`--p2p-host takes an IP address, not "${p2pHost}"`);
  }
  const p2pPort = values["p2p-port"] ?? "0";
  return {
    host,
    port,
    keysFolder: values.keys ?? "keys",
    serverCertPath: values["server-cert"] ?? null,
    acceptNew: values["accept-new"] ?? false,
    timeout_ms: parseTimeoutMs(values.timeout, TIMEOUT_MS_DEFAULT),
    p2pHost,
    p2pPort: p2pPort === "0" ? 0 : parsePort("--p2p-port", p2pPort, P2P_PORT_MIN),
    out,
    interrupted,
    ask: (question) => askLine(question, interrupted),
    aside: (print) => print(),
  };
}

function accountOf(name: string | undefined): AccountName {
  if (name === undefined) throw usageError("say who you are: --as <name>");
  return parseAccountName(name);
}

function wayOf(values: ClientInvocation["values"]): Way {
  if (values.direct && values["via-server"]) {
    throw usageError("--direct and --via-server exclude each other");
  }
  return values.direct ? "direct" : values["via-server"] ? "via-server" : "either";
}
