/** The anchor: a database that lacks what was signed is not extended. */
import assert from "node:assert/strict";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Anchor } from "../../lib/ledger/anchor.ts";
import {
  type Checkpoint,
  type Log,
  logOrigin,
  signCheckpoint,
  verifyCheckpoint,
} from "../../lib/ledger/checkpoint.ts";
import { type Entry, type LedgerRollback, parseEntry } from "../../lib/ledger/entry.ts";
import type { LedgerStore } from "../../lib/ledger/store.ts";
import { encodeBase64url } from "../../lib/base/parse.ts";
import { makeSessionKey } from "../../lib/protocol/delegation.ts";
import { EMPTY_ROOT, verifyConsistency } from "../../lib/protocol/merkle.ts";
import { auditFolder } from "../support/audited_ledger.ts";
import { notingCommits } from "../support/failing_store.ts";
import {
  anchorPath,
  copyLedger,
  databasePath,
  keysFolder,
  logKeyOf,
  openAccounts,
  person,
  serverPair,
  temporaryLedger,
} from "../support/fixtures.ts";
import { temporaryFolder } from "../support/support.ts";
import { tamper } from "../support/tamper.ts";
import { grant } from "../support/settle_world.ts";

const bob = person("bob");

function logOf(folder: string): Log {
  const origin = logOrigin(serverPair().publicKey.thumbprint);
  return { origin, publicKey: logKeyOf(folder).publicKey };
}

function anchorOf(folder: string): Checkpoint {
  return verifyCheckpoint(readFileSync(anchorPath(folder), "utf8"), logOf(folder));
}

/** A closed ledger of three entries. */
async function closedLedger(): Promise<string> {
  const { ledger, folder, close } = await temporaryLedger();
  await openAccounts(ledger, bob);
  await close();
  return folder;
}

/** Opens the ledger in `folder`, makes `count` more entries, and closes it. */
async function extend(folder: string, count: number): Promise<Checkpoint> {
  const { ledger, close } = await temporaryLedger(folder);
  for (let made = 0; made < count; made++) await ledger.submit(grant(bob, "1.00"));
  await close();
  return ledger.checkpoint;
}

/** Puts the database of `from`, a copy, in the place of the one in `folder`. */
function restore(folder: string, from: string): void {
  copyFileSync(databasePath(from), databasePath(folder));
}

/** A ledger of 3 entries whose anchor says 5: it was restored from an older copy. */
async function rolledBackLedger(): Promise<{ folder: string; lost: Checkpoint }> {
  const folder = await closedLedger();
  const backup = copyLedger(folder);
  const lost = await extend(folder, 2);
  restore(folder, backup);
  return { folder, lost };
}

function rollbackAt(text: string): Entry<LedgerRollback> {
  const entry = parseEntry(text);
  assert.equal(entry.type, "ledger.rollback");
  return entry as Entry<LedgerRollback>;
}

test("the anchor follows the log within a second, and at once at the end", async () => {
  const { ledger, folder, close } = await temporaryLedger();
  assert.equal(anchorOf(folder).size, 1);
  await openAccounts(ledger, bob);
  for (let waited_ms = 0; anchorOf(folder).size < 3; waited_ms += 100) {
    assert.ok(waited_ms < 5_000, "the anchor stayed behind");
    await sleep(100);
  }
  assert.equal(anchorOf(folder).text, ledger.checkpoint.text);
  await ledger.submit(grant(bob, "1.00"));
  await close();
  assert.equal(anchorOf(folder).text, ledger.checkpoint.text);
});

test("a ledger whose server was killed before it moved the anchor moves it when it starts again", async () => {
  const folder = await closedLedger();
  const before = readFileSync(anchorPath(folder));
  const { text } = await extend(folder, 2);
  writeFileSync(anchorPath(folder), before);
  const { close } = await temporaryLedger(folder);
  assert.equal(anchorOf(folder).text, text);
  await close();
});

test("a database restored from an older copy is refused with what is missing, and not one byte of it changed", async () => {
  const { folder } = await rolledBackLedger();
  const before = readFileSync(databasePath(folder));
  await assert.rejects(temporaryLedger(folder), {
    code: "ledger_rolled_back",
    details: { signed_size: 5, size: 3 },
    message: /5 entries.*--accept-rollback/,
  });
  assert.deepEqual(readFileSync(databasePath(folder)), before);
  assert.equal(anchorOf(folder).size, 5);
});

test("putting back the newest database is as good as if nothing had happened", async () => {
  const folder = await closedLedger();
  const old = copyLedger(folder);
  await extend(folder, 2);
  const newest = copyLedger(folder);
  restore(folder, old);
  await assert.rejects(temporaryLedger(folder), { code: "ledger_rolled_back" });
  restore(folder, newest);
  const { ledger, close } = await temporaryLedger(folder);
  assert.equal(ledger.size, 5);
  await close();
});

