import assert from "node:assert/strict";
import { test } from "node:test";
import { BoundedMap } from "../../lib/base/bounded_map.ts";

test("the newest entries are kept, and the oldest is forgotten for each one too many", () => {
  const map = new BoundedMap<string, number>(2);
  map.set("a", 1).set("b", 2);
  assert.deepEqual([...map], [["a", 1], ["b", 2]]);
  map.set("c", 3);
  assert.deepEqual([...map], [["b", 2], ["c", 3]]);
  assert.equal(map.get("a"), undefined);
});

test("a new value for a known key forgets nothing, and the entry keeps its age", () => {
  const map = new BoundedMap<string, number>(2);
  map.set("a", 1).set("b", 2).set("a", 3);
  assert.deepEqual([...map], [["a", 3], ["b", 2]]);
  map.set("c", 4);
  assert.deepEqual([...map.keys()], ["b", "c"]);
});

test("a deleted entry makes room, and undefined is a key like any other", () => {
  const map = new BoundedMap<string | undefined, number>(2);
  map.set(undefined, 1).set("b", 2);
  map.delete("b");
  map.set("c", 3);
  assert.deepEqual([...map.keys()], [undefined, "c"]);
  map.set("d", 4);
  assert.deepEqual([...map.keys()], ["c", "d"]);
});
