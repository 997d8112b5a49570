/**
 * Pairing codes such as `7-cobalt-harbor`: a number from 1 to 99 and two of 256 words. There are 99
 * · 256 · 256 = 6,488,064 codes (22.6 bits). That is enough because nobody can try more than one:
 * CPace reveals nothing with which to try codes elsewhere, and the first wrong code ends the code. A
 * new one takes its place until ten minutes are over. Someone who guesses wrong once a second all
 * that time meets one of 600 codes with a chance of 1 in 10,000, and everyone sees it happen.
 */
import { randomInt } from "node:crypto";
import { SealwireError } from "../../base/errors.ts";
import { PAIRING_WORDS } from "./words.ts";

export const PAIRING_CODE_LIFETIME_MS = 10 * 60 * 1000;
/** The pause between two connections, because each one costs the server some milliseconds. */
export const PAIRING_PAUSE_MS = 1_000;

const CODE_NUMBER_MAX = 99;

/**
 * Brings a code that a person typed into the form that both ends compute with: lower case and
 * single hyphens. Spaces and repeated hyphens count as one hyphen.
 *
 * @throws {SealwireError} `usage` for text that cannot be a code, so that a slip does not cost the
 * only try.
 */
export function parsePairingCode(text: string): string {
  const code = text.trim().toLowerCase().replace(/[\s\p{Pd}]+/gu, "-");
  const [number, ...words] = code.split("-");
  if (!/^[1-9]\d?$/.test(number!) || words.length !== 2) {
    throw new SealwireError(
      "usage",
      "a pairing code is a number and two words, as in 7-cobalt-harbor",
    );
  }
  const unknown = words.find((word) => !PAIRING_WORDS.includes(word));
  if (unknown === undefined) return code;
  throw new SealwireError("usage", `"${unknown}" is not a word of pairing codes: ask for it again`);
}

function makePairingCode(): string {
  const word = () => PAIRING_WORDS[randomInt(PAIRING_WORDS.length)];
  return `${randomInt(1, CODE_NUMBER_MAX + 1)}-${word()}-${word()}`;
}

/**
 * The state of an offer. `used`: the key was sent for it. `burnt`: somebody tried a wrong code.
 * `expired`: ten minutes have passed.
 */
export type PairingOfferState = "open" | "used" | "burnt" | "expired";

/**
 * A code that a server offers. It is good for one client, one wrong try and ten minutes, and for
 * one connection at a time.
 */
export class PairingOffer {
  readonly code: string;
  private ending: "used" | "burnt" | null = null;
  private reserved = false;
  private free_at_ms = -Infinity;
  private readonly expires_at_ms: number;

  /** Makes a fresh code. `now_ms` is the clock. `code` gives a fixed code, for tests. */
  constructor(
    private readonly now_ms: () => number = () => performance.now(),
    code: string = makePairingCode(),
    expires_at_ms: number = now_ms() + PAIRING_CODE_LIFETIME_MS,
  ) {
    this.code = code;
    this.expires_at_ms = expires_at_ms;
  }

  get state(): PairingOfferState {
    return this.ending ?? (this.now_ms() < this.expires_at_ms ? "open" : "expired");
  }

  /**
   * Reserves the offer for a connection. Returns false where another one has it, or just had it.
   */
  reserve(): boolean {
    if (this.reserved || this.now_ms() < this.free_at_ms) return false;
    this.reserved = true;
    return true;
  }

  /** Ends the reservation. */
  release(): void {
    this.reserved = false;
    this.free_at_ms = this.now_ms() + PAIRING_PAUSE_MS;
  }

  /** An offer with a new code in place of one that was burnt. It expires when this one would have. */
  renewed(): PairingOffer {
    const offer = new PairingOffer(this.now_ms, undefined, this.expires_at_ms);
    offer.free_at_ms = this.free_at_ms;
    return offer;
  }

  /** Ends an open offer, because the key is sent for it or a wrong code was tried. */
  end(ending: "used" | "burnt"): void {
    this.ending ??= ending;
  }
}
