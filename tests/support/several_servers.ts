/** Several servers on one PostgreSQL, and who is online there. */
import assert from "node:assert/strict";
import { person } from "./fixtures.ts";
import { PaymentWorld } from "./payment_world.ts";
import type { PostgresServer } from "./postgres.ts";
import { WireClient } from "./wire_client.ts";

const [alice, bob] = [person("alice"), person("bob")];

/** Three servers on a new database, with accounts of alice and bob. */
export async function threeServers(database: PostgresServer) {
  const url = await database.newDatabase();
  const world = await PaymentWorld.start({ db: url });
  const [second, third] = await Promise.all([world.startAnother(), world.startAnother()]);
  const alices = await WireClient.enter(world, alice, "account.register");
  const bobs = await WireClient.enter(world, bob, "account.register");
  const stop = async () => {
    const stops = [world.server, second.process, third.process].map((server) => server.stop());
    for (const { status, stderr } of await Promise.all(stops)) assert.equal(status, 0, stderr);
    const audited = await world.operate("audit");
    assert.equal(audited.status, 0, audited.stderr);
  };
  return { world, url, second, third, alices, bobs, stop };
}

/** What a listener at `port` says at its login. */
export const presence = (port: number) => ({ presence: { host: "127.0.0.1", port } });

/** Who is online, as `client` is told. */
export async function online(client: WireClient): Promise<string[]> {
  const { online } = await client.call("directory.list") as { online: { name: string }[] };
  return online.map(({ name }) => name);
}
