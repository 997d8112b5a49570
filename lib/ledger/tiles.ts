/**
 * The ledger's Merkle tree in tiles (C2SP tlog-tiles). The tile at level L, index N holds 256
 * consecutive hashes of the tree, those of the perfect subtrees at tree level 8 · L from 256 · N
 * on; at level 0 they are leaf hashes, above it each is the root of a full tile one level below.
 * Hashing a tile's entries pairwise gives the 255 hashes above them, up to its own root: eight
 * levels of the tree. So a proof needs only a few tiles: two or three in a log of a million
 * entries.
 *
 * A full tile never changes, so it is stored, as 8,192 bytes. The tiles at the right edge, one a
 * level, are partial; they are kept in memory, expanded, and {@linkcode loadTree} rebuilds them at
 * start from at most 255 hashes a level.
 *
 * A {@linkcode LogTree} is a value. Appending gives a new tree and leaves the old one as it was, so
 * a committer appends inside a transaction and drops the result when that is rolled back. The two
 * share their tiles: appending costs the hashing and nothing more.
 *
 * Tiles from the store are verified: the root of each tile must be the hash that its parent tile
 * has for it, up to the edge in memory. So every proof that is given out is right.
 */
import { Buffer } from "node:buffer";
import { BoundedMap } from "../base/bounded_map.ts";
import { SealwireError } from "../base/errors.ts";
import {
  consistencyRanges,
  HASH_BYTES,
  hashNode,
  hashRange,
  inclusionRanges,
  type LeafRange,
  sameHash,
  type Subtree,
  subtreesOf,
} from "../protocol/merkle.ts";

/** Levels of the tree in a tile. */
const TILE_HEIGHT = 8;
export const TILE_HASHES = 2 ** TILE_HEIGHT;
export const TILE_BYTES = TILE_HASHES * HASH_BYTES;
/** The tile's own hashes and all above them. */
const EXPANDED_BYTES = (2 * TILE_HASHES - 1) * HASH_BYTES;
/** Levels of tiles in a log of 2^53 - 1 entries. */
const TILE_LEVELS_MAX = 7;
/** Expanded tiles kept beside the edge: 4 MiB. Expanding one costs 0.35 ms. */
const TILES_CACHED_MAX = 256;

export interface TileId {
  readonly level: number;
  readonly index: number;
}

/** A tile that has become full and is to be stored. */
export interface FullTile extends TileId {
  /** 256 hashes of 32 bytes each, 8,192 bytes. */
  readonly hashes: Uint8Array;
  /** The hash over all of them, 32 bytes: an entry of the tile above. */
  readonly root: Uint8Array;
}

/**
 * Reads the hashes of full tiles, 8,192 bytes each, in the order asked for: all in one round trip.
 */
export type ReadTiles = (tiles: readonly TileId[]) => Promise<readonly Uint8Array[]>;

/**
 * Reads the hashes at a level of tiles, from index `start` to before `end`, 32 bytes each: at level
 * 0 those of the entries (`hashLeaf`), above it the roots of the full tiles one level below.
 */
export type ReadHashes = (
  level: number,
  start: number,
  end: number,
) => Promise<readonly Uint8Array[]>;

/**
 * A tile with all hashes above its own: 256 slots for its hashes, then 128 for those over pairs of
 * them, and so on to its root. Trees that share a tile see its first `width` hashes each; slots
 * once written are never written again.
 */
interface Tile {
  readonly width: number;
  readonly slots: { readonly bytes: Uint8Array; written: number };
}

const EMPTY_TILE: Tile = { width: 0, slots: { bytes: new Uint8Array(), written: TILE_HASHES } };

/**
 * The hash at `height` above a tile's own hashes, at `index` from the left. The result
 * is a view. Do not change it.
 */
function slotAt(bytes: Uint8Array, height: number, index: number): Uint8Array {
  const start = (2 * TILE_HASHES - (2 * TILE_HASHES >> height) + index) * HASH_BYTES;
  return bytes.subarray(start, start + HASH_BYTES);
}

