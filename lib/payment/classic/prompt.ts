/** The interactive classic client, with the commands of the old one, in any case. */
import { printable } from "../../base/text.ts";
import { isSealwireError, SealwireError } from "../../base/errors.ts";
import { parsePort, usageError } from "../../cli/arguments.ts";
import type { Arguments } from "../../cli/command.ts";
import { type PromptCall, type PromptCommands, readPromptCall } from "../../cli/command_line.ts";
import { LinePrompt } from "../../cli/line_prompt.ts";
import { type CommandContext, serverOptions } from "../client/commands_context.ts";
import { P2P_PORT_MIN } from "../../protocol/wire.ts";
import { ClassicSession } from "./client.ts";
import { payFrom, printAccount, printList } from "./commands.ts";
import { type ClassicListening, startListening } from "./commands_listen.ts";
import { parseWholeAmount, parseWrittenName, type WrittenName } from "./format.ts";

const PROMPT = "classic> ";

const COMMANDS = {
  register: {
    summary: "make an account",
    arguments: { name: { summary: "the account" } },
  },
  login: {
    summary: "go online",
    arguments: {
      name: { summary: "the account" },
      port: { summary: "where to take payments", arity: "optional" },
    },
  },
  list: { summary: "show who is online", arguments: {} },
  transaction: {
    summary: "pay someone",
    arguments: {
      payee: { summary: "the account to pay" },
      amount: { summary: "whole units" },
    },
  },
  exit: { summary: "leave", arguments: {} },
} as const satisfies PromptCommands;

/** Reads commands until Exit or the end of the input. Throws `interrupted` after Ctrl-C. */
export async function runClassicPrompt(context: CommandContext): Promise<void> {
  const lines = new LinePrompt({ interrupted: context.interrupted });
  const ask = (question: string) => lines.ask(question);
  const prompt = new ClassicPrompt({ ...context, ask, aside: (print) => lines.aside(print) });
  context.out.note(`Commands: ${Object.keys(COMMANDS).map(capitalized).join(", ")}`);
  try {
    while (true) {
      const line = await lines.read(prompt.question);
      if (line === null || !await prompt.take(line)) return;
    }
  } finally {
    lines.close();
    await prompt.logout();
  }
}

class ClassicPrompt {
  private online: { readonly name: WrittenName; readonly listening: ClassicListening } | null =
    null;
  /** A command whose missing words are being asked for, and the words so far. */
  private words: string[] = [];

  constructor(private readonly context: CommandContext) {}

  /** What to ask next. */
  get question(): string {
    const missing = this.missing();
    return missing === null ? PROMPT : `${capitalized(missing)}: `;
  }

  /**
   * Takes a line. Returns false after Exit. A command that fails says so, and the prompt goes on.
   */
  async take(line: string): Promise<boolean> {
    if (this.words.length > 0) this.words.push(line);
    else if (line !== "") this.words = line.split(/\s+/);
    if (this.words.length === 0 || this.missing() !== null) return true;
    const { words } = this;
    this.words = [];
    try {
      return await this.run(readPromptCall(COMMANDS, words));
    } catch (error) {
      if (isSealwireError(error, "interrupted")) throw error;
      this.context.out.failure(error);
      return true;
    }
  }

  /** The first argument that the command needs and does not have. */
  private missing(): string | null {
    const [verb = "", ...words] = this.words;
    const name = verb.toLowerCase();
    if (!Object.hasOwn(COMMANDS, name)) return null;
    const declared: Arguments = COMMANDS[name as keyof typeof COMMANDS].arguments;
    const [argument, { arity }] = Object.entries(declared)[words.length] ?? ["", {}];
    return argument === "" || arity !== undefined ? null : argument;
  }

  /** Returns false after Exit. */
  private async run({ name, args }: PromptCall<typeof COMMANDS>): Promise<boolean> {
    switch (name) {
      case "register":
        await this.register(requireName(args.name));
        break;
      case "login":
        await this.login(requireName(args.name), args.port);
        break;
      case "list": {
        const { name, listening: { session } } = this.requireOnline();
        await printList(this.context, name, session, await session.list());
        break;
      }
      case "transaction": {
        const { name, listening: { session } } = this.requireOnline();
        const options = { payee: requireName(args.payee), amount: requireAmount(args.amount) };
        await payFrom(this.context, name, session, await session.list(), options);
        break;
      }
      case "exit":
        return false;
    }
    return true;
  }

  private async register(name: WrittenName): Promise<void> {
    const session = await ClassicSession.connect(serverOptions(this.context));
    try {
      await session.register(name);
    } finally {
      await session.exit();
    }
    this.context.out.result({ account: name }, `${printable(name)} is registered`);
  }

  /** `port`: where to take payments; by default the port of the command line. */
  private async login(name: WrittenName, port: string | undefined): Promise<void> {
    await this.logout();
    const p2pPort = port === undefined
      ? this.context.p2pPort
      : parsePort("<port>", port, P2P_PORT_MIN);
    const listening = await startListening({ ...this.context, p2pPort }, name);
    this.online = { name, listening };
    printAccount(this.context, name, listening.list, `is online, port ${listening.port}`);
    void Promise.race([listening.session.closed, listening.displaced])
      .then((reason) => this.wentOffline(listening, reason));
  }

  async logout(): Promise<void> {
    const { online } = this;
    this.online = null;
    await online?.listening.close();
  }

  private requireOnline() {
    if (this.online !== null) return this.online;
    throw new SealwireError("login_required", "log in first: Login NAME");
  }

  private async wentOffline(listening: ClassicListening, reason: SealwireError): Promise<void> {
    if (this.online?.listening !== listening) return;
    await this.logout();
    this.context.aside(() => this.context.out.warn(`offline: ${printable(reason.message)}`));
  }
}

function capitalized(word: string): string {
  return word[0]!.toUpperCase() + word.slice(1);
}

/** @throws {SealwireError} `usage`. */
export function requireName(text: string): WrittenName {
  const name = parseWrittenName(text);
  if (name !== null) return name;
  throw usageError(
    `"${text}" is no name at a classic server: it takes characters other than # and line ends, and ` +
      "no space before or after",
  );
}

/** @throws {SealwireError} `usage`. */
export function requireAmount(text: string) {
  const amount = parseWholeAmount(text);
  if (amount !== null) return amount;
  throw usageError(`"${text}" is no amount: classic payments are of whole units, such as 12`);
}
