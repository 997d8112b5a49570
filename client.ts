/**
 * The payment client: pays people, takes payments, and checks receipts. Without a command it is
 * interactive.
 */
import { parseUuidArgument } from "./lib/base/parse.ts";
import { parsePort, usageError } from "./lib/cli/arguments.ts";
import type { Call } from "./lib/cli/command_line.ts";
import { didYouMean } from "./lib/cli/suggestion.ts";
import {
  handlerOf,
  type Handlers,
  type Invocation,
  runTool,
  type Surroundings,
} from "./lib/cli/tool.ts";
import { parseAccountName } from "./lib/keys/rsa.ts";
import * as classic from "./lib/payment/classic/commands.ts";
import { requireAmount, requireName, runClassicPrompt } from "./lib/payment/classic/prompt.ts";
import * as commands from "./lib/payment/client/commands.ts";
import { printCompletions } from "./lib/payment/client/commands_completions.ts";
import type { CommandContext } from "./lib/payment/client/commands_context.ts";
import * as past from "./lib/payment/client/commands_history.ts";
import {
  accountInUse,
  accountOf,
  contextOf,
  type ServerRun,
  use,
  whoami,
} from "./lib/payment/client/commands_home.ts";
import * as receipts from "./lib/payment/client/commands_receipts.ts";
import * as servers from "./lib/payment/client/commands_servers.ts";
import { CLIENT } from "./lib/payment/client/commands_table.ts";
import { keysFolderOf } from "./lib/payment/client/home.ts";
import { runPrompt } from "./lib/payment/client/prompt.ts";

type Run<Name extends keyof typeof CLIENT.commands> = Invocation<typeof CLIENT, Name>;

const HANDLERS: Handlers<typeof CLIENT> = {
  interactive,
  register,
  balance: (run) => commands.showBalance(contextOf(run), accountOf(run.values)),
  list,
  whoami: (run) => whoami(contextOf(run), accountOf(run.values)),
  use: ({ args, values, out }) => {
    use(out, keysFolderOf(values.keys), args["account-or-host"], args.port);
    return Promise.resolve();
  },
  pay,
  listen,
  history: (run) =>
    past.history(contextOf(run), accountOf(run.values), past.parseHistoryFilter(run)),
  status: (run) => past.status(contextOf(run), accountOf(run.values), run.args["payment-id"]),
  cancel: (run) => past.cancel(contextOf(run), accountOf(run.values), run.args["payment-id"]),
  receipt: (run) => receipts.receipt(contextOf(run), accountOf(run.values), run.args["payment-id"]),
  verify: ({ args, values, out }) =>
    receipts.verify(out, {
      path: args.receipt,
      keysFolder: keysFolderOf(values.keys),
      serverKey: values["server-key"] ?? null,
    }),
  "verify-fork": ({ args, out }) => servers.verifyFork(out, args.evidence, args.receipt ?? null),
  servers: manageServers,
  completions: (run) => printCompletions(run.out, run.called, run.args),
};

await runTool(CLIENT, HANDLERS);

async function manageServers(run: Run<"servers">): Promise<void> {
  const { args: { action, host, port }, values, out } = run;
  const keysFolder = keysFolderOf(values.keys);
  if (action === undefined) return servers.listServers(out, keysFolder);
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
    return servers.forgetServer(out, keysFolder, host, parsePort("<port>", port, 1));
  }
  if (values.as === undefined) throw usageError("servers accept-rollback takes --as NAME");
  const context = contextOf({ ...run, args: { host, port } });
  await servers.acceptRollback(context, parseAccountName(values.as));
}

async function interactive(run: Run<"interactive">): Promise<void> {
  const { as, classic } = run.values;
  if (!classic) {
    const runCommand = (call: Call & Surroundings) => handlerOf(HANDLERS, call)(call);
    return await runPrompt(contextOf(run), accountInUse(run.values), runCommand);
  }
  if (as !== undefined) requireName(as);
  await runClassicPrompt(classicContextOf(run));
}

async function register(run: Run<"register">): Promise<void> {
  const { as, classic: isClassic } = run.values;
  if (as === undefined) throw usageError("--as NAME is missing: the account to make");
  if (!isClassic) return await commands.register(contextOf(run), parseAccountName(as));
  const name = requireName(as);
  await classic.register(classicContextOf(run), name);
}

async function list(run: Run<"list">): Promise<void> {
  if (!run.values.classic) {
    return await commands.list(contextOf(run), accountOf(run.values), run.values);
  }
  const name = requireName(run.values.as ?? "");
  await classic.list(classicContextOf(run), name);
}

async function listen(run: Run<"listen">): Promise<void> {
  if (!run.values.classic) return await commands.listen(contextOf(run), accountOf(run.values));
  const name = requireName(run.values.as ?? "");
  await classic.listen(classicContextOf(run), name);
}

async function pay(run: Run<"pay">): Promise<void> {
  const { args, values } = run;
  if (values.classic) return await payClassic(run);
  const id = values.id === undefined ? null : parseUuidArgument("--id", values.id);
  if (values.batch !== undefined) {
    const lines = commands.readBatch(values.batch);
    return await commands.payBatch(contextOf(run), accountOf(values), lines, id);
  }
  const options = commands.parsePay({ args, values, id });
  await commands.pay(contextOf(run), accountOf(values), options);
}

async function payClassic(run: Run<"pay">): Promise<void> {
  if (commands.memoOf(run) !== null) throw usageError("--classic has no memos");
  const name = requireName(run.values.as ?? "");
  const { payee = "", amount = "" } = run.args;
  const payment = { payee: requireName(payee), amount: requireAmount(amount) };
  await classic.pay(classicContextOf(run), name, payment);
}

/** The context of a classic client, with the warning that it is one. */
function classicContextOf(run: ServerRun): CommandContext {
  const context = contextOf(run);
  run.out.warn(
    "--classic: nothing proves who pays. Anyone who can connect to the server can log in as you and spend this " +
      "account's money, and a payment has no receipt.",
  );
  return context;
}
