/** Accounts for the benches, which share one RSA key: each would cost 0.2 s to make. */
import { encodeBase64url, type Sha256 } from "../lib/base/parse.ts";
import { type AccountName, parseAccountName } from "../lib/keys/rsa.ts";
import {
  type Delegation,
  makeSessionKey,
  type SessionKeyPair,
  signDelegation,
} from "../lib/protocol/delegation.ts";
import { sha256Text, type Token } from "../lib/protocol/token.ts";
import { now_s, rsaPair } from "../tests/support/fixtures.ts";

const CERT = sha256Text("certificate");

export interface Account {
  readonly account: AccountName;
  /** Thumbprint of the key. */
  readonly key: Sha256;
  readonly session: SessionKeyPair;
  readonly delegation: Token<Delegation>;
}

/** `<prefix>-0`, `<prefix>-1` and so on, logged in at `server`. */
export async function makeAccounts(
  prefix: string,
  count: number,
  server: Sha256,
): Promise<Account[]> {
  const pair = rsaPair("everyone");
  return await Promise.all(Array.from({ length: count }, async (_, index) => {
    const account = parseAccountName(`${prefix}-${index}`);
    const session = makeSessionKey();
    const delegation = await signDelegation(pair, {
      account,
      session: session.publicKey,
      server,
      cert: CERT,
      nonce: encodeBase64url(new Uint8Array(32)),
    }, now_s());
    return { account, key: pair.publicKey.thumbprint, session, delegation };
  }));
}
