import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  emptyTree,
  loadTree,
  type LogTree,
  TILE_BYTES,
  TILE_HASHES,
} from "../../lib/ledger/tiles.ts";
import {
  EMPTY_ROOT,
  hashRange,
  verifyConsistency,
  verifyInclusion,
} from "../../lib/protocol/merkle.ts";
import { ReferenceTree, uniformSubtrees } from "../support/reference_tree.ts";
import { refusalOf } from "../support/refusal.ts";
import { leafHashes, StoredLog } from "../support/stored_log.ts";

/**
 * Three levels of tiles: 273 full ones and a partial one at level 0, one and a partial one at level
 * 1.
 */
const SIZE = 70_000;
const REFERENCE = new ReferenceTree(leafHashes(0, SIZE));
const SLOW = { timeout: 60_000 };

/** A log of `size` entries, made in batches of 1 to 1,000. */
function logOf(size: number): StoredLog {
  const log = new StoredLog();
  for (let start = 0, batch = 1; start < size; start += batch, batch = batch * 7 % 1_000 + 1) {
    log.commit(REFERENCE.leaves.slice(start, Math.min(start + batch, size)));
  }
  return log;
}

const LOG = logOf(SIZE);

/** No proof may need more. */
function noReads(): never {
  throw new Error("nothing is to be read");
}

/** Sizes of all magnitudes up to `max`, those at the edges of tiles above all. */
function sizes(max: number): fc.Arbitrary<number> {
  const edge = fc.tuple(fc.nat(Math.floor(max / TILE_HASHES)), fc.integer({ min: -2, max: 2 }))
    .map(([tiles, offset]) => tiles * TILE_HASHES + offset);
  const round = fc.tuple(fc.nat(17), fc.integer({ min: -2, max: 2 }))
    .map(([bits, offset]) => 2 ** bits + offset);
  return fc.oneof(edge, round, fc.nat(max)).map((size) => Math.min(Math.max(size, 0), max));
}

test("the root is RFC 9162's, for every size at the edges of tiles and others", SLOW, () => {
  let tree = emptyTree();
  assert.deepEqual(tree.root, EMPTY_ROOT);
  for (let size = 1; size <= 1_100; size++) {
    tree = tree.appended([REFERENCE.leaves[size - 1]!]).tree;
    assert.equal(tree.size, size);
    assert.deepEqual(tree.root, REFERENCE.root(size), `${size} leaves`);
  }
  assert.deepEqual(LOG.tree.root, REFERENCE.root(SIZE));
});

test("a log of 70,000 fills the tiles that tlog-tiles says, each 8,192 bytes of its hashes", () => {
  const tilesAt = (level: number) => [...LOG.tiles.values()].filter((tile) => tile.level === level);
  assert.deepEqual([0, 1, 2].map((level) => tilesAt(level).length), [273, 1, 0]);
  for (const { level, index, hashes, root } of LOG.tiles.values()) {
    assert.equal(hashes.length, TILE_BYTES);
    const leaves = TILE_HASHES ** level;
    const start = index * TILE_HASHES;
    const ranges = Array.from({ length: TILE_HASHES }, (_, offset) => ({
      start: (start + offset) * leaves,
      end: (start + offset + 1) * leaves,
    }));
    assert.deepEqual(
      hashes,
      Uint8Array.from(REFERENCE.hashes(ranges).flatMap((hash) => [...hash])),
    );
    const whole = { start: start * leaves, end: (start + TILE_HASHES) * leaves };
    assert.deepEqual([root], REFERENCE.hashes([whole]));
  }
});

test("every inclusion proof is RFC 9162's and leads to the root of its size", SLOW, async () => {
  await fc.assert(
    fc.asyncProperty(sizes(SIZE), sizes(SIZE), async (one, other) => {
      const size = Math.max(one, other, 1);
      const index = Math.min(one, other, size - 1);
      const proof = await LOG.tree.inclusionProof(index, size, LOG.readTiles);
      assert.deepEqual(proof, REFERENCE.inclusionProof(index, size));
      const root = await LOG.tree.rootAt(size, LOG.readTiles);
      assert.deepEqual(root, REFERENCE.root(size));
      verifyInclusion(REFERENCE.leaves[index]!, index, { size, root }, proof);
    }),
    { numRuns: 500 },
  );
});

test("every consistency proof is RFC 9162's and links the roots of its sizes", SLOW, async () => {
  await fc.assert(
    fc.asyncProperty(sizes(SIZE), sizes(SIZE), async (one, other) => {
      const [old, newer] = [Math.min(one, other), Math.max(one, other)];
      const proof = await LOG.tree.consistencyProof(old, newer, LOG.readTiles);
      assert.deepEqual(proof, REFERENCE.consistencyProof(old, newer));
      const treeOf = (size: number) => ({ size, root: REFERENCE.root(size) });
      verifyConsistency(treeOf(old), treeOf(newer), proof);
    }),
    { numRuns: 500 },
  );
});

