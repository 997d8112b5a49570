/**
 * Merkle trees and their proofs, as RFC 9162 (Certificate Transparency 2.0; RFC 6962 is the same)
 * defines them.
 *
 * leaf = SHA-256(0x00 ‖ text), node = SHA-256(0x01 ‖ left ‖ right). The two prefixes keep a node
 * from passing for a leaf (2.1.1). A tree of n > 1 leaves splits at k, the largest power of two
 * below n: the left half is a *perfect* subtree of k leaves, the right half a tree of the other n -
 * k. So a perfect subtree, once full, never changes: it is named by its level (0: leaves) and its
 * index from the left, and covers the leaves from index · 2^level to (index + 1) · 2^level.
 *
 * An **inclusion proof** lists the hashes that lead from a leaf to the root (2.1.3). A
 * **consistency proof** lists those that lead to an older root and to a newer one, and so shows
 * that the newer tree only appended (2.1.4). Both are lists of hashes of leaf ranges: {@linkcode
 * inclusionRanges} and {@linkcode consistencyRanges} name the ranges, and whatever holds the tree
 * (`ledger/tiles.ts`) looks them up.
 *
 * Hashes are `Uint8Array`s of 32 bytes. Sizes and indexes go up to 2^53 - 1, so they are divided,
 * never shifted.
 */
import { createHash } from "node:crypto";
import { SealwireError } from "../base/errors.ts";
import { decodeBase64url, encodeBase64url, type Sha256 } from "../base/parse.ts";

export const HASH_BYTES = 32;
/**
 * Steps in the longest proof that a reader takes: trees of any size that a signed 64-bit number can
 * count.
 */
export const PATH_STEPS_MAX = 63;
const LEAF = new Uint8Array([0x00]);
const NODE = new Uint8Array([0x01]);
/** The root of a tree without leaves: SHA-256 of nothing (2.1.1). */
export const EMPTY_ROOT: Uint8Array = new Uint8Array(createHash("sha256").digest());

/** The hash of a leaf, 32 bytes. A text is hashed as its UTF-8. */
export function hashLeaf(text: string | Uint8Array): Uint8Array {
  const hash = createHash("sha256").update(LEAF);
  if (typeof text === "string") hash.update(text, "utf8");
  else hash.update(text);
  return new Uint8Array(hash.digest());
}

/** The hash over two hashes of 32 bytes each. */
export function hashNode(left: Uint8Array, right: Uint8Array): Uint8Array {
  return new Uint8Array(createHash("sha256").update(NODE).update(left).update(right).digest());
}

/** Whether two hashes are the same. */
export function sameHash(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && left.every((byte, index) => byte === right[index]);
}

/** The leaves from `start` to before `end`. */
export interface LeafRange {
  readonly start: number;
  readonly end: number;
}

/** A perfect subtree: the leaves from `index` · 2^`level` to before (`index` + 1) · 2^`level`. */
export interface Subtree {
  readonly level: number;
  readonly index: number;
}

/**
 * Returns the ranges whose hashes are the inclusion proof of leaf `index` in the tree of `size`
 * leaves, lowest first: PATH of 2.1.3.1. The proof of the only leaf of a tree is empty.
 *
 * @throws {RangeError} when there is no such leaf.
 */
export function inclusionRanges(index: number, size: number): LeafRange[] {
  if (!isSize(size) || !isSize(index) || index >= size) {
    throw new RangeError(`no leaf ${index} in a tree of ${size}`);
  }
  const ranges: LeafRange[] = [];
  let [start, end] = [0, size];
  while (end - start > 1) {
    const middle = start + largestPowerBelow(end - start);
    if (index < middle) {
      ranges.push({ start: middle, end });
      end = middle;
    } else {
      ranges.push({ start, end: middle });
      start = middle;
    }
  }
  return ranges.reverse();
}

/**
 * Returns the ranges whose hashes are the consistency proof from the tree of `oldSize` leaves to
 * that of `newSize`, lowest first: SUBPROOF of 2.1.4.1. Empty from the empty tree, and from a tree
 * to itself.
 *
 * @throws {RangeError} when the old tree is the larger one.
 */
export function consistencyRanges(oldSize: number, newSize: number): LeafRange[] {
  if (!isSize(oldSize) || !isSize(newSize) || oldSize > newSize) {
    throw new RangeError(`a tree of ${newSize} leaves does not grow out of one of ${oldSize}`);
  }
  const ranges: LeafRange[] = [];
  if (oldSize === 0) return ranges;
  let [start, end] = [0, newSize];
  while (end !== oldSize) {
    const middle = start + largestPowerBelow(end - start);
    if (oldSize <= middle) {
      ranges.push({ start: middle, end });
      end = middle;
    } else {
      ranges.push({ start, end: middle });
      start = middle;
    }
  }
  // A range from the left edge is the old root itself, which the verifier has.
  if (start !== 0) ranges.push({ start, end });
  return ranges.reverse();
}

