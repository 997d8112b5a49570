/** An account's keys: replaced, locked, and kept safe. */
import { isWorthRetrying, SealwireError } from "../../base/errors.ts";
import { printable } from "../../base/text.ts";
import { adoptNextPair, openNextPair } from "../../keys/key_rotation.ts";
import type { AccountName } from "../../keys/rsa.ts";
import { signRotation } from "../../protocol/rotation.ts";
import { type CommandContext, withClient } from "./commands_context.ts";

/** Replaces the account's key. The new one is on disk before the server hears of it. */
export async function rotateKey(context: CommandContext, account: AccountName): Promise<void> {
  const { keysFolder, out } = context;
  await withClient(context, account, async ({ session }, { pair, now_s }) => {
    const next = await openNextPair(keysFolder, account);
    const claims = {
      account,
      server: session.server.thumbprint,
      replaces: await session.keyedAt(),
      iat: now_s(),
    };
    try {
      await session.rotate(await signRotation(pair, next, claims));
    } catch (error) {
      if (!isWorthRetrying(error)) throw error;
      throw new SealwireError(
        "outcome_unknown",
        `it is not known whether the key was replaced (${printable((error as Error).message)}): ` +
          "both keys are kept, and the next command of this account finds out",
        { cause: error },
      );
    }
    adoptNextPair(keysFolder, account);
    const [key, replaced] = [next, pair].map(({ publicKey }) => publicKey.thumbprint);
    out.result(
      { account, key, replaced },
      `${account} has the new key ${key}\nin place of ${replaced}`,
    );
  });
  // Under the new key, so that nobody is told of a new key that does not open the account.
  await withClient(context, account, () => Promise.resolve());
  out.note("every session by the old key has ended. Make a new copy of the keys folder");
}
