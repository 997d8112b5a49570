/** What the operator runs to move a ledger to another database, and to compare servers after a failover. */
import { resolve } from "node:path";
import { SealwireError } from "../../base/errors.ts";
import { encodeBase64url } from "../../base/parse.ts";
import { usageError } from "../../cli/arguments.ts";
import type { Invocation } from "../../cli/tool.ts";
import { logOrigin } from "../../ledger/checkpoint.ts";
import { watchedClock } from "../../ledger/clock.ts";
import { isMove } from "../../ledger/ledger.ts";
import { moveLedger } from "../../ledger/move_ledger.ts";
import { openAnchor } from "../../ledger/open_ledger.ts";
import { describeTarget, isPostgresUrl, parsePostgresUrl } from "../../ledger/postgres_url.ts";
import type { LedgerStore } from "../../ledger/store.ts";
import { auditStore, openKeys, openStore } from "./commands.ts";
import type { SERVER } from "./commands_table.ts";

/** As the log keeps it, in the entry that ends it in the old database. */
const NAME_CHARACTERS_MAX = 200;

type Run<Name extends keyof typeof SERVER.commands> = Invocation<typeof SERVER, Name>;

/**
 * Moves a ledger to another database. The old one is audited before it is ended, the new one after it was filled. When it is
 * cut off, the same command goes on.
 */
export async function runCopy({ values, out }: Run<"copy">): Promise<void> {
  const { keys } = values;
  if (nameOf(values.from) === nameOf(values.to)) throw usageError("--from and --to are the same");
  const { server, logKey } = await openKeys(keys);
  const from = await openStore(values.from, { create: false });
  try {
    const { size, isMoved } = await stateOf(from);
    // What has gone on elsewhere lacks what the anchor knows.
    if (!isMoved) await auditStore(from, { keys }, out);
    const to = await openStore(values.to, { create: true });
    try {
      const progress = out.progress("copy", size, "entries");
      let copied = 0;
      try {
        await moveLedger({
          from,
          to,
          toName: nameOf(values.to),
          server,
          logKey,
          keysFolder: keys,
          clock: watchedClock(),
          onTrouble: (_code, text) => out.warn(text),
          onProgress: (rows, total) => {
            const done = Math.floor(size * rows / total);
            progress.add(done - copied);
            copied = done;
          },
        });
      } finally {
        progress.finish({ wipe: true });
      }
      const { entries, accounts, root } = await auditStore(to, { keys }, out);
      out.result(
        { copied: entries, to: nameOf(values.to), accounts, root },
        `moved ${entries} entries to ${nameOf(values.to)}, root ${root}\n` +
          "the old database is read from now on, and never extended: start the server with the new one",
      );
    } finally {
      await to.close();
    }
  } finally {
    await from.close();
  }
}

async function stateOf(store: LedgerStore): Promise<{ size: number; isMoved: boolean }> {
  const size = (await store.head())?.size ?? 0;
  const [last] = await store.entries(size - 1, size);
  return { size, isMoved: isMove(last) };
}

/** A database as people are told of it: no password. */
function nameOf(db: string): string {
  const name = isPostgresUrl(db) ? describeTarget(parsePostgresUrl(db)) : resolve(db);
  return name.slice(-NAME_CHARACTERS_MAX);
}

/** Shows the newest checkpoint that the server with these keys has signed or seen. */
export async function runAnchor({ values: { keys }, out }: Run<"anchor">): Promise<void> {
  const { server, logKey: { publicKey } } = await openKeys(keys);
  const anchor = openAnchor(keys, { origin: logOrigin(server), publicKey }).read();
  if (anchor === null) {
    throw new SealwireError(
      "ledger_missing",
      `${keys} has no anchor: no server has run with these keys yet`,
    );
  }
  const { size, text: checkpoint } = anchor;
  const root = encodeBase64url(anchor.root);
  out.result({ size, root, checkpoint }, `${size} entries, root ${root}`);
}
