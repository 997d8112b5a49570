/** The commands of `client.ts` and of its prompt: the one place that declares them. */
import type { Options, OptionValues, Tool } from "../../cli/command.ts";
import { EXIT_INTERRUPTED } from "../../cli/exit_status.ts";
import type { PromptCommands } from "../../cli/command_line.ts";

const KEYS = {
  keys: { value: "FOLDER", default: "keys", summary: "where keys are" },
} as const satisfies Options;

/** How the server is reached and trusted. */
const CONNECTION_OPTIONS = {
  ...KEYS,
  "server-cert": { value: "FILE", summary: "the server's certificate, instead of the known one" },
  "accept-new": { summary: "trust a server never seen before, without asking" },
  timeout: { value: "SECONDS", default: "30", summary: "how long to wait for an answer" },
} as const satisfies Options;

const ACCOUNT_OPTIONS = {
  as: { value: "NAME", required: true, summary: "the account that acts" },
  ...CONNECTION_OPTIONS,
} as const satisfies Options;

const CLASSIC_SUMMARY = "act as an old C++ client, which nothing protects";

/** What a one-shot command needs to act as a classic client, which names a port at its login. */
const CLASSIC_OPTIONS = {
  classic: { summary: CLASSIC_SUMMARY },
  "p2p-port": { value: "PORT", default: "0", summary: "with --classic: the port to log in with" },
} as const satisfies Options;

const LISTEN_OPTIONS = {
  "p2p-port": { value: "PORT", default: "0", summary: "where to take payments; 0: any free port" },
  "p2p-host": { value: "IP", summary: "the address to publish; else the one that is seen" },
  classic: { summary: CLASSIC_SUMMARY, excludes: ["p2p-host"] },
} as const satisfies Options;

export type ConnectionValues = OptionValues<typeof CONNECTION_OPTIONS>;
export type ListenValues = OptionValues<typeof LISTEN_OPTIONS>;

export const CLIENT = {
  file: "client.ts",
  summary: "Sealwire's payment client: pays people, takes payments, checks receipts.",
  prefix: {
    host: { summary: "the server" },
    port: { summary: "its port" },
  },
  main: "interactive",
  example: "localhost 8080 pay bob 12.50 lunch for two --as alice",
  exitOnInterrupt: EXIT_INTERRUPTED,
  commands: {
    interactive: {
      summary: "interactive: take commands from a prompt",
      group: "Account",
      arguments: {},
      options: {
        as: { value: "NAME", summary: "the account to go online with at once" },
        ...CONNECTION_OPTIONS,
        ...LISTEN_OPTIONS,
      },
      example: "localhost 8080 --as alice",
    },
    register: {
      summary: "make an account, and its keys if missing",
      group: "Account",
      arguments: {},
      options: {
        ...ACCOUNT_OPTIONS,
        invite: { value: "CODE", summary: "what the operator gave you, where one is needed" },
        ...CLASSIC_OPTIONS,
      },
      example: "localhost 8080 register --as alice",
    },
    balance: {
      summary: "show what the account has",
      group: "Account",
      arguments: {},
      options: ACCOUNT_OPTIONS,
      example: "localhost 8080 balance --as alice",
    },
    list: {
      summary: "show who is online",
      group: "Account",
      arguments: {},
      options: { ...ACCOUNT_OPTIONS, ...CLASSIC_OPTIONS },
      example: "localhost 8080 list --as alice",
    },
    pay: {
      summary: "pay someone",
      group: "Payments",
      arguments: {
        payee: { summary: "the account to pay" },
        amount: { summary: "such as 12.50; with --classic whole units" },
        memo: { arity: "rest", summary: "words that only payee and payer can read, 140 bytes" },
      },
      options: {
        memo: { value: "TEXT", summary: "the same as the words after the amount" },
        direct: {
          summary: "straight to the payee, or cancelled",
          excludes: ["via-server"],
        },
        "via-server": { summary: "through the server, even if the payee is online" },
        id: { value: "UUID", summary: "the same id never pays twice: safe to run again" },
        batch: {
          value: "FILE",
          summary: "lines of name,amount: all or none; -: standard input",
          replacesArguments: true,
          excludes: ["memo", "direct", "via-server"],
        },
        ...ACCOUNT_OPTIONS,
        ...CLASSIC_OPTIONS,
        classic: {
          summary: CLASSIC_SUMMARY,
          excludes: ["memo", "direct", "via-server", "id", "batch"],
        },
      },
      example: "localhost 8080 pay bob 12.50 lunch for two --as alice",
    },
    listen: {
      summary: "take payments, and show each as it arrives",
      group: "Payments",
      arguments: {},
      options: { ...ACCOUNT_OPTIONS, ...LISTEN_OPTIONS },
      example: "localhost 8080 listen --as bob",
    },
    history: {
      summary: "show every payment, oldest first",
      group: "Payments",
      arguments: {},
      options: ACCOUNT_OPTIONS,
      example: "localhost 8080 history --as alice",
    },
    receipt: {
      summary: "print the receipt of a payment",
      group: "Receipts",
      arguments: { "payment-id": { summary: "as pay, listen and history show it" } },
      options: ACCOUNT_OPTIONS,
      example: "localhost 8080 receipt $payment --as bob",
    },
    verify: {
      summary: "check a receipt; needs no <host> <port>",
      group: "Receipts",
      prefixed: false,
      arguments: { receipt: { summary: "its file; -: standard input" } },
      options: {
        "server-key": { value: "FILE", summary: "the server's public key, or its fingerprint" },
        ...KEYS,
      },
      example: "verify receipt.txt",
    },
    "verify-fork": {
      summary: "say what a file of evidence proves",
      group: "Trust",
      prefixed: false,
      arguments: {
        evidence: { summary: "its file; -: standard input; or a receipt" },
        receipt: { arity: "optional", summary: "a receipt that contradicts the first" },
      },
      options: {},
      example: "verify-fork keys/evidence/found.json",
    },
    servers: {
      summary: "list, forget, accept-rollback",
      group: "Trust",
      prefixed: false,
      arguments: {
        action: { arity: "optional", summary: "forget or accept-rollback; else a list" },
        host: { arity: "optional", summary: "the server" },
        port: { arity: "optional", summary: "its port" },
      },
      options: {
        as: { value: "NAME", summary: "with accept-rollback: the account that acts" },
        ...CONNECTION_OPTIONS,
      },
      example: "servers forget localhost 8080",
    },
  },
} as const satisfies Tool;

const { register, balance, list, pay, history, receipt } = CLIENT.commands;

const NAME = { name: { summary: "the account" } } as const;

/** The commands of the prompt. They have the arguments of the tool's commands, and no options. */
export const PROMPT = {
  register: { summary: `${register.summary}, and go online`, arguments: NAME },
  login: { summary: "go online: payments to you are shown as they arrive", arguments: NAME },
  balance,
  list,
  pay,
  history,
  receipt,
  help: {
    summary: "show the commands",
    arguments: {},
  },
  exit: { summary: "leave", arguments: {} },
} as const satisfies PromptCommands;
