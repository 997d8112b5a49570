/** One connection at the server, and whose it is. */
import { randomBytes } from "node:crypto";
import { type Delegation, NONCE_BYTES } from "../../protocol/delegation.ts";
import { SealwireError } from "../../base/errors.ts";
import type { AccountName } from "../../keys/rsa.ts";
import { encodeBase64url } from "../../base/parse.ts";
import type { RpcPeer } from "../../rpc/peer.ts";
import type { Listed } from "./presence.ts";
import type { Pushes } from "./notifications.ts";

export class ServerSession implements Listed {
  readonly nonce = encodeBase64url(randomBytes(NONCE_BYTES));
  delegation: Delegation | null = null;
  loginFailures = 0;
  closed = false;
  peer!: RpcPeer;
  pushes!: Pushes;

  /** Of a logged-in session. */
  get account(): AccountName {
    if (this.delegation === null) throw new SealwireError("login_required", "log in first");
    return this.delegation.account;
  }

  notify(method: string, params: object): void {
    this.peer.notify(method, params);
  }

  displace(): void {
    this.notify("session.displaced", {});
    void this.peer.end();
  }
}
