/** Checks the layout of the code: imports run downwards, and never back. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { posix } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** The rooms that the files of a room may import beside their own. A room is a folder or a file. */
const IMPORTS_OF_ROOM: Readonly<Record<string, readonly string[]>> = {
  "lib/base": [],
  "lib/cli": ["lib/base"],
  "lib/net": ["lib/base"],
  "lib/rpc": ["lib/base", "lib/net"],
  "lib/keys": ["lib/base"],
  "lib/protocol": ["lib/base", "lib/keys"],
  "lib/ledger": ["lib/base", "lib/keys", "lib/protocol"],
  "lib/payment/server": roomsUpTo("lib/ledger"),
  "lib/payment/client": roomsUpTo("lib/ledger"),
  "lib/payment/classic": [
    ...roomsUpTo("lib/ledger"),
    "lib/payment/server",
    "lib/payment/client",
  ],
  "lib/aes_utils.ts": ["lib/base"],
  "lib/aes": ["lib/base", "lib/net", "lib/aes_utils.ts"],
};

/** The files that may import `lib/cli`: those that talk to a person. */
const TALKS_TO_A_PERSON =
  /^lib\/(cli\/.*|payment\/\w+\/(commands\w*|prompt)\.ts|aes\/(commands|display|server|client)\.ts)$/;

function roomsUpTo(highest: string): string[] {
  const rooms = ["base", "net", "rpc", "keys", "protocol", "ledger"].map((name) => `lib/${name}`);
  return rooms.slice(0, rooms.indexOf(highest) + 1);
}

/** Each file with the files that it imports, type imports too. Paths are relative to the root. */
type Imports = ReadonlyMap<string, readonly string[]>;

/** Finds the imports that break the rules. Returns a line for each. */
function findViolations(imports: Imports): string[] {
  return [...imports].flatMap(([file, imported]) => {
    return imported.flatMap((target) => {
      const why = isTool(target) ? "which is a tool" : whyForbidden(file, target);
      return why === null ? [] : [`${file} imports ${target}, ${why}`];
    });
  });
}

function whyForbidden(file: string, target: string): string | null {
  if (!file.startsWith("lib/") || !target.startsWith("lib/")) return null;
  const [from, to] = [roomOf(file), roomOf(target)];
  if (to === "lib/cli") {
    return TALKS_TO_A_PERSON.test(file) ? null : "which is for what talks to a person";
  }
  if (from === to || IMPORTS_OF_ROOM[from]!.includes(to)) return null;
  return `which is not below ${from}`;
}

function isTool(path: string): boolean {
  return !path.includes("/") && path.endsWith(".ts");
}

function roomOf(path: string): string {
  const room = Object.keys(IMPORTS_OF_ROOM).findLast((room) => isIn(path, room));
  assert.ok(room, `${path} is in no room`);
  return room;
}

function isIn(path: string, room: string): boolean {
  return path === room || path.startsWith(`${room}/`);
}

/** A path from a file back to itself, or null where there is none. */
function findCircle(imports: Imports): string[] | null {
  const finished = new Set<string>();
  const follow = (file: string, path: readonly string[]): string[] | null => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (finished.has(file)) return null;
    for (const target of imports.get(file) ?? []) {
      const circle = follow(target, [...path, file]);
      if (circle !== null) return circle;
    }
    finished.add(file);
    return null;
  };
  for (const file of imports.keys()) {
    const circle = follow(file, []);
    if (circle !== null) return circle;
  }
  return null;
}

