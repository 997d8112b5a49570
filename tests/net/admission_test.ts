import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import process from "node:process";
import { after, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import fc from "fast-check";
import {
  Admission,
  KNOWN_ADDRESS_MS,
  STRANGE_ADDRESS_UNPROVEN_MAX,
} from "../../lib/net/admission.ts";
import type { Connection, Place } from "../../lib/net/net.ts";
import { closeAll, connect, HOST, listening, OPTIONS } from "../support/net.ts";

after(closeAll);

/** Connections by name, and which of them have given way. */
class Door {
  now_ms = 0;
  readonly gone: string[] = [];
  readonly admission: Admission;
  private readonly places = new Map<string, Place & { leave(): void }>();

  constructor(connections_max: number) {
    this.admission = new Admission({ connections_max, now_ms: () => this.now_ms });
  }

  enter(host: string, name: string): boolean {
    const place = this.admission.enter(host, () => this.gone.push(name));
    if (place !== null) this.places.set(name, place);
    return place !== null;
  }

  of(name: string): Place & { leave(): void } {
    return this.places.get(name)!;
  }

  /** Enters and proves itself. */
  logIn(host: string, name: string, account: string | null = name): boolean {
    if (!this.enter(host, name)) return false;
    this.of(name).prove(account);
    return true;
  }
}

describe("admission", () => {
  test("an address that holds its share loses its own oldest, and nobody else's", () => {
    const door = new Door(80);
    door.enter("192.0.2.9", "neighbour");
    for (let count = 1; count <= 12; count++) door.enter("192.0.2.1", `flood ${count}`);
    assert.deepEqual(door.gone, ["flood 1", "flood 2"]);
  });

  test("a full door closes the oldest of the address that holds most", () => {
    const door = new Door(16);
    for (const count of [1, 2]) door.enter("192.0.2.1", `many ${count}`);
    for (let host = 2; host <= 13; host++) door.enter(`192.0.2.${host}`, `one ${host}`);
    assert.deepEqual(door.gone, []);
    door.enter("192.0.2.99", "newcomer");
    assert.deepEqual(door.gone, ["many 1"]);
  });

  test("an IPv6 network is one address", () => {
    const door = new Door(80);
    for (let count = 1; count <= 11; count++) door.enter(`2001:db8::${count}`, `flood ${count}`);
    assert.deepEqual(door.gone, ["flood 1"]);
  });

  test("proven connections do not count against their address", () => {
    const door = new Door(80);
    for (let member = 0; member < 50; member++) {
      assert.ok(door.logIn("192.0.2.1", `member ${member}`));
    }
    for (let count = 0; count < 200; count++) door.enter("192.0.2.1", `flood ${count}`);
    assert.deepEqual(door.gone.filter((name) => name.startsWith("member")), []);
  });

  test("places are kept for addresses that have proven themselves, for a day", () => {
    const door = new Door(80);
    door.logIn("192.0.2.1", "member");
    door.of("member").leave();
    for (let host = 0; host < 100; host++) door.enter(`198.51.100.${host}`, `flood ${host}`);
    const before = door.gone.length;
    for (let count = 0; count < 10; count++) assert.ok(door.enter("192.0.2.1", `again ${count}`));
    assert.equal(door.gone.length, before);
    assert.equal(door.admission.size, 80);

    door.now_ms += KNOWN_ADDRESS_MS;
    for (let count = 0; count < 10; count++) door.of(`again ${count}`).leave();
    assert.ok(door.enter("192.0.2.1", "a day later"));
    assert.equal(door.admission.size, 70);
  });

  test("where nobody is unproven, the account that holds most gives way", () => {
    const door = new Door(8);
    door.logIn("192.0.2.1", "honest");
    for (let count = 0; count < 7; count++) {
      door.logIn("192.0.2.2", `greedy ${count}`, count < 3 ? "one" : "other");
    }
    assert.ok(door.enter("192.0.2.3", "newcomer"));
    assert.deepEqual(door.gone, ["greedy 3", "greedy 0"]);
  });

  test("where every account holds one place, a newcomer is refused", () => {
    const door = new Door(8);
    for (let count = 0; count < 7; count++) door.logIn(`192.0.2.${count}`, `honest ${count}`);
    assert.equal(door.enter("192.0.2.9", "newcomer"), false);
    assert.deepEqual(door.gone, []);
  });

  test("who holds the key of the door never gives way", () => {
    const door = new Door(8);
    for (let count = 0; count < 7; count++) door.logIn("192.0.2.1", `key ${count}`, null);
    assert.equal(door.enter("192.0.2.9", "newcomer"), false);
    assert.deepEqual(door.gone, []);
  });

  test("a flood of silent connections does not push out who has finished the handshake", () => {
    const door = new Door(80);
    door.enter("192.0.2.1", "neighbour");
    door.of("neighbour").greet();
    for (let count = 0; count < 1_000; count++) door.enter("192.0.2.1", `flood ${count}`);
    assert.ok(!door.gone.includes("neighbour"));
    for (let count = 0; count < 1_000; count++) {
      door.enter("192.0.2.1", `greeter ${count}`);
      door.of(`greeter ${count}`).greet();
    }
    assert.ok(door.gone.includes("neighbour"));
  });

  test("the books are right whatever comes and goes", () => {
    const step = fc.record({
      host: fc.nat(5).map((host) => `192.0.2.${host}`),
      act: fc.constantFrom("enter", "enter", "enter", "greet", "prove", "leave"),
      which: fc.nat(),
      account: fc.option(fc.nat(3).map(String)),
    });
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 40 }),
        fc.array(step, { maxLength: 200 }),
        (max, steps) => {
          const admission = new Admission({ connections_max: max });
          const inside = new Set<Place & { leave(): void }>();
          for (const { host, act, which, account } of steps) {
            if (act === "enter") {
              const place = admission.enter(host, () => inside.delete(place!));
              if (place !== null) inside.add(place);
            } else if (inside.size > 0) {
              const place = [...inside][which % inside.size]!;
              if (act === "greet") place.greet();
              if (act === "prove") place.prove(account);
              if (act === "leave") {
                place.leave();
                place.leave();
                inside.delete(place);
              }
            }
            assert.equal(admission.size, inside.size);
            assert.ok(inside.size <= max);
          }
        },
      ),
    );
  });
});

