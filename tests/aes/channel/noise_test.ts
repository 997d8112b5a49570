import assert from "node:assert/strict";
import { test } from "node:test";
import { gcm } from "@noble/ciphers/aes.js";
import { hkdf } from "@noble/hashes/hkdf.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { SealwireError } from "../../../lib/base/errors.ts";
import { AES128CBCHS256 } from "../../../lib/aes/channel/cbc_hs256.ts";
import {
  type HandshakeOptions,
  HandshakeState,
  type NoiseCipher,
  type NoisePattern,
} from "../../../lib/aes/channel/noise.ts";
import { importPair, sharedSecret } from "../../../lib/aes/channel/x25519.ts";
import { allTests, hex, vectorTest, type Wycheproof } from "../../support/vectors.ts";

const EMPTY = new Uint8Array(0);
const PSK = new Uint8Array(32).fill(7);
const FAILED = { code: "handshake_failed" };

/** Section 12.4 of the Noise specification. */
const AESGCM: NoiseCipher = {
  name: "AESGCM",
  sealedBytes: (plaintext_bytes) => plaintext_bytes + 16,
  encrypt: (key, n, ad, plaintext) => gcm(key, gcmNonce(n), ad).encrypt(plaintext),
  decrypt(key, n, ad, sealed) {
    try {
      return gcm(key, gcmNonce(n), ad).decrypt(sealed);
    } catch (cause) {
      throw new SealwireError("decrypt_failed", "changed", { cause });
    }
  },
};

function gcmNonce(n: bigint): Uint8Array {
  const nonce = new Uint8Array(12);
  new DataView(nonce.buffer).setBigUint64(4, n);
  return nonce;
}

interface NoiseVector {
  protocol_name: string;
  init_prologue: string;
  resp_prologue: string;
  init_static?: string;
  resp_static?: string;
  init_remote_static?: string;
  resp_remote_static?: string;
  init_ephemeral: string;
  resp_ephemeral: string;
  init_psks?: string[];
  resp_psks?: string[];
  handshake_hash: string;
  messages: { payload: string; ciphertext: string }[];
}

function optionalHex(text: string | undefined): Uint8Array | undefined {
  return text === undefined ? undefined : hex(text);
}

function ends(vector: NoiseVector): [HandshakeState, HandshakeState] {
  const pattern = vector.protocol_name.split("_")[1] as NoisePattern;
  const initiator = new HandshakeState({
    pattern,
    cipher: AESGCM,
    initiator: true,
    prologue: hex(vector.init_prologue),
    psk: optionalHex(vector.init_psks?.[0]),
    s: optionalHex(vector.init_static),
    rs: optionalHex(vector.init_remote_static),
    e: hex(vector.init_ephemeral),
  });
  const responder = new HandshakeState({
    pattern,
    cipher: AESGCM,
    initiator: false,
    prologue: hex(vector.resp_prologue),
    psk: optionalHex(vector.resp_psks?.[0]),
    s: optionalHex(vector.resp_static),
    rs: optionalHex(vector.resp_remote_static),
    e: hex(vector.resp_ephemeral),
  });
  return [initiator, responder];
}

function replay(vector: NoiseVector): void {
  const [initiator, responder] = ends(vector);
  const messages = vector.messages.map((m) => ({
    payload: hex(m.payload),
    ciphertext: hex(m.ciphertext),
  }));
  let index = 0;
  for (; !initiator.complete; index++) {
    const [writer, reader] = index % 2 === 0 ? [initiator, responder] : [responder, initiator];
    const { payload, ciphertext } = messages[index]!;
    assert.deepEqual(writer.writeMessage(payload), ciphertext, `message ${index}`);
    assert.deepEqual(reader.readMessage(ciphertext), payload, `message ${index}`);
  }
  assert.ok(responder.complete);
  const keys = initiator.split();
  const mirrored = responder.split();
  assert.deepEqual(keys.handshakeHash, hex(vector.handshake_hash));
  assert.deepEqual(mirrored.handshakeHash, keys.handshakeHash);
  assert.deepEqual([keys.sendKey, keys.receiveKey], [mirrored.receiveKey, mirrored.sendKey]);
  const sent = [0n, 0n];
  assert.ok(index < messages.length, "there are transport messages");
  for (; index < messages.length; index++) {
    const end = index % 2;
    const key = end === 0 ? keys.sendKey : keys.receiveKey;
    const { payload, ciphertext } = messages[index]!;
    assert.deepEqual(AESGCM.encrypt(key, sent[end]!++, EMPTY, payload), ciphertext);
  }
}

vectorTest<{ vectors: NoiseVector[] }>(
  "every published Noise handshake comes out byte for byte, its hash and transport messages too",
  "noise.json",
  ({ vectors }) => {
    const patterns = vectors.map((vector) => vector.protocol_name.split("_")[1]).sort();
    assert.deepEqual(patterns, ["KK", "NN", "NNpsk0", "NNpsk2", "XX", "XXpsk3"]);
    for (const vector of vectors) replay(vector);
  },
);

const ALL_ZERO = new Uint8Array(32);

