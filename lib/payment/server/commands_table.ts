/** The commands of `server.ts`: the one place that declares them. */
import type { Options, Tool } from "../../cli/command.ts";

const KEYS = {
  keys: { value: "FOLDER", default: "keys", summary: "the server's keys" },
} as const satisfies Options;

const LEDGER_OPTIONS = {
  ...KEYS,
  db: { value: "FILE", default: "data/ledger.db", summary: "the ledger" },
} as const satisfies Options;

export const SERVER = {
  file: "server.ts",
  summary: "Sealwire's payment server: settles payments, and keeps their ledger.",
  prefix: {},
  main: "serve",
  example: "8080 --keys /etc/sealwire --db /var/lib/sealwire/ledger.db",
  exitOnInterrupt: 0,
  commands: {
    serve: {
      summary: "serve payments on this port; 0: the system chooses",
      group: "Serving",
      arguments: { port: { summary: "where to listen; 0: the system chooses" } },
      options: {
        host: { value: "ADDRESS", default: "0.0.0.0", summary: "the address to listen on" },
        keys: { ...KEYS.keys, summary: "the server's keys, made where missing" },
        db: { ...LEDGER_OPTIONS.db, summary: "the ledger, made where missing" },
        "opening-balance": {
          value: "AMOUNT",
          default: "10000.00",
          summary: "what a new account opens with",
        },
        classic: { summary: "serve old C++ clients too, which nothing protects" },
        log: {
          value: "text|json",
          default: "text",
          summary: "format of the log, on standard error",
        },
      },
      example: "8080 --opening-balance 0",
    },
    audit: {
      summary: "verify the whole ledger again",
      group: "Operating",
      arguments: {},
      options: LEDGER_OPTIONS,
      example: "audit",
    },
    grant: {
      summary: "issue money to an account",
      group: "Operating",
      arguments: {
        name: { summary: "the account" },
        amount: { summary: "such as 12.50" },
      },
      options: {
        id: { value: "UUID", summary: "the same id never issues twice: safe to run again" },
        ...LEDGER_OPTIONS,
      },
      example: "grant bob 50",
    },
    keygen: {
      summary: "make the server's keys, and show their fingerprints",
      group: "Operating",
      arguments: {},
      options: KEYS,
      example: "keygen --keys /etc/sealwire",
    },
  },
} as const satisfies Tool;
