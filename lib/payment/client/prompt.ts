/** The interactive client: the same commands as on the command line, read from a prompt, while payments arrive. */
import { usageError } from "../../cli/arguments.ts";
import { printable } from "../../base/text.ts";
import { isSealwireError, SealwireError } from "../../base/errors.ts";
import { type AccountName, parseAccountName } from "../../keys/rsa.ts";
import { LinePrompt } from "../../cli/line_prompt.ts";
import { parseAmount } from "../../protocol/money.ts";
import {
  type CommandContext,
  history,
  list,
  printPayment,
  receipt,
  register,
  showBalance,
  startListening,
} from "./commands.ts";
import type { Listening } from "./payee.ts";

const HELP = `register NAME            make an account, and its keys, and go online with it
login NAME               go online: payments to you are shown as they arrive
balance                  what the account has
list                     who is online
pay NAME AMOUNT [MEMO]   pay someone
history                  every payment, oldest first
receipt PAYMENT-ID       the receipt of a payment
exit                     leave`;

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
    if (account !== null) await prompt.attempt(() => prompt.login(account));
    while (true) {
      const line = await ask("sealwire> ");
      if (line === null || /^(exit|quit)$/i.test(line)) return;
      await prompt.attempt(() => prompt.command(line));
    }
  } finally {
    lines.close();
    await prompt.logout();
  }
}

class Prompt {
  private online: { readonly account: AccountName; readonly listening: Listening } | null = null;

  constructor(private readonly context: CommandContext) {}

  /** A command that fails says so, and the prompt goes on. */
  async attempt(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (isSealwireError(error, "interrupted")) throw error;
      this.context.out.failure(error);
    }
  }

  async command(line: string): Promise<void> {
    const [verb = "", ...args] = line.split(/\s+/);
    switch (verb.toLowerCase()) {
      case "":
        return;
      case "help":
        return this.context.out.note(HELP);
      case "register":
        return await this.register(parseAccountName(args[0]));
      case "login":
        return await this.login(parseAccountName(args[0]));
      case "balance":
        return await showBalance(this.context, this.account);
      case "list":
        return await list(this.context, this.account);
      case "history":
        return await history(this.context, this.account);
      case "receipt":
        return await receipt(this.context, this.account, args[0] ?? "");
      case "pay":
        return await this.pay(args);
      default:
        throw usageError(`there is no command "${verb}"; type help`);
    }
  }

  private async register(account: AccountName): Promise<void> {
    await register(this.context, account);
    await this.login(account);
  }

  async login(account: AccountName): Promise<void> {
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

  private async pay([name, amount, ...memo]: string[]): Promise<void> {
    if (amount === undefined) throw usageError("pay takes a name and an amount: pay bob 12.50");
    const options = {
      payee: parseAccountName(name),
      amount: parseAmount(amount),
      way: "either",
      id: null,
    } as const;
    const text = memo.length > 0 ? memo.join(" ") : null;
    const { client } = this.requireOnline().listening;
    printPayment(this.context.out, await client.pay({ ...options, memo: text }));
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
