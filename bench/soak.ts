/**
 * 200 clients, logged in, pay at random for 30 seconds; then the balances must add up and the audit
 * must pass.
 *
 *     deno run -A bench/soak.ts        bun bench/soak.ts
 */
import process from "node:process";
import { PaymentWorld } from "../tests/support/payment_world.ts";
import { soak } from "../tests/support/soak.ts";

const CLIENTS = 200;
const DURATION_MS = 30_000;

const world = await PaymentWorld.start();
const { settled, refused, verified } = await soak(world, {
  clients: CLIENTS,
  duration_ms: DURATION_MS,
});
await world.stop();
process.stdout.write(
  `${CLIENTS} clients, ${
    DURATION_MS / 1000
  } s: ${settled} payments settled, ${refused} refused for want of money, ` +
    `${verified} receipts verified; balances add up\n`,
);
const began_ms = performance.now();
const audit = await world.operate("audit");
const took_s = ((performance.now() - began_ms) / 1000).toFixed(1);
process.stdout.write(`audit in ${took_s} s: ${audit.stdout}`);
process.exit(audit.status ?? 1);
