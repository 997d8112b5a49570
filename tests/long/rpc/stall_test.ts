import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { END_TIMEOUT_MS } from "../../../lib/net/net.ts";
import { connect, serve } from "../../support/rpc.ts";
import { StallingProxy } from "../../support/stalling_proxy.ts";

const MIB = 1024 * 1024;
const OPTIONS = { timeout: 60_000 };

test(
  "a peer that takes nothing more is closed in time, also when it was to be told something",
  OPTIONS,
  async () => {
    const served = await serve({ unsent_bytes_max: 256 * MIB });
    const proxy = await StallingProxy.start(served.port);
    const client = await connect(proxy.port);
    await client.call("echo", {});
    proxy.stall();
    // More than the system takes for a peer that does not read.
    const asked = Array.from({ length: 60 }, () => client.call("fill", { size_bytes: MIB - 100 }));
    const ends = Promise.allSettled(asked);
    const [peer] = served.peers;
    while (peer!.unsent_bytes < 8 * MIB) await delay(20);
    client.notify("nothing", {});
    await client.connection.write(new TextEncoder().encode("no JSON\n"));
    assert.equal((await peer!.closed)?.code, "parse_error");
    assert.ok(peer!.unsent_bytes > 0);
    const ended = peer!.end().then(() => "ended");
    assert.equal(await Promise.race([ended, delay(END_TIMEOUT_MS + 5_000)]), "ended");
    assert.equal(peer!.connection.unsent_bytes, 0);
    proxy.close();
    await ends;
  },
);
