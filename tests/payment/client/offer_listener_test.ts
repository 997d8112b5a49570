/** The payee's door: what strangers hand to a real `listen` process. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import net from "node:net";
import type { Socket } from "node:net";
import process from "node:process";
import { after, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { CompactEncrypt } from "jose";
import { logOrigin, signCheckpoint } from "../../../lib/ledger/checkpoint.ts";
import { connectTcp } from "../../../lib/net/net.ts";
import { RpcPeer } from "../../../lib/rpc/peer.ts";
import { sealOffer } from "../../../lib/protocol/sealing.ts";
import { sha256Text } from "../../../lib/protocol/token.ts";
import { ed25519PairOfSeed } from "../../support/ed25519.ts";
import { now_s, type Person, person } from "../../support/fixtures.ts";
import type { Json } from "../../support/payment_world.ts";
import { CAN_LOOK_INTO_PROCESSES, openSockets } from "../../support/process_use.ts";
import { rawToken, withNextCharacter } from "../../support/raw_tokens.ts";
import { until } from "../../support/support.ts";
import { idOf, ORDER_HEADER, type SignedTexts } from "../../support/wire_client.ts";
import { WireWorld } from "../../support/wire_world.ts";

const OPTIONS = { timeout: 120_000 };
const HOST = "127.0.0.1";
const OFFER_MS_MAX = 3_000;
const CONNECTIONS_MAX = 64;
const PER_ADDRESS_MAX = 8;
/** Linux alone has the whole of 127.0.0.0/8 for itself. */
const HAS_MANY_ADDRESSES = process.platform === "linux";
const [alice, bob, mallory] = [person("alice"), person("bob"), person("mallory")];
const wire = await WireWorld.start("alice", "bob", "mallory");
const [alices, bobs] = [wire.of(alice), wire.of(bob)];

const bobsKey = bob.pair.privateKey.export({ type: "pkcs8", format: "pem" }) as string;
writeFileSync(join(wire.world.keysOf("bob"), "bob_private.pem"), bobsKey, { mode: 0o600 });
const listener = await wire.world.listen("bob");
const { presence } = await alices.call("directory.lookup", { account: "bob" });
const port = Number((presence as Json).port);
after(() => listener.stop("SIGKILL"));

/** Payments that the listener has shown. */
const shown: string[] = [];
(async () => {
  while (true) {
    shown.push(String((await listener.nextJson(({ event }) => event === "paid")).payment));
  }
})().catch(() => {});

async function shows(payment: string): Promise<void> {
  const until_ms = Date.now() + 10_000;
  while (!shown.includes(payment) && Date.now() < until_ms) await delay(10);
  assert.ok(shown.includes(payment), `${payment} is not shown`);
}

function order(changes: Json = {}): SignedTexts {
  return alices.order(alice, bob, changes);
}

function seal(
  { order, delegation }: SignedTexts,
  payee: Person = bob,
  checkpoint: string | null = null,
): Promise<string> {
  return sealOffer({ order, delegation, checkpoint }, payee.pair.publicKey);
}

/** One connection, one offer, and the answer. */
async function offer(sealed: unknown): Promise<unknown> {
  const peer = new RpcPeer(await connectTcp({ host: HOST, port, timeout_ms: 5_000 }), {
    role: "client",
  });
  try {
    return await peer.call("payment.offer", { offer: sealed });
  } finally {
    peer.destroy();
  }
}

/** alice hands bob an order, as honest people do; it is settled and shown. */
async function assertTakesOffers(): Promise<string> {
  const signed = order();
  assert.deepEqual(await offer(await seal(signed)), { state: "settled" });
  await shows(idOf(signed));
  assert.equal((await alices.call("payment.status", { id: idOf(signed) })).state, "settled");
  return idOf(signed);
}

async function assertRefused(code: string, sealed: unknown): Promise<void> {
  await wire.assertRefused(code, () => offer(sealed));
}

