import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { loadKeyFile, writeKeyFile } from "../../../lib/aes_utils.ts";
import { ByteReader } from "../../../lib/aes/channel/byte_reader.ts";
import { makeShare } from "../../../lib/aes/pairing/cpace.ts";
import { PAIRING_PROLOGUE, requestKey, servePairing } from "../../../lib/aes/pairing/pairing.ts";
import {
  PAIRING_CODE_LIFETIME_MS,
  PAIRING_PAUSE_MS,
  PairingOffer,
  parsePairingCode,
} from "../../../lib/aes/pairing/pairing_code.ts";
import { PAIRING_WORDS } from "../../../lib/aes/pairing/words.ts";
import { isSealwireError } from "../../../lib/base/errors.ts";
import { type Connection, connectTcp, listenTcp } from "../../../lib/net/net.ts";
import { temporaryFolder } from "../../support/support.ts";

const KEY = Uint8Array.from({ length: 32 }, (_, i) => 255 - i);
const CODE = "7-cobalt-harbor";
const WRONG_CODE = "8-cobalt-harbor";
const HOST = "127.0.0.1";
const LIMIT = { timeout: 60_000 };

/**
 * A server that does nothing but pair. `outcomes` has, for each connection in turn, `stored` or an
 * error's code.
 */
interface PairingServer {
  readonly offer: PairingOffer;
  readonly outcomes: Promise<string>[];
  connect(): Promise<Connection>;
}

/** Runs `body` against a server that offers `offer`, and stops it. */
async function withServer(
  offer: PairingOffer,
  body: (server: PairingServer) => Promise<void>,
): Promise<void> {
  const outcomes: Promise<string>[] = [];
  const listener = await listenTcp({ host: HOST, port: 0 }, (connection) => {
    outcomes.push(outcomeOf(serve(connection, offer)));
  });
  const connect = () => connectTcp({ host: HOST, port: listener.port, timeout_ms: 5_000 });
  try {
    await body({ offer, outcomes, connect });
  } finally {
    await listener.close();
    await Promise.all(outcomes);
  }
}

async function serve(connection: Connection, offer: PairingOffer): Promise<void> {
  const reader = new ByteReader(connection);
  assert.deepEqual(await reader.read(PAIRING_PROLOGUE.length), PAIRING_PROLOGUE);
  await servePairing(connection, reader, offer, KEY);
}

async function outcomeOf(work: Promise<void>): Promise<string> {
  try {
    await work;
    return "stored";
  } catch (error) {
    return isSealwireError(error) ? error.code : String(error);
  }
}

async function pair(
  server: PairingServer,
  code: string,
): Promise<{ outcome: string; keys: Uint8Array[] }> {
  const keys: Uint8Array[] = [];
  const connection = await server.connect();
  const outcome = await outcomeOf(requestKey(connection, code, (key) => keys.push(key)));
  return { outcome, keys };
}

function offer(now_ms?: () => number): PairingOffer {
  return new PairingOffer(now_ms, CODE);
}

/** A clock on which the pause between two connections is over at the next look. */
function hurriedClock(): () => number {
  let now_ms = 0;
  return () => now_ms += PAIRING_PAUSE_MS;
}

/** Everything that the server sends until it ends the connection. */
async function readToEnd(connection: Connection): Promise<number> {
  let size_bytes = 0;
  try {
    for (let bytes; (bytes = await connection.read()) !== null;) size_bytes += bytes.length;
  } catch (error) {
    assert.ok(isSealwireError(error, "connection_lost"));
  }
  return size_bytes;
}

test("with the right code both sides end up with the same key file", LIMIT, async () => {
  const path = join(temporaryFolder(), "aes_key.bin");
  await withServer(offer(), async (server) => {
    const connection = await server.connect();
    await requestKey(connection, CODE, (key) => writeKeyFile(path, key));
    assert.equal(await server.outcomes[0], "stored");
    assert.equal(server.offer.state, "used");
  });
  assert.deepEqual(loadKeyFile(path).bytes, KEY);
  assert.deepEqual(new Uint8Array(readFileSync(path)), KEY);
});

test("a code is good for one client", LIMIT, async () => {
  await withServer(offer(), async (server) => {
    assert.equal((await pair(server, CODE)).outcome, "stored");
    const second = await pair(server, CODE);
    assert.deepEqual(second, { outcome: "pairing_closed", keys: [] });
    assert.equal(await server.outcomes[1], "pairing_closed");
  });
});

test("the first wrong code burns the code, and the right one comes too late", LIMIT, async () => {
  await withServer(offer(), async (server) => {
    assert.deepEqual(await pair(server, WRONG_CODE), { outcome: "pairing_wrong_code", keys: [] });
    assert.equal(await server.outcomes[0], "pairing_wrong_code");
    assert.equal(server.offer.state, "burnt");
    assert.deepEqual(await pair(server, CODE), { outcome: "pairing_closed", keys: [] });
  });
});

