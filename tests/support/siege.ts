/** A payment server under attack: honest clients of this process, and strangers that harm it. */
import { once } from "node:events";
import net from "node:net";
import type { Socket } from "node:net";
import { join } from "node:path";
import { parseAccountName } from "../../lib/keys/rsa.ts";
import { PaymentClient } from "../../lib/payment/client/payer.ts";
import { parseAmount } from "../../lib/protocol/money.ts";
import { clientOptions } from "./payment_clients.ts";
import { spawnTool, temporaryFolder, type ToolOptions, type ToolProcess } from "./support.ts";

export const HOST = "127.0.0.1";
const CENT = parseAmount("0.01");

export interface Besieged {
  readonly tool: ToolProcess;
  readonly port: number;
  readonly folder: string;
}

export async function startServer(
  args: readonly string[] = [],
  options: ToolOptions = {},
): Promise<Besieged> {
  const folder = temporaryFolder();
  const files = ["--keys", join(folder, "keys"), "--db", join(folder, "ledger.db")];
  const tool = spawnTool("server.ts", ["0", "--host", HOST, "--json", ...files, ...args], {
    timeout_ms: 120_000,
    ...options,
  });
  const { port } = await tool.nextJson(({ event }) => event === "listening");
  return { tool, port: Number(port), folder };
}

/** Logs `name` in. All share one RSA key pair, because making one costs 0.2 s. */
export async function logIn(
  { port, folder }: Besieged,
  name: string,
  options: { register?: boolean; timeout_ms?: number } = {},
): Promise<PaymentClient> {
  const { register = true, timeout_ms = 20_000 } = options;
  const world = { port, keysOf: () => join(folder, `${name}_keys`) };
  const changed = { timeout_ms, confirmServer: () => Promise.resolve(true) };
  return await PaymentClient.open(clientOptions(world, name, changed), { register });
}

/** Pays one cent through the server. Returns how long it took. */
export async function payCent(client: PaymentClient, payee: string): Promise<number> {
  const began_ms = performance.now();
  const payment = { payee: parseAccountName(payee), amount: CENT, memo: null, id: null };
  await client.pay({ ...payment, way: "via-server" });
  return performance.now() - began_ms;
}

/** Opens connections that say nothing, from an address of the loopback network. */
export async function openSilent(
  port: number,
  localAddress: string,
  count: number,
): Promise<Socket[]> {
  const sockets: Socket[] = [];
  while (sockets.length < count) {
    const socket = net.connect({ host: HOST, port, localAddress });
    socket.on("error", () => {}).resume();
    sockets.push(socket);
    if (sockets.length % 50 === 0) {
      await Promise.race([once(socket, "connect"), once(socket, "close")]);
    }
  }
  return sockets;
}

/** Opens and closes silent connections until it is stopped. */
export function flood(port: number, localAddress: string): { stop(): Promise<number> } {
  let running = true;
  let count = 0;
  const work = (async () => {
    const open: Socket[] = [];
    while (running) {
      open.push(...await openSilent(port, localAddress, 50).catch(() => []));
      count += 50;
      for (const socket of open.splice(0, open.length - 600)) socket.destroy();
    }
    for (const socket of open) socket.destroy();
  })();
  return {
    async stop() {
      running = false;
      await work;
      return count;
    },
  };
}
