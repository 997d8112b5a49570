/**
 * Pairing: gives a client the server's key file. The two share nothing beforehand but a short code,
 * which one person tells the other. docs/protocol/aes_channel.md ("Pairing") specifies every
 * byte.
 *
 *     client                                        server
 *     "SEALPAR1"                            →
 *                                           ←       status, sid
 *     Ya                                    →
 *                                           ←       Yb
 *     Noise message 1: the confirmation     →
 *                                           ←       status, Noise message 2, the sealed key file
 *     a sealed empty text: "I have it"      →
 *
 * CPace makes a strong key from the code. That key is the psk of a Noise handshake. The client
 * proves in the first Noise message that it knows the code. Before that, the server sends nothing
 * that depends on the key. A client that does not know the code learns only that its one try was
 * wrong.
 *
 * Only a wrong confirmation burns a code, and then there is a new one. A client that stops earlier
 * has learned nothing, so the code stays good. The key file is sent at most once for a code.
 */
import { randomBytes } from "node:crypto";
import { hkdf } from "@noble/hashes/hkdf.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { concatBytes, utf8ToBytes } from "@noble/hashes/utils.js";
import { KEY_FILE_BYTES } from "../../aes_utils.ts";
import { isSealwireError, SealwireError } from "../../base/errors.ts";
import type { Connection } from "../../net/net.ts";
import { ByteReader } from "../channel/byte_reader.ts";
import { AES128CBCHS256, sealedBytes } from "../channel/cbc_hs256.ts";
import { makeShare, POINT_BYTES, sessionKey, sharedPoint } from "./cpace.ts";
import { withHandshakeTimeout } from "../channel/handshake.ts";
import { HandshakeState, NOISE_KEY_BYTES } from "../channel/noise.ts";
import type { PairingOffer } from "./pairing_code.ts";

/** The first bytes that a client sends to pair. */
export const PAIRING_PROLOGUE: Uint8Array = utf8ToBytes("SEALPAR1");

/** The channel identifier (CI) for CPace. */
export const PAIRING_CHANNEL_ID: Uint8Array = utf8ToBytes("sealwire-pair/1");

/**
 * How long one client may keep the server from pairing with others. No person is waited for: the
 * code was typed before.
 */
const PAIRING_TIMEOUT_MS = 2_000;

/** The byte with which the server begins each answer except Yb. */
const STATUS = { ok: 0, busy: 1, closed: 2, wrong_code: 3 } as const;

const PSK_INFO = utf8ToBytes("sealwire-pair psk");
const NONE = new Uint8Array(0);

const SID_BYTES = 16;
const STATUS_BYTES = 1;
const HANDSHAKE_MESSAGE_BYTES = NOISE_KEY_BYTES + sealedBytes(0);

/** The number of the one text that each end seals after the handshake. */
const TEXT_NUMBER = 0n;
/** Its associated data: the number as u64 BE, as in a record. */
const TEXT_AD = new Uint8Array(8);

/**
 * Runs the server's side, after {@linkcode PAIRING_PROLOGUE} was read through `reader`. Resolves
 * when the client has confirmed that it stored `key` (the 32 bytes of the key file). `offer` is
 * null where the server offers no code.
 *
 * The connection is ended in any case, within 2 s. A client that was refused and does not end it has
 * another 10 s.
 *
 * @throws {SealwireError} `pairing_closed` where no offer is open; `pairing_busy` while another
 * connection is pairing; `pairing_wrong_code`, which burns the offer; `pairing_unconfirmed` where
 * the key was sent and the client did not confirm it; `handshake_failed`, `timeout`,
 * `connection_lost`.
 */
export async function servePairing(
  connection: Connection,
  reader: ByteReader,
  offer: PairingOffer | null,
  key: Uint8Array,
): Promise<void> {
  try {
    if (offer?.state !== "open") {
      throw refusal("closed", "a client asked to pair, but no pairing code is open");
    }
    if (!offer.reserve()) {
      throw refusal("busy", "a client asked to pair while another one was at it");
    }
    await withHandshakeTimeout(connection, async () => {
      const handshake = await takeConfirmation(connection, reader, offer);
      await deliverKey(connection, reader, handshake, key);
    }, PAIRING_TIMEOUT_MS).finally(() => offer.release());
  } catch (error) {
    await sendRefusal(connection, error);
    throw error;
  } finally {
    connection.destroy();
  }
}