/** Returns the tile with one more hash, and with the hashes above it that this completes. */
function pushHash(tile: Tile, hash: Uint8Array): Tile {
  const slots = tile.slots.written === tile.width ? tile.slots : copySlots(tile);
  slotAt(slots.bytes, 0, tile.width).set(hash);
  let index = tile.width;
  for (let height = 1; index % 2 === 1; height++) {
    const left = slotAt(slots.bytes, height - 1, index - 1);
    const right = slotAt(slots.bytes, height - 1, index);
    index = (index - 1) / 2;
    slotAt(slots.bytes, height, index).set(hashNode(left, right));
  }
  slots.written = tile.width + 1;
  return { width: tile.width + 1, slots };
}

/** Slots of the tile's own, since another tree has written beyond its width. */
function copySlots(tile: Tile): Tile["slots"] {
  const bytes = new Uint8Array(EXPANDED_BYTES);
  bytes.set(tile.slots.bytes);
  return { bytes, written: tile.width };
}

function tileRoot(tile: Tile): Uint8Array {
  return slotAt(tile.slots.bytes, TILE_HEIGHT, 0);
}

function tileOfHashes(hashes: Iterable<Uint8Array>): Tile {
  let tile = EMPTY_TILE;
  for (const hash of hashes) tile = pushHash(tile, hash);
  return tile;
}

function* splitHashes(bytes: Uint8Array): Generator<Uint8Array> {
  for (let start = 0; start < bytes.length; start += HASH_BYTES) {
    yield bytes.subarray(start, start + HASH_BYTES);
  }
}

/**
 * A cache of full tiles, by their roots. It forgets the ones that were used longest ago. A root
 * names one content, so a tile of a transaction that was rolled back does no harm.
 */
class TileCache {
  readonly #tiles = new BoundedMap<string, Tile>(TILES_CACHED_MAX);

  get(root: Uint8Array): Tile | undefined {
    const key = this.#key(root);
    const tile = this.#tiles.get(key);
    if (tile !== undefined) {
      this.#tiles.delete(key);
      this.#tiles.set(key, tile);
    }
    return tile;
  }

  add(tile: Tile): void {
    this.#tiles.set(this.#key(tileRoot(tile)), tile);
  }

  #key(root: Uint8Array): string {
    return Buffer.from(root.buffer, root.byteOffset, root.byteLength).toString("latin1");
  }
}

/** The tree over a log of `size` entries. */
export class LogTree {
  readonly size: number;
  /** The partial tile of each level, lowest first. */
  readonly #edge: readonly Tile[];
  readonly #cache: TileCache;
  #root: Uint8Array | undefined;

  /** For {@linkcode emptyTree} and {@linkcode loadTree}. */
  constructor(size: number, edge: readonly Tile[], cache: TileCache) {
    this.size = size;
    this.#edge = edge;
    this.#cache = cache;
  }

