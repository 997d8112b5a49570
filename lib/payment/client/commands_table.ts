/** The commands of `client.ts` and of its prompt: the one place that declares them. */
import type { Arguments, Command, Options, OptionValues, Tool } from "../../cli/command.ts";
import { EXIT_INTERRUPTED } from "../../cli/exit_status.ts";
import type { Invocation } from "../../cli/tool.ts";

const KEYS = {
  keys: { value: "FOLDER", summary: "where keys are: ./keys, else ~/.config/sealwire" },
} as const satisfies Options;

/** How the server is reached and trusted. */
const CONNECTION_OPTIONS = {
  ...KEYS,
  "server-cert": { value: "FILE", summary: "the server's certificate, instead of the known one" },
  "accept-new": { summary: "trust a server never seen before, without asking" },
  timeout: { value: "SECONDS", default: "30", summary: "how long to wait for an answer" },
} as const satisfies Options;

const ACCOUNT_OPTIONS = {
  as: { value: "NAME", summary: "the account that acts; else the one in use" },
  ...CONNECTION_OPTIONS,
} as const satisfies Options;

const CLASSIC_SUMMARY = "act as an old C++ client, which nothing protects";

/** What a one-shot command needs to act as a classic client, which names a port at its login. */
const CLASSIC_OPTIONS = {
  classic: { summary: CLASSIC_SUMMARY },
  "p2p-port": { value: "PORT", default: "0", summary: "with --classic: the port to log in with" },
} as const satisfies Options;

const WIDE_OPTION = {
  wide: { summary: "everything, however wide the terminal is" },
} as const satisfies Options;

const PAYMENT_ID = {
  "payment-id": { summary: "as pay and history show it, or its unambiguous start" },
} as const satisfies Arguments;

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
    host: { summary: "the server; several, on one ledger: host,host:port" },
    port: { summary: "its port" },
  },
  optionalPrefix: true,
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
      options: { ...WIDE_OPTION, ...ACCOUNT_OPTIONS, ...CLASSIC_OPTIONS },
      example: "localhost 8080 list --as alice",
    },
    whoami: {
      summary: "show account, server, balance and keys folder",
      group: "Account",
      arguments: {},
      options: ACCOUNT_OPTIONS,
      example: "whoami",
    },
    use: {
      summary: "choose what commands take when nothing else is said",
      group: "Account",
      prefixed: false,
      arguments: {
        "account-or-host": { summary: "the account; or, with a port, the server" },
        port: { arity: "optional", summary: "the server's port" },
      },
      options: KEYS,
      example: "use localhost 8080",
    },
    pay: {
      summary: "pay someone",
      group: "Payments",
      arguments: {
        payee: { summary: "the account to pay, or a sealwire:// link" },
        amount: {
          arity: "optional",
          summary: "such as 12.50; with --classic whole units; a link has its own",
        },
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
      summary: "show payments, newest last",
      group: "Payments",
      arguments: { count: { arity: "optional", summary: "how many; all by default" } },
      options: {
        with: { value: "NAME", summary: "only payments to or from NAME" },
        since: { value: "DATE", summary: "from this day on, such as 2026-11-24" },
        until: { value: "DATE", summary: "up to this day, and with it" },
        in: { summary: "only payments to the account", excludes: ["out"] },
        out: { summary: "only payments by the account" },
        ...WIDE_OPTION,
        csv: { summary: "for spreadsheets: CSV with all columns", excludes: ["ledger"] },
        ledger: { summary: "for hledger: plain-text accounting" },
        ...ACCOUNT_OPTIONS,
      },
      example: "history 20 --with bob",
    },
    status: {
      summary: "say what became of a payment",
      group: "Payments",
      arguments: PAYMENT_ID,
      options: ACCOUNT_OPTIONS,
      example: "status 5a3c4b8e",
    },
    cancel: {
      summary: "end a payment that is not settled, for ever",
      group: "Payments",
      arguments: PAYMENT_ID,
      options: ACCOUNT_OPTIONS,
      example: "cancel 5a3c4b8e-6f41-4bd8-9e15-0c6d9a1f7e52",
    },
    request: {
      summary: "ask someone for money",
      group: "Requests",
      arguments: {
        payer: { unless: "anyone", summary: "the account to ask" },
        amount: { summary: "such as 12.50" },
        memo: { arity: "rest", summary: "words that only the two can read, 140 bytes" },
      },
      options: {
        anyone: { summary: "whoever has the link may pay, and can read the memo" },
        expires: { value: "TIME", default: "7d", summary: "such as 30m, 12h or 7d; at most 30d" },
        link: { summary: "print a link that pays it" },
        qr: { summary: "print the link as a QR code too" },
        svg: { value: "FILE", summary: "write the QR code of the link to a new file" },
        ...ACCOUNT_OPTIONS,
      },
      example: "localhost 8080 request alice 12.50 lunch --as bob",
    },
    requests: {
      summary: "list requests from you and to you",
      group: "Requests",
      arguments: {},
      options: ACCOUNT_OPTIONS,
      example: "localhost 8080 requests --as alice",
    },
    accept: {
      summary: "pay a request",
      group: "Requests",
      arguments: { request: { summary: "its id, or the start of it" } },
      options: ACCOUNT_OPTIONS,
      example: "localhost 8080 accept $request --as alice",
    },
    decline: {
      summary: "refuse a request",
      group: "Requests",
      arguments: { request: { summary: "its id, or the start of it" } },
      options: ACCOUNT_OPTIONS,
      example: "localhost 8080 decline $request --as alice",
    },
    withdraw: {
      summary: "take your own request back",
      group: "Requests",
      arguments: { request: { summary: "its id, or the start of it" } },
      options: ACCOUNT_OPTIONS,
      example: "localhost 8080 withdraw $request --as bob",
    },
    refund: {
      summary: "give a payment back, wholly or in part",
      group: "Payments",
      arguments: {
        "payment-id": { summary: "as listen and history show it, or the start of it" },
        amount: { arity: "optional", summary: "such as 12.50; else all that is left of it" },
      },
      options: ACCOUNT_OPTIONS,
      example: "localhost 8080 refund $payment --as bob",
    },
    redeem: {
      summary: "give money back to the server's operator",
      group: "Payments",
      arguments: { amount: { summary: "such as 12.50" } },
      options: ACCOUNT_OPTIONS,
      example: "localhost 8080 redeem 12.50 --as bob",
    },
    "rotate-key": {
      summary: "replace the account's key by a new one",
      group: "Keys",
      arguments: {},
      options: ACCOUNT_OPTIONS,
      example: "localhost 8080 rotate-key --as alice",
    },
    statement: {
      summary: "show a month: balances, movements, totals",
      group: "Books",
      arguments: {},
      options: {
        month: { value: "MONTH", summary: "such as 2026-11; else this month, of UTC" },
        html: { value: "FILE", summary: "write it to a new HTML file, with a chart" },
        ...ACCOUNT_OPTIONS,
      },
      example: "localhost 8080 statement --month 2026-11 --as alice",
    },
    receipt: {
      summary: "print the receipt of a payment",
      group: "Receipts",
      arguments: PAYMENT_ID,
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
    completions: {
      summary: "print what completes commands in a shell",
      group: "Shell",
      prefixed: false,
      arguments: {
        shell: { summary: "bash, zsh or fish; words: candidates for what follows" },
        words: { arity: "rest", summary: "a command line, its last word being typed" },
      },
      options: {},
      example: "completions bash",
    },
  },
} as const satisfies Tool;