/** A client that says nothing. */
async function silent(port: number, localAddress: string): Promise<net.Socket> {
  const socket = net.connect({ host: HOST, port, localAddress });
  socket.on("error", () => {});
  await once(socket, "connect");
  return socket;
}

for (const kind of ["tcp", "tls"] as const) {
  describe(`a ${kind} listener`, { skip: process.platform !== "linux" }, () => {
    test("serves others while one address floods it with silence", OPTIONS, async () => {
      const proven: Connection[] = [];
      const listener = await listening(kind, async (connection, place) => {
        const bytes = await connection.read().catch(() => null);
        if (bytes === null) return connection.destroy();
        place.prove("honest");
        proven.push(connection);
        await connection.write(bytes);
      }, { connections_max: 64 });
      const old = await connect(kind, listener.port);
      await old.write(new Uint8Array(1));
      await old.read();
      const flood: net.Socket[] = [];
      for (let round = 0; round < 4; round++) {
        for (let count = 0; count < 50; count++) {
          flood.push(await silent(listener.port, "127.0.0.2"));
        }
        const client = await connect(kind, listener.port);
        await client.write(new Uint8Array(7));
        assert.equal((await client.read())!.length, 7);
      }
      await old.write(new Uint8Array(1));
      await delay(100);
      const open = flood.filter((socket) => !socket.destroyed).length;
      assert.ok(open <= 8, `${open} silent connections are open`);
      assert.equal(proven.length, 5);
      for (const socket of flood) socket.destroy();
    });

    test("tells the operator once that it is full, with a count", OPTIONS, async () => {
      const notices: string[] = [];
      const listener = await listening(kind, () => {}, {
        connections_max: 16,
        onNotice: (text) => notices.push(text),
      });
      const flood = [];
      for (let host = 2; host < 42; host++) {
        flood.push(await silent(listener.port, `127.0.0.${host}`));
      }
      await delay(100);
      assert.equal(notices.length, 1, notices.join());
      assert.match(notices[0]!, /all 16 places/);
      await listener.close();
      assert.match(notices[1]!, /\(2\d closed or refused\)/);
      for (const socket of flood) socket.destroy();
    });
  });
}

test("strangers at one address hold a fixed number of places of a large door", () => {
  const door = new Door(1_000_000);
  for (let count = 0; count <= STRANGE_ADDRESS_UNPROVEN_MAX; count++) {
    door.enter("192.0.2.1", String(count));
  }
  assert.deepEqual(door.gone, ["0"]);
});
