/**
 * The payment client: pays people, takes payments, and checks receipts. Without a command it is
 * interactive.
 */
import { usageError } from "./lib/cli/arguments.ts";
import type { Call } from "./lib/cli/command_line.ts";
import { handlerOf, type Handlers, runTool, type Surroundings } from "./lib/cli/tool.ts";
import { parseAccountName } from "./lib/keys/rsa.ts";
import * as classic from "./lib/payment/classic/commands_run.ts";
import * as commands from "./lib/payment/client/commands.ts";
import * as books from "./lib/payment/client/commands_books.ts";
import { printCompletions } from "./lib/payment/client/commands_completions.ts";
import * as past from "./lib/payment/client/commands_history.ts";
import {
  accountInUse,
  accountOf,
  contextOf,
  use,
  whoami,
} from "./lib/payment/client/commands_home.ts";
import * as keys from "./lib/payment/client/commands_keys.ts";
import { pay } from "./lib/payment/client/commands_pay.ts";
import * as receipts from "./lib/payment/client/commands_receipts.ts";
import * as refunds from "./lib/payment/client/commands_refunds.ts";
import * as requests from "./lib/payment/client/commands_requests.ts";
import * as servers from "./lib/payment/client/commands_servers.ts";
import { CLIENT, type ClientRun } from "./lib/payment/client/commands_table.ts";
import { keysFolderOf } from "./lib/payment/client/home.ts";
import { runPrompt } from "./lib/payment/client/prompt.ts";
import { parseAmount } from "./lib/protocol/money.ts";

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
  pay: (run) => run.values.classic ? classic.pay(run) : pay(run),
  listen,
  request: (run) => requests.ask(contextOf(run), accountOf(run.values), requests.parseAsk(run)),
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
  servers: servers.manageServers,
  completions: (run) => printCompletions(run.out, run.called, run.args),
};

await runTool(CLIENT, HANDLERS);

async function interactive(run: ClientRun<"interactive">): Promise<void> {
  if (run.values.classic) return await classic.interactive(run);
  const runCommand = (call: Call & Surroundings) => handlerOf(HANDLERS, call)(call);
  await runPrompt(contextOf(run), accountInUse(run.values), runCommand);
}

async function register(run: ClientRun<"register">): Promise<void> {
  const { as, classic: isClassic, invite } = run.values;
  if (as === undefined) throw usageError("--as NAME is missing: the account to make");
  if (isClassic) return await classic.register(run, as);
  await commands.register(contextOf(run), parseAccountName(as), invite);
}

async function list(run: ClientRun<"list">): Promise<void> {
  if (run.values.classic) return await classic.list(run);
  await commands.list(contextOf(run), accountOf(run.values), run.values);
}

async function listen(run: ClientRun<"listen">): Promise<void> {
  if (run.values.classic) return await classic.listen(run);
  await commands.listen(contextOf(run), accountOf(run.values));
}

async function history(run: ClientRun<"history">): Promise<void> {
  const account = accountOf(run.values);
  const { csv, ledger } = run.values;
  if (!csv && !ledger) {
    return await past.history(contextOf(run), account, past.parseHistoryFilter(run));
  }
  await books.exportHistory(contextOf(run), account, csv ? "csv" : "ledger");
}
