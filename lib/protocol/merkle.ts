/**
 * Merkle trees over exact texts, as RFC 9162 (Certificate Transparency 2.0) defines them: leaf = SHA-256(0x00 ‖ text),
 * node = SHA-256(0x01 ‖ left ‖ right), an odd node at the end of a level going up as it is (2.1.1).
 */
import { createHash } from "node:crypto";
import { SealwireError } from "../base/errors.ts";
import { decodeBase64url, encodeBase64url, type Sha256 } from "../base/parse.ts";

const LEAF = new Uint8Array([0x00]);
const NODE = new Uint8Array([0x01]);
const HASH_BYTES = 32;
/** Steps in the longest path: trees of up to 2^20 leaves, far above any block or batch. */
export const PATH_STEPS_MAX = 20;

/** All levels of a tree, leaves first, the root alone in the last. */
export type MerkleTree = readonly (readonly Uint8Array[])[];

function hashLeaf(text: string): Uint8Array {
  return createHash("sha256").update(LEAF).update(text, "utf8").digest();
}

function hashNode(left: Uint8Array, right: Uint8Array): Uint8Array {
  return createHash("sha256").update(NODE).update(left).update(right).digest();
}

/** Builds the tree over `texts`, at least one. */
export function merkleTree(texts: readonly string[]): MerkleTree {
  if (texts.length === 0) throw new RangeError("a Merkle tree has at least one leaf");
  let level = texts.map(hashLeaf);
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

export function treeRoot(tree: MerkleTree): Sha256 {
  return encodeBase64url(tree.at(-1)![0]!) as Sha256;
}

export function merkleRoot(texts: readonly string[]): Sha256 {
  return treeRoot(merkleTree(texts));
}

/** The inclusion path of leaf `index`, lowest step first, each 32 bytes as base64url (RFC 9162, 2.1.3.1). */
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
 * The root that a path leads to from leaf `index` of a tree of `count` leaves (RFC 9162, 2.1.3.2).
 *
 * @throws {SealwireError} `bad_path` when the index is outside the tree or a step is missing, left over or no hash.
 */
export function rootFromPath(
  text: string,
  index: number,
  count: number,
  path: readonly string[],
): Sha256 {
  const bad = (why: string) => new SealwireError("bad_path", `the Merkle path ${why}`);
  if (index >= count || index < 0) throw bad("starts outside the tree");
  let fn = index;
  let sn = count - 1;
  let node = hashLeaf(text);
  for (const step of path) {
    const sibling = decodeBase64url(step);
    if (sibling?.length !== HASH_BYTES) throw bad("has a step that is not 32 bytes");
    if (sn === 0) throw bad("has steps left over");
    if (fn % 2 === 1 || fn === sn) {
      node = hashNode(sibling, node);
      while (fn % 2 === 0 && fn !== 0) {
        fn >>= 1;
        sn >>= 1;
      }
    } else {
      node = hashNode(node, sibling);
    }
    fn >>= 1;
    sn >>= 1;
  }
  if (sn !== 0) throw bad("lacks a step");
  return encodeBase64url(node) as Sha256;
}
