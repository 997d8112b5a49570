/** Answers what anybody who is logged in may look up: accounts, and who is online. */
import { SealwireError } from "../../base/errors.ts";
import type { Members } from "../../base/parse.ts";
import { type AccountName, parseAccountName } from "../../keys/rsa.ts";
import type { Ledger } from "../../ledger/ledger.ts";
import { formatAmount } from "../../protocol/money.ts";
import { type OnlineRow, PAGE_ROWS_MAX } from "../../protocol/wire.ts";
import type { Directory } from "./directory.ts";
import { proofAnswer } from "./proofs.ts";
import type { LoggedIn } from "./session.ts";

export class Lookups {
  constructor(
    private readonly ledger: Ledger,
    private readonly directory: Directory<LoggedIn>,
  ) {}

  async list(params: Members): Promise<{ online: OnlineRow[]; next: string | null }> {
    const start = params.raw("after") ?? null;
    const after = start === null ? "" : parseAccountName(start);
    const online = await this.directory.page(after, PAGE_ROWS_MAX);
    return { online, next: online.length === PAGE_ROWS_MAX ? online.at(-1)!.name : null };
  }

  /** The entry that made the account's key current proves it. */
  async lookup({ session }: LoggedIn, params: Members): Promise<object> {
    const name = parseAccountName(params.raw("account"));
    const account = await this.ledger.account(name);
    if (account === null) throw new SealwireError("unknown_payee", "there is no such payee");
    const proof = proofAnswer(session, await this.ledger.proveOne(account.keyed));
    const presence = await this.directory.find(name);
    return { account: name, key: account.jwk, ...proof, presence };
  }

  /**
   * How an account's key came from an older one: the entries and tokens of all rotations since,
   * oldest first.
   */
  async keyChain({ session }: LoggedIn, params: Members): Promise<{ rotations: object[] }> {
    const name = parseAccountName(params.raw("account"));
    const known = params.sha256("known");
    const rotations = await this.ledger.keyChain(name, known);
    return {
      rotations: rotations.map(({ proven, oldKey, rotation, countersignature }) => ({
        ...proofAnswer(session, proven),
        old_key: oldKey,
        rotation,
        countersignature,
      })),
    };
  }

  async balance(account: AccountName): Promise<{ balance: string }> {
    const stored = await this.ledger.account(account);
    if (stored === null) throw new SealwireError("unknown_account", "there is no such account");
    return { balance: formatAmount(stored.balance) };
  }
}
