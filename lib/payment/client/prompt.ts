/** The interactive client: the same commands as on the command line, read from a prompt, while payments arrive. */
import { printable } from "../../base/text.ts";
import { isSealwireError, SealwireError } from "../../base/errors.ts";
import { usageError } from "../../cli/arguments.ts";
import { type PromptCall, readPromptCall } from "../../cli/command_line.ts";
import { renderCommands } from "../../cli/help.ts";
import { LinePrompt } from "../../cli/line_prompt.ts";
import { type AccountName, parseAccountName } from "../../keys/rsa.ts";
import { parseAmount } from "../../protocol/money.ts";
import {
  history,
  list,
  payOrSuggest,
  printPayment,
  register,
  showBalance,
  startListening,
} from "./commands.ts";
import type { CommandContext } from "./commands_context.ts";
import { receipt } from "./commands_receipts.ts";
import { redeem, refund } from "./commands_refunds.ts";
import * as requests from "./commands_requests.ts";
import { PROMPT } from "./commands_table.ts";
import { isPaymentLink } from "./payment_link.ts";
import type { Listening } from "./payee.ts";

/** Reads commands until `exit` or the end of the input. Throws `interrupted` after Ctrl-C. */
export async function runPrompt(
  context: CommandContext,
  account: AccountName | null,
): Promise<void> {
  const lines = new LinePrompt(context.interrupted);
  const ask = (question: string) => lines.ask(question);
  const prompt = new Prompt({ ...context, ask, aside: (print) => lines.aside(print) });
  context.out.note("Type help for the commands.");
  try {
    if (account !== null) await prompt.take(`login ${account}`);
    while (true) {
      const line = await ask("sealwire> ");
      if (line === null || !await prompt.take(line)) return;
    }
  } finally {
    lines.close();
    await prompt.logout();
  }
}

class Prompt {
  private online: { readonly account: AccountName; readonly listening: Listening } | null = null;

  constructor(private readonly context: CommandContext) {}

  /** Takes a line; false when it is to leave. A command that fails says so, and the prompt goes on. */
  async take(line: string): Promise<boolean> {
    const words = line.split(/\s+/);
    if (words[0] === "") return true;
    if (words[0]!.toLowerCase() === "quit") words[0] = "exit";
    try {
      return await this.run(readPromptCall(PROMPT, words));
    } catch (error) {
      if (isSealwireError(error, "interrupted")) throw error;
      this.context.out.failure(error);
      return true;
    }
  }

  /** False after `exit`. */
  private async run({ name, args }: PromptCall<typeof PROMPT>): Promise<boolean> {
    switch (name) {
      case "register":
        await this.register(parseAccountName(args.name));
        break;
      case "login":
        await this.login(parseAccountName(args.name));
        break;
      case "balance":
        await showBalance(this.context, this.account);
        break;
      case "list":
        await list(this.context, this.account);
        break;
      case "pay":
        await this.pay(args);
        break;
      case "request":
        await this.request(args);
        break;
      case "requests":
        await requests.listRequests(this.context, this.account);
        break;
      case "accept":
        await requests.accept(this.context, this.account, args.request ?? null);
        break;
      case "decline":
        await requests.decline(this.context, this.account, args.request ?? null);
        break;
      case "withdraw":
        await requests.withdraw(this.context, this.account, args.request);
        break;
      case "refund": {
        const amount = args.amount === undefined ? null : parseAmount(args.amount);
        await refund(this.context, this.account, args["payment-id"], amount);
        break;
      }
      case "redeem":
        await redeem(this.context, this.account, parseAmount(args.amount));
        break;
      case "history":
        await history(this.context, this.account);
        break;
      case "receipt":
        await receipt(this.context, this.account, args["payment-id"]);
        break;
      case "help":
        this.context.out.note(renderCommands(PROMPT));
        break;
      case "exit":
        return false;
    }
    return true;
  }

  private async register(account: AccountName): Promise<void> {
    await register(this.context, account);
    await this.login(account);
  }

  private async login(account: AccountName): Promise<void> {
    await this.logout();
    const listening = await startListening(this.context, account);
    this.online = { account, listening };
    const { balance } = listening.client.session;
    this.context.out.note(`${account} is online, port ${listening.port}; balance ${balance}`);
    listening.stay().catch((error) => this.wentOffline(listening, error));
    await listening.client.resolveOutbox();
  }

  async logout(): Promise<void> {
    const { online } = this;
    this.online = null;
    await online?.listening.close();
  }

  private async pay(args: (PromptCall<typeof PROMPT> & { name: "pay" })["args"]): Promise<void> {
    if (isPaymentLink(args.payee)) {
      return await requests.payLink(this.context, this.account, args.payee);
    }
    const payee = parseAccountName(args.payee);
    if (args.amount === undefined) {
      throw usageError("<amount> is missing: pay takes <payee> <amount> [memo...]");
    }
    const amount = parseAmount(args.amount);
    const memo = args.memo.length > 0 ? args.memo.join(" ") : null;
    const { client } = this.requireOnline().listening;
    const options = { payee, amount, memo, way: "either", id: null } as const;
    printPayment(this.context.out, await payOrSuggest(client, options));
  }

  private async request(
    args: (PromptCall<typeof PROMPT> & { name: "request" })["args"],
  ): Promise<void> {
    await requests.ask(this.context, this.account, {
      payer: parseAccountName(args.payer),
      amount: parseAmount(args.amount),
      memo: args.memo.length > 0 ? args.memo.join(" ") : null,
      life_s: requests.LIFE_S_DEFAULT,
      link: false,
      qr: false,
      svg: null,
    });
  }

  private get account(): AccountName {
    return this.requireOnline().account;
  }

  private requireOnline() {
    if (this.online === null) throw new SealwireError("login_required", "log in first: login NAME");
    return this.online;
  }

  private async wentOffline(listening: Listening, error: unknown): Promise<void> {
    if (this.online?.listening !== listening) return;
    await this.logout();
    const why = error instanceof Error ? error.message : String(error);
    if (isSealwireError(error, "interrupted")) return;
    this.context.aside(() => this.context.out.warn(`offline: ${printable(why)}`));
  }
}
