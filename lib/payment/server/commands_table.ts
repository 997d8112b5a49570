/** The commands of `server.ts`: the one place that declares them. */
import type { Options, Tool } from "../../cli/command.ts";
import { CONNECTIONS_MAX_DEFAULT } from "../../net/net.ts";
import { ORDERS_PER_S_DEFAULT, REGISTRATIONS_PER_MINUTE_DEFAULT } from "./budgets.ts";

const KEYS = {
  keys: { value: "FOLDER", default: "keys", summary: "the server's keys" },
} as const satisfies Options;

const LEDGER_OPTIONS = {
  ...KEYS,
  db: {
    value: "FILE|URL",
    default: "data/ledger.db",
    summary: "the ledger: file or postgres://…",
  },
} as const satisfies Options;

/** Of a new ledger; an existing one carries its own. */
const SETTINGS_OPTIONS = {
  "opening-balance": { value: "AMOUNT", summary: "what a new account opens with (10000.00)" },
  registration: { value: "RULE", summary: "who may register: open, invite or closed (open)" },
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
        ...SETTINGS_OPTIONS,
        unit: { value: "UNIT", summary: "the unit of a new ledger (EUR)" },
        "accept-rollback": { summary: "go on without entries that were lost" },
        "accept-failover": { summary: "go on after a failover: anchors are compared" },
        "accept-clock": { summary: "go on although the last entry is in the future" },
        "orders-per-second": {
          value: "N",
          default: String(ORDERS_PER_S_DEFAULT),
          summary: "orders that one account has settled",
        },
        "registrations-per-minute": {
          value: "N",
          default: String(REGISTRATIONS_PER_MINUTE_DEFAULT),
          summary: "new accounts from one address",
        },
        connections: {
          value: "N",
          default: String(CONNECTIONS_MAX_DEFAULT),
          summary: "connections at once",
        },
        classic: { summary: "serve old C++ clients, which nothing protects" },
        log: {
          value: "text|json",
          default: "text",
          summary: "format of the log, on standard error",
        },
      },
      example: "8080 --opening-balance 0 --unit EUR",
    },
    settings: {
      summary: "show the ledger's settings, or change them",
      group: "Operating",
      arguments: {},
      options: { ...SETTINGS_OPTIONS, ...LEDGER_OPTIONS },
      example: "settings --registration closed",
    },
    invite: {
      summary: "make single-use codes for client.ts register --invite",
      group: "Operating",
      arguments: {},
      options: {
        count: { value: "N", default: "1", summary: "how many" },
        balance: { value: "AMOUNT", summary: "what the account opens with; else as all others" },
        ...LEDGER_OPTIONS,
      },
      example: "invite --count 30 --balance 100",
    },
    audit: {
      summary: "verify the whole ledger again",
      group: "Operating",
      arguments: {},
      options: {
        expect: {
          value: "FILE",
          multiple: true,
          summary: "a checkpoint or receipt that must still be part of it",
        },
        ...LEDGER_OPTIONS,
      },
      example: "audit --expect receipt.txt",
    },
    backup: {
      summary: "copy the ledger, also of a running server",
      group: "Operating",
      arguments: { file: { summary: "the copy, made new" } },
      options: LEDGER_OPTIONS,
      example: "backup ledger-2026-11-24.db",
    },
    copy: {
      summary: "move the ledger to another database",
      group: "Operating",
      arguments: {},
      options: {
        from: { value: "FILE|URL", required: true, summary: "the old one, ended by this" },
        to: { value: "FILE|URL", required: true, summary: "the new one, empty or not there yet" },
        ...KEYS,
      },
      example: "copy --from data/ledger.db --to postgres://pay@db.example/pay",
    },
    anchor: {
      summary: "show the newest checkpoint that this server knows",
      group: "Operating",
      arguments: {},
      options: KEYS,
      example: "anchor --keys /etc/sealwire",
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