  /** The root, 32 bytes (RFC 9162, 2.1.1). */
  get root(): Uint8Array {
    this.#root ??= hashRange(
      { start: 0, end: this.size },
      (subtree) => this.#edgeHash(subtree),
    );
    return this.#root;
  }

  /**
   * Returns the tree with these leaves appended, 32 bytes each, and the tiles that they fill. This
   * tree stays as it is.
   */
  appended(leafHashes: readonly Uint8Array[]): { tree: LogTree; fullTiles: FullTile[] } {
    const edge = [...this.#edge];
    const fullTiles: FullTile[] = [];
    leafHashes.forEach((leafHash, offset) => {
      const leaves = this.size + offset + 1;
      let hash = leafHash;
      for (let level = 0; level < TILE_LEVELS_MAX; level++) {
        const tile = pushHash(edge[level] ?? EMPTY_TILE, hash);
        edge[level] = tile;
        if (tile.width < TILE_HASHES) break;
        hash = tileRoot(tile).slice();
        const index = leaves / TILE_HASHES ** (level + 1) - 1;
        fullTiles.push({ level, index, hashes: tile.slots.bytes.slice(0, TILE_BYTES), root: hash });
        this.#cache.add(tile);
        edge[level] = EMPTY_TILE;
      }
    });
    return { tree: new LogTree(this.size + leafHashes.length, edge, this.#cache), fullTiles };
  }

  /**
   * The root that the log had when it held `size` entries, 32 bytes.
   *
   * @throws {RangeError} when the log never was that large. {SealwireError} `store_damaged`.
   */
  async rootAt(size: number, readTiles: ReadTiles): Promise<Uint8Array> {
    this.#requireSize(size);
    if (size === this.size) return this.root;
    const [root] = await this.#hashRanges([{ start: 0, end: size }], readTiles);
    return root!;
  }

  /**
   * The inclusion proof of each entry of `indexes` in the tree of `size` entries (RFC 9162,
   * 2.1.3.1), 32 bytes a step. All tiles that are not in memory are read in one round trip. The
   * newest entries need none.
   *
   * @throws {RangeError} when the log never was that large, or there is no such entry.
   * {SealwireError} `store_damaged`.
   */
  async inclusionProofs(
    indexes: readonly number[],
    size: number,
    readTiles: ReadTiles,
  ): Promise<Uint8Array[][]> {
    this.#requireSize(size);
    const proofs = indexes.map((index) => inclusionRanges(index, size));
    const hashes = (await this.#hashRanges(proofs.flat(), readTiles)).values();
    return proofs.map((ranges) => ranges.map(() => hashes.next().value!));
  }

  /** The inclusion proof of one entry: {@linkcode inclusionProofs}. */
  async inclusionProof(index: number, size: number, readTiles: ReadTiles): Promise<Uint8Array[]> {
    const [proof] = await this.inclusionProofs([index], size, readTiles);
    return proof!;
  }

  /**
   * The consistency proof between the trees of two sizes (RFC 9162, 2.1.4.1), 32 bytes a step.
   *
   * @throws {RangeError} when the log never was that large, or `oldSize` is above `newSize`.
   * {SealwireError} `store_damaged`.
   */
  async consistencyProof(
    oldSize: number,
    newSize: number,
    readTiles: ReadTiles,
  ): Promise<Uint8Array[]> {
    this.#requireSize(newSize);
    return await this.#hashRanges(consistencyRanges(oldSize, newSize), readTiles);
  }

  #requireSize(size: number): void {
    if (Number.isSafeInteger(size) && size >= 0 && size <= this.size) return;
    throw new RangeError(`the log has ${this.size} entries, and never had ${size}`);
  }

  async #hashRanges(ranges: readonly LeafRange[], readTiles: ReadTiles): Promise<Uint8Array[]> {
    const tiles = await this.#fullTiles(ranges.flatMap(subtreesOf), readTiles);
    // Many proofs in one tree share the ranges that end at its right edge.
    const known = new Map<string, Uint8Array>();
    return ranges.map((range) => {
      const key = `${range.start}-${range.end}`;
      const hash = known.get(key) ?? hashRange(range, (subtree) => this.#hashOf(subtree, tiles)!);
      known.set(key, hash);
      return hash.slice();
    });
  }

  /**
   * The full tiles that hold these subtrees, and those above them, each proven by the one above it.
   */
  async #fullTiles(
    subtrees: readonly Subtree[],
    readTiles: ReadTiles,
  ): Promise<ReadonlyMap<string, Tile>> {
    const tiles = new Map<string, Tile>();
    const missing: TileId[] = [];
    for (const id of this.#tilesWithParents(subtrees)) {
      const root = this.#rootOf(id, tiles);
      const tile = root && this.#cache.get(root);
      if (tile) tiles.set(keyOf(id), tile);
      else missing.push(id);
    }
    if (missing.length === 0) return tiles;
    const read = await readTiles(missing);
    missing.forEach((id, index) => {
      const tile = this.#provenTile(id, read[index], tiles);
      tiles.set(keyOf(id), tile);
      this.#cache.add(tile);
    });
    return tiles;
  }

  #provenTile(
    id: TileId,
    hashes: Uint8Array | undefined,
    tiles: ReadonlyMap<string, Tile>,
  ): Tile {
    if (hashes?.length === TILE_BYTES) {
      const tile = tileOfHashes(splitHashes(hashes));
      if (sameHash(tileRoot(tile), this.#rootOf(id, tiles)!)) return tile;
    }
    throw storeDamaged(`tile ${id.level}/${id.index} is not the one that the ledger made`);
  }

  /**
   * The ids of the full tiles that hold these subtrees, and of all full tiles above them, highest
   * first.
   */
  #tilesWithParents(subtrees: readonly Subtree[]): TileId[] {
    const ids = new Map<string, TileId>();
    for (const subtree of subtrees) {
      let id = tileOf(subtree);
      while (this.#isFull(id) && !ids.has(keyOf(id))) {
        ids.set(keyOf(id), id);
        id = { level: id.level + 1, index: Math.floor(id.index / TILE_HASHES) };
      }
    }
    return [...ids.values()].sort((one, other) => other.level - one.level);
  }

  #isFull({ level, index }: TileId): boolean {
    return (index + 1) * TILE_HASHES ** (level + 1) <= this.size;
  }

  /** What the root of a full tile must be; undefined when the tile above it is not at hand. */
  #rootOf({ level, index }: TileId, tiles: ReadonlyMap<string, Tile>): Uint8Array | undefined {
    return this.#hashOf({ level: (level + 1) * TILE_HEIGHT, index }, tiles);
  }

  #hashOf(subtree: Subtree, tiles: ReadonlyMap<string, Tile>): Uint8Array | undefined {
    const id = tileOf(subtree);
    if (!this.#isFull(id)) return this.#edgeHash(subtree);
    const tile = tiles.get(keyOf(id));
    return tile && hashInTile(tile, subtree);
  }

  #edgeHash(subtree: Subtree): Uint8Array {
    return hashInTile(this.#edge[tileOf(subtree).level]!, subtree);
  }
}

