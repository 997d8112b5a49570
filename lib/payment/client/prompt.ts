/**
 * The interactive client: the same commands as on the command line, read from a prompt, while
 * payments arrive.
 */
import { printable } from "../../base/text.ts";
import { isSealwireError, SealwireError } from "../../base/errors.ts";
import type { Surroundings } from "../../cli/tool.ts";
import {
  type Call,
  missingArguments,
  readPromptLine,
  requestedHelp,
  splitCommandLine,
  splitWords,
} from "../../cli/command_line.ts";
import { completeWords } from "../../cli/completions.ts";
import { renderCommands, renderHelp } from "../../cli/help.ts";
import { LinePrompt } from "../../cli/line_prompt.ts";
import { type AccountName, parseAccountName } from "../../keys/rsa.ts";
import { choose, register, startListening } from "./commands.ts";
import { knownNames, knownPayments } from "./commands_completions.ts";
import type { CommandContext } from "./commands_context.ts";
import { PROMPT, STARTING_VALUES } from "./commands_table.ts";
import { accountsIn } from "./home.ts";
import { isPaymentLink } from "./payment_link.ts";
import type { Listening } from "./payee.ts";
import { PromptHistory } from "./prompt_history.ts";

/** Words of the old C++ client, and others that people type, for commands of ours. */
const OTHER_WORDS: Readonly<Record<string, string>> = {
  transaction: "pay",
  quit: "exit",
  "?": "help",
};
/** Words that, alone on a line, led through questions in the old client. */
const LEADS_THROUGH = /^(register|login|transaction)$/i;
/** How long the balance before the prompt may take. */
const BALANCE_TIMEOUT_MS = 2_000;
/** How old the names may be that Tab completes. */
const NAMES_ONLINE_MAX_AGE_MS = 10_000;

/** Runs a command of the tool. The prompt gives it its own context. */
export type RunCommand = (
  call: Call & Surroundings & { readonly context: CommandContext },
) => Promise<void>;

/** Reads commands until `exit` or the end of the input. Throws `interrupted` after Ctrl-C. */
export async function runPrompt(
  context: CommandContext,
  account: AccountName | null,
  runCommand: RunCommand,
): Promise<void> {
  const history = new PromptHistory(context.keysFolder);
  const lines: LinePrompt = new LinePrompt({
    interrupted: context.interrupted,
    history: history.lines,
    complete: (line) => prompt.complete(line),
  });
  const prompt: Prompt = new Prompt(
    {
      ...context,
      ask: (question) => lines.ask(question),
      aside: (print) => lines.aside(print, () => prompt.text),
    },
    lines.isTerminal,
    runCommand,
  );
  context.out.note("Type help for the commands.");
  try {
    if (account !== null) await prompt.take(`login ${account}`);
    while (true) {
      const line = await lines.read(prompt.text);
      if (line === null) return;
      if (lines.isTerminal) history.add(line);
      if (!await prompt.take(line)) return;
    }
  } finally {
    lines.close();
    await prompt.logout();
  }
}

class Prompt {
  private online: { readonly account: AccountName; readonly listening: Listening } | null = null;
  /** What the account online has, as decimal text. */
  private balance = "";
  private namesOnline: { readonly names: string[]; readonly at_ms: number } | null = null;

  constructor(
    private readonly context: CommandContext,
    private readonly isTerminal: boolean,
    private readonly runCommand: RunCommand,
  ) {}

  /** Who pays, and what they have. */
  get text(): string {
    if (this.online === null) return "sealwire> ";
    const { account, listening } = this.online;
    return `${account} ${listening.isOnline ? this.balance : "offline"}> `;
  }

  /**
   * Takes a line; false when it is to leave. A command that fails says so, and the prompt goes on.
   */
  async take(line: string): Promise<boolean> {
    try {
      const words = splitWords(line);
      if (words.length === 0) return true;
      const isLed = this.isTerminal || (words.length === 1 && LEADS_THROUGH.test(words[0]!));
      const word = words[0]!.toLowerCase();
      if (Object.hasOwn(PROMPT.commands, word)) words[0] = word;
      words[0] = OTHER_WORDS[word] ?? words[0]!;
      if (isLed && !await this.askMissing(words)) return true;
      return await this.read(words);
    } catch (error) {
      if (isSealwireError(error, "interrupted") && this.context.interrupted.aborted) throw error;
      this.context.out.failure(error);
      return true;
    } finally {
      await this.updateBalance();
    }
  }

  /** Candidates for the last word of `line`. */
  async complete(line: string): Promise<[candidates: string[], typed: string]> {
    const words = line.split(/\s+/).filter((word, index) => word !== "" || index > 0);
    if (words.length === 0) words.push("");
    const typed = words.at(-1)!;
    words[0] = words.length > 1 ? OTHER_WORDS[words[0]!.toLowerCase()] ?? words[0]! : words[0]!;
    const names = await this.names();
    const found = completeWords(PROMPT, words, (name) => {
      if (name === "payee" || name === "with") return names;
      if (name === "name") return accountsIn(this.context.keysFolder);
      if (name === "command") return Object.keys(PROMPT.commands);
      if (name !== "payment-id" || this.online === null) return null;
      return knownPayments(this.context.keysFolder, this.online.account);
    });
    return [found.map((word) => `${word} `), typed];
  }