describe("an offer", () => {
  test("that is honest is settled, shown, and pushed to the payer", OPTIONS, async () => {
    const id = await assertTakesOffers();
    const notification = await alices.heard("payment.settled");
    const receipt = await alices.receivedReceipt(notification);
    assert.deepEqual([receipt.id, notification.balance], [id, "9999.00"]);
  });

  test(
    "is settled whatever checkpoint comes with it, and a true one is linked",
    OPTIONS,
    async () => {
      const genuine = [...alices.checkpoints.values()];
      const strangers = ed25519PairOfSeed(new Uint8Array(32).fill(7));
      const origin = logOrigin(alices.server);
      const forged = signCheckpoint(strangers, origin, 1_000_000, new Uint8Array(32));
      const checkpoints = [
        genuine[0]!,
        genuine.at(-1)!,
        "rubbish",
        "",
        genuine[0]!.replace("\n", "\n1"),
        forged,
      ];
      for (const checkpoint of checkpoints) {
        const signed = order();
        assert.deepEqual(await offer(await seal(signed, bob, checkpoint)), { state: "settled" });
        await shows(idOf(signed));
      }
      const { size } = await alices.newestCheckpoint();
      const path = join(wire.world.keysOf("bob"), `checkpoint_${alices.server}.txt`);
      const until_ms = Date.now() + 10_000;
      while (rememberedSize(path) < size && Date.now() < until_ms) await delay(10);
      assert.equal(rememberedSize(path), size);
    },
  );

  test("that is replayed moves the money once and is shown once", OPTIONS, async () => {
    const signed = order();
    const sealed = await seal(signed);
    await offer(sealed);
    await wire.unharmed(async () => {
      for (let time = 0; time < 5; time++) {
        assert.deepEqual(await offer(sealed), { state: "settled" });
        assert.deepEqual(await offer(await seal(signed)), { state: "settled" });
      }
    });
    await assertTakesOffers();
    assert.equal(shown.filter((payment) => payment === idOf(signed)).length, 1);
  });

  test("that is sealed to someone else is refused", OPTIONS, async () => {
    await assertRefused("bad_offer", await seal(order(), mallory));
  });

  test("that pays someone else is refused", OPTIONS, async () => {
    await assertRefused("bad_offer", await seal(alices.order(alice, mallory)));
    const { thumbprint } = mallory.pair.publicKey;
    await assertRefused("bad_offer", await seal(order({ payee_key: thumbprint })));
  });

  test("for another server is refused", OPTIONS, async () => {
    const server = sha256Text("another server");
    const delegation = alices.delegate(alice, { server });
    await assertRefused("bad_offer", await seal({ ...order({ server }), delegation }));
  });

  test("that has expired is refused", OPTIONS, async () => {
    await assertRefused("bad_offer", await seal(order({ iat: now_s() - 10, exp: now_s() - 1 })));
  });

  test("of a batch is refused", OPTIONS, async () => {
    await assertRefused("bad_offer", await seal(alices.batch(alice, [bob])));
  });

  test("whose order is signed by another key is refused", OPTIONS, async () => {
    const claims = JSON.stringify(alices.orderClaims(alice, bob));
    const forged = rawToken(ORDER_HEADER, claims, mallory.session.privateKey);
    await assertRefused("bad_signature", await seal({ ...order(), order: forged }));
  });

  test(
    "in another's name, under a key that is not theirs, is refused by the server",
    OPTIONS,
    async () => {
      const { jwk: key } = mallory.pair.publicKey;
      const delegation = alices.delegate(alice, { key }, mallory.pair.privateKey);
      await assertRefused("wrong_key", await seal({ ...order(), delegation }));
    },
  );

  test("for more than the payer has is refused, each time", OPTIONS, async () => {
    const sealed = await seal(order({ amount: "99999.00" }));
    await assertRefused("insufficient_funds", sealed);
    await assertRefused("insufficient_funds", sealed);
  });

  test("of a cancelled id is refused", OPTIONS, async () => {
    const signed = order();
    await alices.call("payment.cancel", alices.cancel(alice, idOf(signed)));
    await assertRefused("cancelled", await seal(signed));
  });

  test("that is truncated or changed is refused", OPTIONS, async () => {
    const sealed = await seal(order());
    const changed = [
      sealed.slice(0, -1),
      sealed + "A",
      sealed + ".",
      "." + sealed,
      sealed + "=",
      "",
    ];
    for (let part = 1; part < 12; part++) {
      const position = Math.floor(sealed.length * part / 12);
      changed.push(sealed.slice(0, position), withNextCharacter(sealed, position));
    }
    for (const segment of [0, 1, 2, 3, 4]) {
      changed.push(sealed.split(".").with(segment, "").join("."));
    }
    for (const other of changed) await assertRefused("bad_offer", other);
  });

  test("of the wrong size or kind is refused", OPTIONS, async () => {
    const long = "A".repeat(30_000);
    for (
      const other of [long, `${long}.${long}`, null, undefined, 1, [], {}, "....", "a.b.c.d.e"]
    ) {
      await assertRefused("bad_offer", other);
    }
    const stranger = await Stranger.come();
    stranger.socket.write("A".repeat(70_000));
    await stranger.untilEnded(OFFER_MS_MAX);
    assert.equal(JSON.parse(stranger.text).error.data.code, "limit_exceeded");
    stranger.leave();
  });

  test("sealed by another algorithm is refused", OPTIONS, async () => {
    const { order: text, delegation } = order();
    const offered = { order: text, delegation, checkpoint: null };
    const plaintext = new TextEncoder().encode(JSON.stringify(offered));
    const typ = "sealwire-offer+jwe";
    const headers = [
      { alg: "RSA-OAEP", enc: "A256GCM", typ },
      { alg: "RSA-OAEP-256", enc: "A128CBC-HS256", typ },
      { alg: "RSA-OAEP-256", enc: "A256GCM" },
      { alg: "RSA-OAEP-256", enc: "A256GCM", typ, kid: "1" },
    ];
    for (const header of headers) {
      const jwe = new CompactEncrypt(plaintext).setProtectedHeader(header);
      await assertRefused("bad_offer", await jwe.encrypt(bob.pair.publicKey.key));
    }
  });

  test("of something else is refused", OPTIONS, async () => {
    const header = { alg: "RSA-OAEP-256", enc: "A256GCM", typ: "sealwire-offer+jwe" };
    const seals = (text: string) =>
      new CompactEncrypt(new TextEncoder().encode(text)).setProtectedHeader(header)
        .encrypt(bob.pair.publicKey.key);
    for (
      const text of [
        "",
        "x",
        "null",
        "[]",
        "{}",
        '{"order":1,"delegation":2,"checkpoint":null}',
        '{"order":"x","delegation":"y"}',
        '{"order":"x","delegation":"y","checkpoint":5}',
        "[".repeat(10_000),
      ]
    ) {
      await assertRefused("bad_offer", await seals(text));
    }
    await assertRefused(
      "bad_token",
      await seals('{"order":"x","delegation":"y","checkpoint":null}'),
    );
  });
});