/**
 * The perfect subtrees that a range splits into, left to right. `start` is a multiple of the
 * largest one's leaves.
 */
export function subtreesOf(range: LeafRange): Subtree[] {
  const subtrees: Subtree[] = [];
  let { start } = range;
  while (start < range.end) {
    const level = floorLog2(range.end - start);
    subtrees.push({ level, index: start / 2 ** level });
    start += 2 ** level;
  }
  return subtrees;
}

/**
 * The hash of a range whose perfect subtrees `hashOf` knows; of an empty one {@linkcode
 * EMPTY_ROOT}.
 */
export function hashRange(range: LeafRange, hashOf: (subtree: Subtree) => Uint8Array): Uint8Array {
  const hashes = subtreesOf(range).map(hashOf);
  if (hashes.length === 0) return EMPTY_ROOT;
  return hashes.reduceRight((right, left) => hashNode(left, right));
}

/** The largest power of two below `count`, which is at least 2. */
function largestPowerBelow(count: number): number {
  return 2 ** floorLog2(count - 1);
}

/** Exact up to 2^53 - 1, where `Math.log2` rounds. `value` is at least 1. */
function floorLog2(value: number): number {
  const high = Math.floor(value / 2 ** 32);
  return high > 0 ? 63 - Math.clz32(high) : 31 - Math.clz32(value);
}