  /** Asks for what the command needs and the line lacks. False when there is no answer. */
  private async askMissing(words: string[]): Promise<boolean> {
    const line = splitCommandLine(PROMPT, words);
    if (requestedHelp(PROMPT, line) !== null) return true;
    const isBare = words.length === 1;
    for (const name of missingArguments(PROMPT, line)) {
      const answer = await this.context.ask(`${name[0]!.toUpperCase()}${name.slice(1)}: `);
      if (answer === null || answer === "") return false;
      words.push(answer);
    }
    if (words[0]!.toLowerCase() !== "pay") return true;
    if (words.length === 2 && !isPaymentLink(words[1]!)) {
      const amount = await this.context.ask("Amount: ");
      if (amount === null || amount === "") return false;
      words.push(amount);
    }
    if (!isBare || words.length < 3) return true;
    const memo = await this.context.ask("Memo (Enter for none): ");
    if (memo === null) return false;
    if (memo !== "") words.push("--", memo);
    return true;
  }

  /** False after `exit`. */
  private async read(words: readonly string[]): Promise<boolean> {
    const { out, interrupted } = this.context;
    const line = splitCommandLine(PROMPT, words);
    const help = requestedHelp(PROMPT, line);
    if (help !== null) {
      out.note(
        help.command === null
          ? renderCommands(PROMPT.commands)
          : renderHelp(PROMPT, "", help.command),
      );
      return true;
    }
    const call = readPromptLine(PROMPT, line);
    switch (call.command) {
      case "exit":
        return false;
      case "register":
        await this.register(parseAccountName(call.args.name));
        break;
      case "login":
        await this.login(parseAccountName(call.args.name));
        break;
      default: {
        const { account, listening } = this.requireOnline();
        const { keysFolder: keys, timeout_ms } = this.context;
        const timeout = String(timeout_ms / 1000);
        const values = { ...STARTING_VALUES, as: account, keys, timeout, ...call.values };
        const context = { ...this.context, live: listening.client };
        await this.runCommand({ ...call, values, out, interrupted, called: "", context });
      }
    }
    return true;
  }

  private async register(account: AccountName): Promise<void> {
    await register(this.context, account);
    await this.login(account);
  }

  /** Only an account that is online takes another's place. */
  private async login(account: AccountName): Promise<void> {
    const { online: before } = this;
    const { out } = this.context;
    if (before?.account === account && before.listening.isOnline) {
      return out.note(`${account} is online already`);
    }
    const listening = await this.startInPlaceOf(before, account);
    this.online = { account, listening };
    this.balance = listening.client.session.balance;
    out.note(`${account} is online, port ${listening.port}; balance ${this.balance}`);
    if (before !== null && before.account !== account) {
      out.note(`${before.account} is offline: from now on ${account} pays`);
    }
    await before?.listening.close();
    choose(this.context, { account });
    listening.stay().catch((error) => this.wentOffline(listening, error));
    await listening.client.resolveOutbox();
  }

  /**
   * Two accounts cannot take payments on one port. The first comes back when the second cannot log
   * in.
   */
  private async startInPlaceOf(before: Prompt["online"], account: AccountName): Promise<Listening> {
    const { context } = this;
    const start = (name: AccountName) =>
      startListening(context, name, {
        reconnect_ms: Infinity,
        onBalance: (balance) => {
          if (this.online?.account === name) this.balance = balance;
        },
      });
    if (before === null || context.p2pPort === 0) return await start(account);
    await this.logout();
    try {
      return await start(account);
    } catch (error) {
      const listening = await start(before.account);
      this.online = { account: before.account, listening };
      listening.stay().catch((reason) => this.wentOffline(listening, reason));
      throw error;
    }
  }

  async logout(): Promise<void> {
    const { online } = this;
    this.online = null;
    await online?.listening.close();
  }

  private requireOnline() {
    if (this.online === null) throw new SealwireError("login_required", "log in first: login NAME");
    return this.online;
  }

  private async updateBalance(): Promise<void> {
    const listening = this.online?.listening;
    if (!listening?.isOnline) return;
    const timeout = new Promise<null>((resolve) => setTimeout(resolve, BALANCE_TIMEOUT_MS, null));
    const balance = await Promise.race([
      listening.client.session.currentBalance().catch(() => null),
      timeout,
    ]);
    if (balance !== null && this.online?.listening === listening) this.balance = balance;
  }

  /** Who was paid before, and who is online. */
  private async names(): Promise<string[]> {
    const known = knownNames(this.context.keysFolder);
    const listening = this.online?.listening;
    if (!listening?.isOnline) return known;
    if (
      this.namesOnline === null || Date.now() - this.namesOnline.at_ms > NAMES_ONLINE_MAX_AGE_MS
    ) {
      const { online } = await listening.client.session.list(null);
      this.namesOnline = { names: online.map(({ name }) => name), at_ms: Date.now() };
    }
    return [...new Set([...known, ...this.namesOnline.names])];
  }

  private async wentOffline(listening: Listening, error: unknown): Promise<void> {
    if (this.online?.listening !== listening) return;
    await this.logout();
    const why = error instanceof Error ? error.message : String(error);
    if (isSealwireError(error, "interrupted")) return;
    this.context.aside(() => this.context.out.warn(`offline: ${printable(why)}`));
  }
}
