/** Crowds of connections that never become clients, against a real server. */
import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import type { Socket } from "node:net";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { person } from "../../../support/fixtures.ts";
import { CAN_LOOK_INTO_PROCESSES, openFiles, residentBytes } from "../../../support/process_use.ts";
import { WireWorld } from "../../../support/wire_world.ts";

const OPTIONS = { timeout: 180_000 };
const CROWD = 2_000;
const AT_A_TIME = 100;
const HANDSHAKE_TIMEOUT_MS = 10_000;
/**
 * Sockets that Deno's listener may keep before node:tls takes the port over, and what a process
 * opens besides.
 */
const KEPT_MAX = 128 + 32;
const RETURN_MS_MAX = 30_000;
const MIB = 1024 * 1024;
/** The first bytes of a ClientHello, which promise 512 more. */
const HALF_HELLO = new Uint8Array([0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03]);

const [alice, bob] = [person("alice"), person("bob")];

/** Connections on which no handshake is finished: half of them say nothing, half begin. */
async function gather(port: number): Promise<Socket[]> {
  const crowd: Socket[] = [];
  while (crowd.length < CROWD) {
    const arriving = Array.from({ length: AT_A_TIME }, async (_, index) => {
      const socket = net.connect(port, "127.0.0.1");
      socket.on("error", () => {});
      await once(socket, "connect");
      if (index % 2 === 0) socket.write(HALF_HELLO);
      return socket;
    });
    // While the port changes hands a few find nobody listening, and try again.
    const arrived = await Promise.allSettled(arriving);
    crowd.push(...arrived.flatMap((one) => one.status === "fulfilled" ? [one.value] : []));
  }
  return crowd;
}

test(
  "2,000 handshakes that are never finished: the rest are served, and the sockets come back",
  OPTIONS,
  async (context) => {
    if (!CAN_LOOK_INTO_PROCESSES) {
      return context.skip("this system does not say what a process has open");
    }
    const wire = await WireWorld.start("alice", "bob");
    const [alices, { pid }] = [wire.of(alice), wire.world.server];
    const [files_before, bytes_before] = [openFiles(pid), residentBytes(pid)];
    const crowd = await gather(wire.world.port);

    // Who is logged in notices nothing; a newcomer may lose one attempt while the port changes
    // hands.
    await alices.settle(alices.order(alice, bob));
    await wire.assertServes().catch(() => wire.assertServes());
    const until_ms = Date.now() + HANDSHAKE_TIMEOUT_MS + RETURN_MS_MAX;
    while (openFiles(pid) > files_before + KEPT_MAX && Date.now() < until_ms) {
      await alices.settle(alices.order(alice, bob));
      await wire.assertServes();
      await delay(250);
    }
    const kept = openFiles(pid) - files_before;
    assert.ok(kept <= KEPT_MAX, `${kept} sockets of ${CROWD} are still open`);
    const grown_bytes = residentBytes(pid) - bytes_before;
    assert.ok(grown_bytes < 256 * MIB, `grown by ${grown_bytes} bytes`);

    for (const socket of crowd) socket.destroy();
    const gone_by_ms = Date.now() + RETURN_MS_MAX;
    while (openFiles(pid) > files_before + 8 && Date.now() < gone_by_ms) await delay(100);
    assert.ok(openFiles(pid) <= files_before + 8, `${openFiles(pid) - files_before} are left`);
    await wire.assertServes();
    await wire.assertAuditPasses();
  },
);