test("of many connections that guess at once only one has a guess", LIMIT, async () => {
  await withServer(offer(), async (server) => {
    const connections = await Promise.all(Array.from({ length: 40 }, () => server.connect()));
    const keys: Uint8Array[] = [];
    const guesses = connections.map((connection, i) => {
      const guess = `${(i % 99) + 1}-tulip-tundra`;
      return outcomeOf(requestKey(connection, guess, (key) => keys.push(key)));
    });
    const outcomes = await Promise.all(guesses);
    assert.equal(outcomes.filter((outcome) => outcome === "pairing_wrong_code").length, 1);
    const refused = outcomes.filter((o) => o === "pairing_busy" || o === "pairing_closed");
    assert.equal(refused.length, 39, outcomes.join());
    assert.deepEqual(keys, []);
    assert.equal(server.offer.state, "burnt");
  });
});

test(
  "a peer that stops before its confirmation has seen nothing made of the code's key, and burns nothing",
  LIMIT,
  async () => {
    await withServer(offer(hurriedClock()), async (server) => {
      const shares = new Set<string>();
      for (let run = 0; run < 2; run++) {
        const connection = await server.connect();
        const reader = new ByteReader(connection);
        await connection.write(PAIRING_PROLOGUE);
        const sid = (await reader.read(1 + 16))!.subarray(1);
        const text = new TextEncoder();
        const channel = text.encode("sealwire-pair/1");
        await connection.write(makeShare({ code: text.encode(WRONG_CODE), channel, sid }).share);
        shares.add((await reader.read(32))!.toHex());
        // Half a confirmation is none.
        await connection.write(new Uint8Array(63));
        const rest_bytes = readToEnd(connection);
        await connection.end();
        assert.equal(await rest_bytes, 0);
        assert.equal(await server.outcomes[run], "connection_lost");
      }
      assert.equal(shares.size, 2, "the server's share is fresh, whatever the code");
      assert.equal(server.offer.state, "open");
      assert.equal((await pair(server, CODE)).outcome, "stored");
    });
  },
);

test(
  "a confirmation of random bytes burns the code, an invalid share does not",
  LIMIT,
  async () => {
    await withServer(offer(hurriedClock()), async (server) => {
      for (const share of [new Uint8Array(32), new Uint8Array(32).fill(0xff)]) {
        const connection = await server.connect();
        await connection.write(PAIRING_PROLOGUE);
        await connection.write(share);
        assert.equal(await readToEnd(connection), 1 + 16);
        connection.destroy();
      }
      assert.deepEqual(await Promise.all(server.outcomes), [
        "handshake_failed",
        "handshake_failed",
      ]);
      assert.equal(server.offer.state, "open");
      const connection = await server.connect();
      await connection.write(PAIRING_PROLOGUE);
      await connection.write(makeShare({ code: KEY, channel: KEY, sid: KEY }).share);
      await connection.write(crypto.getRandomValues(new Uint8Array(64)));
      // Status and sid, the share, and the status that says no: nothing else.
      assert.equal(await readToEnd(connection), 1 + 16 + 32 + 1);
      connection.destroy();
      assert.equal(await server.outcomes[2], "pairing_wrong_code");
      assert.equal(server.offer.state, "burnt");
    });
  },
);

test(
  "while one connection is at it another one is told so, and a silent one loses its turn",
  LIMIT,
  async () => {
    await withServer(offer(hurriedClock()), async (server) => {
      const silent = await server.connect();
      await silent.write(PAIRING_PROLOGUE);
      assert.equal((await new ByteReader(silent).read(17))!.length, 17);
      assert.deepEqual(await pair(server, CODE), { outcome: "pairing_busy", keys: [] });
      assert.equal(await server.outcomes[0], "timeout");
      assert.equal(server.offer.state, "open");
      assert.equal((await pair(server, CODE)).outcome, "stored");
      silent.destroy();
    });
  },
);

test(
  "a code expires after ten minutes, between two clients and under a slow one",
  LIMIT,
  async () => {
    let now_ms = 1_000;
    await withServer(offer(() => now_ms), async (server) => {
      now_ms += PAIRING_CODE_LIFETIME_MS - 1;
      assert.equal(server.offer.state, "open");
      const slow = await server.connect();
      const reader = new ByteReader(slow);
      await slow.write(PAIRING_PROLOGUE);
      await reader.read(17);
      await slow.write(makeShare({ code: KEY, channel: KEY, sid: KEY }).share);
      await reader.read(32);
      now_ms += 1;
      await slow.write(new Uint8Array(64));
      assert.deepEqual(await reader.read(1), Uint8Array.of(2));
      slow.destroy();
      assert.equal(await server.outcomes[0], "pairing_closed");
      assert.equal(server.offer.state, "expired");
      assert.equal((await pair(server, CODE)).outcome, "pairing_closed");
    });
  },
);