/** The tile that holds a subtree's hash. */
function tileOf({ level, index }: Subtree): TileId {
  const height = level % TILE_HEIGHT;
  return {
    level: (level - height) / TILE_HEIGHT,
    index: Math.floor(index / 2 ** (TILE_HEIGHT - height)),
  };
}

/** The hash of a subtree in the tile that {@linkcode tileOf} names. */
function hashInTile(tile: Tile, { level, index }: Subtree): Uint8Array {
  const height = level % TILE_HEIGHT;
  return slotAt(tile.slots.bytes, height, index % 2 ** (TILE_HEIGHT - height));
}

function keyOf({ level, index }: TileId): string {
  return `${level}/${index}`;
}

/** The tree of a log without entries. */
export function emptyTree(): LogTree {
  return new LogTree(0, [], new TileCache());
}

/**
 * The tree of a stored log, from the hashes at its right edge: at most 255 a level, one read each.
 *
 * @throws {SealwireError} `store_damaged` when they do not lead to `head.root`.
 */
export async function loadTree(
  head: { readonly size: number; readonly root: Uint8Array },
  readHashes: ReadHashes,
): Promise<LogTree> {
  const edge = await Promise.all(
    edgeRanges(head.size).map(async ({ start, end }, level) => {
      const hashes = start === end ? [] : await readHashes(level, start, end);
      if (hashes.length !== end - start || hashes.some((hash) => hash.length !== HASH_BYTES)) {
        throw storeDamaged(`the ledger lacks hashes of level ${level} from ${start} to ${end}`);
      }
      return tileOfHashes(hashes);
    }),
  );
  const tree = new LogTree(head.size, edge, new TileCache());
  if (sameHash(tree.root, head.root)) return tree;
  throw storeDamaged("the ledger's last entries and tiles do not lead to its root");
}

/** For each level the hashes in its partial tile (tlog-tiles, "Partial Tiles"). */
function edgeRanges(size: number): LeafRange[] {
  const ranges: LeafRange[] = [];
  for (let end = size; end > 0; end = Math.floor(end / TILE_HASHES)) {
    ranges.push({ start: end - end % TILE_HASHES, end });
  }
  return ranges;
}

function storeDamaged(message: string): SealwireError {
  return new SealwireError("store_damaged", message);
}
