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
import * as books from "./lib/payment/client/commands_books.ts";
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
import * as keys from "./lib/payment/client/commands_keys.ts";
import * as paying from "./lib/payment/client/commands_pay.ts";
import * as receipts from "./lib/payment/client/commands_receipts.ts";
import * as refunds from "./lib/payment/client/commands_refunds.ts";
import * as requests from "./lib/payment/client/commands_requests.ts";
import * as servers from "./lib/payment/client/commands_servers.ts";
import { CLIENT } from "./lib/payment/client/commands_table.ts";
import { keysFolderOf } from "./lib/payment/client/home.ts";
import { isPaymentLink, parsePaymentLink } from "./lib/payment/client/payment_link.ts";
import { runPrompt } from "./lib/payment/client/prompt.ts";
import { parseAmount } from "./lib/protocol/money.ts";

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
  request: ask,
  requests: (run) => requests.listRequests(contextOf(run), accountOf(run.values)),
  accept: (run) => requests.accept(contextOf(run), accountOf(run.values), run.args.request ?? null),
  decline: (run) =>
    requests.decline(contextOf(run), accountOf(run.values), run.args.request ?? null),
  withdraw: (run) => requests.withdraw(contextOf(run), accountOf(run.values), run.args.request),
  refund: (run) => {
    const { "payment-id": payment, amount } = run.args;
    const part = amount === undefined ? null : parseAmount(amount);
    return refunds.refund(contextOf(run), accountOf(run.values), payment, part);
  },
  redeem: (run) =>
    refunds.redeem(contextOf(run), accountOf(run.values), parseAmount(run.args.amount)),
  "rotate-key": (run) => keys.rotateKey(contextOf(run), accountOf(run.values)),
  history,
  statement: (run) =>
    books.statement(contextOf(run), accountOf(run.values), {
      month: run.values.month ?? new Date().toISOString().slice(0, "2026-11".length),
      html: run.values.html ?? null,
    }),
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

async function history(run: Run<"history">): Promise<void> {
  const account = accountOf(run.values);
  const { csv, ledger } = run.values;
  if (!csv && !ledger) {
    return await past.history(contextOf(run), account, past.parseHistoryFilter(run));
  }
  await books.exportHistory(contextOf(run), account, csv ? "csv" : "ledger");
}

async function ask(run: Run<"request">): Promise<void> {
  const { args, values } = run;
  await requests.ask(contextOf(run), accountOf(values), {
    payer: args.payer === undefined ? null : parseAccountName(args.payer),
    amount: parseAmount(args.amount),
    memo: args.memo.length > 0 ? args.memo.join(" ") : null,
    life_s: requests.parseLife(values.expires),
    link: values.link,
    qr: values.qr,
    svg: values.svg ?? null,
  });
}

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
  const { as, classic: isClassic, invite } = run.values;
  if (as === undefined) throw usageError("--as NAME is missing: the account to make");
  if (!isClassic) return await commands.register(contextOf(run), parseAccountName(as), invite);
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
    const lines = paying.readBatch(values.batch);
    return await paying.payBatch(contextOf(run), accountOf(values), lines, id);
  }
  if (isPaymentLink(args.payee ?? "")) {
    if (args.amount !== undefined || paying.memoOf(run) !== null) {
      throw usageError("a link has its own amount and memo: pay takes nothing after it");
    }
    const account = accountOf(values);
    const link = parsePaymentLink(args.payee!);
    // The link says where, unless the command line does.
    const { host = link.host, port = String(link.port) } = args;
    return await requests.payLink(contextOf({ ...run, args: { host, port } }), account, link);
  }
  const options = paying.parsePay({ args, values, id });
  await paying.pay(contextOf(run), accountOf(values), options);
}

async function payClassic(run: Run<"pay">): Promise<void> {
  if (paying.memoOf(run) !== null) throw usageError("--classic has no memos");
  const name = requireName(run.values.as ?? "");
  const { payee = "", amount = "" } = run.args;
  const payment = { payee: requireName(payee), amount: requireAmount(amount) };
  await classic.pay(classicContextOf(run), name, payment);
}

/** The context of a classic client, with the warning that it is one. */
function classicContextOf(run: ServerRun): CommandContext {
  const context = contextOf(run);
  if (context.otherAddresses.length > 0) throw usageError("--classic takes one server");
  run.out.warn(
    "--classic: nothing proves who pays. Anyone who can connect to the server can log in as you and spend this " +
      "account's money, and a payment has no receipt.",
  );
  return context;
}
