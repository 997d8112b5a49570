/** The payment client: pays people, takes payments, and checks receipts. Without a command it is interactive. */
import { isIP } from "node:net";
import { parseUuidArgument } from "./lib/base/parse.ts";
import { parsePort, parseTimeoutMs, usageError } from "./lib/cli/arguments.ts";
import { askLine } from "./lib/cli/line_prompt.ts";
import { didYouMean } from "./lib/cli/suggestion.ts";
import { type Invocation, runTool, type Surroundings } from "./lib/cli/tool.ts";
import { parseAccountName } from "./lib/keys/rsa.ts";
import * as classic from "./lib/payment/classic/commands.ts";
import { requireAmount, requireName, runClassicPrompt } from "./lib/payment/classic/prompt.ts";
import * as commands from "./lib/payment/client/commands.ts";
import type { CommandContext } from "./lib/payment/client/commands_context.ts";
import * as receipts from "./lib/payment/client/commands_receipts.ts";
import * as servers from "./lib/payment/client/commands_servers.ts";
import {
  CLIENT,
  type ConnectionValues,
  type ListenValues,
} from "./lib/payment/client/commands_table.ts";
import type { Way } from "./lib/payment/client/payer.ts";
import { runPrompt } from "./lib/payment/client/prompt.ts";
import { parseAmount } from "./lib/protocol/money.ts";
import { P2P_PORT_MIN } from "./lib/protocol/wire.ts";

type Run<Name extends keyof typeof CLIENT.commands> = Invocation<typeof CLIENT, Name>;

await runTool(CLIENT, {
  interactive,
  register,
  balance: (run) => commands.showBalance(contextOf(run), parseAccountName(run.values.as)),
  list,
  pay,
  listen,
  history: (run) => commands.history(contextOf(run), parseAccountName(run.values.as)),
  receipt: (run) =>
    receipts.receipt(contextOf(run), parseAccountName(run.values.as), run.args["payment-id"]),
  verify: ({ args, values, out }) =>
    receipts.verify(out, {
      path: args.receipt,
      keysFolder: values.keys,
      serverKey: values["server-key"] ?? null,
    }),
  "verify-fork": ({ args, out }) => servers.verifyFork(out, args.evidence, args.receipt ?? null),
  servers: manageServers,
});

async function manageServers(run: Run<"servers">): Promise<void> {
  const { args: { action, host, port }, values, out } = run;
  if (action === undefined) return servers.listServers(out, values.keys);
  if (action !== "forget" && action !== "accept-rollback") {
    const actions = ["forget", "accept-rollback"];
    throw usageError(
      `servers takes forget or accept-rollback, not "${action}"${didYouMean(action, actions)}`,
    );
  }
  if (host === undefined || port === undefined) {
    throw usageError(`servers ${action} takes <host> <port>`);
  }
  if (action === "forget") {
    return servers.forgetServer(out, values.keys, host, parsePort("<port>", port, 1));
  }
  if (values.as === undefined) throw usageError("servers accept-rollback takes --as NAME");
  const context = contextOf({ ...run, args: { host, port } });
  await servers.acceptRollback(context, parseAccountName(values.as));
}

async function interactive(run: Run<"interactive">): Promise<void> {
  const { as, classic } = run.values;
  if (!classic) {
    return await runPrompt(contextOf(run), as === undefined ? null : parseAccountName(as));
  }
  if (as !== undefined) requireName(as);
  await runClassicPrompt(classicContextOf(run));
}

async function register(run: Run<"register">): Promise<void> {
  const { as, invite } = run.values;
  if (!run.values.classic) {
    return await commands.register(contextOf(run), parseAccountName(as), invite);
  }
  const name = requireName(as);
  await classic.register(classicContextOf(run), name);
}

async function list(run: Run<"list">): Promise<void> {
  const { as } = run.values;
  if (!run.values.classic) return await commands.list(contextOf(run), parseAccountName(as));
  const name = requireName(as);
  await classic.list(classicContextOf(run), name);
}

async function listen(run: Run<"listen">): Promise<void> {
  const { as } = run.values;
  if (!run.values.classic) return await commands.listen(contextOf(run), parseAccountName(as));
  const name = requireName(as);
  await classic.listen(classicContextOf(run), name);
}

async function pay(run: Run<"pay">): Promise<void> {
  const { args, values } = run;
  const memo = memoOf(run);
  if (values.classic) return await payClassic(run, memo);
  const account = parseAccountName(values.as);
  const id = values.id === undefined ? null : parseUuidArgument("--id", values.id);
  if (values.batch !== undefined) {
    return await commands.payBatch(contextOf(run), account, commands.readBatch(values.batch), id);
  }
  const [payee, amount] = [parseAccountName(args.payee), parseAmount(args.amount)];
  await commands.pay(contextOf(run), account, { payee, amount, memo, way: wayOf(run), id });
}

async function payClassic(run: Run<"pay">, memo: string | null): Promise<void> {
  if (memo !== null) throw usageError("--classic has no memos");
  const name = requireName(run.values.as);
  const { payee = "", amount = "" } = run.args;
  const payment = { payee: requireName(payee), amount: requireAmount(amount) };
  await classic.pay(classicContextOf(run), name, payment);
}

/** The memo of a payment: `--memo`, or the words after the amount. */
function memoOf({ args: { memo: words = [] }, values }: Run<"pay">): string | null {
  if (words.length === 0) return values.memo ?? null;
  if (values.memo === undefined) return words.join(" ");
  throw usageError(`the memo is given twice: by --memo, and by "${words.join(" ")}"`);
}

function wayOf({ values }: Run<"pay">): Way {
  return values.direct ? "direct" : values["via-server"] ? "via-server" : "either";
}

/** What any command that reaches a server is given. */
interface ServerRun extends Surroundings {
  readonly args: { readonly host: string; readonly port: string };
  readonly values: ConnectionValues & Partial<ListenValues>;
}

function contextOf({ args, values, out, interrupted }: ServerRun): CommandContext {
  const p2pHost = values["p2p-host"] ?? null;
  if (p2pHost !== null && isIP(p2pHost) === 0) {
    throw usageError(`--p2p-host takes an IP address, not "${p2pHost}"`);
  }
  const p2pPort = values["p2p-port"] ?? "0";
  return {
    host: args.host,
    port: parsePort("<port>", args.port, 1),
    keysFolder: values.keys,
    serverCertPath: values["server-cert"] ?? null,
    acceptNew: values["accept-new"],
    timeout_ms: parseTimeoutMs(values.timeout),
    p2pHost,
    p2pPort: p2pPort === "0" ? 0 : parsePort("--p2p-port", p2pPort, P2P_PORT_MIN),
    out,
    interrupted,
    ask: (question) => askLine(question, interrupted),
    aside: (print) => print(),
  };
}

/** The same for a classic client, with the warning that it is one. */
function classicContextOf(run: ServerRun): CommandContext {
  const context = contextOf(run);
  run.out.warn(
    "--classic: nothing proves who pays. Anyone who can connect to the server can log in as you and spend this " +
      "account's money, and a payment has no receipt.",
  );
  return context;
}
