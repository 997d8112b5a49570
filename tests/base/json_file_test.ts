import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { FileLock } from "../../lib/base/file_lock.ts";
import { JsonFile, type JsonFormat } from "../../lib/base/json_file.ts";
import { refusalOf, unwritableFolder } from "../support/refusal.ts";
import { temporaryFolder } from "../support/support.ts";

const FORMAT: JsonFormat<number> = {
  version: 1,
  size_bytes_max: 100,
  unreadable_code: "memory_unreadable",
  advice: "put back a copy",
  members: ["count"],
  empty: () => 0,
  parse: (members) => members.integer("count", 0, 9),
  toJson: (count) => ({ count }),
};

function newFile(): JsonFile<number> {
  return new JsonFile(join(temporaryFolder(), "counter.json"), FORMAT);
}

test("a file that does not exist has the empty content, and reading does not make it", () => {
  const file = newFile();
  assert.equal(file.read(), 0);
  assert.deepEqual(readdirSync(join(file.path, "..")), []);
});

test("what was written is read again, by others too, and nobody else may read the file", () => {
  const file = newFile();
  assert.equal(file.update((count) => count + 7), 7);
  assert.equal(file.read(), 7);
  assert.equal(new JsonFile(file.path, FORMAT).update((count) => count + 1), 8);
  assert.equal(readFileSync(file.path, "utf8"), '{\n  "v": 1,\n  "count": 8\n}\n');
  assert.equal(statSync(file.path).mode & 0o777, 0o600);
});

test("a change that gives nothing leaves the file as it is", () => {
  const file = newFile();
  writeFileSync(file.path, '{"count":3,"v":1}');
  assert.equal(file.update(() => null), 3);
  assert.equal(readFileSync(file.path, "utf8"), '{"count":3,"v":1}');
});

test("the lock is held during a change, and free after one that throws", () => {
  const file = newFile();
  const lock = `${file.path}.lock`;
  assert.throws(() =>
    file.update(() => {
      assert.equal(FileLock.take(lock), null);
      throw new Error("no change");
    }), /no change/);
  FileLock.take(lock)!.release();
  assert.equal(file.read(), 0);
});

const DAMAGED: Record<string, string> = {
  "nothing": "",
  "no JSON": '{"v":1,',
  "a list": "[]",
  "null": "null",
  "another version": '{"v":2,"count":1}',
  "no version": '{"count":1}',
  "a member missing": '{"v":1}',
  "a member too many": '{"v":1,"count":1,"more":1}',
  "a member of another type": '{"v":1,"count":"1"}',
  "too many bytes": `{"v":1,"count":1}${" ".repeat(100)}`,
};
for (const [what, text] of Object.entries(DAMAGED)) {
  test(`a file with ${what} is refused with the format's code, and stays`, async () => {
    const file = newFile();
    writeFileSync(file.path, text);
    for (const act of [() => file.read(), () => file.update(() => 1)]) {
      const error = await refusalOf(act);
      assert.equal(error.code, "memory_unreadable");
      assert.ok(error.message.includes(file.path));
    }
    assert.equal(readFileSync(file.path, "utf8"), text);
  });
}

test("a file that does not parse says what is wrong and what to do", async () => {
  const file = newFile();
  writeFileSync(file.path, '{"v":1,"count":10}');
  const { message } = await refusalOf(() => file.read());
  assert.equal(
    message,
    `${file.path} is not as it was written ` +
      "(its content: count must be a whole number from 0 to 9): put back a copy",
  );
});

test("content that could not be read back is not written", async () => {
  const file = newFile();
  file.update(() => 5);
  assert.equal((await refusalOf(() => file.update(() => 10))).code, "memory_unreadable");
  assert.equal(file.read(), 5);
  const small = new JsonFile(`${file.path}.small`, { ...FORMAT, size_bytes_max: 10 });
  assert.equal((await refusalOf(() => small.update(() => 1))).code, "write_failed");
  assert.equal(small.read(), 0);
});

test("a folder that cannot be written in is named", async () => {
  const folder = unwritableFolder();
  const file = new JsonFile(join(folder, "counter.json"), FORMAT);
  const error = await refusalOf(() => file.update(() => 1));
  assert.equal(error.code, "folder_unwritable");
  assert.ok(error.message.includes(folder));
});
