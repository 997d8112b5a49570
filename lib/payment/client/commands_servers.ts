/** Servers that this keys folder trusts, and evidence about their ledgers. */
import { SealwireError } from "../../base/errors.ts";
import { printable } from "../../base/text.ts";
import { parsePort, usageError } from "../../cli/arguments.ts";
import type { Output } from "../../cli/output.ts";
import { didYouMean } from "../../cli/suggestion.ts";
import { ed25519PublicKey } from "../../keys/ed25519.ts";
import { type KnownServer, KnownServers } from "../../keys/known_keys.ts";
import { certificateFingerprint } from "../../keys/certificate.ts";
import { type AccountName, parseAccountName, parseRsaPublicJwk } from "../../keys/rsa.ts";
import { logOrigin } from "../../ledger/checkpoint.ts";
import type { LedgerRollback } from "../../ledger/entry.ts";
import { formatVerifierKey } from "../../ledger/signed_note.ts";
import { decodeBase64url, encodeBase64 } from "../../base/parse.ts";
import { formatAddress } from "../../net/net.ts";
import {
  clientOptions,
  type CommandContext,
  readInput,
  withCurrentKeys,
} from "./commands_context.ts";
import { contextOf } from "./commands_home.ts";
import type { ClientRun } from "./commands_table.ts";
import { judgeEvidence, judgeReceipts } from "./evidence.ts";
import { keysFolderOf } from "./home.ts";
import { KeptReceipts } from "./kept_receipts.ts";
import { PaymentClient } from "./payer.ts";
import { RememberedCheckpoint } from "./remembered.ts";

export const SERVER_ACTIONS: readonly string[] = ["forget", "accept-rollback"];

/** `servers`, `servers forget <host> <port>` and `servers accept-rollback <host> <port>`. */
export async function manageServers(run: ClientRun<"servers">): Promise<void> {
  const { args: { action, host, port }, values, out } = run;
  const keysFolder = keysFolderOf(values.keys);
  if (action === undefined) return listServers(out, keysFolder);
  if (!SERVER_ACTIONS.includes(action)) {
    throw usageError(
      `servers takes ${SERVER_ACTIONS.join(" or ")}, not "${action}"${
        didYouMean(action, SERVER_ACTIONS)
      }`,
    );
  }
  if (host === undefined || port === undefined) {
    throw usageError(`servers ${action} takes <host> <port>`);
  }
  if (action === "forget") {
    return forgetServer(out, keysFolder, host, parsePort("<port>", port, 1));
  }
  if (values.as === undefined) throw usageError("servers accept-rollback takes --as NAME");
  const context = contextOf({ ...run, args: { host, port } });
  await acceptRollback(context, parseAccountName(values.as));
}

/**
 * Lists the servers: address, fingerprint, the key that other tools verify checkpoints with, newest
 * checkpoint.
 */
function listServers(out: Output, keysFolder: string): void {
  const servers = [...new KnownServers(keysFolder).all()];
  if (servers.length === 0) out.note(`${keysFolder} trusts no server yet`);
  for (const [hostAndPort, server] of servers) {
    const address = addressText(hostAndPort);
    const shown = describeServer(keysFolder, server);
    const lines = [
      `${address}  ${shown.fingerprint}`,
      ...(shown.verifier_key ? [`  verifier key  ${shown.verifier_key}`] : []),
      ...(shown.checkpoint
        ? [`  checkpoint    ${shown.checkpoint.size} entries, root ${shown.checkpoint.root}`]
        : []),
    ];
    out.result({ address, ...shown }, lines.join("\n"));
  }
}

/** An IPv6 host is remembered without brackets, which nobody can read. */
function addressText(hostAndPort: string): string {
  const split = hostAndPort.lastIndexOf(":");
  return printable(
    formatAddress(hostAndPort.slice(0, split), Number(hostAndPort.slice(split + 1))),
  );
}

function describeServer(keysFolder: string, { certificatePem, identity }: KnownServer) {
  if (identity === null) {
    const fingerprint = certificateFingerprint(certificatePem);
    return { fingerprint, verifier_key: null, checkpoint: null };
  }
  const { thumbprint } = parseRsaPublicJwk(identity.serverKey);
  const origin = logOrigin(thumbprint);
  const publicKey = ed25519PublicKey(decodeBase64url(identity.logKey)!, "the log key");
  const checkpoint = new RememberedCheckpoint(keysFolder, thumbprint, { origin, publicKey }).get();
  return {
    fingerprint: thumbprint,
    verifier_key: formatVerifierKey({ name: origin, publicKey }),
    checkpoint: checkpoint && { size: checkpoint.size, root: encodeBase64(checkpoint.root) },
  };
}

function forgetServer(out: Output, keysFolder: string, host: string, port: number): void {
  const address = formatAddress(host, port);
  if (!new KnownServers(keysFolder).forget(host, port)) {
    throw new SealwireError(
      "server_unknown",
      `${address} is not among the servers of ${keysFolder}`,
    );
  }
  out.result(
    { forgotten: address },
    `${address} is forgotten: the next connection asks whether to trust it`,
  );
}

/**
 * Goes on with a server whose operator has put back an older ledger, and lists the receipts of
 * payments that are lost. The operator's own entry must prove the loss.
 */
async function acceptRollback(context: CommandContext, account: AccountName): Promise<void> {
  const { out, keysFolder } = context;
  let lost: LedgerRollback | null = null;
  const client = await withCurrentKeys(context, account, async (keys) =>
    await PaymentClient.open({
      ...clientOptions(context),
      ...keys,
      account,
      acceptRollback(rollback) {
        lost = rollback;
        return true;
      },
    }));
  await client.end();
  if (lost === null) {
    out.result(
      { accepted: false },
      "nothing is lost: the ledger contains all that was seen before",
    );
    return;
  }
  const { keptSize, lostSize } = lost as LedgerRollback;
  const receipts = new KeptReceipts(keysFolder, account).between(keptSize, lostSize)
    .map(({ path }) => path);
  out.result(
    { accepted: true, kept_size: keptSize, lost_size: lostSize, lost_receipts: receipts },
    [
      `accepted: entries ${keptSize} to ${lostSize - 1} are lost`,
      ...receipts.map((path) => `lost payment, with a receipt that proves it: ${path}`),
    ].join("\n"),
  );
}

/** Says what a file of evidence, or a pair of receipts, proves. */
export async function verifyFork(out: Output, path: string, other: string | null): Promise<void> {
  const verdict = other === null
    ? await judgeEvidence(readInput("evidence", path))
    : await judgeReceipts(readInput("receipt", path), readInput("receipt", other));
  const { server } = verdict;
  if (!verdict.proven) {
    const { from, to } = verdict;
    out.result(
      verdict,
      `not proven: ask the operator of ${server} for a consistency proof from ${from} to ${to} entries; ` +
        "a server that cannot give one has rewritten its ledger",
    );
    return;
  }
  const what = "size" in verdict
    ? `two different ledgers of ${verdict.size} entries`
    : `two different entries ${verdict.index}`;
  out.result(verdict, `proven: the server ${server} signed ${what}`);
}