test("a server that offers no code says so", LIMIT, async () => {
  const listener = await listenTcp({ host: HOST, port: 0 }, async (connection) => {
    const reader = new ByteReader(connection);
    await reader.read(PAIRING_PROLOGUE.length);
    await servePairing(connection, reader, null, KEY).catch(() => {});
  });
  const connection = await connectTcp({ host: HOST, port: listener.port, timeout_ms: 5_000 });
  const stored = requestKey(connection, CODE, () => assert.fail("a key was stored"));
  await assert.rejects(stored, { code: "pairing_closed" });
  await listener.close();
});

test(
  "a client stores no key from a server that does not know the code, ends early or answers nonsense",
  LIMIT,
  async () => {
    const answers: [string, (reader: ByteReader, connection: Connection) => Promise<void>][] = [
      [
        "handshake_failed",
        async (_, connection) => await connection.write(new Uint8Array(200).fill(9)),
      ],
      ["handshake_failed", async (_, connection) => await connection.write(new Uint8Array(200))],
      ["connection_lost", async (_, connection) => await connection.write(new Uint8Array(17))],
      ["connection_lost", async () => {}],
      ["server_untrusted", impostor],
    ];
    for (const [code, answer] of answers) {
      const listener = await listenTcp({ host: HOST, port: 0 }, async (connection) => {
        const reader = new ByteReader(connection);
        await reader.read(PAIRING_PROLOGUE.length);
        await answer(reader, connection);
        await connection.end();
      });
      const connection = await connectTcp({ host: HOST, port: listener.port, timeout_ms: 5_000 });
      const stored = requestKey(connection, CODE, () => assert.fail("a key was stored"));
      await assert.rejects(stored, { code });
      await listener.close();
    }
  },
);

/** Says yes to any confirmation. */
async function impostor(reader: ByteReader, connection: Connection): Promise<void> {
  await connection.write(new Uint8Array(17));
  await reader.read(32);
  await connection.write(makeShare({ code: KEY, channel: KEY, sid: KEY }).share);
  await reader.read(64);
  await connection.write(new Uint8Array(1 + 64 + 64));
}

test(
  "when the client cannot store the key it says why, and the server does not believe it has it",
  LIMIT,
  async () => {
    const path = join(temporaryFolder(), "aes_key.bin");
    writeKeyFile(path, new Uint8Array(32));
    await withServer(offer(), async (server) => {
      const connection = await server.connect();
      const stored = requestKey(connection, CODE, (key) => writeKeyFile(path, key));
      await assert.rejects(stored, { code: "key_exists" });
      assert.equal(await server.outcomes[0], "pairing_unconfirmed");
    });
    assert.deepEqual(loadKeyFile(path).bytes, new Uint8Array(32));
  },
);

test("a code is taken as people write it, and a slip is caught before it costs the only try", () => {
  for (
    const text of [
      "7-cobalt-harbor",
      " 7 Cobalt  HARBOR\n",
      "7--cobalt - harbor",
      "7–cobalt—harbor",
    ]
  ) {
    assert.equal(parsePairingCode(text), CODE);
  }
  const slips = ["", "7", "7-cobalt", "cobalt-harbor", "0-cobalt-harbor", "07-cobalt-harbor"];
  slips.push("100-cobalt-harbor", "7-cobald-harbor", "7-cobalt-harbor-", "7-cobalt-harbor-tulip");
  for (const slip of slips) assert.throws(() => parsePairingCode(slip), { code: "usage" }, slip);
});

test("between two connections that pair there is a pause", () => {
  let now_ms = 0;
  const pairing = offer(() => now_ms);
  assert.equal(pairing.reserve(), true);
  assert.equal(pairing.reserve(), false);
  pairing.release();
  now_ms = PAIRING_PAUSE_MS - 1;
  assert.equal(pairing.reserve(), false);
  now_ms = PAIRING_PAUSE_MS;
  assert.equal(pairing.reserve(), true);
});

test("codes are fresh and of the form that is asked for", () => {
  const codes = Array.from({ length: 200 }, () => new PairingOffer().code);
  for (const code of codes) assert.equal(parsePairingCode(code), code);
  assert.ok(new Set(codes).size > 190);
});

test("the 256 words are easily told apart: three letters or more between any two", () => {
  assert.equal(new Set(PAIRING_WORDS).size, 256);
  for (const [index, word] of PAIRING_WORDS.entries()) {
    assert.match(word, /^[a-z]{4,8}$/);
    for (const other of PAIRING_WORDS.slice(0, index)) {
      assert.ok(lettersApart(word, other) >= 3, `${word} and ${other}`);
    }
  }
});

/** Levenshtein's distance. */
function lettersApart(first: string, second: string): number {
  let row = Array.from({ length: second.length + 1 }, (_, i) => i);
  for (const [i, letter] of [...first].entries()) {
    const next = [i + 1];
    for (const [j, other] of [...second].entries()) {
      next.push(Math.min(row[j]! + (letter === other ? 0 : 1), row[j + 1]! + 1, next[j]! + 1));
    }
    row = next;
  }
  return row.at(-1)!;
}
