/**
 * The worked examples in docs/protocol/aes_channel.md, computed again: another implementation checks itself against
 * that text.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { AES128CBCHS256, deriveIv, RecordCipher } from "../../../lib/aes/channel/cbc_hs256.ts";
import { generator, sessionKey, sharedPoint, shareOf } from "../../../lib/aes/pairing/cpace.ts";
import { encodeItem, encodePosition, FRAME } from "../../../lib/aes/channel/frames.ts";
import { PROLOGUE } from "../../../lib/aes/channel/handshake.ts";
import {
  type HandshakeOptions,
  type HandshakeResult,
  HandshakeState,
} from "../../../lib/aes/channel/noise.ts";
import { handshakeSecrets, PAIRING_CHANNEL_ID } from "../../../lib/aes/pairing/pairing.ts";
import { hex } from "../../support/vectors.ts";

const PAGE = new URL("../../../docs/protocol/aes_channel.md", import.meta.url);
const NONE = new Uint8Array(0);
const HEX_A_LINE = 64;
const NAME_COLUMNS = 27;

/** `count` bytes that count up from `first`. */
function counting(first: number, count: number): Uint8Array {
  return Uint8Array.from({ length: count }, (_, i) => first + i);
}

const KEY_FILE = counting(0x00, 32);
const CLIENT_SECRET = counting(0x20, 32);
const SERVER_SECRET = counting(0x40, 32);

type Rows = [name: string, bytes: Uint8Array][];

function table(rows: Rows): string {
  return rows.map(([name, bytes]) => {
    const lines = bytes.toHex().match(new RegExp(`.{1,${HEX_A_LINE}}`, "g")) ?? [];
    return name.padEnd(NAME_COLUMNS) + lines.join("\n" + " ".repeat(NAME_COLUMNS));
  }).join("\n");
}

function assertInProtocol(rows: Rows): void {
  const protocol = readFileSync(PAGE, "utf8");
  const example = "```text\n" + table(rows) + "\n```\n";
  assert.ok(protocol.includes(example), `aes_channel.md should have:\n${example}`);
}

function frame(type: number, ...parts: Uint8Array[]): number[] {
  const body = parts.flatMap((part) => [...part]);
  return [type, 0, 0, body.length >> 8, body.length & 0xff, ...body];
}

const HELLO = new TextEncoder().encode("Hello Server!");

/** The frames of the message `Hello Server!` as item 0. */
function helloFrames(): Uint8Array {
  const size = encodePosition({ item: 0, offset_bytes: HELLO.length });
  return Uint8Array.from([
    ...frame(FRAME.message, size),
    ...frame(FRAME.chunk, encodeItem(0), HELLO),
    ...frame(FRAME.end, size),
  ]);
}

test("the worked example of a session comes out byte for byte", async () => {
  const { client, server } = handshake({
    pattern: "NNpsk0",
    cipher: AES128CBCHS256,
    prologue: PROLOGUE,
    psk: KEY_FILE,
  });
  const { sendKey, receiveKey, handshakeHash } = client.keys;
  const hello = helloFrames();
  const acknowledged = Uint8Array.from(frame(FRAME.acknowledged, encodeItem(0)));
  const close = Uint8Array.from(frame(FRAME.close));
  assertInProtocol([
    ["psk (aes_key.bin)", KEY_FILE],
    ["client ephemeral private", CLIENT_SECRET],
    ["server ephemeral private", SERVER_SECRET],
    ["client sends: prologue", PROLOGUE],
    ["client sends: message 1", client.message],
    ["server sends: message 2", server.message],
    ["handshake hash", handshakeHash],
    ["client-to-server key", sendKey],
    ["server-to-client key", receiveKey],
    ...await recordRows("client", sendKey, 0n, hello),
    ...await recordRows("server", receiveKey, 0n, acknowledged),
    ...await recordRows("client", sendKey, 1n, close),
    ...await recordRows("server", receiveKey, 1n, close),
  ]);
});

async function recordRows(
  sender: string,
  key: Uint8Array,
  n: bigint,
  plaintext: Uint8Array,
): Promise<Rows> {
  const ad = new Uint8Array(8);
  new DataView(ad.buffer).setBigUint64(0, n);
  const sealed = await new RecordCipher(key).seal(n, ad, plaintext);
  return [
    [`record ${n}: plaintext`, plaintext],
    [`record ${n}: IV, not sent`, deriveIv(key.subarray(16), n)],
    [`${sender} sends: record ${n}`, Uint8Array.of(0, 0, 0, sealed.length, ...sealed)],
  ];
}

test("the worked example of a pairing comes out byte for byte", () => {
  const code = new TextEncoder().encode("7-cobalt-harbor");
  const sid = counting(0x60, 16);
  const context = { code, channel: PAIRING_CHANNEL_ID, sid };
  const [clientScalar, serverScalar] = [0x0123456789abcdefn, 0xfedcba9876543210n];
  const initiatorShare = shareOf(context, clientScalar).share;
  const responderShare = shareOf(context, serverScalar).share;
  const point = sharedPoint(clientScalar, responderShare);
  assert.deepEqual(sharedPoint(serverScalar, initiatorShare), point);
  const shares = { initiatorShare, responderShare };
  const isk = sessionKey(sid, point, { ...shares, initiatorData: NONE, responderData: NONE });
  const secrets = handshakeSecrets(sid, point, shares);
  const { client, server } = handshake({ ...secrets, cipher: AES128CBCHS256, pattern: "NNpsk0" });
  const sealed = (key: Uint8Array, text: Uint8Array) =>
    AES128CBCHS256.encrypt(key, 0n, new Uint8Array(8), text);
  assertInProtocol([
    ["PRS", code],
    ["sid", sid],
    ["generator", generator(context)],
    ["ya, little endian", scalarBytes(clientScalar)],
    ["yb, little endian", scalarBytes(serverScalar)],
    ["Ya", initiatorShare],
    ["Yb", responderShare],
    ["K", point],
    ["ISK", isk],
    ["psk", secrets.psk],
    ["prologue", secrets.prologue],
    ["client sends: message 1", client.message],
    ["server sends: message 2", server.message],
    ["client-to-server key", client.keys.sendKey],
    ["server-to-client key", server.keys.sendKey],
    ["server sends: sealed key", sealed(server.keys.sendKey, KEY_FILE)],
    ["client sends: sealed empty", sealed(client.keys.sendKey, NONE)],
  ]);
});

interface HandshakeEnd {
  readonly message: Uint8Array;
  readonly keys: HandshakeResult;
}

/** A handshake between the two ephemeral keys of the examples. */
function handshake(
  options: Pick<HandshakeOptions, "pattern" | "cipher" | "prologue" | "psk">,
): { client: HandshakeEnd; server: HandshakeEnd } {
  const client = new HandshakeState({ ...options, initiator: true, e: CLIENT_SECRET });
  const server = new HandshakeState({ ...options, initiator: false, e: SERVER_SECRET });
  const first = client.writeMessage(NONE);
  server.readMessage(first);
  const second = server.writeMessage(NONE);
  client.readMessage(second);
  return {
    client: { message: first, keys: client.split() },
    server: { message: second, keys: server.split() },
  };
}

function scalarBytes(scalar: bigint): Uint8Array {
  return hex(scalar.toString(16).padStart(64, "0")).reverse();
}