/** Runs CPace and checks the client's confirmation, which proves that it knows the code. */
async function takeConfirmation(
  connection: Connection,
  reader: ByteReader,
  offer: PairingOffer,
): Promise<HandshakeState> {
  const sid = new Uint8Array(randomBytes(SID_BYTES));
  const context = { code: utf8ToBytes(offer.code), channel: PAIRING_CHANNEL_ID, sid };
  await connection.write(concatBytes(Uint8Array.of(STATUS.ok), sid));
  const initiatorShare = await readExactly(reader, POINT_BYTES);
  const { scalar, share: responderShare } = makeShare(context);
  const point = sharedPoint(scalar, initiatorShare);
  const handshake = newHandshake(false, sid, point, { initiatorShare, responderShare });
  await connection.write(responderShare);
  const confirmation = await readExactly(reader, HANDSHAKE_MESSAGE_BYTES);
  if (offer.state !== "open") {
    throw refusal("closed", "a client took too long: the pairing code is past");
  }
  try {
    handshake.readMessage(confirmation);
  } catch (cause) {
    if (!isSealwireError(cause, "handshake_failed")) throw cause;
    offer.end("burnt");
    const message = "a client tried a wrong pairing code, so the code is not valid any more";
    throw refusal("wrong_code", message, cause);
  }
  offer.end("used");
  return handshake;
}

/** Sends the key, and waits until the client confirms it. */
async function deliverKey(
  connection: Connection,
  reader: ByteReader,
  handshake: HandshakeState,
  key: Uint8Array,
): Promise<void> {
  const message = handshake.writeMessage(NONE);
  const { sendKey, receiveKey } = handshake.split();
  const sealedKey = AES128CBCHS256.encrypt(sendKey, TEXT_NUMBER, TEXT_AD, key);
  await connection.write(concatBytes(Uint8Array.of(STATUS.ok), message, sealedKey));
  try {
    const acknowledgement = await readExactly(reader, sealedBytes(0));
    AES128CBCHS256.decrypt(receiveKey, TEXT_NUMBER, TEXT_AD, acknowledgement);
  } catch (cause) {
    const message = "the key was sent to a client that knew the code and did not confirm it";
    throw new SealwireError("pairing_unconfirmed", message, { cause });
  }
}

/**
 * Runs the client's side over a fresh connection, with a code from `parsePairingCode`. Calls
 * `store` with the server's key file (32 bytes) once the server has proven that it knows the code.
 * After `store` has returned, the client confirms to the server that it has the key. The connection
 * is ended in any case, within 10 s.
 *
 * @throws {SealwireError} `pairing_wrong_code`, `pairing_closed`, `pairing_busy`;
 * `server_untrusted` where the server does not know the code; `handshake_failed`, `timeout`,
 * `connection_lost`; what `store` throws.
 */
export async function requestKey(
  connection: Connection,
  code: string,
  store: (key: Uint8Array) => void,
): Promise<void> {
  const reader = new ByteReader(connection);
  try {
    await withHandshakeTimeout(connection, async () => {
      const handshake = await sendConfirmation(connection, reader, code);
      const { key, sendKey } = await receiveKey(reader, handshake);
      store(key);
      await connection.write(AES128CBCHS256.encrypt(sendKey, TEXT_NUMBER, TEXT_AD, NONE));
      await connection.end();
    });
  } finally {
    connection.destroy();
  }
}

/** Runs CPace and sends the confirmation. Returns once the server has accepted it. */
async function sendConfirmation(
  connection: Connection,
  reader: ByteReader,
  code: string,
): Promise<HandshakeState> {
  await connection.write(PAIRING_PROLOGUE);
  await readStatus(reader);
  const sid = await readExactly(reader, SID_BYTES);
  const context = { code: utf8ToBytes(code), channel: PAIRING_CHANNEL_ID, sid };
  const { scalar, share: initiatorShare } = makeShare(context);
  await connection.write(initiatorShare);
  const responderShare = await readExactly(reader, POINT_BYTES);
  const point = sharedPoint(scalar, responderShare);
  const handshake = newHandshake(true, sid, point, { initiatorShare, responderShare });
  await connection.write(handshake.writeMessage(NONE));
  await readStatus(reader);
  return handshake;
}