test("many proofs are one round trip, and the same as one by one", async () => {
  const log = logOf(2_000);
  await log.restart();
  const indexes = [1_999, 0, 255, 256, 700, 700];
  const proofs = await log.tree.inclusionProofs(indexes, 2_000, log.readTiles);
  assert.equal(log.reads, 1);
  assert.deepEqual(proofs, indexes.map((index) => REFERENCE.inclusionProof(index, 2_000)));
  assert.deepEqual(await log.tree.inclusionProofs([], 2_000, noReads), []);
});

test("what was appended last is proven without reading, on a log of any age", async () => {
  const log = logOf(60_000);
  await log.restart();
  const known = log.tree.size;
  log.commit(REFERENCE.leaves.slice(known, known + 1_000));
  const indexes = Array.from({ length: 1_000 }, (_, offset) => known + offset);
  const proofs = await log.tree.inclusionProofs(indexes, known + 1_000, noReads);
  assert.deepEqual(proofs, indexes.map((index) => REFERENCE.inclusionProof(index, known + 1_000)));
});

test("a tree that was appended to is as it was, whatever became of the other", SLOW, async () => {
  /** Each step appends so many leaves, of a colour of its own, and keeps the result or drops it. */
  const step = fc.record({ count: fc.integer({ min: 0, max: 300 }), kept: fc.boolean() });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
      const log = new StoredLog();
      const dropped: { tree: LogTree; leaves: Uint8Array[] }[] = [];
      for (const [number, { count, kept }] of steps.entries()) {
        const first = 1_000_000 * (number + 1);
        const leaves = leafHashes(first, first + count);
        if (kept) log.commit(leaves);
        else {dropped.push({
            tree: log.tree.appended(leaves).tree,
            leaves: [...log.leaves, ...leaves],
          });}
      }
      for (const { tree, leaves } of [...dropped, log]) {
        assert.equal(tree.size, leaves.length);
        assert.deepEqual(tree.root, new ReferenceTree(leaves).root(leaves.length));
      }
      const reference = new ReferenceTree(log.leaves);
      const indexes = [...log.leaves.keys()].filter((index) => index % 50 === 0);
      const proofs = await log.tree.inclusionProofs(indexes, log.tree.size, log.readTiles);
      const expected = indexes.map((index) => reference.inclusionProof(index, log.tree.size));
      assert.deepEqual(proofs, expected);
    }),
    { numRuns: 40 },
  );
});

test(
  "a stored log opens as it was and grows on, for sizes at the edges of tiles",
  SLOW,
  async () => {
    for (const size of [0, 1, 255, 256, 257, 511, 512, 1_000, 65_535, 65_536, 65_537, SIZE]) {
      const log = logOf(size);
      await log.restart();
      assert.equal(log.tree.size, size);
      assert.deepEqual(log.tree.root, REFERENCE.root(size));
      log.commit(REFERENCE.leaves.slice(size, size + 300));
      assert.deepEqual(log.tree.root, REFERENCE.root(log.tree.size));
    }
  },
);

test("opening reads the right edge only: at most 255 hashes a level", async () => {
  const log = logOf(SIZE);
  await log.restart();
  // The partial tiles that tlog-tiles names for this very size.
  assert.deepEqual(log.hashesRead, [112, 17, 1]);
});

/** A log of any size, all of whose leaves are the same. */
function uniformLog(size: number) {
  const leaf = new Uint8Array(32).fill(7);
  const hashOf = uniformSubtrees(leaf);
  const hashAt = (level: number) => hashOf({ level: 8 * level, index: 0 });
  const read = { hashes: [] as number[], tiles: [] as number[] };
  return {
    leaf,
    read,
    treeOf: (of: number) => ({ size: of, root: hashRange({ start: 0, end: of }, hashOf) }),
    open(): Promise<LogTree> {
      return loadTree(this.treeOf(size), (level, start, end) => {
        read.hashes.push(end - start);
        return Promise.resolve(Array.from({ length: end - start }, () => hashAt(level)));
      });
    },
    readTiles(ids: readonly { level: number }[]): Promise<Uint8Array[]> {
      read.tiles.push(ids.length);
      const repeated = (hash: Uint8Array) =>
        Uint8Array.from({ length: TILE_BYTES }, (_, at) => hash[at % hash.length]!);
      return Promise.resolve(ids.map(({ level }) => repeated(hashAt(level))));
    },
  };
}

