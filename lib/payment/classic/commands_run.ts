/**
 * What `client.ts --classic` runs: each reads what was given, warns of what `--classic` means, and
 * does it.
 */
import { usageError } from "../../cli/arguments.ts";
import type { CommandContext } from "../client/commands_context.ts";
import { contextOf, type ServerRun } from "../client/commands_home.ts";
import { memoOf } from "../client/commands_pay.ts";
import type { ClientRun } from "../client/commands_table.ts";
import * as commands from "./commands.ts";
import * as listening from "./commands_listen.ts";
import { requireAmount, requireName, runClassicPrompt } from "./prompt.ts";

export async function interactive(run: ClientRun<"interactive">): Promise<void> {
  const { as } = run.values;
  if (as !== undefined) requireName(as);
  await runClassicPrompt(classicContextOf(run));
}

/** `as`: the name to register. */
export async function register(run: ClientRun<"register">, as: string): Promise<void> {
  const name = requireName(as);
  await commands.register(classicContextOf(run), name);
}

export async function list(run: ClientRun<"list">): Promise<void> {
  const name = requireName(run.values.as ?? "");
  await commands.list(classicContextOf(run), name);
}

export async function listen(run: ClientRun<"listen">): Promise<void> {
  const name = requireName(run.values.as ?? "");
  await listening.listen(classicContextOf(run), name);
}

export async function pay(run: ClientRun<"pay">): Promise<void> {
  if (memoOf(run) !== null) throw usageError("--classic has no memos");
  const name = requireName(run.values.as ?? "");
  const { payee = "", amount = "" } = run.args;
  const payment = { payee: requireName(payee), amount: requireAmount(amount) };
  await commands.pay(classicContextOf(run), name, payment);
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
