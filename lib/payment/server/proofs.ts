/** Entries with their proofs, as answers. */
import type { Ledger, ProvenEntry } from "../../ledger/ledger.ts";
import { encodeBase64 } from "../../ledger/signed_note.ts";
import { SealwireError } from "../../base/errors.ts";
import type { Members } from "../../base/parse.ts";
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

  /** Entry 0: whose ledger this is. */
  async open({ session }: LoggedIn): Promise<ProofAnswer> {
    return proofAnswer(session, await this.ledger.proveOne(0));
  }

  checkpoint({ session }: LoggedIn): object {
    const { checkpoint } = this.ledger;
    return { size: checkpoint.size, checkpoint: session.checkpointMember(checkpoint) };
  }

  /** From the size that the asker knows to the newest checkpoint. */
  async consistency({ session }: LoggedIn, params: Members): Promise<object> {
    const from = params.integer("from", 0, Number.MAX_SAFE_INTEGER);
    const { checkpoint } = this.ledger;
    if (from > checkpoint.size) {
      throw new SealwireError("unknown_size", `the log has ${checkpoint.size} entries only`);
    }
    const path = await this.ledger.consistency(from, checkpoint);
    return {
      size: checkpoint.size,
      checkpoint: session.checkpointMember(checkpoint),
      path: path.map(encodeBase64),
    };
  }
}