test(
  "a log of 1,000,000 entries, or of 2^53 - 1, opens from its edge and proves anything",
  SLOW,
  async () => {
    for (const size of [1_000_000, Number.MAX_SAFE_INTEGER]) {
      const log = uniformLog(size);
      const tree = await log.open();
      assert.deepEqual(tree.root, log.treeOf(size).root);
      const levels = log.read.hashes.length;
      assert.ok(log.read.hashes.every((count) => count <= 255));
      const index = Math.floor(size / 3);
      const older = size - Math.floor(size / 5);
      const inclusion = await tree.inclusionProof(index, older, log.readTiles);
      verifyInclusion(log.leaf, index, log.treeOf(older), inclusion);
      const consistency = await tree.consistencyProof(index, older, log.readTiles);
      verifyConsistency(log.treeOf(index), log.treeOf(older), consistency);
      for (const count of log.read.tiles) assert.ok(count <= 2 * levels, `${count} tiles`);
      assert.ok(log.read.tiles.length <= 2);
    }
  },
);

test("a tile that was read is not read again", async () => {
  const log = logOf(2_000);
  await log.restart();
  await log.tree.inclusionProof(3, 2_000, log.readTiles);
  assert.deepEqual([log.reads, log.tilesRead], [1, 1]);
  await log.tree.inclusionProof(200, 2_000, noReads);
  log.commit(REFERENCE.leaves.slice(2_000, 2_001));
  await log.tree.consistencyProof(77, 2_001, noReads);
});

test("a stored tile that is not the one that was made is store_damaged", async () => {
  const damage: Record<string, (hashes: Uint8Array) => Uint8Array> = {
    "a bit changed": (hashes) => hashes.with(5_000, hashes[5_000]! ^ 1),
    "cut": (hashes) => hashes.slice(0, -32),
    "padded": (hashes) => Uint8Array.from([...hashes, ...hashes.slice(0, 32)]),
    "empty": () => new Uint8Array(),
    "that of another place": () => LOG.tiles.get("0/7")!.hashes,
  };
  for (const [what, change] of Object.entries(damage)) {
    for (const key of ["0/1", "1/0"]) {
      const log = logOf(66_000);
      await log.restart();
      const tile = log.tiles.get(key)!;
      log.tiles.set(key, { ...tile, hashes: change(tile.hashes) });
      const refusal = await refusalOf(() => log.tree.inclusionProof(300, 66_000, log.readTiles));
      assert.equal(refusal.code, "store_damaged", `${key}: ${what}`);
      assert.match(refusal.message, new RegExp(key));
      // Once it is put back, all is well: nothing damaged was kept.
      log.tiles.set(key, tile);
      const proof = await log.tree.inclusionProof(300, 66_000, log.readTiles);
      assert.deepEqual(proof, REFERENCE.inclusionProof(300, 66_000));
    }
  }
});

test("a store that returns fewer tiles than it was asked for is store_damaged", async () => {
  const log = logOf(2_000);
  await log.restart();
  const refusal = await refusalOf(() =>
    log.tree.inclusionProof(3, 2_000, () => Promise.resolve([]))
  );
  assert.equal(refusal.code, "store_damaged");
});

test("a stored log whose edge does not lead to its root is store_damaged", async () => {
  const { tree, readHashes } = logOf(700);
  const head = { size: 700, root: tree.root };
  const damaged: Record<string, () => Promise<LogTree>> = {
    "another root": () => loadTree({ ...head, root: REFERENCE.root(699) }, readHashes),
    "a smaller size": () => loadTree({ ...head, size: 699 }, readHashes),
    "a leaf too few": () =>
      loadTree(head, async (level, start, end) => (await readHashes(level, start, end)).slice(1)),
    "a hash cut": () =>
      loadTree(head, async (...args) => (await readHashes(...args)).map((hash) => hash.slice(1))),
    "leaves swapped": () =>
      loadTree(head, async (...args) => (await readHashes(...args)).toReversed()),
    "entries where there are none": () => loadTree({ size: 0, root: head.root }, readHashes),
  };
  for (const [what, load] of Object.entries(damaged)) {
    assert.equal((await refusalOf(load)).code, "store_damaged", what);
  }
});

test("asking for what the log never was is a fault of the caller", async () => {
  const { tree } = logOf(10);
  for (const size of [11, -1, 0.5, NaN]) {
    await assert.rejects(tree.rootAt(size, noReads), RangeError);
    await assert.rejects(tree.inclusionProof(0, size, noReads), RangeError);
    await assert.rejects(tree.consistencyProof(0, size, noReads), RangeError);
    await assert.rejects(tree.consistencyProof(size, 10, noReads), RangeError);
  }
  await assert.rejects(tree.inclusionProof(10, 10, noReads), RangeError);
  await assert.rejects(tree.inclusionProof(0, 0, noReads), RangeError);
});
