/** What opening a ledger costs: its edge, and not its length. */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { before, test } from "node:test";
import { encodeBase64url, type Sha256 } from "../../lib/base/parse.ts";
import { deriveSealKey } from "../../lib/keys/log_key.ts";
import { partialRecord } from "../../lib/ledger/commit_record.ts";
import { Seals } from "../../lib/ledger/seal.ts";
import { openSqlite } from "../../lib/ledger/sqlite.ts";
import { emptyTree } from "../../lib/ledger/tiles.ts";
import { hashLeaf, verifyConsistency, verifyInclusion } from "../../lib/protocol/merkle.ts";
import { countingStore, type Reads } from "../support/failing_store.ts";
import {
  anchorPath,
  copyLedger,
  databasePath,
  logKeyOf,
  person,
  temporaryLedger,
} from "../support/fixtures.ts";
import { grant, openClassic } from "../support/settle_world.ts";

const ENTRIES = 100_000;
/**
 * Of the partial tiles: 160 entries, 134 roots of tiles of them, one root of those. And the first
 * entry and the last.
 */
const EDGE = { entries: ENTRIES % 256 + 2, tileRoots: Math.floor(ENTRIES / 256) % 256 + 1 };
const bob = person("bob");

let folder: string;

/** A long log whose entries are any text: only its last ones are read when it is opened. */
before(async () => {
  const first = await temporaryLedger();
  await first.ledger.submit(openClassic(bob.name));
  folder = first.folder;
  const { seal: _, ...head } = (await first.store.head())!;
  const entries = await first.store.entries(0, head.size);
  await first.close();
  const texts = Array.from({ length: ENTRIES - head.size }, (_, at) => `entry ${head.size + at}`);
  const { tree: before } = emptyTree().appended(entries.map(hashLeaf));
  const { tree, fullTiles } = before.appended(texts.map(hashLeaf));
  const seals = new Seals(deriveSealKey(logKeyOf(folder).privateKey));
  const root = encodeBase64url(tree.root) as Sha256;
  const store = openSqlite(databasePath(folder), { create: false });
  await store.transaction((transaction) =>
    transaction.append(
      partialRecord(seals.head({ ...head, size: ENTRIES, root }), {
        firstIndex: head.size,
        entryTexts: texts,
        tiles: fullTiles,
      }),
    )
  );
  await store.close();
});

async function openCounting(at = folder) {
  let reads!: Reads;
  const opened = await temporaryLedger(at, {
    wrap(store) {
      const counting = countingStore(store);
      reads = counting.reads;
      return counting.store;
    },
  });
  return { ...opened, reads };
}

test("opening a ledger of 100,000 entries reads its edge alone", async () => {
  // The first start finds the anchor far behind and links it.
  await (await temporaryLedger(folder)).close();
  const { ledger, reads, close } = await openCounting();
  assert.equal(ledger.size, ENTRIES);
  assert.deepEqual(reads, { ...EDGE, tiles: 0 });
  await close();
});

test("a start that finds the anchor behind reads a few tiles more", async () => {
  const copy = copyLedger(folder);
  const { ledger, close } = await temporaryLedger(copy);
  await ledger.submit(grant(bob, "1.00"));
  await close();
  const { reads, ...second } = await openCounting(copy);
  assert.ok(reads.tiles <= 3, `${reads.tiles} tiles`);
  await second.close();
  rmSync(anchorPath(copy));
  await assert.rejects(temporaryLedger(copy), { code: "ledger_rolled_back" });
});

test("a proof reads a few tiles and the entry, at any depth", async () => {
  const { ledger, reads, close } = await openCounting();
  for (const index of [0, 1, 255, 256, 50_000, 65_535, 65_536, ENTRIES - 257, ENTRIES - 1]) {
    const before = { ...reads };
    const { text, path, checkpoint } = await ledger.proveOne(index);
    verifyInclusion(hashLeaf(text), index, checkpoint, path);
    assert.ok(reads.tiles - before.tiles <= 3, `${reads.tiles - before.tiles} tiles`);
    assert.equal(reads.entries - before.entries, 1);
  }
  for (const size of [1, 300, 65_536, 70_001]) {
    const before = reads.tiles;
    const older = { size, root: await ledger.rootAt(size) };
    const proof = await ledger.consistency(size, ledger.size);
    verifyConsistency(older, ledger.checkpoint, proof);
    assert.ok(reads.tiles - before <= 6, `${reads.tiles - before} tiles`);
  }
  await close();
});

test("what was just committed is proven from memory", async () => {
  const { ledger, reads, close } = await openCounting(copyLedger(folder));
  const outcome = await ledger.submit(grant(bob, "1.00"));
  assert.equal(outcome.state, "settled");
  const before = { ...reads };
  await ledger.proveOne(ENTRIES);
  assert.deepEqual(reads, before);
  await close();
});