test("the operator goes on with what there is: an entry tells what was kept and lost, and the anchor follows", async () => {
  const { folder, lost } = await rolledBackLedger();
  const { ledger, close } = await temporaryLedger(folder, { acceptRollback: true });
  assert.equal(ledger.size, 4);
  assert.equal(anchorOf(folder).text, ledger.checkpoint.text);
  const { keptSize, keptRoot, lostSize, lostRoot } = rollbackAt((await ledger.proveOne(3)).text);
  assert.equal(keptSize, 3);
  assert.equal(keptRoot, encodeBase64url(await ledger.rootAt(3)));
  assert.equal(lostSize, 5);
  assert.equal(lostRoot, encodeBase64url(lost.root));
  await close();
  // From now on nothing need be accepted, and accepting once more adds nothing.
  const next = await temporaryLedger(folder, { acceptRollback: true });
  assert.equal(next.ledger.size, 4);
  await next.close();
  await extend(folder, 3);
  const { explained } = await auditFolder(folder, { expected: [lost] });
  assert.deepEqual(explained, [lost.size]);
});

test("a crash between the rollback's entry and the anchor's move does no harm", async () => {
  const { folder, lost } = await rolledBackLedger();
  await (await temporaryLedger(folder, { acceptRollback: true })).close();
  writeFileSync(anchorPath(folder), lost.text);
  const { ledger, close } = await temporaryLedger(folder);
  assert.equal(ledger.size, 4);
  assert.equal(anchorOf(folder).text, ledger.checkpoint.text);
  await close();
});

test("a second rollback, to before the entry that accepted the first, is refused again", async () => {
  const { folder } = await rolledBackLedger();
  const old = copyLedger(folder);
  await (await temporaryLedger(folder, { acceptRollback: true })).close();
  restore(folder, old);
  await assert.rejects(temporaryLedger(folder), { code: "ledger_rolled_back" });
});

test("a ledger that was extended without its anchor is another history, as long as it may be", async () => {
  const folder = await closedLedger();
  const fork = copyLedger(folder);
  const lost = await extend(folder, 1);
  await extend(fork, 3);
  restore(folder, fork);
  await assert.rejects(temporaryLedger(folder), {
    code: "ledger_rolled_back",
    details: { signed_size: 4, size: 6 },
  });
  const { ledger, close } = await temporaryLedger(folder, { acceptRollback: true });
  const { keptSize, keptRoot, lostSize } = rollbackAt((await ledger.proveOne(6)).text);
  assert.deepEqual([keptSize, lostSize], [0, 4]);
  assert.equal(keptRoot, encodeBase64url(EMPTY_ROOT));
  assert.equal((await ledger.compare(lost)).kind, "rolled_back");
  await close();
  await (await temporaryLedger(folder)).close();
  await auditFolder(folder, { expected: [lost] });
});

test("a ledger that is not empty and has no anchor is refused, and made an anchor when accepted", async () => {
  const folder = await closedLedger();
  rmSync(anchorPath(folder));
  await assert.rejects(temporaryLedger(folder), {
    code: "ledger_rolled_back",
    message: /server_anchor\.txt/,
  });
  assert.ok(!existsSync(anchorPath(folder)));
  const { ledger, close } = await temporaryLedger(folder, { acceptRollback: true });
  // Nobody knows of anything that was lost.
  assert.equal(ledger.size, 3);
  assert.equal(anchorOf(folder).size, 3);
  await close();
});

test("an empty database beside an anchor is refused; when accepted, a new log tells of the lost one", async () => {
  const folder = await closedLedger();
  const lost = anchorOf(folder);
  rmSync(databasePath(folder));
  await assert.rejects(temporaryLedger(folder), {
    code: "ledger_rolled_back",
    details: { signed_size: 3, size: 0 },
  });
  const { ledger, close } = await temporaryLedger(folder, { acceptRollback: true });
  assert.equal(ledger.size, 2);
  const { keptSize, lostSize } = rollbackAt((await ledger.proveOne(1)).text);
  assert.deepEqual([keptSize, lostSize], [0, 3]);
  assert.equal((await ledger.compare(lost)).kind, "rolled_back");
  await close();
  await (await temporaryLedger(folder)).close();
  await auditFolder(folder);
});

test("a new log and what it says of the lost one are one commit, so that no crash comes between them", async () => {
  const folder = await closedLedger();
  rmSync(databasePath(folder));
  const commits: number[] = [];
  const { ledger, close } = await temporaryLedger(folder, {
    acceptRollback: true,
    wrap: (store) => notingCommits(store, commits),
  });
  assert.equal(ledger.size, 2);
  assert.deepEqual(commits, [2]);
  await close();
});

