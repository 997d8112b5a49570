/**
 * How many messages a second a server takes from 50 clients, where each message comes over a
 * connection and a handshake of its own, as `aes_client.ts` sends it. Beside it, what X25519 costs
 * alone: each handshake takes four operations, two at either end, and here both ends share the
 * machine.
 *
 *     deno run -A bench/messages.ts [--seconds 5]        bun bench/messages.ts …
 */
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, cpus, tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { sendAll } from "../lib/aes/transfer/transfer.ts";
import { generatePair, sharedSecret } from "../lib/aes/channel/x25519.ts";

const CLIENTS = 50;
const STALL_MS = 30_000;
const ENDS = 2;
const X25519_ROUNDS = 500;
const MESSAGE = new TextEncoder().encode("Hello Server!");
const SERVER = fileURLToPath(new URL("../aes_server.ts", import.meta.url));
const RUN = process.versions.bun ? [] : ["run", "-A", "--no-check"];

const { values } = parseArgs({ options: { seconds: { type: "string", default: "5" } } });

/** What one core does in a second of one end's X25519 for a handshake: a new pair and a secret. */
function x25519PerSecond(): number {
  const { publicKey } = generatePair();
  const started_ms = performance.now();
  for (let round = 0; round < X25519_ROUNDS; round++) {
    sharedSecret(generatePair().privateKey, publicKey);
  }
  return X25519_ROUNDS / ((performance.now() - started_ms) / 1000);
}

async function main(work: string): Promise<void> {
  const server = spawn(process.execPath, [...RUN, SERVER, "--port", "0", "--json", "--quiet"], {
    cwd: work,
    stdio: ["ignore", "pipe", "inherit"],
  });
  let received = 0;
  const reader = createInterface({ input: server.stdout });
  const first = await new Promise<string>((resolve) => reader.once("line", resolve));
  reader.on("line", () => received++);
  const { port } = JSON.parse(first);
  const psk = new Uint8Array(readFileSync(join(work, "aes_key.bin")));
  const interrupted = new AbortController().signal;
  const options = { host: "127.0.0.1", port, psk, stall_ms: STALL_MS, interrupted };
  const sending = { message: MESSAGE, files: null, onMessageSent() {}, onReconnect() {} };
  const started_ms = performance.now();
  const until_ms = started_ms + Number(values.seconds) * 1000;
  let acknowledged = 0;
  await Promise.all(Array.from({ length: CLIENTS }, async () => {
    while (performance.now() < until_ms) {
      await sendAll(options, sending);
      acknowledged++;
    }
  }));
  const duration_s = (performance.now() - started_ms) / 1000;
  process.kill(server.pid!, "SIGTERM");
  await new Promise((resolve) => server.once("close", resolve));
  if (received !== acknowledged) throw new Error(`${received} of ${acknowledged} were received`);
  const perCore = x25519PerSecond();
  const runtime = process.versions.bun ? `Bun ${process.versions.bun}` : "Deno";
  console.log(
    `${runtime}, ${availableParallelism()} cores, ${cpus()[0]?.model ?? "unknown processor"}`,
  );
  console.log(
    `${
      (acknowledged / duration_s).toFixed(0)
    } messages/s from ${CLIENTS} clients, each with its handshake`,
  );
  const limit = perCore * availableParallelism() / ENDS;
  console.log(
    `X25519 alone, for both ends on this machine's ${availableParallelism()} cores: ${
      limit.toFixed(0)
    } handshakes/s`,
  );
}

const work = mkdtempSync(join(tmpdir(), "sealwire-bench-"));
try {
  await main(work);
} finally {
  rmSync(work, { recursive: true, force: true });
}
