/** The command of each tool of the AES pair: the one place that declares them. */
import type { Options, Tool } from "../cli/command.ts";
import { EXIT_INTERRUPTED } from "../cli/exit_status.ts";
import { STALL_MS } from "./channel/channel.ts";

const TIMEOUT_S = String(STALL_MS / 1000);
const PORT = "8080";
const KEY_PATH = "aes_key.bin";

const SHA256_OPTION = { summary: "print the SHA-256 of each file" } as const;

const SERVER_OPTIONS = {
  port: { value: "PORT", default: PORT, summary: "where to listen; 0: the system chooses" },
  host: { value: "ADDRESS", default: "0.0.0.0", summary: "the address to listen on" },
  key: { value: "FILE", default: KEY_PATH, summary: "the key of both ends, made if missing" },
  out: { value: "FOLDER", default: "received", summary: "where files go; -: standard output" },
  once: { summary: "end after the first client that was served to its end" },
  pair: { summary: "show a one-time code with which one client can get the key" },
  classic: { summary: "take what the old C++ client sends, which nothing protects" },
  sha256: SHA256_OPTION,
  timeout: { value: "SECONDS", default: TIMEOUT_S, summary: "end a connection that stands still" },
} as const satisfies Options;

const CLIENT_OPTIONS = {
  file: { value: "PATH", multiple: true, summary: "a file or folder to send; -: standard input" },
  name: { value: "NAME", summary: "with --file -: the file's name at the server" },
  host: { value: "HOST", default: "127.0.0.1", summary: "the server" },
  port: { value: "PORT", default: PORT, summary: "its port" },
  key: { value: "FILE", default: KEY_PATH, summary: "the key of both ends" },
  pair: {
    summary: "get the key from a server with --pair; the word is its code",
    excludes: ["file"],
  },
  classic: {
    summary: "send to the old C++ server, which protects nothing",
    excludes: ["file", "pair"],
  },
  sha256: SHA256_OPTION,
  timeout: { value: "SECONDS", default: TIMEOUT_S, summary: "give up when nothing moves" },
} as const satisfies Options;

export const AES_SERVER = {
  file: "aes_server.ts",
  summary: "Takes messages and files from aes_client.ts over an encrypted channel.",
  prefix: {},
  main: "serve",
  exitOnInterrupt: 0,
  commands: {
    serve: {
      summary: "take messages and files",
      arguments: {},
      options: SERVER_OPTIONS,
      example: "--port 9000 --out inbox",
    },
  },
} as const satisfies Tool;

export const AES_CLIENT = {
  file: "aes_client.ts",
  summary: "Sends messages, files and folders to aes_server.ts over an encrypted channel.",
  prefix: {},
  main: "send",
  exitOnInterrupt: EXIT_INTERRUPTED,
  commands: {
    send: {
      summary: "send a message, files and folders",
      arguments: {
        message: {
          arity: "rest",
          summary: 'the message; "-": standard input; none: "Hello Server!"',
        },
      },
      options: CLIENT_OPTIONS,
      example: "see you at ten --file photos --host example.org",
    },
  },
} as const satisfies Tool;
