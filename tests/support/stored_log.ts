/**
 * A log beside its tree, with tiles stored as a database would, and a count of what is read from
 * it.
 */
import { Buffer } from "node:buffer";
import {
  emptyTree,
  type FullTile,
  loadTree,
  type LogTree,
  type ReadHashes,
  type ReadTiles,
} from "../../lib/ledger/tiles.ts";

export class StoredLog {
  tree: LogTree = emptyTree();
  readonly leaves: Uint8Array[] = [];
  readonly tiles = new Map<string, FullTile>();
  /** Round trips for tiles, and the tiles that they brought. */
  reads = 0;
  tilesRead = 0;
  /** Hashes read at each level when the tree was loaded. */
  hashesRead: number[] = [];

  commit(leaves: readonly Uint8Array[]): void {
    const { tree, fullTiles } = this.tree.appended(leaves);
    this.tree = tree;
    this.leaves.push(...leaves);
    for (const tile of fullTiles) this.tiles.set(`${tile.level}/${tile.index}`, tile);
  }

  /** The tree as a restarted server has it: nothing but the edge in memory. */
  async restart(): Promise<void> {
    this.tree = await loadTree({ size: this.tree.size, root: this.tree.root }, this.readHashes);
    this.reads = this.tilesRead = 0;
  }

  readonly readTiles: ReadTiles = (ids) => {
    this.reads++;
    this.tilesRead += ids.length;
    return Promise.resolve(
      ids.map(({ level, index }) => this.tiles.get(`${level}/${index}`)!.hashes),
    );
  };

  readonly readHashes: ReadHashes = (level, start, end) => {
    this.hashesRead[level] = end - start;
    if (level === 0) return Promise.resolve(this.leaves.slice(start, end));
    const roots = Array.from(
      { length: end - start },
      (_, offset) => this.tiles.get(`${level - 1}/${start + offset}`)!.root,
    );
    return Promise.resolve(roots);
  };
}

/** A leaf hash for each index, all different. They need not be hashes of anything. */
export function leafHashes(start: number, end: number): Uint8Array[] {
  return Array.from({ length: end - start }, (_, offset) => {
    const bytes = Buffer.alloc(32, 0xa5);
    bytes.writeDoubleBE(start + offset);
    return new Uint8Array(bytes);
  });
}
