/** Takes messages and files from `aes_client.ts` over an encrypted channel. */
import { AES_SERVER } from "./lib/aes/commands.ts";
import { PairingOffer } from "./lib/aes/pairing/pairing_code.ts";
import { AesServer } from "./lib/aes/server.ts";
import { ReceiveFolder } from "./lib/aes/transfer/receive_folder.ts";
import { type KeyFile, loadOrMakeKeyFile } from "./lib/aes_utils.ts";
import { printable } from "./lib/base/text.ts";
import { parsePort, parseTimeoutMs } from "./lib/cli/arguments.ts";
import { showOffer } from "./lib/aes/display.ts";
import type { Output } from "./lib/cli/output.ts";
import { type Invocation, runTool } from "./lib/cli/tool.ts";
import { formatAddress } from "./lib/net/net.ts";

const CLASSIC_WARNING =
  "--classic: what classic clients send is hidden, not protected. Whoever is in between can change it or send it " +
  "again, and equal messages look equal; clients of the channel stay protected.";

await runTool(AES_SERVER, { serve });

async function serve(
  { values, out, interrupted }: Invocation<typeof AES_SERVER, "serve">,
): Promise<void> {
  const port = parsePort("--port", values.port);
  const stall_ms = parseTimeoutMs(values.timeout);
  const key = loadKey(values.key, out);
  const { host, classic } = values;
  if (classic) out.warn(CLASSIC_WARNING);
  const folder = ReceiveFolder.open(values.out);
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
