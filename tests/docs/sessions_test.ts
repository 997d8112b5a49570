/** The sessions in the documents, replayed: they print what the documents show. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { DOCUMENTS, readDocument } from "../support/documents.ts";
import {
  expectedLines,
  replay,
  type Replayed,
  stepsOf,
  withoutTimes,
} from "../support/sessions.ts";

const SLOW = { timeout: 180_000 };
const HINT = "deno run -A tests/docs/make_sessions.ts writes the sessions anew";

for (const path of DOCUMENTS) {
  const text = readDocument(path);
  if (stepsOf(text).length === 0) continue;
  test(`the session in ${path} prints what the page shows`, SLOW, async () => {
    let differing = await stepsThatDiffer(text);
    // On a busy machine a direct payment may take too long, and go through the server.
    if (differing.length > 0) differing = await stepsThatDiffer(text);
    for (const step of differing) {
      const expected = withoutTimes(expectedLines(step));
      assert.deepEqual(withoutTimes(step.shown), expected, `$ ${step.command}\n${HINT}`);
    }
  });
}

test("the README shows a session of two people and a server, and one of the AES pair", () => {
  const terminals = new Set(stepsOf(readDocument("README.md")).map(({ terminal }) => terminal));
  assert.deepEqual([...terminals], ["server", "bob", "alice", "aes_server", "aes_client"]);
});

async function stepsThatDiffer(text: string): Promise<Replayed[]> {
  return (await replay(text)).filter((step) =>
    withoutTimes(step.shown).join("\n") !== withoutTimes(expectedLines(step)).join("\n")
  );
}
