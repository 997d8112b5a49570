/** Sends messages and files to `aes_server.ts` over an encrypted channel. */
import process from "node:process";
import { loadKeyFile, requireKeyPath, writeKeyFile } from "./lib/aes_utils.ts";
import { STALL_MS } from "./lib/aes/channel/channel.ts";
import { SendDisplay } from "./lib/aes/display.ts";
import { requestKey } from "./lib/aes/pairing/pairing.ts";
import { parsePairingCode } from "./lib/aes/pairing/pairing_code.ts";
import { checkMessageSize } from "./lib/aes/transfer/receive_message.ts";
import { FileSender } from "./lib/aes/transfer/send_files.ts";
import { sendAll } from "./lib/aes/transfer/transfer.ts";
import { checkPaths, walkFiles } from "./lib/aes/transfer/walk_files.ts";
import { sendClassicMessage } from "./lib/aes/classic.ts";
import { parsePort, parseTimeoutMs, usageError } from "./lib/cli/arguments.ts";
import { askLine } from "./lib/cli/line_prompt.ts";
import { type Invocation, runTool } from "./lib/cli/tool.ts";
import { formatBytes, printable } from "./lib/base/text.ts";
import type { SealwireError } from "./lib/base/errors.ts";
import { connectTcp, formatAddress } from "./lib/net/net.ts";

const HELP = `
Sends a message, files and folders to aes_server.ts over an encrypted, authenticated channel.

  aes_client.ts [message...] [--host 127.0.0.1] [--port 8080] [--key aes_key.bin] [--file PATH]...
  aes_client.ts --pair [CODE] [--host 127.0.0.1] [--port 8080] [--key aes_key.bin]
  aes_client.ts --classic [message...] [--host 127.0.0.1] [--port 8080] [--key aes_key.bin]

  message            words are joined with spaces; "-" reads standard input; without a message and
                     without --file, "Hello Server!"
  --file PATH        a file or folder to send; may be given several times
  --host HOST        the server                                     (127.0.0.1)
  --port PORT        its port                                       (8080)
  --key FILE         the key that both ends hold                    (aes_key.bin)
  --pair [CODE]      get the key from a server that was started with --pair; asks for the code
  --classic          send the message to the old C++ server, which nothing protects from change
  --timeout SECONDS  give up when nothing moves                     (30)
  --json             one JSON object a line on standard output
  --quiet, -q        no remarks and bars on standard error
  --version, --help
`;

const DEFAULT_MESSAGE = "Hello Server!";
const CONNECT_TIMEOUT_MS = 10_000;

const OPTIONS = {
  host: { type: "string" },
  port: { type: "string" },
  key: { type: "string" },
  file: { type: "string", multiple: true },
  pair: { type: "boolean" },
  classic: { type: "boolean" },
  timeout: { type: "string" },
} as const;

type Run = Invocation<typeof OPTIONS>;

await runTool({
  name: "aes_client.ts",
  help: HELP,
  options: OPTIONS,
  exitOnInterrupt: 130,
  run: (run) => run.values.classic ? sendClassic(run) : run.values.pair ? pair(run) : send(run),
});

async function send({ positionals, values, out, interrupted }: Run): Promise<void> {
  const target = serverAddress(values);
  const stall_ms = parseTimeoutMs(values.timeout, STALL_MS);
  const paths = values.file ?? [];
  checkPaths(paths);
  const { bytes: psk, warnings } = loadKeyFile(values.key ?? "aes_key.bin");
  for (const warning of warnings) out.warn(printable(warning));
  const message = await readMessage(positionals, paths.length > 0);
  const display = new SendDisplay(out, out.lively ? sizeOf(paths) : 0);
  const skipped = (path: string, reason: SealwireError) => display.fail(path, reason);
  const files = paths.length > 0 ? new FileSender(walkFiles(paths, skipped), display, 1) : null;
  await sendAll({ ...target, psk, stall_ms, interrupted }, {
    message,
    files,
    onMessageSent: ({ length }) =>
      out.result(
        { sent: "message", size_bytes: length },
        `Sent a message (${formatBytes(length)})`,
      ),
    onReconnect: ({ message }) => out.note(`${printable(message)}; connecting again`),
  });
  display.finish();
}

async function sendClassic({ positionals, values, out, interrupted: signal }: Run): Promise<void> {
  if (values.pair || values.file) throw usageError("--classic sends a message, and nothing else");
  const target = serverAddress(values);
  const { aesKey, warnings } = loadKeyFile(values.key ?? "aes_key.bin");
  for (const warning of warnings) out.warn(printable(warning));
  out.warn(
    "--classic: the message is hidden, not protected. Whoever is in between can change it or send it again, and " +
      "nobody says whether it arrived.",
  );
  const message = (await readMessage(positionals, false))!;
  await sendClassicMessage({ ...target, aesKey, signal }, message);
  out.result(
    { sent: "message", size_bytes: message.length },
    `Sent a message (${formatBytes(message.length)})`,
  );
}

async function pair({ positionals, values, out, interrupted }: Run): Promise<void> {
  const target = serverAddress(values);
  const path = values.key ?? "aes_key.bin";
  if (positionals.length > 1 || values.file) {
    throw usageError("--pair takes a code and sends nothing");
  }
  requireKeyPath(path);
  const said = positionals[0] ?? await askLine("Pairing code: ", interrupted);
  if (said === null) throw usageError("a pairing code is needed");
  const code = parsePairingCode(said);
  const connection = await connectTcp({
    ...target,
    timeout_ms: CONNECT_TIMEOUT_MS,
    signal: interrupted,
  });
  await requestKey(connection, code, (key) => writeKeyFile(path, key));
  const address = formatAddress(target.host, target.port);
  out.result({ paired: address, key: path }, `Paired with ${address}: the key is in ${path}`);
}

function serverAddress(values: Run["values"]): { host: string; port: number } {
  return {
    host: values.host ?? "127.0.0.1",
    port: parsePort("--port", values.port ?? "8080", 1),
  };
}

async function readMessage(words: string[], hasFiles: boolean): Promise<Uint8Array | null> {
  if (words.length === 0 && hasFiles) return null;
  if (words.length === 1 && words[0] === "-") return await readInput();
  const text = words.length === 0 ? DEFAULT_MESSAGE : words.join(" ");
  return new TextEncoder().encode(text);
}

async function readInput(): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let size_bytes = 0;
  for await (const piece of process.stdin as AsyncIterable<Uint8Array>) {
    size_bytes += piece.length;
    checkMessageSize(size_bytes);
    pieces.push(piece);
  }
  return new Uint8Array(await new Blob(pieces as Uint8Array<ArrayBuffer>[]).arrayBuffer());
}

/** For the bar: what all files have together. */
function sizeOf(paths: readonly string[]): number {
  let total_bytes = 0;
  for (const { size_bytes } of walkFiles(paths, () => {})) total_bytes += size_bytes;
  return total_bytes;
}
