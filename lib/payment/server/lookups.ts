/** What anybody who is logged in may look up: accounts, who is online, and the ledger's block headers. */
import { SealwireError } from "../../base/errors.ts";
import { type AccountName, parseAccountName } from "../../keys/rsa.ts";
import type { Ledger } from "../../ledger/ledger.ts";
import type { LedgerStore } from "../../ledger/store.ts";
import { formatAmount } from "../../protocol/money.ts";
import type { Members } from "../../base/parse.ts";
import type { Presence } from "./presence.ts";
import type { ServerSession } from "./session.ts";
import { type OnlineRow, PAGE_ROWS_MAX } from "../../protocol/wire.ts";

export class Directory {
  constructor(
    private readonly ledger: Ledger,
    private readonly store: LedgerStore,
    private readonly presence: Presence<ServerSession>,
  ) {}

  list(params: Members): { online: OnlineRow[]; next: string | null } {
    const after = params.has("after") ? parseAccountName(params.raw("after")) : "";
    const online = this.presence.page(after, PAGE_ROWS_MAX);
    return { online, next: online.length === PAGE_ROWS_MAX ? online.at(-1)!.name : null };
  }

  async lookup(params: Members): Promise<object> {
    const name = parseAccountName(params.raw("account"));
    const account = await this.store.account(name);
    if (account === null) throw new SealwireError("unknown_payee", "there is no such payee");
    const proof = await this.ledger.prove(account.openedSeq);
    return { account: name, key: account.jwk, ...proof, presence: this.presence.find(name) };
  }

  async balance(account: AccountName): Promise<{ balance: string }> {
    return { balance: formatAmount((await this.store.account(account))!.balance) };
  }

  async head(): Promise<{ head: string | null }> {
    const { height } = await this.store.head();
    const [head] = await this.store.headers(height, 1);
    return { head: head ?? null };
  }

  async blocks(params: Members): Promise<{ headers: string[] }> {
    const from = params.integer("from", 1, Number.MAX_SAFE_INTEGER);
    return { headers: await this.store.headers(from, PAGE_ROWS_MAX) };
  }
}
