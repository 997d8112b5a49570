import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import {
  merklePath,
  merkleRoot,
  merkleTree,
  PATH_STEPS_MAX,
  rootFromPath,
} from "../../lib/protocol/merkle.ts";
import { encodeBase64url, type Sha256 } from "../../lib/base/parse.ts";

const SIZE_MAX = 130;
const BAD_PATH = { code: "bad_path" };

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

/** The tree that Certificate Transparency's implementations test against: its eight leaves and the root of the first n. */
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
  // Leaves here are text, and the sixth to eighth of theirs are ASCII anyway. All eight are valid UTF-8.
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