vectorTest<Wycheproof<{ private: string; public: string; shared: string }>>(
  "every Wycheproof X25519 secret comes out, and an all-zero one is refused",
  "wycheproof_x25519_test.json",
  (vectors) => {
    let zeros = 0;
    for (const t of allTests(vectors)) {
      const { privateKey } = importPair(hex(t.private));
      const derive = () => sharedSecret(privateKey, hex(t.public));
      if (hex(t.shared).every((byte) => byte === 0)) {
        assert.throws(derive, FAILED, `test ${t.tcId}`);
        zeros++;
      } else {
        assert.deepEqual(derive(), hex(t.shared), `test ${t.tcId}`);
      }
    }
    assert.ok(zeros > 0);
  },
);

vectorTest<Wycheproof<{ ikm: string; salt: string; info: string; size: number; okm: string }>>(
  "every Wycheproof HKDF-SHA-256 output comes out, and a size past the limit is refused",
  "wycheproof_hkdf_sha256_test.json",
  (vectors) => {
    for (const t of allTests(vectors)) {
      const derive = () => hkdf(sha256, hex(t.ikm), hex(t.salt), hex(t.info), t.size);
      if (t.result === "valid") assert.deepEqual(derive(), hex(t.okm), `test ${t.tcId}`);
      else assert.throws(derive, `test ${t.tcId}`);
    }
  },
);

function pair(
  initiatorOptions: Partial<HandshakeOptions> = {},
  responderOptions: Partial<HandshakeOptions> = {},
): [HandshakeState, HandshakeState] {
  const common = { pattern: "NNpsk0", cipher: AES128CBCHS256, prologue: EMPTY, psk: PSK } as const;
  return [
    new HandshakeState({ ...common, initiator: true, ...initiatorOptions }),
    new HandshakeState({ ...common, initiator: false, ...responderOptions }),
  ];
}

test("two ends with one psk agree on fresh keys through two messages of 64 bytes", () => {
  const keys = [1, 2].map(() => {
    const [client, server] = pair();
    const first = client.writeMessage(EMPTY);
    assert.deepEqual(server.readMessage(first), EMPTY);
    const second = server.writeMessage(EMPTY);
    assert.deepEqual(client.readMessage(second), EMPTY);
    assert.deepEqual([first.length, second.length], [64, 64]);
    const { sendKey, receiveKey } = client.split();
    assert.deepEqual(server.split().receiveKey, sendKey);
    assert.deepEqual(server.split().sendKey, receiveKey);
    assert.notDeepEqual(sendKey, receiveKey);
    return sendKey;
  });
  assert.notDeepEqual(keys[0], keys[1]);
});

test("another psk or another prologue is refused at the first message", () => {
  for (const options of [{ psk: new Uint8Array(32) }, { prologue: new Uint8Array(1) }]) {
    const [client, server] = pair(options);
    assert.throws(() => server.readMessage(client.writeMessage(EMPTY)), FAILED);
  }
});

test("a handshake message with any bit changed, cut short or made longer is refused", () => {
  const length = pair()[0].writeMessage(EMPTY).length;
  for (let index = 0; index < length; index++) {
    const [client, server] = pair();
    const message = client.writeMessage(EMPTY);
    message[index]! ^= 0x80;
    assert.throws(() => server.readMessage(message), FAILED, `byte ${index}`);
    const [other, otherServer] = pair();
    assert.throws(
      () => otherServer.readMessage(other.writeMessage(EMPTY).subarray(0, index)),
      FAILED,
    );
  }
  const [client, server] = pair();
  const message = new Uint8Array(length + 1);
  message.set(client.writeMessage(EMPTY));
  assert.throws(() => server.readMessage(message), FAILED);
});

test("a server's answer with any bit changed is refused by the client", () => {
  for (let index = 0; index < 64; index++) {
    const [client, server] = pair();
    server.readMessage(client.writeMessage(EMPTY));
    const answer = server.writeMessage(EMPTY);
    answer[index]! ^= 0x01;
    assert.throws(() => client.readMessage(answer), FAILED, `byte ${index}`);
  }
});

test("an ephemeral key of small order is refused, even from an end that holds the psk", () => {
  const client = new HandshakeState({
    pattern: "NN",
    cipher: AES128CBCHS256,
    initiator: true,
    prologue: EMPTY,
  });
  client.writeMessage(EMPTY);
  assert.throws(() => client.readMessage(new Uint8Array(64)), FAILED);
  assert.throws(() => sharedSecret(importPair(PSK).privateKey, ALL_ZERO), FAILED);
});

test("nothing more is done with a handshake that failed, is complete, or out of turn", () => {
  const [client, server] = pair();
  assert.throws(() => client.readMessage(new Uint8Array(64)), TypeError);
  assert.throws(() => server.writeMessage(EMPTY), TypeError);
  assert.throws(() => client.split(), TypeError);
  const first = client.writeMessage(EMPTY);
  const broken = first.slice();
  broken[0]! ^= 1;
  assert.throws(() => server.readMessage(broken), FAILED);
  assert.throws(() => server.readMessage(first), TypeError);
  assert.throws(() => server.writeMessage(EMPTY), TypeError);
  assert.equal(server.complete, false);
});
