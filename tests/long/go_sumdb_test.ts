/**
 * Go's sumdb/note and sumdb/tlog, which share no code with ours, accept our checkpoints, inclusion
 * and consistency proofs. Needs Debian's golang-go and golang-golang-x-mod-dev; skipped without.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeBase64 } from "../../lib/base/parse.ts";
import { signCheckpoint } from "../../lib/ledger/checkpoint.ts";
import { formatVerifierKey } from "../../lib/ledger/signed_note.ts";
import { hashLeaf } from "../../lib/protocol/merkle.ts";
import { ed25519PairOfSeed } from "../support/ed25519.ts";
import { buildVerifier, type Claim, whyNoGo } from "../support/go_sumdb.ts";
import { StoredLog } from "../support/stored_log.ts";

/** Building takes half a minute on a busy machine. */
const LONG = { timeout: 300_000 };

const PAIR = ed25519PairOfSeed(new Uint8Array(32).fill(7));
const ORIGIN = "sealwire/jbMZ3-9ZYl6vQnNO0kSe7pQv0dC4vJ1JcC3ZC7l9x3A";
const VERIFIER_KEY = formatVerifierKey({ name: ORIGIN, publicKey: PAIR.publicKey });
const ENTRIES = 66_000;

function entry(index: number): string {
  return JSON.stringify({ v: 1, index, memo: "grüße" });
}

const LOG = new StoredLog();
for (let start = 0; start < ENTRIES; start += 1_000) {
  LOG.commit(Array.from({ length: 1_000 }, (_, offset) => hashLeaf(entry(start + offset))));
}

async function checkpointAt(size: number): Promise<string> {
  return signCheckpoint(PAIR, ORIGIN, size, await LOG.tree.rootAt(size, LOG.readTiles));
}

async function claimOf(older: number, index: number, size: number): Promise<Claim> {
  return {
    VerifierKey: VERIFIER_KEY,
    Checkpoint: await checkpointAt(size),
    Record: entry(index),
    Index: index,
    Inclusion: (await LOG.tree.inclusionProof(index, size, LOG.readTiles)).map(encodeBase64),
    Older: await checkpointAt(older),
    Consistency: (await LOG.tree.consistencyProof(older, size, LOG.readTiles)).map(encodeBase64),
  };
}

test("Go's sumdb accepts checkpoints, inclusion and consistency proofs, and nothing forged", {
  ...LONG,
  skip: whyNoGo(),
}, async () => {
  const verify = buildVerifier();
  const sizes = [1, 2, 3, 7, 8, 255, 256, 257, 700, 4_096, 65_535, 65_536, 65_537, ENTRIES];
  const claims: Claim[] = [];
  for (const [at, size] of sizes.entries()) {
    for (const older of sizes.slice(0, at + 1)) {
      for (const index of [0, older - 1, size - 1]) claims.push(await claimOf(older, index, size));
    }
  }
  assert.deepEqual(verify(claims), claims.map(() => "ok"));

  const good = await claimOf(257, 300, 700);
  const other = await claimOf(256, 301, 701);
  const forged = Object.keys(good)
    .filter((member) => member !== "VerifierKey")
    .map((member) => ({ ...good, [member]: other[member as keyof Claim] }));
  for (const answer of verify(forged)) assert.notEqual(answer, "ok");
});