/** One run of a command. */
export type ClientRun<Name extends keyof typeof CLIENT.commands> = Invocation<typeof CLIENT, Name>;

const NAME = { name: { summary: "the account" } } as const;
const LAST_REQUEST = {
  request: { arity: "optional", summary: "the start of its id; else the one that came last" },
} as const;

/** Options that are given when the prompt is started, and hold for all that is typed there. */
const STARTING_OPTIONS: ReadonlySet<string> = new Set(
  Object.keys({ ...ACCOUNT_OPTIONS, ...CLASSIC_OPTIONS, ...LISTEN_OPTIONS }),
);
const NOT_AT_THE_PROMPT: ReadonlySet<string> = new Set([
  ...["interactive", "register", "listen", "use", "completions", "rotate-key"],
]);

/** The commands of the prompt: those of the tool, with their arguments and options, and its own. */
export const PROMPT: Tool = {
  file: "",
  summary: CLIENT.summary,
  prefix: {},
  main: "",
  exitOnInterrupt: EXIT_INTERRUPTED,
  commands: {
    register: {
      summary: "make an account, and go online",
      arguments: NAME,
      options: {},
      example: "register alice",
    },
    login: {
      summary: "go online, and act as this account",
      arguments: NAME,
      options: {},
      example: "login alice",
    },
    ...Object.fromEntries(
      Object.entries<Command>(CLIENT.commands).flatMap(([name, command]) =>
        NOT_AT_THE_PROMPT.has(name) ? [] : [[name, atPrompt(command)]]
      ),
    ),
    accept: { ...atPrompt(CLIENT.commands.accept), arguments: LAST_REQUEST },
    decline: { ...atPrompt(CLIENT.commands.decline), arguments: LAST_REQUEST },
    help: {
      summary: "show the commands, or the options of one",
      arguments: { command: { arity: "optional", summary: "which one" } },
      options: {},
      example: "help pay",
    },
    exit: { summary: "leave", arguments: {}, options: {}, example: "exit" },
  },
};

function atPrompt(command: Command): Command {
  const options = Object.entries(command.options).filter(([name]) => !STARTING_OPTIONS.has(name));
  const example = command.example.replace(/^localhost 8080 /, "").replace(/ --as \w+$/, "");
  return { ...command, options: Object.fromEntries(options), example };
}

/** What the options mean that are given when the prompt is started. */
export const STARTING_VALUES: Readonly<Record<string, undefined | boolean | string>> = {
  classic: false,
  "accept-new": false,
  "p2p-port": "0",
};
