import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { runClient, startProxy, startServer } from "../../../support/aes.ts";
import { temporaryFolder } from "../../../support/support.ts";
import { MIB } from "../../../support/transfer.ts";

test("a server that never comes back is given up after a bounded number of tries", {
  timeout: 60_000,
}, async () => {
  const server = await startServer({ out: temporaryFolder() });
  const path = join(temporaryFolder(), "big");
  writeFileSync(path, randomBytes(4 * MIB));
  const proxy = await startProxy(server.port, (bytes, way, offset) => {
    if (way === "to_server" && offset > MIB) {
      proxy.close();
      throw new Error("gone");
    }
    return bytes;
  });
  const { error, reconnects } = await runClient(proxy.port, { paths: [path] });
  assert.equal(error, "no_connection");
  assert.equal(reconnects, 8);
  await server.close();
});
