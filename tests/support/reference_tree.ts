/** RFC 9162's definitions as they are written there, recursion and all: slow, and plainly right. */
import { createHash } from "node:crypto";
import { hashNode, type LeafRange, type Subtree } from "../../lib/protocol/merkle.ts";

function sha256(...parts: Uint8Array[]): Uint8Array {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
}

/** The largest power of two below `count`. */
function split(count: number): number {
  let k = 1;
  while (k * 2 < count) k *= 2;
  return k;
}

/**
 * MTH over leaf hashes (2.1.1). Keeps what it has computed: a tree of 70,000 leaves is asked for
 * often.
 */
export class ReferenceTree {
  readonly #known = new Map<string, Uint8Array>();

  constructor(readonly leaves: readonly Uint8Array[]) {}

  root(size: number): Uint8Array {
    return this.#hash(0, size);
  }

  #hash(start: number, end: number): Uint8Array {
    if (start === end) return sha256();
    if (end - start === 1) return this.leaves[start]!;
    const key = `${start}-${end}`;
    let hash = this.#known.get(key);
    if (hash === undefined) {
      const middle = start + split(end - start);
      hash = sha256(Uint8Array.of(1), this.#hash(start, middle), this.#hash(middle, end));
      this.#known.set(key, hash);
    }
    return hash;
  }

  /** PATH (2.1.3.1). */
  inclusionProof(index: number, size: number): Uint8Array[] {
    return this.#path(index, 0, size);
  }

  #path(index: number, start: number, end: number): Uint8Array[] {
    if (end - start === 1) return [];
    const middle = start + split(end - start);
    return index < middle
      ? [...this.#path(index, start, middle), this.#hash(middle, end)]
      : [...this.#path(index, middle, end), this.#hash(start, middle)];
  }

  /** PROOF (2.1.4.1); from the empty tree it is empty. */
  consistencyProof(oldSize: number, newSize: number): Uint8Array[] {
    return oldSize === 0 ? [] : this.#subproof(oldSize, 0, newSize, true);
  }

  #subproof(oldSize: number, start: number, end: number, whole: boolean): Uint8Array[] {
    if (oldSize === end) return whole ? [] : [this.#hash(start, end)];
    const middle = start + split(end - start);
    return oldSize <= middle
      ? [...this.#subproof(oldSize, start, middle, whole), this.#hash(middle, end)]
      : [...this.#subproof(oldSize, middle, end, false), this.#hash(start, middle)];
  }

  /** The hashes of these ranges. */
  hashes(ranges: readonly LeafRange[]): Uint8Array[] {
    return ranges.map(({ start, end }) => this.#hash(start, end));
  }
}

/**
 * The perfect subtrees of a log all of whose leaves are the same: logs of any size without building
 * them.
 */
export function uniformSubtrees(leaf: Uint8Array): (subtree: Subtree) => Uint8Array {
  const hashes = [leaf];
  return ({ level }) => {
    while (hashes.length <= level) hashes.push(hashNode(hashes.at(-1)!, hashes.at(-1)!));
    return hashes[level]!;
  };
}
