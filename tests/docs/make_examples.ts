/**
 * Writes the worked examples of docs/protocol anew, after a format has changed:
 *
 *     deno run -A tests/docs/make_examples.ts
 *
 * The keys stay. Everything signed by an RSA key, and everything sealed, changes.
 */
import { writeFileSync } from "node:fs";
import {
  buildExamples,
  exampleKeys,
  makeRandomParts,
  pagePath,
  PAGES,
  readExamples,
  readPage,
  withExamples,
} from "../support/protocol_examples.ts";

const keys = exampleKeys(readExamples());
const examples = await buildExamples(keys, await makeRandomParts(keys));
for (const page of PAGES) writeFileSync(pagePath(page), withExamples(readPage(page), examples));
