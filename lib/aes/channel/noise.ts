/**
 * The Noise Protocol Framework, revision 34 (noiseprotocol.org/noise.html), with X25519, SHA-256
 * and any cipher. A handshake gives two ends two fresh keys, one for each direction.
 *
 *     const options = { pattern: "NNpsk0", cipher, prologue, psk };
 *     const client = new HandshakeState({ ...options, initiator: true });
 *     send(client.writeMessage(EMPTY));
 *     client.readMessage(await receive());
 *     const { sendKey, receiveKey } = client.split();
 *
 * Section numbers below are those of the specification.
 */
import { hkdf } from "@noble/hashes/hkdf.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { concatBytes, utf8ToBytes } from "@noble/hashes/utils.js";
import { SealwireError } from "../../base/errors.ts";
import { generatePair, importPair, sharedSecret, type X25519Pair } from "./x25519.ts";

/** The cipher functions of section 4.2. Keys have 32 bytes. */
export interface NoiseCipher {
  /** The name as part of a protocol name: `AESGCM`. */
  readonly name: string;
  /** Returns the size of what `encrypt` returns for a plaintext of this size. */
  sealedBytes(plaintext_bytes: number): number;
  encrypt(key: Uint8Array, n: bigint, ad: Uint8Array, plaintext: Uint8Array): Uint8Array;
  /**
   * Decrypts what `encrypt` returned.
   *
   * @throws {SealwireError} `decrypt_failed` where key, `n`, `ad` or bytes differ.
   */
  decrypt(key: Uint8Array, n: bigint, ad: Uint8Array, sealed: Uint8Array): Uint8Array;
}

/** DHLEN and HASHLEN: the size of public keys, shared secrets, psks, keys and hashes. */
export const NOISE_KEY_BYTES = 32;
/** The longest handshake message (section 3). */
export const MESSAGE_BYTES_MAX = 65_535;

export type NoisePattern = keyof typeof PATTERNS;

type Token = "e" | "s" | "ee" | "es" | "se" | "ss" | "psk";

/** Sections 7.4, 7.5 and 9.4. Each list is a message. The initiator sends the first one. */
const PATTERNS = {
  NN: [["e"], ["e", "ee"]],
  NNpsk0: [["psk", "e"], ["e", "ee"]],
  NNpsk2: [["e"], ["e", "ee", "psk"]],
  XX: [["e"], ["e", "ee", "s", "es"], ["s", "se"]],
  XXpsk3: [["e"], ["e", "ee", "s", "es"], ["s", "se", "psk"]],
  KK: [["e", "es", "ss"], ["e", "ee", "se"]],
} as const satisfies Record<string, readonly (readonly Token[])[]>;

/** The patterns in which both ends know the static public keys beforehand. */
const KNOWN_STATICS: ReadonlySet<NoisePattern> = new Set<NoisePattern>(["KK"]);

export interface HandshakeOptions {
  readonly pattern: NoisePattern;
  readonly cipher: NoiseCipher;
  readonly initiator: boolean;
  /** Must be the same at both ends. */
  readonly prologue: Uint8Array;
  /** 32 bytes. Needed where the pattern has a psk. */
  readonly psk?: Uint8Array;
  /** This end's static private key, 32 bytes. Needed where the pattern has static keys. */
  readonly s?: Uint8Array;
  /** The other end's static public key, 32 bytes. Needed where it is known beforehand. */
  readonly rs?: Uint8Array;
  /** This end's ephemeral private key, 32 bytes. For test vectors only. Fresh by default. */
  readonly e?: Uint8Array;
}

/**
 * The result of a handshake: a key for each direction, and a hash of all messages. 32 bytes each.
 */
export interface HandshakeResult {
  readonly sendKey: Uint8Array;
  readonly receiveKey: Uint8Array;
  readonly handshakeHash: Uint8Array;
}

/** Section 5.1. Each text uses the next nonce. */
class CipherState {
  private n = 0n;
  constructor(private readonly cipher: NoiseCipher, private readonly key: Uint8Array) {}

  encrypt(ad: Uint8Array, plaintext: Uint8Array): Uint8Array {
    return this.cipher.encrypt(this.key, this.n++, ad, plaintext);
  }

  decrypt(ad: Uint8Array, sealed: Uint8Array): Uint8Array {
    const plaintext = this.cipher.decrypt(this.key, this.n, ad, sealed);
    this.n++;
    return plaintext;
  }
}