function rememberedSize(path: string): number {
  return Number(readFileSync(path, "utf8").split("\n")[1]);
}

/** A stranger's connection to the door, with what came back on it. */
class Stranger {
  text = "";
  ended = false;
  private constructor(readonly socket: Socket) {
    socket.setEncoding("utf8").on("data", (text: string) => this.text += text);
    for (const event of ["end", "close", "error"]) socket.on(event, () => this.ended = true);
  }

  static async come(localAddress = HOST): Promise<Stranger> {
    // Half open, so that the stranger stays when the door ends the connection.
    const socket = net.connect({ host: HOST, port, localAddress, allowHalfOpen: true });
    const stranger = new Stranger(socket);
    await once(socket, "connect");
    return stranger;
  }

  /** Whether the door answers a ping. */
  async isServed(): Promise<boolean> {
    this.socket.write('{"jsonrpc":"2.0","id":1,"method":"rpc.ping"}\n');
    const until_ms = Date.now() + OFFER_MS_MAX - 500;
    while (!this.ended && Date.now() < until_ms) {
      if (this.text.includes("\n")) return true;
      await delay(5);
    }
    return false;
  }

  async untilEnded(timeout_ms: number): Promise<number> {
    const started_at_ms = performance.now();
    while (!this.ended) {
      assert.ok(performance.now() - started_at_ms < timeout_ms, "it has not been ended");
      await delay(10);
    }
    return performance.now() - started_at_ms;
  }

  leave(): void {
    this.socket.destroy();
  }
}

const sockets_before = CAN_LOOK_INTO_PROCESSES ? openSockets(listener.pid) : 0;

/** Returns when the door has noticed that they are gone. */
async function allLeave(strangers: readonly Stranger[]): Promise<void> {
  for (const stranger of strangers) stranger.leave();
  if (!CAN_LOOK_INTO_PROCESSES) return await delay(500);
  await until(() => openSockets(listener.pid) <= sockets_before);
}

