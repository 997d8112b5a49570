/**
 * Runs the sessions that the documents show, and writes down anew what they print:
 *
 *     deno run -A tests/docs/make_sessions.ts
 */
import { DOCUMENTS, readDocument, writeDocument } from "../support/documents.ts";
import { expectedLines, replay, stepsOf, withoutTimes } from "../support/sessions.ts";

for (const path of DOCUMENTS) {
  const text = readDocument(path);
  if (stepsOf(text).length === 0) continue;
  const lines = text.split("\n");
  for (const step of (await replay(text)).toReversed()) {
    const expected = expectedLines(step);
    const isSame = withoutTimes(step.shown).join("\n") === withoutTimes(expected).join("\n");
    if (!isSame) lines.splice(step.start, step.end - step.start, ...expected);
  }
  writeDocument(path, lines.join("\n"));
}
