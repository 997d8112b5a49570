/** Takes messages and files from `aes_client.ts` over an encrypted channel. */
import { AES_SERVER } from "./lib/aes/commands.ts";
import { PairingOffer } from "./lib/aes/pairing/pairing_code.ts";
import { ReceivedPipe } from "./lib/aes/received_pipe.ts";
import { AesServer } from "./lib/aes/server.ts";
import { ReceiveFolder } from "./lib/aes/transfer/receive_folder.ts";
import { type KeyFile, loadOrMakeKeyFile } from "./lib/aes_utils.ts";
import { untilAborted } from "./lib/base/abort.ts";
import { printable } from "./lib/base/text.ts";
import { showOffer } from "./lib/aes/display.ts";
import { isSealwireError, SealwireError } from "./lib/base/errors.ts";
import { parsePort, parseTimeoutMs, usageError } from "./lib/cli/arguments.ts";
import type { Output } from "./lib/cli/output.ts";
import { type Invocation, runTool } from "./lib/cli/tool.ts";
import { writeOutputBytes } from "./lib/cli/streams.ts";
import { formatAddress } from "./lib/net/net.ts";

const CLASSIC_WARNING =
  "--classic: what classic clients send is hidden, not protected. Whoever is in between can change it or send it " +
  "again, and equal messages look equal; clients of the channel stay protected.";

await runTool(AES_SERVER, { serve });

async function serve(
  { values, out: output, interrupted, called }: Invocation<typeof AES_SERVER, "serve">,
): Promise<void> {
  const port = parsePort("--port", values.port);
  const stall_ms = parseTimeoutMs(values.timeout);
  const { host, classic, once, sha256: withHash } = values;
  if (values.out === "-" && !once) throw usageError("--out - takes --once beside it");
  const out = values.out === "-" ? output.aside() : output;
  const key = loadKey(values.key, out);
  if (classic) out.warn(CLASSIC_WARNING);
  const pipe = values.out === "-" ? ReceivedPipe.open(writeOutputBytes) : null;
  const folder = ReceiveFolder.open(pipe?.folder ?? values.out);
  const offer = values.pair ? new PairingOffer() : null;
  const options = {
    host,
    port,
    key,
    folder,
    offer,
    classic,
    stall_ms,
    out,
    withHash,
    pipe,
    called,
  };
  const server = await AesServer.start(options).catch(namingPort);
  const { address } = server;
  out.result(
    { event: "listening", ...address },
    `Listening on ${formatAddress(address.host, address.port)}`,
  );
  if (offer !== null) showOffer(out, offer, address, called);
  const stopped = untilAborted(interrupted);
  await (once ? Promise.race([stopped, server.served]) : stopped);
  await server.close();
  folder.close();
  pipe?.close();
}

function namingPort(error: unknown): never {
  if (!isSealwireError(error, "port_in_use")) throw error;
  const message = `${error.message}: choose another with --port`;
  throw new SealwireError("port_in_use", message, { cause: error });
}

function loadKey(path: string, out: Output): KeyFile {
  const file = loadOrMakeKeyFile(path);
  for (const warning of file.warnings) out.warn(printable(warning));
  if (file.made) out.note(`Made ${printable(path)}: give clients a copy of it, or use --pair`);
  return file;
}