async function receiveKey(
  reader: ByteReader,
  handshake: HandshakeState,
): Promise<{ key: Uint8Array; sendKey: Uint8Array }> {
  const message = await readExactly(reader, HANDSHAKE_MESSAGE_BYTES);
  const sealedKey = await readExactly(reader, sealedBytes(KEY_FILE_BYTES));
  try {
    handshake.readMessage(message);
  } catch (cause) {
    if (!isSealwireError(cause, "handshake_failed")) throw cause;
    const sentence = "the server does not know the pairing code: it is not the one that showed it";
    throw new SealwireError("server_untrusted", sentence, { cause });
  }
  const { sendKey, receiveKey } = handshake.split();
  return { key: AES128CBCHS256.decrypt(receiveKey, TEXT_NUMBER, TEXT_AD, sealedKey), sendKey };
}

/** The two shares of a pairing, 32 bytes each. */
export interface PairingShares {
  readonly initiatorShare: Uint8Array;
  readonly responderShare: Uint8Array;
}

/**
 * Derives the psk (32 bytes) and the prologue of the handshake after CPace. `point` is CPace's K.
 */
export function handshakeSecrets(
  sid: Uint8Array,
  point: Uint8Array,
  shares: PairingShares,
): { psk: Uint8Array; prologue: Uint8Array } {
  const isk = sessionKey(sid, point, { ...shares, initiatorData: NONE, responderData: NONE });
  return {
    psk: hkdf(sha256, isk, sid, PSK_INFO, NOISE_KEY_BYTES),
    prologue: concatBytes(PAIRING_CHANNEL_ID, sid, shares.initiatorShare, shares.responderShare),
  };
}

function newHandshake(
  initiator: boolean,
  sid: Uint8Array,
  point: Uint8Array,
  shares: PairingShares,
): HandshakeState {
  const secrets = handshakeSecrets(sid, point, shares);
  return new HandshakeState({ pattern: "NNpsk0", cipher: AES128CBCHS256, initiator, ...secrets });
}

type Refusal = Exclude<keyof typeof STATUS, "ok">;

function refusal(status: Refusal, message: string, cause?: unknown): SealwireError {
  return new SealwireError(`pairing_${status}`, message, { cause });
}

/** Tells the client why it was refused, and ends the connection. Ignores other errors. */
async function sendRefusal(connection: Connection, error: unknown): Promise<void> {
  const refusals: Refusal[] = ["busy", "closed", "wrong_code"];
  const status = refusals.find((name) => isSealwireError(error, `pairing_${name}`));
  if (status === undefined) return;
  try {
    await connection.write(Uint8Array.of(STATUS[status]));
    await connection.end();
  } catch (lost) {
    // The client has gone and cannot be told. The caller throws the refusal.
    if (!isSealwireError(lost, "connection_lost")) throw lost;
  }
}

async function readStatus(reader: ByteReader): Promise<void> {
  const [status] = await readExactly(reader, STATUS_BYTES);
  switch (status) {
    case STATUS.ok:
      return;
    case STATUS.busy:
      throw new SealwireError(
        "pairing_busy",
        "the server is pairing with another client: try again",
      );
    case STATUS.closed:
      throw new SealwireError(
        "pairing_closed",
        "the server has no pairing code open: it was used, mistried or not used for ten minutes",
      );
    case STATUS.wrong_code:
      throw new SealwireError(
        "pairing_wrong_code",
        "the code is wrong, and the server takes it no more: ask for a new one",
      );
    default:
      throw new SealwireError(
        "handshake_failed",
        "the other end does not speak the pairing protocol",
      );
  }
}

async function readExactly(reader: ByteReader, size_bytes: number): Promise<Uint8Array> {
  const bytes = await reader.read(size_bytes);
  if (bytes !== null) return bytes;
  throw new SealwireError("connection_lost", "the other end stopped in the middle of pairing");
}