/** Section 5.2. */
class SymmetricState {
  private ck: Uint8Array;
  private cipherState: CipherState | null = null;
  h: Uint8Array;

  constructor(protocolName: string, private readonly cipher: NoiseCipher) {
    const name = utf8ToBytes(protocolName);
    this.h = name.length <= NOISE_KEY_BYTES
      ? concatBytes(name, new Uint8Array(NOISE_KEY_BYTES - name.length))
      : sha256(name);
    this.ck = this.h;
  }

  get hasKey(): boolean {
    return this.cipherState !== null;
  }

  mixKey(ikm: Uint8Array): void {
    const [ck, key] = this.derive(ikm, 2);
    this.ck = ck!;
    this.cipherState = new CipherState(this.cipher, key!);
  }

  mixHash(bytes: Uint8Array): void {
    this.h = sha256(concatBytes(this.h, bytes));
  }

  mixKeyAndHash(ikm: Uint8Array): void {
    const [ck, hash, key] = this.derive(ikm, 3);
    this.ck = ck!;
    this.mixHash(hash!);
    this.cipherState = new CipherState(this.cipher, key!);
  }

  encryptAndHash(plaintext: Uint8Array): Uint8Array {
    const sealed = this.cipherState?.encrypt(this.h, plaintext) ?? plaintext;
    this.mixHash(sealed);
    return sealed;
  }

  decryptAndHash(sealed: Uint8Array): Uint8Array {
    const plaintext = this.cipherState?.decrypt(this.h, sealed) ?? sealed;
    this.mixHash(sealed);
    return plaintext;
  }

  /** The initiator's sending key, then the responder's. */
  split(): [Uint8Array, Uint8Array] {
    const [initiator, responder] = this.derive(new Uint8Array(0), 2);
    return [initiator!, responder!];
  }

  /** Section 4.3: Noise's HKDF is RFC 5869's with ck as the salt and an empty info. */
  private derive(ikm: Uint8Array, count: 2 | 3): Uint8Array[] {
    const output = hkdf(sha256, ikm, this.ck, undefined, count * NOISE_KEY_BYTES);
    return Array.from(
      { length: count },
      (_, i) => output.slice(i * NOISE_KEY_BYTES, (i + 1) * NOISE_KEY_BYTES),
    );
  }
}

/**
 * One end of a handshake (section 5.3). The two ends write messages strictly in turn. After a
 * message was refused, the handshake has failed and every call throws.
 */
export class HandshakeState {
  private readonly symmetric: SymmetricState;
  private readonly s: X25519Pair | null;
  private readonly isPsk: boolean;
  private e: X25519Pair | null = null;
  private rs: Uint8Array | null;
  private re: Uint8Array | null = null;
  private messageIndex = 0;
  private failed = false;

  constructor(private readonly options: HandshakeOptions) {
    const { pattern, cipher, initiator, prologue, psk, s, rs } = options;
    this.isPsk = psk !== undefined;
    if (this.isPsk !== pattern.includes("psk")) throw new TypeError(`${pattern}: psk`);
    if (psk && psk.length !== NOISE_KEY_BYTES) throw new RangeError("a psk has 32 bytes");
    this.symmetric = new SymmetricState(`Noise_${pattern}_25519_${cipher.name}_SHA256`, cipher);
    this.symmetric.mixHash(prologue);
    this.s = s ? importPair(s) : null;
    this.rs = rs ?? null;
    if (!KNOWN_STATICS.has(pattern)) return;
    const own = required(this.s, "s").publicKey;
    const remote = required(this.rs, "rs");
    this.symmetric.mixHash(initiator ? own : remote);
    this.symmetric.mixHash(initiator ? remote : own);
  }

  /** Whether all messages of the pattern were written or read. */
  get complete(): boolean {
    return !this.failed && this.messageIndex === PATTERNS[this.options.pattern].length;
  }

  /**
   * Writes the next message of this end, which carries `payload`.
   *
   * @throws {SealwireError} `handshake_failed` where the other end's key is unusable.
   */
  writeMessage(payload: Uint8Array): Uint8Array {
    return this.step(true, (tokens) => {
      const parts = tokens.map((token) => this.writeToken(token));
      parts.push(this.symmetric.encryptAndHash(payload));
      const message = concatBytes(...parts);
      if (message.length > MESSAGE_BYTES_MAX) throw new RangeError("the message is too long");
      return message;
    });
  }