/** Static imports and re-exports, and `import("…")` in code and in types. */
const IMPORT = /^(?:import|export)\b(?:[^";=(]*?\bfrom)? "([^"]+)"|\bimport\(\s*"([^"]+)"/gm;

function importsOf(file: string, source: string): string[] {
  const specifiers = [...source.matchAll(IMPORT)].map((match) => match[1] ?? match[2]!);
  return specifiers
    .filter((specifier) => specifier.startsWith("."))
    .map((specifier) => posix.join(posix.dirname(file), specifier));
}

function readImports(folders: readonly string[]): Imports {
  const files = folders.flatMap((folder) => {
    const names = readdirSync(`${ROOT}/${folder}`, { recursive: folder !== "." }) as string[];
    return names.map((name) => posix.join(folder, name.replaceAll("\\", "/")));
  });
  return new Map(
    files.filter((file) => file.endsWith(".ts")).map((file) =>
      [file, importsOf(file, readFileSync(`${ROOT}/${file}`, "utf8"))] as const
    ),
  );
}

test("imports run downwards, and only what talks to a person knows the terminal", () => {
  assert.deepEqual(findViolations(readImports([".", "lib", "tests", "bench"])), []);
});

test("no file imports itself by way of others, for types neither", () => {
  assert.equal(findCircle(readImports([".", "lib"])), null);
});

test("all files of lib are looked at, and their imports are found", () => {
  const imports = readImports([".", "lib"]);
  assert.ok(imports.size > 90, `${imports.size}`);
  for (const [file, imported] of imports) {
    for (const target of imported) {
      assert.ok(imports.has(target) || target === "package.json", `${file}: ${target}`);
    }
  }
  assert.ok(imports.get("lib/rpc/peer.ts")!.includes("lib/net/net.ts"));
  assert.ok(imports.get("lib/net/net.ts")!.includes("lib/net/connect.ts"));
});

const FORBIDDEN: readonly (readonly [file: string, target: string])[] = [
  ["lib/base/files.ts", "lib/net/net.ts"],
  ["lib/cli/tool.ts", "lib/keys/rsa.ts"],
  ["lib/net/net.ts", "lib/rpc/peer.ts"],
  ["lib/rpc/peer.ts", "lib/keys/rsa.ts"],
  ["lib/keys/rsa.ts", "lib/protocol/wire.ts"],
  ["lib/protocol/order.ts", "lib/ledger/entry.ts"],
  ["lib/ledger/ledger.ts", "lib/payment/server/log.ts"],
  ["lib/payment/client/payer.ts", "lib/payment/server/log.ts"],
  ["lib/payment/server/server.ts", "lib/payment/client/answers.ts"],
  ["lib/payment/server/server.ts", "lib/payment/classic/format.ts"],
  ["lib/payment/client/payer.ts", "lib/cli/tool.ts"],
  ["lib/aes/transfer/receive.ts", "lib/cli/tool.ts"],
  ["lib/aes/transfer/server.ts", "lib/cli/tool.ts"],
  ["lib/aes/classic.ts", "lib/protocol/order.ts"],
  ["lib/aes_utils.ts", "lib/aes/classic.ts"],
  ["lib/payment/client/commands.ts", "client.ts"],
  ["tests/support/support.ts", "server.ts"],
  ["server.ts", "client.ts"],
];
for (const [file, target] of FORBIDDEN) {
  test(`${file} must not import ${target}`, () => {
    assert.equal(findViolations(new Map([[file, [target]]])).length, 1);
  });
}

test("what is allowed is not refused", () => {
  const allowed: [string, string[]][] = [
    ["lib/payment/client/commands_pay.ts", ["lib/cli/tool.ts", "lib/ledger/receipt.ts"]],
    ["lib/payment/classic/prompt.ts", ["lib/cli/tool.ts", "lib/payment/client/connect.ts"]],
    ["lib/aes/server.ts", ["lib/cli/tool.ts", "lib/aes_utils.ts", "lib/aes/pairing/words.ts"]],
    ["server.ts", ["lib/cli/tool.ts", "lib/payment/server/server.ts"]],
  ];
  assert.deepEqual(findViolations(new Map(allowed)), []);
});

test("a circle is found and named", () => {
  const imports = new Map([["a", ["b", "c"]], ["b", ["d"]], ["c", ["b"]], ["d", []]]);
  assert.equal(findCircle(imports), null);
  imports.set("d", ["c"]);
  assert.deepEqual(findCircle(imports), ["b", "d", "c", "b"]);
});

test("imports are found in every form, and not in comments", () => {
  const source = `
import "./a.ts";
import b from "../floor/b.ts";
import type { C } from "./c.ts";
import {
  d,
  e,
} from "./d.ts";
export { f } from "./f.ts";
export * from "./g.ts";
import fs from "node:fs";
 * import { x } from "./x.ts";
export const y = "./y.ts";
type H = import("./h.ts").H;
const i = await import("./i.ts");
`;
  const names = ["a", "b", "c", "d", "f", "g", "h", "i"];
  const found = importsOf("lib/room/file.ts", source);
  assert.deepEqual(found.map((path) => posix.basename(path, ".ts")), names);
  assert.equal(found[0], "lib/room/a.ts");
  assert.equal(found[1], "lib/floor/b.ts");
});
