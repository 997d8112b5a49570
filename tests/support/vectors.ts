/**
 * Published test vectors, which are data from elsewhere and not part of the project: they are read
 * from the folder that `SEALWIRE_VECTORS` names, or from `../shared/vectors` beside the checkout.
 * Without them their tests are skipped, visibly.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const FOLDER = process.env.SEALWIRE_VECTORS ??
  fileURLToPath(new URL("../../../shared/vectors/", import.meta.url));

const VECTOR_TEST_TIMEOUT_MS = 60_000;

/**
 * A test over the JSON in the vector file `name`, skipped with a message where the file is absent.
 */
export function vectorTest<Vectors>(
  title: string,
  name: string,
  run: (vectors: Vectors) => void | Promise<void>,
): void {
  const path = join(FOLDER, name);
  const skip = !existsSync(path);
  if (skip) console.error(`skipped, ${name} is not in ${FOLDER}: ${title}`);
  test(
    title,
    { skip, timeout: VECTOR_TEST_TIMEOUT_MS },
    () => run(JSON.parse(readFileSync(path, "utf8"))),
  );
}

/** A Wycheproof file: groups of tests, each with a `tcId` and what is to come of it. */
export interface Wycheproof<Test, Group = object> {
  numberOfTests: number;
  testGroups: (Group & { tests: (Test & WycheproofTest)[] })[];
}

export interface WycheproofTest {
  tcId: number;
  comment: string;
  flags: string[];
  result: "valid" | "invalid" | "acceptable";
}

/** All tests of a Wycheproof file. Throws unless there are as many as the file says. */
export function allTests<Test, Group>(
  vectors: Wycheproof<Test, Group>,
): (Test & WycheproofTest & { group: Group })[] {
  const tests = vectors.testGroups.flatMap((group) => group.tests.map((t) => ({ ...t, group })));
  if (tests.length !== vectors.numberOfTests || tests.length === 0) {
    throw new Error(`${tests.length} tests, but the file says ${vectors.numberOfTests}`);
  }
  return tests;
}

export function hex(text: string): Uint8Array {
  return Uint8Array.fromHex(text);
}
