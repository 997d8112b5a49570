/** The interactive classic client: the commands of old, Register, Login, List, Transaction and Exit, in any case. */
import { parsePort, usageError } from "../../cli/arguments.ts";
import { printable } from "../../base/text.ts";
import { isSealwireError, SealwireError } from "../../base/errors.ts";
import { LinePrompt } from "../../cli/line_prompt.ts";
import { type CommandContext, serverOptions } from "../client/commands.ts";
import { P2P_PORT_MIN } from "../../protocol/wire.ts";
import { ClassicSession } from "./client.ts";
import {
  type ClassicListening,
  payFrom,
  printAccount,
  printList,
  startListening,
} from "./commands.ts";
import { type ClassicName, parseClassicName, parseWholeAmount } from "./format.ts";

const COMMANDS = "Register, Login, List, Transaction, Exit";
const PROMPT = "classic> ";

/** What a command needs to know, asked for when the line does not say it. */
const QUESTIONS: Readonly<Record<string, readonly string[]>> = {
  register: ["Name: "],
  login: ["Name: "],
  list: [],
  transaction: ["Payee: ", "Amount: "],
};

/** Reads commands until Exit or the end of the input. Throws `interrupted` after Ctrl-C. */
export async function runClassicPrompt(context: CommandContext): Promise<void> {
  const lines = new LinePrompt(context.interrupted);
  const ask = (question: string) => lines.ask(question);
  const prompt = new ClassicPrompt({ ...context, ask, aside: (print) => lines.aside(print) });
  context.out.note(`Commands: ${COMMANDS}`);
  try {
    while (true) {
      const line = await ask(prompt.question);
      if (line === null || !await prompt.take(line)) return;
    }
  } finally {
    lines.close();
    await prompt.logout();
  }
}

class ClassicPrompt {
  private online: { readonly name: ClassicName; readonly listening: ClassicListening } | null =
    null;
  /** The command whose questions are being asked, and the answers so far. */
  private command: string | null = null;
  private answers: string[] = [];

  constructor(private readonly context: CommandContext) {}

  /** What to ask next. */
  get question(): string {
    if (this.command === null) return PROMPT;
    return QUESTIONS[this.command]![this.answers.length]!;
  }

  /** Takes a line; false after Exit. A command that fails says so, and the prompt goes on. */
  async take(line: string): Promise<boolean> {
    if (this.command !== null) this.answers.push(line);
    else {
      const [verb = "", ...answers] = line.split(/\s+/);
      const command = verb.toLowerCase();
      if (command === "exit") return false;
      if (command === "") return true;
      if (!Object.hasOwn(QUESTIONS, command)) {
        this.context.out.failure(usageError(`there is no command "${verb}": ${COMMANDS}`));
        return true;
      }
      [this.command, this.answers] = [command, answers];
    }
    if (this.answers.length >= QUESTIONS[this.command]!.length) await this.attempt();
    return true;
  }

  private async attempt(): Promise<void> {
    const [command, answers] = [this.command!, this.answers];
    this.command = null;
    try {
      await this.run(command, answers);
    } catch (error) {
      if (isSealwireError(error, "interrupted")) throw error;
      this.context.out.failure(error);
    }
  }

  private async run(command: string, [first = "", second = ""]: string[]): Promise<void> {
    switch (command) {
      case "register":
        return await this.register(requireName(first));
      case "login":
        return await this.login(requireName(first), second);
      case "list": {
        const { name, listening: { session } } = this.requireOnline();
        return await printList(this.context, name, session, await session.list());
      }
      case "transaction": {
        const { name, listening: { session } } = this.requireOnline();
        const options = { payee: requireName(first), amount: requireAmount(second) };
        return await payFrom(this.context, name, session, await session.list(), options);
      }
    }
  }

  private async register(name: ClassicName): Promise<void> {
    const session = await ClassicSession.connect(serverOptions(this.context));
    try {
      await session.register(name.written);
    } finally {
      await session.exit();
    }
    const { account } = name;
    this.context.out.result({ account }, `${account} is registered`);
  }

  /** `port`: to take payments on; empty for the one of the command line. */
  private async login(name: ClassicName, port: string): Promise<void> {
    await this.logout();
    const p2pPort = port === "" ? this.context.p2pPort : parsePort("port", port, P2P_PORT_MIN);
    const listening = await startListening({ ...this.context, p2pPort }, name);
    this.online = { name, listening };
    printAccount(this.context, name, listening.list, `is online, port ${listening.port}`);
    void listening.session.closed.then((reason) => this.wentOffline(listening, reason));
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
    this.context.out.warn(`offline: ${printable(reason.message)}`);
  }
}

/** @throws {SealwireError} `usage`. */
export function requireName(text: string): ClassicName {
  const name = parseClassicName(text);
  if (name !== null) return name;
  throw usageError(
    `"${text}" is no name: it takes 1 to 32 of letters, digits, ". _ -", starting with a letter or digit`,
  );
}

/** @throws {SealwireError} `usage`. */
export function requireAmount(text: string) {
  const amount = parseWholeAmount(text);
  if (amount !== null) return amount;
  throw usageError(`"${text}" is no amount: classic payments are of whole units, such as 12`);
}
