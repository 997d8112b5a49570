import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { encodeBase64url, type Sha256 } from "../../lib/base/parse.ts";
import {
  consistencyRanges,
  EMPTY_ROOT,
  hashLeaf,
  hashRange,
  inclusionRanges,
  merklePath,
  merkleRoot,
  merkleTree,
  PATH_STEPS_MAX,
  rootFromInclusionProof,
  rootFromPath,
  verifyConsistency,
  verifyInclusion,
} from "../../lib/protocol/merkle.ts";
import { ReferenceTree, uniformSubtrees } from "../support/reference_tree.ts";
import { vectorTest } from "../support/vectors.ts";

const SIZE_MAX = 130;
const BAD_PATH = { code: "bad_path" };
const BAD_PROOF = { code: "bad_proof" };

function texts(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `entry ${index}`);
}

/** RFC 9162, 2.1.1, as it is written there: split at the largest power of two, recurse. */
function rfcTreeHash(leaves: readonly Uint8Array[]): Uint8Array {
  const sha256 = (...parts: Uint8Array[]) => {
    const hash = createHash("sha256");
    for (const part of parts) hash.update(part);
    return hash.digest();
  };
  if (leaves.length === 1) return sha256(Uint8Array.of(0), leaves[0]!);
  let k = 1;
  while (k * 2 < leaves.length) k *= 2;
  return sha256(Uint8Array.of(1), rfcTreeHash(leaves.slice(0, k)), rfcTreeHash(leaves.slice(k)));
}

/**
 * The tree that Certificate Transparency's implementations test against: its eight leaves and the
 * root of the first n.
 */