describe("the door", () => {
  test("takes one offer of a connection, and then ends it", OPTIONS, async () => {
    const stranger = await Stranger.come();
    const request = (id: number, method: string) =>
      JSON.stringify({ jsonrpc: "2.0", id, method, params: { offer: "x" } }) + "\n";
    stranger.socket.write(request(1, "payment.offer") + request(2, "payment.offer"));
    await stranger.untilEnded(OFFER_MS_MAX);
    const codes = stranger.text.trim().split("\n").map((line) => JSON.parse(line))
      .toSorted((one, other) => one.id - other.id).map(({ error }) => error.data.code);
    assert.deepEqual(codes, ["bad_offer", "one_offer"]);
    stranger.leave();
    await assertTakesOffers();
  });

  test("answers nothing but offers", OPTIONS, async () => {
    for (const method of ["hello", "payment.settle", "account.balance", "constructor"]) {
      const peer = new RpcPeer(await connectTcp({ host: HOST, port, timeout_ms: 5_000 }), {
        role: "client",
      });
      await wire.assertRefused("unknown_method", () => peer.call(method, {}));
      peer.destroy();
    }
  });

  test(
    "ends a connection that brings no offer within three seconds, however busy",
    OPTIONS,
    async () => {
      const [silent, dripping, pinging] = await Promise.all([1, 2, 3].map(() => Stranger.come()));
      dripping!.socket.write('{"jsonrpc":"2.0",');
      const busy = setInterval(() => {
        dripping!.socket.write(" ");
        pinging!.socket.write('{"jsonrpc":"2.0","id":1,"method":"rpc.ping"}\n');
      }, 200);
      const strangers = [silent!, dripping!, pinging!];
      for (const stranger of strangers) await stranger.untilEnded(OFFER_MS_MAX + 3_000);
      clearInterval(busy);
      await allLeave(strangers);
      await assertTakesOffers();
    },
  );

  test(
    "lets eight of one address in, and a ninth in place of the first",
    OPTIONS,
    async (context) => {
      if (!HAS_MANY_ADDRESSES) return context.skip("this system has one loopback address");
      const nine: Stranger[] = [];
      while (nine.length < PER_ADDRESS_MAX) nine.push(await Stranger.come("127.0.0.9"));
      const served = await Promise.all(nine.map((one) => one.isServed()));
      assert.deepEqual(served, new Array(PER_ADDRESS_MAX).fill(true));
      nine.push(await Stranger.come("127.0.0.9"));
      assert.ok(await nine.at(-1)!.isServed());
      assert.ok(nine[0]!.ended && !nine[1]!.ended);
      await allLeave(nine);
      await assertTakesOffers();
    },
  );

  test(
    "is not kept full by those who were shown out and do not leave",
    OPTIONS,
    async (context) => {
      if (!HAS_MANY_ADDRESSES) return context.skip("this system has one loopback address");
      const from = "127.0.0.2";
      const staying: Stranger[] = [];
      while (staying.length < PER_ADDRESS_MAX) {
        const stranger = await Stranger.come(from);
        stranger.socket.write("no JSON\n");
        staying.push(stranger);
      }
      await Promise.all(staying.map((stranger) => stranger.untilEnded(OFFER_MS_MAX)));
      const next = await Stranger.come(from);
      assert.equal(await next.isServed(), true);
      await assertTakesOffers();
      await allLeave([...staying, next]);
    },
  );

  test("takes offers at once, however many addresses keep silent", OPTIONS, async (context) => {
    if (!HAS_MANY_ADDRESSES) return context.skip("this system has one loopback address");
    const crowd: Stranger[] = [];
    for (let address = 2; address < 2 + 2 * CONNECTIONS_MAX / PER_ADDRESS_MAX; address++) {
      for (let time = 0; time < PER_ADDRESS_MAX; time++) {
        crowd.push(await Stranger.come(`127.0.0.${address}`));
      }
    }
    const began_ms = performance.now();
    const late = await Stranger.come("127.0.1.1");
    assert.ok(await late.isServed());
    await assertTakesOffers();
    assert.ok(performance.now() - began_ms < OFFER_MS_MAX);
    await allLeave([...crowd, late]);
  });
});

test(
  "everything paid was shown once, and after all of this the audit passes",
  OPTIONS,
  async () => {
    const rows = (await bobs.call("payment.history")).rows as Json[];
    const paid = rows.filter(({ payee, payer }) => payee === "bob" && payer !== "@treasury");
    assert.deepEqual(shown.toSorted(), paid.map(({ payment }) => String(payment)).toSorted());
    assert.equal((await listener.stop()).status, 130);
    await wire.assertAuditPasses();
  },
);
