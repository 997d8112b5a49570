/**
 * Go's sumdb/note and sumdb/tlog, which share no code with ours, accept our checkpoints, inclusion
 * and consistency proofs. Needs Debian's golang-go and golang-golang-x-mod-dev; skipped without.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { signCheckpoint } from "../../lib/ledger/checkpoint.ts";
import { encodeBase64, formatVerifierKey } from "../../lib/ledger/signed_note.ts";
import { hashLeaf } from "../../lib/protocol/merkle.ts";
import { ed25519PairOfSeed } from "../support/ed25519.ts";
import { StoredLog } from "../support/stored_log.ts";
import { temporaryFolder } from "../support/support.ts";

const GOPATH = "/usr/share/gocode";
const SUMDB = join(GOPATH, "src/golang.org/x/mod/sumdb/tlog");
const PROGRAM = fileURLToPath(new URL("go_sumdb/main.go", import.meta.url));
/** Building takes half a minute on a busy machine. */
const LONG = { timeout: 300_000 };

const PAIR = ed25519PairOfSeed(new Uint8Array(32).fill(7));
const ORIGIN = "sealwire/jbMZ3-9ZYl6vQnNO0kSe7pQv0dC4vJ1JcC3ZC7l9x3A";
const VERIFIER_KEY = formatVerifierKey({ name: ORIGIN, publicKey: PAIR.publicKey });
const ENTRIES = 66_000;

/** What the Go program verifies; its members are named as there. */
interface Claim {
  VerifierKey: string;
  Checkpoint: string;
  Record: string;
  Index: number;
  Inclusion: string[];
  Older: string;
  Consistency: string[];
}

function goIsThere(): boolean {
  try {
    execFileSync("go", ["version"], { stdio: "pipe" });
    return existsSync(SUMDB);
  } catch {
    return false;
  }
}

const skip = !goIsThere();
if (skip) console.error("skipped: golang-go and golang-golang-x-mod-dev are not installed");

/** Builds the Go program; returns what it says of each claim. */
function buildVerifier(): (claims: Claim[]) => string[] {
  const folder = temporaryFolder();
  const env = {
    ...process.env,
    GO111MODULE: "off",
    GOPATH,
    GOFLAGS: "",
    GOCACHE: join(folder, "cache"),
  };
  const program = join(folder, "verify");
  execFileSync("go", ["build", "-o", program, PROGRAM], { env, stdio: "pipe" });
  return (claims) => {
    const output = execFileSync(program, { input: JSON.stringify(claims), encoding: "utf8" });
    return output.trimEnd().split("\n");
  };
}

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
  skip,
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
