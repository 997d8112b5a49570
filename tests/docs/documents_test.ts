/** What holds for all documents: short where they must be, with links that lead somewhere. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { test } from "node:test";
import { anchorsOf, DOCUMENTS, proseOf, readDocument, ROOT } from "../support/documents.ts";

const README_LINES_MAX = 150;
const README_BYTES_MAX = 10_000;
const ARCHITECTURE_LINES_MAX = 150;

test("the README is short enough to be read to its end", () => {
  const text = readDocument("README.md");
  assert.ok(text.trimEnd().split("\n").length <= README_LINES_MAX);
  assert.ok(new TextEncoder().encode(text).length <= README_BYTES_MAX);
});

test("ARCHITECTURE.md has two pages", () => {
  assert.ok(readDocument("ARCHITECTURE.md").split("\n").length <= ARCHITECTURE_LINES_MAX);
});

test("links in the documents lead to files and headings that there are", () => {
  for (const path of DOCUMENTS) {
    for (const [, link] of proseOf(readDocument(path)).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^https?:/.test(link!)) continue;
      const [file, anchor] = link!.split("#") as [string, string?];
      const target = file === "" ? path : normalize(join(dirname(path), file));
      assert.ok(existsSync(join(ROOT, target)), `${path} links to ${link}`);
      if (anchor !== undefined) {
        assert.ok(anchorsOf(readDocument(target)).includes(anchor), `${path} links to ${link}`);
      }
    }
  }
});

test("files that a document names in backticks exist", () => {
  for (const path of ["ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "docs/benchmarks.md"]) {
    const named = readDocument(path).matchAll(/(?:`|\s)((?:lib|tests|bench|docs)\/[\w/.]*\w)/g);
    for (const [, file] of named) {
      if (!/\.\w+$/.test(file!)) continue;
      assert.ok(existsSync(join(ROOT, file!)), `${path} names ${file}`);
    }
  }
});

test("every page of docs is linked from the README, or from a page that is", () => {
  const reached = new Set(["README.md"]);
  for (const path of reached) {
    for (const [, link] of readDocument(path).matchAll(/\]\(([^)#\s]+\.md)/g)) {
      if (!/^https?:/.test(link!)) reached.add(normalize(join(dirname(path), link!)));
    }
  }
  const missing = DOCUMENTS.filter((path) => !reached.has(path) && path !== "keys/README.md");
  assert.deepEqual(missing, []);
});

test("no document names a path of somebody's machine", () => {
  for (const path of DOCUMENTS) {
    assert.doesNotMatch(
      readDocument(path),
      /(?:^|[\s"'`(])\/(?:home|work|tmp|root|Users)\//m,
      path,
    );
    assert.doesNotMatch(readDocument(path), /\b(?:10|192\.168)\.\d+\.\d+(?:\.\d+)?\b/, path);
  }
});

test("the lock files name no host, so each machine asks the registry it is set to", () => {
  for (const path of ["bun.lock", "deno.lock"]) {
    const hosts = readFileSync(join(ROOT, path), "utf8").matchAll(/https?:\/\/([^/"\s]+)/g)
      .map(([, host]) => host!);
    assert.deepEqual([...new Set(hosts)], [], path);
  }
});

test("each threat in SECURITY.md names a test that there is", () => {
  const text = readDocument("SECURITY.md");
  const rows = [...text.matchAll(/^\| ([A-Z]\d) +\|.*?\| `(tests\/\S+_test\.ts)`: "(.*?)" +\|$/gm)];
  const named = new Set(rows.map(([, id]) => id));
  for (const [, id, file, title] of rows) {
    assert.ok(existsSync(join(ROOT, file!)), `${id}: ${file}`);
    assert.ok(
      readFileSync(join(ROOT, file!), "utf8").includes(title!),
      `${id}: ${file} "${title}"`,
    );
  }
  assert.equal(rows.length, [...text.matchAll(/_test\.ts`/g)].length, "a row is not readable");
  const used = [...text.matchAll(/\(((?:[A-Z]\d(?:[–, ]+)?)+)\)/g)].flatMap(([, list]) =>
    list!.split(", ").flatMap((part) => {
      const [from, to] = part.split("–");
      if (to === undefined) return [from!];
      const first = Number(from!.slice(1));
      return Array.from(
        { length: Number(to.slice(1)) - first + 1 },
        (_, at) => `${from![0]}${first + at}`,
      );
    })
  );
  assert.deepEqual([...new Set(used)].sort(), [...named].sort());
});

test("CHANGELOG.md and package.json tell of one version, licence and authors", () => {
  const { version, license, author } = JSON.parse(readDocument("package.json"));
  assert.match(readDocument("CHANGELOG.md"), new RegExp(`^## ${version}\\b`, "m"));
  const licence = readFileSync(join(ROOT, "LICENSE"), "utf8");
  assert.match(licence, new RegExp(`^${license} License`));
  assert.ok(licence.includes(author));
});
