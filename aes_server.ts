/** Takes messages and files from `aes_client.ts` over an encrypted channel. */
import { type KeyFile, loadOrMakeKeyFile } from "./lib/aes_utils.ts";
import { showMessage, showReceivedFile } from "./lib/aes/display.ts";
import { Newcomers } from "./lib/aes/unproven.ts";
import { PairingOffer } from "./lib/aes/pairing/pairing_code.ts";
import { servePairing } from "./lib/aes/pairing/pairing.ts";
import { ReceiveFolder } from "./lib/aes/transfer/receive_folder.ts";
import { MessageMemory } from "./lib/aes/transfer/receive_message.ts";
import { serveConnection } from "./lib/aes/transfer/transfer.ts";
import { STALL_MS } from "./lib/aes/channel/channel.ts";
import { receiveClassicMessage } from "./lib/aes/classic.ts";
import { parsePort, parseTimeoutMs, usageError } from "./lib/cli/arguments.ts";
import type { Output } from "./lib/cli/output.ts";
import { runTool } from "./lib/cli/tool.ts";
import { printable } from "./lib/base/text.ts";
import { internalError, isSealwireError } from "./lib/base/errors.ts";
import { type Connection, formatAddress, listenTcp } from "./lib/net/net.ts";

const HELP = `
Takes messages and files from aes_client.ts over an encrypted, authenticated channel.

  aes_server.ts [--port 8080] [--host 0.0.0.0] [--key aes_key.bin] [--out received]
                [--once] [--pair] [--classic]

  --port PORT        where to listen; 0 lets the system choose      (8080)
  --host ADDRESS     the address to listen on                       (0.0.0.0)
  --key FILE         the key that both ends hold; made if missing   (aes_key.bin)
  --out FOLDER       where received files go                        (received)
  --once             end after the first client that was served to its end
  --pair             show a one-time code with which one client can get the key
  --classic          take what the old C++ client sends too, which nothing protects from change
  --timeout SECONDS  end a connection on which nothing moves        (30)
  --json             one JSON object a line on standard output
  --quiet, -q        no remarks on standard error
  --version, --help
`;

/** What the operator must hear even under `--quiet`: the key may be with a stranger, or someone guessed. */
const GRAVE_CODES: ReadonlySet<string> = new Set(["pairing_unconfirmed", "pairing_wrong_code"]);

/** Clients at once; more are turned away as they come. */
const CONNECTIONS_MAX = 256;

const CLASSIC_WARNING =
  "--classic: what classic clients send is hidden, not protected. Whoever is in between can change it or send it " +
  "again, and equal messages look equal; clients of the channel stay protected.";

const OPTIONS = {
  port: { type: "string" },
  host: { type: "string" },
  key: { type: "string" },
  out: { type: "string" },
  once: { type: "boolean" },
  pair: { type: "boolean" },
  classic: { type: "boolean" },
  timeout: { type: "string" },
} as const;

await runTool({
  name: "aes_server.ts",
  help: HELP,
  options: OPTIONS,
  exitOnInterrupt: 0,
  async run({ positionals, values, out, interrupted }) {
    if (positionals.length > 0) {
      throw usageError(`no argument is expected, not "${positionals[0]}"`);
    }
    const port = parsePort("--port", values.port ?? "8080");
    const stall_ms = parseTimeoutMs(values.timeout, STALL_MS);
    const { bytes: psk, aesKey } = loadKey(values.key ?? "aes_key.bin", out);
    if (values.classic) out.warn(CLASSIC_WARNING);
    const folder = ReceiveFolder.open(values.out ?? "received");
    const offer = values.pair ? new PairingOffer() : null;
    const memory = new MessageMemory();
    const newcomers = new Newcomers();
    const ended = Promise.withResolvers<void>();
    interrupted.addEventListener("abort", () => ended.resolve());

    const serve = async (connection: Connection) => {
      const from = formatAddress(connection.remoteHost, connection.remotePort);
      newcomers.add(connection);
      try {
        const arrived = values.classic
          ? await receiveClassicMessage(connection, { aesKey, stall_ms, memory })
          : connection;
        if (arrived instanceof Uint8Array) showMessage(out, from, arrived);
        else {await serveConnection(arrived, {
            psk,
            stall_ms,
            folder,
            memory,
            onMessage: (message) => showMessage(out, from, message),
            onFile: (file) => showReceivedFile(out, from, file),
            onRefused: (name, reason) => explain(out, from, reason, printable(name)),
            onProven: () => newcomers.delete(connection),
            onPairing: async (connection, reader) => {
              await servePairing(connection, reader, offer, psk);
              out.result({ event: "paired", from }, `Paired with ${from}: it has the key now`);
            },
          });}
        if (values.once) ended.resolve();
      } catch (error) {
        if (!interrupted.aborted) explain(out, from, error);
      } finally {
        newcomers.delete(connection);
      }
    };
    const host = values.host ?? "0.0.0.0";
    const listener = await listenTcp({ host, port, connections_max: CONNECTIONS_MAX }, serve);
    const address = { host: listener.host, port: listener.port };
    out.result(
      { event: "listening", ...address },
      `Listening on ${formatAddress(address.host, address.port)}`,
    );
    if (offer) showOffer(out, offer);
    await ended.promise;
    await listener.close();
    folder.close();
  },
});

function loadKey(path: string, out: Output): KeyFile {
  const file = loadOrMakeKeyFile(path);
  for (const warning of file.warnings) out.warn(printable(warning));
  if (file.made) out.note(`Made ${printable(path)}: give clients a copy of it, or use --pair`);
  return file;
}

function showOffer(out: Output, { code }: PairingOffer): void {
  out.result(
    { event: "pairing", code },
    `Pairing code, for one client within ten minutes: ${code}\n` +
      `There: aes_client.ts --pair ${code} --host <this machine>`,
  );
}

/** Why a client, or a thing of its, was not served to its end: a remark, for it concerns that client alone. */
function explain(out: Output, from: string, error: unknown, name?: string): void {
  const { code, message } = isSealwireError(error) ? error : internalError(error);
  const what = name === undefined ? from : `${from}: refused ${name}`;
  const text = `${what}: ${printable(message)}`;
  if (GRAVE_CODES.has(code)) out.warn(text);
  else out.note(text);
}
