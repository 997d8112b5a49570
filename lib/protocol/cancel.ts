/**
 * A cancel ends a payment id unpaid, for ever. The payer's session key signs it, so nobody else can
 * void a payment.
 */
import { type AccountName, parseAccountName } from "../keys/rsa.ts";
import type { Ed25519KeyPair } from "../keys/ed25519.ts";
import type { Sha256, Uuid } from "../base/parse.ts";
import { CLOCK_LEAD_S_MAX, type Delegation, verifyDelegation } from "./delegation.ts";
import { SealwireError } from "../base/errors.ts";
import { defineToken, parseToken, signToken, type Token, verifyToken } from "./token.ts";

const CANCEL_CHARACTERS_MAX = 1_024;

export interface Cancel {
  /** The payment id that ends. */
  readonly id: Uuid;
  /** Thumbprint of the server that may record it. */
  readonly server: Sha256;
  readonly payer: AccountName;
  readonly iat: number;
}

/** A cancel and the delegation that its signature rests on, both verified against each other. */
export interface SignedCancel {
  readonly cancel: Token<Cancel>;
  readonly delegation: Token<Delegation>;
}

const CANCEL = defineToken<Cancel>({
  name: "cancel",
  alg: "EdDSA",
  typ: "sealwire-cancel+jws",
  characters_max: CANCEL_CHARACTERS_MAX,
  parse(claims) {
    return {
      id: claims.uuid("id"),
      server: claims.sha256("server"),
      payer: parseAccountName(claims.raw("payer")),
      iat: claims.time_s("iat"),
    };
  },
  toJson: ({ id, server, payer, iat }) => ({ id, server, payer, iat }),
});

export function signCancel(cancel: Cancel, session: Ed25519KeyPair): Promise<Token<Cancel>> {
  return signToken(CANCEL, cancel, session.privateKey);
}

/**
 * Parses a cancel with its delegation and verifies both signatures: the delegation under its own
 * key, the cancel under the delegation's session key.
 *
 * @throws {SealwireError} `bad_token`, `bad_name`, `bad_key`, `bad_signature`, and
 * `wrong_delegation` when the two do not belong together.
 */
export async function verifySignedCancel(
  cancelText: unknown,
  delegationText: unknown,
  verify: (text: unknown) => Promise<Token<Delegation>> = verifyDelegation,
): Promise<SignedCancel> {
  const cancel = parseToken(CANCEL, cancelText);
  const delegation = await verify(delegationText);
  const wrong = (why: string) => new SealwireError("wrong_delegation", `the delegation ${why}`);
  const { payer, server, iat } = cancel.claims;
  if (delegation.claims.account !== payer) throw wrong("is by another account than the payer");
  if (delegation.claims.server !== server) throw wrong("is for another server than the cancel");
  if (iat + CLOCK_LEAD_S_MAX < delegation.claims.iat) throw wrong("begins after the cancel");
  await verifyToken(CANCEL, cancel, delegation.claims.session.key);
  return { cancel, delegation };
}