const CT_LEAVES = [
  "",
  "00",
  "10",
  "2021",
  "3031",
  "40414243",
  "5051525354555657",
  "606162636465666768696a6b6c6d6e6f",
];
const CT_ROOTS = [
  "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
  "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
  "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
  "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
  "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
  "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
  "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
  "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

test("the tree is Certificate Transparency's: the published roots come out of it", () => {
  // Leaves here are text, and the sixth to eighth of theirs are ASCII anyway. All eight are valid
  // UTF-8.
  const leaves = CT_LEAVES.map((hex) => {
    const bytes = Uint8Array.from(hex.match(/../g) ?? [], (byte) => parseInt(byte, 16));
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    assert.deepEqual(new TextEncoder().encode(text), bytes);
    return text;
  });
  for (const [index, root] of CT_ROOTS.entries()) {
    assert.equal(
      merkleRoot(leaves.slice(0, index + 1)),
      base64urlOfHex(root),
      `${index + 1} leaves`,
    );
  }
});

function base64urlOfHex(hex: string): string {
  return encodeBase64url(Uint8Array.from(hex.match(/../g)!, (byte) => parseInt(byte, 16)));
}

test("the root is RFC 9162's recursive definition, for every size from 1 to 130", () => {
  for (let count = 1; count <= SIZE_MAX; count++) {
    const leaves = texts(count).map((text) => new TextEncoder().encode(text));
    assert.equal(merkleRoot(texts(count)), encodeBase64url(rfcTreeHash(leaves)), `${count} leaves`);
  }
});

test("text that is not ASCII is hashed as its UTF-8", () => {
  const all = ["grüße", "日本", "🙂"];
  const expected = rfcTreeHash(all.map((text) => new TextEncoder().encode(text)));
  assert.equal(merkleRoot(all), encodeBase64url(expected));
});

test("every leaf of every tree of 1 to 130 has a path that leads to the root and to no other leaf", () => {
  for (let count = 1; count <= SIZE_MAX; count++) {
    const leaves = texts(count);
    const tree = merkleTree(leaves);
    const root = merkleRoot(leaves);
    for (let index = 0; index < count; index++) {
      const path = merklePath(tree, index);
      assert.equal(rootFromPath(leaves[index]!, index, count, path), root);
      assert.notEqual(rootFromPath("another entry", index, count, path), root);
    }
  }
});

/** What `rootFromPath` says, as a word: the root, or the code it refuses with. */
function verdict(text: string, index: number, count: number, path: readonly string[]): string {
  try {
    return rootFromPath(text, index, count, path);
  } catch (error) {
    return (error as { code: string }).code;
  }
}

test("a path with a step missing or left over is refused, for every leaf of every tree of 1 to 130", () => {
  for (let count = 1; count <= SIZE_MAX; count++) {
    const leaves = texts(count);
    const tree = merkleTree(leaves);
    for (let index = 0; index < count; index++) {
      const path = merklePath(tree, index);
      const text = leaves[index]!;
      assert.equal(
        verdict(text, index, count, [...path, path[0] ?? merkleRoot(leaves)]),
        "bad_path",
      );
      if (path.length > 0) {
        assert.equal(verdict(text, index, count, path.slice(0, -1)), "bad_path");
        assert.equal(verdict(text, index, count, path.slice(1)), "bad_path");
      }
    }
  }
});

test("a path whose steps are changed or swapped leads elsewhere, for every leaf of every tree of 1 to 40", () => {
  for (let count = 2; count <= 40; count++) {
    const leaves = texts(count);
    const tree = merkleTree(leaves);
    const root = merkleRoot(leaves);
    for (let index = 0; index < count; index++) {
      const path = merklePath(tree, index);
      for (const step of path.keys()) {
        assert.notEqual(verdict(leaves[index]!, index, count, path.with(step, root)), root);
        if (step === 0) continue;
        const swapped = path.with(step, path[step - 1]!).with(step - 1, path[step]!);
        assert.notEqual(verdict(leaves[index]!, index, count, swapped), root);
      }
    }
  }
});

test("an entry proves itself at its own place only", () => {
  for (let count = 2; count <= 40; count++) {
    const leaves = texts(count);
    const tree = merkleTree(leaves);
    const root = merkleRoot(leaves);
    for (let index = 0; index < count; index++) {
      const path = merklePath(tree, index);
      for (let claimed = 0; claimed < count; claimed++) {
        if (claimed === index) continue;
        assert.notEqual(verdict(leaves[index]!, claimed, count, path), root);
      }
    }
  }
});

test("an index outside the tree is refused", () => {
  const path = merklePath(merkleTree(texts(3)), 0);
  for (const index of [-1, 3, 4, 2 ** 31, 2 ** 53 - 1]) {
    assert.throws(() => rootFromPath("entry 0", index, 3, path), BAD_PATH, String(index));
  }
  assert.throws(() => rootFromPath("entry 0", 0, 0, []), BAD_PATH);
});

test("a step that is not canonical base64url of 32 bytes is refused", () => {
  const tree = merkleTree(texts(2));
  const [step] = merklePath(tree, 0) as [Sha256];
  const lastCharacter = step.at(-1)!;
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const sameBytes = alphabet[alphabet.indexOf(lastCharacter) + 1]!;
  const refused = [
    "",
    "AA",
    `${step}=`,
    `${step} `,
    step.slice(0, -1),
    step.slice(0, -1) + sameBytes,
    `${step}A`,
  ];
  for (const changed of refused) {
    assert.throws(() => rootFromPath("entry 0", 0, 2, [changed]), BAD_PATH, changed);
  }
});

test("a large tree's paths stay within the steps that a receipt may have", () => {
  const leaves = texts(2_000);
  const tree = merkleTree(leaves);
  const root = merkleRoot(leaves);
  fc.assert(fc.property(fc.nat(1_999), (index) => {
    const path = merklePath(tree, index);
    assert.ok(path.length <= PATH_STEPS_MAX);
    assert.equal(rootFromPath(leaves[index]!, index, leaves.length, path), root);
  }));
});

test("a tree without a leaf is a fault of the caller", () => {
  assert.throws(() => merkleTree([]), RangeError);
});

/** Of the texts `entry 0`, `entry 1`, … */
const REFERENCE = new ReferenceTree(texts(700).map((text) => hashLeaf(text)));

function treeOf(size: number): { size: number; root: Uint8Array } {
  return { size, root: REFERENCE.root(size) };
}

interface TlogVectors {
  roots: { size: number; root: string }[];
  inclusion: { index: number; size: number; path: string[] }[];
  consistency: { old: number; new: number; proof: string[] }[];
}

function base64(text: string): Uint8Array {
  return Uint8Array.fromBase64(text);
}

vectorTest<TlogVectors>(
  "roots, inclusion and consistency proofs are those that Go's sumdb/tlog makes",
  "tlog.json",
  ({ roots, inclusion, consistency }) => {
    assert.ok(roots.length > 0 && inclusion.length > 0 && consistency.length > 0);
    for (const { size, root } of roots) {
      assert.equal(merkleRoot(texts(size)), encodeBase64url(base64(root)), `${size} leaves`);
    }
    for (const { index, size, path } of inclusion) {
      const proof = path.map(base64);
      assert.deepEqual(REFERENCE.hashes(inclusionRanges(index, size)), proof);
      verifyInclusion(hashLeaf(`entry ${index}`), index, treeOf(size), proof);
    }
    for (const { old, new: newer, proof } of consistency) {
      const steps = proof.map(base64);
      assert.deepEqual(REFERENCE.hashes(consistencyRanges(old, newer)), steps);
      verifyConsistency(treeOf(old), treeOf(newer), steps);
    }
  },
);

test("proofs are RFC 9162's recursive definitions, for every pair of sizes up to 64", () => {
  for (let size = 1; size <= 64; size++) {
    for (let index = 0; index < size; index++) {
      const proof = REFERENCE.hashes(inclusionRanges(index, size));
      assert.deepEqual(proof, REFERENCE.inclusionProof(index, size));
      verifyInclusion(hashLeaf(`entry ${index}`), index, treeOf(size), proof);
    }
    for (let old = 0; old <= size; old++) {
      const proof = REFERENCE.hashes(consistencyRanges(old, size));
      assert.deepEqual(proof, REFERENCE.consistencyProof(old, size));
      verifyConsistency(treeOf(old), treeOf(size), proof);
    }
  }
});

/** An old and a new size, neither of them 0. */
const SIZES = fc.tuple(fc.integer({ min: 1, max: 700 }), fc.integer({ min: 1, max: 700 }))
  .map(([one, other]) => ({ old: Math.min(one, other), new: Math.max(one, other) }));

function withByteChanged(proof: readonly Uint8Array[], position: number): Uint8Array[] {
  const step = Math.floor(position / 32) % proof.length;
  const changed = proof[step]!.slice();
  changed[position % 32]! ^= 1;
  return proof.with(step, changed);
}

test("a consistency proof that is cut, padded, changed or for other sizes is refused", () => {
  fc.assert(fc.property(SIZES, fc.nat(), fc.integer({ min: 1, max: 700 }), (sizes, at, other) => {
    const [older, newer] = [treeOf(sizes.old), treeOf(sizes.new)];
    const proof = REFERENCE.consistencyProof(sizes.old, sizes.new);
    const refused = (...args: Parameters<typeof verifyConsistency>) =>
      assert.throws(() => verifyConsistency(...args), BAD_PROOF);
    refused(older, newer, [...proof, older.root]);
    refused(older, newer, [older.root, ...proof]);
    if (sizes.old === sizes.new) return;
    refused(older, newer, proof.slice(1));
    refused(older, newer, proof.slice(0, -1));
    refused(older, newer, []);
    refused(older, newer, withByteChanged(proof, at));
    refused(older, newer, proof.with(0, proof[0]!.slice(0, -1)));
    refused(newer, older, proof);
    refused({ ...older, root: newer.root }, newer, proof);
    refused(older, { ...newer, root: older.root }, proof);
    if (other !== sizes.old) refused({ ...older, size: other }, newer, proof);
    if (other !== sizes.old) refused(treeOf(other), newer, proof);
    if (other !== sizes.new) refused(older, treeOf(other), proof);
  }));
});

test("an inclusion proof that is cut, padded, changed or for another place is refused", () => {
  fc.assert(fc.property(SIZES, fc.nat(), fc.nat(699), (sizes, at, other) => {
    const index = sizes.old - 1;
    const leaf = hashLeaf(`entry ${index}`);
    const tree = treeOf(sizes.new);
    const proof = REFERENCE.inclusionProof(index, sizes.new);
    const refused = (...args: Parameters<typeof verifyInclusion>) =>
      assert.throws(() => verifyInclusion(...args), BAD_PROOF);
    verifyInclusion(leaf, index, tree, proof);
    refused(leaf, index, tree, [...proof, tree.root]);
    refused(leaf, sizes.new, tree, proof);
    refused(hashLeaf("another"), index, tree, proof);
    if (other !== index) refused(leaf, other, tree, proof);
    if (other + 1 !== sizes.new) refused(leaf, index, treeOf(other + 1), proof);
    if (proof.length === 0) return;
    refused(leaf, index, tree, proof.slice(1));
    refused(leaf, index, tree, proof.slice(0, -1));
    refused(leaf, index, tree, withByteChanged(proof, at));
    refused(leaf, index, tree, proof.with(0, new Uint8Array(33)));
  }));
});

test("every tree grows out of the empty one, by an empty proof and no other", () => {
  const empty = treeOf(0);
  assert.deepEqual(empty.root, EMPTY_ROOT);
  for (const size of [0, 1, 2, 255, 700]) {
    assert.deepEqual(consistencyRanges(0, size), []);
    verifyConsistency(empty, treeOf(size), []);
    const stuffed = () => verifyConsistency(empty, treeOf(size), [EMPTY_ROOT]);
    assert.throws(stuffed, BAD_PROOF);
  }
  const rooted = { size: 0, root: REFERENCE.root(1) };
  assert.throws(() => verifyConsistency(rooted, treeOf(1), []), BAD_PROOF);
  assert.throws(() => verifyConsistency(rooted, rooted, []), BAD_PROOF);
});

test("two trees of one size with different roots are refused", () => {
  const other = { size: 7, root: REFERENCE.root(8) };
  assert.throws(() => verifyConsistency(treeOf(7), other, []), BAD_PROOF);
});

test("no number but a size is one: negative, fractional, above 2^53 - 1", () => {
  for (const size of [-1, 0.5, NaN, Infinity, 2 ** 53]) {
    const tree = { size, root: EMPTY_ROOT };
    assert.throws(() => verifyConsistency(tree, treeOf(7), []), BAD_PROOF);
    assert.throws(() => verifyConsistency(treeOf(7), tree, []), BAD_PROOF);
    assert.throws(() => verifyInclusion(EMPTY_ROOT, 0, tree, []), BAD_PROOF);
    assert.throws(() => verifyInclusion(EMPTY_ROOT, size, treeOf(1), []), BAD_PROOF);
  }
});

test("proofs hold in logs of up to 2^53 - 1 entries, in at most 53 steps", () => {
  const leaf = hashLeaf("the same");
  const hashOf = uniformSubtrees(leaf);
  const treeOfSize = (size: number) => ({ size, root: hashRange({ start: 0, end: size }, hashOf) });
  // Sizes of all magnitudes, near powers of two above all.
  const size = fc.tuple(fc.integer({ min: 0, max: 53 }), fc.integer({ min: -3, max: 3 }))
    .map(([bits, offset]) => Math.min(Math.max(2 ** bits + offset, 1), Number.MAX_SAFE_INTEGER));
  const anySize = fc.oneof(size, fc.maxSafeNat().map((value) => Math.max(value, 1)));
  fc.assert(fc.property(anySize, anySize, (one, other) => {
    const [old, newer] = [Math.min(one, other), Math.max(one, other)];
    const inclusion = inclusionRanges(old - 1, newer).map((range) => hashRange(range, hashOf));
    assert.ok(inclusion.length <= 53);
    verifyInclusion(leaf, old - 1, treeOfSize(newer), inclusion);
    const consistency = consistencyRanges(old, newer).map((range) => hashRange(range, hashOf));
    assert.ok(consistency.length <= 54);
    verifyConsistency(treeOfSize(old), treeOfSize(newer), consistency);
  }));
});

test("the root of an inclusion proof is the reader's to compare", () => {
  const proof = REFERENCE.inclusionProof(3, 10);
  assert.deepEqual(rootFromInclusionProof(hashLeaf("entry 3"), 3, 10, proof), treeOf(10).root);
  assert.notDeepEqual(rootFromInclusionProof(hashLeaf("entry 4"), 3, 10, proof), treeOf(10).root);
});

test("asking for a proof that no tree has is a fault of the caller", () => {
  for (const [index, size] of [[0, 0], [1, 1], [-1, 1], [0.5, 1], [0, 2 ** 53]] as const) {
    assert.throws(() => inclusionRanges(index, size), RangeError);
  }
  for (const [old, newer] of [[2, 1], [-1, 1], [0, 0.5], [0, 2 ** 53]] as const) {
    assert.throws(() => consistencyRanges(old, newer), RangeError);
  }
});
