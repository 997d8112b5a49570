/** Replaces the key of an account when its holder asks for it. */
import { setImmediate } from "node:timers";
import { SealwireError } from "../../base/errors.ts";
import type { Members } from "../../base/parse.ts";
import { type AccountName, parseRsaPublicJwk } from "../../keys/rsa.ts";
import type { Ledger } from "../../ledger/ledger.ts";
import { verifyRotation } from "../../protocol/rotation.ts";
import type { ProofAnswer } from "../../protocol/wire.ts";
import type { Presence } from "./presence.ts";
import { proofAnswer } from "./proofs.ts";
import { refusal } from "./refusals.ts";
import type { LoggedIn } from "./session.ts";

export class Rotations {
  constructor(
    private readonly ledger: Ledger,
    private readonly presence: Presence<LoggedIn>,
  ) {}

  /** The entry that made the asker's key current, which a rotation must name. */
  async current({ session, account }: LoggedIn): Promise<ProofAnswer> {
    const stored = await this.ledger.account(account);
    return proofAnswer(session, await this.ledger.proveOne(stored!.keyed));
  }

  /**
   * Gives the asker's account another key. All its sessions end, because their delegations are by
   * the old key.
   */
  async rotate(asker: LoggedIn, params: Members): Promise<ProofAnswer> {
    const stored = await this.ledger.account(asker.account);
    const signed = await verifyRotation(
      params.raw("rotation"),
      params.raw("countersignature"),
      parseRsaPublicJwk(stored?.jwk),
    );
    if (signed.rotation.claims.account !== asker.account) {
      throw new SealwireError("not_a_party", "only its holder may replace an account's key");
    }
    const outcome = await this.ledger.submit({ type: "rotate", signed }, asker.origin);
    if (outcome.state === "refused") throw refusal(outcome.reason);
    if (outcome.state !== "rotated") throw new TypeError(`a rotation ended as ${outcome.state}`);
    try {
      return proofAnswer(asker.session, await this.ledger.proveOne(outcome.index));
    } finally {
      // The sessions end after the asker has the answer.
      setImmediate(() => this.endSessions(asker.account));
    }
  }

  /** Sessions act by the key that they logged in with. */
  endSessions(account: AccountName): void {
    for (const session of [...this.presence.sessionsOf(account)]) session.end();
  }
}