test("an anchor that cannot be written is told to the operator, and the next commit tries again", async () => {
  const { ledger, folder, troubles, close } = await temporaryLedger();
  const away = `${keysFolder(folder)}.away`;
  renameSync(keysFolder(folder), away);
  writeFileSync(keysFolder(folder), "in the way");
  await openAccounts(ledger, bob);
  await ledger.close();
  assert.equal(troubles.length, 1);
  rmSync(keysFolder(folder));
  renameSync(away, keysFolder(folder));
  assert.equal(anchorOf(folder).size, 1);
  await ledger.submit(grant(bob, "1.00"));
  await close();
  assert.equal(anchorOf(folder).size, 4);
});

test("a head deleted from a full database is a rollback, not a new ledger", async () => {
  const folder = await closedLedger();
  tamper(folder, "DELETE FROM head");
  await assert.rejects(temporaryLedger(folder), { code: "ledger_rolled_back" });
});

test("an anchor that cannot be read, or that another key signed, keeps the ledger shut", async () => {
  const folder = await closedLedger();
  const { origin } = anchorOf(folder);
  const forged = signCheckpoint(makeSessionKey(), origin, 1, EMPTY_ROOT);
  for (const text of ["", "x", forged, readFileSync(anchorPath(folder), "utf8").slice(0, -2)]) {
    writeFileSync(anchorPath(folder), text);
    await assert.rejects(temporaryLedger(folder), { code: "bad_checkpoint" }, text);
    await assert.rejects(temporaryLedger(folder, { acceptRollback: true }), {
      code: "bad_checkpoint",
    });
  }
  rmSync(anchorPath(folder));
  mkdirSync(anchorPath(folder));
  await assert.rejects(temporaryLedger(folder), { code: "anchor_unreadable" });
});

test("the anchor never moves backwards, whichever process ends last", async () => {
  const folder = await closedLedger();
  const first = await temporaryLedger(folder);
  const second = await temporaryLedger(folder);
  await first.ledger.submit(grant(bob, "1.00"));
  for (let made = 0; made < 3; made++) await second.ledger.submit(grant(bob, "1.00"));
  await second.close();
  const { text } = anchorOf(folder);
  assert.equal(anchorOf(folder).size, 7);
  await first.close();
  assert.equal(anchorOf(folder).text, text);
});

test("an anchor is replaced by a smaller checkpoint only in place of the one that was lost", () => {
  const folder = temporaryFolder();
  const pair = logKeyOf(folder);
  const log = logOf(folder);
  const made = (size: number) => {
    const text = signCheckpoint(pair, log.origin, size, new Uint8Array(32).fill(size));
    return verifyCheckpoint(text, log);
  };
  const anchor = new Anchor(join(keysFolder(folder), "anchor.txt"), log);
  assert.equal(anchor.read(), null);
  for (const [size, stored] of [[5, 5], [3, 5], [6, 6]] as const) {
    anchor.raise(made(size));
    assert.equal(anchor.read()!.size, stored);
  }
  // Another process has stored 6 meanwhile.
  anchor.replace(made(4), made(5));
  assert.equal(anchor.read()!.size, 6);
  anchor.replace(made(4), made(6));
  assert.equal(anchor.read()!.size, 4);
  anchor.replace(made(7), made(6));
  assert.equal(anchor.read()!.size, 7);
  anchor.remove();
  assert.equal(anchor.read(), null);
  anchor.remove();
  anchor.replace(made(1), null);
  assert.equal(anchor.read()!.size, 1);
});

test("two processes that start at once make one ledger", async () => {
  const folder = temporaryFolder();
  const both = await Promise.all([temporaryLedger(folder), temporaryLedger(folder)]);
  await Promise.all(both.map(({ ledger }) => openAccounts(ledger, bob)));
  const [one, other] = both as [typeof both[0], typeof both[0]];
  await one.ledger.submit(grant(bob, "1.00"));
  await other.ledger.submit(grant(bob, "1.00"));
  const [older, newer] = [one.ledger.checkpoint, other.ledger.checkpoint];
  verifyConsistency(older, newer, await other.ledger.consistency(older.size, newer.size));
  for (const { close } of both) await close();
  assert.equal((await auditFolder(folder)).entries, 5);
});

test("a process that starts while another makes the ledger does not take it for one without an anchor", async () => {
  const folder = temporaryFolder();
  let other: Awaited<ReturnType<typeof temporaryLedger>> | undefined;
  // The other one starts and commits between this one's look at the anchor and its look at the head.
  const slow = (store: LedgerStore): LedgerStore =>
    new Proxy(store, {
      get(target, name) {
        const member: unknown = Reflect.get(target, name);
        if (typeof member !== "function") return member;
        if (name !== "confirmedHead" || other) return member.bind(target);
        return async () => {
          other = await temporaryLedger(folder);
          return await target.confirmedHead();
        };
      },
    });
  const { ledger, close } = await temporaryLedger(folder, { wrap: slow });
  assert.equal(ledger.size, 1);
  await close();
  await other!.close();
});
