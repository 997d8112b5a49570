/**
 * Completes command lines of the client: with its commands, and with names and payments it knows.
 */
import { completeWords, completionScript, SHELL_NAMES } from "../../cli/completions.ts";
import type { Output } from "../../cli/output.ts";
import { KnownPayees } from "../../keys/known_keys.ts";
import { accountInUse } from "./commands_home.ts";
import { SERVER_ACTIONS } from "./commands_servers.ts";
import { CLIENT } from "./commands_table.ts";
import { accountsIn, keysFolderOf } from "./home.ts";
import { KeptReceipts } from "./kept_receipts.ts";
import { Outbox } from "./outbox.ts";

/** The newest payments that are suggested. */
const PAYMENTS_MAX = 100;

/**
 * `completions bash` prints the script; `completions words -- …` prints what the script asks for.
 */
export function printCompletions(
  out: Output,
  called: string,
  { shell, words }: { readonly shell: string; readonly words: readonly string[] },
): Promise<void> {
  if (shell !== "words") {
    const script = completionScript(shell, called);
    out.result({ script }, script);
  } else {
    const found = completeWords(CLIENT, words, candidatesOf);
    if (found.length > 0) out.result({ words: found }, found.join("\n"));
  }
  return Promise.resolve();
}

/** No server is asked: a shell waits for the answer. */
function candidatesOf(name: string, taken: ReadonlyMap<string, string>): readonly string[] | null {
  const keysFolder = keysFolderOf(taken.get("keys"));
  switch (name) {
    case "payee":
    case "with":
      return knownNames(keysFolder);
    case "as":
    case "account-or-host":
      return accountsIn(keysFolder);
    case "payment-id":
      return knownPayments(keysFolder, taken.get("as"));
    case "shell":
      return SHELL_NAMES;
    case "action":
      return SERVER_ACTIONS;
    default:
      return null;
  }
}

/** Everyone who was paid from here, and the accounts whose keys are here. */
export function knownNames(keysFolder: string): string[] {
  try {
    return [...new Set([...new KnownPayees(keysFolder).names(), ...accountsIn(keysFolder)])];
  } catch {
    return accountsIn(keysFolder);
  }
}

/** Ids of payments that an account has receipts of, newest last, and of those under way. */
export function knownPayments(keysFolder: string, as: string | undefined): string[] {
  try {
    const account = accountInUse({ as, keys: keysFolder });
    if (account === null) return [];
    const kept = new KeptReceipts(keysFolder, account).payments().slice(-PAYMENTS_MAX);
    return [...kept, ...new Outbox(keysFolder, account).ids()];
  } catch {
    return [];
  }
}