  /**
   * Reads the next message of the other end. Returns its payload.
   *
   * @throws {SealwireError} `handshake_failed`.
   */
  readMessage(message: Uint8Array): Uint8Array {
    return this.step(false, (tokens) => {
      if (message.length > MESSAGE_BYTES_MAX) throw handshakeFailed("a message is too long");
      let rest = message;
      for (const token of tokens) rest = rest.subarray(this.readToken(token, rest));
      return this.decrypt(rest);
    });
  }

  /** Returns the keys that both ends share after the last message. */
  split(): HandshakeResult {
    if (!this.complete) throw new TypeError("the handshake is not complete");
    const [initiatorKey, responderKey] = this.symmetric.split();
    const { initiator } = this.options;
    return {
      sendKey: initiator ? initiatorKey : responderKey,
      receiveKey: initiator ? responderKey : initiatorKey,
      handshakeHash: this.symmetric.h,
    };
  }

  private step(writing: boolean, run: (tokens: readonly Token[]) => Uint8Array): Uint8Array {
    const tokens = PATTERNS[this.options.pattern][this.messageIndex];
    const ours = (this.messageIndex % 2 === 0) === this.options.initiator;
    if (this.failed || tokens === undefined || ours !== writing) {
      throw new TypeError("the handshake has failed, is complete, or it is the other end's turn");
    }
    this.failed = true;
    const result = run(tokens);
    this.failed = false;
    this.messageIndex++;
    return result;
  }

  private writeToken(token: Token): Uint8Array {
    if (token === "e") {
      this.e = this.options.e ? importPair(this.options.e) : generatePair();
      this.mixEphemeral(this.e.publicKey);
      return this.e.publicKey;
    }
    if (token === "s") return this.symmetric.encryptAndHash(required(this.s, "s").publicKey);
    this.mixSecret(token);
    return new Uint8Array(0);
  }

  /** Returns how many bytes of `message` the token took. */
  private readToken(token: Token, message: Uint8Array): number {
    if (token === "e") {
      this.re = take(message, NOISE_KEY_BYTES);
      this.mixEphemeral(this.re);
      return NOISE_KEY_BYTES;
    }
    if (token === "s") {
      const { cipher } = this.options;
      const size_bytes = this.symmetric.hasKey
        ? cipher.sealedBytes(NOISE_KEY_BYTES)
        : NOISE_KEY_BYTES;
      this.rs = this.decrypt(take(message, size_bytes));
      return size_bytes;
    }
    this.mixSecret(token);
    return 0;
  }

  private mixEphemeral(publicKey: Uint8Array): void {
    this.symmetric.mixHash(publicKey);
    // Section 9.2: with a psk the ephemeral keys are mixed in. No two handshakes then use one key.
    if (this.isPsk) this.symmetric.mixKey(publicKey);
  }

  private mixSecret(token: Exclude<Token, "e" | "s">): void {
    if (token === "psk") return this.symmetric.mixKeyAndHash(required(this.options.psk, "psk"));
    // The first letter is the initiator's key, the second the responder's.
    const [initiators, responders] = token;
    const [own, remote] = this.options.initiator
      ? [initiators, responders]
      : [responders, initiators];
    const pair = required(own === "e" ? this.e : this.s, "own key");
    const publicKey = required(remote === "e" ? this.re : this.rs, "remote key");
    this.symmetric.mixKey(sharedSecret(pair.privateKey, publicKey));
  }

  private decrypt(sealed: Uint8Array): Uint8Array {
    try {
      return this.symmetric.decryptAndHash(sealed);
    } catch (cause) {
      throw handshakeFailed("the other end holds another key, or the messages were changed", cause);
    }
  }
}

function take(message: Uint8Array, size_bytes: number): Uint8Array {
  if (message.length < size_bytes) throw handshakeFailed("a message is too short");
  return message.slice(0, size_bytes);
}

function required<T>(value: T | null | undefined, name: string): T {
  if (value === null || value === undefined) throw new TypeError(`the pattern needs ${name}`);
  return value;
}

function handshakeFailed(reason: string, cause?: unknown): SealwireError {
  return new SealwireError("handshake_failed", `the handshake failed: ${reason}`, { cause });
}
