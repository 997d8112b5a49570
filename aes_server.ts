/** Takes messages and files from `aes_client.ts` over an encrypted channel. */
import { STALL_MS } from "./lib/aes/channel/channel.ts";
import { PairingOffer } from "./lib/aes/pairing/pairing_code.ts";
import { AesServer } from "./lib/aes/server.ts";
import { ReceiveFolder } from "./lib/aes/transfer/receive_folder.ts";
import { type KeyFile, loadOrMakeKeyFile } from "./lib/aes_utils.ts";
import { printable } from "./lib/base/text.ts";
import { parsePort, parseTimeoutMs, usageError } from "./lib/cli/arguments.ts";
import type { Output } from "./lib/cli/output.ts";
import { type Invocation, runTool } from "./lib/cli/tool.ts";
import { formatAddress } from "./lib/net/net.ts";

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
  run: serve,
});

async function serve(
  { positionals, values, out, interrupted }: Invocation<typeof OPTIONS>,
): Promise<void> {
  if (positionals.length > 0) {
    throw usageError(`no argument is expected, not "${positionals[0]}"`);
  }
  const { host = "0.0.0.0", classic = false } = values;
  const port = parsePort("--port", values.port ?? "8080");
  const stall_ms = parseTimeoutMs(values.timeout, STALL_MS);
  const key = loadKey(values.key ?? "aes_key.bin", out);
  if (classic) out.warn(CLASSIC_WARNING);
  const folder = ReceiveFolder.open(values.out ?? "received");
  const offer = values.pair ? new PairingOffer() : null;
  const server = await AesServer.start({ host, port, key, folder, offer, classic, stall_ms, out });
  const { address } = server;
  out.result(
    { event: "listening", ...address },
    `Listening on ${formatAddress(address.host, address.port)}`,
  );
  if (offer !== null) showOffer(out, offer);
  const stopped = new Promise<void>((resolve) =>
    interrupted.addEventListener("abort", () => resolve(), { once: true })
  );
  await (values.once ? Promise.race([stopped, server.served]) : stopped);
  await server.close();
  folder.close();
}

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