function isSize(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

/**
 * The root that an inclusion proof leads to from the hash of leaf `index` in a tree of `size`
 * leaves (2.1.3.2).
 *
 * @throws {SealwireError} `bad_proof` when the index is outside the tree, or a step is missing,
 * left over or not 32 bytes.
 */
export function rootFromInclusionProof(
  leaf: Uint8Array,
  index: number,
  size: number,
  proof: readonly Uint8Array[],
): Uint8Array {
  return climb(leaf, { index, size, proof }, (why) => badProof(`the inclusion proof ${why}`));
}

/**
 * Verifies that the tree of `size` leaves with this root holds, at `index`, the leaf with this
 * hash.
 *
 * @throws {SealwireError} `bad_proof`.
 */
export function verifyInclusion(
  leaf: Uint8Array,
  index: number,
  tree: { readonly size: number; readonly root: Uint8Array },
  proof: readonly Uint8Array[],
): void {
  const root = rootFromInclusionProof(leaf, index, tree.size, proof);
  if (!sameHash(root, tree.root)) throw badProof("the inclusion proof leads to another root");
}

/**
 * Verifies that `newer` is `older` with nothing or something appended (2.1.4.2). Every tree grows
 * out of the empty one, and out of itself: the proof is then empty, and equal sizes have equal
 * roots.
 *
 * @throws {SealwireError} `bad_proof`.
 */
export function verifyConsistency(
  older: { readonly size: number; readonly root: Uint8Array },
  newer: { readonly size: number; readonly root: Uint8Array },
  proof: readonly Uint8Array[],
): void {
  const bad = (why: string) => badProof(`the consistency proof ${why}`);
  if (!isSize(older.size) || !isSize(newer.size)) throw bad("is for no size of a tree");
  if (older.size > newer.size) throw bad("goes from a larger tree to a smaller one");
  const oldRoot = older.size === 0 ? EMPTY_ROOT : older.root;
  if (!sameHash(older.root, oldRoot)) throw bad("starts from an empty tree with a root");
  if (older.size === newer.size || older.size === 0) {
    if (proof.length > 0) throw bad("has steps left over");
    if (older.size === newer.size && !sameHash(older.root, newer.root)) {
      throw bad("is for two trees of one size with different roots");
    }
    return;
  }
  const roots = climbTwice(older, newer.size, proof, bad);
  if (!sameHash(roots.old, older.root)) throw bad("does not lead to the older root");
  if (!sameHash(roots.new, newer.root)) throw bad("does not lead to the newer root");
}

/**
 * Both roots that a consistency proof leads to: steps 1 to 6 of 2.1.4.2, with 0 < `older.size` <
 * `newSize`.
 */
function climbTwice(
  older: { readonly size: number; readonly root: Uint8Array },
  newSize: number,
  proof: readonly Uint8Array[],
  bad: (why: string) => SealwireError,
): { old: Uint8Array; new: Uint8Array } {
  if (!proof.every((step) => step.length === HASH_BYTES)) {
    throw bad("has a step that is not 32 bytes");
  }
  const steps = isPowerOfTwo(older.size) ? [older.root, ...proof] : proof;
  if (steps.length === 0) throw bad("lacks a step");
  let fn = older.size - 1;
  let sn = newSize - 1;
  while (fn % 2 === 1) [fn, sn] = [half(fn), half(sn)];
  let [oldNode, newNode] = [steps[0]!, steps[0]!];
  for (const step of steps.slice(1)) {
    if (sn === 0) throw bad("has steps left over");
    if (fn % 2 === 1 || fn === sn) {
      oldNode = hashNode(step, oldNode);
      newNode = hashNode(step, newNode);
      while (fn % 2 === 0 && fn !== 0) [fn, sn] = [half(fn), half(sn)];
    } else {
      newNode = hashNode(newNode, step);
    }
    [fn, sn] = [half(fn), half(sn)];
  }
  if (sn !== 0) throw bad("lacks a step");
  return { old: oldNode, new: newNode };
}

/** The root that a proof leads to: 2.1.3.2. */
function climb(
  leaf: Uint8Array,
  { index, size, proof }: { index: number; size: number; proof: readonly Uint8Array[] },
  bad: (why: string) => SealwireError,
): Uint8Array {
  if (!isSize(size) || !isSize(index) || index >= size) throw bad("starts outside the tree");
  let fn = index;
  let sn = size - 1;
  let node = leaf;
  for (const step of proof) {
    if (step.length !== HASH_BYTES) throw bad("has a step that is not 32 bytes");
    if (sn === 0) throw bad("has steps left over");
    if (fn % 2 === 1 || fn === sn) {
      node = hashNode(step, node);
      while (fn % 2 === 0 && fn !== 0) [fn, sn] = [half(fn), half(sn)];
    } else {
      node = hashNode(node, step);
    }
    [fn, sn] = [half(fn), half(sn)];
  }
  if (sn !== 0) throw bad("lacks a step");
  return node;
}

function half(value: number): number {
  return Math.floor(value / 2);
}

function isPowerOfTwo(value: number): boolean {
  return value === 2 ** floorLog2(value);
}

function badProof(message: string): SealwireError {
  return new SealwireError("bad_proof", message);
}

/** All levels of a small tree that is kept whole, leaves first, the root alone in the last. */
export type MerkleTree = readonly (readonly Uint8Array[])[];

/**
 * Builds the tree over at least one text. An odd node at the end of a level goes up as it is.
 */
export function merkleTree(texts: readonly string[]): MerkleTree {
  if (texts.length === 0) throw new RangeError("a Merkle tree has at least one leaf");
  let level = texts.map((text) => hashLeaf(text));
  const levels = [level];
  while (level.length > 1) {
    const above: Uint8Array[] = [];
    for (let index = 0; index < level.length; index += 2) {
      const right = level[index + 1];
      above.push(right === undefined ? level[index]! : hashNode(level[index]!, right));
    }
    levels.push(level = above);
  }
  return levels;
}

export function merkleRoot(texts: readonly string[]): Sha256 {
  return encodeBase64url(merkleTree(texts).at(-1)![0]!) as Sha256;
}

/**
 * The inclusion path of leaf `index` of a whole tree, lowest step first, each 32 bytes as base64url
 * (2.1.3.1).
 */
export function merklePath(tree: MerkleTree, index: number): Sha256[] {
  const path: Sha256[] = [];
  let at = index;
  for (const level of tree.slice(0, -1)) {
    const sibling = level[at ^ 1];
    if (sibling !== undefined) path.push(encodeBase64url(sibling) as Sha256);
    at >>= 1;
  }
  return path;
}

/**
 * The root that a path leads to from leaf `index` of a tree of `count` leaves (2.1.3.2).
 *
 * @throws {SealwireError} `bad_path` when the index is outside the tree or a step is missing, left
 * over or no hash.
 */
export function rootFromPath(
  text: string,
  index: number,
  count: number,
  path: readonly string[],
): Sha256 {
  const bad = (why: string) => new SealwireError("bad_path", `the Merkle path ${why}`);
  const proof = path.map((step) => {
    const bytes = decodeBase64url(step);
    if (bytes === null) throw bad("has a step that is not 32 bytes");
    return bytes;
  });
  return encodeBase64url(climb(hashLeaf(text), { index, size: count, proof }, bad)) as Sha256;
}
