/** Makes the parts of answers that prove entries. */
import { explains } from "../../ledger/entry.ts";
import type { Ledger, ProvenEntry } from "../../ledger/ledger.ts";
import { SealwireError } from "../../base/errors.ts";
import { encodeBase64, type Members } from "../../base/parse.ts";
import type { ProofAnswer } from "../../protocol/wire.ts";
import type { LoggedIn, ServerSession } from "./session.ts";

export function proofAnswer(
  session: ServerSession,
  { text, path, checkpoint }: ProvenEntry,
): ProofAnswer {
  return {
    entry: text,
    path: path.map(encodeBase64),
    size: checkpoint.size,
    checkpoint: session.checkpointMember(checkpoint),
  };
}

/** Answers questions about the log itself. */
export class LogAnswers {
  constructor(private readonly ledger: Ledger) {}

  /** Proves entry 0, which says whose ledger this is. */
  async open({ session }: LoggedIn): Promise<ProofAnswer> {
    return proofAnswer(session, await this.ledger.proveOne(0));
  }

  async checkpoint({ session }: LoggedIn): Promise<object> {
    await this.ledger.refresh();
    const { checkpoint } = this.ledger;
    return { size: checkpoint.size, checkpoint: session.checkpointMember(checkpoint) };
  }

  /** Proves consistency from one size to another, or to the newest checkpoint. */
  async consistency({ session }: LoggedIn, params: Members): Promise<object> {
    const { ledger } = this;
    const from = params.integer("from", 0, Number.MAX_SAFE_INTEGER);
    await ledger.refresh();
    const { checkpoint } = ledger;
    const to = params.has("to") ? params.integer("to", 0, Number.MAX_SAFE_INTEGER) : null;
    if (Math.max(from, to ?? 0) > checkpoint.size) {
      throw new SealwireError("unknown_size", `the log has ${checkpoint.size} entries only`);
    }
    if (to !== null && from > to) {
      throw new SealwireError("invalid_params", "params: from must be at most to");
    }
    const path = (await ledger.consistency(from, to ?? checkpoint.size)).map(encodeBase64);
    if (to !== null) return { size: to, path };
    return { size: checkpoint.size, checkpoint: session.checkpointMember(checkpoint), path };
  }

  /**
   * The operator's entry that tells why the log lacks a checkpoint of this size; `entry` null where
   * there is none.
   */
  async rollback({ session }: LoggedIn, params: Members): Promise<object> {
    const size = params.integer("size", 0, Number.MAX_SAFE_INTEGER);
    const proven = await this.ledger.findRollback((rollback) => explains(rollback, { size }));
    return proven === null ? { entry: null } : proofAnswer(session, proven);
  }
}
